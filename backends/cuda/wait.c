/* What a queue waits for: points of other queues, and its own commands before host memory is read. */
#include "backends/cuda/cuda.h"

static bool overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
	uintptr_t first = (uintptr_t)a, second = (uintptr_t)b;
	return first < second + b_bytes && second < first + a_bytes;
}

/* Is there a flight that the host memory depends on? The caller holds the mutex. */
static bool unsettled(const struct cuda_queue *q, const void *from, size_t bytes)
{
	for (size_t i = 0; i < q->flight_count; i++) {
		const struct cuda_flight *flight = &q->flight[(q->flight_head + i) % CUDA_FLIGHTS];
		if (flight->first <= q->waited)
			return true;
		if (flight->read_to && overlap(flight->read_to, flight->read_bytes, from, bytes))
			return true;
	}
	return false;
}

ps_status ps__cuda_settle(struct cuda_queue *q, const void *from, size_t bytes)
{
	if (q->open && q->open->commands > 0)
		ps__cuda_part(q);
	pthread_mutex_lock(&q->mutex);
	bool waits = unsettled(q, from, bytes);
	while (unsettled(q, from, bytes))
		pthread_cond_wait(&q->cond, &q->mutex);
	pthread_mutex_unlock(&q->mutex);
	/* What was waited for may have failed the queue, and this command with it. */
	bool failed = waits && ps__timeline_status(&q->queue->timeline) != PS_OK;
	return failed ? ps_event_wait((ps_event){&q->queue->timeline, q->value}, 0) : PS_OK;
}

/* The flight that ends with `value` or later; NULL when it has landed. The caller holds from's mutex. */
static const struct cuda_flight *flight_of(const struct cuda_queue *from, uint64_t value)
{
	for (size_t i = 0; i < from->flight_count; i++) {
		const struct cuda_flight *flight = &from->flight[(from->flight_head + i) % CUDA_FLIGHTS];
		if (flight->value >= value)
			return flight;
	}
	return NULL;
}

/*
 * Another queue of this backend: the stream waits. The submitter waits until the event was recorded, which for all that
 * is before a wait is done before the wait, so that two queues that wait for each other's points do not block.
 */
static ps_status wait_on_stream(struct cuda_queue *q, ps_event event)
{
	struct cuda_queue *from = event.timeline->queue->impl;
	cudaError_t error = cudaSuccess;
	pthread_mutex_lock(&from->mutex);
	while (from->closed < event.value)
		pthread_cond_wait(&from->cond, &from->mutex);
	const struct cuda_flight *flight = flight_of(from, event.value);
	bool waits = flight && flight->recorded;
	if (waits)
		error = cudaStreamWaitEvent(q->stream, flight->event, 0);
	pthread_mutex_unlock(&from->mutex);
	if (!waits)
		return ps_event_wait(event, -1);
	if (error != cudaSuccess)
		return ps__cuda_fail(q->queue->device->info.name, "cudaStreamWaitEvent", error);
	ps__cuda_flight(q, true)->after = event;
	q->waited = q->value;
	return PS_OK;
}

static ps_status wait_runner(struct cuda_queue *q, const void *arguments)
{
	const ps_event *event = arguments;
	ps__cuda_part(q);
	const ps_queue *from = event->timeline->queue;
	return from && ps__cuda_is_ours(from->device) ? wait_on_stream(q, *event) : ps_event_wait(*event, -1);
}

ps_status ps__cuda_queue_wait(ps_queue *queue, ps_event event)
{
	return ps__cuda_enqueue(queue, wait_runner, &event, sizeof event);
}
