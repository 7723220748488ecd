/* The fast backend's hold on its device: kernels, scratch and threads. */
#include "backends/cpu/fast/fast.h"

#include <stdlib.h>
#include <string.h>
#if defined(_OPENMP)
#include <omp.h>
#endif

/* Floats in a cache line: each thread's scratch starts on its own. */
enum { LINE = 16 };

static size_t padded(size_t floats)
{
	return (floats + LINE - 1) / LINE * LINE;
}

ps_status ps__fast_device_open(struct cpu_device *device)
{
	struct fast *fast = calloc(1, sizeof *fast);
	if (!fast || pthread_mutex_init(&fast->mutex, NULL)) {
		free(fast);
		return ps_fail(PS_ENOMEM, "out of memory for a device");
	}
	fast->busy = &device->busy;
	device->fast = fast;
	ps_status status = ps__fast_kernels_choose(&fast->kernels, &fast->bf16);
#if defined(PS_ONEDNN)
	if (status == PS_OK)
		status = ps__onednn_create(&fast->onednn);
#endif
	if (status != PS_OK)
		ps__fast_device_close(device);
	return status;
}

void ps__fast_device_close(struct cpu_device *device)
{
	struct fast *fast = device->fast;
#if defined(PS_ONEDNN)
	ps__onednn_destroy(fast->onednn);
#endif
	pthread_mutex_destroy(&fast->mutex);
	free(fast->factors.memory);
	free(fast->scratch.memory);
	free(fast);
}

#if defined(_OPENMP)
/*
 * The team belongs to the device's thread, is started by its first parallel region and stays. Each member is bound to
 * a core of its own; the device's thread keeps all of the device's, so that a member that the OpenMP library starts
 * later does not inherit a single one.
 */
void ps__fast_thread_start(const struct cpu_device *device)
{
	if (device->threads == 1)
		return;
	omp_set_dynamic(0);
	omp_set_num_threads(device->threads);
#pragma omp parallel num_threads(device->threads)
	{
		int thread = omp_get_thread_num();
		if (thread > 0)
			(void)hwloc_set_cpubind(device->topology, device->core[thread], HWLOC_CPUBIND_THREAD);
	}
}
#else
void ps__fast_thread_start(const struct cpu_device *device)
{
	(void)device;
}
#endif

ps_status ps__fast_grow(const struct cpu_device *device, struct fast_room *room, size_t bytes)
{
	struct fast *fast = device->fast;
	ps_status status = PS_OK;
	pthread_mutex_lock(&fast->mutex);
	if (room->bytes < bytes) {
		void *memory;
		if (posix_memalign(&memory, 4096, bytes)) {
			status = ps_fail(PS_ENOMEM, "out of memory for %zu bytes of scratch", bytes);
		} else {
			/* A kernel that runs now may be using the old one. */
			pthread_mutex_lock(fast->busy);
			free(room->memory);
			room->memory = memory;
			pthread_mutex_unlock(fast->busy);
			room->bytes = bytes;
		}
	}
	pthread_mutex_unlock(&fast->mutex);
	return status;
}

ps_status ps__fast_reserve(const struct cpu_device *device, size_t shared, size_t floats)
{
	struct fast *fast = device->fast;
	size_t need = padded(shared) + padded(floats) * (size_t)device->threads;
	return ps__fast_grow(device, &fast->scratch, need * sizeof(float));
}

void ps__fast_run(const struct cpu_device *device, fast_kernel kernel, const void *arguments, int64_t units,
                  int64_t grain, size_t shared, size_t floats)
{
	const struct fast *fast = device->fast;
	float *all = fast->scratch.memory, *own = all + padded(shared);
#if defined(_OPENMP)
	int64_t grains = (units + grain - 1) / grain;
	if (device->threads > 1 && grains >= device->threads) {
#pragma omp parallel num_threads(device->threads)
		{
			int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
			int64_t begin = grains * thread / threads * grain;
			int64_t end = grains * (thread + 1) / threads * grain;
			const struct fast_range range = {.arguments = arguments,
			                                 .begin = begin,
			                                 .end = end < units ? end : units,
			                                 .scratch = own + (size_t)thread * padded(floats),
			                                 .shared = all};
			kernel(&range);
		}
		return;
	}
#else
	(void)grain;
	(void)floats;
#endif
	const struct fast_range range = {
	        .arguments = arguments, .begin = 0, .end = units, .scratch = own, .shared = all};
	kernel(&range);
}
