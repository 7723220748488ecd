/* The results of checks as tables, for people, and as JSON. */
#include "tools/penstock/verify_report.h"

#include "train/json.h"

#include <string.h>

static void print_line(const struct verify_line *line, FILE *to)
{
	fprintf(to, "%-32s %-5s %5d %7d %11.3g %12.2g  %s%s%s\n", line->subject, ps_dtype_name(line->dtype), line->rows,
	        line->skipped, line->ulps, line->share, line->differing > 0 ? "DIFFERS" : "ok",
	        line->skipped > 0 ? "; skipped: " : "", line->reason);
}

/* Subjects of which no row was run, one line for each dtype. */
static void print_not_run(const struct verify_report *report, const char *mode, const char *device, FILE *to)
{
	for (int dtype = 0; dtype < PS_DTYPE_COUNT; dtype++) {
		const struct verify_line *first = NULL;
		int count = 0;
		for (int i = 0; i < report->line_count; i++) {
			const struct verify_line *line = &report->lines[i];
			if (line->mode != mode || strcmp(line->device, device) != 0 || line->rows > 0 ||
			    (int)line->dtype != dtype)
				continue;
			first = first != NULL ? first : line;
			count++;
		}
		if (first != NULL)
			fprintf(to, "%d not run in %s; %s: %s\n", count, ps_dtype_name(first->dtype), first->subject,
			        first->reason);
	}
}

static void print_device(const struct verify_report *report, const char *mode, const char *device, const char *against,
                         FILE *to)
{
	fprintf(to, "%s of %s against %s\n%-32s %-5s %5s %7s %11s %12s\n", mode, device, against, "", "dtype", "rows",
	        "skipped", "worst ULPs", "of tolerance");
	for (int i = 0; i < report->line_count; i++) {
		const struct verify_line *line = &report->lines[i];
		if (line->mode == mode && strcmp(line->device, device) == 0 && line->rows > 0)
			print_line(line, to);
	}
	print_not_run(report, mode, device, to);
	for (int i = 0; i < report->difference_count; i++) {
		const struct verify_difference *d = &report->differences[i];
		const struct verify_line *line = &report->lines[d->line];
		if (line->mode == mode && strcmp(line->device, device) == 0)
			fprintf(to, "%s %s on %s, row %zu%s%s%s%s%s: %s\n", line->subject, ps_dtype_name(line->dtype),
			        line->device, d->row, d->part[0] != '\0' ? " of " : "", d->part,
			        d->shapes[0] != '\0' ? " (" : "", d->shapes, d->shapes[0] != '\0' ? ")" : "",
			        d->message);
	}
}

void verify_print_mode(const struct verify_report *report, const char *mode, const char *against, FILE *to)
{
	for (int i = 0; i < report->line_count; i++) {
		const struct verify_line *line = &report->lines[i];
		bool first = line->mode == mode;
		for (int j = 0; j < i && first; j++)
			first = report->lines[j].mode != mode || strcmp(report->lines[j].device, line->device) != 0;
		if (first)
			print_device(report, mode, line->device, against, to);
	}
}

static json_t *difference_json(const struct verify_difference *d)
{
	json_t *index = json_array();
	for (int i = 0; i < d->rank; i++)
		json_array_append_new(index, json_integer(d->index[i]));
	return json_pack("{s:I, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o}", "row", (json_int_t)d->row, "part", d->part,
	                 "shapes", d->shapes, "message", d->message, "tensor", d->tensor, "index", index, "got",
	                 ps__json_real(d->got), "want", ps__json_real(d->want), "ulps", ps__json_real(d->ulps));
}

json_t *verify_json(const struct verify_report *report)
{
	json_t *results = json_array();
	int failed = results == NULL;
	for (int i = 0; i < report->line_count; i++) {
		const struct verify_line *line = &report->lines[i];
		json_t *differences = json_array();
		for (int d = 0; d < report->difference_count; d++)
			if (report->differences[d].line == i)
				failed |= json_array_append_new(differences, difference_json(&report->differences[d]));
		json_t *entry = json_pack(
		        "{s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:o, s:o, s:s, s:o}", "mode", line->mode, "device",
		        line->device, "subject", line->subject, "dtype", ps_dtype_name(line->dtype), "rows", line->rows,
		        "skipped", line->skipped, "differing", line->differing, "ulps", ps__json_real(line->ulps),
		        "share", ps__json_real(line->share), "reason", line->reason, "differences", differences);
		failed |= json_array_append_new(results, entry);
	}
	if (failed) {
		json_decref(results);
		return NULL;
	}
	return results;
}
