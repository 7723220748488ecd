/* The file form: what is written is read again the same, and each bad file gets one line with file, line and column. */
#include "helpers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void check_same(const ps_schedule *a, const ps_schedule *b)
{
	ck_assert_str_eq(a->name, b->name);
	ck_assert_ptr_eq(a->rule, b->rule);
	ck_assert_int_eq(a->ranks, b->ranks);
	ck_assert_int_eq(a->stages, b->stages);
	ck_assert_int_eq(a->micro_batches, b->micro_batches);
	ck_assert_int_eq(a->forward_only, b->forward_only);
	ck_assert_mem_eq(a->rank_of_stage, b->rank_of_stage, (size_t)a->stages * sizeof(int));
	assert_same_actions(a, b);
}

START_TEST(round_trip)
{
	for (const ps_schedule_rule *rule = ps_schedule_rules(); rule->name; rule++) {
		for (int p = 1; p <= 5; p++) {
			for (int v = 1; v <= 3; v++) {
				for (int m = 1; m <= 7; m++) {
					if (rule->stages_per_rank && rule->stages_per_rank != v)
						continue;
					ps_schedule *schedule = generate(rule->name, p, v, m), *again = NULL;
					for (int step = 0; step < 3; step++) {
						if (step == 1)
							assert_ok(ps_schedule_add_recompute(schedule,
							                                    PS_CHECKPOINT_EXCEPT_LAST));
						if (step == 2)
							assert_ok(ps_schedule_group_weight(schedule, 3));
						char *text, path[64];
						assert_ok(ps_schedule_write(&text, schedule));
						assert_ok(read_text(&again, path, text, step == 1 ? m : 0));
						check_same(schedule, again);
						assert_ok(ps_schedule_validate(again));
						ps_schedule_destroy(again);
						free(text);
					}
					ps_schedule_destroy(schedule);
				}
			}
		}
	}
}
END_TEST

START_TEST(accepted)
{
	ps_schedule *schedule =
	        schedule_of("# a comment\n\n  schedule:  zb  mine  # and more\r\nmicro-batches: 2 # two\n\r\n"
	                    ",, F0,F1 ,\t2F0 2F1 # F9\r\n . 1F0 . . 1F1 1B0 1B1 1R1 1W0-1\n.");
	ck_assert_str_eq(schedule->name, "zb  mine");
	ck_assert_ptr_null(schedule->rule);
	ck_assert_int_eq(schedule->ranks, 3);
	ck_assert_int_eq(schedule->stages, 3);
	ck_assert_int_eq(schedule->micro_batches, 2);
	ck_assert(!schedule->forward_only);
	ck_assert_int_eq(schedule->rank[0].count, 4);
	ck_assert_int_eq(schedule->rank[1].count, 6);
	ck_assert_int_eq(schedule->rank[2].count, 0);
	static const int rank_of_stage[] = {0, 1, 0};
	ck_assert_mem_eq(schedule->rank_of_stage, rank_of_stage, sizeof rank_of_stage);
	ps_action weight = schedule->rank[1].actions[5];
	ck_assert(weight.kind == PS_ACTION_W && weight.stage == 1 && weight.micro_batch == 0 && weight.count == 2);
	char *text;
	assert_ok(ps_schedule_write(&text, schedule));
	ck_assert_str_eq(text, "schedule: zb  mine\nmicro-batches: 2\nF0 F1 2F0 2F1\nF0 F1 B0 B1 R1 W0-1\n.\n");
	free(text);
	ps_schedule_destroy(schedule);

	/* The file's own name when it has no other, which holds it to no rule. */
	char folder[64], path[128];
	write_temporary(folder, "", 0);
	ck_assert_int_eq(unlink(folder), 0);
	ck_assert_int_eq(mkdir(folder, 0700), 0);
	snprintf(path, sizeof path, "%s/1f1b", folder);
	FILE *file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	fputs("F0 F1 F2 BW0 BW1 BW2\nF0 F1 F2 BW0 BW1 BW2", file);
	ck_assert_int_eq(fclose(file), 0);
	assert_ok(ps_schedule_read(&schedule, path, 3));
	ck_assert_str_eq(schedule->name, "1f1b");
	ck_assert_ptr_null(schedule->rule);
	assert_ok(ps_schedule_validate(schedule));
	ps_schedule_destroy(schedule);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(rmdir(folder), 0);
}
END_TEST

static const struct {
	const char *text, *message; /* after the file's name */
	int micro_batches;
} bad[] = {
        {"", ":1:1: there are no actions; a line for each rank is needed, such as 'F0 F1 BW0 BW1'", 0},
        {"# nothing\n\n", ":3:1: there are no actions", 0},
        {"micro-batches: 4\n", ":2:1: there are no actions", 0},
        {".\n.\n", ":3:1: there are no actions", 0},
        {"F0 X0", ":1:4: 'X' is no action; actions are F, B (input gradient), W (weight gradient), BW (both) and R", 0},
        {"F0 I0", ":1:4: 'I' is no action; actions are F, B (input gradient)", 0},
        {"F0\nF0 BWX0", ":2:4: 'BWX' is no action", 0},
        {"FORWARD0", ":1:1: 'FORW' is no action", 0},
        {"F0 ;", ":1:4: ';' where an action belongs", 0},
        {"F0 1", ":1:5: the end of the file where an action belongs", 0},
        {"F0 1\n", ":1:5: the end of the line where an action belongs", 0},
        {"F0 -1F0", ":1:4: '-' where an action belongs", 0},
        {"F", ":1:2: the end of the file where a micro-batch number belongs", 0},
        {"F 0", ":1:2: byte 0x20 where a micro-batch number belongs", 0},
        {"F-1", ":1:2: '-' where a micro-batch number belongs", 0},
        {"F0F1", ":1:3: 'F' right behind an action; a blank or a comma separates actions", 0},
        {"F0 F1-", ":1:7: the end of the file where the last micro-batch of a range belongs", 0},
        {"F0-1048576", ":1:2: micro-batch 1048576: their numbers go up to 1048575", 0},
        {"F0 B0 W1-0", ":1:8: the range 1-0 goes down", 0},
        {"F0 B0 W0-", ":1:10: the end of the file where the last micro-batch of a range belongs", 0},
        {"F0 F99999999999999999999", ":1:5: a micro-batch number is too large", 0},
        {"F0 F2147483647", ":1:5: a micro-batch number is too large", 0},
        {"99999999999F0", ":1:1: a stage number is too large", 0},
        {"2000000F0", ":1:1: stage 2000000: stage numbers go up to 1048575", 0},
        {"F0 5F0 BW0", ":1:4: stage 5 is here but stage 1 is nowhere; stages count from 0 without a gap", 0},
        {"1F0", ":1:1: stage 1 is here but stage 0 is nowhere", 0},
        {"F0 BW0\n  # x\nF0 0F0", ":3:4: stage 0 is on rank 1; it is on rank 0 already (line 1)", 0},
        {"F0 F8", ":1:5: there is no micro-batch 8; there are 8, from 0 to 7", 8},
        {"F0 F1 B0 B1 W0-2", ":1:14: there is no micro-batch 2; there are 2, from 0 to 1", 2},
        {"micro-batches: 7\nF0", ":1:16: the schedule is for 7 micro-batches, not for 8", 8},
        {"micro-batches: 1\nF0 F1", ":2:5: there is no micro-batch 1; there is 1, from 0 to 0", 0},
        {"micro-batches: 2\nF0 F1 F2", ":2:8: there is no micro-batch 2; there are 2, from 0 to 1", 0},
        {"micro-batches: 0\nF0", ":1:16: 0 micro-batches; at least one is needed", 0},
        {"micro-batches: x\nF0", ":1:16: 'x' where the number of micro-batches belongs", 0},
        {"micro-batches: 4 5\nF0", ":1:18: '5' behind the number of micro-batches", 0},
        {"micro-batches 4\nF0", ":1:14: byte 0x20 where the ':' of micro-batches: belongs", 0},
        {"microbatches: 4\nF0", ":1:1: 'microbatches' is neither an action nor one of the headers", 0},
        {"f0 f1", ":1:1: 'f' is neither an action nor one of the headers", 0},
        {"F0\nschedule: late", ":2:1: schedule: stands behind a rank; headers come first", 0},
        {"schedule:\nF0", ":1:10: the schedule's name is missing", 0},
        {"schedule: 12345678901234567890123456789012\nF0", ":1:11: the schedule's name has more than 31 characters", 0},
        {"schedule: caf\xc3\xa9\nF0", ":1:14: byte 0xc3 in the schedule's name", 0},
        {"\xef\xbb\xbf"
         "F0",
         ":1:1: byte 0xef where an action belongs", 0},
        {"{\"schedule\": []}", ":1:1: '{' where an action belongs", 0},
        {"0B0,,0F1", NULL, 0},
};

START_TEST(bad_files)
{
	char path[64], expected[512];
	ps_schedule *schedule = NULL;
	ps_status status = read_text(&schedule, path, bad[_i].text, bad[_i].micro_batches);
	if (!bad[_i].message) {
		assert_ok(status);
		ps_schedule_destroy(schedule);
		return;
	}
	ck_assert_int_eq(status, PS_EFORMAT);
	ck_assert_ptr_null(schedule);
	snprintf(expected, sizeof expected, "%s%s", path, bad[_i].message);
	ck_assert_msg(strncmp(ps_error_message(), expected, strlen(expected)) == 0, "'%s', not '%s'",
	              ps_error_message(), expected);
}
END_TEST

START_TEST(unreadable)
{
	ps_schedule *schedule = NULL;
	ck_assert_int_eq(ps_schedule_read(&schedule, "/nowhere/at/all", 0), PS_ENOENT);
	ck_assert_str_eq(ps_error_message(), "cannot read the schedule /nowhere/at/all: No such file or directory");
	ck_assert_int_eq(ps_schedule_read(&schedule, "/", 0), PS_EINVAL);
	ck_assert_str_eq(ps_error_message(), "cannot read the schedule /: Is a directory");
	ck_assert_int_eq(ps_schedule_read(&schedule, "/", -1), PS_EINVAL);
	char path[64];
	write_temporary(path, "F0\0F1", 5);
	ck_assert_int_eq(ps_schedule_read(&schedule, path, 0), PS_EFORMAT);
	ck_assert_ptr_nonnull(strstr(ps_error_message(), ":1:3: byte 0x00 right behind an action"));
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_ptr_null(schedule);
}
END_TEST

/* Any bytes: read or refused with a place, and what was read can be validated, rewritten and drawn without harm. */
START_TEST(random_bytes)
{
	static const char alphabet[] = "FBWR0123456789-.,# \n:asch\t\r\xff";
	srand(4711);
	int read = 0, valid = 0;
	for (int round = 0; round < 20000; round++) {
		char text[] =
		        "schedule: x\nmicro-batches: 3\n0F0 2F0 0F1 2F1 2BW0 0BW0 2BW1 0BW1 F2 2F2 2B2 0B2 2W2 W2\n"
		        "1F0 1F1 1B0 1B1 1F2 1R2 1B2 1W0-2\n";
		size_t length = strlen(text);
		for (int changes = rand() % 4; changes >= 0; changes--)
			text[(size_t)rand() % length] = alphabet[(size_t)rand() % (sizeof alphabet - 1)];
		char path[64];
		ps_schedule *schedule = NULL;
		ps_status status = read_text(&schedule, path, text, 0);
		if (status != PS_OK) {
			ck_assert_int_eq(status, PS_EFORMAT);
			ck_assert_int_eq(strncmp(ps_error_message(), path, strlen(path)), 0);
			ck_assert_ptr_null(strchr(ps_error_message(), '\n'));
			continue;
		}
		read++;
		if (ps_schedule_validate(schedule) == PS_OK) {
			valid++;
			assert_ok(ps_schedule_add_recompute(schedule, PS_CHECKPOINT_ALWAYS));
			assert_ok(ps_schedule_group_weight(schedule, 2));
			ps_simulation simulation;
			assert_ok(ps_schedule_simulate(&simulation, schedule, NULL, true));
			char *picture;
			assert_ok(ps_simulation_draw(&picture, schedule, &simulation, 1));
			free(picture);
			ps_simulation_finish(&simulation);
		}
		ps_schedule_destroy(schedule);
	}
	ck_assert_int_gt(read, 200);
	ck_assert_int_gt(valid, 50);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("schedule files");
	TCase *tests = tcase_create("text");
	tcase_set_timeout(tests, 100);
	suite_add_tcase(suite, tests);
	tcase_add_test(tests, round_trip);
	tcase_add_test(tests, accepted);
	tcase_add_loop_test(tests, bad_files, 0, (int)(sizeof bad / sizeof *bad));
	tcase_add_test(tests, unreadable);
	tcase_add_test(tests, random_bytes);
	return run_suite(suite);
}
