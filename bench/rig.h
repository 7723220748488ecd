/* What the benches of ops share: a device with a queue, filled tensors, and the time of one op. */
#ifndef PS_BENCH_RIG_H
#define PS_BENCH_RIG_H

#include "bench/measure.h"

#include <penstock/device.h>
#include <penstock/ops.h>

enum { BENCH_ARGUMENT_BYTES = 1024 };

struct bench_rig {
	ps_device *device;
	ps_queue *queue;
	ps_buffer **buffers;
	int buffer_count;
	ps_status status; /* the first failure of bench_tensor; what comes after it is skipped */
};

ps_status bench_rig_open(struct bench_rig *out, const char *device) PS_WARN_UNUSED;
/* Takes a zeroed rig and one whose opening failed. */
void bench_rig_close(struct bench_rig *rig);

/* Ordinary numbers of either sign below 1, or integers in [0, limit), always the same. */
void bench_fill(void *values, ps_dtype dtype, size_t count, int64_t limit);
/* A contiguous tensor with values of either sign below 1. */
ps_tensor bench_tensor(struct bench_rig *rig, ps_dtype dtype, int rank, const int64_t *dims);
/* int32 in [0, limit). */
ps_tensor bench_tokens(struct bench_rig *rig, int64_t rows, int64_t time, int64_t limit);
ps_tensor bench_zeros(struct bench_rig *rig, int64_t count);
/* Frees all tensors but the first `kept`. */
void bench_tensors_free(struct bench_rig *rig, int kept);
#define BENCH_TENSOR(rig, dtype, ...)                                                           \
	bench_tensor((rig), (dtype), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), \
	             (const int64_t[]){__VA_ARGS__})

/* An op with its arguments, run as often in one sample as makes it long enough to be timed. */
struct bench_op {
	struct bench_rig *rig;
	ps_op op;
	size_t bytes;
	_Alignas(16) unsigned char arguments[BENCH_ARGUMENT_BYTES];
	int repeat;
	/* What it must do: bytes read and written, and operations; 0 where it is not what bounds the op. */
	double necessary_bytes, flops;
};

/* The necessary bytes are those of all its tensors. */
struct bench_op bench_op_make(struct bench_rig *rig, ps_op op, const void *arguments, size_t bytes, double flops);
/* BENCH_OP(rig, relu_fwd, flops, .x = x, .y = y) */
#define BENCH_OP(rig, op, flops, ...) \
	bench_op_make((rig), PS_OP_##op, &(const ps_args_##op){__VA_ARGS__}, sizeof(ps_args_##op), (flops))

/*
 * Seconds of `count` runs one behind the other, by the host's clock until the queue is done: a timestamp of the queue's
 * own may come late, and then a run looks faster than it was.
 */
ps_status bench_op_time(const struct bench_op *op, int count, double *seconds) PS_WARN_UNUSED;
/* How often to repeat in one sample what takes so long once. */
int bench_repeats(double seconds);
/* bench_case.sample of a struct bench_op: seconds of one run. */
ps_status bench_op_sample(void *op, int round, double *seconds) PS_WARN_UNUSED;

#endif
