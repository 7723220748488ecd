/*
 * What a bench found out: rows with a time (or a number of bytes; less is better either way), its spread, and figures
 * derived from it. A report can be written as JSON, read back, and compared with another of the same bench.
 */
#ifndef PS_BENCH_REPORT_H
#define PS_BENCH_REPORT_H

#include "bench/measure.h"

#include <jansson.h>
#include <penstock/device.h>

/* X(name, key in JSON, head of the table's column, factor and digits there) */
#define BENCH_FIGURE_MAP(X)                                \
	X(COUNT, "count", "count", 1, 0)                   \
	X(GFLOP_S, "gflop_s", "GFLOP/s", 1, 1)             \
	X(GB_S, "gb_s", "GB/s", 1, 2)                      \
	X(MB_S, "mb_s", "MB/s", 1, 1)                      \
	X(TOKENS_S, "tokens_s", "tokens/s", 1, 0)          \
	X(US_ACTION, "us_action", "us/action", 1, 2)       \
	X(BOUND, "bound_s", "bound ms", 1e3, 2)            \
	X(BOUND_SHARE, "bound_share", "of bound", 100, 1)  \
	X(BOUND_NOISE, "bound_noise", "noise", 100, 1)     \
	X(CUT_SHARE, "cut_share", "cut", 100, 1)           \
	X(BUBBLE_SHARE, "bubble_share", "bubble", 100, 1)  \
	X(REST_SHARE, "rest_share", "hand-over", 100, 1)   \
	X(PEAK_SHARE, "peak_share", "of peak", 100, 0)     \
	X(FLOOR_SHARE, "gemm_share", "GEMM floor", 100, 1) \
	X(STEP_SHARE, "step_share", "of step", 100, 1)

enum bench_figure {
#define BENCH_FIGURE_ENUM(name, key, head, factor, digits) BENCH_##name,
	BENCH_FIGURE_MAP(BENCH_FIGURE_ENUM)
#undef BENCH_FIGURE_ENUM
	        BENCH_FIGURE_COUNT
};

enum bench_unit { BENCH_SECONDS, BENCH_BYTES };

struct bench_row {
	char section[64], name[64]; /* the two together are the row's only ones in its report */
	enum bench_unit unit;
	struct bench_stats stats;
	double figures[BENCH_FIGURE_COUNT]; /* NaN: it has none */
};

enum { BENCH_DEVICES = 8 };

struct bench_report {
	char bench[16], version[32], date[32];
	char system[128], cpu[128]; /* "Linux 6.1.0 x86_64", "AMD EPYC, 2 of 2 cores" */
	uint64_t memory_bytes;
	struct {
		char name[64], description[128];
	} devices[BENCH_DEVICES]; /* that were measured, as many as there is room for */
	int device_count;
	json_t *options; /* may be NULL */
	bool interrupted;
	struct bench_row *rows;
	int row_count, capacity;
};

/* An empty report of this machine and minute. */
ps_status bench_report_init(struct bench_report *out, const char *bench, const char *version) PS_WARN_UNUSED;
/* Takes a zeroed one. */
void bench_report_finish(struct bench_report *report);
/* Notes a device once. */
void bench_report_device(struct bench_report *report, const ps_device_info *info);
/* A row without figures; the pointer is good until the next one. A text that is too long is cut. */
ps_status bench_report_add(struct bench_row **out, struct bench_report *report, const char *section, const char *name,
                           enum bench_unit unit, struct bench_stats stats) PS_WARN_UNUSED;

/* The whole report; NULL: no memory. The caller gives up the reference. */
json_t *bench_report_json(const struct bench_report *report);
/* PS_EFORMAT names the file and what is wrong with it. *out is for bench_report_finish on success only. */
ps_status bench_report_read(struct bench_report *out, const char *path) PS_WARN_UNUSED;

/*
 * The options that two runs were asked differently, as "emsize 512 there, 64 here; …", cut to fit. `what`: those that
 * say which model is measured, on which numbers and devices, so that the runs do not compare; otherwise the others,
 * which say in what way. False: there are none.
 */
bool bench_report_differs(const struct bench_report *there, const struct bench_report *here, bool what, char *text,
                          size_t bytes);

enum bench_verdict {
	BENCH_NO_VERDICT, /* one of them has too few samples to know its noise */
	BENCH_SAME,       /* within the noise */
	BENCH_BETTER,
	BENCH_WORSE,
};

/*
 * now's median as a multiple of before's. The verdict: the same unless the two ranges between the quartiles lie apart.
 */
enum bench_verdict bench_compare(const struct bench_stats *before, const struct bench_stats *now, double *ratio);
/* The row of the same section and name; NULL: none. */
const struct bench_row *bench_report_find(const struct bench_report *report, const struct bench_row *row);

#endif
