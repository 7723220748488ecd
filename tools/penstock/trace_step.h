/* One step of a file that `penstock train --trace` wrote: its rows and boxes, what is idle, and its picture. */
#ifndef PS_TOOLS_TRACE_STEP_H
#define PS_TOOLS_TRACE_STEP_H

#include <penstock/status.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What a box is, and so its colour. */
typedef enum box_kind { BOX_F, BOX_B, BOX_W, BOX_BW, BOX_R, BOX_TRANSFER, BOX_KINDS } box_kind;

/* An action or a transfer; times are seconds since the step began. */
typedef struct trace_box {
	int row;
	box_kind kind;
	char label[24]; /* "F3", "W0-7" */
	double begin, end;
} trace_box;

typedef struct trace_row {
	char name[160];
	bool link;
	int rank; /* of a stage; stages of one rank take turns */
	double busy;
} trace_row;

/* The step as it was measured, or as it was predicted. */
typedef struct trace_side {
	trace_box *boxes; /* by begin */
	size_t count;
	trace_row *rows; /* stages, then links that were used */
	int row_count, ranks;
	double length;                /* to the end of the last box */
	double bubble;                /* idle share of the ranks */
	double transfers, overlapped; /* seconds of transfers, and of them while some stage computed */
} trace_side;

typedef struct trace_step {
	int64_t step;
	char what[128]; /* "1f1b, 4 micro-batches" */
	trace_side measured, predicted;
	bool has_prediction;
} trace_step;

/*
 * Reads step `step` of a file; 0: the one with the median length of all. PS_EFORMAT names the file and what is wrong
 * with it. The caller ends *out with trace_step_finish, also on failure.
 */
ps_status trace_step_read(trace_step *out, const char *path, int64_t step) PS_WARN_UNUSED;
void trace_step_finish(trace_step *step);

/* Writes the picture as SVG; with the prediction below. */
void trace_step_draw(const trace_step *step, bool predicted, FILE *to);

#endif
