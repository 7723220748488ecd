/*
 * `penstock train --shadow` and `penstock verify step` from outside: good runs, those with a broken backend, and what
 * is said and logged.
 */
#include "cli/json_lines.h"
#include "cli/program.h"
#include "support/check.h"

#include <penstock/device.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct outcome run;

static void setup(void)
{
	program_enter();
	ck_assert_int_eq(setenv("PENSTOCK_BACKEND_PATH", PS_TEST_MODULES, 1), 0);
}

#define CONTAINS(text, part) ck_assert_msg(strstr((text), (part)) != NULL, "\"%s\" is not in\n%s", (part), (text))

/* The last line of standard error. */
static const char *last_line(void)
{
	size_t length = strlen(run.error);
	ck_assert(length > 0 && run.error[length - 1] == '\n');
	const char *at = run.error + length - 1;
	while (at > run.error && at[-1] != '\n')
		at--;
	return at;
}

/* The end event of a log; the caller gives it up. */
static json_t *end_event(const char *path)
{
	char text[8192];
	json_t *event = NULL;
	FILE *file = fopen(path, "rb");
	ck_assert_ptr_nonnull(file);
	while (fgets(text, sizeof text, file) != NULL) {
		json_decref(event);
		event = json_loads(text, 0, NULL);
		ck_assert_ptr_nonnull(event);
	}
	fclose(file);
	ck_assert_str_eq(json_string_value(json_object_get(event, "event")), "end");
	return event;
}

START_TEST(broken_stage)
{
	program_run(&run,
	            "train " SMALL "--stages broken:small,ref --shadow 0 --log log.jsonl --save best.safetensors");
	ck_assert_msg(run.status == 1, "%d: %s", run.status, run.error);
	const char *line = last_line();
	CONTAINS(line, "penstock train: step 0, stage 0 on broken:small, F0, layer layers.0, "
	               "dropout_add_layernorm_fwd: sum is "
	               "not as on ref: 1 of 80 elements differ; worst [0, 1, 5] is ");
	CONTAINS(line, " ULPs, ");
	/* The run has stopped before anything was validated. */
	ck_assert_ptr_null(strstr(run.out, "end of epoch"));
	FILE *saved = fopen("best.safetensors", "rb");
	ck_assert_ptr_null(saved);
	json_t *event = end_event("log.jsonl");
	const char *status, *message, *how;
	json_t *shadow;
	ck_assert_int_eq(json_unpack(event, "{s:s, s:{s:s, s:s}, s:o}", "status", &how, "error", "status", &status,
	                             "message", &message, "shadow", &shadow),
	                 0);
	ck_assert_str_eq(how, "failed");
	ck_assert_str_eq(status, "PS_EDIVERGED");
	CONTAINS(line, message);
	ck_assert(number_of(shadow, "ops") > 0);
	json_decref(event);
}
END_TEST

/* The stage that is broken is not the one that is checked, or no step is. */
START_TEST(unchecked_stage)
{
	static const char *const shadows[] = {"1", "0:every=1000000"};
	/* Step 0 is checked by every shadow; a fault in a stage that is not checked goes unseen. */
	program_run(&run, "train " SMALL "--stages broken:small,ref --shadow %s", shadows[_i]);
	ck_assert_msg(run.status == _i, "%d: %s", run.status, run.error);
}
END_TEST

static double last_loss(const char *out)
{
	const char *at = strstr(out, "test loss");
	ck_assert_ptr_nonnull(at);
	return strtod(at + strlen("test loss"), NULL);
}

START_TEST(good_run)
{
	program_run(&run, "train " SMALL "--stages cpu,ref --dropout 0.1");
	ck_assert_msg(run.status == 0, "%s", run.error);
	double loss = last_loss(run.out);
	program_run(&run, "train " SMALL "--stages cpu,ref --dropout 0.1 --shadow all:every=2 --log log.jsonl");
	ck_assert_msg(run.status == 0, "%s", run.error);
	ck_assert(last_loss(run.out) == loss);
	CONTAINS(run.error, "shadow on ref: 2 steps, ");
	CONTAINS(run.error, " transfers checked, none differs\n");
	CONTAINS(run.error, "its cost: copies ");
	CONTAINS(run.error, " ms unchecked; in the background ");
	json_t *event = end_event("log.jsonl"), *shadow = json_object_get(event, "shadow");
	ck_assert(number_of(shadow, "steps") == 2 && number_of(shadow, "unchecked_steps") == 1);
	ck_assert(number_of(shadow, "transfers") == 2 * 4);
	ck_assert(number_of(shadow, "copy_s") > 0 && number_of(shadow, "reference_s") > 0);
	ck_assert(number_of(shadow, "checked_s") > number_of(shadow, "copy_s") / 2);
	ck_assert(number_of(shadow, "bytes") > 1000);
	json_decref(event);
}
END_TEST

START_TEST(opencl)
{
	ps_device *device;
	if (ps_device_open(&device, "opencl:0") != PS_OK) {
		fprintf(stderr, "skip: %s\n", ps_error_message());
		return;
	}
	ps_device_close(device);
	program_run(&run, "train " SMALL "--stages opencl:0,cpu --dropout 0.1 --shadow 0");
	ck_assert_msg(run.status == 0, "%s", run.error);
	CONTAINS(run.error, "shadow on ref: 3 steps, ");
}
END_TEST

#define STEP "verify step --emsize 8 --nhead 2 --nhid 8 --nlayers 1 --batch-size 4 --bptt 5 --vocabulary 20 --chunks 2 "

START_TEST(good_step)
{
	static const char *const subjects[] = {"embedding_fwd ",
	                                       "gemm ",
	                                       "attention_fwd ",
	                                       "cross_entropy ",
	                                       "attention_bwd ",
	                                       "column_sum ",
	                                       "embedding_bwd_weight ",
	                                       "sum_squares ",
	                                       "clip_scale ",
	                                       "sgd ",
	                                       "loss ",
	                                       "gradient norm ",
	                                       "updated parameters "};
	program_run(&run, STEP "--device cpu,ref");
	ck_assert_msg(run.status == 0, "%d: %s", run.status, run.error);
	CONTAINS(run.out, "step of cpu against ref\n");
	CONTAINS(run.out, "step of ref against ref\n");
	CONTAINS(run.out, " rows, no difference\n");
	CONTAINS(run.out, "1 not run in fp64; step: stage 0 on cpu, F0: layer encoder: cpu cannot run");
	for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++)
		CONTAINS(run.out, subjects[i]);
	ck_assert_str_eq(run.error, "");
}
END_TEST

START_TEST(broken_step)
{
	program_run(&run, STEP "--device broken:small");
	ck_assert_msg(run.status == 1, "%d: %s", run.status, run.error);
	CONTAINS(run.out,
	         "dropout_add_layernorm_fwd fp32 on broken:small, row 5 of F0 of layers.0: sum: 1 of 80 elements "
	         "differ; worst [0, 1, 5] is ");
	CONTAINS(run.error,
	         " rows differ from ref, the first of them dropout_add_layernorm_fwd fp32 on broken:small, row 5 of "
	         "F0 of layers.0; --seed 1 repeats them\n");
	/* Nothing else differs: each op was judged from the inputs that it had. */
	const char *first = strstr(run.out, "DIFFERS");
	ck_assert_ptr_nonnull(first);
	ck_assert_ptr_null(strstr(first + 1, "DIFFERS"));
	/* Against the broken device, a good one differs just so. */
	program_run(&run, STEP "--device cpu --against broken:small --json");
	ck_assert_msg(run.status == 1, "%d: %s", run.status, run.error);
	json_t *object = json_loads(run.out, 0, NULL);
	ck_assert_ptr_nonnull(object);
	ck_assert_double_gt(number_of(object, "differing"), 0);
	json_decref(object);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("shadow");
	TCase *cases = tcase_create("shadow");
	tcase_add_checked_fixture(cases, setup, program_leave);
	tcase_add_test(cases, broken_stage);
	tcase_add_loop_test(cases, unchecked_stage, 0, 2);
	tcase_add_test(cases, good_run);
	tcase_add_test(cases, opencl);
	tcase_add_test(cases, good_step);
	tcase_add_test(cases, broken_step);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
