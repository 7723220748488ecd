/*
 * A bell wakes the one thread that serves several sources of work. Whoever has work for it publishes that first and
 * rings then; the thread goes
 *
 *   for (;;) {
 *           if (work()) continue;
 *           ps__bell_hush(&bell);      a ring counts from here on
 *           if (work()) continue;      what was published before
 *           ps__bell_wait(&bell);
 *   }
 *
 * As long as the thread finds work, a ring costs the other side one load.
 */
#ifndef PS_CORE_BELL_H
#define PS_CORE_BELL_H

#include <penstock/device.h>

#include <pthread.h>
#include <stdatomic.h>

struct ps__bell {
	_Atomic(bool) rung;
	pthread_mutex_t mutex; /* for sleeping only */
	pthread_cond_t cond;
};

/* PS_ENOMEM when the system gives no mutex. */
ps_status ps__bell_init(struct ps__bell *bell) PS_WARN_UNUSED;
void ps__bell_finish(struct ps__bell *bell);

/* From any thread. What was published is a sequentially consistent store, as those of atomics are. */
void ps__bell_ring(struct ps__bell *bell);
/* For the thread that the bell wakes. */
void ps__bell_hush(struct ps__bell *bell);
void ps__bell_wait(struct ps__bell *bell);

/* Rings a bell when an event is over. Zero but for the bell. */
struct ps__watch {
	struct ps__bell *bell;
	struct ps__watch *next; /* on the timeline */
	_Atomic(bool) set;
};

/*
 * Sets the watch: it rings once, at the latest when the event is reached or has failed, and is not set any more then.
 * False: the event is over, and the watch was not set.
 */
bool ps__event_watch(ps_event event, struct ps__watch *watch);
/* After any watch on the event, set or not any more: from here on nobody looks at watch and bell. */
void ps__event_unwatch(ps_event event, struct ps__watch *watch);

#endif
