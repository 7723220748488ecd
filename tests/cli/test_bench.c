/* `penstock bench`: what each writes, comparisons, and interruption. How fast anything is, is never asserted. */
#include "cli/json_lines.h"
#include "cli/program.h"
#include "support/check.h"

#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZES "--emsize 8 --nhead 2 --nhid 8 --vocabulary 11 --batch-size 4 --bptt 5 "

#define SIZES_OF_GEMM "--emsize 8 --nhid 8 --vocabulary 11 --batch-size 4 --bptt 5 --chunks 2 "

/* A bench, with a row that must be there. */
static const struct bench {
	const char *name, *options, *section, *row;
} benches[] = {
        {"ops", SIZES "--device cpu", "model", "attention_bwd"},
        {"ops", SIZES "--device cpu", "peaks", "copy"},
        {"gemm", SIZES_OF_GEMM, "model", "10 x 11 x 8 weight+"},
        {"gemm", "--preset default --device cpu", "default", "256 x 64 x 64 weight"},
        {"ops", SIZES "--device ref --dtype fp64", "model", "embedding_fwd"},
        {"ops", SIZES "--device ref --dtype bf16", "model", "sgd"},
        {"ops", SIZES "--device ref --dtype bf16-pure", "model", "embedding_bwd_weight"},
        {"gemm", SIZES_OF_GEMM "--device ref --dtype bf16-pure", "model", "10 x 11 x 8 weight+"},
        {"step", SIZES "--nlayers 1 --stages ref,ref --chunks 2", "step", "whole step"},
        {"step", SIZES "--nlayers 1 --stages ref,ref --chunks 2 --checkpoint always",
         "where it goes, timed op by op, mean of the ranks", "gemm"},
        {"step", SIZES "--nlayers 1 --stages ref --brief", "peak memory", "of the process"},
        {"step", "--emsize 8 --nhead 2 --nhid 8 --nlayers 1 --batch-size 4 --bptt 5 --data sample --stages ref", "step",
         "clip and update"},
        {"stages", SIZES "--nlayers 2 --device ref --ranks 1,4 --chunks 2", "stages on one device", "4 stages, 1f1b"},
        {"stages", SIZES "--nlayers 1 --stages ref,cpu --schedule gpipe", "stages", "2 stages, whole batch"},
        {"link", "--devices ref,cpu", "ref to cpu, staged", "64 KiB"},
        {"executor", "--stages ref,ref --chunks 9", "stages", "ref,ref"},
        {"simulate", "--ranks 4 --chunks 8", "1f1b", "validate"},
        {"tokenizer", "--data text", "text", "words, vocabulary and ids of three splits"},
};

static void enter(void)
{
	static const char *const splits[] = {"train", "valid", "test"};
	program_enter();
	ck_assert_int_eq(mkdir("text", 0700), 0);
	for (int i = 0; i < 3; i++) {
		char path[64];
		snprintf(path, sizeof path, "text/wiki.%s.tokens", splits[i]);
		file_write(path, "one two three four\n");
	}
}

/* Checks every row, and returns the one that was asked for. */
static const json_t *check_rows(const json_t *object, const char *section, const char *name)
{
	const json_t *rows = json_object_get(object, "rows"), *row, *found = NULL;
	size_t i;
	ck_assert(json_is_array(rows));
	json_array_foreach(rows, i, row)
	{
		const char *here = json_string_value(json_object_get(row, "section"));
		const char *called = json_string_value(json_object_get(row, "name"));
		ck_assert(here != NULL && called != NULL);
		ck_assert_int_ge((int)number_of(row, "samples"), 1);
		ck_assert_double_ge(number_of(row, "min"), 0);
		ck_assert_double_le(number_of(row, "min"), number_of(row, "q1"));
		ck_assert_double_le(number_of(row, "q1"), number_of(row, "median"));
		ck_assert_double_le(number_of(row, "median"), number_of(row, "q3"));
		ck_assert_double_le(number_of(row, "q3"), number_of(row, "max"));
		if (strcmp(here, section) == 0 && strcmp(called, name) == 0) {
			ck_assert_msg(found == NULL, "%s, %s comes twice", section, name);
			found = row;
		}
	}
	ck_assert_msg(found != NULL, "there is no row %s, %s", section, name);
	return found;
}

START_TEST(writes_json)
{
	const struct bench *bench = &benches[_i];
	static struct outcome run;
	json_error_t error;
	program_run(&run, "bench %s --seconds 0 --json - %s", bench->name, bench->options);
	ck_assert_msg(run.status == 0, "%s", run.error);
	json_t *object = json_loads(run.out, 0, &error);
	ck_assert_msg(object != NULL, "line %d: %s\n%s", error.line, error.text, run.out);
	ck_assert_str_eq(json_string_value(json_object_get(object, "bench")), bench->name);
	const json_t *machine = json_object_get(object, "machine");
	ck_assert(json_is_string(json_object_get(machine, "cpu")) &&
	          json_is_string(json_object_get(machine, "system")));
	ck_assert_int_gt((int)(number_of(machine, "memory_bytes") / 1e6), 0);
	ck_assert(json_is_string(json_object_get(object, "version")) &&
	          json_is_string(json_object_get(object, "date")));
	ck_assert(json_is_false(json_object_get(object, "interrupted")));
	ck_assert_double_eq(number_of(json_object_get(object, "options"), "seconds"), 0);
	check_rows(object, bench->section, bench->row);
	json_decref(object);
}
END_TEST

/* The bytes that an op moves are those of its tensors in the type that they have. */
START_TEST(counts_bytes)
{
	static const struct {
		const char *dtype;
		double sgd, embed; /* of a weight of 11 x 8, and of 20 tokens with 5 positions, 8 wide each */
	} wanted[] = {{"fp32", 3 * 4 * 88, (20 + 20 + 5) * 8 * 4 + 20 * 4},
	              {"bf16", (3 * 4 + 2) * 88, (20 + 20 + 5) * 8 * 4 + 20 * 4},
	              {"bf16-pure", 3 * 2 * 88, 20 * 8 * 2 + (20 + 5) * 8 * 4 + 20 * 4}};
	for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
		static struct outcome run;
		program_run(&run, "bench ops --seconds 0 --json - --device ref --dtype %s " SIZES, wanted[i].dtype);
		ck_assert_msg(run.status == 0, "%s", run.error);
		json_t *object = json_loads(run.out, 0, NULL);
		const json_t *sgd = check_rows(object, "model", "sgd");
		const json_t *embed = check_rows(object, "model", "embedding_fwd");
		/* And the factor of the update, a double. */
		ck_assert_double_eq_tol(number_of(sgd, "gb_s") * 1e9 * number_of(sgd, "median"), wanted[i].sgd + 8,
		                        1e-3);
		ck_assert_double_eq_tol(number_of(embed, "gb_s") * 1e9 * number_of(embed, "median"), wanted[i].embed,
		                        1e-3);
		json_decref(object);
	}
}
END_TEST

/* A report for people, which is also kept and shown again. */
START_TEST(prints_a_table)
{
	static struct outcome run, shown;
	program_run(&run, "bench simulate --seconds 0 --ranks 2 --chunks 4 --json kept.json");
	ck_assert_msg(run.status == 0 && run.error[0] == '\0', "%s", run.error);
	ck_assert_ptr_nonnull(strstr(run.out, "\ngpipe\n"));
	ck_assert_ptr_nonnull(strstr(run.out, "median"));
	ck_assert_ptr_null(strstr(run.out, " \n"));
	program_run(&shown, "bench show kept.json");
	ck_assert_int_eq(shown.status, 0);
	ck_assert_ptr_nonnull(strstr(shown.out, "\n1f1b\n"));
	program_run(&shown, "bench simulate --seconds 0 --ranks 2 --chunks 4 --compare kept.json");
	ck_assert_int_eq(shown.status, 0);
	ck_assert_ptr_nonnull(strstr(shown.out, "0 better and 0 worse"));
	ck_assert_ptr_null(strstr(shown.out, "not done in the same way"));
	program_run(&shown, "bench simulate --seconds 0 --ranks 2 --chunks 5 --compare kept.json");
	ck_assert_ptr_nonnull(strstr(shown.out, "not done in the same way: chunks 4 there, 5 here\n"));
}
END_TEST

#define REPORT(rows) "{\"bench\": \"ops\", \"version\": \"0.1\", \"date\": \"2026-01-01\", \"rows\": [" rows "]}"
#define ROW(name, samples, q1, median, q3)                                                                     \
	"{\"section\": \"s\", \"name\": \"" name "\", \"unit\": \"s\", \"samples\": " samples ", \"min\": " q1 \
	", \"q1\": " q1 ", \"median\": " median ", \"q3\": " q3 ", \"max\": " q3 "}"

START_TEST(compares)
{
	static struct outcome run;
	file_write("before", REPORT(ROW("faster", "9", "3", "4", "5") "," ROW("slower", "9", "3", "4", "5") "," ROW(
	                             "same", "9", "3", "4", "5") "," ROW("few", "2", "3", "4",
	                                                                 "5") "," ROW("gone", "9", "1", "1", "1")));
	file_write("now", REPORT(ROW("faster", "9", "1", "2", "2.5") "," ROW("slower", "9", "6", "8", "9") "," ROW(
	                          "same", "9", "4", "5", "6") "," ROW("few", "9", "8", "8",
	                                                              "8") "," ROW("new", "9", "1", "1", "1")));
	program_run(&run, "bench show now --compare before --json -");
	ck_assert_msg(run.status == 0, "%s", run.error);
	json_t *object = json_loads(run.out, 0, NULL);
	static const struct {
		const char *name, *verdict;
		double ratio;
	} wanted[] = {{"faster", "better", 0.5}, {"slower", "worse", 2}, {"same", "same", 1.25}, {"few", "unknown", 2}};
	const json_t *rows = json_object_get(json_object_get(object, "compared"), "rows");
	ck_assert_int_eq((int)json_array_size(rows), 4);
	for (int i = 0; i < 4; i++) {
		const json_t *row = json_array_get(rows, (size_t)i);
		ck_assert_str_eq(json_string_value(json_object_get(row, "name")), wanted[i].name);
		ck_assert_str_eq(json_string_value(json_object_get(row, "verdict")), wanted[i].verdict);
		ck_assert_double_eq(number_of(row, "ratio"), wanted[i].ratio);
	}
	json_decref(object);
	program_run(&run, "bench show now --compare before");
	ck_assert_int_eq(run.status, 0);
	ck_assert_ptr_nonnull(strstr(run.out, "1 better and 1 worse by more than the noise"));
	ck_assert_ptr_nonnull(strstr(run.out, "1 the same; 1 with fewer than 3 samples"));
	ck_assert_ptr_nonnull(strstr(run.out, "0.500  better"));
}
END_TEST

#define STAGES_ROW(name, samples, q1, q3, share, noise)                                                        \
	"{\"section\": \"s\", \"name\": \"" name "\", \"unit\": \"s\", \"samples\": " samples ", \"min\": " q1 \
	", \"q1\": " q1 ", \"median\": 4, \"q3\": " q3 ", \"max\": " q3 ", \"bound_share\": " share noise "}"

/* What samples that disagree are worth is told in a line, and so is a bound that a step undercuts. */
START_TEST(tells_noise)
{
	static struct outcome run;
	static const struct {
		const char *rows, *noise, *above;
	} reports[] = {
	        {STAGES_ROW("quiet", "9", "3.9", "4.1", "0.9", ", \"bound_noise\": 0.04"), NULL, NULL},
	        {STAGES_ROW("quiet", "9", "3.9", "4.1", "0.9", ", \"bound_noise\": 0.04") "," STAGES_ROW(
	                 "steps", "9", "3", "5", "0.9", ", \"bound_noise\": 0.2"),
	         "\nnoise: the quartiles of a row lie up to 50 % apart (s, steps), ", NULL},
	        {STAGES_ROW("bounds", "9", "3.9", "4.1", "1.25", ", \"bound_noise\": 0.3"),
	         "\nnoise: the quartiles of a row lie up to 30 % apart (s, bounds), ",
	         "\nabove 100 % of the bound: 1 row, "},
	        {STAGES_ROW("few", "2", "3", "5", "1.25", "") "," STAGES_ROW("fewer", "1", "3", "5", "1.5", ""),
	         "\nnoise: not known, as 2 rows have fewer than 3 samples; ", "\nabove 100 % of the bound: 2 rows, "},
	};
	for (size_t i = 0; i < sizeof reports / sizeof *reports; i++) {
		char text[2048];
		snprintf(text, sizeof text, REPORT("%s"), reports[i].rows);
		file_write("stages", text);
		program_run(&run, "bench show stages");
		ck_assert_msg(run.status == 0, "%s", run.error);
		ck_assert_msg((strstr(run.out, "noise: ") != NULL) == (reports[i].noise != NULL), "%s", run.out);
		ck_assert_msg((strstr(run.out, "above 100 %") != NULL) == (reports[i].above != NULL), "%s", run.out);
		ck_assert_msg(reports[i].noise == NULL || strstr(run.out, reports[i].noise) != NULL, "%s", run.out);
		ck_assert_msg(reports[i].above == NULL || strstr(run.out, reports[i].above) != NULL, "%s", run.out);
	}
}
END_TEST

/* Runs of another model, on other numbers or devices are refused at once, and the others say first how they differ. */
START_TEST(refuses_to_compare)
{
	static struct outcome run;
	static const char *const others[] = {"--emsize 16", "--dtype bf16", "--stages ref,cpu", "--mask none"};
	program_run(&run, "bench step --brief --seconds 0 --json step.json " SIZES "--nlayers 1 --stages ref,ref");
	ck_assert_msg(run.status == 0, "%s", run.error);
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		program_run(&run,
		            "bench step --seconds 600 --compare step.json " SIZES "--nlayers 1 --stages ref,ref %s",
		            others[i]);
		ck_assert_int_eq(run.status, 2);
		ck_assert_str_eq(run.out, "");
		ck_assert_msg(strstr(run.error, "--compare step.json: measured something else: ") != NULL, "%s",
		              run.error);
	}
	program_run(&run, "bench step --brief --seconds 0 --compare step.json " SIZES
	                  "--nlayers 1 --stages ref,ref --schedule gpipe");
	ck_assert_msg(run.status == 0, "%s", run.error);
	const char *way = strstr(run.out, "not done in the same way: schedule 1f1b there, gpipe here\n");
	ck_assert_msg(way != NULL && way < strstr(run.out, "whole step"), "%s", run.out);
	/* Without sizes two presets are measured, and rows of one of them compare. */
	file_write("ops", "{\"bench\": \"ops\", \"version\": \"0.1\", \"date\": \"2026-01-01\", \"options\": "
	                  "{\"device\": \"cpu\", \"dtype\": \"fp32\"}, \"rows\": []}");
	program_run(&run, "bench ops --seconds 0 --compare ops " SIZES);
	ck_assert_msg(run.status == 0, "%s", run.error);
}
END_TEST

/* What was measured so far is reported, and the file is whole. */
START_TEST(is_interrupted)
{
	static struct outcome run;
	pid_t process = program_start("bench simulate --seconds 600 --ranks 2 --chunks 4 --json cut.json");
	/* The warm-up and some rounds take milliseconds; before that SIGINT ends the program, which is no test. */
	sleep(2);
	ck_assert_int_eq(kill(process, SIGINT), 0);
	program_wait(process, &run);
	ck_assert_msg(run.status == 130, "%d: %s", run.status, run.error);
	ck_assert_ptr_nonnull(strstr(run.out, "validate"));
	json_t *object = json_load_file("cut.json", 0, NULL);
	ck_assert(json_is_true(json_object_get(object, "interrupted")));
	check_rows(object, "gpipe", "generate");
	json_decref(object);
}
END_TEST

START_TEST(helps)
{
	static struct outcome run;
	program_run(&run, "help bench");
	ck_assert_int_eq(run.status, 0);
	for (size_t i = 0; i < sizeof benches / sizeof *benches; i++)
		ck_assert_ptr_nonnull(strstr(run.out, benches[i].name));
	/* The rows of train are there, with its defaults. */
	program_run(&run, "bench step --help");
	ck_assert_int_eq(run.status, 0);
	ck_assert_ptr_nonnull(strstr(run.out, "--checkpoint never|except-last|always"));
	ck_assert_ptr_nonnull(strstr(run.out, "--batch-size N"));
	ck_assert_ptr_nonnull(strstr(run.out, "[64]"));
	/* Where two presets are measured unless sizes are given, none is the default. */
	program_run(&run, "bench gemm --help");
	ck_assert_ptr_nonnull(strstr(run.out, "both tutorial and small"));
	ck_assert_ptr_null(strstr(run.out, "[default]"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("bench");
	TCase *tests = tcase_create("bench");
	tcase_set_timeout(tests, 300);
	tcase_add_checked_fixture(tests, enter, program_leave);
	tcase_add_loop_test(tests, writes_json, 0, (int)(sizeof benches / sizeof *benches));
	tcase_add_test(tests, counts_bytes);
	tcase_add_test(tests, prints_a_table);
	tcase_add_test(tests, compares);
	tcase_add_test(tests, tells_noise);
	tcase_add_test(tests, refuses_to_compare);
	tcase_add_test(tests, is_interrupted);
	tcase_add_test(tests, helps);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
