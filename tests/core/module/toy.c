/*
 * The smallest backend: one device in host memory that runs each command at once, in the thread that enqueues it, and
 * has one op. It is the example of docs/add-a-backend.md, and built outside of the library from its public headers.
 */
#include <penstock/backend.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void describe(ps_device_info *info)
{
	snprintf(info->name, sizeof info->name, "toy");
	snprintf(info->description, sizeof info->description, "a backend in one file");
	info->compute_units = 1;
	info->host_addressable = true;
}

static ps_status toy_enumerate(ps_device_visit visit, void *payload)
{
	ps_device_info info = {0};
	describe(&info);
	return visit(payload, &info);
}

static ps_status toy_device_open(ps_device *device, const char *spec)
{
	if (*spec)
		return ps_fail(PS_ENODEV, "\"toy:%s\": there is one toy; write toy", spec);
	describe(&device->info);
	return PS_OK;
}

static void toy_device_close(ps_device *device)
{
	(void)device; /* nothing was allocated */
}

static ps_status toy_buffer_create(ps_buffer *buffer)
{
	buffer->impl = malloc(buffer->bytes);
	if (!buffer->impl)
		return ps_fail(PS_ENOMEM, "toy is out of memory");
	return PS_OK;
}

static void toy_buffer_destroy(ps_buffer *buffer)
{
	free(buffer->impl);
}

static ps_status toy_queue_create(ps_queue *queue)
{
	(void)queue;
	return PS_OK;
}

static void toy_queue_destroy(ps_queue *queue)
{
	(void)queue;
}

static void *data(ps_tensor tensor)
{
	return (char *)tensor.buffer->impl + tensor.offset;
}

/*
 * Every command follows this pattern: take the next point, do the work unless the queue has failed, pass a failure
 * on, and complete the point in any case. A queue with a thread or a driver behind it does the last three later.
 */
static ps_status finish(ps_queue *queue, ps_status status)
{
	uint64_t value = ps__timeline_next(&queue->timeline);
	if (status != PS_OK)
		ps__timeline_fail(&queue->timeline, value, status);
	ps__timeline_complete(&queue->timeline, value);
	return PS_OK;
}

static bool skips(const ps_queue *queue)
{
	return ps__timeline_status(&queue->timeline) != PS_OK;
}

static ps_status toy_queue_wait(ps_queue *queue, ps_event event)
{
	return finish(queue, skips(queue) ? PS_OK : ps_event_wait(event, -1));
}

static ps_status move(ps_queue *queue, void *to, const void *from, ps_tensor shape)
{
	if (!skips(queue))
		memmove(to, from, (size_t)ps_tensor_count(shape) * ps_dtype_bytes(shape.dtype));
	return finish(queue, PS_OK);
}

static ps_status toy_queue_write(ps_queue *queue, ps_tensor to, const void *from)
{
	return move(queue, data(to), from, to);
}

static ps_status toy_queue_read(ps_queue *queue, void *to, ps_tensor from)
{
	return move(queue, to, data(from), from);
}

static ps_status toy_queue_copy(ps_queue *queue, ps_tensor to, ps_tensor from)
{
	return move(queue, data(to), data(from), to);
}

static ps_status toy_queue_zero(ps_queue *queue, ps_tensor tensor)
{
	if (!skips(queue))
		memset(data(tensor), 0, (size_t)ps_tensor_count(tensor) * ps_dtype_bytes(tensor.dtype));
	return finish(queue, PS_OK);
}

static ps_status toy_queue_timestamp(ps_queue *queue, int64_t *ns)
{
	if (!skips(queue))
		*ns = ps_clock_ns();
	return finish(queue, PS_OK);
}

/* An op refuses what it cannot do before anything else, and does nothing on a dry queue. */
static ps_status toy_add(ps_queue *queue, const void *arguments)
{
	const ps_args_add *x = arguments;
	if (x->y.dtype != PS_F32)
		return ps__op_refuse(queue, PS_OP_add, x->y, "toy adds fp32 only");
	if (queue->dry)
		return PS_OK;
	const float *a = data(x->a), *b = data(x->b);
	float *y = data(x->y);
	for (int64_t i = 0; i < ps_tensor_count(x->y) && !skips(queue); i++)
		y[i] = a[i] + b[i];
	return finish(queue, PS_OK);
}

static const ps_op_fn ops[PS_OP_COUNT] = {
        [PS_OP_add] = toy_add,
};

static const ps_backend table = {
        .abi = PS_BACKEND_ABI,
        .size = sizeof(ps_backend),
        .name = "toy",
        .description = "the example of how to add a backend",
        .enumerate = toy_enumerate,
        .device_open = toy_device_open,
        .device_close = toy_device_close,
        .buffer_create = toy_buffer_create,
        .buffer_destroy = toy_buffer_destroy,
        .queue_create = toy_queue_create,
        .queue_destroy = toy_queue_destroy,
        .queue_wait = toy_queue_wait,
        .queue_write = toy_queue_write,
        .queue_read = toy_queue_read,
        .queue_copy = toy_queue_copy,
        .queue_zero = toy_queue_zero,
        .queue_timestamp = toy_queue_timestamp,
        .ops = ops,
};

const ps_backend *ps_backend_entry(void);

const ps_backend *ps_backend_entry(void)
{
	return &table;
}
