/* What a schedule costs before the first step: generating, grouping weight gradients, validating, simulating. */
#include "bench/bench.h"

#include <penstock/schedule.h>

#include <string.h>

enum { GENERATE, GROUP, VALIDATE, SIMULATE, STEPS, MOST_RULES = 16 };

struct rule_bench {
	const char *name;
	int ranks, micro_batches;
	struct bench_samples steps[STEPS];
};

static ps_status run_steps(struct rule_bench *rule, ps_schedule **schedule, int64_t *at)
{
	at[0] = ps_clock_ns();
	PS_TRY(ps_schedule_generate(schedule, rule->name, rule->ranks, 1, rule->micro_batches));
	at[1] = ps_clock_ns();
	PS_TRY(ps_schedule_group_weight(*schedule, rule->micro_batches));
	at[2] = ps_clock_ns();
	PS_TRY(ps_schedule_validate(*schedule));
	at[3] = ps_clock_ns();
	ps_simulation simulation;
	PS_TRY(ps_schedule_simulate(&simulation, *schedule, NULL, true));
	at[4] = ps_clock_ns();
	ps_simulation_finish(&simulation);
	return PS_OK;
}

static ps_status sample(void *payload, int round, double *seconds)
{
	struct rule_bench *rule = payload;
	ps_schedule *schedule = NULL;
	int64_t at[STEPS + 1];
	ps_status status = run_steps(rule, &schedule, at);
	ps_schedule_destroy(schedule);
	for (int i = 0; status == PS_OK && round > 0 && i < STEPS; i++)
		status = bench_samples_add(&rule->steps[i], (double)(at[i + 1] - at[i]) * 1e-9);
	if (status == PS_OK)
		*seconds = (double)(at[STEPS] - at[0]) * 1e-9;
	return status;
}

static ps_status report_rule(struct bench_report *report, struct rule_bench *rule, struct bench_case *all)
{
	static const char *const names[] = {"generate", "group W", "validate", "simulate"};
	struct bench_row *row;
	struct bench_stats stats = bench_samples_stats(&all->samples);
	if (stats.count == 0)
		return PS_OK;
	for (int i = 0; i < STEPS; i++)
		PS_TRY(bench_report_add(&row, report, rule->name, names[i], BENCH_SECONDS,
		                        bench_samples_stats(&rule->steps[i])));
	return bench_report_add(&row, report, rule->name, "in all", BENCH_SECONDS, stats);
}

ps_status bench_simulate(struct bench_report *report, const char *name, int ranks, int micro_batches,
                         const struct bench_run *run)
{
	struct rule_bench rules[MOST_RULES];
	struct bench_case cases[MOST_RULES];
	int count = 0;
	for (const ps_schedule_rule *rule = ps_schedule_rules(); rule->name != NULL && count < MOST_RULES; rule++) {
		if (name != NULL ? strcmp(name, rule->name) != 0 : rule->stages_per_rank > 1)
			continue;
		rules[count] = (struct rule_bench){.name = rule->name, .ranks = ranks, .micro_batches = micro_batches};
		cases[count] = (struct bench_case){.sample = sample, .payload = &rules[count]};
		count++;
	}
	ps_status status = bench_measure(cases, count, run, &report->interrupted);
	for (int i = 0; i < count; i++) {
		if (status == PS_OK)
			status = report_rule(report, &rules[i], &cases[i]);
		for (int step = 0; step < STEPS; step++)
			bench_samples_free(&rules[i].steps[step]);
		bench_samples_free(&cases[i].samples);
	}
	return status;
}
