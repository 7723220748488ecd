/* Reports as JSON, both ways. */
#include "bench/report.h"

#include "train/json.h"

#include <math.h>
#include <string.h>

static const char *const figure_keys[] = {
#define BENCH_FIGURE_KEY(name, key, head, factor, digits) key,
        BENCH_FIGURE_MAP(BENCH_FIGURE_KEY)
#undef BENCH_FIGURE_KEY
};

static const char *const units[] = {[BENCH_SECONDS] = "s", [BENCH_BYTES] = "B"};

static json_t *row_json(const struct bench_row *row)
{
	const struct bench_stats *s = &row->stats;
	json_t *object = json_pack("{s:s, s:s, s:s, s:i, s:f, s:f, s:f, s:f, s:f}", "section", row->section, "name",
	                           row->name, "unit", units[row->unit], "samples", s->count, "min", s->min, "q1", s->q1,
	                           "median", s->median, "q3", s->q3, "max", s->max);
	for (int i = 0; object != NULL && i < BENCH_FIGURE_COUNT; i++) {
		if (isfinite(row->figures[i]) &&
		    json_object_set_new(object, figure_keys[i], json_real(row->figures[i])) != 0) {
			json_decref(object);
			object = NULL;
		}
	}
	return object;
}

json_t *bench_report_json(const struct bench_report *report)
{
	json_t *rows = json_array(), *devices = json_array();
	int failed = 0;
	for (int i = 0; i < report->row_count; i++)
		failed |= json_array_append_new(rows, row_json(&report->rows[i]));
	for (int i = 0; i < report->device_count; i++)
		failed |= json_array_append_new(devices, json_pack("{s:s, s:s}", "name", report->devices[i].name,
		                                                   "description", report->devices[i].description));
	json_t *options = report->options != NULL ? json_incref(report->options) : json_object();
	json_t *object =
	        json_pack("{s:s, s:s, s:s, s:b, s:{s:s, s:s, s:I}, s:o, s:o, s:o}", "bench", report->bench, "version",
	                  report->version, "date", report->date, "interrupted", report->interrupted, "machine",
	                  "system", report->system, "cpu", report->cpu, "memory_bytes",
	                  (json_int_t)report->memory_bytes, "devices", devices, "options", options, "rows", rows);
	if (failed != 0) {
		json_decref(object);
		return NULL;
	}
	return object;
}

/* Copies a member that must be a text. */
static bool read_text(const json_t *object, const char *key, char *out, size_t bytes)
{
	const char *text = json_string_value(json_object_get(object, key));
	if (text == NULL)
		return false;
	snprintf(out, bytes, "%s", text);
	return true;
}

/* A number that no time and no size of memory can exceed or undercut. */
static bool read_number(const json_t *object, const char *key, double *out)
{
	const json_t *value = json_object_get(object, key);
	*out = json_number_value(value);
	return json_is_number(value) && isfinite(*out) && *out >= 0;
}

static ps_status read_row(struct bench_report *report, const json_t *object, int index, const char *path)
{
	char section[sizeof(((struct bench_row *)NULL)->section)], name[sizeof(((struct bench_row *)NULL)->name)],
	        unit[4];
	struct bench_stats s;
	double count;
	if (!read_text(object, "section", section, sizeof section) || !read_text(object, "name", name, sizeof name) ||
	    !read_text(object, "unit", unit, sizeof unit) || (strcmp(unit, "s") != 0 && strcmp(unit, "B") != 0) ||
	    !read_number(object, "samples", &count) || !read_number(object, "min", &s.min) ||
	    !read_number(object, "q1", &s.q1) || !read_number(object, "median", &s.median) ||
	    !read_number(object, "q3", &s.q3) || !read_number(object, "max", &s.max) || count > 1e9 || s.min > s.q1 ||
	    s.q1 > s.median || s.median > s.q3 || s.q3 > s.max)
		return ps_fail(
		        PS_EFORMAT,
		        "%s: row %d should have section, name, unit (s or B), samples, and min, q1, median, q3 and "
		        "max in ascending order",
		        path, index);
	s.count = (int)count;
	struct bench_row *row;
	PS_TRY(bench_report_add(&row, report, section, name, unit[0] == 's' ? BENCH_SECONDS : BENCH_BYTES, s));
	for (int i = 0; i < BENCH_FIGURE_COUNT; i++) {
		const json_t *value = json_object_get(object, figure_keys[i]);
		row->figures[i] = json_is_number(value) ? json_number_value(value) : NAN;
	}
	return PS_OK;
}

static ps_status read_report(struct bench_report *out, const json_t *object, const char *path)
{
	const json_t *machine = json_object_get(object, "machine"), *rows = json_object_get(object, "rows");
	if (!read_text(object, "bench", out->bench, sizeof out->bench) ||
	    !read_text(object, "version", out->version, sizeof out->version) ||
	    !read_text(object, "date", out->date, sizeof out->date) || !json_is_array(rows))
		return ps_fail(PS_EFORMAT, "%s: is no result of penstock bench: no bench, version, date and rows",
		               path);
	(void)read_text(machine, "system", out->system, sizeof out->system);
	(void)read_text(machine, "cpu", out->cpu, sizeof out->cpu);
	out->memory_bytes = (uint64_t)json_integer_value(json_object_get(machine, "memory_bytes"));
	out->interrupted = json_is_true(json_object_get(object, "interrupted"));
	size_t index;
	const json_t *value;
	json_array_foreach(rows, index, value) PS_TRY(read_row(out, value, (int)index, path));
	const json_t *devices = json_object_get(object, "devices");
	json_array_foreach(devices, index, value)
	{
		ps_device_info info = {0};
		if (read_text(value, "name", info.name, sizeof info.name) &&
		    read_text(value, "description", info.description, sizeof info.description))
			bench_report_device(out, &info);
	}
	out->options = json_incref(json_object_get(object, "options"));
	return PS_OK;
}

ps_status bench_report_read(struct bench_report *out, const char *path)
{
	*out = (struct bench_report){0};
	json_t *object;
	PS_TRY(ps__json_read(&object, path, JSON_REJECT_DUPLICATES,
	                     "give a file that penstock bench wrote with --json"));
	ps_status status = read_report(out, object, path);
	json_decref(object);
	if (status != PS_OK)
		bench_report_finish(out);
	return status;
}
