/* Rounds of samples, and what they come to. */
#include "bench/measure.h"

#include <penstock/device.h>

#include <math.h>
#include <stdlib.h>

ps_status bench_samples_add(struct bench_samples *samples, double value)
{
	if (samples->count == samples->capacity) {
		int capacity = samples->capacity > 0 ? 2 * samples->capacity : 16;
		double *values = realloc(samples->values, (size_t)capacity * sizeof *values);
		if (values == NULL)
			return ps_fail(PS_ENOMEM, "no memory for %d samples", capacity);
		samples->values = values;
		samples->capacity = capacity;
	}
	samples->values[samples->count++] = value;
	return PS_OK;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* Of sorted values: what stands at `share` of the way from the first to the last. */
static double quantile(const double *values, int count, double share)
{
	double at = share * (count - 1);
	int below = (int)at;
	if (below + 1 >= count)
		return values[count - 1];
	return values[below] + (at - below) * (values[below + 1] - values[below]);
}

struct bench_stats bench_samples_stats(struct bench_samples *samples)
{
	int n = samples->count;
	if (n == 0)
		return (struct bench_stats){0};
	qsort(samples->values, (size_t)n, sizeof *samples->values, compare);
	return (struct bench_stats){.count = n,
	                            .min = samples->values[0],
	                            .q1 = quantile(samples->values, n, 0.25),
	                            .median = quantile(samples->values, n, 0.5),
	                            .q3 = quantile(samples->values, n, 0.75),
	                            .max = samples->values[n - 1]};
}

double bench_stats_noise(const struct bench_stats *stats)
{
	return stats->count >= BENCH_NOISE_SAMPLES && stats->median > 0 ? (stats->q3 - stats->q1) / stats->median : NAN;
}

void bench_samples_free(struct bench_samples *samples)
{
	free(samples->values);
	*samples = (struct bench_samples){0};
}

struct bench_stats bench_stats_once(double value)
{
	return (struct bench_stats){1, value, value, value, value, value};
}

static ps_status take(struct bench_case *one, int round)
{
	double seconds = 0;
	if (one->refused)
		return PS_OK;
	ps_status status = one->sample(one->payload, round, &seconds);
	if (status == PS_ENOTSUP && round == 0) {
		one->refused = true;
		return PS_OK;
	}
	if (status != PS_OK || round == 0)
		return status;
	return bench_samples_add(&one->samples, seconds);
}

/* Has a run of `round` counted rounds gone on for long enough? */
static bool enough(int round, double passed, double seconds)
{
	if (round < 1 || passed < seconds)
		return false;
	return round >= BENCH_LEAST_ROUNDS || passed >= BENCH_LONGEST * seconds;
}

ps_status bench_measure(struct bench_case *cases, int count, const struct bench_run *run, bool *interrupted)
{
	int64_t begin = ps_clock_ns();
	double passed = 0;
	*interrupted = false;
	for (int round = 0; count > 0 && !enough(round - 1, passed, run->seconds); round++) {
		if (round == 1)
			begin = ps_clock_ns();
		for (int i = 0; i < count; i++) {
			*interrupted = run->stop != NULL && run->stop(run->payload);
			if (*interrupted)
				return PS_OK;
			PS_TRY(take(&cases[i], round));
			passed = (double)(ps_clock_ns() - begin) * 1e-9;
			double fraction = round == 0 ? (double)(i + 1) / count : passed / run->seconds;
			if (run->progress != NULL)
				run->progress(run->payload, round, fraction < 1 ? fraction : 1);
		}
	}
	return PS_OK;
}
