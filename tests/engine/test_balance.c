/* The exact cut: against all cuts there are, with costs of each stage's own and with memory. */
#include "tests/engine/trial.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST_UNITS = 10, MOST_STAGES = 5, POOLS = 3 };

/* A problem, and the bytes of each unit; a stage takes a little of its own, and less for units that begin with 0. */
struct case_ {
	ps_balance_problem problem;
	double costs[MOST_STAGES * MOST_UNITS];
	int pool[MOST_STAGES];
	uint64_t limits[POOLS], unit_bytes[MOST_UNITS];
	int never; /* the unit that stage 1 cannot have, or -1 */
};

static uint64_t bytes_of(void *payload, int stage, int first, int count)
{
	const struct case_ *c = payload;
	uint64_t sum = first ? 3 : 0;
	for (int u = first; u < first + count; u++) {
		if (stage == 1 && u == c->never)
			return UINT64_MAX;
		sum += c->unit_bytes[u];
	}
	return sum + (uint64_t)stage;
}

/* What a whole cut comes to. */
struct worth {
	double slowest, total;
	uint64_t over; /* of the pool that is exceeded most; UINT64_MAX: some stage cannot be */
};

static struct worth weigh(struct case_ *c, const int *sizes)
{
	struct worth worth = {0};
	const ps_balance_problem *p = &c->problem;
	uint64_t used[POOLS] = {0};
	for (int s = 0, at = 0; s < p->stages; at += sizes[s++]) {
		double sum = 0;
		for (int u = at; u < at + sizes[s]; u++)
			sum += p->costs[s * p->stride + u];
		worth.slowest = sum > worth.slowest ? sum : worth.slowest;
		worth.total += sum;
		if (!p->bytes)
			continue;
		uint64_t bytes = bytes_of(c, s, at, sizes[s]);
		if (bytes == UINT64_MAX)
			worth.over = UINT64_MAX;
		else
			used[c->pool[s]] += bytes;
	}
	for (int k = 0; k < POOLS && worth.over != UINT64_MAX; k++)
		if (used[k] > c->limits[k] && used[k] - c->limits[k] > worth.over)
			worth.over = used[k] - c->limits[k];
	return worth;
}

/* The best over all ways to cut; with none that fits, the least over. */
static void brute(struct case_ *c, int stage, int left, int *sizes, struct worth *best)
{
	if (stage + 1 == c->problem.stages) {
		sizes[stage] = left;
		struct worth worth = weigh(c, sizes);
		if (worth.over < best->over ||
		    (worth.over == best->over && worth.over == 0 &&
		     (worth.slowest < best->slowest || (worth.slowest == best->slowest && worth.total < best->total))))
			*best = worth;
		return;
	}
	for (sizes[stage] = 1; sizes[stage] <= left - (c->problem.stages - 1 - stage); sizes[stage]++) {
		int mine = sizes[stage];
		brute(c, stage + 1, left - mine, sizes, best);
		sizes[stage] = mine;
	}
}

/* Solves a case and compares; counts those that do not fit. Small whole numbers, whose sums are exact. */
static void check_case(struct case_ *c, int *refused)
{
	int sizes[MOST_STAGES] = {-1}, trial[MOST_STAGES], sum = 0;
	struct worth best = {INFINITY, INFINITY, UINT64_MAX};
	brute(c, 0, c->problem.units, trial, &best);
	ps_status status = ps_balance(&c->problem, sizes);
	if (best.over) {
		char wanted[64];
		ck_assert_int_eq(status, PS_ETOOBIG);
		ck_assert_int_eq(sizes[0], -1);
		++*refused;
		if (best.over == UINT64_MAX)
			return;
		snprintf(wanted, sizeof wanted, "needs %.3f GiB more", (double)best.over / 1073741824.0);
		ck_assert_ptr_nonnull(strstr(ps_error_message(), wanted));
		return;
	}
	check_ok(status);
	struct worth worth = weigh(c, sizes);
	for (int s = 0; s < c->problem.stages; s++) {
		ck_assert_int_ge(sizes[s], 1);
		sum += sizes[s];
	}
	ck_assert_int_eq(sum, c->problem.units);
	ck_assert_uint_eq(worth.over, 0);
	ck_assert(worth.slowest == best.slowest);
	ck_assert(worth.total == best.total);
}

static void make_case(struct case_ *c, uint64_t *state, bool own_costs, bool memory)
{
	static const char *const names[POOLS] = {"a", "b", "c"};
	*c = (struct case_){.never = -1};
	int units = 1 + (int)trial_random(state, MOST_UNITS);
	int stages = 1 + (int)trial_random(state, (uint32_t)(units < MOST_STAGES ? units : MOST_STAGES));
	/* Also with many equal ones and zeros. */
	uint32_t bound = 1 + trial_random(state, 3) * trial_random(state, 40);
	for (int i = 0; i < stages * units; i++)
		c->costs[i] = trial_random(state, bound);
	c->problem = (ps_balance_problem){.stages = stages,
	                                  .units = units,
	                                  .costs = c->costs,
	                                  .stride = own_costs ? units : 0,
	                                  .payload = c,
	                                  .pool_names = names,
	                                  .pools = POOLS,
	                                  .pool = c->pool,
	                                  .limits = c->limits};
	if (!memory)
		return;
	c->problem.bytes = bytes_of;
	uint64_t sum = 0;
	/* Numbers that show in GiB. */
	for (int u = 0; u < units; u++)
		sum += c->unit_bytes[u] = (uint64_t)trial_random(state, 20) << 28;
	for (int s = 0; s < stages; s++)
		c->pool[s] = (int)trial_random(state, POOLS);
	for (int p = 0; p < POOLS; p++)
		c->limits[p] =
		        trial_random(state, 4) ? sum / 4 + ((uint64_t)trial_random(state, 40) << 28) : UINT64_MAX;
	if (trial_random(state, 4) == 0)
		c->never = (int)trial_random(state, (uint32_t)units);
}

START_TEST(test_all_cuts)
{
	uint64_t state = (uint64_t)_i;
	int refused = 0;
	for (int k = 0; k < 200; k++) {
		struct case_ c;
		make_case(&c, &state, _i % 2, false);
		check_case(&c, &refused);
	}
	ck_assert_int_eq(refused, 0);
}
END_TEST

START_TEST(test_memory)
{
	uint64_t state = 100 + (uint64_t)_i;
	int refused = 0;
	for (int k = 0; k < 200; k++) {
		struct case_ c;
		make_case(&c, &state, _i % 3, true);
		check_case(&c, &refused);
	}
	/* Both kinds are among them. */
	ck_assert_int_gt(refused, 5);
	ck_assert_int_lt(refused, 150);
}
END_TEST

/* A stage that is ten times slower gets a tenth of the work. */
START_TEST(test_slow_stage)
{
	double costs[2 * 11];
	int sizes[2];
	for (int u = 0; u < 11; u++) {
		costs[u] = 10;
		costs[11 + u] = 1;
	}
	check_ok(
	        ps_balance(&(const ps_balance_problem){.stages = 2, .units = 11, .costs = costs, .stride = 11}, sizes));
	ck_assert_int_eq(sizes[0], 1);
	ck_assert_int_eq(sizes[1], 10);
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
	check_ok(ps_balance(&(const ps_balance_problem){.stages = 2, .units = 14, .costs = costs}, sizes));
	ck_assert_int_eq(sizes[0], 8);
	ck_assert_int_eq(sizes[1], 6);
}
END_TEST

static double processor_seconds(void)
{
	struct timespec now;
	ck_assert_int_eq(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Thousands of layers take no time to speak of; every end of every stage would be tens of billions of sums. */
START_TEST(test_large)
{
	enum { COUNT = 30000, PARTS = 64 };
	double *costs = malloc(COUNT * sizeof *costs);
	int sizes[PARTS];
	uint64_t state = 3;
	ck_assert_ptr_nonnull(costs);
	double total = 0, most = 0, largest = 0;
	for (int i = 0; i < COUNT; i++) {
		costs[i] = 1 + trial_random(&state, 1000);
		total += costs[i];
		most = costs[i] > most ? costs[i] : most;
	}
	double begin = processor_seconds();
	check_ok(ps_balance(&(const ps_balance_problem){.stages = PARTS, .units = COUNT, .costs = costs}, sizes));
	ck_assert_double_lt(processor_seconds() - begin, 10);
	for (int k = 0, at = 0; k < PARTS; k++) {
		double sum = 0;
		for (int i = 0; i < sizes[k]; i++)
			sum += costs[at++];
		largest = sum > largest ? sum : largest;
	}
	ck_assert(largest < total / PARTS + most);
	free(costs);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("balance");
	TCase *cases = tcase_create("balance");
	tcase_set_timeout(cases, 60);
	tcase_add_loop_test(cases, test_all_cuts, 0, 10);
	tcase_add_loop_test(cases, test_memory, 0, 10);
	tcase_add_test(cases, test_slow_stage);
	tcase_add_test(cases, test_tutorial);
	tcase_add_test(cases, test_large);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
