/* A CPU queue: a ring of commands, which the thread of the device runs. */
#include "backends/cpu/worker.h"

#include <stdlib.h>
#include <string.h>

static ps_status enqueue(ps_queue *queue, cpu_kernel kernel, const void *arguments, size_t bytes)
{
	struct cpu_queue *q = queue->impl;
	const struct cpu_device *device = queue->device->impl;
	struct cpu_command *command = ps__ring_reserve(&q->ring, sizeof *command + bytes);
	if (!command)
		return ps_fail(PS_ENOMEM, "out of memory for the commands of queue %s", queue->label);
	*command = (struct cpu_command){kernel, ps__timeline_next(&queue->timeline),
	                                atomic_fetch_add(&device->worker->places, 1)};
	memcpy(command + 1, arguments, bytes);
	ps__ring_push(&q->ring);
	ps__bell_ring(&device->worker->bell);
	return PS_OK;
}

ps_status ps__cpu_launch(ps_queue *queue, cpu_kernel kernel, const void *arguments, size_t bytes)
{
	return queue->dry ? PS_OK : enqueue(queue, kernel, arguments, bytes);
}

ps_status ps__cpu_queue_create(ps_queue *queue)
{
	const struct cpu_device *device = queue->device->impl;
	struct cpu_queue *q = calloc(1, sizeof *q);
	if (!q)
		return ps_fail(PS_ENOMEM, "out of memory for queue %s", queue->label);
	ps_status status = ps__ring_init(&q->ring);
	if (status != PS_OK) {
		free(q);
		return status;
	}
	q->queue = queue;
	queue->impl = q;
	ps__cpu_worker_add(device->worker, q);
	return PS_OK;
}

void ps__cpu_queue_destroy(ps_queue *queue)
{
	const struct cpu_device *device = queue->device->impl;
	struct cpu_queue *q = queue->impl;
	ps__cpu_worker_remove(device->worker, q);
	ps__ring_finish(&q->ring);
	free(q);
}

ps_status ps__cpu_queue_wait(ps_queue *queue, ps_event event)
{
	return enqueue(queue, NULL, &event, sizeof event);
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
	return enqueue(queue, move_kernel, &move, sizeof move);
}

ps_status ps__cpu_queue_read(ps_queue *queue, void *to, ps_tensor from)
{
	struct move move = {to, ps__cpu_data(from), bytes_of(from)};
	return enqueue(queue, move_kernel, &move, sizeof move);
}

ps_status ps__cpu_queue_copy(ps_queue *queue, ps_tensor to, ps_tensor from)
{
	return ps__cpu_queue_write(queue, to, ps__cpu_data(from));
}

ps_status ps__cpu_queue_zero(ps_queue *queue, ps_tensor tensor)
{
	struct move move = {ps__cpu_data(tensor), NULL, bytes_of(tensor)};
	return enqueue(queue, move_kernel, &move, sizeof move);
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
	return enqueue(queue, timestamp_kernel, &ns, sizeof ns);
}
