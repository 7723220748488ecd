/* `penstock trace` from outside: the sums of a step that is known, the picture, and a real run's prediction. */
#include "cli/program.h"
#include "support/check.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct outcome run;

static double number_at(const json_t *object, const char *one, const char *other)
{
	const json_t *value = json_object_get(object, one);
	if (other != NULL)
		value = json_object_get(value, other);
	ck_assert_msg(json_is_number(value), "no number %s %s", one, other != NULL ? other : "");
	return json_number_value(value);
}

#define EVENT(pid, tid, name, cat, ts, dur, step)                                                            \
	"{\"ph\":\"X\",\"pid\":" pid ",\"tid\":" tid ",\"name\":\"" name "\",\"cat\":\"" cat "\",\"ts\":" ts \
	",\"dur\":" dur ",\"args\":{\"step\":" step "}}"
#define ROW(tid, name) \
	"{\"ph\":\"M\",\"pid\":1,\"tid\":" tid ",\"name\":\"thread_name\",\"args\":{\"name\":\"" name "\"}}"

/* Step 4 takes 100 µs: the first stage is at work for 60, the second for 50, of 15 of transfers 10 run beside work. */
static const char known[] =
        "{\"otherData\":{\"schedule\":\"by <hand>\",\"micro_batches\":2,\"stages\":[{\"rank\":0},{\"rank\":1}]},"
        "\"traceEvents\":[\n" ROW("0", "stage 0 (a & b)") ",\n" ROW("1", "stage 1") ",\n" ROW("2", "link 0 to 1") ",\n"
        /* A longer and a shorter step round it. */
        EVENT("1", "0", "F0", "action", "0", "500", "3") ",\n" EVENT(
                "1", "0", "F0", "action", "2000", "10",
                "5") ",\n" EVENT("1", "0", "F0", "action", "1000", "20",
                                 "4") ",\n" EVENT("1", "2", "F0", "transfer", "1020", "5",
                                                  "4") ",\n" EVENT("1", "0", "F1", "action", "1025", "20",
                                                                   "4") ",\n" EVENT("1", "2", "F1", "transfer", "1045",
                                                                                    "10",
                                                                                    "4") ",\n" EVENT("1", "1", "F0",
                                                                                                     "action", "1030",
                                                                                                     "30",
                                                                                                     "4") ",\n" EVENT("1",
                                                                                                                      "1",
                                                                                                                      "W0-1",
                                                                                                                      "action",
                                                                                                                      "1080",
                                                                                                                      "20",
                                                                                                                      "4") ",\n" EVENT("1",
                                                                                                                                       "0",
                                                                                                                                       "BW0",
                                                                                                                                       "action",
                                                                                                                                       "1070",
                                                                                                                                       "20",
                                                                                                                                       "4") "\n]}\n";

START_TEST(known_step)
{
	file_write("known.json", known);
	program_run(&run, "trace known.json --json");
	ck_assert_msg(run.status == 0, "%s", run.error);
	json_t *object = json_loads(run.out, 0, NULL);
	ck_assert_ptr_nonnull(object);
	ck_assert_double_eq(number_at(object, "step", NULL), 4);
	ck_assert_double_eq_tol(number_at(object, "measured", "length_us"), 100, 1e-6);
	ck_assert_double_eq_tol(number_at(object, "measured", "bubble"), 0.45, 1e-9);
	ck_assert_double_eq_tol(number_at(object, "measured", "transfers_us"), 15, 1e-6);
	ck_assert_double_eq_tol(number_at(object, "measured", "overlapped_us"), 10, 1e-6);
	ck_assert(json_is_null(json_object_get(object, "predicted")));
	const json_t *rows = json_object_get(json_object_get(object, "measured"), "rows");
	const double busy[] = {60, 50, 15};
	ck_assert_uint_eq(json_array_size(rows), 3);
	for (size_t i = 0; i < 3; i++) {
		ck_assert_double_eq_tol(number_at(json_array_get(rows, i), "busy_us", NULL), busy[i], 1e-6);
		ck_assert_double_eq_tol(number_at(json_array_get(rows, i), "idle_us", NULL), 100 - busy[i], 1e-6);
	}
	json_decref(object);
	program_run(&run, "trace known.json --step 3");
	ck_assert_msg(run.status == 0, "%s", run.error);
	ck_assert_ptr_nonnull(strstr(run.out, "step 3 of known.json: by <hand>, 2 micro-batches\n"));
	ck_assert_ptr_nonnull(strstr(run.out, "whole step 500.00 us, bubble 0.0 %\n"));
	ck_assert_ptr_null(strstr(run.out, " \n"));
}
END_TEST

/* Is the text XML as far as tags, quotes and entities go, with one element round all? */
static void check_xml(const char *text)
{
	char open[16][16];
	int depth = 0, roots = 0;
	for (const char *c = text; *c != '\0'; c++) {
		ck_assert(*c == '\n' || (unsigned char)*c >= ' ');
		if (*c == '&')
			ck_assert_msg(strncmp(c, "&amp;", 5) == 0 || strncmp(c, "&lt;", 4) == 0 ||
			                      strncmp(c, "&gt;", 4) == 0,
			              "a bare & before %.20s", c);
		ck_assert(*c != '>');
		if (*c != '<')
			continue;
		bool closing = c[1] == '/';
		const char *name = c + 1 + closing;
		int length = (int)strspn(name, "abcdefghijklmnopqrstuvwxyz");
		ck_assert_int_gt(length, 0);
		c = name + length;
		for (bool quoted = false; quoted || *c != '>'; c++) {
			ck_assert(*c != '\0' && *c != '<');
			quoted ^= *c == '"';
		}
		if (closing) {
			ck_assert_int_gt(depth, 0);
			depth--;
			ck_assert_int_eq((int)strlen(open[depth]), length);
			ck_assert_int_eq(strncmp(open[depth], name, (size_t)length), 0);
		} else if (c[-1] != '/') {
			ck_assert_int_lt(depth, 16);
			roots += depth == 0;
			snprintf(open[depth++], sizeof *open, "%.*s", length, name);
		}
	}
	ck_assert_int_eq(depth, 0);
	ck_assert_int_eq(roots, 1);
}

/* The whole file; the caller frees it. */
static char *read_text(const char *path)
{
	FILE *file = fopen(path, "rb");
	ck_assert_ptr_nonnull(file);
	char *text = calloc(1, 1 << 20);
	ck_assert_ptr_nonnull(text);
	ck_assert_uint_lt(fread(text, 1, (1 << 20) - 1, file), (1 << 20) - 1);
	fclose(file);
	return text;
}

START_TEST(picture)
{
	file_write("known.json", known);
	program_run(&run, "trace known.json --svg known.svg");
	ck_assert_msg(run.status == 0, "%s", run.error);
	char *text = read_text("known.svg");
	check_xml(text);
	ck_assert_ptr_nonnull(strstr(text, "by &lt;hand&gt;, 2 micro-batches, step 4: 100 µs, bubble 45.0 %"));
	ck_assert_ptr_nonnull(strstr(text, "stage 0 (a &amp; b)"));
	/* What is idle, a box with all of its label, a legend of the kinds that there are, and no other. */
	ck_assert_ptr_nonnull(strstr(text, ">40 µs, 40 %<"));
	ck_assert_ptr_nonnull(strstr(text, ">W0-1</text>"));
	ck_assert_ptr_nonnull(strstr(text, "both gradients"));
	ck_assert_ptr_null(strstr(text, "recomputation"));
	ck_assert_ptr_null(strstr(text, "href"));
	free(text);
}
END_TEST

/* What is idle is rounded to a place that shows of the step's length, however little it is. */
START_TEST(rounds_what_is_idle)
{
	static const char full[] = "{\"traceEvents\":[\n" ROW("0", "stage 0") ",\n" ROW("1", "stage 1") ",\n" EVENT(
	        "1", "0", "F0", "action", "1000", "100", "1") ",\n" EVENT("1", "1", "F0", "action", "1000.00004",
	                                                                  "99.99992", "1") "\n]}\n";
	file_write("full.json", full);
	program_run(&run, "trace full.json --svg full.svg");
	ck_assert_msg(run.status == 0, "%s", run.error);
	char *text = read_text("full.svg");
	ck_assert_msg(strstr(text, ">0 µs, 0 %</text>") != NULL, "%s", text);
	ck_assert_ptr_nonnull(strstr(text, ": 0.0 to 100.0 µs</title>"));
	ck_assert_ptr_null(strstr(text, "e-0"));
	free(text);
}
END_TEST

START_TEST(real_run)
{
	program_run(&run, "train " SMALL "--stages ref,cpu:0 --checkpoint always --trace run.json");
	ck_assert_msg(run.status == 0, "%s", run.error);
	program_run(&run, "trace run.json --svg run.svg --predicted --step 2");
	ck_assert_msg(run.status == 0, "%s", run.error);
	ck_assert_ptr_nonnull(strstr(run.out, "step 2 of run.json: 1f1b, 2 micro-batches\n\nmeasured "));
	ck_assert_ptr_nonnull(strstr(run.out, "\npredicted "));
	ck_assert_ptr_nonnull(strstr(run.out, "\nstage 1 (cpu:0) "));
	ck_assert_ptr_nonnull(strstr(run.out, "\nlink 0 to 1 "));
	ck_assert_ptr_nonnull(strstr(run.out, "\nlink 1 to 0 "));
	char *text = read_text("run.svg");
	check_xml(text);
	ck_assert_ptr_nonnull(strstr(text, "recomputation"));
	ck_assert_ptr_nonnull(strstr(text, ">predicted: "));
	free(text);
	/* Each box of one side has its like on the other, as long as the first says. */
	json_t *object = json_load_file("run.json", JSON_REJECT_DUPLICATES, NULL);
	const json_t *events = json_object_get(object, "traceEvents"), *event;
	size_t i;
	int measured = 0, predicted = 0;
	double foretold = 0, length = 0;
	json_array_foreach(events, i, event)
	{
		if (strcmp(json_string_value(json_object_get(event, "ph")), "X") != 0)
			continue;
		if (number_at(event, "pid", NULL) < 2) {
			measured++;
			foretold += number_at(event, "args", "predicted_us");
		} else {
			predicted++;
			length += number_at(event, "dur", NULL);
		}
	}
	/* Three steps, two micro-batches: F, R and B of both and one W on each stage, and two ways of transfers. */
	ck_assert_int_eq(measured, 3 * (2 * (3 * 2 + 1) + 2 * 2));
	ck_assert_int_eq(predicted, measured);
	ck_assert_double_eq_tol(foretold, length, 1);
	const json_t *stages = json_object_get(json_object_get(object, "otherData"), "stages");
	ck_assert_uint_eq(json_array_size(stages), 2);
	ck_assert_str_eq(json_string_value(json_object_get(json_array_get(stages, 1), "device")), "cpu:0");
	json_decref(object);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("trace command");
	TCase *cases = tcase_create("trace command");
	tcase_set_timeout(cases, 120);
	tcase_add_checked_fixture(cases, program_enter, program_leave);
	tcase_add_test(cases, known_step);
	tcase_add_test(cases, picture);
	tcase_add_test(cases, rounds_what_is_idle);
	tcase_add_test(cases, real_run);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
