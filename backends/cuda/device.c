/* CUDA devices and their memory. */
#include "backends/cuda/cuda.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What cuBLAS's documentation asks for on Hopper and later; 4 MiB do before it. */
#define WORKSPACE_LARGE ((size_t)32 << 20)
#define WORKSPACE_SMALL ((size_t)4 << 20)
/* The compute capability from which on there is code; bf16 and TF32 begin with it. */
enum { LEAST_MAJOR = 8 };

enum { NO_DEVICE = -1 };

/* Has this process a context on the device? True when the driver does not tell. */
static bool has_context(const struct cuda_device *device, int ordinal)
{
	unsigned flags;
	int active;
	if (!device->context_state || device->context_state(ordinal, &flags, &active) != CUDA_SUCCESS)
		return true;
	return active != 0;
}

cudaError_t ps__cuda_enter(int *before, const struct cuda_device *device)
{
	int current = NO_DEVICE;
	*before = NO_DEVICE;
	if (cudaGetDevice(&current) != cudaSuccess)
		(void)cudaGetLastError();
	cudaError_t error = cudaSetDevice(device->ordinal);
	if (error != cudaSuccess)
		(void)cudaGetLastError();
	else if (current != device->ordinal)
		*before = current;
	return error;
}

/* To make a device current starts it, so that one without a context is not gone back to. */
void ps__cuda_leave(const struct cuda_device *device, int before)
{
	if (before != NO_DEVICE && has_context(device, before) && cudaSetDevice(before) != cudaSuccess)
		(void)cudaGetLastError();
}

ps_status ps__cuda_try_enter(int *before, const struct cuda_device *device, const char *where)
{
	cudaError_t error = ps__cuda_enter(before, device);
	return error == cudaSuccess ? PS_OK : ps__cuda_fail(where, "cudaSetDevice", error);
}

bool ps__cuda_is_ours(const ps_device *device)
{
	return device->backend->queue_create == ps__cuda_queue_create;
}

/* Says why the driver will not do. */
static ps_status fail_for_driver(void)
{
	int version = 0;
	if (cudaDriverGetVersion(&version) != cudaSuccess || version == 0)
		return ps_fail(PS_ENODEV, "there is no NVIDIA driver");
	return ps_fail(PS_ENODEV, "the NVIDIA driver knows CUDA up to %d.%d, and this build is for %d.%d",
	               version / 1000, version % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
}

static ps_status fail_for_want_of_devices(void)
{
	const char *visible = getenv("CUDA_VISIBLE_DEVICES");
	if (visible)
		return ps_fail(PS_ENODEV, "the NVIDIA driver shows no GPU where CUDA_VISIBLE_DEVICES is \"%.100s\"",
		               visible);
	return ps_fail(PS_ENODEV, "the NVIDIA driver sees no GPU");
}

/* How many devices there are; PS_ENODEV says why there are none. */
static ps_status count_devices(int *count)
{
	*count = 0;
	cudaError_t error = cudaGetDeviceCount(count);
	ps_status status = PS_OK;
	if (error == cudaErrorInsufficientDriver)
		status = fail_for_driver();
	else if (error == cudaErrorNoDevice || (error == cudaSuccess && *count == 0))
		status = fail_for_want_of_devices();
	else if (error != cudaSuccess)
		status = ps_fail(PS_ENODEV, "CUDA does not start: %s (%s)", cudaGetErrorString(error),
		                 cudaGetErrorName(error));
	if (status != PS_OK)
		(void)cudaGetLastError();
	return status;
}

/* PS_ENODEV when the backend has no code for the GPU. */
static ps_status describe(ps_device_info *info, struct cudaDeviceProp *properties, int ordinal)
{
	char name[32];
	snprintf(name, sizeof name, "%s:%d", PS_CUDA_NAME, ordinal);
	CUDA_TRY(name, cudaGetDeviceProperties(properties, ordinal));
	if (properties->major < LEAST_MAJOR)
		return ps_fail(PS_ENODEV, "%s, %.80s, has compute capability %d.%d, which should be at least %d.0",
		               name, properties->name, properties->major, properties->minor, LEAST_MAJOR);
	memset(info, 0, sizeof *info);
	snprintf(info->name, sizeof info->name, "%s", name);
	snprintf(info->backend, sizeof info->backend, "%s", PS_CUDA_NAME);
	snprintf(info->description, sizeof info->description, "%.80s, compute capability %d.%d, %d multiprocessors",
	         properties->name, properties->major, properties->minor, properties->multiProcessorCount);
	info->memory_bytes = properties->totalGlobalMem;
	info->max_buffer_bytes = properties->totalGlobalMem;
	info->compute_units = properties->multiProcessorCount;
	return PS_OK;
}

ps_status ps__cuda_enumerate(ps_device_visit visit, void *payload)
{
	int count, visited = 0;
	ps_status status = PS_OK;
	PS_TRY(count_devices(&count));
	for (int i = 0; i < count; i++) {
		ps_device_info info;
		struct cudaDeviceProp properties;
		ps_status described = describe(&info, &properties, i);
		if (described == PS_OK) {
			PS_TRY(visit(payload, &info));
			visited++;
		} else if (described != PS_ENODEV) {
			return described;
		} else {
			status = described;
		}
	}
	return visited ? PS_OK : status;
}

static ps_status parse(int *ordinal, const char *spec, int count)
{
	char *end;
	long number = *spec >= '0' && *spec <= '9' ? strtol(spec, &end, 10) : -1;
	if (!*spec)
		number = 0;
	else if (number < 0 || *end)
		return ps_fail(PS_ENODEV, "\"%s:%s\" names no GPU; write %s:0", PS_CUDA_NAME, spec, PS_CUDA_NAME);
	if (number >= count)
		return ps_fail(PS_ENODEV, "%s:%ld: there is no such GPU here; the last one is %s:%d", PS_CUDA_NAME,
		               number, PS_CUDA_NAME, count - 1);
	*ordinal = (int)number;
	return PS_OK;
}

/* The driver's function that tells of contexts, or NULL. */
static cuda_context_state find_context_state(void)
{
	cuda_context_state state = NULL;
	void *symbol = NULL;
	enum cudaDriverEntryPointQueryResult result;
#if CUDART_VERSION >= 12050
	cudaError_t error = cudaGetDriverEntryPointByVersion("cuDevicePrimaryCtxGetState", &symbol, 7000,
	                                                     cudaEnableDefault, &result);
#else
	cudaError_t error = cudaGetDriverEntryPoint("cuDevicePrimaryCtxGetState", &symbol, cudaEnableDefault, &result);
#endif
	if (error != cudaSuccess)
		(void)cudaGetLastError();
	else
		memcpy(&state, &symbol, sizeof state);
	return state;
}

static ps_status open_on(struct cuda_device *device, const char *name)
{
	int before;
	cudaError_t error = ps__cuda_enter(&before, device); /* makes the context */
	if (error != cudaSuccess)
		return ps__cuda_fail(name, "starting the device", error);
	/* Not before: the runtime may start the thread's device to look the function up. */
	device->context_state = find_context_state();
	cublasStatus_t blas = cublasLtCreate(&device->lt);
	ps__cuda_leave(device, before);
	if (blas != CUBLAS_STATUS_SUCCESS)
		return ps_fail(blas == CUBLAS_STATUS_ALLOC_FAILED ? PS_ENOMEM : PS_EDEVICE, "%s: cublasLtCreate: %s",
		               name, ps__cublas_error_name(blas));
	return PS_OK;
}

ps_status ps__cuda_device_open(ps_device *out, const char *spec)
{
	int count, ordinal = 0;
	ps_device_info info;
	struct cudaDeviceProp properties;
	PS_TRY(count_devices(&count));
	PS_TRY(parse(&ordinal, spec, count));
	PS_TRY(describe(&info, &properties, ordinal));
	struct cuda_device *device = calloc(1, sizeof *device);
	if (!device || pthread_mutex_init(&device->mutex, NULL)) {
		free(device);
		return ps_fail(PS_ENOMEM, "out of memory for device %s", info.name);
	}
	device->ordinal = ordinal;
	device->major = properties.major;
	device->minor = properties.minor;
	device->workspace_bytes = properties.major >= 9 ? WORKSPACE_LARGE : WORKSPACE_SMALL;
	ps_status status = open_on(device, info.name);
	if (status != PS_OK) {
		pthread_mutex_destroy(&device->mutex);
		free(device);
		return status;
	}
	out->info = info;
	out->impl = device;
	return PS_OK;
}

void ps__cuda_device_close(ps_device *out)
{
	struct cuda_device *device = out->impl;
	int before;
	(void)ps__cuda_enter(&before, device);
	ps__cuda_plans_free(device);
	cublasLtDestroy(device->lt);
	ps__cuda_leave(device, before);
	pthread_mutex_destroy(&device->mutex);
	free(device);
}

ps_status ps__cuda_buffer_create(ps_buffer *buffer)
{
	const char *name = buffer->device->info.name;
	size_t bytes = (size_t)buffer->bytes, free_bytes = 0, total = 0;
	int before;
	PS_TRY(ps__cuda_try_enter(&before, buffer->device->impl, name));
	cudaError_t error = cudaMalloc(&buffer->impl, bytes);
	if (error == cudaErrorMemoryAllocation) {
		(void)cudaGetLastError();
		if (cudaMemGetInfo(&free_bytes, &total) != cudaSuccess)
			(void)cudaGetLastError();
	}
	ps__cuda_leave(buffer->device->impl, before);
	if (error == cudaErrorMemoryAllocation)
		return ps_fail(PS_ENOMEM, "%s is out of memory for a buffer of %" PRIu64 " bytes; %zu of %zu are free",
		               name, buffer->bytes, free_bytes, total);
	if (error != cudaSuccess)
		return ps__cuda_fail(name, "cudaMalloc", error);
	return PS_OK;
}

void ps__cuda_buffer_destroy(ps_buffer *buffer)
{
	int before;
	/* A device that failed for good says so here once more; there is nobody left to tell. */
	(void)ps__cuda_enter(&before, buffer->device->impl);
	if (cudaFree(buffer->impl) != cudaSuccess)
		(void)cudaGetLastError();
	ps__cuda_leave(buffer->device->impl, before);
}

ps_status ps__cuda_pinned_create(ps_pinned *pinned)
{
	const char *name = pinned->device->info.name;
	int before;
	PS_TRY(ps__cuda_try_enter(&before, pinned->device->impl, name));
	/* Portable: pinned for the other side of the link too, where that is a GPU. */
	cudaError_t error = cudaHostAlloc(&pinned->address, (size_t)pinned->bytes, cudaHostAllocPortable);
	ps__cuda_leave(pinned->device->impl, before);
	if (error == cudaSuccess)
		return PS_OK;
	if (error != cudaErrorMemoryAllocation)
		return ps__cuda_fail(name, "cudaHostAlloc", error);
	(void)cudaGetLastError();
	return ps_fail(PS_ENOMEM, "%s pins no %" PRIu64 " bytes of host memory", name, pinned->bytes);
}

void ps__cuda_pinned_destroy(ps_pinned *pinned)
{
	int before;
	(void)ps__cuda_enter(&before, pinned->device->impl);
	if (cudaFreeHost(pinned->address) != cudaSuccess)
		(void)cudaGetLastError();
	ps__cuda_leave(pinned->device->impl, before);
}

/* Asks the driver, and makes the other device's memory accessible. False without an answer that will do for good. */
static bool ask_for_peer(const struct cuda_device *here, const struct cuda_device *there, bool *can)
{
	int possible = 0, before;
	cudaError_t error = ps__cuda_enter(&before, here);
	if (error == cudaSuccess)
		error = cudaDeviceCanAccessPeer(&possible, here->ordinal, there->ordinal);
	if (error == cudaSuccess && possible)
		error = cudaDeviceEnablePeerAccess(there->ordinal, 0);
	(void)cudaGetLastError();
	ps__cuda_leave(here, before);
	if (error == cudaErrorPeerAccessAlreadyEnabled)
		error = cudaSuccess;
	*can = error == cudaSuccess && possible;
	return error == cudaSuccess;
}

bool ps__cuda_reaches(const ps_device *device, const ps_device *other)
{
	if (!ps__cuda_is_ours(other))
		return false;
	struct cuda_device *here = device->impl;
	const struct cuda_device *there = other->impl;
	if (here->ordinal == there->ordinal)
		return true;
	if (there->ordinal >= CUDA_PEERS)
		return false;
	pthread_mutex_lock(&here->mutex);
	unsigned char *known = &here->peer[there->ordinal];
	bool can = *known == 1;
	if (!*known && ask_for_peer(here, there, &can))
		*known = can ? 1 : 2;
	pthread_mutex_unlock(&here->mutex);
	return can;
}

bool ps__cuda_can_relay(const ps_device *from, const ps_device *to)
{
	(void)from;
	return ps__cuda_is_ours(to);
}

bool ps__cuda_has_math(const ps_device *device, ps_math math)
{
	return math == PS_MATH_F32 || ((const struct cuda_device *)device->impl)->major >= 8;
}
