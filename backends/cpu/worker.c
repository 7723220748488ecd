#include "backends/cpu/worker.h"

#include "core/platform.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * How long to look for work before going to sleep. Two devices that hand each other work of some microseconds would
 * otherwise spend their time waking each other, which takes 5 to 50 us.
 */
#define LINGER_NS INT64_C(50000)
#define LONG_AWAY_NS INT64_C(1000000)
#define KEEP_NS INT64_C(100000000)

static ps_event awaited(const struct cpu_command *wait)
{
	return *(const ps_event *)(const void *)(wait + 1);
}

/*
 * May the command in front of the queue be run? With `watch` a watch stands on the event of one that may not. A queue
 * that has failed skips its waits, but for one that has been watched: that ends with its event.
 */
static bool ready(struct cpu_queue *q, bool watch)
{
	if (q->front->kernel || (!q->watched && ps__timeline_status(&q->queue->timeline) != PS_OK))
		return true;
	if (ps_event_done(awaited(q->front)))
		return true;
	if (!watch || atomic_load(&q->watch.set))
		return false;
	q->watched = true;
	return !ps__event_watch(awaited(q->front), &q->watch);
}

/* The queue whose front was enqueued first, of those that may be run; NULL: there is none. */
static struct cpu_queue *pick(struct cpu_worker *worker, bool watch)
{
	struct cpu_queue *first = NULL;
	for (struct cpu_queue *q = worker->queues; q; q = q->next) {
		if (!q->front)
			q->front = ps__ring_front(&q->ring);
		if (q->front && (!first || q->front->place < first->front->place) && ready(q, watch))
			first = q;
	}
	return first;
}

static void run(const struct cpu_worker *worker, struct cpu_queue *q)
{
	const struct cpu_command *command = q->front;
	ps_timeline *timeline = &q->queue->timeline;
	ps_status status = PS_OK;
	if (q->watched)
		ps__event_unwatch(awaited(command), &q->watch);
	q->watched = false;
	if (ps__timeline_status(timeline) == PS_OK) {
		if (command->kernel) {
			pthread_mutex_lock(&worker->device->busy);
			status = command->kernel(worker->device, command + 1);
			pthread_mutex_unlock(&worker->device->busy);
		} else {
			status = ps_event_wait(awaited(command), 0);
		}
	}
	if (status != PS_OK)
		ps__timeline_fail(timeline, command->value, status);
	ps__timeline_complete(timeline, command->value);
	ps__ring_pop(&q->ring);
	q->front = NULL;
}

/* Takes in queues that arrived and lets go of those that leave; false: the thread is to end. */
static bool take_changes(struct cpu_worker *worker)
{
	pthread_mutex_lock(&worker->mutex);
	atomic_store(&worker->changed, false);
	struct cpu_queue **at = &worker->queues;
	while (*at)
		at = &(*at)->next;
	*at = worker->arrived;
	worker->arrived = NULL;
	for (at = &worker->queues; *at;) {
		struct cpu_queue *q = *at;
		if (!q->leaving) {
			at = &q->next;
			continue;
		}
		*at = q->next;
		q->gone = true;
	}
	pthread_cond_broadcast(&worker->cond);
	bool stop = worker->stop;
	pthread_mutex_unlock(&worker->mutex);
	return !stop;
}

/*
 * Lets others have the core for a moment, which costs little where nobody wants it for long. Another program that
 * computes would keep it for milliseconds; after one did, the core is not offered for a while.
 */
static void offer_core(int64_t now, int64_t *keep_until)
{
	if (now < *keep_until)
		return;
	sched_yield();
	int64_t after = ps_clock_ns();
	if (after - now > LONG_AWAY_NS)
		*keep_until = after + KEEP_NS;
}

static void serve(struct cpu_worker *worker)
{
	enum { BUSY, LINGERING, HUSHED } state = BUSY;
	int64_t idle_since = 0, keep_until = 0;
	for (;;) {
		if (atomic_load(&worker->changed) && !take_changes(worker))
			return;
		struct cpu_queue *q = pick(worker, state == HUSHED);
		if (q) {
			run(worker, q);
			state = BUSY;
		} else if (state == HUSHED) {
			ps__bell_wait(&worker->bell);
			state = BUSY;
		} else {
			int64_t now = ps_clock_ns();
			if (state == BUSY)
				idle_since = now;
			state = LINGERING;
			if (now - idle_since < LINGER_NS) {
				offer_core(now, &keep_until);
			} else {
				ps__bell_hush(&worker->bell);
				state = HUSHED;
			}
		}
	}
}

static void *thread_main(void *argument)
{
	struct cpu_worker *worker = argument;
	const struct cpu_device *device = worker->device;
	ps__thread_name(worker->name);
	/* Binding is an optimisation: where the system refuses it, the thread runs unbound. */
	(void)hwloc_set_cpubind(device->topology, device->cores, HWLOC_CPUBIND_THREAD);
	if (!device->reference)
		ps__fast_thread_start(device);
	serve(worker);
	return NULL;
}

static void change(struct cpu_worker *worker)
{
	atomic_store(&worker->changed, true);
	pthread_mutex_unlock(&worker->mutex);
	ps__bell_ring(&worker->bell);
}

void ps__cpu_worker_add(struct cpu_worker *worker, struct cpu_queue *queue)
{
	pthread_mutex_lock(&worker->mutex);
	queue->watch.bell = &worker->bell;
	queue->next = worker->arrived;
	worker->arrived = queue;
	change(worker);
}

void ps__cpu_worker_remove(struct cpu_worker *worker, struct cpu_queue *queue)
{
	pthread_mutex_lock(&worker->mutex);
	queue->leaving = true;
	change(worker);
	pthread_mutex_lock(&worker->mutex);
	while (!queue->gone)
		pthread_cond_wait(&worker->cond, &worker->mutex);
	pthread_mutex_unlock(&worker->mutex);
}

static ps_status init(struct cpu_worker *worker)
{
	PS_TRY(ps__bell_init(&worker->bell));
	if (pthread_mutex_init(&worker->mutex, NULL)) {
		ps__bell_finish(&worker->bell);
		return ps_fail(PS_ENOMEM, "cannot create a mutex");
	}
	if (pthread_cond_init(&worker->cond, NULL)) {
		pthread_mutex_destroy(&worker->mutex);
		ps__bell_finish(&worker->bell);
		return ps_fail(PS_ENOMEM, "cannot create a condition variable");
	}
	return PS_OK;
}

static void finish(struct cpu_worker *worker)
{
	pthread_cond_destroy(&worker->cond);
	pthread_mutex_destroy(&worker->mutex);
	ps__bell_finish(&worker->bell);
	free(worker);
}

ps_status ps__cpu_worker_create(struct cpu_worker **out, struct cpu_device *device, const char *name)
{
	*out = NULL;
	struct cpu_worker *worker = calloc(1, sizeof *worker);
	if (!worker)
		return ps_fail(PS_ENOMEM, "out of memory for the thread of %s", name);
	worker->device = device;
	snprintf(worker->name, sizeof worker->name, "%.15s", name);
	ps_status status = init(worker);
	if (status != PS_OK) {
		free(worker);
		return status;
	}
	int error = pthread_create(&worker->thread, NULL, thread_main, worker);
	if (error) {
		finish(worker);
		return ps_fail(PS_ENOMEM, "cannot start the thread of %s: %s", name, strerror(error));
	}
	*out = worker;
	return PS_OK;
}

void ps__cpu_worker_destroy(struct cpu_worker *worker)
{
	pthread_mutex_lock(&worker->mutex);
	worker->stop = true;
	change(worker);
	pthread_join(worker->thread, NULL);
	finish(worker);
}
