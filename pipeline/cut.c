/* The cut of the layers into stages: as told, by counted operations, or by measured times within the memory there is.
 */
#include "pipeline/internal.h"

#include <stdlib.h>
#include <string.h>

static void set_stages(ps_pipeline *pipeline, const int *sizes)
{
	for (int s = 0, first = 0; s < pipeline->stage_count; first += sizes[s++]) {
		pipeline->stages[s].first = first;
		pipeline->stages[s].count = sizes[s];
	}
}

/* Operations of each layer for one sample row. */
static ps_status count_work(const ps_pipeline *pipeline, double *work)
{
	const ps_pipeline_config *config = &pipeline->config;
	ps_shape in = {PS_I32, 1, {config->time}};
	for (int l = 0; l < config->layer_count; l++) {
		ps_layer_plan plan = {0};
		PS_TRY(config->layers[l]->impl->plan(config->layers[l], &in, config->dtype, &plan));
		work[l] = plan.forward_flops + plan.backward_input_flops + plan.backward_weight_flops;
		in = plan.out;
	}
	return PS_OK;
}

ps_status ps__cut(ps_pipeline *pipeline)
{
	const ps_pipeline_config *config = &pipeline->config;
	if (config->balance) {
		set_stages(pipeline, config->balance);
		return PS_OK;
	}
	int *sizes = calloc((size_t)pipeline->stage_count, sizeof *sizes);
	double *work = calloc((size_t)config->layer_count, sizeof *work);
	ps_status status = sizes && work ? count_work(pipeline, work) : ps_fail(PS_ENOMEM, "no memory for a cut");
	if (status == PS_OK)
		status = ps_balance(&(const ps_balance_problem){.stages = pipeline->stage_count,
		                                                .units = config->layer_count,
		                                                .costs = work},
		                    sizes);
	if (status == PS_OK)
		set_stages(pipeline, sizes);
	free(work);
	free(sizes);
	return status;
}

double ps__rank_slowdown(const ps_pipeline *pipeline, int r, const bool *busy)
{
	int device = ps__device_of_rank(pipeline, r);
	double sum = 1;
	for (int other = 0; other < pipeline->rank_count; other++)
		if (other != r && (!busy || busy[other]))
			sum += pipeline->measured->slowdown[device * pipeline->device_count +
			                                    ps__device_of_rank(pipeline, other)] -
			       1;
	return sum;
}

/* Rows of a stage whose forward runs a second time. */
static double recomputed_rows(const struct program *program, int s)
{
	double rows = 0;
	for (int i = 0; i < program->micro_batches; i++)
		if (program->at_recompute[ps__at(program, s, i)] >= 0)
			rows += (double)program->sizes[i];
	return rows;
}

/* What each layer takes in a step on each stage's device while all others are at work too. */
static void fill_times(const ps_pipeline *pipeline, double *costs)
{
	int layers = pipeline->config.layer_count;
	double rows = (double)pipeline->train->rows;
	for (int s = 0; s < pipeline->stage_count; s++) {
		int r = pipeline->stages[s].rank;
		double slowdown = ps__rank_slowdown(pipeline, r, NULL), again = recomputed_rows(pipeline->train, s);
		for (int l = 0; l < layers; l++) {
			const struct layer_cost *cost = ps__layer_cost(pipeline, r, l);
			costs[s * layers + l] =
			        slowdown * ((rows + again) * cost->forward + rows * (cost->backward + cost->weight) +
			                    cost->squares + cost->update);
		}
	}
}

/* What the search asks about memory. */
struct question {
	ps_pipeline *pipeline;
	ps_status status; /* of what is no answer */
};

/*
 * Bytes of a stage with these layers: exactly what is allocated for it, where each rank has one stage; stages that
 * share a rank share scratch too, of which the sum counts both.
 */
static uint64_t bytes_of(void *payload, int s, int first, int count)
{
	struct question *question = payload;
	ps_pipeline *pipeline = question->pipeline;
	struct stage *stage = &pipeline->stages[s], kept = *stage;
	const ps_device_info *info = ps_device_get_info(pipeline->ranks[stage->rank].device);
	uint64_t most = 0, bytes = 0;
	stage->first = first;
	stage->count = count;
	ps_status status = PS_OK;
	for (int i = 0; i < pipeline->program_count && status == PS_OK; i++) {
		status = ps__stage_layout_bytes(pipeline, pipeline->programs[i], s, &bytes);
		most = bytes > most ? bytes : most;
	}
	*stage = kept;
	if (status != PS_OK && status != PS_ETOOBIG)
		question->status = status;
	if (status != PS_OK)
		return UINT64_MAX;
	for (int l = first; l < first + count; l++) {
		const uint64_t *parts = pipeline->memory[l].bytes;
		if (info->max_buffer_bytes && parts[MEMORY_VALUES] > info->max_buffer_bytes)
			return UINT64_MAX;
		for (int k = 0; k < MEMORY_COUNT; k++)
			most += parts[k];
	}
	return most + ps__edge_bytes(pipeline, s);
}

/* Work or, when it was measured, time of each layer on each stage. */
static ps_status fill_costs(const ps_pipeline *pipeline, bool by_time, double *costs)
{
	size_t layers = (size_t)pipeline->config.layer_count;
	if (by_time) {
		fill_times(pipeline, costs);
		return PS_OK;
	}
	PS_TRY(count_work(pipeline, costs));
	for (size_t s = 1; s < (size_t)pipeline->stage_count; s++)
		memcpy(costs + s * layers, costs, layers * sizeof *costs);
	return PS_OK;
}

ps_status ps__cut_within_memory(ps_pipeline *pipeline, bool by_time)
{
	size_t stages = (size_t)pipeline->stage_count, layers = (size_t)pipeline->config.layer_count;
	size_t devices = (size_t)pipeline->device_count;
	double *costs = calloc(stages * layers, sizeof *costs);
	int *sizes = calloc(stages, sizeof *sizes), *pool = calloc(stages, sizeof *pool);
	uint64_t *limits = calloc(devices, sizeof *limits);
	const char **names = calloc(devices, sizeof *names);
	struct question question = {pipeline, PS_OK};
	ps_status status = PS_OK;
	if (!costs || !sizes || !pool || !limits || !names) {
		status = ps_fail(PS_ENOMEM, "no memory for a cut");
		goto out;
	}
	status = fill_costs(pipeline, by_time, costs);
	for (int d = 0; d < pipeline->device_count; d++)
		limits[d] = ps__device_memory(pipeline, d, &names[d]);
	for (int s = 0; s < pipeline->stage_count; s++)
		pool[s] = ps__memory_pool(pipeline, ps__device_of_rank(pipeline, pipeline->stages[s].rank));
	if (status == PS_OK)
		status = ps_balance(&(const ps_balance_problem){.stages = pipeline->stage_count,
		                                                .units = pipeline->config.layer_count,
		                                                .costs = costs,
		                                                .stride = pipeline->config.layer_count,
		                                                .bytes = bytes_of,
		                                                .payload = &question,
		                                                .pool = pool,
		                                                .limits = limits,
		                                                .pool_names = names,
		                                                .pools = pipeline->device_count},
		                    sizes);
	if (question.status != PS_OK)
		status = ps_fail(question.status, "no memory for a cut");
	if (status == PS_OK)
		set_stages(pipeline, sizes);
out:
	free(names);
	free(limits);
	free(pool);
	free(sizes);
	free(costs);
	return status;
}
