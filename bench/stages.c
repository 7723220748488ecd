/*
 * Stages and schedules, each beside its own bound. What the actions of a step take is measured by running each rank's
 * command lists one after the other while nothing else runs; the schedule is then simulated with these times.
 */
#include "bench/bench.h"
#include "bench/rig.h"

#include "core/backend.h"
#include "core/registry.h"
#include "pipeline/internal.h"

#include <stdlib.h>
#include <string.h>

ps_status bench_shared_open(void *devices, ps_device **out, const char *name)
{
	struct bench_shared *all = devices;
	ps_device *opened;
	PS_TRY(ps_device_open(&opened, name));
	for (int i = 0; i < all->count; i++) {
		if (strcmp(ps_device_get_info(all->device[i])->name, ps_device_get_info(opened)->name) != 0)
			continue;
		ps_device_close(opened);
		ps__device_hold(*out = all->device[i]);
		return PS_OK;
	}
	ps_device **grown = realloc(all->device, ((size_t)all->count + 1) * sizeof(ps_device *));
	if (grown == NULL) {
		ps_device_close(opened);
		return ps_fail(PS_ENOMEM, "no memory for the devices of %d pipelines", all->count + 1);
	}
	all->device = grown;
	all->device[all->count++] = opened;
	ps__device_hold(*out = opened);
	return PS_OK;
}

void bench_shared_finish(struct bench_shared *devices)
{
	for (int i = 0; i < devices->count; i++)
		ps_device_close(devices->device[i]);
	free(devices->device);
	*devices = (struct bench_shared){0};
}

enum { FORWARDS, INPUT_GRADIENTS, WEIGHT_GRADIENTS, COSTS };

/* A pipeline with what was measured of it. */
struct staged {
	ps_pipeline *pipeline;
	int32_t *tokens; /* inputs, and one further the targets */
	int64_t *times;  /* of a rank: when it began, and when each of its actions ended */
	double *seconds; /* [cost * stages + stage]: of the actions of one step, and the sample rows that they are for
	                  */
	double *rows;
	double *sizes; /* of the micro-batches */
	struct bench_samples bounds,
	        work;                /* seconds of a step: the least for its schedule; what a device does on average */
	struct bench_samples shares; /* of each bound in the step that it was measured beside */
};

static ps_status init(struct staged *s, ps_pipeline *pipeline)
{
	const struct program *program = pipeline->train;
	size_t count = (size_t)(program->rows * program->time) + 1, costs = (size_t)pipeline->stage_count * COSTS;
	*s = (struct staged){.pipeline = pipeline};
	s->tokens = calloc(count, sizeof *s->tokens);
	s->times = calloc((size_t)program->instruction_count + 1, sizeof *s->times);
	s->seconds = calloc(costs, sizeof *s->seconds);
	s->rows = calloc(costs, sizeof *s->rows);
	s->sizes = calloc((size_t)program->micro_batches, sizeof *s->sizes);
	if (s->tokens == NULL || s->times == NULL || s->seconds == NULL || s->rows == NULL || s->sizes == NULL)
		return ps_fail(PS_ENOMEM, "no memory for the times of %d stages", pipeline->stage_count);
	for (int m = 0; m < program->micro_batches; m++)
		s->sizes[m] = (double)program->sizes[m];
	return PS_OK;
}

static void finish(struct staged *s)
{
	bench_samples_free(&s->bounds);
	bench_samples_free(&s->work);
	bench_samples_free(&s->shares);
	free(s->sizes);
	free(s->rows);
	free(s->seconds);
	free(s->times);
	free(s->tokens);
}

static bool is_of(const struct instruction *instruction, int rank)
{
	return instruction->kind == INSTRUCTION_ACTION && instruction->rank == rank;
}

static int cost_of(ps_action action)
{
	if (action.kind == PS_ACTION_W)
		return WEIGHT_GRADIENTS;
	return action.kind == PS_ACTION_F || action.kind == PS_ACTION_R ? FORWARDS : INPUT_GRADIENTS;
}

static ps_status enqueue_rank(struct staged *s, int rank)
{
	const struct program *program = s->pipeline->train;
	ps_queue *queue = s->pipeline->ranks[rank].queue;
	int64_t *time = s->times;
	PS_TRY(ps_queue_timestamp(queue, time++));
	for (int i = 0; i < program->instruction_count; i++) {
		if (!is_of(&program->instructions[i], rank))
			continue;
		PS_TRY(ps_list_submit(program->instructions[i].list, 0));
		PS_TRY(ps_queue_timestamp(queue, time++));
	}
	return PS_OK;
}

static ps_status time_rank(struct staged *s, int rank)
{
	const struct program *program = s->pipeline->train;
	ps_status status = enqueue_rank(s, rank), finished = ps_queue_finish(s->pipeline->ranks[rank].queue);
	PS_TRY(status);
	PS_TRY(finished);
	const int64_t *time = s->times;
	for (int i = 0; i < program->instruction_count; i++) {
		const ps_action action = program->instructions[i].action;
		if (!is_of(&program->instructions[i], rank))
			continue;
		int at = cost_of(action) * s->pipeline->stage_count + action.stage;
		s->seconds[at] += (double)(time[1] - time[0]) * 1e-9;
		s->rows[at] += (double)(program->first_row[action.micro_batch + action.count] -
		                        program->first_row[action.micro_batch]);
		time++;
	}
	return PS_OK;
}

/* Seconds for one sample row. Leaves activations and gradients as no step has them, all of them finite numbers. */
static ps_status time_actions(struct staged *s)
{
	int costs = s->pipeline->stage_count * COSTS;
	for (int i = 0; i < costs; i++)
		s->seconds[i] = s->rows[i] = 0;
	for (int r = 0; r < s->pipeline->rank_count; r++)
		PS_TRY(time_rank(s, r));
	for (int i = 0; i < costs; i++)
		s->seconds[i] /= s->rows[i] > 0 ? s->rows[i] : 1;
	return PS_OK;
}

/*
 * The bound is the makespan of the schedule with a device for each rank and nothing but the actions, or the sum of what
 * the ranks of one device do where that is longer.
 */
static ps_status keep(struct staged *s, const ps_simulation *simulation, double step)
{
	const ps_pipeline *pipeline = s->pipeline;
	double bound = simulation->makespan, work = 0;
	for (int d = 0; d < pipeline->device_count; d++) {
		double busy = 0;
		for (int r = 0; r < pipeline->rank_count; r++)
			busy += ps__device_of_rank(pipeline, r) == d ? simulation->busy[r] : 0;
		bound = busy > bound ? busy : bound;
		work += busy / pipeline->device_count;
	}
	PS_TRY(bench_samples_add(&s->bounds, bound));
	PS_TRY(bench_samples_add(&s->shares, bound / step));
	return bench_samples_add(&s->work, work);
}

static ps_status find_bound(struct staged *s, double step)
{
	int stages = s->pipeline->stage_count;
	const ps_costs costs = {.forward = s->seconds + FORWARDS * stages,
	                        .backward_input = s->seconds + INPUT_GRADIENTS * stages,
	                        .backward_weight = s->seconds + WEIGHT_GRADIENTS * stages,
	                        .micro_batch_scale = s->sizes};
	ps_simulation simulation;
	PS_TRY(ps_schedule_simulate(&simulation, s->pipeline->train->schedule, &costs, false));
	ps_status status = keep(s, &simulation, step);
	ps_simulation_finish(&simulation);
	return status;
}

static ps_status sample(void *payload, int round, double *seconds)
{
	struct staged *s = payload;
	const struct program *program = s->pipeline->train;
	const ps_batch batch = {s->tokens, s->tokens + 1, program->rows, program->time, 0};
	double loss;
	int64_t begin = ps_clock_ns();
	PS_TRY(ps_pipeline_train(s->pipeline, &batch, &loss));
	*seconds = (double)(ps_clock_ns() - begin) * 1e-9;
	PS_TRY(time_actions(s));
	return round > 0 ? find_bound(s, *seconds) : PS_OK;
}

static ps_status report_rows(struct bench_report *report, const struct bench_staged *what, struct staged *all,
                             struct bench_case *cases, int count)
{
	for (int i = 0; i < count; i++) {
		struct bench_stats step = bench_samples_stats(&cases[i].samples);
		struct bench_row *row;
		if (step.count == 0)
			continue;
		double bound = bench_samples_stats(&all[i].bounds).median,
		       work = bench_samples_stats(&all[i].work).median;
		double whole = bench_samples_stats(&all[what[i].whole].work).median;
		struct bench_stats shares = bench_samples_stats(&all[i].shares);
		PS_TRY(bench_report_add(&row, report, what[i].section, what[i].name, BENCH_SECONDS, step));
		row->figures[BENCH_BOUND] = bound;
		row->figures[BENCH_BOUND_SHARE] = bound / step.median;
		row->figures[BENCH_BOUND_NOISE] = bench_stats_noise(&shares);
		row->figures[BENCH_CUT_SHARE] = (work - whole) / step.median;
		row->figures[BENCH_BUBBLE_SHARE] = (bound - work) / step.median;
		row->figures[BENCH_REST_SHARE] = (step.median - bound) / step.median;
	}
	return PS_OK;
}

static ps_status measure(struct bench_report *report, const struct bench_staged *what, struct staged *all,
                         struct bench_case *cases, int count, const struct bench_run *run)
{
	for (int i = 0; i < count; i++) {
		ps_pipeline *pipeline = what[i].pipeline;
		for (int d = 0; d < pipeline->device_count; d++)
			bench_report_device(report, ps_device_get_info(pipeline->devices[d]));
		PS_TRY(init(&all[i], pipeline));
		bench_fill(all[i].tokens, PS_I32, (size_t)(pipeline->train->rows * pipeline->train->time) + 1,
		           what[i].vocabulary);
		cases[i] = (struct bench_case){.sample = sample, .payload = &all[i]};
	}
	PS_TRY(bench_measure(cases, count, run, &report->interrupted));
	return report_rows(report, what, all, cases, count);
}

ps_status bench_stages(struct bench_report *report, const struct bench_staged *what, int count,
                       const struct bench_run *run)
{
	struct staged *all = calloc((size_t)count, sizeof *all);
	struct bench_case *cases = calloc((size_t)count, sizeof *cases);
	ps_status status = all != NULL && cases != NULL ? measure(report, what, all, cases, count, run)
	                                                : ps_fail(PS_ENOMEM, "no memory for %d pipelines", count);
	for (int i = 0; i < count; i++) {
		if (cases != NULL)
			bench_samples_free(&cases[i].samples);
		if (all != NULL)
			finish(&all[i]);
	}
	free(cases);
	free(all);
	return status;
}
