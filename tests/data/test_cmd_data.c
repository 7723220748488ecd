/* `penstock data` as a user sees it: exit status, one line on standard error, tables and JSON. */
#include "tools/penstock/cmd_data.h"

#include <penstock/data.h>

#include "data/http_server.h"
#include "support/folder.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

static char *out;
static char *err;

static void set_up(void)
{
	folder_make();
	ck_assert_int_eq(setenv("XDG_CACHE_HOME", folder_path("cache"), 1), 0);
	ck_assert_int_eq(setenv("no_proxy", "127.0.0.1", 1), 0);
}

static void tear_down(void)
{
	free(out);
	free(err);
	folder_remove();
}

/* Runs the command with up to six arguments, ended by NULL; what it wrote goes into `out` and `err`. */
static int run(const char *const arguments[])
{
	char *argv[8] = {NULL};
	char copies[8][700];
	int argc = 0;
	for (; arguments[argc] != NULL; argc++) {
		snprintf(copies[argc], sizeof copies[argc], "%s", arguments[argc]);
		argv[argc] = copies[argc];
	}
	free(out);
	free(err);
	ck_assert_ptr_nonnull(freopen(folder_path("out"), "w", stdout));
	ck_assert_ptr_nonnull(freopen(folder_path("err"), "w", stderr));
	int code = ps_cmd_data(argc, argv);
	ck_assert_int_eq(fflush(stdout), 0);
	ck_assert_int_eq(fflush(stderr), 0);
	size_t size = 0;
	out = folder_read("out", &size);
	err = folder_read("err", &size);
	return code;
}

#define RUN(...) run((const char *const[]){"data", __VA_ARGS__, NULL})

/* Standard error is one line with `part` in it, standard output is empty. */
static void expect_error(const char *part)
{
	ck_assert_msg(strstr(err, part) != NULL, "'%s' has no '%s'", err, part);
	ck_assert_ptr_eq(strchr(err, '\n'), err + strlen(err) - 1);
	ck_assert_str_eq(out, "");
}

START_TEST(command_line)
{
	ck_assert_int_eq(run((const char *const[]){"data", NULL}), 2);
	expect_error("no subcommand");
	ck_assert_int_eq(RUN("look"), 2);
	expect_error("look");
	ck_assert_int_eq(RUN("info"), 2);
	expect_error("no corpus was named");
	ck_assert_int_eq(RUN("info", "sample", "more"), 2);
	expect_error("more");
	ck_assert_int_eq(RUN("info", "sample", "--jsn"), 2);
	expect_error("--jsn");
	ck_assert_int_eq(RUN("info", "sample", "--to", "x"), 2);
	expect_error("--to");
	ck_assert_int_eq(RUN("fetch"), 2);
	expect_error("wikitext-2");
	ck_assert_int_eq(RUN("fetch", "wikitext-3"), 2);
	expect_error("wikitext-3");
	ck_assert_int_eq(RUN("info", "two\nlines"), 2);
	expect_error("two?lines");
	ck_assert_int_eq(RUN("fetch", "wikitext-2", "--url"), 2);
	expect_error("--url");
	ck_assert_int_eq(RUN("fetch", "wikitext-2", "--json"), 2);
	expect_error("--json");
	ck_assert_int_eq(RUN("info", "--", "--json"), 2);
	expect_error("there is no folder --json");
	ck_assert_int_eq(RUN("--help"), 0);
	ck_assert_ptr_nonnull(strstr(out, "penstock data info"));
	ck_assert_int_eq(RUN("fetch", "--help"), 0);
	ck_assert_ptr_nonnull(strstr(out, "penstock data fetch"));
	ck_assert_str_eq(err, "");
}
END_TEST

static void write_corpus(void)
{
	folder_write("wiki.train.tokens", "b a b \n<unk> b a c\n", 19);
	folder_write("wiki.valid.tokens", "a z", 3);
	folder_write("wiki.test.tokens", "c\n", 2);
}

START_TEST(info_json)
{
	write_corpus();
	ck_assert_int_eq(RUN("info", folder_path(""), "--json"), 0);
	ck_assert_str_eq(err, "");
	json_t *got = json_loads(out, 0, NULL);
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
	ck_assert_int_eq(RUN("info", "--json", "sample"), 0);
	got = json_loads(out, 0, NULL);
	ck_assert_ptr_nonnull(got);
	ck_assert(json_real_value(json_object_get(got, "entropy")) > 2);
	ck_assert_uint_eq(json_array_size(json_object_get(got, "frequent")), 10);
	json_decref(got);
	/* An error is one line for people and one object for programs. */
	ck_assert_int_eq(RUN("info", "--json", "/nowhere"), 2);
	got = json_loads(out, 0, NULL);
	ck_assert_str_eq(json_string_value(json_object_get(got, "status")), "PS_ENOENT");
	json_decref(got);
	ck_assert_ptr_eq(strchr(err, '\n'), err + strlen(err) - 1);
}
END_TEST

START_TEST(info_text)
{
	write_corpus();
	ck_assert_int_eq(RUN("info", folder_path("")), 0);
	ck_assert_str_eq(err, "");
	ck_assert_ptr_nonnull(strstr(out, "vocabulary   4 words\n"));
	ck_assert_ptr_nonnull(strstr(out, "entropy      not known\n"));
	ck_assert_ptr_nonnull(strstr(out, "train             19           2            7   14.286%\n"));
	ck_assert_ptr_nonnull(strstr(out, "valid              3           1            2   50.000%\n"));
	ck_assert_ptr_nonnull(strstr(out, "           3  b\n           2  a\n           1  c\n"));
	ck_assert_int_eq(RUN("info", "sample"), 0);
	ck_assert_ptr_nonnull(strstr(out, "entropy      2.638"));
	folder_write("wiki.test.tokens", "\xFF", 1);
	ck_assert_int_eq(RUN("info", folder_path("")), 2);
	expect_error("wiki.test.tokens:1:1: byte 0xFF");
}
END_TEST

START_TEST(fetch)
{
	static const http_answer missing[] = {{.status = 404}};
	http_server *server = http_server_start("", 0, missing, 1);
	char option[300];
	snprintf(option, sizeof option, "--url=%s", http_server_url(server, "/wikitext-2-v1.zip"));
	ck_assert_int_eq(RUN("fetch", "wikitext-2", option, "--to", folder_path("to")), 1);
	expect_error("404");
	ck_assert_int_eq(RUN("fetch", "wikitext-2", "--url", "ftp://x/y", "--to", folder_path("to")), 2);
	expect_error("neither http nor https");
	folder_write("file", "x", 1);
	ck_assert_int_eq(RUN("fetch", "wikitext-2", option, "--to", folder_path("file")), 2);
	expect_error("file");
	http_server_stop(server);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cmd_data");
	TCase *cases = tcase_create("cmd_data");
	tcase_set_timeout(cases, 60);
	tcase_add_checked_fixture(cases, set_up, tear_down);
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
