/* Copies between host and device and on the device, zeroing and timestamps. */
#include "backends/opencl/opencl.h"

struct move {
	cl_mem device, from; /* from: of a copy */
	size_t at, from_at, bytes;
	void *host;
	const void *source;
};

static size_t bytes_of(ps_tensor tensor)
{
	return (size_t)ps_tensor_count(tensor) * ps_dtype_bytes(tensor.dtype);
}

static ps_status write_runner(struct cl_queue *q, const void *arguments)
{
	const struct move *m = arguments;
	cl_event event;
	cl_int error = clEnqueueWriteBuffer(q->cl, m->device, CL_FALSE, m->at, m->bytes, m->source, 0, NULL, &event);
	return ps__cl_enqueued(q, "write", error, event);
}

ps_status ps__cl_queue_write(ps_queue *queue, ps_tensor to, const void *from)
{
	struct move move = {.device = cl_memory(to), .at = to.offset, .bytes = bytes_of(to), .source = from};
	return ps__cl_submit(queue, write_runner, &move, sizeof move);
}

static ps_status read_runner(struct cl_queue *q, const void *arguments)
{
	const struct move *m = arguments;
	cl_event event;
	cl_int error = clEnqueueReadBuffer(q->cl, m->device, CL_FALSE, m->at, m->bytes, m->host, 0, NULL, &event);
	return ps__cl_enqueued(q, "read", error, event);
}

ps_status ps__cl_queue_read(ps_queue *queue, void *to, ps_tensor from)
{
	struct move move = {.device = cl_memory(from), .at = from.offset, .bytes = bytes_of(from), .host = to};
	return ps__cl_submit(queue, read_runner, &move, sizeof move);
}

static ps_status copy_runner(struct cl_queue *q, const void *arguments)
{
	const struct move *m = arguments;
	cl_event event;
	cl_int error = clEnqueueCopyBuffer(q->cl, m->from, m->device, m->from_at, m->at, m->bytes, 0, NULL, &event);
	return ps__cl_enqueued(q, "copy", error, event);
}

ps_status ps__cl_queue_copy(ps_queue *queue, ps_tensor to, ps_tensor from)
{
	/* Between this device and host memory, where that is what the other device's buffers are. */
	if (to.buffer->device->info.host_addressable)
		return ps__cl_queue_read(queue, (unsigned char *)to.buffer->impl + to.offset, from);
	if (from.buffer->device->info.host_addressable)
		return ps__cl_queue_write(queue, to, (const unsigned char *)from.buffer->impl + from.offset);
	struct move move = {.device = cl_memory(to),
	                    .at = to.offset,
	                    .from = cl_memory(from),
	                    .from_at = from.offset,
	                    .bytes = bytes_of(to)};
	if (move.device == move.from && move.at < move.from_at + move.bytes && move.from_at < move.at + move.bytes) {
		if (move.at == move.from_at)
			return PS_OK;
		return ps_fail(PS_ENOTSUP, "copy on %s: OpenCL does not copy between parts of a buffer that overlap",
		               queue->label);
	}
	return ps__cl_submit(queue, copy_runner, &move, sizeof move);
}

static ps_status zero(struct cl_queue *q, const struct move *m)
{
	/* All dtypes have whole words and are aligned to them. */
	const cl_uint pattern = 0;
	cl_event event;
	cl_int error =
	        clEnqueueFillBuffer(q->cl, m->device, &pattern, sizeof pattern, m->at, m->bytes, 0, NULL, &event);
	return ps__cl_enqueued(q, "zero", error, event);
}

static ps_status zero_runner(struct cl_queue *q, const void *arguments)
{
	return zero(q, arguments);
}

static struct move zero_of(ps_tensor tensor)
{
	return (struct move){.device = cl_memory(tensor), .at = tensor.offset, .bytes = bytes_of(tensor)};
}

ps_status ps__cl_zero(struct cl_queue *q, ps_tensor tensor)
{
	struct move move = zero_of(tensor);
	return zero(q, &move);
}

ps_status ps__cl_queue_zero(ps_queue *queue, ps_tensor tensor)
{
	struct move move = zero_of(tensor);
	return ps__cl_submit(queue, zero_runner, &move, sizeof move);
}

/* The completer reads the clock, when all that came before is over. */
static ps_status timestamp_runner(struct cl_queue *q, const void *arguments)
{
	int64_t *const *ns = arguments;
	q->stamp = *ns;
	return PS_OK;
}

ps_status ps__cl_queue_timestamp(ps_queue *queue, int64_t *ns)
{
	return ps__cl_submit(queue, timestamp_runner, &ns, sizeof ns);
}
