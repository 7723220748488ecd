/* Queues: what all backends share around their own. */
#include "core/backend.h"
#include "core/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

ps_status ps_queue_create(ps_queue **out, ps_device *device, const char *label)
{
	*out = NULL;
	ps_queue *queue = calloc(1, sizeof *queue);
	if (!queue)
		return ps_fail(PS_ENOMEM, "out of memory for a queue");
	queue->device = device;
	snprintf(queue->label, sizeof queue->label, "%s", label);
	ps_status status = ps__timeline_init(&queue->timeline, queue);
	if (status != PS_OK) {
		free(queue);
		return status;
	}
	status = device->backend->queue_create(queue);
	if (status != PS_OK) {
		ps__timeline_finish(&queue->timeline);
		free(queue);
		return status;
	}
	ps__device_hold(device);
	*out = queue;
	return PS_OK;
}

/* Waits until all commands have been run or skipped, whatever became of them. */
static void drain(ps_queue *queue)
{
	ps_timeline *timeline = &queue->timeline;
	pthread_mutex_lock(&timeline->mutex);
	atomic_fetch_add(&timeline->waiters, 1);
	while (atomic_load(&timeline->completed) < timeline->submitted)
		pthread_cond_wait(&timeline->cond, &timeline->mutex);
	atomic_fetch_sub(&timeline->waiters, 1);
	pthread_mutex_unlock(&timeline->mutex);
}

void ps_queue_destroy(ps_queue *queue)
{
	if (!queue)
		return;
	ps_device *device = queue->device;
	drain(queue);
	device->backend->queue_destroy(queue);
	ps__timeline_finish(&queue->timeline);
	free(queue);
	ps__device_release(device);
}

void ps_queue_reset(ps_queue *queue)
{
	drain(queue);
	atomic_store(&queue->timeline.failed, PS_OK);
}

ps_device *ps_queue_device(const ps_queue *queue)
{
	return queue->device;
}

const char *ps_queue_label(const ps_queue *queue)
{
	return queue->label;
}

ps_event ps_queue_record(ps_queue *queue)
{
	return (ps_event){&queue->timeline, queue->timeline.submitted};
}

ps_status ps_queue_wait(ps_queue *queue, ps_event event)
{
	if (!event.timeline || event.timeline == &queue->timeline)
		return PS_OK;
	if (ps_event_done(event) && ps__timeline_status(event.timeline) == PS_OK)
		return PS_OK;
	return queue->device->backend->queue_wait(queue, event);
}

/* Is the tensor contiguous, within its buffer and on a device that the queue can work with? */
static ps_status check_tensor(const ps_queue *queue, const char *what, ps_tensor tensor, bool own)
{
	char text[128];
	if (!ps_tensor_present(tensor))
		return ps_fail(PS_EINVAL, "%s on %s: the tensor is absent", what, queue->label);
	if (!ps_tensor_is_contiguous(tensor))
		return ps_fail(PS_EINVAL, "%s on %s: %s is not contiguous", what, queue->label,
		               ps_tensor_text(tensor, text, sizeof text));
	uint64_t bytes = (uint64_t)ps_tensor_count(tensor) * ps_dtype_bytes(tensor.dtype);
	if (tensor.offset > tensor.buffer->bytes || bytes > tensor.buffer->bytes - tensor.offset)
		return ps_fail(PS_EINVAL, "%s on %s: %s does not lie within its buffer", what, queue->label,
		               ps_tensor_text(tensor, text, sizeof text));
	if (own && tensor.buffer->device != queue->device)
		return ps_fail(PS_EINVAL, "%s on %s: the tensor is on %s", what, queue->device->info.name,
		               tensor.buffer->device->info.name);
	return PS_OK;
}

ps_status ps_queue_write(ps_queue *queue, ps_tensor to, const void *from)
{
	PS_TRY(check_tensor(queue, "write", to, true));
	return ps_tensor_count(to) ? queue->device->backend->queue_write(queue, to, from) : PS_OK;
}

ps_status ps_queue_read(ps_queue *queue, void *to, ps_tensor from)
{
	PS_TRY(check_tensor(queue, "read", from, true));
	return ps_tensor_count(from) ? queue->device->backend->queue_read(queue, to, from) : PS_OK;
}

ps_status ps_queue_copy(ps_queue *queue, ps_tensor to, ps_tensor from)
{
	PS_TRY(check_tensor(queue, "copy", to, true));
	PS_TRY(check_tensor(queue, "copy", from, false));
	const ps_device *source = from.buffer->device, *device = queue->device;
	if (source != device && !(device->backend->can_copy_from && device->backend->can_copy_from(device, source)))
		return ps_fail(PS_ENOTSUP, "%s cannot copy directly from %s; use a link", device->info.name,
		               source->info.name);
	if (to.dtype != from.dtype || ps_tensor_count(to) != ps_tensor_count(from)) {
		char a[128], b[128];
		return ps_fail(PS_EINVAL, "copy on %s: %s does not match %s", queue->label,
		               ps_tensor_text(to, a, sizeof a), ps_tensor_text(from, b, sizeof b));
	}
	return ps_tensor_count(to) ? queue->device->backend->queue_copy(queue, to, from) : PS_OK;
}

ps_status ps_queue_zero(ps_queue *queue, ps_tensor tensor)
{
	PS_TRY(check_tensor(queue, "zero", tensor, true));
	return ps_tensor_count(tensor) ? queue->device->backend->queue_zero(queue, tensor) : PS_OK;
}

ps_status ps_queue_timestamp(ps_queue *queue, int64_t *ns)
{
	return queue->device->backend->queue_timestamp(queue, ns);
}

ps_status ps_queue_finish(ps_queue *queue)
{
	return ps_event_wait(ps_queue_record(queue), -1);
}
