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

/*
 * Shadow checks: in chosen steps every op of the chosen stages is run again on another device, in the background, from
 * the very inputs that it had, and its outputs are compared. So the first op that differs is the one at fault, not one
 * that was given its results. What a transfer brings to such a stage is compared too, bit for bit.
 *
 * A step that is checked takes longer: operands are copied to the host between the ops, and where the checks fall
 * behind by more than `pool_bytes`, the step waits for them. Results keep their bits. Steps that are not checked, and
 * pipelines without shadows, pay nothing.
 */
typedef struct ps_shadow_stage {
	int stage;
	int every; /* checks steps whose number (ps_batch.step) it divides; 0: each */
} ps_shadow_stage;

/* One output of one op, or what a transfer brought, as it compares with the other device's. */
typedef struct ps_shadow_result {
	uint32_t step;
	int stage;
	const char *device, *against;
	const char *action; /* "F3", or "update" for what an optimizer does */
	const char *layer;  /* "layers.0"; of an update the parameter */
	const char *op;     /* "gemm", or "transfer" */
	const char *output; /* "c" */
	int64_t count, bad; /* elements, and how many of them are off by more than the op allows; bad > 0: it differs */
	int rank;
	int64_t at[PS_MAX_RANK]; /* the worst element */
	double got, want;        /* its values */
	double ulps;             /* its error in units in the last place of the terms that it is made of */
	double share;            /* and as a multiple of what is allowed */
} ps_shadow_result;

typedef struct ps_shadow_config {
	const ps_shadow_stage *stages;
	int stage_count;     /* 0: nothing is checked */
	const char *against; /* the device that checks; NULL: "ref" */
	uint64_t pool_bytes; /* host memory for operands that wait for their check; 0: 256 MiB */
	/*
	 * Told of every result, by the thread that checks; the strings are borrowed for the call. NULL: nobody.
	 */
	void (*compared)(void *payload, const ps_shadow_result *result);
	void *payload;
	bool go_on; /* a difference does not end the checks; ps_pipeline_shadow_finish tells of the first one */
} ps_shadow_config;

/* All that is pointed to is borrowed and must outlive the pipeline. */
typedef struct ps_pipeline_config {
	ps_layer *const *layers;
	int layer_count;

	/* One device name for each rank; a name may come twice. */
	const char *const *devices;
	int rank_count;
	/*
	 * Layers of each stage, in order. NULL: the cut whose heaviest stage has the least work by the layers' flops
	 * or, with balance_time, the one within each device's memory whose slowest stage takes the least measured time.
	 */
	const int *balance;
	bool balance_time; /* implies `measure` */
	int stage_count;   /* 0: as many as the schedule file is for; without one, one for each rank */

	const char *schedule;      /* a rule's name; NULL: "1f1b" */
	const char *schedule_file; /* takes the place of `schedule` */
	int chunks;                /* micro-batches asked for; 0: twice the ranks */
	ps_split_rule split;
	ps_checkpoint checkpoint;
	/* Micro-batches in one weight gradient; 0: the whole batch; below 0: as the schedule itself has them. */
	int weight_group;
	/*
	 * Where all ranks are on one device, so that nobody waits for it elsewhere: a stage does its forwards that come
	 * in a row at once, and its backwards (ps_schedule_join). Larger products are faster; the bits are the same.
	 */
	bool join;

	ps_dtype dtype; /* of activations and, unless the next two say otherwise, weights: PS_F32, or PS_F64 where all
	                   can */
	/*
	 * PS_MATH_BF16, with PS_F32: products are bf16's. Weights and gradients are fp32; those weights that gemm takes
	 * have a BF16 copy besides, for it. PS_MATH_TF32, with PS_F32: products are tf32's, and nothing else differs.
	 */
	ps_math math;
	/* With PS_MATH_BF16: weights that are matrices, and their gradients, are BF16, and there are no copies. */
	bool bf16_weights;
	uint64_t seed;
	/* The largest batch: `rows` samples of int32 (time) in training, `eval_rows` in evaluation (0: none). */
	int64_t rows, eval_rows, time;

	/*
	 * For the queues of the devices that have graphs (ps_queue_set_graphs). ON: at least one has. The results are
	 * the same. Steps whose ops are looked at one by one, for a shadow or a profile, run without them.
	 */
	ps_graphs graphs;

	double stall_timeout_s; /* 0: 600 s without progress anywhere is a stall */
	bool trace;             /* record when each action and transfer began and ended */
	/*
	 * Measure what the layers take on each device before memory is allocated, and predict steps from it.
	 * `measuring` (may be NULL) is told before each of `count` measurements.
	 */
	bool measure;
	void (*measuring)(void *payload, int index, int count);
	void *measuring_payload;
	ps_link_options links;
	ps_shadow_config shadow;
	/* For tests and embedders: opens a device in place of ps_device_open; NULL: the registry. */
	ps_status (*open_device)(void *payload, ps_device **out, const char *name);
	void *open_device_payload;
} ps_pipeline_config;

ps_status ps_pipeline_create(ps_pipeline **out, const ps_pipeline_config *config) PS_WARN_UNUSED;
/*
 * Takes NULL and a pipeline in any state; waits for commands that still run. A pipeline that has stalled, and in which
 * nothing moves for five seconds more, is left as it is with all its memory, for its devices may go on to use that; it
 * may be destroyed again later.
 */
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
	char note[256];            /* what its queue does otherwise than one would expect (ps_queue_note); mostly "" */
} ps_rank_info;

int ps_pipeline_rank_count(const ps_pipeline *pipeline);
int ps_pipeline_stage_count(const ps_pipeline *pipeline);
/* Layers of stage `stage`: [*first, *first + *count). */
void ps_pipeline_get_stage(const ps_pipeline *pipeline, int stage, int *rank, int *first, int *count);
void ps_pipeline_get_rank(const ps_pipeline *pipeline, int rank, ps_rank_info *out);
/* The queue that a rank's actions run on. */
ps_queue *ps_pipeline_get_queue(const ps_pipeline *pipeline, int rank);
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
/*
 * The two halves of ps_pipeline_train. A step that is submitted, of which the pipeline keeps a copy of its batch,
 * begins on each device when what was enqueued there before is done, an optimizer's update of the step before included;
 * so a loss can be collected a step late, while the devices are busy with the next one. Steps are collected in their
 * order. After a failure of either half none is on its way any more. Evaluation, and whatever reads or writes
 * parameters or gradients through the functions below, is refused until all are collected (PS_EINVAL).
 */
ps_status ps_pipeline_submit(ps_pipeline *pipeline, const ps_batch *batch) PS_WARN_UNUSED;
ps_status ps_pipeline_collect(ps_pipeline *pipeline, double *loss) PS_WARN_UNUSED;
/* How many steps may be on their way: 2, or 1 where a trace or a shadow looks at each. */
int ps_pipeline_most_in_flight(const ps_pipeline *pipeline);
/*
 * How often a step or an evaluation has failed such that the pipeline can be used again. What was on its way when that
 * number grew, an optimizer's update say, may have come to nothing.
 */
int64_t ps_pipeline_failures(const ps_pipeline *pipeline);
/* Forward only, without dropout. *loss_sum is the sum over all elements. */
ps_status ps_pipeline_evaluate(ps_pipeline *pipeline, const ps_batch *batch, double *loss_sum) PS_WARN_UNUSED;

/* What the shadow checks came to so far. */
typedef struct ps_shadow_report {
	int64_t steps, ops, transfers; /* checked */
	uint64_t bytes;                /* copied to the host */
	double copy_s;                 /* that the copies took on the queue that had most of them */
	double wait_s;                 /* that steps waited for checks */
	double against_s;              /* of the background thread's work */
	double checked_s, unchecked_s; /* that checked steps took, and the others */
	int64_t unchecked_steps;
} ps_shadow_report;

void ps_pipeline_get_shadow(const ps_pipeline *pipeline, ps_shadow_report *out);
/*
 * Waits for the checks of all steps so far. PS_EDIVERGED when a result differs: the message names step, stage, device,
 * action, layer, op, output and the worst element. ps_pipeline_train says the same as soon as it is known, and each
 * time from then on, unless the checks are to go on.
 */
ps_status ps_pipeline_shadow_finish(ps_pipeline *pipeline) PS_WARN_UNUSED;

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
/*
 * What an optimizer does after a step: ops recorded once, each on the queue of a parameter's rank, and enqueued on all
 * ranks together.
 */
typedef struct ps_updates ps_updates;

ps_status ps_updates_create(ps_updates **out, ps_pipeline *pipeline) PS_WARN_UNUSED;
/* Before the pipeline. Takes NULL. */
void ps_updates_destroy(ps_updates *updates);
/* Forgets what was recorded, and keeps the memory. */
void ps_updates_clear(ps_updates *updates);
ps_status ps_updates_record(ps_updates *updates, int parameter, ps_op op, const void *arguments,
                            size_t bytes) PS_WARN_UNUSED;
#define ps_update(updates, parameter, op, ...) \
	ps_updates_record((updates), (parameter), PS_OP_##op, &(const ps_args_##op){__VA_ARGS__}, sizeof(ps_args_##op))
/*
 * The step that was trained last takes the place of that in the ops' random places. Where a shadow has checked that
 * step, it checks the ops too.
 */
ps_status ps_updates_submit(ps_updates *updates) PS_WARN_UNUSED;
/*
 * Has every rank know a value for each parameter of the whole model: values[rank] (parameters) F64, on the rank's
 * device, holds those of the rank's own parameters and gets all others, by ops that are enqueued on the ranks' queues
 * and links. What is enqueued behind that on any rank comes after what was enqueued before on all of them.
 */
ps_status ps_pipeline_gather(ps_pipeline *pipeline, const ps_tensor *values) PS_WARN_UNUSED;
/*
 * Waits for all that was enqueued on the ranks and on the links between them, also where some of it has failed: when it
 * returns true, none of it uses any memory any more. A rank that has failed skips its waits, so that to wait for ranks
 * alone is not enough. False: nothing moves, the pipeline has stalled, and whatever it may use has to stay.
 */
bool ps_pipeline_drain(ps_pipeline *pipeline);
/* Waits on the host for a point of a rank between steps, such as the end of an update. PS_ESTALL as for a step. */
ps_status ps_pipeline_wait(ps_pipeline *pipeline, ps_event event) PS_WARN_UNUSED;
/* Copies a whole parameter, or its gradient, between host memory (in the tensor's dtype) and its device, and waits. */
ps_status ps_pipeline_read_parameter(ps_pipeline *pipeline, int index, void *to) PS_WARN_UNUSED;
ps_status ps_pipeline_write_parameter(ps_pipeline *pipeline, int index, const void *from) PS_WARN_UNUSED;
ps_status ps_pipeline_read_gradient(ps_pipeline *pipeline, int index, void *to) PS_WARN_UNUSED;
ps_dtype ps_pipeline_dtype(const ps_pipeline *pipeline);
/* "fp32", "fp64", "bf16" (products), "bf16-pure" (products and weights), "tf32" (products). */
const char *ps_pipeline_precision(const ps_pipeline *pipeline);
/* The step of the last batch that was trained on, which places what its update draws at random. */
uint32_t ps_pipeline_step(const ps_pipeline *pipeline);

/* One action or transfer of the last step, when tracing. Those that a failed step did not come to are left out. */
typedef struct ps_trace_span {
	bool transfer; /* of the boundary stage | stage + 1; kind F or B tells its direction */
	int rank;      /* of the action, or of the transfer's source */
	ps_action action;
	int64_t begin_ns, end_ns; /* ps_clock_ns */
	/* As predicted, seconds from the beginning of the step; 0 to 0 unless config.measure. */
	double predicted_begin_s, predicted_end_s;
} ps_trace_span;

/* Valid until the next step. */
const ps_trace_span *ps_pipeline_spans(const ps_pipeline *pipeline, size_t *count);

/*
 * Seconds that a training step of the largest batch should take, the optimizer's two passes included; NaN unless
 * config.measure.
 */
double ps_pipeline_predicted_step(const ps_pipeline *pipeline);

/* A row of units that is to be cut into stages, and what they cost where. */
typedef struct ps_balance_problem {
	int stages, units; /* stages <= units */
	/* Unit u on stage s takes costs[s * stride + u], finite and not negative; stride 0: the same on all stages. */
	const double *costs;
	int stride;
	/*
	 * What stage s takes of the memory pool[s] (0 to pools - 1, with so many bytes in limits[]) when it has the
	 * units [first, first + count); UINT64_MAX: it cannot have them. NULL: memory is no matter.
	 */
	uint64_t (*bytes)(void *payload, int stage, int first, int count);
	void *payload;
	const int *pool;
	const uint64_t *limits;
	const char *const *pool_names; /* for the message */
	int pools;
} ps_balance_problem;

/*
 * The cut into runs, none empty, that fit into the memory, whose slowest stage is fastest; of several the one with the
 * least sum over all stages. Exact. PS_ETOOBIG when none fits; the message says what the closest one lacks.
 */
ps_status ps_balance(const ps_balance_problem *problem, int *sizes) PS_WARN_UNUSED;

#ifdef __cplusplus
}
#endif
#endif
