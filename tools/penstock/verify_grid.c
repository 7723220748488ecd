/* The results of one mode as a grid: a row for each subject, a column for each device and dtype. */
#include "tools/penstock/verify_report.h"

#include <string.h>

enum { COLUMNS = 64 };

/* A column is the first line that belongs to it. */
struct grid {
	const struct verify_report *report;
	const char *mode;
	const struct verify_line *columns[COLUMNS];
	int count;
};

static bool same_column(const struct verify_line *a, const struct verify_line *b)
{
	return strcmp(a->device, b->device) == 0 && a->dtype == b->dtype;
}

/* Those of one device side by side, devices in the order of their first results. */
static void find_columns(struct grid *grid)
{
	for (int i = 0; i < grid->report->line_count && grid->count < COLUMNS; i++) {
		const struct verify_line *line = &grid->report->lines[i];
		bool known = line->mode != grid->mode;
		int at = grid->count;
		for (int c = 0; c < grid->count && !known; c++) {
			known = same_column(grid->columns[c], line);
			if (strcmp(grid->columns[c]->device, line->device) == 0)
				at = c + 1;
		}
		if (known)
			continue;
		memmove(grid->columns + at + 1, grid->columns + at,
		        (size_t)(grid->count++ - at) * sizeof *grid->columns);
		grid->columns[at] = line;
	}
}

static const struct verify_line *line_at(const struct grid *grid, const char *subject, int column)
{
	for (int i = 0; i < grid->report->line_count; i++) {
		const struct verify_line *line = &grid->report->lines[i];
		if (line->mode == grid->mode && strcmp(line->subject, subject) == 0 &&
		    same_column(line, grid->columns[column]))
			return line;
	}
	return NULL;
}

static const char *cell(const struct verify_line *line, bool support, char text[48])
{
	if (line == NULL) /* there are no such rows */
		snprintf(text, 48, "-");
	else if (line->rows == 0)
		snprintf(text, 48, support ? "no" : "-");
	else if (line->differing > 0)
		snprintf(text, 48, support ? "FAILS" : "DIFFERS");
	else if (support)
		snprintf(text, 48, "%s", line->skipped > 0 ? "partly" : "yes");
	else
		snprintf(text, 48, "%.3g (%.2g)", line->ulps, line->share);
	return text;
}

static void print_markdown(const struct grid *grid, const char *title, bool support, FILE *to)
{
	char text[48];
	fprintf(to, "| %s |", title);
	for (int c = 0; c < grid->count; c++)
		fprintf(to, " %s %s |", grid->columns[c]->device, ps_dtype_name(grid->columns[c]->dtype));
	fputs("\n|---|", to);
	for (int c = 0; c < grid->count; c++)
		fputs("---|", to);
	fputc('\n', to);
	for (int i = 0; i < grid->report->line_count; i++) {
		const struct verify_line *line = &grid->report->lines[i];
		if (line->mode != grid->mode || !same_column(line, grid->columns[0]))
			continue;
		fprintf(to, "| %s |", line->subject);
		for (int c = 0; c < grid->count; c++)
			fprintf(to, " %s |", cell(line_at(grid, line->subject, c), support, text));
		fputc('\n', to);
	}
}

static void print_plain(const struct grid *grid, const char *title, bool support, FILE *to)
{
	char text[48];
	fprintf(to, "%-32s", title);
	for (int c = 0; c < grid->count; c++)
		fprintf(to, "  %s %s", grid->columns[c]->device, ps_dtype_name(grid->columns[c]->dtype));
	fputc('\n', to);
	for (int i = 0; i < grid->report->line_count; i++) {
		const struct verify_line *line = &grid->report->lines[i];
		if (line->mode != grid->mode || !same_column(line, grid->columns[0]))
			continue;
		fprintf(to, "%-32s", line->subject);
		for (int c = 0; c < grid->count; c++) {
			/* No blanks at the end of the line. */
			int width = c + 1 < grid->count ? (int)(strlen(grid->columns[c]->device) + strlen(" fp32")) : 0;
			fprintf(to, "  %-*s", width, cell(line_at(grid, line->subject, c), support, text));
		}
		fputc('\n', to);
	}
}

/* The first reason that each column has for a refusal, and for how many subjects there is one. */
static void print_reasons(const struct grid *grid, FILE *to)
{
	for (int c = 0; c < grid->count; c++) {
		const struct verify_line *first = NULL;
		int count = 0;
		for (int i = 0; i < grid->report->line_count; i++) {
			const struct verify_line *line = &grid->report->lines[i];
			if (line->mode != grid->mode || !same_column(line, grid->columns[c]) || line->skipped == 0)
				continue;
			first = first != NULL ? first : line;
			count++;
		}
		if (first != NULL)
			fprintf(to, "%s %s: %d refused, the first: %s\n", first->device, ps_dtype_name(first->dtype),
			        count, first->reason);
	}
}

void verify_print_grid(const struct verify_report *report, const char *mode, const char *against, bool markdown,
                       FILE *to)
{
	struct grid grid = {.report = report, .mode = mode};
	bool support = against == NULL;
	char title[96];
	snprintf(title, sizeof title, "%s%s%s", mode, support ? "" : " against ", support ? "" : against);
	find_columns(&grid);
	if (grid.count == 0)
		return;
	if (markdown) {
		print_markdown(&grid, title, support, to);
		fputc('\n', to);
		return;
	}
	print_plain(&grid, title, support, to);
	print_reasons(&grid, to);
}
