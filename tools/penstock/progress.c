/* Progress on standard error. */
#include "tools/penstock/progress.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* How often it is drawn on a terminal, and how often a line is written elsewhere. */
#define TERMINAL_NS INT64_C(100000000)
#define LINE_NS INT64_C(10000000000)

enum { BAR = 24, COLUMNS_WITH_BAR = 80 };

/* Of the terminal, which may change; a lot where it does not say. */
static size_t columns(void)
{
	struct winsize size;
	return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : SIZE_MAX;
}

void progress_line_init(struct progress_line *line)
{
	*line = (struct progress_line){.terminal = isatty(STDERR_FILENO) == 1};
	line->next_ns = line->terminal ? 0 : ps_clock_ns() + LINE_NS;
}

bool progress_line_due(struct progress_line *line)
{
	int64_t now = ps_clock_ns();
	if (now < line->next_ns)
		return false;
	line->next_ns = now + (line->terminal ? TERMINAL_NS : LINE_NS);
	return true;
}

void progress_line_show(struct progress_line *line, const char *format, ...)
{
	char text[256];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	if (line->terminal) {
		/* What wraps would stay when the next line is drawn over it. */
		size_t end = columns() - 1;
		if (end < sizeof text) {
			while (end > 0 && ((unsigned char)text[end] & 0xC0U) == 0x80U)
				end--;
			text[end] = '\0';
		}
	}
	/* Back to the margin, the line, and away with what an older one left; all at once, for a signal's line may
	 * come. */
	fprintf(stderr, line->terminal ? "\r%s\033[K" : "%s\n", text);
	fflush(stderr);
	line->drawn = line->terminal;
}

void progress_line_clear(struct progress_line *line)
{
	if (!line->drawn)
		return;
	fputs(PROGRESS_CLEAR, stderr);
	fflush(stderr);
	line->drawn = false;
}

void progress_init(struct progress *progress, int64_t done)
{
	*progress = (struct progress){.first_done = done, .begin_ns = ps_clock_ns()};
	progress_line_init(&progress->line);
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
	static const char full[BAR + 1] = "########################", empty[BAR + 1] = "........................";
	progress->tokens += report->tokens;
	if (!progress_line_due(&progress->line))
		return;
	double seconds = (double)(ps_clock_ns() - progress->begin_ns) * 1e-9;
	int64_t here = report->done - progress->first_done, left = report->all_steps - report->done;
	double rate = (double)progress->tokens / seconds;
	char eta[32];
	duration(seconds / (double)here * (double)left, eta);
	if (!progress->line.terminal) {
		progress_line_show(&progress->line, "step %" PRId64 "/%" PRId64 ", loss %.4f, %.0f tokens/s, %s left",
		                   report->done, report->all_steps, report->loss, rate, eta);
		return;
	}
	char bar[BAR + 6] = "";
	if (columns() >= COLUMNS_WITH_BAR) {
		int filled = (int)(report->done * BAR / report->all_steps);
		snprintf(bar, sizeof bar, "[%.*s%.*s] ", filled, full, BAR - filled, empty);
	}
	progress_line_show(&progress->line, "%s%" PRId64 "/%" PRId64 "  loss %.4f  %.0f tokens/s  %s left", bar,
	                   report->done, report->all_steps, report->loss, rate, eta);
}
