/* `penstock bench stages`: the pipelines that it compares. */
#include "tools/penstock/bench_stages.h"

#include "tools/penstock/setup.h"

#include "core/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_COUNTS = 16, MOST_RANKS = 256, NAME_BYTES = 48 };

/* All pipelines of a run, with the rows that they become. */
struct pipelines {
	const bench_options *options;
	struct bench_shared devices;
	struct setup *setups;
	char (*names)[NAME_BYTES];
	struct bench_staged *rows;
	int count;
};

static ps_status parse_counts(const char *text, int *counts, int *count)
{
	int last = 0;
	for (const char *at = text; *count < MOST_COUNTS;) {
		char *end = NULL;
		long number = *at >= '0' && *at <= '9' ? strtol(at, &end, 10) : 0;
		if (end == NULL || number <= last || number > MOST_RANKS || (*end != ',' && *end != '\0'))
			break;
		counts[(*count)++] = last = (int)number;
		if (*end == '\0')
			return PS_OK;
		at = end + 1;
	}
	return ps_fail(PS_EINVAL, "--ranks %.60s: give up to %d ascending numbers from 1 to %d, as in 1,2,4", text,
	               MOST_COUNTS, MOST_RANKS);
}

/* Adds one pipeline; `schedule` NULL: the whole batch as one micro-batch. */
static ps_status add(struct pipelines *p, const char *section, const char *stages, const char *schedule, int whole)
{
	run_options run = p->options->run;
	int i = p->count++;
	run.stages = stages;
	run.devices = &p->devices;
	run.schedule = schedule != NULL ? schedule : "gpipe";
	run.chunks = schedule != NULL ? run.chunks : 1;
	PS_TRY(setup_init(&p->setups[i], &run, false));
	PS_TRY(ps_pipeline_initialize(p->setups[i].pipeline));
	int ranks = p->setups[i].stage_count;
	snprintf(p->names[i], NAME_BYTES, "%d %s, %.24s", ranks, ps__plural(ranks, "stage", "stages"),
	         schedule != NULL ? schedule : "whole batch");
	p->rows[i] = (struct bench_staged){.section = section,
	                                   .name = p->names[i],
	                                   .pipeline = p->setups[i].pipeline,
	                                   .vocabulary = run.vocabulary,
	                                   .whole = whole};
	return PS_OK;
}

/* The whole batch, and each of the schedules, on the same stages. */
static ps_status add_schedules(struct pipelines *p, const char *section, const char *stages)
{
	const char *only = p->options->run.schedule;
	int whole = p->count;
	PS_TRY(add(p, section, stages, NULL, whole));
	for (const ps_schedule_rule *rule = ps_schedule_rules(); rule->name != NULL; rule++) {
		bool asked = only != NULL ? strcmp(rule->name, only) == 0 : strcmp(rule->name, "forward-only") != 0;
		if (asked && rule->stages_per_rank <= 1)
			PS_TRY(add(p, section, stages, rule->name, whole));
	}
	return PS_OK;
}

/* As many stages on the one device. */
static ps_status add_one_device(struct pipelines *p, int ranks)
{
	const char *device = p->options->device;
	size_t length = strlen(device) + 1;
	char *stages = malloc((size_t)ranks * length);
	if (stages == NULL)
		return ps_fail(PS_ENOMEM, "no memory for the names of %d stages", ranks);
	for (int r = 0; r < ranks; r++) {
		memcpy(stages + (size_t)r * length, device, length - 1);
		stages[(size_t)(r + 1) * length - 1] = r + 1 < ranks ? ',' : '\0';
	}
	ps_status status = add_schedules(p, "stages on one device", stages);
	free(stages);
	return status;
}

/* None where there are fewer cores than ranks, or where something else than all cores is measured. */
static ps_status add_cores(struct pipelines *p, int ranks, int cores)
{
	char *stages;
	if (ranks < 2 || ranks > cores || strcmp(p->options->device, "cpu") != 0)
		return PS_OK;
	PS_TRY(stages_on_cores(&stages, ranks, cores));
	ps_status status = add_schedules(p, "stages on groups of cores", stages);
	free(stages);
	return status;
}

static ps_status add_all(struct pipelines *p, const int *counts, int count)
{
	int cores;
	if (p->options->run.stages != NULL)
		return add_schedules(p, "stages", p->options->run.stages);
	PS_TRY(cpu_cores(&cores));
	for (int i = 0; i < count; i++)
		PS_TRY(add_one_device(p, counts[i]));
	for (int i = 0; i < count; i++)
		PS_TRY(add_cores(p, counts[i], cores));
	return PS_OK;
}

/* The rules that are compared, or the one that was asked for. */
static ps_status check_schedule(const char *name)
{
	const ps_schedule_rule *rule = name != NULL ? ps_schedule_find_rule(name) : NULL;
	if (name == NULL || (rule != NULL && rule->stages_per_rank <= 1 && strcmp(name, "forward-only") != 0))
		return PS_OK;
	return ps_fail(PS_EINVAL, "--schedule %.60s: is no rule with one stage a rank; give gpipe or 1f1b", name);
}

static ps_status make(struct pipelines *p, const int *counts, int count)
{
	int rules = 0;
	while (ps_schedule_rules()[rules].name != NULL)
		rules++;
	const size_t most = 2 * (size_t)(count > 0 ? count : 1) * (size_t)(rules + 1);
	p->setups = calloc(most, sizeof *p->setups);
	p->names = calloc(most, sizeof *p->names);
	p->rows = calloc(most, sizeof *p->rows);
	if (p->setups == NULL || p->names == NULL || p->rows == NULL)
		return ps_fail(PS_ENOMEM, "no memory for %zu pipelines", most);
	return add_all(p, counts, count);
}

ps_status bench_stages_run(struct bench_report *report, const bench_options *options, const struct bench_run *run)
{
	struct pipelines p = {.options = options};
	int counts[MOST_COUNTS], count = 0;
	PS_TRY(check_schedule(options->run.schedule));
	if (options->run.stages == NULL)
		PS_TRY(parse_counts(options->rank_counts, counts, &count));
	ps_status status = make(&p, counts, count);
	if (status == PS_OK)
		status = bench_stages(report, p.rows, p.count, run);
	for (int i = 0; i < p.count; i++)
		setup_finish(&p.setups[i]);
	bench_shared_finish(&p.devices);
	free(p.rows);
	free(p.names);
	free(p.setups);
	return status;
}
