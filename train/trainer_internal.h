/* What the trainer's files share: its state, the best weights and the checkpoint. */
#ifndef PS_TRAIN_TRAINER_INTERNAL_H
#define PS_TRAIN_TRAINER_INTERNAL_H

#include "train/weights.h"

/* Where the weights with the lowest validation loss are. */
typedef enum ps__best_place {
	PS__BEST_NONE,   /* nothing was validated, or nobody wants them */
	PS__BEST_LIVE,   /* in the pipeline */
	PS__BEST_MEMORY, /* in a copy on the host */
	PS__BEST_FILE,   /* in the file of `save` */
} ps__best_place;

/* All that changes in a run, but the weights. */
typedef struct ps__train_state {
	int epoch;    /* from 1; the one that is being trained */
	int64_t step; /* steps done in it */
	int64_t done; /* steps done in all; places the random numbers */
	int best_epoch;
	double best_loss;
	/* Since the last line of the log. */
	struct {
		int64_t steps, tokens;
		double loss_sum, token_loss_sum;
	} window;
} ps__train_state;

struct ps_trainer {
	ps_trainer_config config;
	ps_metadata *facts; /* the caller's and the trainer's own */
	char (*fact_texts)[32];
	int fact_count;
	ps_batches batches[PS_SPLIT_COUNT];
	int64_t steps; /* in an epoch */
	int32_t *inputs, *targets;
	ps_sgd *sgd;
	ps__train_state state;
	double lr;
	/* Time is not part of the state: a resumed run's windows cover its own steps. */
	double window_seconds, epoch_seconds;
	int64_t window_timed;
	int64_t step_end_ns; /* of the last step that was reported */
	ps__best_place best;
	void **copies; /* one for each parameter; NULL until they are needed */
	bool saved, saved_last;
};

/* Is there a copy to keep in memory? Not with a file, and not where the last weights are tested anyway. */
bool ps__best_in_memory(const ps_trainer *trainer);
/* The live weights have become the best: keeps them, unless nothing follows that could change them. */
ps_status ps__best_keep(ps_trainer *trainer) PS_WARN_UNUSED;
/* Before the next step: the live weights are about to change. */
ps_status ps__best_before_change(ps_trainer *trainer) PS_WARN_UNUSED;
/* Puts the best weights into the pipeline. */
ps_status ps__best_restore(ps_trainer *trainer) PS_WARN_UNUSED;
void ps__best_finish(ps_trainer *trainer);

/* Adds the trainer's own facts to the caller's. */
ps_status ps__facts_init(ps_trainer *trainer) PS_WARN_UNUSED;
/* Writes config.save_last. */
ps_status ps__checkpoint_save(ps_trainer *trainer) PS_WARN_UNUSED;
/* Reads config.resume: weights, state and best. */
ps_status ps__checkpoint_resume(ps_trainer *trainer) PS_WARN_UNUSED;

#endif
