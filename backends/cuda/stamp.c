/*
 * Timestamps, by the GPU's clock: a host thread that waits for a command wakes up later than short commands take.
 *
 * A stamp is an event with a time. The first one after a while is given the host's time when it was seen to be reached,
 * late by that thread's waking up; each one after it what has passed on the GPU since the stamp before. So what is
 * between two stamps is right, and how the GPU's clock runs apart from the host's does not add up.
 */
#include "backends/cuda/cuda.h"

/* How far apart on the GPU two stamps may be for that, and how long it may go on. */
#define PAUSE_NS ((int64_t)1000000000)
#define STRETCH_NS ((int64_t)10000000000)

static ps_status timestamp_runner(struct cuda_queue *q, const void *arguments)
{
	int64_t *const *ns = arguments;
	struct cuda_flight *flight = ps__cuda_flight(q, true);
	CUDA_TRY(q->queue->device->info.name, cudaEventRecord(flight->time, q->stream));
	flight->stamp = *ns;
	return PS_OK;
}

ps_status ps__cuda_queue_timestamp(ps_queue *queue, int64_t *ns)
{
	return ps__cuda_enqueue(queue, timestamp_runner, &ns, sizeof ns);
}

/* What has passed on the GPU since the last stamp; INT64_MAX: nobody knows. */
static int64_t passed_since(const struct cuda_stamps *stamps, cudaEvent_t time)
{
	float ms;
	if (stamps->last_ns == 0)
		return INT64_MAX;
	if (cudaEventElapsedTime(&ms, stamps->last, time) == cudaSuccess)
		return (int64_t)((double)ms * 1e6);
	(void)cudaGetLastError();
	return INT64_MAX;
}

int64_t ps__cuda_stamp_time(struct cuda_queue *q, struct cuda_flight *flight)
{
	struct cuda_stamps *stamps = &q->stamps;
	int64_t passed = passed_since(stamps, flight->time), ns = ps_clock_ns();
	if (passed < PAUSE_NS && stamps->last_ns + passed < stamps->first_ns + STRETCH_NS)
		ns = stamps->last_ns + passed;
	else
		stamps->first_ns = ns;
	if (ns < stamps->last_ns)
		ns = stamps->last_ns;
	cudaEvent_t before = stamps->last;
	stamps->last = flight->time;
	stamps->last_ns = ns;
	flight->time = before;
	return ns;
}
