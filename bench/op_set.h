/* Ops that are measured together on one device, beside what the device does at best. */
#ifndef PS_BENCH_OP_SET_H
#define PS_BENCH_OP_SET_H

#include "bench/bench.h"
#include "bench/rig.h"

enum { BENCH_MOST_OPS = 128, BENCH_PEAK_CASES = 3 };

struct bench_op_set {
	struct bench_rig rig;
	/* Activations, their gradients and vectors; weights that are matrices, and their gradients; what gemm is given
	 * of such a weight, which is a copy if it differs. */
	ps_dtype values, weights, factors;
	/* The peaks: a plain copy, a relu over the same, and the product of square matrices. */
	ps_tensor from, to;
	int copies; /* in one sample */
	struct bench_op relu, square;

	struct bench_op ops[BENCH_MOST_OPS];
	struct {
		const char *section;
		char name[64];
	} texts[BENCH_MOST_OPS];
	int count;
	struct bench_case cases[BENCH_PEAK_CASES + BENCH_MOST_OPS];
};

void bench_op_set_add(struct bench_op_set *set, const char *section, const char *name, struct bench_op op);

/*
 * Opens the device, has `fill` add the ops of each of the sizes, measures, and reports rates and shares of the peaks:
 * of the copy's, or of the product's where that is the larger one.
 */
ps_status bench_op_set_run(struct bench_report *report, const struct bench_device *device,
                           void (*fill)(struct bench_op_set *set, const struct bench_sizes *sizes),
                           const struct bench_sizes *sizes, int count, const struct bench_run *run) PS_WARN_UNUSED;

#endif
