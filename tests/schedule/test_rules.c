/*
 * The named rules over a grid of stages and micro-batches: valid, and makespan, bubble and memory by the formulas of
 * docs/schedules.md, which come from the papers and not from this code.
 */
#include "helpers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_STAGES = 8, MOST_MICRO_BATCHES = 24 };

static const struct {
	double f, b, w;
} ratios[] = {{1, 1, 1}, {1, 2, 0}, {1, 1, 0.5}, {2, 1, 3}, {3, 1, 1}, {0.25, 4, 2}};

enum { RATIOS = sizeof ratios / sizeof *ratios };

static int min_int(int a, int b)
{
	return a < b ? a : b;
}

static void check_times(const ps_schedule *schedule, double expected, const ps_costs *costs)
{
	ps_simulation simulation;
	assert_ok(ps_schedule_simulate(&simulation, schedule, costs, true));
	ck_assert_msg(fabs(simulation.makespan - expected) < 1e-9, "%s, %d stages, %d micro-batches: %g, not %g",
	              schedule->name, schedule->stages, schedule->micro_batches, simulation.makespan, expected);
	double idle = 0;
	for (int rank = 0; rank < schedule->ranks; rank++) {
		double busy = 0, before = 0;
		for (int64_t position = 0; position < schedule->rank[rank].count; position++) {
			ps_span span = simulation.spans[rank][position];
			ck_assert(span.begin >= before && span.end >= span.begin);
			before = span.end;
			busy += span.end - span.begin;
		}
		ck_assert_double_eq_tol(busy, simulation.busy[rank], 1e-9);
		ck_assert_double_eq_tol(simulation.idle[rank], simulation.makespan - busy, 1e-9);
		idle += simulation.idle[rank];
	}
	ck_assert_double_eq_tol(simulation.bubble, idle / (schedule->ranks * simulation.makespan), 1e-12);
	ps_simulation_finish(&simulation);
}

START_TEST(equal_stages)
{
	for (int p = 1; p <= MOST_STAGES; p++) {
		for (int m = 1; m <= MOST_MICRO_BATCHES; m++) {
			ps_schedule *gpipe = generate("gpipe", p, 1, m), *alternate = generate("1f1b", p, 1, m);
			ps_schedule *forward = generate("forward-only", p, 1, m);
			for (int rank = 0; rank < p; rank++) {
				ck_assert_int_eq(ps_schedule_in_flight(gpipe, rank), m);
				ck_assert_int_eq(ps_schedule_in_flight(alternate, rank), min_int(m, p - rank));
				ck_assert_int_eq(ps_schedule_in_flight(forward, rank), 1);
				ck_assert_int_eq(gpipe->rank[rank].count, 2 * m);
				ck_assert_int_eq(alternate->rank[rank].count, 2 * m);
				ck_assert_int_eq(forward->rank[rank].count, m);
			}
			for (int i = 0; i < RATIOS; i++) {
				equal_costs equal;
				set_equal_costs(&equal, ratios[i].f, ratios[i].b, ratios[i].w, 0);
				double both = ratios[i].f + ratios[i].b + ratios[i].w;
				check_times(gpipe, (m + p - 1) * both, &equal.costs);
				check_times(alternate, (m + p - 1) * both, &equal.costs);
				check_times(forward, (m + p - 1) * ratios[i].f, &equal.costs);
			}
			ps_simulation simulation;
			assert_ok(ps_schedule_simulate(&simulation, gpipe, NULL, false));
			ck_assert_double_eq_tol(simulation.makespan, 3.0 * (m + p - 1), 1e-9);
			ck_assert_double_eq_tol(simulation.bubble, (p - 1.0) / (m + p - 1.0), 1e-12);
			ck_assert_ptr_null(simulation.spans);
			ps_simulation_finish(&simulation);
			ps_schedule_destroy(gpipe);
			ps_schedule_destroy(alternate);
			ps_schedule_destroy(forward);
		}
	}
}
END_TEST

/* The order of section 2.4 of the design, written out once. */
START_TEST(order_of_1f1b)
{
	ps_schedule *schedule = generate("1f1b", 4, 1, 8);
	char *text;
	assert_ok(ps_schedule_write(&text, schedule));
	ck_assert_str_eq(text, "schedule: 1f1b\nmicro-batches: 8\n"
	                       "F0 F1 F2 F3 BW0 F4 BW1 F5 BW2 F6 BW3 F7 BW4 BW5 BW6 BW7\n"
	                       "F0 F1 F2 BW0 F3 BW1 F4 BW2 F5 BW3 F6 BW4 F7 BW5 BW6 BW7\n"
	                       "F0 F1 BW0 F2 BW1 F3 BW2 F4 BW3 F5 BW4 F6 BW5 F7 BW6 BW7\n"
	                       "F0 BW0 F1 BW1 F2 BW2 F3 BW3 F4 BW4 F5 BW5 F6 BW6 F7 BW7\n");
	free(text);
	ps_schedule_destroy(schedule);
}
END_TEST

/* Half-steps of a clock: F(k) of rank r at 2k + r, B(k) at 2k + 2p - 1 - r, sorted, are the list. */
START_TEST(clock_of_1f1b)
{
	for (int p = 1; p <= MOST_STAGES; p++) {
		for (int m = 1; m <= MOST_MICRO_BATCHES; m++) {
			ps_schedule *schedule = generate("1f1b", p, 1, m);
			for (int rank = 0; rank < p; rank++) {
				int before = -1;
				for (int64_t position = 0; position < schedule->rank[rank].count; position++) {
					ps_action action = schedule->rank[rank].actions[position];
					int clock = 2 * action.micro_batch +
					            (action.kind == PS_ACTION_F ? rank : 2 * p - 1 - rank);
					ck_assert_int_gt(clock, before);
					before = clock;
				}
			}
			ps_schedule_destroy(schedule);
		}
	}
}
END_TEST

START_TEST(link_latency)
{
	static const struct {
		int m;
		double latency, gpipe, alternate;
	} rows[] = {{8, 0, 33, 33},    {8, 0.5, 36, 41},    {8, 1, 39, 49},
	            {32, 0, 105, 105}, {32, 0.5, 108, 131}, {32, 1, 111, 157}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		equal_costs equal;
		set_equal_costs(&equal, 1, 1, 1, rows[i].latency);
		ps_schedule *gpipe = generate("gpipe", 4, 1, rows[i].m), *alternate = generate("1f1b", 4, 1, rows[i].m);
		check_times(gpipe, rows[i].gpipe, &equal.costs);
		check_times(alternate, rows[i].alternate, &equal.costs);
		ps_schedule_destroy(gpipe);
		ps_schedule_destroy(alternate);
	}
	/* Forward and backward links are told apart, and each boundary has its own. */
	ps_schedule *one = generate("gpipe", 3, 1, 1);
	double forward[] = {10, 200}, backward[] = {3000, 40000};
	ps_costs costs = {.send_forward = forward, .send_backward = backward};
	check_times(one, 9 + 10 + 200 + 3000 + 40000, &costs);
	ps_schedule_destroy(one);
}
END_TEST

/* GPipe, where the slowest stage is the same both ways: the sum of all stages and (m - 1) times the slowest. */
START_TEST(unequal_stages)
{
	srand(20260);
	for (int round = 0; round < 400; round++) {
		int p = 1 + rand() % MOST_STAGES, m = 1 + rand() % MOST_MICRO_BATCHES;
		double f[MOST_STAGES], b[MOST_STAGES], w[MOST_STAGES], sum = 0, slowest = 0, bound = 0;
		for (int stage = 0; stage < p; stage++) {
			double size = 1 + rand() % 9;
			f[stage] = size;
			b[stage] = 1.5 * size;
			w[stage] = 0.5 * size;
			/* The stage waits for one forward and keeps one backward waiting on those before it. */
			bound = fmax(bound, sum + m * 3 * size);
			sum += 3 * size;
			slowest = fmax(slowest, 3 * size);
		}
		ps_costs costs = {.forward = f, .backward_input = b, .backward_weight = w};
		ps_schedule *gpipe = generate("gpipe", p, 1, m), *alternate = generate("1f1b", p, 1, m);
		check_times(gpipe, sum + (m - 1) * slowest, &costs);
		double other = makespan(alternate, &costs);
		ck_assert_double_ge(other, bound - 1e-9);
		ck_assert_double_le(other, (m + p - 1) * slowest + 1e-9);
		ps_schedule_destroy(gpipe);
		ps_schedule_destroy(alternate);
	}
	double f[] = {1, 1, 1, 4}, w[] = {1, 1, 1, 4};
	ps_costs costs = {.forward = f, .backward_input = f, .backward_weight = w};
	ps_schedule *gpipe = generate("gpipe", 4, 1, 8);
	check_times(gpipe, 105, &costs);
	ps_simulation simulation;
	assert_ok(ps_schedule_simulate(&simulation, gpipe, &costs, false));
	ck_assert_double_eq_tol(simulation.busy[0] / simulation.makespan, 0.23, 0.005);
	ps_simulation_finish(&simulation);
	ps_schedule_destroy(gpipe);
}
END_TEST

START_TEST(sizes_of_micro_batches)
{
	ps_schedule *schedule = generate("gpipe", 1, 1, 3);
	double scale[] = {1, 0.5, 2};
	ps_costs costs = {.micro_batch_scale = scale};
	check_times(schedule, 3 * 3.5, &costs);
	assert_ok(ps_schedule_group_weight(schedule, 2));
	check_times(schedule, 3 * 3.5, &costs);
	ps_schedule_destroy(schedule);
}
END_TEST

/* R starts before the gradient arrives, so that only the R of the last stage are seen: m or m - 1 of them. */
START_TEST(recompute)
{
	static const char *const names[] = {"gpipe", "1f1b"};
	static const ps_checkpoint modes[] = {PS_CHECKPOINT_NEVER, PS_CHECKPOINT_EXCEPT_LAST, PS_CHECKPOINT_ALWAYS};
	for (int p = 1; p <= MOST_STAGES; p++) {
		for (int m = 1; m <= MOST_MICRO_BATCHES; m++) {
			for (int n = 0; n < 2; n++) {
				for (int mode = 0; mode < 3; mode++) {
					ps_schedule *schedule = generate(names[n], p, 1, m);
					assert_ok(ps_schedule_add_recompute(schedule, modes[mode]));
					assert_ok(ps_schedule_validate(schedule));
					int extra = mode == 0 ? 0 : mode == 1 ? m - 1 : m;
					for (int rank = 0; rank < p; rank++) {
						ck_assert_int_eq(schedule->rank[rank].count, 2 * m + extra);
						ck_assert_int_eq(ps_schedule_in_flight(schedule, rank),
						                 n ? min_int(m, p - rank) : m);
					}
					for (int i = 0; i < RATIOS; i++) {
						equal_costs equal;
						double f = ratios[i].f, b = ratios[i].b, w = ratios[i].w;
						set_equal_costs(&equal, f, b, w, 0);
						check_times(schedule, (m + p - 1) * (f + b + w) + extra * f,
						            &equal.costs);
					}
					ps_schedule_destroy(schedule);
				}
			}
		}
	}
	equal_costs equal;
	set_equal_costs(&equal, 1, 1, 1, 0);
	ps_schedule *schedule = generate("1f1b", 4, 1, 8);
	assert_ok(ps_schedule_add_recompute(schedule, PS_CHECKPOINT_EXCEPT_LAST));
	check_times(schedule, 40, &equal.costs);
	/* The same once more changes nothing; always adds the one that is left. */
	assert_ok(ps_schedule_add_recompute(schedule, PS_CHECKPOINT_EXCEPT_LAST));
	ck_assert_int_eq(schedule->rank[0].count, 23);
	assert_ok(ps_schedule_add_recompute(schedule, PS_CHECKPOINT_ALWAYS));
	ck_assert_int_eq(schedule->rank[0].count, 24);
	check_times(schedule, 41, &equal.costs);
	ps_schedule_destroy(schedule);
}
END_TEST

static int64_t count_kind(const ps_schedule *schedule, int rank, int kind)
{
	int64_t count = 0;
	for (int64_t position = 0; position < schedule->rank[rank].count; position++)
		count += schedule->rank[rank].actions[position].kind == kind;
	return count;
}

START_TEST(grouped_weights)
{
	static const char *const names[] = {"gpipe", "1f1b"};
	for (int p = 1; p <= 5; p++) {
		for (int m = 1; m <= 12; m++) {
			for (int group = 1; group <= m + 2; group++) {
				for (int n = 0; n < 4; n++) {
					ps_schedule *schedule = generate(names[n % 2], p, 1, m);
					/* Recomputation before or after makes the same lists. */
					if (n >= 2)
						assert_ok(ps_schedule_add_recompute(schedule, PS_CHECKPOINT_ALWAYS));
					ps_schedule *other = generate(names[n % 2], p, 1, m);
					assert_ok(ps_schedule_group_weight(schedule, group));
					assert_ok(ps_schedule_group_weight(other, group));
					if (n >= 2)
						assert_ok(ps_schedule_add_recompute(other, PS_CHECKPOINT_ALWAYS));
					assert_ok(ps_schedule_validate(schedule));
					for (int rank = 0; rank < p; rank++) {
						/* No stage waits for the first one's input gradient. */
						int alone = group == 1 || m == 1 ? m : m % group == 1;
						int whole = rank == 0 ? alone : 0;
						ck_assert_int_eq(count_kind(schedule, rank, PS_ACTION_BW), whole);
						ck_assert_int_eq(count_kind(schedule, rank, PS_ACTION_B), m - whole);
						ck_assert_int_eq(count_kind(schedule, rank, PS_ACTION_W),
						                 (m + group - 1) / group - whole);
					}
					assert_same_actions(schedule, other);
					/* One group: the stage before waits for no weight gradient. */
					equal_costs equal;
					set_equal_costs(&equal, 1, 2, 3, 0);
					if (group >= m && n < 2)
						check_times(schedule, (m + p - 1) * 3 + m * 3, &equal.costs);
					ps_schedule_destroy(schedule);
					ps_schedule_destroy(other);
				}
			}
		}
	}
}
END_TEST

/* What a rule becomes when it is grouped and joined. */
START_TEST(joined)
{
	static const struct {
		const char *name;
		int ranks, stages_per_rank, group;
		ps_checkpoint checkpoint;
		const char *lists;
	} cases[] = {
	        {"gpipe", 1, 1, 4, PS_CHECKPOINT_NEVER, "F0-3 BW0-3\n"},
	        {"gpipe", 2, 1, 4, PS_CHECKPOINT_NEVER, "F0-3 BW0-3\nF0-3 BW0-3\n"},
	        {"gpipe", 1, 1, 2, PS_CHECKPOINT_NEVER, "F0-3 BW0-1 BW2-3\n"},
	        {"gpipe", 1, 1, 0, PS_CHECKPOINT_NEVER, "F0-3 BW0 BW1 BW2 BW3\n"},
	        {"gpipe", 1, 1, 4, PS_CHECKPOINT_ALWAYS, "F0 F1 F2 F3 R0 B0 R1 B1 R2 B2 R3 B3 W0-3\n"},
	        {"gpipe", 1, 1, 4, PS_CHECKPOINT_EXCEPT_LAST, "F0 F1 F2 F3 R0 B0 R1 B1 R2 B2 B3 W0-3\n"},
	        {"gpipe", 1, 2, 4, PS_CHECKPOINT_NEVER,
	         "F0 1F0 F1 1F1 F2 1F2 F3 1F3 1B0 B0 1B1 B1 1B2 B2 1B3 1W0-3 B3 W0-3\n"},
	        {"1f1b", 1, 1, 4, PS_CHECKPOINT_NEVER, "F0 B0 F1 B1 F2 B2 F3 B3 W0-3\n"},
	        {"1f1b", 2, 1, 4, PS_CHECKPOINT_NEVER, "F0 F1 B0 F2 B1 F3 B2 B3 W0-3\nF0 B0 F1 B1 F2 B2 F3 B3 W0-3\n"},
	        {"forward-only", 2, 1, 0, PS_CHECKPOINT_NEVER, "F0-3\nF0-3\n"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		ps_schedule *schedule = generate(cases[i].name, cases[i].ranks, cases[i].stages_per_rank, 4);
		assert_ok(ps_schedule_add_recompute(schedule, cases[i].checkpoint));
		if (cases[i].group)
			assert_ok(ps_schedule_group_weight(schedule, cases[i].group));
		int in_flight[2] = {ps_schedule_in_flight(schedule, 0), ps_schedule_in_flight(schedule, 1)};
		assert_ok(ps_schedule_join(schedule));
		assert_ok(ps_schedule_validate(schedule));
		for (int rank = 0; rank < schedule->ranks; rank++)
			ck_assert_int_eq(ps_schedule_in_flight(schedule, rank),
			                 schedule->forward_only ? 1 : in_flight[rank]);
		char *text;
		assert_ok(ps_schedule_write(&text, schedule));
		const char *lists = strchr(strchr(text, '\n') + 1, '\n') + 1;
		ck_assert_str_eq(lists, cases[i].lists);
		ps_schedule *again;
		char path[64];
		assert_ok(read_text(&again, path, text, 0));
		assert_same_actions(schedule, again);
		ps_schedule_destroy(again);
		free(text);
		ps_schedule_destroy(schedule);
	}
}
END_TEST

/* Joined, stage 1 would wait for the forward of both micro-batches, of which the second waits for stage 2. */
START_TEST(joined_in_a_ring)
{
	static const char *const lists = "0F0 2F0 0F1 2F1 2B0 2B1 2W0-1 0B0 0B1 0W0-1\n"
	                                 "1F0 1F1 3F0 3F1 3B0 3B1 3W0-1 1B0 1B1 1W0-1\n";
	ps_schedule *schedule = schedule_of(lists), *same = schedule_of(lists);
	assert_ok(ps_schedule_validate(schedule));
	assert_ok(ps_schedule_join(schedule));
	assert_same_actions(schedule, same);
	ps_schedule_destroy(schedule);
	ps_schedule_destroy(same);
}
END_TEST

/* W comes right behind the last B of its group; a second grouping replaces the first. */
START_TEST(places_of_weights)
{
	ps_schedule *schedule = generate("1f1b", 2, 1, 5);
	assert_ok(ps_schedule_group_weight(schedule, 2));
	char *text;
	assert_ok(ps_schedule_write(&text, schedule));
	ck_assert_ptr_nonnull(strstr(text, "\nF0 F1 B0 F2 B1 W0-1 F3 B2 F4 B3 W2-3 BW4\n"));
	free(text);
	assert_ok(ps_schedule_group_weight(schedule, 5));
	assert_ok(ps_schedule_write(&text, schedule));
	ck_assert_ptr_nonnull(strstr(text, "\nF0 F1 B0 F2 B1 F3 B2 F4 B3 B4 W0-4\n"));
	free(text);
	ps_schedule_destroy(schedule);

	/* Backwards that go down: a group waits for those before it, so that the W ascend. */
	schedule = schedule_of("F0 F1 F2 F3 BW3 BW2 BW1 BW0");
	assert_ok(ps_schedule_group_weight(schedule, 2));
	assert_ok(ps_schedule_write(&text, schedule));
	ck_assert_ptr_nonnull(strstr(text, "\nF0 F1 F2 F3 B3 B2 B1 B0 W0-1 W2-3\n"));
	free(text);
	ps_schedule_destroy(schedule);

	schedule = generate("forward-only", 2, 1, 3);
	assert_ok(ps_schedule_group_weight(schedule, 2));
	assert_ok(ps_schedule_add_recompute(schedule, PS_CHECKPOINT_ALWAYS));
	ck_assert_int_eq(schedule->rank[0].count, 3);
	ck_assert_int_eq(ps_schedule_group_weight(schedule, 0), PS_EINVAL);
	ps_schedule_destroy(schedule);
}
END_TEST

START_TEST(names_and_sizes)
{
	ps_schedule *schedule = NULL;
	ck_assert_int_eq(ps_schedule_generate(&schedule, "2f2b", 2, 1, 4), PS_EINVAL);
	ck_assert_str_eq(ps_error_message(), "there is no schedule '2f2b'; there are gpipe, 1f1b, forward-only");
	ck_assert_int_eq(ps_schedule_generate(&schedule, "1f1b", 2, 2, 4), PS_EINVAL);
	ck_assert_str_eq(ps_error_message(), "schedule 1f1b: 2 stages a rank; this schedule places exactly 1");
	ck_assert_int_eq(ps_schedule_generate(&schedule, NULL, 2, 1, 4), PS_EINVAL);
	ck_assert_int_eq(ps_schedule_generate(&schedule, "gpipe", 0, 1, 4), PS_EINVAL);
	ck_assert_int_eq(ps_schedule_generate(&schedule, "gpipe", 2, -1, 4), PS_EINVAL);
	ck_assert_int_eq(ps_schedule_generate(&schedule, "gpipe", 2, 1, 0), PS_EINVAL);
	ck_assert_int_eq(ps_schedule_generate(&schedule, "gpipe", 65536, 65536, 1), PS_EINVAL);
	ck_assert_ptr_null(schedule);
	int rows = 0;
	for (const ps_schedule_rule *rule = ps_schedule_rules(); rule->name; rule++, rows++) {
		ck_assert_ptr_eq(ps_schedule_find_rule(rule->name), rule);
		ck_assert(strlen(rule->name) < sizeof schedule->name && strlen(rule->text) > 0);
	}
	ck_assert_int_ge(rows, 3);
	ck_assert_ptr_null(ps_schedule_find_rule(NULL));
	ck_assert_ptr_null(ps_schedule_find_rule(""));
}
END_TEST

START_TEST(bad_costs)
{
	ps_schedule *schedule = generate("gpipe", 2, 1, 2);
	double wrong[] = {1, -1}, nan_cost[] = {NAN, 1}, infinite[] = {1, INFINITY};
	const ps_costs rows[] = {
	        {.forward = wrong},         {.backward_input = nan_cost}, {.backward_weight = infinite},
	        {.send_forward = nan_cost}, {.send_backward = nan_cost},  {.micro_batch_scale = wrong},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		ps_simulation simulation;
		ck_assert_int_eq(ps_schedule_simulate(&simulation, schedule, &rows[i], true), PS_EINVAL);
		ck_assert_ptr_nonnull(strstr(ps_error_message(), "costs must be finite and not negative"));
		ck_assert_ptr_null(simulation.busy);
		ps_simulation_finish(&simulation);
	}
	double zero[] = {0, 0};
	ps_costs free_costs = {.forward = zero, .backward_input = zero, .backward_weight = zero};
	ps_simulation simulation;
	assert_ok(ps_schedule_simulate(&simulation, schedule, &free_costs, true));
	ck_assert_double_eq(simulation.makespan, 0);
	ck_assert_double_eq(simulation.bubble, 0);
	char *text;
	assert_ok(ps_simulation_draw(&text, schedule, &simulation, 1));
	ck_assert_str_eq(text, "rank 0\nrank 1\n");
	free(text);
	ps_simulation_finish(&simulation);
	ps_schedule_destroy(schedule);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("schedule rules");
	TCase *tests = tcase_create("rules");
	tcase_set_timeout(tests, 100);
	suite_add_tcase(suite, tests);
	tcase_add_test(tests, equal_stages);
	tcase_add_test(tests, order_of_1f1b);
	tcase_add_test(tests, clock_of_1f1b);
	tcase_add_test(tests, link_latency);
	tcase_add_test(tests, unequal_stages);
	tcase_add_test(tests, sizes_of_micro_batches);
	tcase_add_test(tests, recompute);
	tcase_add_test(tests, grouped_weights);
	tcase_add_test(tests, joined);
	tcase_add_test(tests, joined_in_a_ring);
	tcase_add_test(tests, places_of_weights);
	tcase_add_test(tests, names_and_sizes);
	tcase_add_test(tests, bad_costs);
	return run_suite(suite);
}
