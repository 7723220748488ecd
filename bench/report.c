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

static const char *value_text(const json_t *value, char text[64])
{
	if (json_is_string(value))
		snprintf(text, 64, "%.60s", json_string_value(value));
	else if (json_is_number(value))
		snprintf(text, 64, "%g", json_number_value(value));
	else
		snprintf(text, 64, "%s", json_is_true(value) ? "on" : json_is_false(value) ? "off" : "not given");
	return text;
}

static bool is_among(const char *name, const char *const *names)
{
	while (*names != NULL && strcmp(*names, name) != 0)
		names++;
	return *names != NULL;
}

bool bench_report_differs(const struct bench_report *there, const struct bench_report *here, bool what, char *text,
                          size_t bytes)
{
	static const char *const whats[] = {"emsize",     "nhead", "nhid",  "nlayers", "vocabulary", "dropout", "mask",
	                                    "batch_size", "bptt",  "dtype", "device",  "stages",     NULL};
	/* A preset is known by its sizes. */
	static const char *const asides[] = {"seconds", "json", "compare", "preset", NULL};
	const char *name;
	json_t *value;
	size_t used = 0;
	text[0] = '\0';
	json_object_foreach(here->options, name, value)
	{
		const json_t *other = json_object_get(there->options, name);
		char before[64], now[64];
		/* Where one of them had no choice made, the rows tell. */
		bool is_what = is_among(name, whats) && !json_is_null(value) && !json_is_null(other);
		if (other == NULL || json_equal(value, other) != 0 || is_what != what || is_among(name, asides))
			continue;
		if (used < bytes)
			used += (size_t)snprintf(text + used, bytes - used, "%s%s %s there, %s here",
			                         used > 0 ? "; " : "", name, value_text(other, before),
			                         value_text(value, now));
	}
	return used > 0;
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
