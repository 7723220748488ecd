/* The log for programs, the lines for people, the rate of an epoch, and files that cannot be written. */
#include "support/check.h"
#include "support/tiny_run.h"
#include "train/json.h"
#include "train/log.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "log-XXXXXX", path[64];

static void setup(void)
{
	strcpy(folder, "log-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/log", folder);
}

static void teardown(void)
{
	unlink(path);
	rmdir(folder);
}

/* The fewest digits that read back as the same; texts are left alone, and real numbers stay real ones. */
START_TEST(texts)
{
	const double values[] = {0.1, 0.1 + 0.2, 3, -2.5e-7, 1e22, 5e-324, 123456789.125, 1.7976931348623157e308};
	enum { COUNT = sizeof values / sizeof *values };
	json_t *list = json_array(), *again;
	for (int i = 0; i < COUNT; i++)
		ck_assert_int_eq(json_array_append_new(list, json_real(values[i])), 0);
	const char *words = "0.10000000000000001\\\" 0.20000000000000001";
	ck_assert_int_eq(json_array_append_new(list, json_string(words)), 0);
	char *text = ps__json_text(list, JSON_COMPACT);
	ck_assert_ptr_nonnull(text);
	ck_assert_msg(strncmp(text, "[0.1,0.30000000000000004,3.0,-2.5e-", 35) == 0, "%s", text);
	again = json_loads(text, 0, NULL);
	ck_assert_msg(json_equal(list, again) == 1, "%s", text);
	ck_assert_str_eq(json_string_value(json_array_get(again, COUNT)), words);
	free(text);
	json_decref(again);
	json_decref(list);
	json_t *figure = ps__json_figure(1.0 / 3);
	ck_assert_double_eq(json_real_value(figure), 0.333333333);
	json_decref(figure);
	ck_assert(json_is_null(ps__json_figure(NAN)));
}
END_TEST

/* Numbers keep all their digits, and what is no number is null. */
START_TEST(numbers)
{
	ps__log *log;
	const ps_step_report step = {.epoch = 2,
	                             .step = 7,
	                             .loss = 0.1 + 0.2,
	                             .grad_norm = 1e-300,
	                             .lr = 4.7500000000000009,
	                             .seconds = 0.25,
	                             .tokens = 500};
	const ps_step_report wild = {.epoch = 1, .step = 1, .loss = NAN, .grad_norm = INFINITY, .lr = -INFINITY};
	const ps_eval_report evaluation = {.epoch = 1, .split = PS_SPLIT_VALID, .loss = 1000};
	check_ok(ps__log_open(&log, path, false));
	check_ok(ps__log_step(log, &step));
	check_ok(ps__log_step(log, &wild));
	check_ok(ps__log_evaluation(log, &evaluation));
	check_ok(ps__log_close(log));
	/* Opened again, it goes on. */
	check_ok(ps__log_open(&log, path, true));
	check_ok(ps__log_write(log, json_pack("{s:s}", "event", "end")));
	check_fails(ps__log_write(log, NULL), PS_ENOMEM);
	check_ok(ps__log_close(log));

	FILE *file = fopen(path, "rb");
	ck_assert_ptr_nonnull(file);
	json_t *objects[4];
	for (int i = 0; i < 4; i++) {
		objects[i] = json_loadf(file, JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, NULL);
		ck_assert_ptr_nonnull(objects[i]);
	}
	fclose(file);
	ck_assert_double_eq(json_number_value(json_object_get(objects[0], "loss")), step.loss);
	ck_assert_double_eq(json_number_value(json_object_get(objects[0], "grad_norm")), step.grad_norm);
	ck_assert_double_eq(json_number_value(json_object_get(objects[0], "lr")), step.lr);
	ck_assert_double_eq(json_number_value(json_object_get(objects[0], "ms")), 250);
	ck_assert_double_eq(json_number_value(json_object_get(objects[0], "tokens_per_s")), 2000);
	ck_assert(json_is_null(json_object_get(objects[1], "loss")));
	ck_assert(json_is_null(json_object_get(objects[1], "grad_norm")));
	ck_assert(json_is_null(json_object_get(objects[1], "lr")));
	ck_assert_double_eq(json_number_value(json_object_get(objects[2], "loss")), 1000);
	ck_assert(json_is_null(json_object_get(objects[2], "ppl")));
	for (int i = 0; i < 4; i++)
		json_decref(objects[i]);
}
END_TEST

/* The tutorial's formats, character by character. */
START_TEST(lines)
{
	char text[PS_LINE_BYTES];
	const ps_window_report window = {
	        .epoch = 1, .batch = 10, .batches = 50, .lr = 5, .ms_per_batch = 2983.684, .loss = 51.97};
	ck_assert_str_eq(ps_window_line(&window, text),
	                 "| epoch   1 |    10/   50 batches | lr 5.00 | ms/batch 2983.68 | "
	                 "loss 51.97 | ppl 37177846032839978516480.00");
	const ps_eval_report valid = {.epoch = 3, .split = PS_SPLIT_VALID, .loss = 1.594, .seconds = 151.847};
	ck_assert_str_eq(ps_eval_line(&valid, text),
	                 "| end of epoch   3 | time: 151.85s | valid loss  1.59 | valid ppl     4.92");
	const ps_eval_report test = {.epoch = 3, .split = PS_SPLIT_TEST, .loss = 710};
	ck_assert_str_eq(ps_eval_line(&test, text), "| End of training | test loss 710.00 | test ppl      inf");
}
END_TEST

START_TEST(rate)
{
	ck_assert_double_eq(ps_step_lr(5, 0.95, 1), 5);
	ck_assert_double_eq(ps_step_lr(5, 0.95, 2), 5 * 0.95);
	ck_assert_double_eq(ps_step_lr(5, 0.95, 3), 5 * 0.95 * 0.95);
}
END_TEST

/* The check of an output leaves nothing behind, and an old file as it was. */
START_TEST(outputs)
{
	check_ok(ps_output_check(path));
	ck_assert_int_ne(access(path, F_OK), 0);
	FILE *file = fopen(path, "wb");
	ck_assert_ptr_nonnull(file);
	fputs("kept", file);
	fclose(file);
	check_ok(ps_output_check(path));
	size_t bytes;
	unsigned char *text = tiny_file(path, &bytes);
	ck_assert(bytes == 4 && memcmp(text, "kept", 4) == 0);
	free(text);
	check_fails(ps_output_check(""), PS_EINVAL);
	check_fails(ps_output_check(folder), PS_EINVAL);
	check_message("is a folder");
	check_fails(ps_output_check("/dev/full"), PS_EINVAL);
	check_fails(ps_output_check("no-such-folder/file"), PS_EINVAL);
	char beyond[96];
	snprintf(beyond, sizeof beyond, "%s/below", path);
	check_fails(ps_output_check(beyond), PS_EINVAL);
	/* Only the file is there. */
	unlink(path);
	ck_assert_int_eq(rmdir(folder), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("log");
	TCase *cases = tcase_create("log");
	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, texts);
	tcase_add_test(cases, numbers);
	tcase_add_test(cases, lines);
	tcase_add_test(cases, rate);
	tcase_add_test(cases, outputs);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
