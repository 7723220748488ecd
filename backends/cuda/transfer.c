/*
 * Transfers of a queue.
 *
 * Pinned memory is transferred when the stream comes to it. Of pageable memory small transfers go through pinned memory
 * of the flight, so that they do not make the submitter wait for the stream, as others may.
 */
#include "backends/cuda/cuda.h"

#include <string.h>

static size_t bytes_of(ps_tensor tensor)
{
	return (size_t)ps_tensor_count(tensor) * ps_dtype_bytes(tensor.dtype);
}

/* Which devices a copy is between; equal ordinals are one device. */
struct move {
	void *to;
	const void *from;
	size_t bytes;
	int to_device, from_device;
};

static ps_status ask_for_pinned(const struct cuda_queue *q, const void *host, bool *pinned)
{
	struct cudaPointerAttributes attributes;
	CUDA_TRY(q->queue->device->info.name, cudaPointerGetAttributes(&attributes, host));
	*pinned = attributes.type == cudaMemoryTypeHost;
	return PS_OK;
}

static ps_status write_runner(struct cuda_queue *q, const void *arguments)
{
	const struct move *move = arguments;
	const void *from = move->from;
	bool pinned = false;
	PS_TRY(ask_for_pinned(q, from, &pinned));
	if (!pinned)
		PS_TRY(ps__cuda_settle(q, from, move->bytes));
	bool small = !pinned && move->bytes <= CUDA_BOUNCE_BYTES;
	struct cuda_flight *flight = ps__cuda_flight(q, small);
	if (small) {
		memcpy(flight->bounce, from, move->bytes);
		from = flight->bounce;
	}
	CUDA_TRY(q->queue->device->info.name,
	         cudaMemcpyAsync(move->to, from, move->bytes, cudaMemcpyHostToDevice, q->stream));
	return PS_OK;
}

static ps_status read_runner(struct cuda_queue *q, const void *arguments)
{
	const struct move *move = arguments;
	void *to = move->to;
	bool pinned = false;
	PS_TRY(ask_for_pinned(q, to, &pinned));
	struct cuda_flight *flight = ps__cuda_flight(q, !pinned);
	if (!pinned) {
		flight->read_to = to;
		flight->read_bytes = move->bytes;
		flight->bounced = move->bytes <= CUDA_BOUNCE_BYTES;
		if (flight->bounced)
			to = flight->bounce;
	}
	CUDA_TRY(q->queue->device->info.name,
	         cudaMemcpyAsync(to, move->from, move->bytes, cudaMemcpyDeviceToHost, q->stream));
	return PS_OK;
}

static ps_status copy_runner(struct cuda_queue *q, const void *arguments)
{
	const struct move *move = arguments;
	const char *name = q->queue->device->info.name;
	(void)ps__cuda_flight(q, false);
	if (move->to_device == move->from_device)
		CUDA_TRY(name, cudaMemcpyAsync(move->to, move->from, move->bytes, cudaMemcpyDeviceToDevice, q->stream));
	else
		CUDA_TRY(name, cudaMemcpyPeerAsync(move->to, move->to_device, move->from, move->from_device,
		                                   move->bytes, q->stream));
	return PS_OK;
}

static ps_status zero_runner(struct cuda_queue *q, const void *arguments)
{
	const struct move *move = arguments;
	(void)ps__cuda_flight(q, false);
	CUDA_TRY(q->queue->device->info.name, cudaMemsetAsync(move->to, 0, move->bytes, q->stream));
	return PS_OK;
}

ps_status ps__cuda_queue_write(ps_queue *queue, ps_tensor to, const void *from)
{
	struct move move = {.to = ps__cuda_data(to), .from = from, .bytes = bytes_of(to)};
	return ps__cuda_enqueue(queue, write_runner, &move, sizeof move);
}

ps_status ps__cuda_queue_read(ps_queue *queue, void *to, ps_tensor from)
{
	struct move move = {.to = to, .from = ps__cuda_data(from), .bytes = bytes_of(from)};
	return ps__cuda_enqueue(queue, read_runner, &move, sizeof move);
}

ps_status ps__cuda_queue_copy(ps_queue *queue, ps_tensor to, ps_tensor from)
{
	const struct cuda_device *target = to.buffer->device->impl, *source = from.buffer->device->impl;
	struct move move = {.to = ps__cuda_data(to),
	                    .from = ps__cuda_data(from),
	                    .bytes = bytes_of(to),
	                    .to_device = target->ordinal,
	                    .from_device = source->ordinal};
	return ps__cuda_enqueue(queue, copy_runner, &move, sizeof move);
}

ps_status ps__cuda_queue_zero(ps_queue *queue, ps_tensor tensor)
{
	struct move move = {.to = ps__cuda_data(tensor), .bytes = bytes_of(tensor)};
	return ps__cuda_enqueue(queue, zero_runner, &move, sizeof move);
}
