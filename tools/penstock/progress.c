/* Progress on standard error. */
#include "tools/penstock/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* How often it is drawn on a terminal, and how often a line is written elsewhere. */
#define TERMINAL_NS INT64_C(100000000)
#define LINE_NS INT64_C(10000000000)

enum { BAR = 24 };

void progress_init(struct progress *progress, int64_t done)
{
	*progress = (struct progress){.terminal = isatty(STDERR_FILENO) == 1, .first_done = done};
	progress->begin_ns = ps_clock_ns();
	progress->next_ns = progress->begin_ns + (progress->terminal ? 0 : LINE_NS);
}

/* "1:02:03" or "2:03". */
static const char *duration(double seconds, char text[32])
{
	int64_t s = (int64_t)(seconds + 0.5);
	if (s >= 3600)
		snprintf(text, 32, "%" PRId64 ":%02d:%02d", s / 3600, (int)(s / 60 % 60), (int)(s % 60));
	else
		snprintf(text, 32, "%d:%02d", (int)(s / 60), (int)(s % 60));
	return text;
}

void progress_step(struct progress *progress, const ps_step_report *report)
{
	progress->tokens += report->tokens;
	int64_t now = ps_clock_ns();
	if (now < progress->next_ns)
		return;
	progress->next_ns = now + (progress->terminal ? TERMINAL_NS : LINE_NS);
	double seconds = (double)(now - progress->begin_ns) * 1e-9;
	int64_t here = report->done - progress->first_done, left = report->all_steps - report->done;
	double rate = (double)progress->tokens / seconds;
	char eta[32];
	duration(seconds / (double)here * (double)left, eta);
	if (!progress->terminal) {
		fprintf(stderr, "step %" PRId64 "/%" PRId64 ", loss %.4f, %.0f tokens/s, %s left\n", report->done,
		        report->all_steps, report->loss, rate, eta);
		return;
	}
	char bar[BAR + 1];
	int filled = (int)(report->done * BAR / report->all_steps);
	for (int i = 0; i < BAR; i++)
		bar[i] = i < filled ? '#' : '.';
	bar[BAR] = '\0';
	/* Back to the margin, the line, and away with what an older one left. */
	fprintf(stderr, "\r[%s] %" PRId64 "/%" PRId64 "  loss %.4f  %.0f tokens/s  %s left\033[K", bar, report->done,
	        report->all_steps, report->loss, rate, eta);
	fflush(stderr);
	progress->drawn = true;
}

void progress_clear(struct progress *progress)
{
	if (!progress->drawn)
		return;
	fputs("\r\033[K", stderr);
	fflush(stderr);
	progress->drawn = false;
}
