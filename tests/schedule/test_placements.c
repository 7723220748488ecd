/*
 * Several stages a rank and W apart from B: schedules as published (interleaved 1F1B, ZB-H1, ZB-V for 4 ranks and 8
 * micro-batches), with their known times and memory; waves over any placement.
 */
#include "helpers.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANKS = 4 };

/* Capital letters are a rank's first stage, small ones its second. */
static const char *const interleaved[RANKS] = {
        "F0 F1 F2 F3 f0 f1 f2 f3 F4 F5 F6 b0 F7 b1 f4 b2 f5 b3 f6 B0 f7 B1 B2 B3 b4 b5 b6 b7 B4 B5 B6 B7",
        "F0 F1 F2 F3 f0 f1 f2 f3 F4 b0 F5 b1 F6 b2 F7 b3 f4 B0 f5 B1 f6 B2 f7 B3 b4 b5 b6 b7 B4 B5 B6 B7",
        "F0 F1 F2 F3 f0 f1 f2 b0 f3 b1 F4 b2 F5 b3 F6 B0 F7 B1 f4 B2 f5 B3 f6 b4 f7 b5 b6 b7 B4 B5 B6 B7",
        "F0 F1 F2 F3 f0 b0 f1 b1 f2 b2 f3 b3 F4 B0 F5 B1 F6 B2 F7 B3 f4 b4 f5 b5 f6 b6 f7 b7 B4 B5 B6 B7",
};

static const char *const zb_h1[RANKS] = {
        "F0 F1 F2 F3 I0 W0 F4 I1 W1 F5 I2 W2 F6 I3 W3 F7 I4 W4 I5 W5 I6 W6 I7 W7",
        "F0 F1 F2 I0 F3 I1 W0 F4 I2 W1 F5 I3 W2 F6 I4 W3 F7 I5 W4 I6 W5 I7 W6 W7",
        "F0 F1 I0 F2 I1 F3 I2 W0 F4 I3 W1 F5 I4 W2 F6 I5 W3 F7 I6 W4 I7 W5 W6 W7",
        "F0 I0 F1 I1 F2 I2 F3 I3 W0 F4 I4 W1 F5 I5 W2 F6 I6 W3 F7 I7 W4 W5 W6 W7",
};

static const char *const zb_v[RANKS] = {
        "F0 F1 F2 F3 F4 F5 F6 f0 i0 w0 f1 i1 w1 f2 i2 w2 f3 i3 w3 F7 I0 W0 f4 i4 w4 I1 W1 f5 i5 w5 I2 W2 f6 i6 w6 I3 "
        "W3 f7 i7 w7 I4 W4 I5 W5 I6 W6 I7 W7",
        "F0 F1 F2 F3 F4 f0 F5 f1 i0 w0 f2 i1 w1 f3 i2 w2 F6 I0 W0 f4 i3 w3 F7 I1 W1 f5 i4 w4 I2 W2 f6 i5 w5 I3 W3 f7 "
        "i6 w6 I4 i7 I5 W4 I6 W5 I7 W6 w7 W7",
        "F0 F1 F2 f0 F3 f1 F4 f2 i0 w0 f3 i1 w1 F5 I0 W0 f4 i2 w2 F6 I1 W1 f5 i3 w3 F7 I2 W2 f6 i4 w4 I3 W3 f7 i5 w5 "
        "I4 i6 I5 i7 I6 W4 I7 W5 w6 w7 W6 W7",
        "F0 f0 F1 f1 F2 f2 F3 f3 i0 w0 F4 I0 W0 f4 i1 w1 F5 I1 W1 f5 i2 w2 F6 I2 W2 f6 i3 w3 F7 I3 W3 f7 i4 w4 I4 i5 "
        "I5 i6 I6 i7 I7 W4 w5 w6 w7 W5 W6 W7",
};

/* As the file form has it. v_shaped: the second stages run from the last rank back to the first. */
static ps_schedule *translate(const char *const rows[RANKS], bool v_shaped)
{
	char text[8192] = "# published\n";
	size_t used = strlen(text);
	for (int rank = 0; rank < RANKS; rank++) {
		for (const char *at = rows[rank]; *at; at += strcspn(at, " "), at += strspn(at, " ")) {
			int stage = rank;
			if (islower((unsigned char)*at))
				stage = v_shaped ? 2 * RANKS - 1 - rank : RANKS + rank;
			int letter = toupper((unsigned char)*at);
			const char *kind = letter == 'F' ? "F" : letter == 'B' ? "BW" : letter == 'I' ? "B" : "W";
			used += (size_t)snprintf(text + used, sizeof text - used, "%d%s%d,", stage, kind, at[1] - '0');
		}
		used += (size_t)snprintf(text + used, sizeof text - used, "\n");
	}
	ck_assert_uint_lt(used, sizeof text);
	return schedule_of(text);
}

/* c = 0, 0.5, 1 with F = 1 and B = W = 1 for a rank's share of the model. */
static void check_published(const ps_schedule *schedule, const double times[3], const int in_flight[RANKS])
{
	int per_rank = schedule->stages / schedule->ranks;
	for (int i = 0; i < 3; i++) {
		equal_costs equal;
		set_equal_costs(&equal, 1.0 / per_rank, 1.0 / per_rank, 1.0 / per_rank, 0.5 * i);
		ck_assert_double_eq_tol(makespan(schedule, &equal.costs), times[i], 1e-9);
	}
	for (int rank = 0; rank < RANKS; rank++)
		ck_assert_int_eq(ps_schedule_in_flight(schedule, rank), in_flight[rank]);
}

static void check_rewrites(ps_schedule *schedule)
{
	assert_ok(ps_schedule_add_recompute(schedule, PS_CHECKPOINT_EXCEPT_LAST));
	assert_ok(ps_schedule_validate(schedule));
	for (int group = 1; group <= 8; group++) {
		assert_ok(ps_schedule_group_weight(schedule, group));
		assert_ok(ps_schedule_validate(schedule));
	}
	ps_schedule_destroy(schedule);
}

START_TEST(published_interleaved)
{
	ps_schedule *schedule = translate(interleaved, false);
	check_published(schedule, (double[]){28.5, 35.5, 46}, (int[]){11, 9, 7, 5});
	check_rewrites(schedule);
}
END_TEST

START_TEST(published_zb_h1)
{
	ps_schedule *schedule = translate(zb_h1, false);
	check_published(schedule, (double[]){27, 33, 41}, (int[]){4, 3, 2, 1});
	check_rewrites(schedule);
}
END_TEST

START_TEST(published_zb_v)
{
	ps_schedule *schedule = translate(zb_v, true);
	for (int stage = 0; stage < 8; stage++)
		ck_assert_int_eq(schedule->rank_of_stage[stage], stage < 4 ? stage : 7 - stage);
	double chunks = makespan(schedule, NULL);
	ck_assert_double_eq_tol(chunks, 51, 1e-9);
	for (int i = 0; i < 3; i++) {
		equal_costs equal;
		set_equal_costs(&equal, 0.5, 0.5, 0.5, 0.5 * i);
		ck_assert_double_eq_tol(makespan(schedule, &equal.costs), i == 0 ? 25.5 : i == 1 ? 32.5 : 41.5, 1e-9);
	}
	/* No rank is idle inside its row. */
	ps_simulation simulation;
	assert_ok(ps_schedule_simulate(&simulation, schedule, NULL, true));
	for (int rank = 0; rank < RANKS; rank++) {
		int64_t last = schedule->rank[rank].count - 1;
		ck_assert_double_eq_tol(simulation.spans[rank][0].begin, rank, 1e-9);
		ck_assert_double_eq_tol(simulation.spans[rank][last].end, rank + 48, 1e-9);
	}
	ps_simulation_finish(&simulation);
	check_rewrites(schedule);
}
END_TEST

/* A looped placement fills the pipe v times as fast when m is a multiple of p. */
START_TEST(looped_gpipe)
{
	for (int p = 1; p <= 6; p++) {
		for (int v = 1; v <= 4; v++) {
			for (int rounds = 1; rounds <= 3; rounds++) {
				int m = p * rounds;
				ps_schedule *schedule = generate("gpipe", p, v, m);
				equal_costs equal;
				set_equal_costs(&equal, 1.0 / v, 1.5 / v, 0.5 / v, 0);
				ck_assert_double_eq_tol(makespan(schedule, &equal.costs), 3 * (m + (p - 1.0) / v),
				                        1e-9);
				for (int rank = 0; rank < p; rank++)
					ck_assert_int_eq(ps_schedule_in_flight(schedule, rank), m * v);
				check_rewrites(schedule);
			}
		}
	}
}
END_TEST

/* Any placement: forward waves are valid, and no rank waits while an input is at hand. */
START_TEST(random_placements)
{
	srand(7);
	for (int round = 0; round < 300; round++) {
		int ranks = 1 + rand() % 5, stages = ranks + rand() % 9, m = 1 + rand() % 10;
		ps_schedule *placement = NULL, *schedule = NULL;
		assert_ok(ps_schedule_create(&placement, "mine", ranks, stages, 1));
		for (int stage = ranks; stage < stages; stage++)
			placement->rank_of_stage[stage] = rand() % ranks;
		for (int stage = stages - 1; stage > 0; stage--) {
			int other = rand() % (stage + 1), rank = placement->rank_of_stage[stage];
			placement->rank_of_stage[stage] = placement->rank_of_stage[other];
			placement->rank_of_stage[other] = rank;
		}
		assert_ok(ps_schedule_generate_forward(&schedule, placement, m));
		ck_assert(schedule->forward_only);
		ck_assert_int_eq(schedule->micro_batches, m);
		ck_assert_mem_eq(schedule->rank_of_stage, placement->rank_of_stage, sizeof(int) * (size_t)stages);
		double time = makespan(schedule, NULL), load = 0;
		for (int rank = 0; rank < ranks; rank++)
			load = fmax(load, (double)schedule->rank[rank].count);
		ck_assert_double_ge(time, load);
		ck_assert_double_le(time, load + stages - 1 + (double)m * (stages - ranks));
		ps_schedule_destroy(schedule);
		ps_schedule_destroy(placement);
	}
}
END_TEST

START_TEST(dependencies)
{
	ps_schedule *schedule = translate(zb_v, true);
	ps_action_key key = ps_schedule_dependency(schedule, (ps_action){PS_ACTION_F, 0, 3, 1});
	ck_assert_int_lt(key.rank, 0);
	key = ps_schedule_dependency(schedule, (ps_action){PS_ACTION_F, 5, 3, 1});
	ck_assert(key.rank == 3 && key.kind == PS_ACTION_F && key.stage == 4 && key.micro_batch == 3);
	key = ps_schedule_dependency(schedule, (ps_action){PS_ACTION_BW, 4, 2, 1});
	ck_assert(key.rank == 2 && key.kind == PS_ACTION_B && key.stage == 5 && key.micro_batch == 2);
	key = ps_schedule_dependency(schedule, (ps_action){PS_ACTION_B, 7, 2, 1});
	ck_assert_int_lt(key.rank, 0);
	ck_assert_int_lt(ps_schedule_dependency(schedule, (ps_action){PS_ACTION_W, 4, 0, 8}).rank, 0);
	ck_assert_int_lt(ps_schedule_dependency(schedule, (ps_action){PS_ACTION_R, 4, 0, 1}).rank, 0);
	ps_schedule_destroy(schedule);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("schedule placements");
	TCase *tests = tcase_create("placements");
	tcase_set_timeout(tests, 60);
	suite_add_tcase(suite, tests);
	tcase_add_test(tests, published_interleaved);
	tcase_add_test(tests, published_zb_h1);
	tcase_add_test(tests, published_zb_v);
	tcase_add_test(tests, looped_gpipe);
	tcase_add_test(tests, random_placements);
	tcase_add_test(tests, dependencies);
	return run_suite(suite);
}
