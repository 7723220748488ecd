/* Timelines: 64-bit counters that one side hands out and completes in order, and others wait for. */
#include "core/backend.h"

#include "core/bell.h"
#include "core/platform.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

ps_status ps__timeline_init(ps_timeline *timeline, ps_queue *queue, const char *label)
{
	memset(timeline, 0, sizeof *timeline);
	timeline->queue = queue;
	timeline->label = label;
	atomic_init(&timeline->wanted, UINT64_MAX);
	atomic_init(&timeline->watched, UINT64_MAX);
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

/* The caller holds the mutex. Whoever goes on to wait says again what for. */
static void wake_sleepers(ps_timeline *timeline)
{
	atomic_store(&timeline->wanted, UINT64_MAX);
	pthread_cond_broadcast(&timeline->cond);
}

/* Likewise. */
static void ring_watches(ps_timeline *timeline)
{
	atomic_store(&timeline->watched, UINT64_MAX);
	while (timeline->watches) {
		struct ps__watch *watch = timeline->watches;
		timeline->watches = watch->next;
		atomic_store(&watch->set, false);
		/* Only now: whoever sees the watch still set may count on a ring to come. */
		ps__bell_ring(watch->bell);
	}
}

/* Before a look at `completed` that may end in sleep: lowers `wanted` or `watched`. The caller holds the mutex. */
static void lower(_Atomic(uint64_t) *lowest, uint64_t value)
{
	if (value < atomic_load(lowest))
		atomic_store(lowest, value);
}

void ps__timeline_complete(ps_timeline *timeline, uint64_t value)
{
	/*
	 * Sequential consistency pairs this store with the waiter's: either the waiter sees the value, or its wish is
	 * seen here, and then it holds the mutex until it sleeps.
	 */
	atomic_store(&timeline->completed, value);
	bool wanted = atomic_load(&timeline->wanted) <= value, watched = atomic_load(&timeline->watched) <= value;
	if (!wanted && !watched)
		return;
	pthread_mutex_lock(&timeline->mutex);
	if (wanted)
		wake_sleepers(timeline);
	if (watched)
		ring_watches(timeline);
	pthread_mutex_unlock(&timeline->mutex);
}

void ps__timeline_fail(ps_timeline *timeline, uint64_t value, ps_status status)
{
	pthread_mutex_lock(&timeline->mutex);
	if (atomic_load(&timeline->failed) == PS_OK) {
		snprintf(timeline->message, sizeof timeline->message, "%s", ps_error_message());
		timeline->failed_from = value;
		timeline->failed_to = UINT64_MAX;
		atomic_store(&timeline->last_failed, (int)status);
		atomic_store(&timeline->failed, (int)status);
	}
	wake_sleepers(timeline);
	ring_watches(timeline);
	pthread_mutex_unlock(&timeline->mutex);
}

ps_status ps__timeline_status(const ps_timeline *timeline)
{
	return (ps_status)atomic_load(&timeline->failed);
}

void ps__timeline_drain(ps_timeline *timeline)
{
	pthread_mutex_lock(&timeline->mutex);
	lower(&timeline->wanted, timeline->submitted);
	while (atomic_load(&timeline->completed) < timeline->submitted) {
		pthread_cond_wait(&timeline->cond, &timeline->mutex);
		lower(&timeline->wanted, timeline->submitted);
	}
	pthread_mutex_unlock(&timeline->mutex);
}

void ps__timeline_reset(ps_timeline *timeline)
{
	ps__timeline_drain(timeline);
	pthread_mutex_lock(&timeline->mutex);
	if (atomic_load(&timeline->failed) != PS_OK) {
		/* A fresh point, so that what is recorded next does not lie within the failure. */
		timeline->failed_to = timeline->submitted++;
		atomic_store(&timeline->completed, timeline->submitted);
		atomic_store(&timeline->failed, PS_OK);
	}
	pthread_mutex_unlock(&timeline->mutex);
}

/* The status of the failure that `value` lies in, PS_OK if in none. The caller holds the mutex. */
static ps_status failure_at(const ps_timeline *timeline, uint64_t value)
{
	ps_status status = (ps_status)atomic_load(&timeline->last_failed);
	bool inside = timeline->failed_from <= value && value <= timeline->failed_to;
	return status != PS_OK && inside ? status : PS_OK;
}

/*
 * True when the point is known to be reached without a look at the mutex. The order matters: the count is read first,
 * so that a failure that came before the count is seen after it.
 */
static bool reached_well(const ps_timeline *timeline, uint64_t value)
{
	return atomic_load(&timeline->completed) >= value && atomic_load(&timeline->last_failed) == PS_OK;
}

/* True when the wait is over. The caller holds the mutex. */
static bool settled(const ps_timeline *timeline, uint64_t value, ps_status *status)
{
	bool reached = atomic_load(&timeline->completed) >= value;
	*status = failure_at(timeline, value);
	return reached || *status != PS_OK;
}

bool ps_event_done(ps_event event)
{
	ps_timeline *timeline = event.timeline;
	if (!timeline || reached_well(timeline, event.value))
		return true;
	if (atomic_load(&timeline->last_failed) == PS_OK)
		return false;
	ps_status status;
	pthread_mutex_lock(&timeline->mutex);
	bool done = settled(timeline, event.value, &status);
	pthread_mutex_unlock(&timeline->mutex);
	return done;
}

bool ps__event_watch(ps_event event, struct ps__watch *watch)
{
	ps_timeline *timeline = event.timeline;
	ps_status status;
	pthread_mutex_lock(&timeline->mutex);
	lower(&timeline->watched, event.value);
	bool over = settled(timeline, event.value, &status);
	if (!over) {
		watch->next = timeline->watches;
		timeline->watches = watch;
		atomic_store(&watch->set, true);
	}
	pthread_mutex_unlock(&timeline->mutex);
	return !over;
}

void ps__event_unwatch(ps_event event, struct ps__watch *watch)
{
	ps_timeline *timeline = event.timeline;
	pthread_mutex_lock(&timeline->mutex);
	struct ps__watch **at = &timeline->watches;
	while (*at && *at != watch)
		at = &(*at)->next;
	if (*at)
		*at = watch->next;
	atomic_store(&watch->set, false);
	pthread_mutex_unlock(&timeline->mutex);
}

/* The time at which a wait of timeout_ns from now is over; -1: never. */
static int64_t deadline_after(int64_t timeout_ns)
{
	int64_t now = ps_clock_ns();
	return timeout_ns < 0 || timeout_ns > INT64_MAX - now ? -1 : now + timeout_ns;
}

ps_status ps_event_wait(ps_event event, int64_t timeout_ns)
{
	ps_timeline *timeline = event.timeline;
	if (!timeline || reached_well(timeline, event.value))
		return PS_OK;
	ps_status status;
	int64_t deadline = deadline_after(timeout_ns);
	bool late = timeout_ns == 0;
	pthread_mutex_lock(&timeline->mutex);
	lower(&timeline->wanted, event.value);
	bool over = settled(timeline, event.value, &status);
	while (!over && !late) {
		late = ps__condition_wait(&timeline->cond, &timeline->mutex, deadline);
		lower(&timeline->wanted, event.value);
		over = settled(timeline, event.value, &status);
	}
	if (status != PS_OK)
		ps_fail(status, "%s", timeline->message);
	pthread_mutex_unlock(&timeline->mutex);
	if (!over)
		return ps_fail(PS_ESTALL, "%s has not reached point %" PRIu64 " after %.3g s; it is at %" PRIu64,
		               timeline->label, event.value, (double)timeout_ns / 1e9,
		               (uint64_t)atomic_load(&timeline->completed));
	return status;
}
