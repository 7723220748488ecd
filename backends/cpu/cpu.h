/*
 * What the reference and the fast CPU backend share: cores, memory, and queues, whose commands one thread for each
 * device runs. A command is a kernel and a copy of its arguments.
 *
 * An op's function, called by the enqueuing thread, refuses what it cannot run and otherwise launches its kernel:
 *
 *   static ps_status relu_fwd_kernel(const struct cpu_device *device, const void *arguments) { … }
 *   CPU_OP(relu_fwd)
 *
 * The kernel runs on the device's thread, on up to device->threads cores, and alone on its device. A kernel that fails
 * sets a message and returns the status, which fails the queue.
 */
#ifndef PS_BACKENDS_CPU_CPU_H
#define PS_BACKENDS_CPU_CPU_H

#include "core/backend.h"

#include <hwloc.h>

struct cpu_device {
	bool reference;
	int threads;               /* what a kernel may use */
	hwloc_topology_t topology; /* loaded once for each device */
	hwloc_cpuset_t cores;      /* all its processing units; kernels stay on them */
	hwloc_cpuset_t *core;      /* [threads], one for each thread */
	pthread_mutex_t busy;      /* held while a command runs */
	struct cpu_worker *worker;
	void *fast; /* the fast backend's own state (primitive cache), or NULL */
};

typedef ps_status (*cpu_kernel)(const struct cpu_device *device, const void *arguments);

/* Enqueues a kernel with at most CPU_ARGUMENT_BYTES of arguments; a dry queue takes it and does nothing. */
#define CPU_ARGUMENT_BYTES 1024
ps_status ps__cpu_launch(ps_queue *queue, cpu_kernel kernel, const void *arguments, size_t bytes);

/* An op function that launches NAME_kernel with no refusals of its own. */
#define CPU_OP(name)                                                                            \
	_Static_assert(sizeof(ps_args_##name) <= CPU_ARGUMENT_BYTES, "arguments of " #name);    \
	static ps_status name(ps_queue *queue, const void *arguments)                           \
	{                                                                                       \
		return ps__cpu_launch(queue, name##_kernel, arguments, sizeof(ps_args_##name)); \
	}

/* The tensor's first element in host memory. */
static inline void *ps__cpu_data(ps_tensor tensor)
{
	return (char *)tensor.buffer->impl + tensor.offset;
}

extern const ps_op_fn ps__ref_ops[PS_OP_COUNT];
extern const ps_op_fn ps__fast_ops[PS_OP_COUNT];

/*
 * The fast backend's part of opening and closing a device, and of starting its thread (which is bound to the device's
 * cores already).
 */
ps_status ps__fast_device_open(struct cpu_device *device);
void ps__fast_device_close(struct cpu_device *device);
void ps__fast_thread_start(const struct cpu_device *device);

/* The shared entries of both tables. */
ps_status ps__cpu_enumerate(ps_device_visit visit, void *payload);
ps_status ps__ref_enumerate(ps_device_visit visit, void *payload);
ps_status ps__cpu_device_open(ps_device *out, const char *spec);
ps_status ps__ref_device_open(ps_device *out, const char *spec);
void ps__cpu_device_close(ps_device *out);
ps_status ps__cpu_buffer_create(ps_buffer *buffer);
void ps__cpu_buffer_destroy(ps_buffer *buffer);
ps_status ps__cpu_queue_create(ps_queue *queue);
void ps__cpu_queue_destroy(ps_queue *queue);
ps_status ps__cpu_queue_wait(ps_queue *queue, ps_event event);
ps_status ps__cpu_queue_write(ps_queue *queue, ps_tensor to, const void *from);
ps_status ps__cpu_queue_read(ps_queue *queue, void *to, ps_tensor from);
ps_status ps__cpu_queue_copy(ps_queue *queue, ps_tensor to, ps_tensor from);
ps_status ps__cpu_queue_zero(ps_queue *queue, ps_tensor tensor);
ps_status ps__cpu_queue_timestamp(ps_queue *queue, int64_t *ns);
/* All host-addressable devices can be read and written directly. */
bool ps__cpu_can_copy_from(const ps_device *to, const ps_device *from);
bool ps__cpu_can_copy_to(const ps_device *from, const ps_device *to);

#endif
