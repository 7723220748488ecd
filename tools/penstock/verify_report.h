/* What a run of `penstock verify` has found: one line for each device, subject and dtype, and the differences. */
#ifndef PS_TOOLS_VERIFY_REPORT_H
#define PS_TOOLS_VERIFY_REPORT_H

#include "tools/penstock/progress.h"

#include <penstock/verify.h>

#include <jansson.h>
#include <stdio.h>

struct verify_line {
	const char *mode;
	char device[64], subject[48];
	ps_dtype dtype;
	int rows, skipped, differing; /* rows: those that were run */
	double ulps, share;           /* the worst */
	char reason[256];             /* of the first row that was skipped */
};

struct verify_difference {
	int line;
	size_t row;
	char part[48], shapes[512], message[1024], tensor[48];
	int rank;
	int64_t index[PS_MAX_RANK];
	double got, want, ulps;
};

struct verify_report {
	const char *mode; /* what results belong to from now on */
	struct verify_line *lines;
	int line_count;
	struct verify_difference *differences; /* the first few of each line */
	int difference_count;
	ps_status status; /* of the report itself: no memory */
	struct progress_line progress;
};

void verify_report_init(struct verify_report *report);
void verify_report_finish(struct verify_report *report);
/* For ps_verify_config; `payload` is the report. Draws the progress on a terminal. */
void verify_report_add(void *payload, const ps_verify_result *result);
/* Sums over all lines. */
int verify_report_rows(const struct verify_report *report);
int verify_report_differing(const struct verify_report *report);

/* Tables of one mode's results, a device after the other, and what differs. */
void verify_print_mode(const struct verify_report *report, const char *mode, const char *against, FILE *to);
/*
 * A grid of one mode's results, with a column for each device and dtype. Cells have the worst error in ULPs and, in
 * brackets, as a share of the tolerance; with `against` NULL, whether the device takes it.
 */
void verify_print_grid(const struct verify_report *report, const char *mode, const char *against, bool markdown,
                       FILE *to);
/* All results; NULL: no memory. */
json_t *verify_json(const struct verify_report *report);

#endif
