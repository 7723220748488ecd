/*
 * The contract for backend authors, in the tree or out of it. docs/add-a-backend.md walks through one.
 *
 * A backend is one constant table. A built-in backend stands in core/registry.c; a module exports a function
 * `const ps_backend *ps_backend_entry(void)` and is found as penstock-NAME.so in a folder of PENSTOCK_BACKEND_PATH or
 * in LIBDIR/penstock. Modules stay loaded until the process ends.
 *
 * Programs that only use devices need nothing from here.
 */
#ifndef PENSTOCK_BACKEND_H
#define PENSTOCK_BACKEND_H

#include <penstock/device.h>
#include <penstock/ops.h>
#include <penstock/tune.h>

#include <pthread.h>

#ifdef __cplusplus
/* A backend may be written in C++ before C++23: the atomic members are opaque to it, of the same size. */
#define PS_ATOMIC(type) type
extern "C" {
#else
#include <stdatomic.h>
#define PS_ATOMIC(type) _Atomic(type)
#endif

/* Raised whenever the table, the structs below or the op table change. */
#define PS_BACKEND_ABI 4
#define PS_BACKEND_ENTRY "ps_backend_entry"

typedef struct ps_backend ps_backend;
struct ps__watch; /* core/bell.h */

/*
 * The timeline of a queue (or of a link). Values are handed out by ps__timeline_next when something is enqueued and
 * completed in ascending order; some may be skipped. After a failure at value v, points below v stay reached and all
 * later ones have failed, also those that are handed out afterwards, until ps__timeline_reset. The points of the last
 * failure stay failed after a reset, so that whoever waits late is told all the same.
 */
struct ps_timeline {
	ps_queue *queue;    /* NULL for a timeline that belongs to no queue */
	const char *label;  /* for messages; borrowed from the owner */
	uint64_t submitted; /* the last value handed out; touched by the enqueuing thread only */
	PS_ATOMIC(uint64_t) completed;
	PS_ATOMIC(int) failed;      /* the ps_status that the timeline is in now */
	PS_ATOMIC(int) last_failed; /* that of the last failure, which a reset leaves */
	uint64_t failed_from;       /* its first point; this and the rest are guarded by `mutex` */
	uint64_t failed_to;         /* its last point; UINT64_MAX before the reset */
	char message[1024];
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	PS_ATOMIC(uint64_t) wanted;  /* the lowest value that a thread sleeps for; UINT64_MAX: none does */
	PS_ATOMIC(uint64_t) watched; /* the lowest value that a watch is set on, likewise */
	struct ps__watch *watches;
};

ps_status ps__timeline_init(ps_timeline *timeline, ps_queue *queue, const char *label) PS_WARN_UNUSED;
void ps__timeline_finish(ps_timeline *timeline);
/* The value that completes with the command being enqueued now. */
uint64_t ps__timeline_next(ps_timeline *timeline);
/* Marks all points up to `value` as reached. Called by whoever runs the commands. */
void ps__timeline_complete(ps_timeline *timeline, uint64_t value);
/*
 * Records a failure, with the calling thread's message, at the command with `value`; ignored while the timeline is
 * failed already. The caller goes on to complete the value: a failed command is over too.
 */
void ps__timeline_fail(ps_timeline *timeline, uint64_t value, ps_status status);
/* The status that the timeline is in: PS_OK, or that of a failure since which there was no reset. */
ps_status ps__timeline_status(const ps_timeline *timeline);
/* Waits until all values handed out are completed, whatever became of them. For the enqueuing thread. */
void ps__timeline_drain(ps_timeline *timeline);
/* Drains, then ends a failure: what is handed out from now on is good again. For the enqueuing thread. */
void ps__timeline_reset(ps_timeline *timeline);

struct ps_device {
	const ps_backend *backend;
	ps_device_info info; /* filled by device_open, but for `backend` */
	void *impl;          /* the backend's */
	PS_ATOMIC(int) holders;
	PS_ATOMIC(uint64_t) allocated, peak;
};

struct ps_buffer {
	ps_device *device;
	uint64_t bytes;
	void *impl; /* the host address on host-addressable devices, else the backend's */
};

/* Host memory that a device's copies reach fastest, for a link's chunks. */
typedef struct ps_pinned {
	ps_device *device;
	uint64_t bytes;
	void *address; /* aligned to any element */
	void *impl;    /* the backend's */
} ps_pinned;

struct ps_queue {
	ps_device *device;
	void *impl; /* the backend's */
	ps_timeline timeline;
	ps_math math; /* what the device has, by has_math */
	ps_graphs graphs;
	char note[256]; /* see ps_queue_note; guarded by the timeline's mutex */
	bool dry; /* set while ops are only asked for: functions check and refuse as always, but enqueue nothing */
	char label[64];
};

/* Leaves a note for the user, unless there is one. For any thread. */
void ps__queue_note(ps_queue *queue, const char *format, ...) PS_PRINTF(2, 3);

/* Enqueues one op whose arguments passed the shared check, or refuses it with PS_ENOTSUP and enqueues nothing. */
typedef ps_status (*ps_op_fn)(ps_queue *queue, const void *arguments);

/* Called once for each device with info filled in. */
typedef ps_status (*ps_device_visit)(void *payload, const ps_device_info *info);

/* Entries are mandatory unless marked optional. Strings are constant. */
struct ps_backend {
	uint32_t abi;     /* PS_BACKEND_ABI */
	uint32_t size;    /* sizeof(ps_backend) */
	const char *name; /* the part of device names before ":"; at most 15 bytes */
	const char *description;

	/* Visits the devices that can be opened; an error says why there are none. */
	ps_status (*enumerate)(ps_device_visit visit, void *payload);
	/* `spec` is what follows "name:", or "" without it. Fills device->info and device->impl. */
	ps_status (*device_open)(ps_device *device, const char *spec);
	void (*device_close)(ps_device *device);

	/* device and bytes are set; fills impl. Out of memory is PS_ENOMEM. */
	ps_status (*buffer_create)(ps_buffer *buffer);
	void (*buffer_destroy)(ps_buffer *buffer);

	/* device, timeline and label are set; fills impl. */
	ps_status (*queue_create)(ps_queue *queue);
	/* Called on an idle queue. */
	void (*queue_destroy)(ps_queue *queue);
	/*
	 * Waits for an event of any queue, without blocking the caller if that can be. An event that has failed, or
	 * fails later, fails the queue with the event's status and message (ps_event_wait gives both). Not called for
	 * events that were reached.
	 */
	ps_status (*queue_wait)(ps_queue *queue, ps_event event);
	/* Tensors are contiguous, not empty, and checked. */
	ps_status (*queue_write)(ps_queue *queue, ps_tensor to, const void *from);
	ps_status (*queue_read)(ps_queue *queue, void *to, ps_tensor from);
	ps_status (*queue_copy)(ps_queue *queue, ps_tensor to, ps_tensor from);
	ps_status (*queue_zero)(ps_queue *queue, ps_tensor tensor);
	ps_status (*queue_timestamp)(ps_queue *queue, int64_t *ns);

	/*
	 * Optional; the default is no. Can a queue of `to`, a device of this backend, copy from buffers of `from`, a
	 * different device, with no memory in between? from->backend == to->backend tells a device of the same backend.
	 */
	bool (*can_copy_from)(const ps_device *to, const ps_device *from);
	/* Likewise, but the queue is on `from`, which is the device of this backend. */
	bool (*can_copy_to)(const ps_device *from, const ps_device *to);
	/*
	 * Optional; the default is no. Do queues of `from`, a device of this backend, and of `to` wait for each other's
	 * points with no thread of the host in between, and transfer memory that pinned_create made when they come to
	 * it? A staged link between them is then enqueued as a whole.
	 */
	bool (*can_relay)(const ps_device *from, const ps_device *to);
	/*
	 * Optional, both or neither; the default has none (PS_ENOTSUP). device and bytes are set; fills address and
	 * impl.
	 */
	ps_status (*pinned_create)(ps_pinned *pinned);
	void (*pinned_destroy)(ps_pinned *pinned);

	/*
	 * Optional, all or none; without them the ops of command lists are enqueued one by one, which a backend may
	 * also ask for by leaving *out as it is, NULL.
	 *
	 * list_compile makes what will be submitted of a list (ps_list_count, ps_list_op, ps__list_arguments), whose
	 * ops were asked for under the queue's math of that time. list_submit enqueues all of it, and hands out a value
	 * of the timeline for each op, in their order: what fails fails at the value of its op where that can be told,
	 * else at an earlier one of the list. `step` takes the place of that in the ops' random places. list_release
	 * is called when all values that were handed out are completed, and before queue_destroy.
	 */
	ps_status (*list_compile)(void **out, ps_queue *queue, ps_list *list);
	ps_status (*list_submit)(ps_queue *queue, void *compiled, uint32_t step);
	void (*list_release)(ps_queue *queue, void *compiled);

	/* Optional; the default refuses. Searches, on a queue of its own, and waits for the end. Arguments are checked.
	 */
	ps_status (*tune)(ps_queue *queue, ps_tuning *tuning);

	/*
	 * Optional; the default is PS_MATH_F32 alone. Can queues of the device multiply fp32 matrices like this? A
	 * device with PS_MATH_BF16 also takes BF16 tensors wherever ops.h allows them; others are not given any.
	 */
	bool (*has_math)(const ps_device *device, ps_math math);

	/* PS_OP_COUNT functions by op id; NULL for an op that the backend lacks. */
	const ps_op_fn *ops;
};

/* What a module exports. */
typedef const ps_backend *(*ps_backend_entry_fn)(void);

/*
 * The arguments of entry `index` of a list for a step, valid until they are asked for again or something is recorded.
 */
const void *ps__list_arguments(ps_list *list, size_t index, uint32_t step);

/* Could two calls run in either order: does neither write memory that an operand of the other one has? */
bool ps__ops_independent(ps_op a, const void *a_arguments, ps_op b, const void *b_arguments);

/* What a backend says of an op it will not take: names op, device and the first tensor. Returns PS_ENOTSUP. */
ps_status ps__op_refuse(const ps_queue *queue, ps_op op, ps_tensor tensor, const char *why);

#ifdef __cplusplus
}
#endif
#endif
