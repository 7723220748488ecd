/*
 * Traces in the form of Chrome's viewer, which Perfetto reads too: https://ui.perfetto.dev, "Trace Event Format". Rows
 * are threads of one process: a stage is thread `stage`, and after the stages come the links, forward and backward of
 * each boundary. Times are microseconds since the trace was created.
 */
#include "train/output_file.h"

#include <penstock/train.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

struct ps_trace {
	ps__output_file file;
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

static ps_status name_row(ps_trace *trace, int row, const char *name)
{
	const char *comma = trace->started ? ",\n" : "\n";
	trace->started = true;
	PS_TRY(print(trace, "%s{\"ph\":\"M\",\"pid\":1,\"tid\":%d,\"name\":\"thread_name\",\"args\":{\"name\":\"%s\"}}",
	             comma, row, name));
	return print(
	        trace,
	        ",\n{\"ph\":\"M\",\"pid\":1,\"tid\":%d,\"name\":\"thread_sort_index\",\"args\":{\"sort_index\":%d}}",
	        row, row);
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

static ps_status write_rows(ps_trace *trace, const ps_pipeline *pipeline)
{
	int stages = ps_pipeline_stage_count(pipeline);
	PS_TRY(print(trace, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":["));
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

static ps_status add_span(ps_trace *trace, const ps_pipeline *pipeline, const ps_trace_span *span, int64_t step)
{
	const ps_action *action = &span->action;
	bool backward = action->kind != PS_ACTION_F && action->kind != PS_ACTION_R;
	int row = span->transfer ? link_row(pipeline, action->stage, backward) : action->stage;
	char batches[32];
	if (action->count > 1)
		snprintf(batches, sizeof batches, "%d-%d", action->micro_batch,
		         action->micro_batch + action->count - 1);
	else
		snprintf(batches, sizeof batches, "%d", action->micro_batch);
	return print(trace,
	             ",\n{\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"name\":\"%s%s\",\"cat\":\"%s\",\"ts\":%.3f,\"dur\":%.3f,"
	             "\"args\":{\"step\":%" PRId64 ",\"stage\":%d,\"micro_batch\":%d}}",
	             row, letters[action->kind], batches, span->transfer ? "transfer" : "action",
	             (double)(span->begin_ns - trace->origin_ns) / 1e3, (double)(span->end_ns - span->begin_ns) / 1e3,
	             step, action->stage, action->micro_batch);
}

ps_status ps_trace_add(ps_trace *trace, const ps_pipeline *pipeline, int64_t step)
{
	size_t count;
	const ps_trace_span *spans = ps_pipeline_spans(pipeline, &count);
	for (size_t i = 0; i < count; i++)
		PS_TRY(add_span(trace, pipeline, &spans[i], step));
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
