/*
 * The same seed gives the same bits: losses, all gradients and the evaluation, whatever the placement, cut, schedule,
 * checkpoint mode, split and number of chunks, with dropout on. The reference is one rank, one chunk.
 */
#include "tests/engine/schedules.h"
#include "tests/engine/trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ROWS = 6, STEPS = 2 };

static struct outcome expected;

static void whole(struct outcome *out, bool mixed, const int64_t (*shapes)[2])
{
	struct trial trial = {.mixed = mixed, .config = {.chunks = 1}};
	trial_open(&trial);
	trial_run(&trial, STEPS, shapes, out);
	trial_close(&trial);
}

static void set_up(void)
{
	trial_keep_devices(true);
	whole(&expected, false, NULL);
}

static void tear_down(void)
{
	trial_keep_devices(false);
	outcome_free(&expected);
}

/* Runs a trial and compares it; `trial` is as trial_open wants it. */
static void compare(struct trial *trial, const char *what)
{
	struct outcome outcome;
	trial_open(trial);
	trial_run(trial, STEPS, NULL, &outcome);
	outcome_compare(&expected, &outcome, what);
	outcome_free(&outcome);
	trial_close(trial);
}

START_TEST(test_rules)
{
	const char *const schedules[] = {"gpipe", "1f1b"};
	int ranks = _i % 4 + 1, chunks = _i / 4 + 1;
	for (int k = 0; k < 2 * 3 * 2; k++) {
		struct trial trial = {.config = {.rank_count = ranks,
		                                 .chunks = chunks,
		                                 .schedule = schedules[k % 2],
		                                 .checkpoint = (ps_checkpoint)(k / 2 % 3),
		                                 .split = k / 6 ? PS_SPLIT_TORCH : PS_SPLIT_EVEN}};
		char what[128];
		snprintf(what, sizeof what, "%s on %d ranks, %d chunks, checkpoint %d, split %d", schedules[k % 2],
		         ranks, chunks, k / 2 % 3, k / 6);
		compare(&trial, what);
	}
}
END_TEST

START_TEST(test_balances)
{
	const int balances[][4] = {{1, 5}, {5, 1}, {1, 1, 4}, {2, 3, 1}, {1, 1, 1, 3}, {3, 1, 1, 1}, {1, 2, 2, 1}};
	int ranks = 0;
	while (ranks < 4 && balances[_i][ranks])
		ranks++;
	struct trial trial = {.config = {.rank_count = ranks, .chunks = 4, .balance = balances[_i]}};
	compare(&trial, "another balance");
	struct trial recomputed = {.config = {.rank_count = ranks,
	                                      .chunks = 4,
	                                      .balance = balances[_i],
	                                      .schedule = "gpipe",
	                                      .checkpoint = PS_CHECKPOINT_ALWAYS}};
	compare(&recomputed, "another balance, recomputed");
}
END_TEST

START_TEST(test_several_stages_a_rank)
{
	struct trial trial = {.config = {.rank_count = _i + 1, .stage_count = 6, .chunks = 3, .schedule = "gpipe"}};
	compare(&trial, "six stages in a loop");
	struct trial recomputed = {.config = {.rank_count = _i + 1,
	                                      .stage_count = 6,
	                                      .chunks = 4,
	                                      .schedule = "gpipe",
	                                      .checkpoint = PS_CHECKPOINT_EXCEPT_LAST}};
	compare(&recomputed, "six stages in a loop, recomputed");
}
END_TEST

START_TEST(test_one_device_for_all)
{
	struct trial trial = {.devices = {"ref#0", "ref#0", "ref#0"}, .config = {.rank_count = 3, .chunks = 5}};
	compare(&trial, "three ranks on one device");
	struct trial mixed = {.devices = {"ref#0", "ref#1", "ref#0", "ref#1"},
	                      .config = {.rank_count = 4, .chunks = 3}};
	compare(&mixed, "four ranks on two devices in turn");
}
END_TEST

/* Micro-batches of stages on one device together, in training and evaluation. */
START_TEST(test_joined)
{
	const char *const schedules[] = {"gpipe", "1f1b"};
	for (int k = 0; k < 2 * 3 * 3; k++) {
		int ranks = k % 3 + 1;
		struct trial trial = {.devices = {"ref#0", "ref#0", "ref#0"},
		                      .config = {.rank_count = ranks,
		                                 .stage_count = ranks * (_i + 1),
		                                 .chunks = 2 + k % 5,
		                                 .join = true,
		                                 .schedule = schedules[_i ? 0 : k / 9],
		                                 .checkpoint = (ps_checkpoint)(k / 3 % 3)}};
		compare(&trial, "micro-batches together");
	}
}
END_TEST

START_TEST(test_staged_links)
{
	struct trial trial = {.config = {.rank_count = 3, .chunks = 3, .links = {.force_staged = true}}};
	compare(&trial, "staged links");
	ck_assert_int_eq(expected.steps, STEPS);
	struct trial small = {
	        .config = {.rank_count = 2, .chunks = 6, .links = {.force_staged = true, .chunk_bytes = 64}}};
	compare(&small, "staged links in small pieces");
}
END_TEST

/* Fixed and random orders from files: a V, a loop, several stages side by side, W apart; the file's W are regrouped. */
START_TEST(test_files)
{
	static const int v[] = {0, 1, 2, 2, 1, 0}, loop[] = {0, 1, 0, 1, 0, 1}, side[] = {0, 0, 0, 1, 1, 1},
	                 one[] = {0, 0, 0, 0, 0, 0};
	const struct {
		const int *placement;
		int ranks;
	} cases[] = {{v, 3}, {loop, 2}, {side, 2}, {one, 1}, {NULL, 3}, {NULL, 4}};
	uint64_t state = (uint64_t)_i + 7;
	bool mixed = _i % 2;
	outcome_free(&expected);
	whole(&expected, mixed, NULL);
	for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
		char path[256];
		struct random_schedule wanted = {.ranks = cases[k].ranks,
		                                 .stages = 6,
		                                 .micro_batches = 1 + (int)trial_random(&state, ROWS),
		                                 .rank_of_stage = cases[k].placement,
		                                 .recompute = trial_random(&state, 2),
		                                 .split_weight = trial_random(&state, 2),
		                                 .any_order = trial_random(&state, 2),
		                                 .joined = trial_random(&state, 2)};
		schedule_random_file(path, &wanted, &state);
		bool shared = trial_random(&state, 3) == 0;
		struct trial trial = {.devices = {"ref#0", shared ? "ref#0" : "ref#1"},
		                      .mixed = mixed,
		                      .config = {.rank_count = wanted.ranks,
		                                 .stage_count = 6,
		                                 .chunks = wanted.micro_batches,
		                                 .schedule_file = path,
		                                 .links = {.force_staged = trial_random(&state, 4) == 0}}};
		char what[128];
		snprintf(what, sizeof what, "file %zu of seed %d", k, _i + 7);
		compare(&trial, what);
		unlink(path);
	}
}
END_TEST

/* Shorter time and fewer rows in later batches, in all orders of sizes. */
START_TEST(test_shapes)
{
	const int64_t shapes[][STEPS][2] = {{{6, 5}, {6, 2}}, {{6, 1}, {6, 5}}, {{4, 5}, {6, 5}},
	                                    {{1, 1}, {5, 3}}, {{2, 5}, {3, 5}}, {{6, 5}, {1, 5}}};
	struct outcome one, other;
	outcome_free(&expected);
	whole(&one, false, shapes[_i]);
	for (int k = 0; k < 4; k++) {
		struct trial trial = {.config = {.rank_count = k + 1,
		                                 .chunks = k + 2,
		                                 .split = k % 2 ? PS_SPLIT_TORCH : PS_SPLIT_EVEN,
		                                 .schedule = k / 2 ? "gpipe" : "1f1b",
		                                 .checkpoint = (ps_checkpoint)(k % 3)}};
		trial_open(&trial);
		trial_run(&trial, STEPS, shapes[_i], &other);
		outcome_compare(&one, &other, "batches of several shapes");
		outcome_free(&other);
		trial_close(&trial);
	}
	struct trial joined = {.config = {.chunks = 4, .schedule = "gpipe", .join = true}};
	trial_open(&joined);
	trial_run(&joined, STEPS, shapes[_i], &other);
	outcome_compare(&one, &other, "batches of several shapes, micro-batches together");
	outcome_free(&other);
	trial_close(&joined);
	outcome_free(&one);
}
END_TEST

/* A group of the weight gradient is part of the result, but for one group size the schedule is not. */
START_TEST(test_groups)
{
	struct outcome one, other;
	int group = _i + 1;
	struct trial first = {.config = {.chunks = 6, .weight_group = group}};
	trial_open(&first);
	trial_run(&first, STEPS, NULL, &one);
	trial_close(&first);
	for (int k = 0; k < 6; k++) {
		struct trial trial = {.config = {.rank_count = 2 + k % 3,
		                                 .chunks = 6,
		                                 .weight_group = group,
		                                 .schedule = k / 3 ? "gpipe" : "1f1b",
		                                 .checkpoint = (ps_checkpoint)(k % 3)}};
		trial_open(&trial);
		trial_run(&trial, STEPS, NULL, &other);
		outcome_compare(&one, &other, "groups of the weight gradient");
		outcome_free(&other);
		trial_close(&trial);
	}
	/* A schedule's own BW, in any order, are groups of one. */
	for (uint64_t state = 1; group == 1 && state < 5; state++) {
		char path[256];
		struct random_schedule wanted = {
		        .ranks = 3, .stages = 5, .micro_batches = 6, .recompute = true, .any_order = true};
		schedule_random_file(path, &wanted, &state);
		struct trial trial = {
		        .config = {.rank_count = 3, .chunks = 6, .weight_group = -1, .schedule_file = path}};
		trial_open(&trial);
		trial_run(&trial, STEPS, NULL, &other);
		outcome_compare(&one, &other, "the weight gradients of a file");
		outcome_free(&other);
		trial_close(&trial);
		unlink(path);
	}
	outcome_free(&one);
}
END_TEST

/* Thousands of micro-batches. */
START_TEST(test_many)
{
	enum { MANY = 3000 };
	const char *const schedules[] = {"gpipe", "1f1b"};
	struct outcome one, other;
	struct trial whole_batch = {.encoder_layers = 1, .config = {.chunks = 1, .rows = MANY, .time = 1}};
	struct trial many = {.encoder_layers = 1,
	                     .config = {.rank_count = 3,
	                                .chunks = MANY,
	                                .rows = MANY,
	                                .time = 1,
	                                .schedule = schedules[_i],
	                                .checkpoint = (ps_checkpoint)_i}};
	trial_open(&whole_batch);
	trial_run(&whole_batch, 1, NULL, &one);
	trial_close(&whole_batch);
	trial_open(&many);
	ck_assert_int_eq(ps_pipeline_micro_batches(many.pipeline, NULL), MANY);
	trial_run(&many, 1, NULL, &other);
	trial_close(&many);
	outcome_compare(&one, &other, "thousands of micro-batches");
	outcome_free(&one);
	outcome_free(&other);
}
END_TEST

/* Different seeds and steps give different losses: the comparisons above are of something. */
START_TEST(test_seed_matters)
{
	struct outcome other;
	struct trial trial = {.config = {.chunks = 2, .seed = 43}};
	trial_open(&trial);
	trial_run(&trial, STEPS, NULL, &other);
	ck_assert(other.losses[0] != expected.losses[0]);
	ck_assert(other.losses[0] != other.losses[1]);
	ck_assert(memcmp(other.bytes, expected.bytes, other.size) != 0);
	outcome_free(&other);
	trial_close(&trial);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("engine bits");
	TCase *cases = tcase_create("bits");
	tcase_set_timeout(cases, 300);
	tcase_add_checked_fixture(cases, set_up, tear_down);
	tcase_add_loop_test(cases, test_rules, 0, 4 * ROWS);
	tcase_add_loop_test(cases, test_balances, 0, 7);
	tcase_add_loop_test(cases, test_several_stages_a_rank, 0, 3);
	tcase_add_test(cases, test_one_device_for_all);
	tcase_add_loop_test(cases, test_joined, 0, 2);
	tcase_add_test(cases, test_staged_links);
	tcase_add_loop_test(cases, test_files, 0, 12);
	tcase_add_loop_test(cases, test_shapes, 0, 6);
	tcase_add_loop_test(cases, test_groups, 0, 3);
	tcase_add_loop_test(cases, test_many, 0, 2);
	tcase_add_test(cases, test_seed_matters);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
