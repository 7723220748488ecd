/*
 * Devices, buffers, queues and events.
 *
 * A device owns what is created on it; it stays alive until the last buffer and queue on it are destroyed, in
 * whatever order that happens. All work goes through queues: each runs its commands in order and asynchronously to
 * the caller and to other queues. An event is a plain value, a point on a queue's 64-bit timeline; there is nothing
 * to create or destroy. A command that fails fails its queue: what comes after it is skipped (or, where
 * the device finds out late, leaves undefined contents), whoever waits for a later point receives the same status and
 * message, and nothing hangs.
 *
 * Threads: different objects may be used from different threads; one queue is used by one thread at a time. Events
 * may be waited for from anywhere while their queue exists.
 */
#ifndef PENSTOCK_DEVICE_H
#define PENSTOCK_DEVICE_H

#include <penstock/status.h>
#include <penstock/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ps_device ps_device;
typedef struct ps_queue ps_queue;
typedef struct ps_timeline ps_timeline;

typedef struct ps_device_info {
	char name[64];             /* canonical, as ps_device_open takes it: "cpu:0-1" */
	char backend[16];          /* "cpu" */
	char description[128];     /* "AMD EPYC, 2 of 2 cores" */
	uint64_t memory_bytes;     /* what a process may use on it; 0 when unknown */
	uint64_t max_buffer_bytes; /* largest single buffer */
	int compute_units;         /* cores */
	bool host_addressable;     /* buffers are host memory */
	char note[192];            /* what else a user should know, as one line; mostly "" */
} ps_device_info;

/*
 * Opens a device by name: `ref`, `cpu`, `cpu:0-3`, `cuda:0`, `opencl:NAME`, …. A device that cannot be opened is an
 * error (PS_ENODEV) whose message names it, never a substitute. The caller owns *out.
 */
ps_status ps_device_open(ps_device **out, const char *name) PS_WARN_UNUSED;
/* Gives up the caller's hold; takes NULL. */
void ps_device_close(ps_device *device);
const ps_device_info *ps_device_get_info(const ps_device *device);
/* Bytes in buffers now and the most there have been; either pointer may be NULL. */
void ps_device_get_memory(const ps_device *device, uint64_t *now, uint64_t *peak);

/* One line of what `penstock devices` lists: a device that can be opened, or why a backend has none. */
typedef struct ps_device_entry {
	ps_device_info info; /* only `backend` is set when status is not PS_OK */
	ps_status status;
	char reason[256];
} ps_device_entry;

/* All devices of all backends. The caller frees *out with ps_device_list_free. */
ps_status ps_device_list(ps_device_entry **out, size_t *count) PS_WARN_UNUSED;
void ps_device_list_free(ps_device_entry *entries);

/* Uninitialised memory on one device. bytes > 0. The caller owns *out. */
ps_status ps_buffer_create(ps_buffer **out, ps_device *device, uint64_t bytes) PS_WARN_UNUSED;
/* The caller sees to it that no queue uses the buffer any more. Takes NULL. */
void ps_buffer_destroy(ps_buffer *buffer);
uint64_t ps_buffer_bytes(const ps_buffer *buffer);
ps_device *ps_buffer_device(const ps_buffer *buffer);

/* A point on a timeline. The zero value is a point that has always been reached. */
typedef struct ps_event {
	ps_timeline *timeline;
	uint64_t value;
} ps_event;

/* `label` is for messages and traces; it is copied. The caller owns *out. */
ps_status ps_queue_create(ps_queue **out, ps_device *device, const char *label) PS_WARN_UNUSED;
/*
 * Waits until the queue is idle. The caller sees to it that nobody waits for its points any more, nor a queue or link
 * that was told to. Takes NULL.
 */
void ps_queue_destroy(ps_queue *queue);
ps_device *ps_queue_device(const ps_queue *queue);
const char *ps_queue_label(const ps_queue *queue);

/*
 * How a queue multiplies fp32 matrices (gemm, and where the device likes attention): in fp32; in bf16, which rounds the
 * factors and adds up in fp32; or in tf32, likewise with 10 bits of mantissa in place of 7. X(name, text)
 */
#define PS_MATH_MAP(X)  \
	X(F32, "fp32")  \
	X(BF16, "bf16") \
	X(TF32, "tf32")

typedef enum ps_math {
#define PS_MATH_ENUM(name, text) PS_MATH_##name,
	PS_MATH_MAP(PS_MATH_ENUM)
#undef PS_MATH_ENUM
	        PS_MATH_COUNT
} ps_math;

/*
 * Decides for what is enqueued and recorded from now on; a list is submitted under what it was recorded under. A new
 * queue multiplies in fp32. PS_ENOTSUP where the device cannot.
 */
ps_status ps_queue_set_math(ps_queue *queue, ps_math math) PS_WARN_UNUSED;
ps_math ps_queue_math(const ps_queue *queue);

/*
 * Whether a device that can keeps command lists as graphs: what is submitted again and again is then enqueued as one
 * thing, with the same results. AUTO, which new queues have: where that is faster, and op by op where it does not work,
 * of which ps_queue_note tells. ON: a list that cannot be kept as one fails. OFF: op by op.
 */
typedef enum ps_graphs { PS_GRAPHS_AUTO, PS_GRAPHS_ON, PS_GRAPHS_OFF } ps_graphs;

/* For lists that are submitted for the first time from now on. PS_ENOTSUP: ON, and the device has no graphs. */
ps_status ps_queue_set_graphs(ps_queue *queue, ps_graphs graphs) PS_WARN_UNUSED;
/* What the queue does otherwise than one would expect, as one line; "" when there is nothing to say. Returns `text`. */
const char *ps_queue_note(ps_queue *queue, char *text, size_t size);

/* The point that is reached when all that has been enqueued so far is done. */
ps_event ps_queue_record(ps_queue *queue);
/* What is enqueued from now on starts after `event`, which may belong to any queue of any device. */
ps_status ps_queue_wait(ps_queue *queue, ps_event event) PS_WARN_UNUSED;

/*
 * Copies between host memory and a contiguous tensor. Asynchronous: the host memory must stay as it is until the
 * command is done.
 */
ps_status ps_queue_write(ps_queue *queue, ps_tensor to, const void *from) PS_WARN_UNUSED;
ps_status ps_queue_read(ps_queue *queue, void *to, ps_tensor from) PS_WARN_UNUSED;
/*
 * Copies contiguous elements of one shape and dtype. One of the two is on the queue's device, the other one too or on a
 * device that it reaches directly.
 */
ps_status ps_queue_copy(ps_queue *queue, ps_tensor to, ps_tensor from) PS_WARN_UNUSED;
/* Sets all bytes of a contiguous tensor to zero. */
ps_status ps_queue_zero(ps_queue *queue, ps_tensor tensor) PS_WARN_UNUSED;
/*
 * Stores the time (ps_clock_ns) at which the queue reaches this command; *ns stays valid until then. Times of a device
 * with a clock of its own may all be late by what the host took to see the first one; what is between them is right.
 */
ps_status ps_queue_timestamp(ps_queue *queue, int64_t *ns) PS_WARN_UNUSED;

/* Waits on the host. timeout_ns < 0 waits for ever; PS_ESTALL when the time is over; the queue's status if it failed.
 */
ps_status ps_event_wait(ps_event event, int64_t timeout_ns) PS_WARN_UNUSED;
/* True once the point is reached or the queue has failed before it. */
bool ps_event_done(ps_event event);
/* Waits for all that is enqueued; when it returns, be it with a failure, no command uses any memory any more. */
ps_status ps_queue_finish(ps_queue *queue) PS_WARN_UNUSED;
/* Waits until a failed queue has skipped its commands, then makes it usable again. */
void ps_queue_reset(ps_queue *queue);

/* Monotonic nanoseconds, the clock of all timestamps and traces. */
int64_t ps_clock_ns(void);

#ifdef __cplusplus
}
#endif
#endif
