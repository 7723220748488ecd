/* The options of `penstock bench`: one struct for all benches, and a table for each. */
#ifndef PS_TOOLS_BENCH_OPTIONS_H
#define PS_TOOLS_BENCH_OPTIONS_H

#include "tools/penstock/run_options.h"

typedef struct bench_options {
	run_options run; /* first, as the tables share rows with train's */
	double seconds;
	const char *json, *compare;
	const char *device, *devices; /* ops, gemm and stages; link */
	const char *report;           /* show */
	int64_t ranks;                /* simulate */
	const char *rank_counts;      /* stages */
	bool brief;                   /* step */
	bool preset, sized;           /* was a preset named, was a size given? */
} bench_options;

typedef enum bench_kind {
	BENCH_OPS,
	BENCH_GEMM,
	BENCH_STEP,
	BENCH_STAGES,
	BENCH_LINK,
	BENCH_EXECUTOR,
	BENCH_SIMULATE,
	BENCH_TOKENIZER,
	BENCH_SHOW,
	BENCH_KINDS
} bench_kind;

/* Their tables; the command of each is "bench " and its name. */
extern const option_table bench_tables[BENCH_KINDS];
/* The name alone: "ops". */
const char *bench_name(bench_kind kind);
/* Words of the text that a preset is meant for. */
int64_t bench_vocabulary(preset which);
/* Fills *out from the preset that the settings name, and then from the settings. */
ps_status bench_options_read(bench_options *out, bench_kind kind, const option_settings *settings) PS_WARN_UNUSED;
/* As a report has them; NULL: no memory. */
json_t *bench_options_json(const bench_options *options, bench_kind kind);

#endif
