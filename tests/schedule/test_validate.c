/* The validator's messages: each wrong schedule with what it says. test_mutation.c has the breadth. */
#include "helpers.h"

#include <string.h>

static const struct {
	const char *text, *message;
} rows[] = {
        /* One rank. */
        {"F1 BW1", "rank 0: F0 of stage 0 is missing"},
        {"F0 F1 BW0", "rank 0: B1 of stage 0 is missing"},
        {"F0 F1 B0 B1 W0", "rank 0: W1 of stage 0 is missing"},
        {"F0 F1 B0 BW1",
         "rank 0, position 3 (BW1 of stage 0): the weight gradient of micro-batch 0 is missing before it"},
        {"F0 BW0 F0", "rank 0, position 2 (F0 of stage 0): the forward of micro-batch 0 is done already at position 0"},
        {"F0 BW0 B0",
         "rank 0, position 2 (B0 of stage 0): the input gradient of micro-batch 0 is done already at position 1"},
        {"F0 BW0 W0",
         "rank 0, position 2 (W0 of stage 0): the weight gradient of micro-batch 0 is done already at position 1"},
        {"F0 F1 B0 B1 W0 W0-1",
         "rank 0, position 5 (W0-1 of stage 0): the weight gradient of micro-batch 0 is done already at position 4"},
        {"BW0 F0", "rank 0, position 0 (BW0 of stage 0): F0 of stage 0 must come first; it comes only at position 1"},
        {"F0 W0 B0", "rank 0, position 1 (W0 of stage 0): B0 of stage 0 must come first; it comes only at position 2"},
        {"F0 F1 B0 W0-1 B1",
         "rank 0, position 3 (W0-1 of stage 0): B1 of stage 0 must come first; it comes only at position 4"},
        {"F0 W0", "rank 0, position 1 (W0 of stage 0): B0 of stage 0 is missing"},
        {"F0 F1 BW1 BW0", "rank 0, position 2 (BW1 of stage 0): the weight gradients of a stage ascend by micro-batch, "
                          "and that of 0 comes only "
                          "at position 3"},
        {"F0 F1 F2 B2 B1 B0 W1-2 W0", "rank 0, position 6 (W1-2 of stage 0): the weight gradients of a stage ascend by "
                                      "micro-batch, and that of 0 comes "
                                      "only at position 7"},
        {"F0 BW0 R0", "rank 0, position 2 (R0 of stage 0): it comes behind the backward at position 1, which needs it"},
        {"R0 F0 BW0", "rank 0, position 0 (R0 of stage 0): F0 of stage 0 must come first; it comes only at position 1"},
        {"F0 R0 R0 BW0",
         "rank 0, position 2 (R0 of stage 0): the recomputation of micro-batch 0 is done already at position 1"},
        /* Several ranks. */
        {"F0 BW0\n.", "rank 1 has no actions"},
        {"F0 F1 BW0 BW1\nF0 BW0 BW1", "rank 1: F1 of stage 1 is missing"},
        {"F0 F1\n.\nF0 F1", "stage 2 is here but stage 1 is nowhere"},
        {"F0 F1 BW0 BW1\nF1 F0 BW0 BW1", NULL},
        {"F0 BW0 F1 BW1\nF1 BW1 F0 BW0",
         "rank 1, position 1 (BW1 of stage 1): the weight gradients of a stage ascend by "
         "micro-batch, and that of 0 comes only at position 3"},
        {"F0 B0 F1 B1 W0-1\nF1 B1 F0 B0 W0-1",
         "cannot run to its end: rank 0 waits at position 1 (B0 of stage 0) for B0 of stage 1, which rank 1 has not "
         "reached: it "
         "waits at position 0 (F1 of stage 1) for F1 of stage 0, which rank 0 has not reached"},
        {"0F0 0B0 0W0 2F0 2B0 2W0\n1F0 1B0 1W0",
         "cannot run to its end: rank 0 waits at position 1 (B0 of stage 0) for B0 of stage 1, which rank 1 has not "
         "reached: it "
         "waits at position 1 (B0 of stage 1) for B0 of stage 2, which rank 0 has not reached"},
        {"1F0 0F0 1BW0 0BW0", "cannot run to its end: rank 0 waits at position 0 (F0 of stage 1) for F0 of stage 0, "
                              "which rank 0 reaches only later"},
        {"0F0 1F0 0BW0 1BW0", "cannot run to its end: rank 0 waits at position 2 (BW0 of stage 0) for B0 of stage 1, "
                              "which rank 0 reaches only later"},
        /* Held to a rule. */
        {"schedule: 1f1b\nF0 F1 F2 BW0 BW1 BW2\nF0 BW0 F1 BW1 F2 BW2",
         "rank 0, position 2 (F2 of stage 0): 3 micro-batches are in flight on the rank; 1f1b allows 2"},
        {"schedule: mine\nF0 F1 F2 BW0 BW1 BW2\nF0 BW0 F1 BW1 F2 BW2", NULL},
        {"schedule: 1f1b\n0F0 1F0 1BW0 0BW0", "2 stages on 1 rank; this schedule has exactly 1 a rank"},
        /* A number of micro-batches that no memory would hold is found by the counts. */
        {"micro-batches: 2000000000\nF0 F1 F3 BW0", "rank 0: F2 of stage 0 is missing"},
        {"micro-batches: 2000000000\nF0 F1 F2 BW0", "rank 0: F3 of stage 0 is missing"},
        /* Right ones. */
        {"F0 BW0", NULL},
        {"F0 R0 BW0", NULL},
        {"F0 F1 B1 R0 B0 W0-1", NULL},
        {"F0 F1 B1 BW0 W1", NULL},
        {"F1 F0", NULL},
        {"F0", NULL},
};

START_TEST(messages)
{
	char path[64];
	ps_schedule *schedule = NULL;
	ps_status status = read_text(&schedule, path, rows[_i].text, 0);
	if (status == PS_OK)
		status = ps_schedule_validate(schedule);
	if (!rows[_i].message) {
		assert_ok(status);
	} else {
		ck_assert_int_ne(status, PS_OK);
		ck_assert_msg(strstr(ps_error_message(), rows[_i].message) != NULL, "'%s', not '%s'",
		              ps_error_message(), rows[_i].message);
		ck_assert_ptr_null(strchr(ps_error_message(), '\n'));
	}
	ps_schedule_destroy(schedule);
}
END_TEST

/* What no file can say. */
START_TEST(by_hand)
{
	ps_schedule *schedule = generate("1f1b", 3, 1, 4);
	schedule->rank_of_stage[1] = 2;
	ck_assert_int_eq(ps_schedule_validate(schedule), PS_EINVAL);
	ck_assert_ptr_nonnull(strstr(ps_error_message(), "rank 1, position 0 (F0 of stage 1): stage 1 is on rank 2"));
	schedule->rank_of_stage[1] = 3;
	ck_assert_int_eq(ps_schedule_validate(schedule), PS_EINVAL);
	ck_assert_ptr_nonnull(strstr(ps_error_message(), "stage 1 is on rank 3; there are ranks 0 to 2"));
	schedule->rank_of_stage[1] = -1;
	ck_assert_int_eq(ps_schedule_validate(schedule), PS_EINVAL);
	schedule->rank_of_stage[1] = 1;
	assert_ok(ps_schedule_validate(schedule));

	/* A stage whose actions are in two ranks. */
	ps_schedule *two = copy_schedule(schedule);
	two->rank[2].actions[2].stage = 1;
	ck_assert_int_eq(ps_schedule_validate(two), PS_EINVAL);
	ck_assert_ptr_nonnull(strstr(ps_error_message(), "F1 of stage 2 is missing"));
	assert_ok(ps_schedule_add(two, 0, (ps_action){PS_ACTION_F, 2, 1, 1}));
	ck_assert_int_eq(ps_schedule_validate(two), PS_EINVAL);
	ck_assert_ptr_nonnull(strstr(ps_error_message(), "rank 0, position 8 (F1 of stage 2): stage 2 is on rank 2"));
	ps_schedule_destroy(two);

	schedule->forward_only = true;
	ck_assert_int_eq(ps_schedule_validate(schedule), PS_EINVAL);
	ck_assert_ptr_nonnull(strstr(ps_error_message(), "a forward-only schedule has no BW"));
	schedule->forward_only = false;
	schedule->rule = ps_schedule_find_rule("forward-only");
	assert_ok(ps_schedule_validate(schedule));
	ps_schedule_destroy(schedule);
}
END_TEST

START_TEST(out_of_range)
{
	static const struct {
		ps_action action;
		const char *message;
	} wrong[] = {
	        {{PS_ACTION_F, 2, 0, 1}, "F0 of stage 2: there are stages 0 to 1"},
	        {{PS_ACTION_F, -1, 0, 1}, "F0 of stage -1: there are stages 0 to 1"},
	        {{PS_ACTION_F, 0, 4, 1}, "F4 of stage 0: there are micro-batches 0 to 3"},
	        {{PS_ACTION_BW, 0, -1, 1}, "BW-1 of stage 0: there are micro-batches 0 to 3"},
	        {{PS_ACTION_W, 0, 2, 3}, "W2-4 of stage 0: there are micro-batches 0 to 3"},
	        {{PS_ACTION_W, 0, 2, INT32_MAX}, "W2-2147483648 of stage 0: there are micro-batches 0 to 3"},
	        {{PS_ACTION_W, 0, 0, 0}, "count is 0; it must be positive"},
	        {{PS_ACTION_F, 0, 3, 2}, "F3-4 of stage 0: there are micro-batches 0 to 3"},
	        {{PS_ACTION_COUNT, 0, 0, 1}, "kind 5 is no action"},
	        {{255, 0, 0, 1}, "kind 255 is no action"},
	};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		ps_schedule *schedule = generate("gpipe", 2, 1, 4);
		int64_t count = schedule->rank[0].count;
		ck_assert_int_eq(ps_schedule_add(schedule, 0, wrong[i].action), PS_EINVAL);
		ck_assert_ptr_nonnull(strstr(ps_error_message(), "schedule gpipe: rank 0, position 8: "));
		ck_assert_ptr_nonnull(strstr(ps_error_message(), wrong[i].message));
		ck_assert_int_eq(schedule->rank[0].count, count);
		schedule->rank[0].actions[3] = wrong[i].action;
		ps_simulation simulation;
		ps_status results[] = {
		        ps_schedule_validate(schedule),
		        ps_schedule_simulate(&simulation, schedule, NULL, true),
		        ps_schedule_add_recompute(schedule, PS_CHECKPOINT_ALWAYS),
		        ps_schedule_group_weight(schedule, 2),
		};
		for (int n = 0; n < 4; n++)
			ck_assert_int_eq(results[n], PS_EINVAL);
		ck_assert_ptr_nonnull(strstr(ps_error_message(), wrong[i].message));
		ps_schedule_destroy(schedule);
	}
	ps_schedule *schedule = generate("gpipe", 2, 1, 4);
	ck_assert_int_eq(ps_schedule_add(schedule, 2, (ps_action){PS_ACTION_F, 0, 0, 1}), PS_EINVAL);
	ck_assert_int_eq(ps_schedule_add(schedule, -1, (ps_action){PS_ACTION_F, 0, 0, 1}), PS_EINVAL);
	ck_assert_int_eq(ps_schedule_in_flight(schedule, 2), 0);
	ps_schedule_destroy(schedule);
	schedule = NULL;
	ck_assert_int_eq(ps_schedule_create(&schedule, "x", 3, 2, 1), PS_EINVAL);
	ck_assert_ptr_null(schedule);
	ps_schedule_destroy(NULL);
	ps_simulation_finish(NULL);
}
END_TEST

/* The simulator alone stops too, and a chain that leads to a rank at its end says so. */
START_TEST(unvalidated_simulation)
{
	ps_schedule *schedule = generate("gpipe", 3, 1, 2);
	schedule->rank[2].count = 1;
	ps_simulation simulation;
	ck_assert_int_eq(ps_schedule_simulate(&simulation, schedule, NULL, true), PS_EINVAL);
	ck_assert_str_eq(
	        ps_error_message(),
	        "schedule gpipe cannot run to its end: rank 0 waits at position 2 (BW0 of stage 0) for B0 of stage "
	        "1, which rank 1 has not reached: it waits at position 2 (BW0 of stage 1) for B0 of stage 2, which "
	        "rank 2 never does");
	ck_assert_ptr_null(simulation.spans);
	ps_schedule_destroy(schedule);
}
END_TEST

/* A long cycle: the message stays one readable line. */
START_TEST(long_cycle)
{
	enum { RANKS = 40 };
	ps_schedule *schedule = NULL;
	assert_ok(ps_schedule_create(&schedule, "ring", RANKS, RANKS + 1, 1));
	schedule->forward_only = true;
	assert_ok(ps_schedule_add(schedule, 0, (ps_action){PS_ACTION_F, RANKS, 0, 1}));
	for (int rank = 0; rank < RANKS; rank++)
		assert_ok(ps_schedule_add(schedule, rank, (ps_action){PS_ACTION_F, rank, 0, 1}));
	ck_assert_int_eq(ps_schedule_validate(schedule), PS_EINVAL);
	const char *begin =
	        "schedule ring cannot run to its end: rank 0 waits at position 0 (F0 of stage 40) for F0 of "
	        "stage 39, which rank 39 has not reached: it waits at position 0 (F0 of stage 39) for F0 of "
	        "stage 38, which rank 38 has not reached: it waits";
	ck_assert_int_eq(strncmp(ps_error_message(), begin, strlen(begin)), 0);
	ck_assert_ptr_nonnull(strstr(ps_error_message(), "which rank 35 has not reached, and so on"));
	ps_schedule_destroy(schedule);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("schedule validator");
	TCase *tests = tcase_create("messages");
	suite_add_tcase(suite, tests);
	tcase_add_loop_test(tests, messages, 0, (int)(sizeof rows / sizeof *rows));
	tcase_add_test(tests, by_hand);
	tcase_add_test(tests, out_of_range);
	tcase_add_test(tests, unvalidated_simulation);
	tcase_add_test(tests, long_cycle);
	return run_suite(suite);
}
