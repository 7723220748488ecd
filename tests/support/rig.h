/* A device, a queue and tensors of doubles in and out of it, for tests that call ops and look at numbers. */
#ifndef PS_TESTS_SUPPORT_RIG_H
#define PS_TESTS_SUPPORT_RIG_H

#include <penstock/ops.h>

#include <check.h>

/* Fails the test with the library's message unless the status is PS_OK. */
#define CHECK_OK(expression) ck_assert_msg((expression) == PS_OK, "%s: %s", #expression, ps_error_message())

enum { RIG_BUFFERS = 64 };

struct rig {
	ps_queue *queue;
	ps_buffer *buffers[RIG_BUFFERS];
	int count;
};

void rig_open(struct rig *rig, const char *device);
/* Frees all tensors too. */
void rig_close(struct rig *rig);

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
		CHECK_OK(ps_run((rig)->queue, op, __VA_ARGS__)); \
		CHECK_OK(ps_queue_finish((rig)->queue));         \
	} while (0)

#endif
