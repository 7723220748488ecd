/*
 * The contract for backend authors. docs/add-a-backend.md walks through one.
 *
 * A backend is one constant table. A built-in backend stands in core/registry.c; a module exports a function
 * `const ps_backend *ps_backend_entry(void)` and is found as penstock-NAME.so in LIBDIR/penstock or in a folder of
 * PENSTOCK_BACKEND_PATH. Modules stay loaded until the process ends.
 */
#ifndef PS_CORE_BACKEND_H
#define PS_CORE_BACKEND_H

#include <penstock/device.h>
#include <penstock/ops.h>

#include <pthread.h>
#include <stdatomic.h>

/* Raised whenever the table, the structs below or the op table change. */
#define PS_BACKEND_ABI 1
#define PS_BACKEND_ENTRY "ps_backend_entry"

typedef struct ps_backend ps_backend;

/*
 * The timeline of a queue (or of a link). Values are handed out by ps__timeline_next when something is enqueued and
 * completed in order. After a failure at value v, points below v stay reached, and all later ones count as failed.
 */
struct ps_timeline {
	ps_queue *queue;    /* NULL for a timeline that belongs to no queue */
	uint64_t submitted; /* the last value handed out; touched by the enqueuing thread only */
	_Atomic uint64_t completed;
	_Atomic int failed; /* a ps_status */
	uint64_t failed_at; /* valid once failed is set */
	char message[1024]; /* likewise */
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	_Atomic int waiters;
};

ps_status ps__timeline_init(ps_timeline *timeline, ps_queue *queue);
void ps__timeline_finish(ps_timeline *timeline);
/* The value that completes with the command being enqueued now. */
uint64_t ps__timeline_next(ps_timeline *timeline);
/* Marks all points up to `value` as reached. Called by whoever runs the commands. */
void ps__timeline_complete(ps_timeline *timeline, uint64_t value);
/* Records the first failure, with the calling thread's message, at the command with `value`. Later ones are ignored. */
void ps__timeline_fail(ps_timeline *timeline, uint64_t value, ps_status status);
/* The status of the failure, PS_OK if there was none. */
ps_status ps__timeline_status(const ps_timeline *timeline);

struct ps_device {
	const ps_backend *backend;
	ps_device_info info; /* filled by device_open, but for `backend` */
	void *impl;          /* the backend's */
	_Atomic int holders;
	_Atomic uint64_t allocated, peak;
};

struct ps_buffer {
	ps_device *device;
	uint64_t bytes;
	void *impl; /* the host address on host-addressable devices, else the backend's */
};

struct ps_queue {
	ps_device *device;
	void *impl; /* the backend's */
	ps_timeline timeline;
	bool dry; /* set while ops are only asked for: functions check and refuse as always, but enqueue nothing */
	char label[64];
};

/* Enqueues one op whose arguments passed the shared check, or refuses it with PS_ENOTSUP and enqueues nothing. */
typedef ps_status (*ps_op_fn)(ps_queue *queue, const void *arguments);

/* Called once for each device with info filled in. */
typedef ps_status (*ps_device_visit)(void *payload, const ps_device_info *info);

/* Entries are mandatory unless marked optional. Strings are constant. */
struct ps_backend {
	uint32_t abi;     /* PS_BACKEND_ABI */
	uint32_t size;    /* sizeof(ps_backend) */
	const char *name; /* the part of device names before ":" */
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
	/* Waits for an event of any queue, without blocking the caller if that can be. Not called for reached events.
	 */
	ps_status (*queue_wait)(ps_queue *queue, ps_event event);
	/* Tensors are contiguous and checked. */
	ps_status (*queue_write)(ps_queue *queue, ps_tensor to, const void *from);
	ps_status (*queue_read)(ps_queue *queue, void *to, ps_tensor from);
	ps_status (*queue_copy)(ps_queue *queue, ps_tensor to, ps_tensor from);
	ps_status (*queue_zero)(ps_queue *queue, ps_tensor tensor);
	ps_status (*queue_timestamp)(ps_queue *queue, int64_t *ns);

	/* Optional; the default is no. Can a queue of `to` copy from buffers of `from`, a different device? */
	bool (*can_copy_from)(const ps_device *to, const ps_device *from);

	/* PS_OP_COUNT functions by op id; NULL for an op that the backend lacks. */
	const ps_op_fn *ops;
};

/* The registry's view of a backend by name; PS_ENODEV with the reason when there is none or it did not load. */
ps_status ps__backend_find(const ps_backend **out, const char *name, size_t length);

/* For device_open: opens a device on a table that no registry knows (tests, wrappers). */
ps_status ps__device_open_on(ps_device **out, const ps_backend *backend, const char *spec);

/* The shared check of an op's arguments: PS_EINVAL with op, argument and shapes. */
ps_status ps__op_check(const ps_device *device, ps_op op, const void *arguments);
/* Bytes of the op's argument struct, and where its ps_dropout stands in it (-1: it has none). */
size_t ps__op_bytes(ps_op op);
int ps__op_dropout_offset(ps_op op);

/* What a backend says of an op it will not take: names op, device and the first tensor. Returns PS_ENOTSUP. */
ps_status ps__op_refuse(const ps_queue *queue, ps_op op, ps_tensor tensor, const char *why);

#endif
