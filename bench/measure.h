/*
 * Repeated measurement on machines that are never quite quiet.
 *
 * What is measured in one run takes turns: one sample of each case, then the next round, until the time is over. A
 * disturbance then meets all cases alike, the spread of each case's samples shows it, and ratios survive it.
 */
#ifndef PS_BENCH_MEASURE_H
#define PS_BENCH_MEASURE_H

#include <penstock/status.h>

#include <stdbool.h>

/* Fewest rounds after the warm-up, unless these alone take LONGEST times the budget. */
enum { BENCH_LEAST_ROUNDS = 3, BENCH_LONGEST = 4 };

/* Samples from which on quartiles are taken for the noise. */
enum { BENCH_NOISE_SAMPLES = 3 };

struct bench_stats {
	int count; /* 0: the rest has no meaning */
	double min, q1, median, q3, max;
};

struct bench_samples {
	double *values;
	int count, capacity;
};

ps_status bench_samples_add(struct bench_samples *samples, double value) PS_WARN_UNUSED;
/* Sorts the samples. Quartiles are interpolated between neighbours. */
struct bench_stats bench_samples_stats(struct bench_samples *samples);
/* The noise: how far the quartiles are apart, as a share of the median; NaN with too few samples to know it. */
double bench_stats_noise(const struct bench_stats *stats);
void bench_samples_free(struct bench_samples *samples);
/* Of a figure that was taken once. */
struct bench_stats bench_stats_once(double value);

/* How long to measure, and whom to tell. */
struct bench_run {
	double seconds;                                              /* the budget of all rounds together */
	bool (*stop)(void *payload);                                 /* asked before each sample; NULL: never */
	void (*progress)(void *payload, int round, double fraction); /* after each sample; NULL: nobody */
	void *payload;
};

struct bench_case {
	/* One sample in seconds. Round 0 is the warm-up: it may choose how often to repeat, and is not counted. */
	ps_status (*sample)(void *payload, int round, double *seconds);
	void *payload;
	struct bench_samples samples;
	bool refused; /* PS_ENOTSUP in the warm-up: the device has no such op, and the others go on */
};

/* *interrupted: `stop` said so; the samples up to there are good. The caller frees each case's samples. */
ps_status bench_measure(struct bench_case *cases, int count, const struct bench_run *run,
                        bool *interrupted) PS_WARN_UNUSED;

#endif
