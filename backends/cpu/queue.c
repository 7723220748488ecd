/* A CPU queue: one thread that runs a ring of commands in order. */
#include "backends/cpu/cpu.h"

#include "core/platform.h"
#include "core/ring.h"

#include <stdlib.h>
#include <string.h>

/* A command, followed by its arguments. */
struct command {
	_Alignas(max_align_t) cpu_kernel kernel;
	uint64_t value;
	bool exclusive; /* uses the device's cores, as kernels of ops do */
};

_Static_assert(sizeof(struct command) + CPU_ARGUMENT_BYTES <= PS__RING_ITEM, "a command fits into the ring");

struct cpu_queue {
	ps_queue *queue;
	pthread_t thread;
	struct ps__ring ring;
};

static void run(struct cpu_queue *q, const struct command *command)
{
	ps_timeline *timeline = &q->queue->timeline;
	if (ps__timeline_status(timeline) == PS_OK) {
		struct cpu_device *device = q->queue->device->impl;
		if (command->exclusive)
			pthread_mutex_lock(&device->busy);
		ps_status status = command->kernel(device, command + 1);
		if (command->exclusive)
			pthread_mutex_unlock(&device->busy);
		if (status != PS_OK)
			ps__timeline_fail(timeline, command->value, status);
	}
	ps__timeline_complete(timeline, command->value);
}

static void *thread_main(void *argument)
{
	struct cpu_queue *q = argument;
	const struct cpu_device *device = q->queue->device->impl;
	const struct command *command;
	ps__thread_name(q->queue->label);
	/* Binding is an optimisation: where the system refuses it, the thread runs unbound. */
	(void)hwloc_set_cpubind(device->topology, device->cores, HWLOC_CPUBIND_THREAD);
	if (!device->reference)
		ps__fast_thread_start(device);
	while ((command = ps__ring_front(&q->ring))) {
		run(q, command);
		ps__ring_pop(&q->ring);
	}
	return NULL;
}

static ps_status enqueue(ps_queue *queue, cpu_kernel kernel, const void *arguments, size_t bytes, bool exclusive)
{
	struct cpu_queue *q = queue->impl;
	struct command *command = ps__ring_reserve(&q->ring, sizeof *command + bytes);
	if (!command)
		return ps_fail(PS_ENOMEM, "out of memory for the commands of queue %s", queue->label);
	*command = (struct command){kernel, ps__timeline_next(&queue->timeline), exclusive};
	memcpy(command + 1, arguments, bytes);
	ps__ring_push(&q->ring);
	return PS_OK;
}

ps_status ps__cpu_launch(ps_queue *queue, cpu_kernel kernel, const void *arguments, size_t bytes)
{
	if (queue->dry)
		return PS_OK;
	const struct cpu_device *device = queue->device->impl;
	return enqueue(queue, kernel, arguments, bytes, !device->reference);
}

ps_status ps__cpu_queue_create(ps_queue *queue)
{
	struct cpu_queue *q = calloc(1, sizeof *q);
	if (!q)
		return ps_fail(PS_ENOMEM, "out of memory for queue %s", queue->label);
	q->queue = queue;
	queue->impl = q;
	ps_status status = ps__ring_init(&q->ring);
	if (status != PS_OK) {
		free(q);
		return status;
	}
	int error = pthread_create(&q->thread, NULL, thread_main, q);
	if (!error)
		return PS_OK;
	ps__ring_finish(&q->ring);
	free(q);
	return ps_fail(PS_ENOMEM, "cannot start the thread of queue %s: %s", queue->label, strerror(error));
}

void ps__cpu_queue_destroy(ps_queue *queue)
{
	struct cpu_queue *q = queue->impl;
	ps__ring_close(&q->ring);
	pthread_join(q->thread, NULL);
	ps__ring_finish(&q->ring);
	free(q);
}

static ps_status wait_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_event *event = arguments;
	return ps_event_wait(*event, -1);
}

ps_status ps__cpu_queue_wait(ps_queue *queue, ps_event event)
{
	return enqueue(queue, wait_kernel, &event, sizeof event, false);
}

struct move {
	void *to;
	const void *from; /* NULL: zero */
	size_t bytes;
};

static ps_status move_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const struct move *move = arguments;
	if (move->from)
		memmove(move->to, move->from, move->bytes);
	else
		memset(move->to, 0, move->bytes);
	return PS_OK;
}

static size_t bytes_of(ps_tensor tensor)
{
	return (size_t)ps_tensor_count(tensor) * ps_dtype_bytes(tensor.dtype);
}

ps_status ps__cpu_queue_write(ps_queue *queue, ps_tensor to, const void *from)
{
	struct move move = {ps__cpu_data(to), from, bytes_of(to)};
	return enqueue(queue, move_kernel, &move, sizeof move, false);
}

ps_status ps__cpu_queue_read(ps_queue *queue, void *to, ps_tensor from)
{
	struct move move = {to, ps__cpu_data(from), bytes_of(from)};
	return enqueue(queue, move_kernel, &move, sizeof move, false);
}

ps_status ps__cpu_queue_copy(ps_queue *queue, ps_tensor to, ps_tensor from)
{
	return ps__cpu_queue_write(queue, to, ps__cpu_data(from));
}

ps_status ps__cpu_queue_zero(ps_queue *queue, ps_tensor tensor)
{
	struct move move = {ps__cpu_data(tensor), NULL, bytes_of(tensor)};
	return enqueue(queue, move_kernel, &move, sizeof move, false);
}

static ps_status timestamp_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	int64_t *const *ns = arguments;
	**ns = ps_clock_ns();
	return PS_OK;
}

ps_status ps__cpu_queue_timestamp(ps_queue *queue, int64_t *ns)
{
	return enqueue(queue, timestamp_kernel, &ns, sizeof ns, false);
}
