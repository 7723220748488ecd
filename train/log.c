/* The machine-readable log. Each line is flushed, so that a reader sees a step as soon as it is done. */
#include "train/log.h"

#include "train/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ps__log {
	char *path;
	FILE *stream;
};

/* All but the stream. */
static void release(ps__log *log)
{
	free(log->path);
	free(log);
}

/* A run that was cut off may have left half a line, which no other is to be glued to. */
static ps_status end_line(ps__log *log)
{
	if (fseek(log->stream, -1, SEEK_END) != 0)
		return PS_OK; /* empty, or no file that has a last byte */
	int last = getc(log->stream);
	if (last == EOF || last == '\n')
		return PS_OK;
	bool failed = fseek(log->stream, 0, SEEK_END) != 0 || putc('\n', log->stream) == EOF;
	return failed ? ps_fail(PS_EIO, "%s: writing failed: %s", log->path, strerror(errno)) : PS_OK;
}

ps_status ps__log_open(ps__log **out, const char *path, bool append)
{
	*out = NULL;
	ps__log *log = calloc(1, sizeof *log);
	if (log == NULL || (log->path = strdup(path)) == NULL) {
		free(log);
		return ps_fail(PS_ENOMEM, "%s: no memory for a log", path);
	}
	log->stream = fopen(path, append ? "ab+" : "wb");
	if (log->stream == NULL) {
		ps_status status = ps_fail(PS_EINVAL, "%s: cannot be written: %s", path, strerror(errno));
		release(log);
		return status;
	}
	ps_status status = append ? end_line(log) : PS_OK;
	if (status != PS_OK) {
		fclose(log->stream);
		release(log);
		return status;
	}
	*out = log;
	return PS_OK;
}

ps_status ps__log_write(ps__log *log, json_t *event)
{
	char *text = event == NULL ? NULL : ps__json_text(event, JSON_COMPACT);
	json_decref(event);
	if (text == NULL)
		return ps_fail(PS_ENOMEM, "%s: no memory for a line", log->path);
	int failed = fprintf(log->stream, "%s\n", text) < 0 || fflush(log->stream) != 0;
	free(text);
	return failed ? ps_fail(PS_EIO, "%s: writing failed: %s", log->path, strerror(errno)) : PS_OK;
}

ps_status ps__log_step(ps__log *log, const ps_step_report *report)
{
	double rate = report->seconds > 0 ? (double)report->tokens / report->seconds : 0;
	return ps__log_write(
	        log, json_pack("{s:s, s:i, s:I, s:o, s:o, s:o, s:o, s:o}", "event", "step", "epoch", report->epoch,
	                       "step", (json_int_t)report->step, "loss", ps__json_real(report->loss), "grad_norm",
	                       ps__json_real(report->grad_norm), "lr", ps__json_real(report->lr), "ms",
	                       ps__json_figure(report->seconds * 1e3), "tokens_per_s", ps__json_figure(rate)));
}

ps_status ps__log_evaluation(ps__log *log, const ps_eval_report *report)
{
	return ps__log_write(log, json_pack("{s:s, s:i, s:s, s:o, s:o, s:o}", "event", "eval", "epoch", report->epoch,
	                                    "split", ps_split_name(report->split), "loss", ps__json_real(report->loss),
	                                    "ppl", ps__json_real(exp(report->loss)), "seconds",
	                                    ps__json_figure(report->seconds)));
}

ps_status ps__log_close(ps__log *log)
{
	if (log == NULL)
		return PS_OK;
	ps_status status = PS_OK;
	if (fclose(log->stream) != 0)
		status = ps_fail(PS_EIO, "%s: writing failed: %s", log->path, strerror(errno));
	release(log);
	return status;
}
