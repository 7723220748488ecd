/* A device, a queue and tensors of doubles in and out of it, for tests that call ops and look at numbers. */
#ifndef PS_TESTS_SUPPORT_RIG_H
#define PS_TESTS_SUPPORT_RIG_H

#include <penstock/ops.h>

#include "support/check.h"

enum { RIG_BUFFERS = 64 };

struct rig {
	ps_queue *queue;
	ps_buffer *buffers[RIG_BUFFERS];
	int count;
};

/* Opens the device with this name. */
void rig_open(struct rig *rig, const char *name);
/* Frees all tensors too. */
void rig_close(struct rig *rig);
/* False, with a line that says so, when the device lacks the op. */
bool rig_has(const struct rig *rig, ps_op op);

/* A contiguous tensor in a buffer of its own, with these values (NULL: random ones in [-1, 1), I32: zeros). */
ps_tensor rig_tensor(struct rig *rig, ps_dtype dtype, int rank, const int64_t *dims, const double *values);
#define RIG_DIMS(...)                                                          \
	(int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) \
	{                                                                      \
		__VA_ARGS__                                                    \
	}

/* Copies all elements of a contiguous tensor, as doubles. */
void rig_set(struct rig *rig, ps_tensor tensor, const double *values);
void rig_get(struct rig *rig, ps_tensor tensor, double *values);
/* The raw bytes, and whether those of two tensors of one shape are the same. */
void rig_bytes(struct rig *rig, ps_tensor tensor, void *bytes);
bool rig_same_bits(struct rig *rig, ps_tensor a, ps_tensor b);

/* Runs an op and waits for it; fails the test if either fails. */
#define rig_run(rig, op, ...)                                    \
	do {                                                     \
		check_ok(ps_run((rig)->queue, op, __VA_ARGS__)); \
		check_ok(ps_queue_finish((rig)->queue));         \
	} while (0)

#endif
