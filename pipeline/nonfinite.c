/* Where losses that are not finite come from: the forward once more, one layer at a time. */
#include "pipeline/internal.h"

#include <penstock/bf16.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* How many values are looked at at a time. */
#define PIECE ((int64_t)1 << 20)

struct search {
	ps_pipeline *pipeline;
	struct run *run;
	char loss[64]; /* how the message begins */
	bool found;
};

static double value_at(const void *values, ps_dtype dtype, int64_t i)
{
	if (dtype == PS_BF16)
		return (double)ps_bf16_widen(((const uint16_t *)values)[i]);
	return dtype == PS_F64 ? ((const double *)values)[i] : (double)((const float *)values)[i];
}

static bool finite_values(const void *values, ps_dtype dtype, int64_t count)
{
	for (int64_t i = 0; i < count; i++)
		if (!isfinite(value_at(values, dtype, i)))
			return false;
	return true;
}

/* True when all elements of a floating-point tensor are finite. */
static ps_status all_finite(ps_queue *queue, ps_tensor tensor, bool *finite)
{
	int64_t total = ps_tensor_count(tensor);
	size_t size = ps_dtype_bytes(tensor.dtype);
	*finite = true;
	void *values = malloc((size_t)(total < PIECE ? total : PIECE) * size);
	if (!values)
		return ps_fail(PS_ENOMEM, "out of memory to look for values that are not finite");
	ps_status status = PS_OK;
	for (int64_t at = 0; at < total && *finite && status == PS_OK; at += PIECE) {
		int64_t count = total - at < PIECE ? total - at : PIECE;
		ps_tensor part =
		        ps_tensor_make(tensor.buffer, tensor.offset + (uint64_t)at * size, tensor.dtype, 1, &count);
		status = ps_queue_read(queue, values, part);
		if (status == PS_OK)
			status = ps_queue_finish(queue);
		*finite = status != PS_OK || finite_values(values, tensor.dtype, count);
	}
	free(values);
	return status;
}

static const char *device_name(const struct search *search, int stage)
{
	const ps_pipeline *pipeline = search->pipeline;
	return ps_device_get_info(pipeline->ranks[pipeline->stages[stage].rank].device)->name;
}

static ps_status look_at_parameters(struct search *search, int stage, int l)
{
	ps_pipeline *pipeline = search->pipeline;
	const ps_layer *layer = pipeline->config.layers[l];
	for (int i = 0; i < layer->parameter_count; i++) {
		bool finite;
		PS_TRY(all_finite(pipeline->ranks[pipeline->stages[stage].rank].queue, pipeline->memory[l].values[i],
		                  &finite));
		if (finite)
			continue;
		search->found = true;
		return ps_fail(PS_ENUMERIC, "%s: parameter %s.%s of stage %d on %s is not finite", search->loss,
		               layer->name, layer->parameters[i].name, stage, device_name(search, stage));
	}
	return PS_OK;
}

/* Runs one layer for one micro-batch and looks at its output. */
static ps_status look_at_layer(struct search *search, int stage, int l, int micro_batch)
{
	ps_pipeline *pipeline = search->pipeline;
	ps_queue *queue = pipeline->ranks[pipeline->stages[stage].rank].queue;
	ps_list *list;
	ps_tensor output;
	bool finite = true;
	PS_TRY(ps_list_create(&list, queue));
	ps_status status = ps__record_forward(pipeline, search->run->program, stage, l, micro_batch, list, &output);
	if (status == PS_OK)
		status = ps_list_submit(list, search->run->batch.step);
	if (status == PS_OK)
		status = ps_queue_finish(queue);
	if (status == PS_OK)
		status = all_finite(queue, output, &finite);
	ps_list_destroy(list);
	if (status != PS_OK || finite)
		return status;
	search->found = true;
	return ps_fail(PS_ENUMERIC,
	               "%s: the output of layer %s, stage %d on %s, is the first that is not finite, in micro-batch %d",
	               search->loss, pipeline->config.layers[l]->name, stage, device_name(search, stage), micro_batch);
}

static ps_status pass_on(const struct search *search, int stage, int micro_batch)
{
	ps_pipeline *pipeline = search->pipeline;
	if (stage + 1 == pipeline->stage_count || ps__boundary_direct(pipeline, stage))
		return PS_OK;
	ps_event done;
	PS_TRY(ps_link_send(pipeline->boundaries[stage].forward,
	                    ps__input_tensor(pipeline, search->run->program, stage + 1, micro_batch, false),
	                    ps__output_tensor(pipeline, search->run->program, stage, micro_batch, false), NULL, 0, NULL,
	                    &done));
	return ps_event_wait(done, -1);
}

static ps_status search_all(struct search *search)
{
	const ps_pipeline *pipeline = search->pipeline;
	const struct program *program = search->run->program;
	for (int i = 0; i < program->micro_batches && program->sizes[i]; i++) {
		for (int s = 0; s < pipeline->stage_count; s++) {
			const struct stage *stage = &pipeline->stages[s];
			for (int l = stage->first; l < stage->first + stage->count; l++) {
				if (i == 0)
					PS_TRY(look_at_parameters(search, s, l));
				PS_TRY(look_at_layer(search, s, l, i));
			}
			PS_TRY(pass_on(search, s, i));
		}
	}
	return PS_OK;
}

/* Waits for what is still on its way, and brings the run's tokens back to where a later one has put its own. */
static ps_status restore(struct search *search)
{
	ps_pipeline *pipeline = search->pipeline;
	PS_TRY(ps__run_enqueue_edge(pipeline, search->run, EDGE_TOKENS));
	PS_TRY(ps__run_enqueue_edge(pipeline, search->run, EDGE_TARGETS));
	for (int r = 0; r < pipeline->rank_count; r++)
		PS_TRY(ps_queue_finish(pipeline->ranks[r].queue));
	return PS_OK;
}

ps_status ps__explain_nonfinite(ps_pipeline *pipeline, struct run *run, double loss)
{
	struct search search = {.pipeline = pipeline, .run = run};
	/* A NaN has a sign that says nothing. */
	loss = isnan(loss) ? (double)NAN : loss;
	if (run->program->training)
		snprintf(search.loss, sizeof search.loss, "the loss of step %u is %g", run->batch.step, loss);
	else
		snprintf(search.loss, sizeof search.loss, "the loss of an evaluation is %g", loss);
	ps_status status = restore(&search);
	if (status == PS_OK)
		status = search_all(&search);
	if (search.found)
		return status;
	if (status == PS_OK)
		return ps_fail(PS_ENUMERIC, "%s", search.loss);
	char why[512];
	snprintf(why, sizeof why, "%s", ps_error_message());
	ps__recover(pipeline, status);
	return ps_fail(PS_ENUMERIC, "%s (the search for its origin failed: %s)", search.loss, why);
}
