/* The cut of a row of costs: the least possible largest part, none empty, against all cuts there are. */
#include "tests/engine/trial.h"

#include <stdlib.h>

static double largest(const double *costs, int parts, const int *sizes)
{
	double most = 0;
	for (int k = 0, at = 0; k < parts; k++) {
		double sum = 0;
		for (int i = 0; i < sizes[k]; i++)
			sum += costs[at++];
		most = sum > most ? sum : most;
	}
	return most;
}

/* The best over all ways to put `parts` non-empty runs on the costs from `at` on. */
static double brute(const double *costs, int at, int count, int parts)
{
	double best = 1e300, sum = 0;
	if (parts == 1) {
		for (sum = 0; at < count; at++)
			sum += costs[at];
		return sum;
	}
	for (int end = at + 1; end <= count - parts + 1; end++) {
		sum += costs[end - 1];
		double rest = brute(costs, end, count, parts - 1);
		double most = sum > rest ? sum : rest;
		best = most < best ? most : best;
	}
	return best;
}

static void check_cut(const double *costs, int count, int parts)
{
	int sizes[16], sum = 0;
	ps_balance(costs, count, parts, sizes);
	for (int k = 0; k < parts; k++) {
		ck_assert_int_ge(sizes[k], 1);
		sum += sizes[k];
	}
	ck_assert_int_eq(sum, count);
	/* Small whole numbers, whose sums are exact. */
	ck_assert(largest(costs, parts, sizes) == brute(costs, 0, count, parts));
}

START_TEST(test_all_cuts)
{
	uint64_t state = (uint64_t)_i;
	for (int k = 0; k < 200; k++) {
		double costs[12];
		int count = 1 + (int)trial_random(&state, 12), parts = 1 + (int)trial_random(&state, (uint32_t)count);
		/* Also with many equal ones and zeros. */
		uint32_t bound = 1 + trial_random(&state, 3) * trial_random(&state, 40);
		for (int i = 0; i < count; i++)
			costs[i] = trial_random(&state, bound + 1);
		check_cut(costs, count, parts);
	}
}
END_TEST

/* The tutorial's model by work: the decoder is worth more than an encoder layer, the embedding nothing. */
START_TEST(test_tutorial)
{
	double costs[14] = {0};
	int sizes[2];
	for (int i = 1; i < 13; i++)
		costs[i] = 100;
	costs[13] = 117;
	ps_balance(costs, 14, 2, sizes);
	ck_assert_int_eq(sizes[0], 8);
	ck_assert_int_eq(sizes[1], 6);
}
END_TEST

/* Thousands of layers take no time to speak of. */
START_TEST(test_large)
{
	enum { COUNT = 100000, PARTS = 64 };
	double *costs = malloc(COUNT * sizeof *costs);
	int sizes[PARTS];
	uint64_t state = 3;
	ck_assert_ptr_nonnull(costs);
	double total = 0, most = 0;
	for (int i = 0; i < COUNT; i++) {
		costs[i] = 1 + trial_random(&state, 1000);
		total += costs[i];
		most = costs[i] > most ? costs[i] : most;
	}
	int64_t begin = ps_clock_ns();
	ps_balance(costs, COUNT, PARTS, sizes);
	ck_assert_int_lt(ps_clock_ns() - begin, INT64_C(10000000000));
	ck_assert(largest(costs, PARTS, sizes) < total / PARTS + most);
	free(costs);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("balance");
	TCase *cases = tcase_create("balance");
	tcase_set_timeout(cases, 60);
	tcase_add_loop_test(cases, test_all_cuts, 0, 10);
	tcase_add_test(cases, test_tutorial);
	tcase_add_test(cases, test_large);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
