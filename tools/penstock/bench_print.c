/* Tables: a line for each row, with the columns that any of the rows fills. */
#include "tools/penstock/bench_print.h"

#include "core/text.h"

#include <math.h>
#include <string.h>

enum { FIGURE_WIDTH = 10 };

/* The noise of a machine that does little else. */
#define QUIET 0.1

static const struct {
	const char *head;
	double factor;
	int digits;
} columns[] = {
#define BENCH_FIGURE_COLUMN(name, key, head, factor, digits) {head, factor, digits},
        BENCH_FIGURE_MAP(BENCH_FIGURE_COLUMN)
#undef BENCH_FIGURE_COLUMN
};

/* The unit in which a row's numbers are shown: the largest that leaves at least 1 of the median. */
struct scale {
	const char *name;
	double value;
};

static struct scale scale_of(const struct bench_row *row)
{
	static const struct scale seconds[] = {{"s", 1}, {"ms", 1e-3}, {"us", 1e-6}, {"ns", 1e-9}};
	static const struct scale bytes[] = {{"GiB", 0x1p30}, {"MiB", 0x1p20}, {"KiB", 0x1p10}, {"B", 1}};
	const struct scale *scales = row->unit == BENCH_SECONDS ? seconds : bytes;
	int i = 0;
	while (i < 3 && row->stats.median < scales[i].value)
		i++;
	return scales[i];
}

/* Four digits. */
static void print_scaled(FILE *to, double value, struct scale scale)
{
	double shown = value / scale.value;
	fprintf(to, "  %7.*f %-3s", shown < 9.9995 ? 3 : shown < 99.995 ? 2 : 1, shown, scale.name);
}

const char *bench_verdict_name(enum bench_verdict verdict)
{
	static const char *const names[] = {[BENCH_NO_VERDICT] = "unknown",
	                                    [BENCH_SAME] = "same",
	                                    [BENCH_BETTER] = "better",
	                                    [BENCH_WORSE] = "worse"};
	return names[verdict];
}

/* Columns that stay blank are printed only before others: no line ends with blanks. */
static void print_figures(FILE *to, const struct bench_row *row, const bool *used, bool all)
{
	int blanks = 0;
	for (int i = 0; i < BENCH_FIGURE_COUNT; i++) {
		double figure = row->figures[i] * columns[i].factor;
		bool percent = columns[i].factor == 100;
		if (!used[i])
			continue;
		blanks += FIGURE_WIDTH + 2;
		if (!isfinite(figure))
			continue;
		fprintf(to, "%*.*f%s", blanks - percent, columns[i].digits, figure, percent ? "%" : "");
		blanks = 0;
	}
	if (all)
		fprintf(to, "%*s", blanks, "");
}

static void print_comparison(FILE *to, const struct bench_row *row, const struct bench_report *before, int *counts)
{
	const struct bench_row *old = bench_report_find(before, row);
	if (old == NULL) {
		fputs("  new", to);
		return;
	}
	double ratio;
	enum bench_verdict verdict = bench_compare(&old->stats, &row->stats, &ratio);
	counts[verdict]++;
	print_scaled(to, old->stats.median, scale_of(old));
	if (isfinite(ratio))
		fprintf(to, "  %6.3f", ratio);
	else
		fprintf(to, "  %6s", "");
	if (verdict == BENCH_BETTER || verdict == BENCH_WORSE)
		fprintf(to, "  %s", bench_verdict_name(verdict));
}

static void print_heads(FILE *to, int name_width, const bool *used, bool compared)
{
	fprintf(to, "%-*s  %-11s  %-11s  %-11s  %-11s  %6s", name_width + 2, "", "     median", "        min",
	        " quartile 1", " quartile 3", "n");
	for (int i = 0; i < BENCH_FIGURE_COUNT; i++) {
		if (used[i])
			fprintf(to, "  %*s", FIGURE_WIDTH, columns[i].head);
	}
	if (compared)
		fprintf(to, "  %-11s  %6s", "     before", "ratio");
	fputc('\n', to);
}

/* What the ratios are to, before any of them. */
static void print_before(const struct bench_report *report, const struct bench_report *before, const char *path,
                         FILE *to)
{
	char ways[256];
	fprintf(to, "compared with %s of %s, version %s%s\n", path, before->date, before->version,
	        strcmp(before->cpu, report->cpu) == 0 ? "" : ", on another machine");
	if (bench_report_differs(before, report, false, ways, sizeof ways))
		fprintf(to, "not done in the same way: %s\n", ways);
}

static void print_summary(const int *counts, FILE *to)
{
	fprintf(to, "\n%d better and %d worse by more than the noise of both (their quartiles lie apart); %d the same",
	        counts[BENCH_BETTER], counts[BENCH_WORSE], counts[BENCH_SAME]);
	if (counts[BENCH_NO_VERDICT] > 0)
		fprintf(to, "; %d with fewer than %d samples", counts[BENCH_NO_VERDICT], BENCH_NOISE_SAMPLES);
	fputc('\n', to);
}

/* How far samples of one row lie apart, where that is more than on a quiet machine, and why a bound may not hold. */
static void print_noise(const struct bench_report *report, FILE *to)
{
	const struct bench_row *worst = NULL;
	double most = QUIET;
	int unknown = 0, above = 0;
	for (int i = 0; i < report->row_count; i++) {
		const struct bench_row *row = &report->rows[i];
		/* One of the two may be NaN, which fmax passes over. */
		double noise = fmax(bench_stats_noise(&row->stats), row->figures[BENCH_BOUND_NOISE]);
		unknown += isfinite(row->figures[BENCH_BOUND_SHARE]) && !isfinite(noise);
		above += row->figures[BENCH_BOUND_SHARE] > 1;
		if (noise > most) {
			most = noise;
			worst = row;
		}
	}
	if (worst != NULL)
		fprintf(to,
		        "\nnoise: the quartiles of a row lie up to %.0f %% apart (%s, %s), and what differs by less "
		        "may "
		        "be the same; a quieter machine or more --seconds helps\n",
		        most * 100, worst->section, worst->name);
	else if (unknown > 0)
		fprintf(to, "\nnoise: not known, as %d %s fewer than %d samples; raise --seconds\n", unknown,
		        ps__plural(unknown, "row has", "rows have"), BENCH_NOISE_SAMPLES);
	if (above > 0)
		fprintf(to,
		        "above 100 %% of the bound: %d %s, whose actions took longer one by one, where the bound is "
		        "measured, than in the step: noise, or stages that overlap on one device\n",
		        above, ps__plural(above, "row", "rows"));
}

void bench_print(const struct bench_report *report, const struct bench_report *before, const char *before_path,
                 FILE *to)
{
	bool used[BENCH_FIGURE_COUNT] = {false};
	int counts[BENCH_WORSE + 1] = {0}, name_width = 0;
	fprintf(to, "penstock bench %s, version %s, %s, %s, %s\n", report->bench, report->version, report->date,
	        report->system, report->cpu);
	for (int i = 0; i < report->device_count; i++)
		fprintf(to, "%s: %s\n", report->devices[i].name, report->devices[i].description);
	if (before != NULL)
		print_before(report, before, before_path, to);
	for (int i = 0; i < report->row_count; i++) {
		int length = (int)strlen(report->rows[i].name);
		name_width = length > name_width ? length : name_width;
		for (int j = 0; j < BENCH_FIGURE_COUNT; j++)
			used[j] |= isfinite(report->rows[i].figures[j]);
	}
	fputc('\n', to);
	print_heads(to, name_width, used, before != NULL);
	const char *section = "";
	for (int i = 0; i < report->row_count; i++) {
		const struct bench_row *row = &report->rows[i];
		struct scale scale = scale_of(row);
		if (strcmp(section, row->section) != 0)
			fprintf(to, "%s\n", row->section);
		section = row->section;
		fprintf(to, "  %-*s", name_width, row->name);
		print_scaled(to, row->stats.median, scale);
		print_scaled(to, row->stats.min, scale);
		print_scaled(to, row->stats.q1, scale);
		print_scaled(to, row->stats.q3, scale);
		fprintf(to, "  %6d", row->stats.count);
		print_figures(to, row, used, before != NULL);
		if (before != NULL)
			print_comparison(to, row, before, counts);
		fputc('\n', to);
	}
	print_noise(report, to);
	if (before != NULL)
		print_summary(counts, to);
}
