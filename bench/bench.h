/*
 * The benches: each measures one thing, and adds what it found to a report. None prints.
 *
 * All take turns with their samples (bench/measure.h), end early when the run says stop, and then report what there is.
 */
#ifndef PS_BENCH_BENCH_H
#define PS_BENCH_BENCH_H

#include "bench/report.h"

#include <penstock/data.h>
#include <penstock/link.h>
#include <penstock/pipeline.h>

/* A model and batch whose shapes ops are measured at. */
struct bench_sizes {
	const char *name; /* the section of its rows */
	int64_t rows, time, width, hidden, vocabulary;
	int heads, chunks;
	bool causal;
	double dropout;
};

/* Where ops are measured, and on which numbers: as in ps_pipeline_config. */
struct bench_device {
	const char *name;
	ps_dtype dtype;
	ps_math math;
	bool bf16_weights;
};

/* Each op of the model but the products, with its share of what a plain copy or a large product reaches. */
ps_status bench_ops(struct bench_report *report, const struct bench_device *device, const struct bench_sizes *sizes,
                    int count, const struct bench_run *run) PS_WARN_UNUSED;

/*
 * The products of the model's linear layers, for the whole batch and for its largest micro-batch: forward y = x w^T,
 * input gradient dx = dy w, and weight gradient dw = dy^T x, alone and added.
 */
ps_status bench_gemm(struct bench_report *report, const struct bench_device *device, const struct bench_sizes *sizes,
                     int count, const struct bench_run *run) PS_WARN_UNUSED;

struct bench_step {
	ps_pipeline *pipeline;     /* with its start weights */
	const ps_batches *batches; /* NULL: one batch of random tokens */
	int64_t rows, time, vocabulary;
	bool brief; /* whole steps alone */
};

/*
 * Whole training steps with the optimizer; the products of a step alone; and steps that are timed op by op, which tell
 * where the time goes.
 */
ps_status bench_step(struct bench_report *report, const struct bench_step *step,
                     const struct bench_run *run) PS_WARN_UNUSED;

/* Transfers of several sizes between each ordered pair of devices, on the link that there is and through the host. */
ps_status bench_link(struct bench_report *report, const char *const *devices, int count,
                     const struct bench_run *run) PS_WARN_UNUSED;

/* What `penstock devices --measure-links` shows of a pair: the link, with the least times of a few transfers. */
ps_status bench_link_probe(const char *from, const char *to, ps_link_info *out) PS_WARN_UNUSED;

/*
 * Devices that several pipelines of one process share, so that a CPU has one team of threads and not one for each: idle
 * teams have OpenMP send its threads to sleep between any two kernels. Begins as zeros.
 */
struct bench_shared {
	ps_device **device;
	int count;
};

/* For ps_pipeline_config.open_device, with a struct bench_shared as its payload. */
ps_status bench_shared_open(void *devices, ps_device **out, const char *name);
/* Pipelines that still have some of them keep those. */
void bench_shared_finish(struct bench_shared *devices);

/* A pipeline with its start weights, as a row of the bench of stages. */
struct bench_staged {
	const char *section, *name;
	ps_pipeline *pipeline;
	int64_t vocabulary;
	int whole; /* index of the row that has the same stages and the whole batch as one micro-batch */
};

/*
 * Forward and backward of a batch, beside the bound of its schedule: the makespan of its actions, as long as they take
 * when nothing else runs, without hand-over; of stages on one device the sum of these. What a step takes beyond the
 * work of the whole batch at once is told apart: that the batch is cut, the schedule's bubble, and the rest.
 */
ps_status bench_stages(struct bench_report *report, const struct bench_staged *what, int count,
                       const struct bench_run *run) PS_WARN_UNUSED;

/* What an action costs with next to nothing to compute, for pipelines over lists of `ranks` devices. */
struct bench_devices {
	const char *text; /* the row's name */
	const char *const *devices;
	int ranks;
};
ps_status bench_executor(struct bench_report *report, const struct bench_devices *stages, int count, int micro_batches,
                         const struct bench_run *run) PS_WARN_UNUSED;

/* Generating, grouping, validating and simulating the schedule of the rule of this name; NULL: every rule of one stage
 * a rank. */
ps_status bench_simulate(struct bench_report *report, const char *name, int ranks, int micro_batches,
                         const struct bench_run *run) PS_WARN_UNUSED;

/* Reading a folder's three splits: words, vocabulary and ids. */
ps_status bench_tokenizer(struct bench_report *report, const char *path, const struct bench_run *run) PS_WARN_UNUSED;

#endif
