/*
 * What an optimizer has of all parameters on every rank: values that each rank has of its own parameters go along the
 * pipeline's boundaries, those of earlier stages forward and those of later ones backward.
 */
#include "pipeline/internal.h"

#include "core/backend.h"

struct gathering {
	ps_pipeline *pipeline;
	const ps_tensor *values; /* [rank] */
	ps_event *reached;       /* [rank]: its values are there, as far as the direction has come */
	bool backward;
};

/* Parameters of stages up to `stage`; those of the stage and all behind it begin where those before it end. */
static int64_t parameters_until(const ps_pipeline *pipeline, int stage)
{
	int last = pipeline->stages[stage].first + pipeline->stages[stage].count - 1;
	int64_t count = 0;
	while (count < pipeline->parameter_count && pipeline->parameter_layer[count] <= last)
		count++;
	return count;
}

/* Moves on what the stage at one side of the boundary behind `stage` knows to the other side. */
static ps_status pass(struct gathering *g, int stage)
{
	ps_pipeline *pipeline = g->pipeline;
	int64_t first = g->backward ? parameters_until(pipeline, stage) : 0;
	int64_t count = (g->backward ? pipeline->parameter_count : parameters_until(pipeline, stage)) - first;
	int a = pipeline->stages[stage + g->backward].rank, b = pipeline->stages[stage + !g->backward].rank;
	if (a == b)
		return PS_OK;
	ps_tensor from = ps_tensor_slice(g->values[a], 0, first, count);
	ps_tensor to = ps_tensor_slice(g->values[b], 0, first, count);
	/* Also where there is nothing to move yet: all ranks are to wait for all. */
	if (count == 0 || ps__boundary_direct(pipeline, stage)) {
		ps_queue *queue = pipeline->ranks[b].queue;
		PS_TRY(ps_queue_wait(queue, g->reached[a]));
		if (count > 0)
			PS_TRY(ps_queue_copy(queue, to, from));
		g->reached[b] = ps_queue_record(queue);
		return PS_OK;
	}
	const struct boundary *boundary = &pipeline->boundaries[stage];
	const ps_event after[] = {g->reached[a], g->reached[b]};
	return ps_link_send(g->backward ? boundary->backward : boundary->forward, to, from, after, 2, NULL,
	                    &g->reached[b]);
}

static void record_all(const struct gathering *g)
{
	for (int r = 0; r < g->pipeline->rank_count; r++)
		g->reached[r] = ps_queue_record(g->pipeline->ranks[r].queue);
}

static ps_status wait_for_all(const struct gathering *g)
{
	for (int r = 0; r < g->pipeline->rank_count; r++)
		PS_TRY(ps_queue_wait(g->pipeline->ranks[r].queue, g->reached[r]));
	return PS_OK;
}

ps_status ps_pipeline_gather(ps_pipeline *pipeline, const ps_tensor *values)
{
	struct gathering forward = {pipeline, values, pipeline->gathered, false};
	struct gathering backward = {pipeline, values, pipeline->gathered + pipeline->rank_count, true};
	record_all(&forward);
	record_all(&backward);
	for (int s = 0; s + 1 < pipeline->stage_count; s++)
		PS_TRY(pass(&forward, s));
	/* Where a rank has several stages, both directions write the same elements. */
	if (pipeline->rank_count != pipeline->stage_count) {
		PS_TRY(wait_for_all(&forward));
		record_all(&backward);
	}
	for (int s = pipeline->stage_count - 2; s >= 0; s--)
		PS_TRY(pass(&backward, s));
	PS_TRY(wait_for_all(&forward));
	PS_TRY(wait_for_all(&backward));
	pipeline->joined = true;
	return PS_OK;
}
