/* ps_data_fetch against archives that are not what they seem. */
#include <penstock/data.h>

#include "data/fetch_fixture.h"
#include "data/http_server.h"
#include "support/folder.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Archives whose checksum is not known, as a server with evil in mind would send them. */
START_TEST(strange_archives)
{
	static char bytes[ROOM];
	const entry b = {"set/big", big, BIG, NULL};
	const entry s = {"set/small", small, SMALL, NULL};
	const struct {
		entry entries[3];
		size_t count;
		int tar;
		const char *message;
	} rows[] = {
	        {{b, {"../../small", small, SMALL, NULL}, s}, 3, 0, "would leave its folder"},
	        {{b, {"/tmp/small", small, SMALL, NULL}, s}, 3, 0, "would leave its folder"},
	        {{b, {"set/..", "", 0, NULL}, s}, 3, 1, "would leave its folder"},
	        {{b, {"a/../../small", small, SMALL, NULL}, s}, 3, 1, "would leave its folder"},
	        {{b, {"set/small", NULL, 0, "/etc/passwd"}, s}, 3, 1, "small in the archive is not a plain file"},
	        {{b, {"set/small", NULL, 0, "/etc/passwd"}}, 2, 0, "small in the archive is not a plain file"},
	        {{b, s, {"other/small", small, SMALL, NULL}}, 3, 0, "twice"},
	        {{b}, 1, 0, "small is not in the archive"},
	        {{{"nothing", "", 0, NULL}}, 1, 1, "big is not in the archive"},
	        {{b, {"set/small", small, SMALL - 1, NULL}}, 2, 0, "small in the archive is not what was published"},
	        {{b, {"set/small", big, SMALL, NULL}}, 2, 1, "small in the archive is not what was published"},
	        {{b, {"set/small", big, SMALL + 1, NULL}}, 2, 0, "more than the 1000 bytes"},
	};
	source.sha256 = source.md5 = NULL;
	source.bytes = 0;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		size_t size = make_archive(rows[i].entries, rows[i].count, rows[i].tar, bytes);
		http_answer answers[] = {{.body = bytes, .size = size}};
		http_server_answers(server, answers, 1);
		expect_failure(fetch(1), PS_EIO, rows[i].message);
		ck_assert(!exists("small"));
		ck_assert_int_eq(unlink(folder_path("to/set.zip.part")), 0);
		http_server_wait(server);
	}
	/* A good tar is as good as a zip. */
	const entry both[] = {s, b};
	size_t size = make_archive(both, 2, 1, bytes);
	http_answer answers[] = {{.body = bytes, .size = size}};
	http_server_answers(server, answers, 1);
	ck_assert_msg(fetch(1) == PS_OK, "%s", ps_error_message());
	expect_complete();
}
END_TEST

START_TEST(damaged_archives)
{
	static char bytes[ROOM];
	source.sha256 = source.md5 = NULL;
	source.bytes = 0;
	for (size_t i = 0; i < 40; i++) {
		/* Cut off somewhere, or a byte changed inside the files' data. */
		memcpy(bytes, archive_bytes, archive_size);
		size_t at = 300 + i * (BIG - 300) / 40;
		bytes[at] ^= 0x55;
		http_answer answers[] = {{.body = bytes, .size = i % 2 == 0 ? archive_size : at}};
		http_server_answers(server, answers, 1);
		ps_status status = fetch(1);
		expect_failure(status, PS_EIO, "archive");
		ck_assert_int_eq(unlink(folder_path("to/set.zip.part")), 0);
		http_server_wait(server);
	}
	http_answer text[] = {{.body = "this is no archive at all", .size = 25}};
	http_server_answers(server, text, 1);
	expect_failure(fetch(1), PS_EIO, "the archive is damaged");
}
END_TEST

int main(void)
{
	/* A proxy of the environment would stand between the client and the server. */
	if (setenv("no_proxy", "127.0.0.1", 1) != 0)
		return 1;
	Suite *suite = suite_create("fetch_archives");
	TCase *cases = tcase_create("fetch_archives");
	tcase_set_timeout(cases, 60);
	tcase_add_checked_fixture(cases, fetch_set_up, fetch_tear_down);
	tcase_add_test(cases, strange_archives);
	tcase_add_test(cases, damaged_archives);
	suite_add_tcase(suite, cases);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
