/* A tiny pipeline that is made, trains for a step and is taken down. */
#include "support/tiny_life.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 2, TIME = 3, WORDS = 11 };

void tiny_life_name_stages(struct tiny_life *life, const char *otherwise)
{
	const char *wanted = getenv("PS_TEST_STAGES");
	snprintf(life->names, sizeof life->names, "%s", wanted ? wanted : otherwise);
	for (char *rest = NULL, *name = strtok_r(life->names, ",", &rest); name && life->stages < TINY_LIFE_STAGES;
	     name = strtok_r(NULL, ",", &rest))
		life->devices[life->stages++] = name;
}

ps_status tiny_life_make_model(struct tiny_life *life, double dropout)
{
	const ps_transformer_config sizes = {.vocabulary = WORDS,
	                                     .emsize = 4,
	                                     .nhead = 2,
	                                     .nhid = 4,
	                                     .nlayers = 2,
	                                     .max_time = TIME,
	                                     .dropout = dropout,
	                                     .causal = true};
	return ps_transformer_create(&life->model, &sizes);
}

ps_status tiny_life_create(ps_pipeline **out, const struct tiny_life *life)
{
	const ps_pipeline_config config = {.layers = life->model.layers,
	                                   .layer_count = life->model.layer_count,
	                                   .devices = life->devices,
	                                   .rank_count = life->stages,
	                                   .chunks = 2,
	                                   .rows = ROWS,
	                                   .time = TIME,
	                                   .stall_timeout_s = life->stall_timeout_s > 0 ? life->stall_timeout_s : 60,
	                                   .links = {.skip_measure = true, .chunk_bytes = 4096}};
	return ps_pipeline_create(out, &config);
}

static const int32_t words[ROWS * TIME] = {1, 2, 3, 4, 5, 6}, next[ROWS * TIME] = {2, 3, 4, 5, 6, 7};

ps_status tiny_life_step(ps_pipeline *pipeline, double *loss)
{
	return ps_pipeline_train(pipeline, &(ps_batch){words, next, ROWS, TIME, 0}, loss);
}

ps_status tiny_life_submit(ps_pipeline *pipeline, uint32_t step)
{
	return ps_pipeline_submit(pipeline, &(ps_batch){words, next, ROWS, TIME, step});
}

/* The second step is under way when the numbers of the first one are read. */
static ps_status two_steps(ps_pipeline *pipeline, ps_sgd *sgd, double *loss)
{
	double first, norm;
	PS_TRY(tiny_life_submit(pipeline, 0));
	PS_TRY(ps_sgd_submit(sgd, 1, 0.5));
	PS_TRY(tiny_life_submit(pipeline, 1));
	PS_TRY(ps_pipeline_collect(pipeline, &first));
	PS_TRY(ps_sgd_collect(sgd, &norm));
	PS_TRY(ps_sgd_submit(sgd, 1, 0.5));
	PS_TRY(ps_pipeline_collect(pipeline, loss));
	return ps_sgd_collect(sgd, &norm);
}

ps_status tiny_life_run(const struct tiny_life *life, double *loss)
{
	ps_pipeline *pipeline;
	ps_sgd *sgd = NULL;
	PS_TRY(tiny_life_create(&pipeline, life));
	ps_status status = ps_pipeline_initialize(pipeline);
	if (status == PS_OK)
		status = ps_sgd_create(&sgd, pipeline);
	if (status == PS_OK)
		status = two_steps(pipeline, sgd, loss);
	if (life->ending)
		life->ending(pipeline);
	ps_sgd_destroy(sgd);
	ps_pipeline_destroy(pipeline);
	return status;
}
