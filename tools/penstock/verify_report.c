/* Gathering the results of checks, with progress on a terminal. */
#include "tools/penstock/verify_report.h"

#include <stdlib.h>
#include <string.h>

enum { KEPT = 5 }; /* differences of one line */

void verify_report_init(struct verify_report *report)
{
	*report = (struct verify_report){0};
	progress_line_init(&report->progress);
}

void verify_report_finish(struct verify_report *report)
{
	free(report->lines);
	free(report->differences);
	*report = (struct verify_report){0};
}

static void draw(struct verify_report *report, const ps_verify_result *result)
{
	if (report->progress.terminal && progress_line_due(&report->progress))
		progress_line_show(&report->progress, "%s %zu/%zu  %s %s on %s", report->mode, result->done,
		                   result->total, result->subject, ps_dtype_name(result->dtype), result->device);
}

/* Room for one more item at the end; NULL sets the report's status. */
static void *more(struct verify_report *report, void *items, int count, size_t bytes)
{
	/* A power of two, or none, is full. */
	if (count & (count - 1))
		return items;
	void *larger = realloc(items, bytes * (size_t)(count ? 2 * count : 1));
	if (larger == NULL)
		report->status = ps_fail(PS_ENOMEM, "no memory for the results");
	return larger;
}

/* Its index; -1: no memory. */
static int line_of(struct verify_report *report, const ps_verify_result *result)
{
	for (int i = 0; i < report->line_count; i++) {
		const struct verify_line *line = &report->lines[i];
		if (line->mode == report->mode && line->dtype == result->dtype &&
		    strcmp(line->subject, result->subject) == 0 && strcmp(line->device, result->device) == 0)
			return i;
	}
	struct verify_line *lines = more(report, report->lines, report->line_count, sizeof *lines);
	if (lines == NULL)
		return -1;
	report->lines = lines;
	struct verify_line *line = &lines[report->line_count];
	*line = (struct verify_line){.mode = report->mode, .dtype = result->dtype};
	snprintf(line->device, sizeof line->device, "%s", result->device);
	snprintf(line->subject, sizeof line->subject, "%s", result->subject);
	return report->line_count++;
}

static void keep(struct verify_report *report, int line, const ps_verify_result *result)
{
	struct verify_difference *all =
	        more(report, report->differences, report->difference_count, sizeof *report->differences);
	if (all == NULL)
		return;
	report->differences = all;
	struct verify_difference *kept = &all[report->difference_count++];
	*kept = (struct verify_difference){.line = line,
	                                   .row = result->row,
	                                   .rank = result->rank,
	                                   .got = result->got,
	                                   .want = result->want,
	                                   .ulps = result->ulps};
	memcpy(kept->index, result->index, sizeof kept->index);
	snprintf(kept->part, sizeof kept->part, "%s", result->part);
	snprintf(kept->shapes, sizeof kept->shapes, "%s", result->shapes);
	snprintf(kept->message, sizeof kept->message, "%s", result->message);
	snprintf(kept->tensor, sizeof kept->tensor, "%s", result->tensor != NULL ? result->tensor : "");
}

void verify_report_add(void *payload, const ps_verify_result *result)
{
	struct verify_report *report = payload;
	draw(report, result);
	int index = report->status == PS_OK ? line_of(report, result) : -1;
	if (index < 0)
		return;
	struct verify_line *line = &report->lines[index];
	if (result->outcome == PS_VERIFY_SKIPPED) {
		if (line->skipped++ == 0)
			snprintf(line->reason, sizeof line->reason, "%s", result->message);
		return;
	}
	line->rows++;
	if (result->tensor != NULL) {
		line->ulps = result->ulps > line->ulps ? result->ulps : line->ulps;
		line->share = result->share > line->share ? result->share : line->share;
	}
	if (result->outcome == PS_VERIFY_DIFFERS && line->differing++ < KEPT)
		keep(report, index, result);
}

int verify_report_rows(const struct verify_report *report)
{
	int rows = 0;
	for (int i = 0; i < report->line_count; i++)
		rows += report->lines[i].rows;
	return rows;
}

int verify_report_differing(const struct verify_report *report)
{
	int differing = 0;
	for (int i = 0; i < report->line_count; i++)
		differing += report->lines[i].differing;
	return differing;
}
