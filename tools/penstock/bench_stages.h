/* `penstock bench stages`. */
#ifndef PS_TOOLS_BENCH_STAGES_H
#define PS_TOOLS_BENCH_STAGES_H

#include "tools/penstock/bench_options.h"

#include "bench/bench.h"

/* Makes the pipelines that the options ask for, and measures them. */
ps_status bench_stages_run(struct bench_report *report, const bench_options *options,
                           const struct bench_run *run) PS_WARN_UNUSED;

#endif
