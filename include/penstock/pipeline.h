/*
 * The pipeline engine: layers, cut into stages, on devices, run by a schedule.
 *
 * ps_pipeline_create opens the devices, cuts the layers into stages, generates and validates the schedule, plans all
 * memory from it, compares the plan with the memory there is, and only then allocates. Training calls
 * ps_pipeline_train, which runs one whole batch forward and backward and leaves its gradients on the devices;
 * an optimizer walks the parameters (ps_pipeline_get_parameter) on their queues. Nothing is allocated in a step.
 *
 * The engine knows no model: inputs are one int32 tensor, `targets` goes to the last layer, which writes one loss for
 * each of its elements.
 *
 * Bits: the same seed gives the same results for every cut, schedule, checkpoint mode, split and number of chunks on
 * one backend, as long as weight_group covers the whole batch (the default).
 *
 * Threads: one pipeline is used by one thread at a time.
 */
#ifndef PENSTOCK_PIPELINE_H
#define PENSTOCK_PIPELINE_H

#include <penstock/layer.h>
#include <penstock/link.h>
#include <penstock/schedule.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ps_pipeline ps_pipeline;

/* All that is pointed to is borrowed and must outlive the pipeline. */
typedef struct ps_pipeline_config {
	ps_layer *const *layers;
	int layer_count;

	/* One device name for each rank; a name may come twice. */
	const char *const *devices;
	int rank_count;
	/* Layers of each stage, in order; NULL: the cut whose heaviest stage has the least work by the layers' flops.
	 */
	const int *balance;
	int stage_count; /* 0: as many as the schedule file is for; without one, one for each rank */

	const char *schedule;      /* a rule's name; NULL: "1f1b" */
	const char *schedule_file; /* takes the place of `schedule` */
	int chunks;                /* micro-batches asked for; 0: twice the ranks */
	ps_split_rule split;
	ps_checkpoint checkpoint;
	/* Micro-batches in one weight gradient; 0: the whole batch; below 0: as the schedule itself has them. */
	int weight_group;

	ps_dtype dtype; /* of activations and, unless the next two say otherwise, weights: PS_F32, or PS_F64 where all
	                   can */
	/*
	 * PS_MATH_BF16, with PS_F32: products are bf16's. Weights and gradients are fp32; those weights that gemm takes
	 * have a BF16 copy besides, for it.
	 */
	ps_math math;
	/* With PS_MATH_BF16: weights that are matrices, and their gradients, are BF16, and there are no copies. */
	bool bf16_weights;
	uint64_t seed;
	/* The largest batch: `rows` samples of int32 (time) in training, `eval_rows` in evaluation (0: none). */
	int64_t rows, eval_rows, time;

	double stall_timeout_s; /* 0: 600 s without progress anywhere is a stall */
	bool trace;             /* record when each action and transfer began and ended */
	ps_link_options links;
	/* For tests and embedders: opens a device in place of ps_device_open; NULL: the registry. */
	ps_status (*open_device)(void *payload, ps_device **out, const char *name);
	void *open_device_payload;
} ps_pipeline_config;

ps_status ps_pipeline_create(ps_pipeline **out, const ps_pipeline_config *config) PS_WARN_UNUSED;
/* Takes NULL and a pipeline in any state; waits for commands that still run. */
void ps_pipeline_destroy(ps_pipeline *pipeline);

/* What one rank holds, by the plan. */
typedef struct ps_rank_info {
	const ps_device *device;
	const char *device_name;
	int stage_count;
	const int *stages;                                        /* their numbers */
	int units;                                                /* layers of all its stages */
	int64_t parameters;                                       /* their elements */
	uint64_t parameter_bytes, gradient_bytes, constant_bytes; /* parameters with their BF16 copies */
	uint64_t activation_bytes; /* saved, carried, boundary and scratch tensors of the largest program */
	uint64_t peak_bytes;       /* the sum: all that is ever allocated for it */
	double flops;              /* of one training step */
} ps_rank_info;

int ps_pipeline_rank_count(const ps_pipeline *pipeline);
int ps_pipeline_stage_count(const ps_pipeline *pipeline);
/* Layers of stage `stage`: [*first, *first + *count). */
void ps_pipeline_get_stage(const ps_pipeline *pipeline, int stage, int *rank, int *first, int *count);
void ps_pipeline_get_rank(const ps_pipeline *pipeline, int rank, ps_rank_info *out);
/* The training schedule as it runs, and the number and sizes of its micro-batches. */
const ps_schedule *ps_pipeline_get_schedule(const ps_pipeline *pipeline);
int ps_pipeline_micro_batches(const ps_pipeline *pipeline, const int64_t **sizes);
/* The link of the boundary stage | stage + 1, forward (or backward); NULL where both are on one device. */
const ps_link *ps_pipeline_get_link(const ps_pipeline *pipeline, int stage, bool backward);

typedef struct ps_batch {
	const int32_t *inputs;  /* (rows, time) */
	const int32_t *targets; /* (rows, time) */
	int64_t rows, time;     /* at most what the configuration says */
	uint32_t step;          /* places the random numbers; unused in evaluation */
} ps_batch;

/*
 * Forward and backward of one batch. *loss is the mean over all its elements; the gradients of that mean are on the
 * devices. On failure the message names stage, device, action, layer and op, and the pipeline can be used again, unless
 * something does not stop: PS_ESTALL, now or the next time, after which it can only be destroyed. A loss that is NaN or
 * infinite is PS_ENUMERIC and names step, stage and layer.
 */
ps_status ps_pipeline_train(ps_pipeline *pipeline, const ps_batch *batch, double *loss) PS_WARN_UNUSED;
/* Forward only, without dropout. *loss_sum is the sum over all elements. */
ps_status ps_pipeline_evaluate(ps_pipeline *pipeline, const ps_batch *batch, double *loss_sum) PS_WARN_UNUSED;

/* One parameter of the whole model; its tensors live on `queue`'s device and are used through it. */
typedef struct ps_parameter_view {
	char name[96]; /* "layers.0.linear1.weight" */
	const ps_parameter *declaration;
	ps_tensor value, gradient;
	ps_tensor copy; /* value in BF16, to be kept so by whoever changes it (sgd's `copy`); mostly absent */
	ps_queue *queue;
	int rank, layer;
	ps_random_place place; /* of its start values; of what a step's update draws, with that step in it */
} ps_parameter_view;

/* In the order of the layers, and within a layer in its own order. */
int ps_pipeline_parameter_count(const ps_pipeline *pipeline);
void ps_pipeline_get_parameter(const ps_pipeline *pipeline, int index, ps_parameter_view *out);
/* The sum of the parameters' elements. */
int64_t ps_pipeline_parameter_elements(const ps_pipeline *pipeline);
/* Fills all parameters by their init rules and the pipeline's seed. */
ps_status ps_pipeline_initialize(ps_pipeline *pipeline) PS_WARN_UNUSED;
/* Copies a whole parameter, or its gradient, between host memory (in the tensor's dtype) and its device, and waits. */
ps_status ps_pipeline_read_parameter(ps_pipeline *pipeline, int index, void *to) PS_WARN_UNUSED;
ps_status ps_pipeline_write_parameter(ps_pipeline *pipeline, int index, const void *from) PS_WARN_UNUSED;
ps_status ps_pipeline_read_gradient(ps_pipeline *pipeline, int index, void *to) PS_WARN_UNUSED;
ps_dtype ps_pipeline_dtype(const ps_pipeline *pipeline);
/* "fp32", "fp64", "bf16" (products), "bf16-pure" (products and weights). */
const char *ps_pipeline_precision(const ps_pipeline *pipeline);
/* The step of the last batch that was trained on, which places what its update draws at random. */
uint32_t ps_pipeline_step(const ps_pipeline *pipeline);

/* One action or transfer of the last step, when tracing. Those that a failed step did not come to are left out. */
typedef struct ps_trace_span {
	bool transfer; /* of the boundary stage | stage + 1; kind F or B tells its direction */
	int rank;      /* of the action, or of the transfer's source */
	ps_action action;
	int64_t begin_ns, end_ns; /* ps_clock_ns */
} ps_trace_span;

/* Valid until the next step. */
const ps_trace_span *ps_pipeline_spans(const ps_pipeline *pipeline, size_t *count);

/* The cut of `count` costs into `parts` runs, none empty, whose largest sum is least: exact. parts <= count. */
void ps_balance(const double *costs, int count, int parts, int *sizes);

#ifdef __cplusplus
}
#endif
#endif
