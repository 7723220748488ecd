/* Timelines: 64-bit counters that one side hands out and completes in order, and others wait for. */
#include "core/backend.h"

#include "core/platform.h"

#include <string.h>

ps_status ps__timeline_init(ps_timeline *timeline, ps_queue *queue)
{
	memset(timeline, 0, sizeof *timeline);
	timeline->queue = queue;
	if (pthread_mutex_init(&timeline->mutex, NULL))
		return ps_fail(PS_ENOMEM, "cannot create a mutex");
	if (ps__condition_init(&timeline->cond)) {
		pthread_mutex_destroy(&timeline->mutex);
		return ps_fail(PS_ENOMEM, "cannot create a condition variable");
	}
	return PS_OK;
}

void ps__timeline_finish(ps_timeline *timeline)
{
	pthread_cond_destroy(&timeline->cond);
	pthread_mutex_destroy(&timeline->mutex);
}

uint64_t ps__timeline_next(ps_timeline *timeline)
{
	return ++timeline->submitted;
}

void ps__timeline_complete(ps_timeline *timeline, uint64_t value)
{
	/* Sequential consistency pairs this store with the waiter's increment: one of the two sees the other. */
	atomic_store(&timeline->completed, value);
	if (atomic_load(&timeline->waiters) > 0) {
		pthread_mutex_lock(&timeline->mutex);
		pthread_cond_broadcast(&timeline->cond);
		pthread_mutex_unlock(&timeline->mutex);
	}
}

void ps__timeline_fail(ps_timeline *timeline, uint64_t value, ps_status status)
{
	pthread_mutex_lock(&timeline->mutex);
	if (atomic_load(&timeline->failed) == PS_OK) {
		strncpy(timeline->message, ps_error_message(), sizeof timeline->message - 1);
		timeline->failed_at = value;
		atomic_store(&timeline->failed, (int)status);
	}
	pthread_cond_broadcast(&timeline->cond);
	pthread_mutex_unlock(&timeline->mutex);
}

ps_status ps__timeline_status(const ps_timeline *timeline)
{
	return (ps_status)atomic_load(&timeline->failed);
}

/* True when the wait for `value` is over; *status tells how it ended. */
static bool settled(ps_timeline *timeline, uint64_t value, ps_status *status)
{
	ps_status failed = ps__timeline_status(timeline);
	if (failed != PS_OK && timeline->failed_at <= value) {
		*status = failed;
		return true;
	}
	*status = PS_OK;
	return atomic_load(&timeline->completed) >= value;
}

bool ps_event_done(ps_event event)
{
	ps_status status;
	return !event.timeline || settled(event.timeline, event.value, &status);
}

ps_status ps_event_wait(ps_event event, int64_t timeout_ns)
{
	ps_timeline *timeline = event.timeline;
	ps_status status = PS_OK;
	if (!timeline)
		return PS_OK;
	if (!settled(timeline, event.value, &status)) {
		int64_t deadline = timeout_ns < 0 ? -1 : ps_clock_ns() + timeout_ns;
		bool late = false;
		pthread_mutex_lock(&timeline->mutex);
		atomic_fetch_add(&timeline->waiters, 1);
		while (!settled(timeline, event.value, &status) && !late)
			late = ps__condition_wait(&timeline->cond, &timeline->mutex, deadline);
		atomic_fetch_sub(&timeline->waiters, 1);
		bool over = settled(timeline, event.value, &status);
		pthread_mutex_unlock(&timeline->mutex);
		if (!over)
			return ps_fail(PS_ESTALL, "queue %s has not reached point %llu after %.1f s",
			               timeline->queue ? timeline->queue->label : "of a link",
			               (unsigned long long)event.value, (double)timeout_ns / 1e9);
	}
	if (status != PS_OK)
		return ps_fail(status, "%s", timeline->message);
	return PS_OK;
}
