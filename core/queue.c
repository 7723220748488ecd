/* Queues: what all backends share around their own. */
#include "core/backend.h"
#include "core/registry.h"

#include <stdarg.h>
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
	snprintf(queue->label, sizeof queue->label, "%s", label ? label : "");
	ps_status status = ps__timeline_init(&queue->timeline, queue, queue->label);
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

void ps_queue_destroy(ps_queue *queue)
{
	if (!queue)
		return;
	ps_device *device = queue->device;
	ps__timeline_drain(&queue->timeline);
	device->backend->queue_destroy(queue);
	ps__timeline_finish(&queue->timeline);
	free(queue);
	ps__device_release(device);
}

void ps_queue_reset(ps_queue *queue)
{
	ps__timeline_reset(&queue->timeline);
}

ps_device *ps_queue_device(const ps_queue *queue)
{
	return queue->device;
}

const char *ps_queue_label(const ps_queue *queue)
{
	return queue->label;
}

ps_status ps_queue_set_math(ps_queue *queue, ps_math math)
{
	static const char *const names[PS_MATH_COUNT] = {
#define PS_MATH_TEXT(name, text) [PS_MATH_##name] = (text),
	        PS_MATH_MAP(PS_MATH_TEXT)
#undef PS_MATH_TEXT
	};
	const ps_device *device = queue->device;
	if ((unsigned)math >= PS_MATH_COUNT)
		return ps_fail(PS_EINVAL, "%d is no way to multiply", (int)math);
	if (!device->backend->has_math(device, math))
		return ps_fail(PS_ENOTSUP, "%s cannot multiply in %s; %s can", device->info.name, names[math],
		               math == PS_MATH_TF32 ? "GPUs by cuda" : "cpu and ref");
	queue->math = math;
	return PS_OK;
}

ps_math ps_queue_math(const ps_queue *queue)
{
	return queue->math;
}

ps_status ps_queue_set_graphs(ps_queue *queue, ps_graphs graphs)
{
	const ps_device *device = queue->device;
	if (graphs == PS_GRAPHS_ON && !ps__device_has_graphs(device))
		return ps_fail(PS_ENOTSUP, "%s has no graphs; GPUs by cuda have", device->info.name);
	queue->graphs = graphs;
	return PS_OK;
}

const char *ps_queue_note(ps_queue *queue, char *text, size_t size)
{
	pthread_mutex_lock(&queue->timeline.mutex);
	snprintf(text, size, "%s", queue->note);
	pthread_mutex_unlock(&queue->timeline.mutex);
	return text;
}

void ps__queue_note(ps_queue *queue, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	pthread_mutex_lock(&queue->timeline.mutex);
	if (!*queue->note)
		vsnprintf(queue->note, sizeof queue->note, format, arguments);
	pthread_mutex_unlock(&queue->timeline.mutex);
	va_end(arguments);
}

ps_event ps_queue_record(ps_queue *queue)
{
	return (ps_event){&queue->timeline, queue->timeline.submitted};
}

ps_status ps_queue_wait(ps_queue *queue, ps_event event)
{
	if (!event.timeline)
		return PS_OK;
	/* A point that has failed goes to the backend, for the queue to fail in its place in the order. */
	if (ps_event_done(event) ? ps_event_wait(event, 0) == PS_OK : event.timeline == &queue->timeline)
		return PS_OK;
	return queue->device->backend->queue_wait(queue, event);
}

ps_status ps__transfer_check(const ps_device *device, const char *what, const char *where, ps_tensor tensor)
{
	char text[128];
	if (!ps_tensor_present(tensor))
		return ps_fail(PS_EINVAL, "%s on %s: the tensor is absent", what, where);
	if (!ps__tensor_is_sound(tensor))
		return ps_fail(PS_EINVAL, "%s on %s: %s does not lie within its buffer, aligned", what, where,
		               ps_tensor_text(tensor, text, sizeof text));
	if (!ps_tensor_is_contiguous(tensor))
		return ps_fail(PS_EINVAL, "%s on %s: %s is not contiguous", what, where,
		               ps_tensor_text(tensor, text, sizeof text));
	if (device && tensor.buffer->device != device)
		return ps_fail(PS_EINVAL, "%s on %s: the tensor is on %s, which should be %s", what, where,
		               tensor.buffer->device->info.name, device->info.name);
	return PS_OK;
}

ps_status ps__transfer_check_pair(const char *what, const char *where, ps_tensor to, ps_tensor from)
{
	char a[128], b[128];
	if (to.dtype == from.dtype && ps_tensor_count(to) == ps_tensor_count(from))
		return PS_OK;
	return ps_fail(PS_EINVAL, "%s on %s: %s does not match %s", what, where, ps_tensor_text(to, a, sizeof a),
	               ps_tensor_text(from, b, sizeof b));
}

ps_status ps_queue_write(ps_queue *queue, ps_tensor to, const void *from)
{
	PS_TRY(ps__transfer_check(queue->device, "write", queue->label, to));
	return ps_tensor_count(to) ? queue->device->backend->queue_write(queue, to, from) : PS_OK;
}

ps_status ps_queue_read(ps_queue *queue, void *to, ps_tensor from)
{
	PS_TRY(ps__transfer_check(queue->device, "read", queue->label, from));
	return ps_tensor_count(from) ? queue->device->backend->queue_read(queue, to, from) : PS_OK;
}

ps_status ps_queue_copy(ps_queue *queue, ps_tensor to, ps_tensor from)
{
	PS_TRY(ps__transfer_check(NULL, "copy", queue->label, to));
	const ps_device *device = queue->device, *target = to.buffer->device;
	PS_TRY(ps__transfer_check(target == device ? NULL : device, "copy", queue->label, from));
	const ps_device *source = from.buffer->device;
	if (source != device && !device->backend->can_copy_from(device, source))
		return ps_fail(PS_ENOTSUP, "%s cannot copy directly from %s; use a link", device->info.name,
		               source->info.name);
	if (target != device && !device->backend->can_copy_to(device, target))
		return ps_fail(PS_ENOTSUP, "%s cannot copy directly to %s; use a link", device->info.name,
		               target->info.name);
	PS_TRY(ps__transfer_check_pair("copy", queue->label, to, from));
	return ps_tensor_count(to) ? queue->device->backend->queue_copy(queue, to, from) : PS_OK;
}

ps_status ps_queue_zero(ps_queue *queue, ps_tensor tensor)
{
	PS_TRY(ps__transfer_check(queue->device, "zero", queue->label, tensor));
	return ps_tensor_count(tensor) ? queue->device->backend->queue_zero(queue, tensor) : PS_OK;
}

ps_status ps_queue_timestamp(ps_queue *queue, int64_t *ns)
{
	return queue->device->backend->queue_timestamp(queue, ns);
}

ps_status ps_queue_finish(ps_queue *queue)
{
	ps_status status = ps_event_wait(ps_queue_record(queue), -1);
	/* A failure is known before the commands behind it are over. */
	if (status != PS_OK)
		ps__timeline_drain(&queue->timeline);
	return status;
}
