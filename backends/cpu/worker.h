/*
 * The thread of a CPU device. It runs the commands of all the device's queues, in the order in which they were
 * enqueued, but for those that wait for something: behind a wait that is not over, a queue stays behind.
 */
#ifndef PS_BACKENDS_CPU_WORKER_H
#define PS_BACKENDS_CPU_WORKER_H

#include "backends/cpu/cpu.h"

#include "core/bell.h"
#include "core/ring.h"

/* A command, followed by its arguments. */
struct cpu_command {
	_Alignas(max_align_t) cpu_kernel kernel; /* NULL: a wait, whose argument is the event */
	uint64_t value;                          /* on the queue's timeline */
	uint64_t place;                          /* among all commands of the device */
};

_Static_assert(sizeof(struct cpu_command) + CPU_ARGUMENT_BYTES <= PS__RING_ITEM, "a command fits into the ring");

struct cpu_queue {
	ps_queue *queue;
	struct ps__ring ring;

	/* The thread's own. */
	const struct cpu_command *front; /* NULL: not looked for yet, or none */
	bool watched;                    /* the event that `front` waits for is or was watched */
	struct ps__watch watch;
	struct cpu_queue *next;

	bool leaving, gone; /* guarded by the worker's mutex */
};

struct cpu_worker {
	struct cpu_device *device;
	char name[16]; /* of the thread; the device may be given another name once it is open */
	pthread_t thread;
	struct ps__bell bell;
	_Atomic(uint64_t) places; /* handed out to commands */
	struct cpu_queue *queues; /* the thread's own */
	_Atomic(bool) changed;    /* there is something new in what follows, which `mutex` guards */
	struct cpu_queue *arrived;
	bool stop;
	pthread_mutex_t mutex;
	pthread_cond_t cond; /* a queue is gone */
};

/* The thread, in messages too, is called `name`. The caller owns *out. */
ps_status ps__cpu_worker_create(struct cpu_worker **out, struct cpu_device *device, const char *name) PS_WARN_UNUSED;
/* For a worker without queues. */
void ps__cpu_worker_destroy(struct cpu_worker *worker);

void ps__cpu_worker_add(struct cpu_worker *worker, struct cpu_queue *queue);
/* Takes an idle queue away; when it returns, the thread does not know it any more. */
void ps__cpu_worker_remove(struct cpu_worker *worker, struct cpu_queue *queue);

#endif
