/* Reads one step of a trace and sums it up. */
#include "tools/penstock/trace_step.h"

#include "core/text.h"
#include "train/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MEASURED = 1, PREDICTED = 2, MOST_ROWS = 1 << 16 };

#define ADVICE "give a file that penstock train --trace wrote"

/* An event that is an action or a transfer, as the file has it. */
typedef struct file_span {
	int process, row;
	int64_t step;
	const char *name;
	bool transfer;
	double begin, end; /* seconds */
} file_span;

/* A file and what of it has been read. */
typedef struct trace_reader {
	const char *path;
	json_t *root;
	file_span *spans;
	size_t count;
	const char **names; /* [row]: of the measured rows; NULL: the file names none */
	int row_count;
} trace_reader;

static ps_status fail_event(const trace_reader *reader, size_t index, const char *what)
{
	return ps_fail(PS_EFORMAT, "%s: event %zu %s; " ADVICE, reader->path, index, what);
}

static bool read_integer(const json_t *object, const char *key, int64_t low, int64_t high, int64_t *out)
{
	const json_t *value = json_object_get(object, key);
	*out = json_integer_value(value);
	return json_is_integer(value) && *out >= low && *out <= high;
}

/* The name of a thread of the measured process. */
static ps_status read_name(trace_reader *reader, size_t index, const json_t *event)
{
	int64_t process, row;
	const char *name = json_string_value(json_object_get(json_object_get(event, "args"), "name"));
	if (!read_integer(event, "pid", MEASURED, PREDICTED, &process) ||
	    !read_integer(event, "tid", 0, MOST_ROWS, &row) || name == NULL)
		return fail_event(reader, index, "names no row");
	if (row >= reader->row_count) {
		const char **names = realloc(reader->names, ((size_t)row + 1) * sizeof *names);
		if (names == NULL)
			return ps_fail(PS_ENOMEM, "%s: no memory for its rows", reader->path);
		for (int i = reader->row_count; i <= row; i++)
			names[i] = NULL;
		reader->names = names;
		reader->row_count = (int)row + 1;
	}
	reader->names[row] = name;
	return PS_OK;
}

static ps_status read_span(trace_reader *reader, size_t index, const json_t *event)
{
	int64_t process, row, step;
	const char *name = json_string_value(json_object_get(event, "name"));
	const char *category = json_string_value(json_object_get(event, "cat"));
	const json_t *ts = json_object_get(event, "ts"), *duration = json_object_get(event, "dur");
	double begin = json_number_value(ts) * 1e-6, length = json_number_value(duration) * 1e-6;
	if (!read_integer(event, "pid", MEASURED, PREDICTED, &process) ||
	    !read_integer(event, "tid", 0, MOST_ROWS, &row))
		return fail_event(reader, index, "has no pid and tid of a stage or link");
	if (name == NULL || category == NULL)
		return fail_event(reader, index, "has no name and category");
	if (!json_is_number(ts) || !json_is_number(duration) || !(begin >= 0) || !(length >= 0) ||
	    !isfinite(begin + length))
		return fail_event(reader, index, "has no time and duration");
	if (!read_integer(json_object_get(event, "args"), "step", 1, INT64_MAX, &step))
		return fail_event(reader, index, "belongs to no step");
	reader->spans[reader->count++] = (file_span){.process = (int)process,
	                                             .row = (int)row,
	                                             .step = step,
	                                             .name = name,
	                                             .transfer = strcmp(category, "transfer") == 0,
	                                             .begin = begin,
	                                             .end = begin + length};
	return PS_OK;
}

static ps_status read_events(trace_reader *reader)
{
	const json_t *events = json_object_get(reader->root, "traceEvents"), *event;
	if (!json_is_array(events))
		return ps_fail(PS_EFORMAT, "%s: has no list of trace events; " ADVICE, reader->path);
	reader->spans = calloc(json_array_size(events) + 1, sizeof *reader->spans);
	if (reader->spans == NULL)
		return ps_fail(PS_ENOMEM, "%s: no memory for its events", reader->path);
	size_t index;
	json_array_foreach(events, index, event)
	{
		const char *phase = json_string_value(json_object_get(event, "ph"));
		const char *name = json_string_value(json_object_get(event, "name"));
		if (phase == NULL)
			return fail_event(reader, index, "has no phase");
		if (strcmp(phase, "X") == 0)
			PS_TRY(read_span(reader, index, event));
		else if (strcmp(phase, "M") == 0 && name != NULL && strcmp(name, "thread_name") == 0)
			PS_TRY(read_name(reader, index, event));
	}
	for (size_t i = 0; i < reader->count; i++)
		if (reader->spans[i].row >= reader->row_count || reader->names[reader->spans[i].row] == NULL)
			return ps_fail(PS_EFORMAT, "%s: row %d has no name; " ADVICE, reader->path,
			               reader->spans[i].row);
	return PS_OK;
}

/* One step's extent, as measured. */
typedef struct step_extent {
	int64_t step;
	double begin, end;
} step_extent;

static int by_step(const void *a, const void *b)
{
	const step_extent *x = a, *y = b;
	return (x->step > y->step) - (x->step < y->step);
}

static int by_length(const void *a, const void *b)
{
	const step_extent *x = a, *y = b;
	double one = x->end - x->begin, other = y->end - y->begin;
	return one != other ? (one > other) - (one < other) : by_step(a, b);
}

/* Merges the extents of equal steps; the number of steps. */
static size_t merge(step_extent *extents, size_t count)
{
	size_t steps = 0;
	qsort(extents, count, sizeof *extents, by_step);
	for (size_t i = 0; i < count; i++) {
		if (steps == 0 || extents[steps - 1].step != extents[i].step) {
			extents[steps++] = extents[i];
			continue;
		}
		extents[steps - 1].begin = fmin(extents[steps - 1].begin, extents[i].begin);
		extents[steps - 1].end = fmax(extents[steps - 1].end, extents[i].end);
	}
	return steps;
}

/* The step that was asked for, or the one of median length. */
static ps_status choose_step(const trace_reader *reader, int64_t wanted, step_extent *out)
{
	step_extent *extents = calloc(reader->count + 1, sizeof *extents);
	if (extents == NULL)
		return ps_fail(PS_ENOMEM, "%s: no memory for its steps", reader->path);
	size_t count = 0;
	for (size_t i = 0; i < reader->count; i++) {
		const file_span *span = &reader->spans[i];
		if (span->process == MEASURED)
			extents[count++] = (step_extent){span->step, span->begin, span->end};
	}
	count = merge(extents, count);
	ps_status status = PS_OK;
	size_t at = 0;
	if (count == 0) {
		status = ps_fail(PS_EFORMAT, "%s: has no step; " ADVICE, reader->path);
	} else if (wanted == 0) {
		qsort(extents, count, sizeof *extents, by_length);
		at = (count - 1) / 2;
	} else {
		while (at < count && extents[at].step != wanted)
			at++;
		if (at == count)
			status = ps_fail(PS_EINVAL, "--step %" PRId64 ": %s has the steps %" PRId64 " to %" PRId64,
			                 wanted, reader->path, extents[0].step, extents[count - 1].step);
	}
	if (status == PS_OK)
		*out = extents[at];
	free(extents);
	return status;
}

static box_kind kind_of(const file_span *span)
{
	if (span->transfer)
		return BOX_TRANSFER;
	switch (span->name[0]) {
	case 'B':
		return span->name[1] == 'W' ? BOX_BW : BOX_B;
	case 'W':
		return BOX_W;
	case 'R':
		return BOX_R;
	default:
		return BOX_F;
	}
}

static int by_begin(const void *a, const void *b)
{
	const trace_box *x = a, *y = b;
	return x->begin != y->begin ? (x->begin > y->begin) - (x->begin < y->begin) : x->row - y->row;
}

/* The rows of a side that have a box, with new numbers. */
static ps_status make_rows(trace_side *side, const trace_reader *reader)
{
	const json_t *stages = json_object_get(json_object_get(reader->root, "otherData"), "stages");
	int *number = calloc((size_t)reader->row_count + 1, sizeof *number);
	side->rows = calloc((size_t)reader->row_count + 1, sizeof *side->rows);
	if (number == NULL || side->rows == NULL) {
		free(number);
		return ps_fail(PS_ENOMEM, "%s: no memory for its rows", reader->path);
	}
	for (size_t i = 0; i < side->count; i++)
		number[side->boxes[i].row] = side->boxes[i].kind == BOX_TRANSFER ? 2 : 1;
	for (int i = 0; i < reader->row_count; i++) {
		if (number[i] == 0)
			continue;
		int64_t rank = i;
		if (number[i] == 1 && json_is_array(stages) &&
		    !read_integer(json_array_get(stages, (size_t)i), "rank", 0, MOST_ROWS, &rank)) {
			free(number);
			return ps_fail(PS_EFORMAT, "%s: stage %d has no rank; " ADVICE, reader->path, i);
		}
		trace_row *row = &side->rows[side->row_count];
		row->link = number[i] == 2;
		row->rank = (int)rank;
		snprintf(row->name, sizeof row->name, "%s", reader->names[i]);
		number[i] = side->row_count++;
	}
	for (size_t i = 0; i < side->count; i++)
		side->boxes[i].row = number[side->boxes[i].row];
	free(number);
	return PS_OK;
}

/* Seconds of [begin, end) in which some stage computes; boxes are sorted by begin. */
static double computing(const trace_side *side, double begin, double end)
{
	double sum = 0, seen = begin;
	for (size_t i = 0; i < side->count && side->boxes[i].begin < end; i++) {
		const trace_box *box = &side->boxes[i];
		double from = fmax(seen, box->begin), to = fmin(end, box->end);
		if (box->kind == BOX_TRANSFER || to <= from)
			continue;
		sum += to - from;
		seen = to;
	}
	return sum;
}

static void sum_up(trace_side *side)
{
	double busy = 0;
	for (size_t i = 0; i < side->count; i++) {
		const trace_box *box = &side->boxes[i];
		side->length = fmax(side->length, box->end);
		side->rows[box->row].busy += box->end - box->begin;
		if (box->kind != BOX_TRANSFER) {
			busy += box->end - box->begin;
			continue;
		}
		side->transfers += box->end - box->begin;
		side->overlapped += computing(side, box->begin, box->end);
	}
	for (int r = 0; r < side->row_count; r++) {
		bool first = !side->rows[r].link;
		for (int other = 0; other < r; other++)
			first = first && (side->rows[other].link || side->rows[other].rank != side->rows[r].rank);
		side->ranks += first;
	}
	double whole = side->ranks * side->length;
	side->bubble = whole > 0 ? fmax(0, 1 - busy / whole) : 0;
}

static ps_status make_side(trace_side *side, const trace_reader *reader, int process, const step_extent *extent)
{
	side->boxes = calloc(reader->count + 1, sizeof *side->boxes);
	if (side->boxes == NULL)
		return ps_fail(PS_ENOMEM, "%s: no memory for a step", reader->path);
	for (size_t i = 0; i < reader->count; i++) {
		const file_span *span = &reader->spans[i];
		if (span->process != process || span->step != extent->step)
			continue;
		trace_box *box = &side->boxes[side->count++];
		*box = (trace_box){.row = span->row,
		                   .kind = kind_of(span),
		                   .begin = fmax(0, span->begin - extent->begin),
		                   .end = fmax(0, span->end - extent->begin)};
		snprintf(box->label, sizeof box->label, "%s", span->name);
	}
	qsort(side->boxes, side->count, sizeof *side->boxes, by_begin);
	PS_TRY(make_rows(side, reader));
	sum_up(side);
	return PS_OK;
}

static void describe(trace_step *out, const trace_reader *reader)
{
	const json_t *facts = json_object_get(reader->root, "otherData");
	const char *schedule = json_string_value(json_object_get(facts, "schedule"));
	int64_t micro_batches;
	if (schedule != NULL && read_integer(facts, "micro_batches", 1, INT64_MAX, &micro_batches))
		snprintf(out->what, sizeof out->what, "%.64s, %" PRId64 " %s", schedule, micro_batches,
		         ps__plural(micro_batches, "micro-batch", "micro-batches"));
}

static ps_status read_file(trace_reader *reader)
{
	PS_TRY(ps__json_read(&reader->root, reader->path, 0, ADVICE));
	return read_events(reader);
}

ps_status trace_step_read(trace_step *out, const char *path, int64_t step)
{
	*out = (trace_step){0};
	trace_reader reader = {.path = path};
	step_extent extent;
	ps_status status = read_file(&reader);
	if (status == PS_OK)
		status = choose_step(&reader, step, &extent);
	if (status == PS_OK)
		status = make_side(&out->measured, &reader, MEASURED, &extent);
	if (status == PS_OK)
		status = make_side(&out->predicted, &reader, PREDICTED, &extent);
	if (status == PS_OK) {
		out->step = extent.step;
		out->has_prediction = out->predicted.count > 0;
		describe(out, &reader);
	}
	json_decref(reader.root);
	free(reader.spans);
	free(reader.names);
	return status;
}

void trace_step_finish(trace_step *step)
{
	trace_side *const sides[] = {&step->measured, &step->predicted};
	for (int i = 0; i < 2; i++) {
		free(sides[i]->boxes);
		free(sides[i]->rows);
	}
	*step = (trace_step){0};
}
