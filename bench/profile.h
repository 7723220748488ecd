/* Looks into a training step: how long each op takes where it stands, and how long the products take alone. */
#ifndef PS_BENCH_PROFILE_H
#define PS_BENCH_PROFILE_H

#include "bench/measure.h"

#include <penstock/pipeline.h>

struct bench_transfer {
	int stage; /* of the boundary stage | stage + 1 */
	bool backward;
	int times; /* in one step */
	struct bench_samples seconds;
};

/* Samples are seconds of one step. Those of ops and idleness are means over the ranks, so that they add up to a step.
 */
struct bench_profile {
	ps_pipeline *pipeline;
	int64_t *marks; /* when each op began, by the lists' entries */
	int times[PS_OP_COUNT];
	struct bench_samples ops[PS_OP_COUNT], idle;
	struct bench_transfer *transfers; /* those of each boundary forward, then those backward */
	int transfer_count;
};

/* *out is for bench_profile_finish also after a failure. */
ps_status bench_profile_init(struct bench_profile *out, ps_pipeline *pipeline) PS_WARN_UNUSED;
void bench_profile_finish(struct bench_profile *profile);
/* ps_pipeline_train, timed op by op; `keep`: the times are samples. */
ps_status bench_profile_step(struct bench_profile *profile, const ps_batch *batch, bool keep, double *loss,
                             double *seconds) PS_WARN_UNUSED;

/* The products of one training step, rank by rank. */
struct bench_products {
	const ps_pipeline *pipeline;
	ps_list **lists; /* one for each rank */
	double flops;
};

/* *out is for bench_products_finish also after a failure. */
ps_status bench_products_init(struct bench_products *out, const ps_pipeline *pipeline) PS_WARN_UNUSED;
void bench_products_finish(struct bench_products *products);
/*
 * Runs them with nothing in between, one device after the other, and tells the time of the device that takes longest:
 * no step can be shorter. Leaves what the gradients and activations hold undefined.
 */
ps_status bench_products_run(const struct bench_products *products, double *seconds) PS_WARN_UNUSED;

#endif
