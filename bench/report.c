/* Reports: gathering rows, and comparing them. */
#include "bench/report.h"

#include "core/platform.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

ps_status bench_report_init(struct bench_report *out, const char *bench, const char *version)
{
	*out = (struct bench_report){.memory_bytes = ps__memory_limit()};
	snprintf(out->bench, sizeof out->bench, "%s", bench);
	snprintf(out->version, sizeof out->version, "%s", version);
	time_t now = time(NULL);
	struct tm utc;
	if (gmtime_r(&now, &utc) == NULL || strftime(out->date, sizeof out->date, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0)
		return ps_fail(PS_EIO, "the time of day is not known");
	struct utsname name;
	if (uname(&name) >= 0)
		snprintf(out->system, sizeof out->system, "%s %s %s", name.sysname, name.release, name.machine);
	ps_device *cpu;
	PS_TRY(ps_device_open(&cpu, "cpu"));
	snprintf(out->cpu, sizeof out->cpu, "%s", ps_device_get_info(cpu)->description);
	ps_device_close(cpu);
	return PS_OK;
}

void bench_report_finish(struct bench_report *report)
{
	json_decref(report->options);
	free(report->rows);
	*report = (struct bench_report){0};
}

void bench_report_device(struct bench_report *report, const ps_device_info *info)
{
	for (int i = 0; i < report->device_count; i++) {
		if (strcmp(report->devices[i].name, info->name) == 0)
			return;
	}
	if (report->device_count == BENCH_DEVICES)
		return;
	int i = report->device_count++;
	snprintf(report->devices[i].name, sizeof report->devices[i].name, "%s", info->name);
	snprintf(report->devices[i].description, sizeof report->devices[i].description, "%s", info->description);
}

ps_status bench_report_add(struct bench_row **out, struct bench_report *report, const char *section, const char *name,
                           enum bench_unit unit, struct bench_stats stats)
{
	if (report->row_count == report->capacity) {
		int capacity = report->capacity > 0 ? 2 * report->capacity : 32;
		struct bench_row *rows = realloc(report->rows, (size_t)capacity * sizeof *rows);
		if (rows == NULL)
			return ps_fail(PS_ENOMEM, "no memory for %d rows of a report", capacity);
		report->rows = rows;
		report->capacity = capacity;
	}
	struct bench_row *row = &report->rows[report->row_count++];
	*row = (struct bench_row){.unit = unit, .stats = stats};
	snprintf(row->section, sizeof row->section, "%s", section);
	snprintf(row->name, sizeof row->name, "%s", name);
	for (int i = 0; i < BENCH_FIGURE_COUNT; i++)
		row->figures[i] = NAN;
	*out = row;
	return PS_OK;
}

enum bench_verdict bench_compare(const struct bench_stats *before, const struct bench_stats *now, double *ratio)
{
	*ratio = before->median > 0 ? now->median / before->median : NAN;
	if (before->count < BENCH_NOISE_SAMPLES || now->count < BENCH_NOISE_SAMPLES)
		return BENCH_NO_VERDICT;
	if (now->q3 < before->q1)
		return BENCH_BETTER;
	return now->q1 > before->q3 ? BENCH_WORSE : BENCH_SAME;
}

const struct bench_row *bench_report_find(const struct bench_report *report, const struct bench_row *row)
{
	for (int i = 0; i < report->row_count; i++) {
		const struct bench_row *other = &report->rows[i];
		if (other->unit == row->unit && strcmp(other->section, row->section) == 0 &&
		    strcmp(other->name, row->name) == 0)
			return other;
	}
	return NULL;
}
