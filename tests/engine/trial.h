/*
 * What the engine's tests share: a tiny Transformer, its batches, and runs whose losses and gradients are compared bit
 * for bit.
 */
#ifndef PS_TESTS_ENGINE_TRIAL_H
#define PS_TESTS_ENGINE_TRIAL_H

#include "tests/support/check.h"
#include "tests/support/hook.h"

#include <penstock/model.h>
#include <penstock/pipeline.h>

#include <string.h>

enum { TRIAL_RANKS = 8, TRIAL_STEPS = 4, TRIAL_VOCABULARY = 13 };

/*
 * One pipeline over a tiny model. Zero means the usual: 4 encoder layers, 6 rows of 5 tokens, fp32, dropout 0.2,
 * causal, all of whole `config`. Device names are "ref" for the registry's, or "ref#1", "ref#2", …, each of which is a
 * device of its own of that kind; with `hooked`, device k is opened with hooks[k] in it.
 */
struct trial {
	int encoder_layers;
	double dropout; /* < 0: none */
	bool no_mask, hooked;
	bool mixed;                                      /* the model of trial_mixed_model instead */
	void (*opened)(struct trial *trial, int device); /* called when a hooked device was opened; NULL: not */
	uint64_t max_buffer_bytes;                       /* all devices are made to have this limit; 0: their own */
	uint64_t memory_bytes[TRIAL_RANKS];              /* of hooked devices; 0: their own */
	ps_pipeline_config config;                       /* sizes and devices left out are filled in */
	const char *devices[TRIAL_RANKS];
	struct hook hooks[TRIAL_RANKS];

	ps_model model;
	ps_pipeline *pipeline;
};

/* Builds model and pipeline; devices that are not named are ref#0, ref#1, … The message stays when it fails. */
ps_status trial_create(struct trial *trial) PS_WARN_UNUSED;
/* The same, or the test fails. */
void trial_open(struct trial *trial);
/* Devices without hooks stay open from one trial to the next, which is quicker; false closes them. */
void trial_keep_devices(bool keep);
/* Takes a trial whose creation failed too. */
void trial_close(struct trial *trial);
/* Writes `text` to a new file in a folder for temporary files, to be deleted by the caller; `path` has 256 bytes. */
void trial_write_file(char *path, const char *text);

/* Tokens for a step, the same for every trial: (rows, time). */
void trial_tokens(uint32_t step, int64_t rows, int64_t time, int32_t *inputs, int32_t *targets);
/* One training step on the tokens of `step`. */
ps_status trial_train(struct trial *trial, uint32_t step, int64_t rows, int64_t time, double *loss) PS_WARN_UNUSED;

/* Losses of some steps, with w -= 0.1 g between them, all gradients of each, and one evaluation. */
struct outcome {
	int steps;
	double losses[TRIAL_STEPS], evaluation;
	unsigned char *bytes;
	size_t size;
};

/* Initialises and trains: step k has rows and time as in `shapes`, or the largest when NULL. */
void trial_run(struct trial *trial, int steps, const int64_t (*shapes)[2], struct outcome *out);
void outcome_free(struct outcome *outcome);
/* Fails the test, saying `what`, unless all bits are the same. */
void outcome_compare(const struct outcome *a, const struct outcome *b, const char *what);
/* All gradients as they are now, appended to the outcome. */
void outcome_add_gradients(struct outcome *outcome, ps_pipeline *pipeline);

/*
 * Embedding, doubling, encoder layer, ReLU, doubling, decoder: layers that need input or gradient for various times.
 */
void trial_mixed_model(ps_model *out, int64_t emsize, int64_t time);

/* A random number below `bound` from a seeded, simple generator. */
uint32_t trial_random(uint64_t *state, uint32_t bound);

#endif
