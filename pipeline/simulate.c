/* Simulation: a schedule replayed with the cost of each action and transfer, and its picture. */
#include "pipeline/schedule_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One cost from an array of the caller; NULL has the default everywhere. */
static ps_status read_cost(double *out, const double *costs, int index, double otherwise, const char *what)
{
	double cost = costs ? costs[index] : otherwise;
	if (!isfinite(cost) || cost < 0)
		return ps_fail(PS_EINVAL, "the %s cost of %d is %g; costs must be finite and not negative", what, index,
		               cost);
	*out = cost;
	return PS_OK;
}

static ps_status read_costs(ps__stage_cost *out, const ps_schedule *schedule, const ps_costs *costs)
{
	int last = schedule->stages - 1;
	for (int stage = 0; stage <= last; stage++) {
		ps__stage_cost *cost = &out[stage];
		PS_TRY(read_cost(&cost->forward, costs->forward, stage, 1, "forward"));
		PS_TRY(read_cost(&cost->backward_input, costs->backward_input, stage, 1, "input gradient"));
		PS_TRY(read_cost(&cost->backward_weight, costs->backward_weight, stage, 1, "weight gradient"));
		/* Boundary s lies between s and s + 1: behind a stage forward, before it backward. */
		if (stage < last)
			PS_TRY(read_cost(&cost->send_forward, costs->send_forward, stage, 0, "forward transfer"));
		if (stage > 0)
			PS_TRY(read_cost(&cost->send_backward, costs->send_backward, stage - 1, 0,
			                 "backward transfer"));
	}
	double unused;
	for (int i = 0; i < schedule->micro_batches && costs->micro_batch_scale; i++)
		PS_TRY(read_cost(&unused, costs->micro_batch_scale, i, 1, "micro-batch"));
	return PS_OK;
}

static void record(void *context, int rank, int64_t position, double begin, double end)
{
	ps_simulation *simulation = context;
	if (simulation->spans)
		simulation->spans[rank][position] = (ps_span){begin, end};
	simulation->busy[rank] += end - begin;
	simulation->makespan = end > simulation->makespan ? end : simulation->makespan;
}

/* One block holds all spans; each rank points into it. */
static ps_status allocate_spans(ps_simulation *simulation, const ps_schedule *schedule)
{
	uint64_t actions = 0;
	for (int rank = 0; rank < schedule->ranks; rank++)
		actions += (uint64_t)schedule->rank[rank].count;
	bool fits = actions < SIZE_MAX / sizeof(ps_span);
	ps_span *block = fits ? malloc((size_t)(actions + 1) * sizeof *block) : NULL;
	ps_span **spans = calloc((size_t)schedule->ranks, sizeof *spans);
	if (!block || !spans) {
		free(block);
		free(spans);
		return ps_fail(PS_ENOMEM, "no memory for the times of %" PRIu64 " actions", actions);
	}
	spans[0] = block;
	for (int rank = 1; rank < schedule->ranks; rank++)
		spans[rank] = spans[rank - 1] + schedule->rank[rank - 1].count;
	simulation->spans = spans;
	return PS_OK;
}

static ps_status allocate(ps_simulation *simulation, const ps_schedule *schedule, bool with_spans)
{
	simulation->busy = calloc((size_t)schedule->ranks, sizeof *simulation->busy);
	simulation->idle = calloc((size_t)schedule->ranks, sizeof *simulation->idle);
	if (!simulation->busy || !simulation->idle)
		return ps_fail(PS_ENOMEM, "no memory to simulate %d ranks", schedule->ranks);
	return with_spans ? allocate_spans(simulation, schedule) : PS_OK;
}

static void sum_up(ps_simulation *simulation, int ranks)
{
	double idle = 0;
	for (int rank = 0; rank < ranks; rank++) {
		simulation->idle[rank] = simulation->makespan - simulation->busy[rank];
		idle += simulation->idle[rank];
	}
	simulation->bubble = simulation->makespan > 0 ? idle / (ranks * simulation->makespan) : 0;
}

ps_status ps_schedule_simulate(ps_simulation *out, const ps_schedule *schedule, const ps_costs *costs, bool with_spans)
{
	static const ps_costs all_equal = {0};
	costs = costs ? costs : &all_equal;
	*out = (ps_simulation){0};
	PS_TRY(ps__schedule_check(schedule));
	ps__stage_cost *stage_costs = calloc((size_t)schedule->stages, sizeof *stage_costs);
	if (!stage_costs)
		return ps_fail(PS_ENOMEM, "no memory to simulate %d stages", schedule->stages);
	ps_simulation simulation = {0};
	ps_status status = read_costs(stage_costs, schedule, costs);
	if (status == PS_OK)
		status = allocate(&simulation, schedule, with_spans);
	if (status == PS_OK)
		status = ps__schedule_replay(schedule, stage_costs, costs->micro_batch_scale, record, &simulation);
	free(stage_costs);
	if (status != PS_OK) {
		ps_simulation_finish(&simulation);
		return status;
	}
	sum_up(&simulation, schedule->ranks);
	*out = simulation;
	return PS_OK;
}

void ps_simulation_finish(ps_simulation *simulation)
{
	if (!simulation)
		return;
	if (simulation->spans)
		free(simulation->spans[0]);
	free(simulation->spans);
	free(simulation->busy);
	free(simulation->idle);
	*simulation = (ps_simulation){0};
}
