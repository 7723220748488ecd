/*
 * Training: what surrounds a pipeline's steps.
 *
 * The parts can be used alone (an optimizer, an evaluation, saved weights, a trace) or together as a trainer, which
 * runs epochs of steps, validates after each, keeps the best weights, saves and resumes. Nothing here prints: a
 * trainer tells an observer what happened, and the text of the log lines comes from functions of its own.
 */
#ifndef PENSTOCK_TRAIN_H
#define PENSTOCK_TRAIN_H

#include <penstock/data.h>
#include <penstock/pipeline.h>
#include <penstock/safetensors.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- The optimizer ---- */

typedef struct ps_sgd ps_sgd;

/* Plain gradient descent over all parameters of a pipeline, which is borrowed. The caller owns *out. */
ps_status ps_sgd_create(ps_sgd **out, ps_pipeline *pipeline) PS_WARN_UNUSED;
/* Takes NULL. Waits for an update that still runs; where the pipeline has stalled it stays, as that does. */
void ps_sgd_destroy(ps_sgd *sgd);
/*
 * One step with the gradients that ps_pipeline_train left: w -= lr * min(1, max_norm / (norm + 1e-6)) * g, the rule of
 * torch.nn.utils.clip_grad_norm_; max_norm <= 0: no clipping. *norm is the global norm before clipping, its squares
 * summed in the order of the parameters whatever their placement. A norm that is NaN or infinite is PS_ENUMERIC and
 * leaves the weights as they were. Waits until the weights are updated. Allocates nothing.
 */
ps_status ps_sgd_step(ps_sgd *sgd, double lr, double max_norm, double *norm) PS_WARN_UNUSED;
/*
 * Its two halves: what the devices do, which needs nothing of the host, and what the host learns of it, once the
 * weights are updated. The gradients are those of the step that was submitted last, whether it is collected or not; so
 * an update follows its own step, and the next step that update. One update may be on its way. A training loop that
 * reads the numbers of each step while the devices are busy with the next one, every call in a PS_TRY:
 *
 *	for (int k = 0; k < steps; k++) {
 *		ps_pipeline_submit(pipeline, &batches[k]);
 *		if (k > 0) {
 *			ps_pipeline_collect(pipeline, &losses[k - 1]);
 *			ps_sgd_collect(sgd, &norms[k - 1]);
 *		}
 *		ps_sgd_submit(sgd, lr, max_norm);
 *	}
 *	ps_pipeline_collect(pipeline, &losses[steps - 1]);
 *	ps_sgd_collect(sgd, &norms[steps - 1]);
 *
 * Where ps_pipeline_most_in_flight is 1, a second step is refused: there call ps_pipeline_train and ps_sgd_step.
 *
 * After a step that failed, ps_sgd_collect tells what became of an update that was on its way, and the next
 * ps_sgd_submit forgets one of which nobody asked. An update that fails on its device fails the next step, too.
 */
ps_status ps_sgd_submit(ps_sgd *sgd, double lr, double max_norm) PS_WARN_UNUSED;
ps_status ps_sgd_collect(ps_sgd *sgd, double *norm) PS_WARN_UNUSED;

/* The rate of epoch `epoch` (from 1): lr times decay for each epoch before it, one multiplication in double each. */
double ps_step_lr(double lr, double decay, int epoch);

/* ---- Saved weights ---- */

/*
 * Writes all parameters by name, one after the other, each in its own dtype. The metadata gets "format": "pt" first.
 */
ps_status ps_weights_save(ps_pipeline *pipeline, const char *path, const ps_metadata *metadata,
                          int metadata_count) PS_WARN_UNUSED;
/*
 * Fills all parameters from a file that has exactly their names and shapes, in F32, F64 or BF16; otherwise PS_EFORMAT
 * names the first that is missing, wrong or foreign, and no parameter is touched. Tensors under PS_BEST_PREFIX are
 * passed over.
 */
ps_status ps_weights_load(ps_pipeline *pipeline, const ps_safetensors *file) PS_WARN_UNUSED;

/* What --save-last keeps of earlier weights that are still the best: their names with this in front. */
#define PS_BEST_PREFIX "best."

/*
 * Checks that a file can be written under this name, leaving nothing behind and an old file as it is: PS_EINVAL says
 * why it cannot.
 */
ps_status ps_output_check(const char *path) PS_WARN_UNUSED;
/*
 * Checks the files that a trainer is to begin with, of which one or both may be NULL, as far as that can be done before
 * there is a pipeline: that only one is given, and is a whole safetensors file.
 */
ps_status ps_start_check(const char *init, const char *resume) PS_WARN_UNUSED;

/* ---- Evaluation ---- */

typedef struct ps_evaluation {
	double loss; /* mean per token over the batches read */
	int64_t tokens, batches;
	double seconds;
} ps_evaluation;

/* What the published tutorial gets wrong; docs/tutorial.md has the formulas. All false: done right. */
typedef struct ps_mistakes {
	bool misaligned_targets;  /* 1: targets are flattened time-major, predictions batch-major */
	bool no_mask;             /* 2: each position sees those after it; for whoever builds the model */
	bool evaluation_fraction; /* 3: batch size times mean, summed and divided by the length of the whole split */
	bool first_window;        /* 4: an epoch's first window sums eleven steps and divides by ten */
	bool printed_rate;        /* 5: the rate that is printed has decayed once too often */
	bool best_is_last;        /* 6: the test evaluates the last weights in place of the best */
} ps_mistakes;

/*
 * The loss over the first `steps` batches of a split (0: all), without dropout. `mistakes` (may be NULL: none) decides
 * on 1 and 3. `stop` (may be NULL) is asked after each batch; once it says true, out->batches is what was read.
 */
ps_status ps_evaluate(ps_pipeline *pipeline, const ps_batches *batches, int64_t steps, const ps_mistakes *mistakes,
                      bool (*stop)(void *payload), void *payload, ps_evaluation *out) PS_WARN_UNUSED;

/* ---- The trainer ---- */

typedef struct ps_trainer ps_trainer;

/* One step as it ended. */
typedef struct ps_step_report {
	int epoch;         /* from 1 */
	int64_t step;      /* from 1 in each epoch */
	int64_t steps;     /* in this epoch */
	int64_t done;      /* steps since the start of the run, those before a resume included */
	int64_t all_steps; /* of the whole run */
	double loss, grad_norm, lr, seconds;
	int64_t tokens; /* of this step */
} ps_step_report;

/* The steps since the last report of this kind, for a line of the log. */
typedef struct ps_window_report {
	int epoch;
	int64_t batch, batches; /* as they are printed */
	double lr;              /* as it is printed */
	double ms_per_batch;    /* over the steps of this process */
	double loss;
} ps_window_report;

typedef struct ps_eval_report {
	int epoch;
	ps_split split; /* PS_SPLIT_VALID after each epoch, PS_SPLIT_TEST at the end */
	double loss;
	double seconds; /* valid: of the whole epoch; test: of the evaluation */
	bool best;      /* valid: the lowest loss so far */
} ps_eval_report;

/* Any entry may be NULL. An entry that fails ends the run with its status. */
typedef struct ps_observer {
	ps_status (*step)(void *payload, const ps_step_report *report);
	ps_status (*window)(void *payload, const ps_window_report *report);
	ps_status (*evaluation)(void *payload, const ps_eval_report *report);
	/* Asked after each step and each evaluated batch; true ends the run as soon as its state is saved. */
	bool (*stop)(void *payload);
	void *payload;
} ps_observer;

typedef struct ps_trainer_config {
	ps_pipeline *pipeline; /* borrowed; made for batch_size, eval_batch_size and bptt */
	/* Borrowed. A split without tokens is left out of the run; training needs some. */
	struct {
		const int32_t *tokens;
		size_t count;
	} splits[PS_SPLIT_COUNT];
	int64_t batch_size, eval_batch_size, bptt;
	int epochs;
	int64_t steps_per_epoch, eval_steps; /* 0: all there are */
	double lr, lr_decay, clip;           /* clip <= 0: none */
	int log_interval;                    /* steps of a window; 0: no windows */
	ps_mistakes mistakes;

	const char *init;      /* start weights; NULL: by the init rules and the pipeline's seed */
	const char *save;      /* gets the weights that were best on the validation split; may be NULL */
	const char *save_last; /* gets the last weights and all that `resume` needs; may be NULL */
	const char *resume;    /* goes on exactly where this file was saved; may be NULL */
	/*
	 * Facts about the run that the trainer cannot know (heads, mask, seed, …). They go into the metadata of saved
	 * files, and a resumed run must have the same. A key is the option's name.
	 */
	const ps_metadata *facts;
	int fact_count;
	ps_observer observer;
} ps_trainer_config;

/* What a run came to. */
typedef struct ps_train_result {
	bool interrupted;
	int64_t steps;    /* of the whole run so far */
	int best_epoch;   /* 0: nothing was validated */
	double best_loss; /* of the validation split, infinite when nothing was validated */
	double test_loss; /* NaN when nothing was tested */
	bool saved, saved_last;
} ps_train_result;

/* Checks everything, fills the weights and restores the state of `resume`. The caller owns *out. */
ps_status ps_trainer_create(ps_trainer **out, const ps_trainer_config *config) PS_WARN_UNUSED;
/* Takes NULL. */
void ps_trainer_destroy(ps_trainer *trainer);
/*
 * Trains to the end, or until the observer says stop. The pipeline is left with the weights that were tested. To be
 * called once.
 */
ps_status ps_trainer_run(ps_trainer *trainer, ps_train_result *out) PS_WARN_UNUSED;
/* Steps of one epoch, and of the whole run. */
int64_t ps_trainer_steps_per_epoch(const ps_trainer *trainer);
int64_t ps_trainer_done(const ps_trainer *trainer);

/* ---- What a run prints ---- */

enum { PS_LINE_BYTES = 512 };

/* The tutorial's lines, without a line feed; `text` has PS_LINE_BYTES. A perplexity above all numbers is "inf". */
const char *ps_window_line(const ps_window_report *report, char *text);
const char *ps_eval_line(const ps_eval_report *report, char *text);

/* ---- The trace ---- */

typedef struct ps_trace ps_trace;

/*
 * Starts a file in the form of Chrome's trace viewer and Perfetto: one row for each stage and each link. The pipeline
 * records (ps_pipeline_config.trace). The file appears under its name at the end. The caller owns *out.
 */
ps_status ps_trace_create(ps_trace **out, const char *path, const ps_pipeline *pipeline) PS_WARN_UNUSED;
/* Adds the step that has just ended. */
ps_status ps_trace_add(ps_trace *trace, const ps_pipeline *pipeline, int64_t step) PS_WARN_UNUSED;
/* Puts the file under its name and destroys the trace, also on failure. */
ps_status ps_trace_commit(ps_trace *trace) PS_WARN_UNUSED;
/* Takes NULL. */
void ps_trace_abandon(ps_trace *trace);

#ifdef __cplusplus
}
#endif
#endif
