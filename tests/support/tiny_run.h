/* A training run of a tiny Transformer through the library, with everything about it a field. */
#ifndef PS_TESTS_SUPPORT_TINY_RUN_H
#define PS_TESTS_SUPPORT_TINY_RUN_H

#include <penstock/model.h>
#include <penstock/train.h>

enum { TINY_STEPS = 64, TINY_EVALS = 16, TINY_WINDOWS = 32, TINY_STAGES = 5 };

struct tiny_run {
	/* Set before the run; zeros ask for the defaults in brackets. */
	const char *devices; /* of the stages, separated by blanks ["ref ref"] */
	const int *balance;  /* [by work] */
	const char *schedule;
	int chunks; /* [2] */
	ps_split_rule split;
	ps_checkpoint checkpoint;
	ps_dtype dtype;
	ps_math math;
	bool bf16_weights;
	double dropout;
	bool unmasked;
	uint64_t seed;
	int epochs;              /* [2] */
	int64_t steps_per_epoch; /* [5] */
	double lr, lr_decay;     /* [1, 0.5] */
	int log_interval;        /* [2] */
	int64_t stop_after;      /* steps of the whole run; 0: to the end */
	ps_mistakes mistakes;
	const char *init, *save, *save_last, *resume;

	/* Filled by the run. */
	ps_train_result result;
	ps_step_report steps[TINY_STEPS];
	int step_count;
	ps_eval_report evals[TINY_EVALS];
	int eval_count;
	ps_window_report windows[TINY_WINDOWS];
	int window_count;
	ps_pipeline *pipeline;
};

enum { TINY_VOCABULARY = 37, TINY_TIME = 6, TINY_ROWS = 5, TINY_EVAL_ROWS = 3, TINY_LAYERS = 3, TINY_EMSIZE = 12 };

/* The tokens of a split: each follows from the one before it but for some noise, so that there is something to learn.
 */
const int32_t *tiny_tokens(ps_split split, size_t *count);

/* Runs it, or says why not. */
ps_status tiny_run(struct tiny_run *run);

/* The bytes of a whole file; the caller frees them. NULL when it cannot be read. */
unsigned char *tiny_file(const char *path, size_t *bytes);
/* Are two files equal, byte for byte? */
bool tiny_same_files(const char *a, const char *b);

#endif
