/* Rounds, statistics and verdicts, with samples that are known. */
#include "bench/report.h"
#include "support/check.h"

#include <math.h>

/* Round r of a case gives r, and counts. */
struct counted {
	int calls, stop_at;
	ps_status status; /* of the warm-up */
};

static ps_status sample(void *payload, int round, double *seconds)
{
	struct counted *counted = payload;
	ck_assert_int_eq(round, counted->calls);
	counted->calls++;
	*seconds = round;
	return round == 0 && counted->status != PS_OK ? ps_fail(counted->status, "no") : PS_OK;
}

static bool stop(void *payload)
{
	const struct counted *counted = payload;
	return counted->calls == counted->stop_at;
}

START_TEST(rounds)
{
	struct counted one = {.stop_at = 101}, two = {.status = PS_ENOTSUP}, three = {0};
	struct bench_case cases[] = {{.sample = sample, .payload = &one},
	                             {.sample = sample, .payload = &two},
	                             {.sample = sample, .payload = &three}};
	const struct bench_run run = {.seconds = 1e6, .stop = stop, .payload = &one};
	bool interrupted;
	check_ok(bench_measure(cases, 3, &run, &interrupted));
	ck_assert(interrupted);
	/* The warm-up is not counted, the one that is refused does not come again, and the last round was cut off. */
	ck_assert_int_eq(cases[0].samples.count, 100);
	ck_assert(cases[1].refused);
	ck_assert_int_eq(two.calls, 1);
	ck_assert_int_eq(cases[2].samples.count, 99);
	struct bench_stats stats = bench_samples_stats(&cases[2].samples);
	ck_assert_double_eq(stats.min, 1);
	ck_assert_double_eq(stats.q1, 25.5);
	ck_assert_double_eq(stats.median, 50);
	ck_assert_double_eq(stats.q3, 74.5);
	ck_assert_double_eq(stats.max, 99);
	ck_assert_double_eq(bench_stats_noise(&stats), (74.5 - 25.5) / 50);
	stats.count = BENCH_NOISE_SAMPLES - 1;
	ck_assert(isnan(bench_stats_noise(&stats)));
	for (int i = 0; i < 3; i++)
		bench_samples_free(&cases[i].samples);
}
END_TEST

START_TEST(no_time)
{
	struct counted one = {0};
	struct bench_case only = {.sample = sample, .payload = &one};
	bool interrupted;
	check_ok(bench_measure(&only, 1, &(const struct bench_run){0}, &interrupted));
	ck_assert(!interrupted);
	ck_assert_int_eq(only.samples.count, 1);
	bench_samples_free(&only.samples);
}
END_TEST

START_TEST(failure)
{
	struct counted one = {.status = PS_EDEVICE};
	struct bench_case only = {.sample = sample, .payload = &one};
	bool interrupted;
	ck_assert_int_eq(bench_measure(&only, 1, &(const struct bench_run){0}, &interrupted), PS_EDEVICE);
	ck_assert_int_eq(only.samples.count, 0);
}
END_TEST

START_TEST(verdicts)
{
	static const struct {
		struct bench_stats before, now;
		double ratio;
		enum bench_verdict verdict;
	} rows[] = {
	        {{5, 1, 2, 4, 6, 9}, {5, 1, 2, 4, 6, 9}, 1, BENCH_SAME},
	        {{5, 1, 2, 4, 6, 9}, {5, 6, 6, 8, 9, 9}, 2, BENCH_SAME}, /* they touch */
	        {{5, 1, 2, 4, 6, 9}, {5, 6, 6.5, 8, 9, 9}, 2, BENCH_WORSE},
	        {{5, 1, 2, 4, 6, 9}, {5, 1, 1, 1, 1.5, 9}, 0.25, BENCH_BETTER},
	        {{2, 1, 2, 4, 6, 9}, {5, 1, 1, 1, 1.5, 9}, 0.25, BENCH_NO_VERDICT},
	        {{5, 1, 2, 4, 6, 9}, {1, 8, 8, 8, 8, 8}, 2, BENCH_NO_VERDICT},
	};
	double ratio;
	ck_assert_int_eq(bench_compare(&rows[_i].before, &rows[_i].now, &ratio), rows[_i].verdict);
	ck_assert_double_eq(ratio, rows[_i].ratio);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("measure");
	TCase *tests = tcase_create("measure");
	tcase_add_test(tests, rounds);
	tcase_add_test(tests, no_time);
	tcase_add_test(tests, failure);
	tcase_add_loop_test(tests, verdicts, 0, 6);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
