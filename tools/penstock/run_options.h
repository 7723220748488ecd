/* The options of `penstock train` and `penstock eval`, and the presets. */
#ifndef PS_TOOLS_RUN_OPTIONS_H
#define PS_TOOLS_RUN_OPTIONS_H

#include "tools/penstock/options.h"

#include <penstock/train.h>

typedef enum preset { PRESET_DEFAULT, PRESET_SMALL, PRESET_TUTORIAL, PRESET_AS_PUBLISHED } preset;
#define PRESET_WORDS "default|small|tutorial|tutorial-as-published"

typedef enum mask_choice { MASK_CAUSAL, MASK_NONE } mask_choice;
#define MASK_WORDS "causal|none"

typedef enum dtype_choice { DTYPE_FP32, DTYPE_FP64, DTYPE_BF16, DTYPE_BF16_PURE, DTYPE_TF32 } dtype_choice;
#define DTYPE_WORDS "fp32|fp64|bf16|bf16-pure|tf32"

typedef enum join_choice { JOIN_AUTO, JOIN_NEVER } join_choice;
#define GRAPHS_WORDS "auto|on|off" /* in the order of ps_graphs */
typedef enum link_choice { LINK_AUTO, LINK_STAGED } link_choice;
#define LINK_WORDS "auto|staged"

typedef struct run_options {
	int preset; /* enum preset */
	const char *data, *stages, *balance, *schedule;
	int64_t chunks;
	int split;      /* ps_split_rule */
	int checkpoint; /* ps_checkpoint */
	int join;       /* join_choice */
	int64_t emsize, nhead, nhid, nlayers;
	double dropout;
	int mask; /* mask_choice */
	int64_t batch_size, eval_batch_size, bptt, epochs, steps_per_epoch, eval_steps;
	double lr, lr_decay, clip;
	uint64_t seed;
	int dtype;  /* dtype_choice */
	int graphs; /* ps_graphs */
	int link;   /* link_choice */
	const char *init, *save, *save_last, *resume, *log, *trace, *config, *shadow;
	int64_t log_interval;
	const char *load; /* eval */
	bool json;        /* eval */
	/* bench: of random tokens, where `data` is NULL. An eval_batch_size of 0 means no evaluation. */
	int64_t vocabulary;
	struct bench_shared *devices; /* that its pipelines share, or NULL */
	ps_mistakes mistakes;
} run_options;

/* The values that a preset stands for. */
const run_options *preset_options(preset which);
/* What `penstock eval` takes where neither the command line nor the file says anything. */
extern const run_options eval_defaults;
/* Fills *out from the preset that the settings name, and then from the settings. */
ps_status train_options_read(run_options *out, const option_settings *settings) PS_WARN_UNUSED;

#endif
