/* A training run of a tiny Transformer through the library. */
#include "support/tiny_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const int32_t *tiny_tokens(ps_split split, size_t *count)
{
	enum { LONGEST = 700 };
	static int32_t tokens[PS_SPLIT_COUNT][LONGEST];
	static const size_t counts[PS_SPLIT_COUNT] = {
	        [PS_SPLIT_TRAIN] = LONGEST, [PS_SPLIT_VALID] = 83, [PS_SPLIT_TEST] = 97};
	const ps_random_place place = {.seed = 99, .layer = 1, .site = (uint32_t)split};
	for (size_t i = 0; i < counts[split]; i++) {
		uint32_t word = ps_random_word(&place, 0, i);
		int32_t before = i > 0 ? tokens[split][i - 1] : 0;
		tokens[split][i] =
		        word % 4 == 0 ? (int32_t)(word / 4 % TINY_VOCABULARY) : (before * 5 + 3) % TINY_VOCABULARY;
	}
	*count = counts[split];
	return tokens[split];
}

static ps_status on_step(void *payload, const ps_step_report *report)
{
	struct tiny_run *run = payload;
	if (run->step_count < TINY_STEPS)
		run->steps[run->step_count++] = *report;
	return PS_OK;
}

static ps_status on_window(void *payload, const ps_window_report *report)
{
	struct tiny_run *run = payload;
	if (run->window_count < TINY_WINDOWS)
		run->windows[run->window_count++] = *report;
	return PS_OK;
}

static ps_status on_evaluation(void *payload, const ps_eval_report *report)
{
	struct tiny_run *run = payload;
	if (run->eval_count < TINY_EVALS)
		run->evals[run->eval_count++] = *report;
	return PS_OK;
}

static bool on_stop(void *payload)
{
	struct tiny_run *run = payload;
	return run->stop_after > 0 && run->step_count > 0 && run->steps[run->step_count - 1].done >= run->stop_after;
}

static ps_status train(struct tiny_run *run)
{
	char dropout[32], seed[32];
	snprintf(dropout, sizeof dropout, "%g", run->dropout);
	snprintf(seed, sizeof seed, "%llu", (unsigned long long)run->seed);
	const ps_metadata facts[] = {{"dropout", dropout}, {"seed", seed}};
	ps_trainer_config config = {.pipeline = run->pipeline,
	                            .batch_size = TINY_ROWS,
	                            .eval_batch_size = TINY_EVAL_ROWS,
	                            .bptt = TINY_TIME,
	                            .epochs = run->epochs > 0 ? run->epochs : 2,
	                            .steps_per_epoch = run->steps_per_epoch > 0 ? run->steps_per_epoch : 5,
	                            .lr = run->lr > 0 ? run->lr : 1,
	                            .lr_decay = run->lr_decay > 0 ? run->lr_decay : 0.5,
	                            .clip = 0.5,
	                            .log_interval = run->log_interval > 0 ? run->log_interval : 2,
	                            .mistakes = run->mistakes,
	                            .init = run->init,
	                            .save = run->save,
	                            .save_last = run->save_last,
	                            .resume = run->resume,
	                            .facts = facts,
	                            .fact_count = 2,
	                            .observer = {on_step, on_window, on_evaluation, on_stop, run}};
	for (int s = 0; s < PS_SPLIT_COUNT; s++)
		config.splits[s].tokens = tiny_tokens((ps_split)s, &config.splits[s].count);
	ps_trainer *trainer;
	PS_TRY(ps_trainer_create(&trainer, &config));
	ps_status status = ps_trainer_run(trainer, &run->result);
	ps_trainer_destroy(trainer);
	return status;
}

ps_status tiny_run(struct tiny_run *run)
{
	const ps_transformer_config sizes = {.vocabulary = TINY_VOCABULARY,
	                                     .emsize = TINY_EMSIZE,
	                                     .nhead = 3,
	                                     .nhid = 20,
	                                     .nlayers = TINY_LAYERS,
	                                     .dropout = run->dropout,
	                                     .causal = !run->unmasked,
	                                     .max_time = TINY_TIME};
	char names[128];
	const char *devices[TINY_STAGES];
	snprintf(names, sizeof names, "%s", run->devices != NULL ? run->devices : "ref ref");
	int stages = 0;
	for (char *rest = NULL, *name = strtok_r(names, " ", &rest); name != NULL && stages < TINY_STAGES;
	     name = strtok_r(NULL, " ", &rest))
		devices[stages++] = name;
	ps_model model;
	PS_TRY(ps_transformer_create(&model, &sizes));
	const ps_pipeline_config config = {.layers = model.layers,
	                                   .layer_count = model.layer_count,
	                                   .devices = devices,
	                                   .rank_count = stages,
	                                   .balance = run->balance,
	                                   .schedule = run->schedule,
	                                   .chunks = run->chunks > 0 ? run->chunks : 2,
	                                   .split = run->split,
	                                   .checkpoint = run->checkpoint,
	                                   .dtype = run->dtype,
	                                   .math = run->math,
	                                   .bf16_weights = run->bf16_weights,
	                                   .seed = run->seed,
	                                   .rows = TINY_ROWS,
	                                   .eval_rows = TINY_EVAL_ROWS,
	                                   .time = TINY_TIME,
	                                   .links = {.skip_measure = true}};
	ps_status status = ps_pipeline_create(&run->pipeline, &config);
	if (status == PS_OK)
		status = train(run);
	ps_pipeline_destroy(run->pipeline);
	run->pipeline = NULL;
	ps_model_finish(&model);
	return status;
}

unsigned char *tiny_file(const char *path, size_t *bytes)
{
	FILE *file = fopen(path, "rb");
	if (file == NULL)
		return NULL;
	unsigned char *content = NULL;
	long size = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
	if (size >= 0 && fseek(file, 0, SEEK_SET) == 0 && (content = malloc((size_t)size + 1)) != NULL &&
	    fread(content, 1, (size_t)size, file) != (size_t)size) {
		free(content);
		content = NULL;
	}
	*bytes = (size_t)size;
	fclose(file);
	return content;
}

bool tiny_same_files(const char *a, const char *b)
{
	size_t bytes = 0, others = 0;
	unsigned char *one = tiny_file(a, &bytes), *other = tiny_file(b, &others);
	bool same = one != NULL && other != NULL && bytes == others && memcmp(one, other, bytes) == 0;
	free(one);
	free(other);
	return same;
}
