/* What the bench programs share: a device with a queue, filled tensors, and the least time of several runs. */
#ifndef PS_BENCH_BENCH_H
#define PS_BENCH_BENCH_H

#include <penstock/device.h>
#include <penstock/ops.h>

struct bench {
	ps_device *device;
	ps_queue *queue;
	ps_status status; /* the first failure; what comes after it is skipped */
	double seconds;   /* for which one measurement is repeated */
};

/* Opens `name` and prints its description. */
void bench_open(struct bench *bench, const char *name);
/* Prints the failure, if there was one, and closes. Returns the exit status. */
int bench_close(struct bench *bench);

/* A contiguous tensor of the device with values of either sign around 1, or of int32 in [0, 1000). */
ps_tensor bench_tensor(struct bench *bench, ps_dtype dtype, int rank, const int64_t *dims);
void bench_free(ps_tensor tensor);

/* Least seconds that one run of the op took, measured on the queue. */
double bench_time(struct bench *bench, ps_op op, const void *arguments, size_t bytes);

#define BENCH_TENSOR(bench, dtype, ...)                                                           \
	bench_tensor((bench), (dtype), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), \
	             (const int64_t[]){__VA_ARGS__})
#define BENCH_TIME(bench, op, ...) \
	bench_time((bench), PS_OP_##op, &(const ps_args_##op){__VA_ARGS__}, sizeof(ps_args_##op))

#endif
