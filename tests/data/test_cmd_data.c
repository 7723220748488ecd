/* `penstock data` as a user sees it: exit status, one line on standard error, tables and JSON. */
#include "cli/program.h"

#include <penstock/data.h>

#include "data/http_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

static struct outcome run;

static void set_up(void)
{
	program_enter();
	ck_assert_int_eq(setenv("no_proxy", "127.0.0.1", 1), 0);
}

/* Fails with this status and one line with `part` in it, and nothing on standard output. */
#define expect_error(code, part, ...)                                                              \
	do {                                                                                       \
		program_run(&run, __VA_ARGS__);                                                    \
		ck_assert_int_eq(run.status, code);                                                \
		ck_assert_msg(strstr(run.error, part) != NULL, "no '%s' in\n%s", part, run.error); \
		ck_assert_int_eq(count_lines(run.error), 1);                                       \
		ck_assert_str_eq(run.out, "");                                                     \
	} while (0)

START_TEST(command_line)
{
	expect_error(2, "give what to do: fetch, info", "data");
	expect_error(2, "there is no 'look'; there are fetch, info", "data look");
	expect_error(2, "did you mean fetch?", "data fetsh");
	expect_error(2, "DIR is missing", "data info");
	expect_error(2, "'more' is one DIR too many", "data info sample more");
	expect_error(2, "--jsn; did you mean --json?", "data info sample --jsn");
	expect_error(2, "--to", "data info sample --to x");
	expect_error(2, "NAME is missing; there are: wikitext-2", "data fetch");
	expect_error(2, "there is no corpus 'wikitext-3'", "data fetch wikitext-3");
	expect_error(2, "two?lines", "data info 'two\nlines'");
	expect_error(2, "--url needs a value", "data fetch wikitext-2 --url");
	expect_error(2, "--json", "data fetch wikitext-2 --json");
	expect_error(2, "there is no folder --json", "data info -- --json");
	expect_error(2, "penstock data fetch wikitext-2 --to nowhere makes one, and sample is built in",
	             "data info nowhere");
	expect_error(2, "penstock data fetch wikitext-2 makes one", "data info wikitext-2");
	static const char *const helps[] = {"data --help", "help data", "help data fetch", "data fetch --help"};
	for (int i = 0; i < 4; i++) {
		program_run(&run, "%s", helps[i]);
		ck_assert_int_eq(run.status, 0);
		ck_assert_ptr_nonnull(strstr(run.out, "penstock data fetch"));
		ck_assert_str_eq(run.error, "");
	}
}
END_TEST

static void write_corpus(void)
{
	file_write("wiki.train.tokens", "b a b \n<unk> b a c\n");
	file_write("wiki.valid.tokens", "a z");
	file_write("wiki.test.tokens", "c\n");
}

START_TEST(info_json)
{
	write_corpus();
	program_run(&run, "data info . --json");
	ck_assert_int_eq(run.status, 0);
	ck_assert_str_eq(run.error, "");
	json_t *got = json_loads(run.out, 0, NULL);
	ck_assert_ptr_nonnull(got);
	const char *word = NULL;
	int vocabulary = 0;
	int tokens = 0;
	int unknown = 0;
	int lines = 0;
	int bytes = 0;
	int count = 0;
	double share = 0;
	json_t *entropy = NULL;
	ck_assert_int_eq(json_unpack(got, "{s:i, s:o, s:{s:{s:i, s:i, s:i}, s:{s:i, s:F}}, s:[{s:s, s:i}]}",
	                             "vocabulary", &vocabulary, "entropy", &entropy, "splits", "train", "tokens",
	                             &tokens, "lines", &lines, "bytes", &bytes, "valid", "unknown", &unknown,
	                             "unknown_share", &share, "frequent", "word", &word, "count", &count),
	                 0);
	ck_assert_int_eq(vocabulary, 4);
	ck_assert_int_eq(tokens, 7);
	ck_assert_int_eq(lines, 2);
	ck_assert_int_eq(bytes, 19);
	ck_assert_int_eq(unknown, 1);
	ck_assert(share == 0.5);
	ck_assert_str_eq(word, "b");
	ck_assert_int_eq(count, 3);
	ck_assert(json_is_null(entropy));
	ck_assert_uint_eq(json_array_size(json_object_get(got, "frequent")), 3);
	json_decref(got);
	program_run(&run, "data info --json sample");
	ck_assert_int_eq(run.status, 0);
	got = json_loads(run.out, 0, NULL);
	ck_assert_ptr_nonnull(got);
	ck_assert(json_real_value(json_object_get(got, "entropy")) > 2);
	ck_assert_uint_eq(json_array_size(json_object_get(got, "frequent")), 10);
	json_decref(got);
	/* An error is one line for people and one object for programs. */
	program_run(&run, "data info --json /nowhere");
	ck_assert_int_eq(run.status, 2);
	got = json_loads(run.out, 0, NULL);
	ck_assert_str_eq(json_string_value(json_object_get(got, "status")), "PS_ENOENT");
	json_decref(got);
	ck_assert_int_eq(count_lines(run.error), 1);
}
END_TEST

START_TEST(info_text)
{
	write_corpus();
	program_run(&run, "data info .");
	ck_assert_int_eq(run.status, 0);
	ck_assert_str_eq(run.error, "");
	ck_assert_ptr_nonnull(strstr(run.out, "vocabulary   4 words\n"));
	ck_assert_ptr_nonnull(strstr(run.out, "entropy      not known\n"));
	ck_assert_ptr_nonnull(strstr(run.out, "train             19           2            7   14.286%\n"));
	ck_assert_ptr_nonnull(strstr(run.out, "valid              3           1            2   50.000%\n"));
	ck_assert_ptr_nonnull(strstr(run.out, "           3  b\n           2  a\n           1  c\n"));
	program_run(&run, "data info sample");
	ck_assert_ptr_nonnull(strstr(run.out, "entropy      2.638"));
	file_write("wiki.test.tokens", "\xFF");
	expect_error(2, "wiki.test.tokens:1:1: byte 0xFF", "data info .");
}
END_TEST

START_TEST(fetch)
{
	static const http_answer missing[] = {{.status = 404}};
	http_server *server = http_server_start("", 0, missing, 1);
	const char *url = http_server_url(server, "/wikitext-2-v1.zip");
	expect_error(1, "404", "data fetch wikitext-2 --url=%s --to to", url);
	expect_error(2, "neither http nor https", "data fetch wikitext-2 --url ftp://x/y --to to");
	file_write("file", "x");
	expect_error(2, "file", "data fetch wikitext-2 --url=%s --to file", url);
	http_server_stop(server);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cmd_data");
	TCase *cases = tcase_create("cmd_data");
	tcase_set_timeout(cases, 60);
	tcase_add_checked_fixture(cases, set_up, program_leave);
	tcase_add_test(cases, command_line);
	tcase_add_test(cases, info_json);
	tcase_add_test(cases, info_text);
	tcase_add_test(cases, fetch);
	suite_add_tcase(suite, cases);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
