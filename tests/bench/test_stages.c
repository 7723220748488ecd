/*
 * Stages beside the bounds of their schedules. Ops that wait stand for all work, so that the bound is known: the
 * simulation with the number of ops for costs.
 */
#include "bench/bench.h"
#include "tests/engine/trial.h"

#include "pipeline/internal.h"

#include <math.h>

#define DELAY_NS INT64_C(1000000)

enum { WHOLE, CUT, PIPELINES };

static void delay(struct trial *trial, int device)
{
	hook_add(&trial->hooks[device], .effect = HOOK_DELAY, .call = HOOK_OP, .every = true, .delay_ns = DELAY_NS);
}

/* The mean number of ops of a stage's actions of one kind. */
static double ops(const struct program *program, int stage, ps_action_kind kind)
{
	double sum = 0, actions = 0;
	for (int i = 0; i < program->instruction_count; i++) {
		const struct instruction *instruction = &program->instructions[i];
		if (instruction->kind != INSTRUCTION_ACTION || instruction->action.stage != stage ||
		    instruction->action.kind != kind)
			continue;
		sum += (double)ps_list_count(instruction->list);
		actions += instruction->action.count;
	}
	return actions > 0 ? sum / actions : 0;
}

/* The simulation in ops: the makespan, and what a rank does on average. */
static void count_ops(const ps_pipeline *pipeline, double *makespan, double *work)
{
	double costs[3][TRIAL_RANKS];
	for (int s = 0; s < pipeline->stage_count; s++) {
		costs[0][s] = ops(pipeline->train, s, PS_ACTION_F);
		costs[1][s] = ops(pipeline->train, s, PS_ACTION_B) + ops(pipeline->train, s, PS_ACTION_BW);
		costs[2][s] = ops(pipeline->train, s, PS_ACTION_W);
	}
	ps_simulation simulation;
	check_ok(ps_schedule_simulate(&simulation, pipeline->train->schedule,
	                              &(ps_costs){costs[0], costs[1], costs[2], NULL, NULL, NULL}, false));
	*makespan = simulation.makespan;
	*work = 0;
	for (int rank = 0; rank < pipeline->rank_count; rank++)
		*work += simulation.busy[rank] / pipeline->rank_count;
	ps_simulation_finish(&simulation);
}

static void run(struct trial *trials, struct bench_report *report)
{
	struct bench_staged rows[PIPELINES];
	static const char *const names[] = {[WHOLE] = "whole", [CUT] = "cut"};
	for (int i = 0; i < PIPELINES; i++) {
		trial_open(&trials[i]);
		check_ok(ps_pipeline_initialize(trials[i].pipeline));
		rows[i] = (struct bench_staged){.section = "stages",
		                                .name = names[i],
		                                .pipeline = trials[i].pipeline,
		                                .vocabulary = TRIAL_VOCABULARY,
		                                .whole = WHOLE};
	}
	*report = (struct bench_report){0};
	check_ok(bench_stages(report, rows, PIPELINES, &(struct bench_run){.seconds = 0.2}));
	ck_assert_int_eq(report->row_count, PIPELINES);
	for (int i = 0; i < PIPELINES; i++) {
		const double *figures = report->rows[i].figures;
		ck_assert_str_eq(report->rows[i].name, names[i]);
		ck_assert_double_eq_tol(figures[BENCH_BOUND_SHARE] + figures[BENCH_REST_SHARE], 1, 1e-9);
		ck_assert_double_eq_tol(figures[BENCH_BOUND] / report->rows[i].stats.median, figures[BENCH_BOUND_SHARE],
		                        1e-9);
		ck_assert_int_eq(isfinite(figures[BENCH_BOUND_NOISE]) != 0,
		                 report->rows[i].stats.count >= BENCH_NOISE_SAMPLES);
	}
	ck_assert_double_eq(report->rows[WHOLE].figures[BENCH_CUT_SHARE], 0);
}

/* A device for each stage: bounds are makespans, and three micro-batches wait three times as often as one. */
START_TEST(bounds_are_makespans)
{
	double off = INFINITY;
	/* Waiting never takes less than it should; how much more it takes on a busy machine is much the same for all.
	 */
	for (int chance = 0; chance < 10 && off > 0.2; chance++) {
		struct trial trials[PIPELINES];
		struct bench_report report;
		for (int i = 0; i < PIPELINES; i++)
			trials[i] = (struct trial){.hooked = true,
			                           .opened = delay,
			                           .config = {.rank_count = 3,
			                                      .schedule = _i == 0 ? "gpipe" : "1f1b",
			                                      .chunks = i == WHOLE ? 1 : 3}};
		run(trials, &report);
		off = 0;
		for (int i = 0; i < PIPELINES; i++) {
			const double *figures = report.rows[i].figures;
			double makespan, work_ops, step = report.rows[i].stats.median;
			double work = figures[BENCH_BOUND] - figures[BENCH_BUBBLE_SHARE] * step;
			count_ops(trials[i].pipeline, &makespan, &work_ops);
			ck_assert_double_ge(work, 0.98 * work_ops * (double)DELAY_NS * 1e-9);
			off = fmax(off, fabs(figures[BENCH_BOUND] / work / (makespan / work_ops) - 1));
			ck_assert_double_gt(report.rows[i].figures[BENCH_BUBBLE_SHARE], 0);
			trial_close(&trials[i]);
		}
		bench_report_finish(&report);
	}
	ck_assert_msg(off <= 0.2, "off by %g", off);
}
END_TEST

/* On one device stages have no bubble: the bound is the sum of their work. */
START_TEST(one_device_has_no_bubble)
{
	struct trial trials[PIPELINES];
	struct bench_report report;
	for (int i = 0; i < PIPELINES; i++)
		trials[i] = (struct trial){.devices = {"ref#0", "ref#0"},
		                           .config = {.rank_count = 2,
		                                      .schedule = _i == 0 ? "gpipe" : "1f1b",
		                                      .checkpoint = PS_CHECKPOINT_ALWAYS,
		                                      .chunks = i == WHOLE ? 1 : 3}};
	run(trials, &report);
	for (int i = 0; i < PIPELINES; i++) {
		ck_assert_double_eq_tol(report.rows[i].figures[BENCH_BUBBLE_SHARE], 0, 1e-9);
		trial_close(&trials[i]);
	}
	bench_report_finish(&report);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("bench_stages");
	TCase *tests = tcase_create("stages");
	tcase_set_timeout(tests, 120);
	tcase_add_loop_test(tests, bounds_are_makespans, 0, 2);
	tcase_add_loop_test(tests, one_device_has_no_bubble, 0, 2);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
