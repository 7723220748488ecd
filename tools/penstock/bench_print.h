/* Reports of benches as tables for people. */
#ifndef PS_TOOLS_BENCH_PRINT_H
#define PS_TOOLS_BENCH_PRINT_H

#include "bench/report.h"

#include <stdio.h>

/* Prints the rows by section; `before` may be NULL: what they are compared with, and the file that it came from. */
void bench_print(const struct bench_report *report, const struct bench_report *before, const char *before_path,
                 FILE *to);

/* "better", "worse", "same" or "unknown". */
const char *bench_verdict_name(enum bench_verdict verdict);

#endif
