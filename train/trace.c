/*
 * Traces in the form of Chrome's viewer, which Perfetto reads too: https://ui.perfetto.dev, "Trace Event Format". What
 * was measured is process 1, what was predicted process 2. Rows are their threads: a stage is thread `stage`, and after
 * the stages come the links, forward and backward of each boundary. Times are microseconds since the trace was created;
 * the prediction of a step begins where the step began. What the run was is under "otherData".
 */
#include "train/output_file.h"

#include <penstock/train.h>

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>

enum { MEASURED = 1, PREDICTED = 2 };

struct ps_trace {
	ps__output_file file;
	bool predicted;
	int64_t origin_ns;
	bool started;
};

static const char *const letters[] = {
#define LETTERS(name, letters, text) [PS_ACTION_##name] = (letters),
        PS_ACTION_MAP(LETTERS)
#undef LETTERS
};

static ps_status print(ps_trace *trace, const char *format, ...) PS_PRINTF(2, 3);

static ps_status print(ps_trace *trace, const char *format, ...)
{
	char text[512];
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	if (length < 0 || (size_t)length >= sizeof text)
		return ps_fail(PS_EINTERNAL, "a trace event is longer than %zu bytes", sizeof text);
	return ps__output_file_write(&trace->file, text, (size_t)length);
}

static int link_row(const ps_pipeline *pipeline, int boundary, bool backward)
{
	return ps_pipeline_stage_count(pipeline) + 2 * boundary + (backward ? 1 : 0);
}

static ps_status name_process(ps_trace *trace, int process, const char *name)
{
	const char *comma = trace->started ? ",\n" : "\n";
	trace->started = true;
	return print(trace,
	             "%s{\"ph\":\"M\",\"pid\":%d,\"tid\":0,\"name\":\"process_name\",\"args\":{\"name\":\"%s\"}}",
	             comma, process, name);
}

static ps_status name_row(ps_trace *trace, int row, const char *name)
{
	for (int process = MEASURED; process <= (trace->predicted ? PREDICTED : MEASURED); process++) {
		PS_TRY(print(trace,
		             ",\n{\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"name\":\"thread_name\","
		             "\"args\":{\"name\":\"%s\"}}",
		             process, row, name));
		PS_TRY(print(trace,
		             ",\n{\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"name\":\"thread_sort_index\","
		             "\"args\":{\"sort_index\":%d}}",
		             process, row, row));
	}
	return PS_OK;
}

/* Device names hold letters, digits and ":,-" only, or parts of a vendor's text; quotes in it would end the string. */
static void copy_plain(char *to, size_t bytes, const char *from)
{
	size_t n = 0;
	for (; *from != '\0' && n + 1 < bytes; from++) {
		bool plain = *from >= ' ' && *from != '"' && *from != '\\';
		to[n++] = plain ? *from : ' ';
	}
	to[n] = '\0';
}

/* What the run is, for readers of the file. */
static ps_status write_facts(ps_trace *trace, const ps_pipeline *pipeline)
{
	char schedule[80];
	copy_plain(schedule, sizeof schedule, ps_pipeline_get_schedule(pipeline)->name);
	PS_TRY(print(trace,
	             "{\"displayTimeUnit\":\"ms\",\"otherData\":{\"schedule\":\"%s\",\"micro_batches\":%d,\"stages\":[",
	             schedule, ps_pipeline_micro_batches(pipeline, NULL)));
	for (int s = 0; s < ps_pipeline_stage_count(pipeline); s++) {
		int rank, first, count;
		ps_rank_info info;
		char device[80];
		ps_pipeline_get_stage(pipeline, s, &rank, &first, &count);
		ps_pipeline_get_rank(pipeline, rank, &info);
		copy_plain(device, sizeof device, info.device_name);
		PS_TRY(print(trace, "%s{\"device\":\"%s\",\"rank\":%d,\"first_unit\":%d,\"units\":%d}",
		             s > 0 ? "," : "", device, rank, first, count));
	}
	return print(trace, "]},\"traceEvents\":[");
}

static ps_status write_rows(ps_trace *trace, const ps_pipeline *pipeline)
{
	int stages = ps_pipeline_stage_count(pipeline);
	trace->predicted = !isnan(ps_pipeline_predicted_step(pipeline));
	PS_TRY(write_facts(trace, pipeline));
	PS_TRY(name_process(trace, MEASURED, "measured"));
	if (trace->predicted)
		PS_TRY(name_process(trace, PREDICTED, "predicted"));
	for (int s = 0; s < stages; s++) {
		int rank, first, count;
		ps_rank_info info;
		char name[160], device[80];
		ps_pipeline_get_stage(pipeline, s, &rank, &first, &count);
		ps_pipeline_get_rank(pipeline, rank, &info);
		copy_plain(device, sizeof device, info.device_name);
		snprintf(name, sizeof name, "stage %d (%s)", s, device);
		PS_TRY(name_row(trace, s, name));
	}
	for (int s = 0; s + 1 < stages; s++) {
		for (int backward = 0; backward < 2; backward++) {
			char name[64];
			snprintf(name, sizeof name, "link %d to %d", backward ? s + 1 : s, backward ? s : s + 1);
			PS_TRY(name_row(trace, link_row(pipeline, s, backward), name));
		}
	}
	return PS_OK;
}

ps_status ps_trace_create(ps_trace **out, const char *path, const ps_pipeline *pipeline)
{
	*out = NULL;
	ps_trace *trace = calloc(1, sizeof *trace);
	if (trace == NULL)
		return ps_fail(PS_ENOMEM, "%s: no memory for a trace", path);
	trace->origin_ns = ps_clock_ns();
	ps_status status = ps__output_file_open(&trace->file, path);
	if (status == PS_OK)
		status = write_rows(trace, pipeline);
	if (status != PS_OK) {
		ps_trace_abandon(trace);
		return status;
	}
	*out = trace;
	return PS_OK;
}

static ps_status add_span(ps_trace *trace, const ps_pipeline *pipeline, const ps_trace_span *span, int64_t step,
                          int64_t begin_ns)
{
	const ps_action *action = &span->action;
	bool backward = action->kind != PS_ACTION_F && action->kind != PS_ACTION_R;
	int boundary = backward ? action->stage - 1 : action->stage;
	int row = span->transfer ? link_row(pipeline, boundary, backward) : action->stage;
	char batches[32];
	if (action->count > 1)
		snprintf(batches, sizeof batches, "%d-%d", action->micro_batch,
		         action->micro_batch + action->count - 1);
	else
		snprintf(batches, sizeof batches, "%d", action->micro_batch);
	double predicted = (span->predicted_end_s - span->predicted_begin_s) * 1e6;
	for (int process = MEASURED; process <= (trace->predicted ? PREDICTED : MEASURED); process++) {
		bool measured = process == MEASURED;
		char other[48] = "";
		if (trace->predicted && measured)
			snprintf(other, sizeof other, ",\"predicted_us\":%.3f", predicted);
		PS_TRY(print(trace,
		             ",\n{\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"name\":\"%s%s\",\"cat\":\"%s\",\"ts\":%.3f,"
		             "\"dur\":%.3f,\"args\":{\"step\":%" PRId64 ",\"stage\":%d,\"micro_batch\":%d%s}}",
		             process, row, letters[action->kind], batches, span->transfer ? "transfer" : "action",
		             measured ? (double)(span->begin_ns - trace->origin_ns) / 1e3
		                      : (double)(begin_ns - trace->origin_ns) / 1e3 + span->predicted_begin_s * 1e6,
		             measured ? (double)(span->end_ns - span->begin_ns) / 1e3 : predicted, step, action->stage,
		             action->micro_batch, other));
	}
	return PS_OK;
}

ps_status ps_trace_add(ps_trace *trace, const ps_pipeline *pipeline, int64_t step)
{
	size_t count;
	const ps_trace_span *spans = ps_pipeline_spans(pipeline, &count);
	int64_t begin_ns = INT64_MAX;
	for (size_t i = 0; i < count; i++)
		begin_ns = spans[i].begin_ns < begin_ns ? spans[i].begin_ns : begin_ns;
	for (size_t i = 0; i < count; i++)
		PS_TRY(add_span(trace, pipeline, &spans[i], step, begin_ns));
	return PS_OK;
}

ps_status ps_trace_commit(ps_trace *trace)
{
	ps_status status = print(trace, "\n]}\n");
	if (status == PS_OK)
		status = ps__output_file_commit(&trace->file);
	ps_trace_abandon(trace);
	return status;
}

void ps_trace_abandon(ps_trace *trace)
{
	if (trace == NULL)
		return;
	ps__output_file_abandon(&trace->file);
	free(trace);
}
