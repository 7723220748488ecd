/* ps_data_fetch against a server that truncates, stalls and lies. */
#include <penstock/data.h>

#include "data/fetch_fixture.h"
#include "data/http_server.h"
#include "support/folder.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int count_progress(void *user, uint64_t done, uint64_t total)
{
	uint64_t *last = user;
	ck_assert_uint_ge(done, *last);
	ck_assert_uint_le(done, total);
	ck_assert_uint_eq(total, archive_size);
	*last = done;
	return 0;
}

START_TEST(serves_well)
{
	uint64_t last = 0;
	ps_fetch_options options = {.progress = count_progress, .user = &last};
	ck_assert_msg(ps_data_fetch(&source, folder_path("to"), &options) == PS_OK, "%s", ps_error_message());
	expect_complete();
	ck_assert_uint_eq(last, archive_size);
	char request[2048];
	ck_assert_int_eq(http_server_requests(server, request, sizeof request), 1);
	ck_assert_ptr_nonnull(strstr(request, "User-Agent: penstock/"));
	/* Nothing is left to do. */
	ck_assert_int_eq(ps_data_fetch(&source, folder_path("to"), NULL), PS_OK);
	ck_assert_int_eq(http_server_requests(server, NULL, 0), 1);
	/* One file is gone, the other stays. */
	ck_assert_int_eq(unlink(folder_path("to/small")), 0);
	ck_assert_int_eq(ps_data_fetch(&source, folder_path("to"), NULL), PS_OK);
	expect_complete();
}
END_TEST

START_TEST(goes_on_after_a_cut)
{
	static const http_answer answers[] = {{.stop_after = 50000}, {.stop_after = 60000}, {0}};
	http_server_answers(server, answers, 3);
	ck_assert_msg(fetch(3) == PS_OK, "%s", ps_error_message());
	expect_complete();
	char request[2048];
	ck_assert_int_eq(http_server_requests(server, request, sizeof request), 3);
	ck_assert_ptr_nonnull(strstr(request, "Range: bytes=110000-\r\n"));
}
END_TEST

START_TEST(goes_on_in_the_next_run)
{
	static const http_answer answers[] = {{.stop_after = 50000}, {0}};
	http_server_answers(server, answers, 2);
	expect_failure(fetch(1), PS_EIO, "after 50000 of");
	ck_assert_int_eq(part_size(), 50000);
	ck_assert_msg(fetch(1) == PS_OK, "%s", ps_error_message());
	expect_complete();
	char request[2048];
	ck_assert_int_eq(http_server_requests(server, request, sizeof request), 2);
	ck_assert_ptr_nonnull(strstr(request, "Range: bytes=50000-\r\n"));
}
END_TEST

START_TEST(without_ranges)
{
	static const http_answer answers[] = {{.stop_after = 50000}, {.ignore_range = 1}};
	http_server_answers(server, answers, 2);
	ck_assert_msg(fetch(2) == PS_OK, "%s", ps_error_message());
	expect_complete();
	ck_assert_int_eq(http_server_requests(server, NULL, 0), 2);
}
END_TEST

START_TEST(wrong_range)
{
	static const http_answer answers[] = {{.stop_after = 50000}, {.shift_range = 10}, {0}};
	http_server_answers(server, answers, 3);
	expect_failure(fetch(2), PS_EIO, "another part of the file than the one from byte 50000");
	ck_assert_int_eq(part_size(), -1);
	http_server_answers(server, answers, 3);
	ck_assert_msg(fetch(3) == PS_OK, "%s", ps_error_message());
	expect_complete();
	char request[2048];
	ck_assert_int_eq(http_server_requests(server, request, sizeof request), 5);
	ck_assert_ptr_null(strstr(request, "Range:"));
}
END_TEST

/* A beginning that is not the file's: found by the checksum, after which the file is fetched whole. */
START_TEST(foreign_part)
{
	write_part(small, SMALL);
	ck_assert_msg(fetch(3) == PS_OK, "%s", ps_error_message());
	expect_complete();
	ck_assert_int_eq(http_server_requests(server, NULL, 0), 2);
}
END_TEST

/* As long as the file, so that the server has nothing more; and longer than it. */
START_TEST(full_part)
{
	source.bytes = 0;
	char *other = calloc(1, archive_size + 5);
	ck_assert_ptr_nonnull(other);
	write_part(other, archive_size);
	ck_assert_msg(fetch(3) == PS_OK, "%s", ps_error_message());
	expect_complete();
	ck_assert_int_eq(unlink(folder_path("to/big")), 0);
	source.bytes = archive_size;
	folder_write("to/set.zip.part", other, archive_size + 5);
	ck_assert_msg(fetch(3) == PS_OK, "%s", ps_error_message());
	expect_complete();
	/* A right one needs no server. */
	ck_assert_int_eq(unlink(folder_path("to/big")), 0);
	folder_write("to/set.zip.part", archive_bytes, archive_size);
	int requests = http_server_requests(server, NULL, 0);
	ck_assert_msg(fetch(3) == PS_OK, "%s", ps_error_message());
	expect_complete();
	ck_assert_int_eq(http_server_requests(server, NULL, 0), requests);
	free(other);
}
END_TEST

START_TEST(stalls)
{
	static const http_answer answers[] = {{.stop_after = 50000, .stall = 1}};
	http_server_answers(server, answers, 1);
	expect_failure(fetch(1), PS_ESTALL, "next to nothing for 1 seconds; 50000 bytes are here");
	ck_assert_int_eq(part_size(), 50000);
	/* A silent server that brings nothing new is not asked again. */
	static const http_answer silent[] = {{.stop_after = 1, .stall = 1}, {.status = 500}};
	http_server_answers(server, silent, 2);
	expect_failure(fetch(2), PS_EIO, "status 500");
	ck_assert_int_eq(part_size(), 50001);
	http_server_answers(server, &good, 1);
	ck_assert_msg(fetch(1) == PS_OK, "%s", ps_error_message());
	expect_complete();
}
END_TEST

START_TEST(lies_about_length)
{
	static const http_answer more[] = {{.add_length = 1000}};
	static const http_answer less[] = {{.add_length = -1000}};
	http_server_answers(server, more, 1);
	expect_failure(fetch(1), PS_EIO, "the published file has");
	ck_assert_int_eq(part_size(), -1);
	http_server_answers(server, less, 1);
	expect_failure(fetch(1), PS_EIO, "the published file has");
	ck_assert_int_eq(part_size(), -1);
	/* The same with a size that nobody knows. */
	source.bytes = 0;
	http_server_answers(server, more, 1);
	expect_failure(fetch(1), PS_EIO, "ended the transfer after");
	ck_assert_int_eq(unlink(folder_path("to/set.zip.part")), 0);
	http_server_answers(server, less, 1);
	expect_failure(fetch(1), PS_EIO, "is not the published file: its SHA256 is");
	ck_assert_int_eq(part_size(), -1);
}
END_TEST

START_TEST(no_length)
{
	static const http_answer answers[] = {{.no_length = 1}};
	http_server_answers(server, answers, 1);
	ck_assert_msg(fetch(1) == PS_OK, "%s", ps_error_message());
	expect_complete();
	/* Cut short without anybody noticing but the check. */
	ck_assert_int_eq(unlink(folder_path("to/big")), 0);
	ck_assert_int_eq(unlink(folder_path("to/small")), 0);
	static const http_answer cut[] = {{.no_length = 1, .stop_after = 1000}};
	http_server_answers(server, cut, 1);
	expect_failure(fetch(1), PS_EIO, "1000 bytes; the published file has");
	/* More than there is. */
	source.bytes = 1000;
	http_server_answers(server, answers, 1);
	expect_failure(fetch(1), PS_EIO, "sends more than the 1000 bytes");
	ck_assert_int_eq(part_size(), -1);
}
END_TEST

START_TEST(wrong_content)
{
	static const http_answer page[] = {{.ignore_range = 1, .body = "<html>log in first</html>", .size = 25}};
	http_server_answers(server, page, 1);
	expect_failure(fetch(3), PS_EIO, "25 bytes; the published file has");
	source.bytes = 0;
	expect_failure(fetch(3), PS_EIO, "is not the published file");
	static const http_answer empty[] = {{.body = "", .size = 0}};
	http_server_answers(server, empty, 1);
	expect_failure(fetch(3), PS_EIO, "is not the published file");
	ck_assert_int_eq(part_size(), -1);
	/* An error page costs no good beginning when the size is known. */
	source.bytes = archive_size;
	write_part(archive_bytes, 5000);
	http_server_answers(server, page, 1);
	expect_failure(fetch(3), PS_EIO, "25 bytes; the published file has");
	ck_assert_int_eq(part_size(), 5000);
	source.sha256 = NULL;
	char other[33] = "00000000000000000000000000000000";
	source.md5 = other;
	http_server_answers(server, &good, 1);
	expect_failure(fetch(3), PS_EIO, "its MD5 is");
}
END_TEST

START_TEST(refuses)
{
	static const int statuses[] = {403, 404, 500, 204};
	for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
		http_answer answers[] = {{.status = statuses[i]}};
		http_server_answers(server, answers, 1);
		char text[32];
		snprintf(text, sizeof text, "status %d", statuses[i]);
		int before = http_server_requests(server, NULL, 0);
		expect_failure(fetch(3), PS_EIO, text);
		ck_assert_int_eq(http_server_requests(server, NULL, 0), before + 1);
		ck_assert(!exists("to"));
	}
}
END_TEST

START_TEST(redirects)
{
	char elsewhere[256];
	snprintf(elsewhere, sizeof elsewhere, "%s", http_server_url(server, "/elsewhere.zip"));
	http_answer there[] = {{.status = 302, .location = elsewhere}, {0}};
	http_server_answers(server, there, 2);
	ck_assert_msg(fetch(1) == PS_OK, "%s", ps_error_message());
	expect_complete();
	char request[2048];
	(void)http_server_requests(server, request, sizeof request);
	ck_assert_ptr_nonnull(strstr(request, "GET /elsewhere.zip "));
	ck_assert_int_eq(unlink(folder_path("to/big")), 0);
	ck_assert_int_eq(unlink(folder_path("to/small")), 0);
	char local[700];
	folder_write("secret", archive_bytes, archive_size);
	snprintf(local, sizeof local, "file://%s", folder_path("secret"));
	http_answer out[] = {{.status = 302, .location = local}};
	http_server_answers(server, out, 1);
	expect_failure(fetch(1), PS_EIO, "neither http nor https");
	http_answer circle[] = {{.status = 301, .location = elsewhere}};
	http_server_answers(server, circle, 1);
	expect_failure(fetch(1), PS_EIO, "leads in a circle");
}
END_TEST

START_TEST(wrong_address)
{
	static const char *const wrong[] = {
	        "",          "set.zip",     "ftp://127.0.0.1/set.zip", "file:///etc/passwd", "http://",
	        "https://:", "http://a b/", "http://127.0.0.1/\nx",    "http://x:99999999/"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		ps_fetch_options options = {.url = wrong[i]};
		ps_status status = ps_data_fetch(&source, folder_path("to"), &options);
		ck_assert_msg(status == PS_EINVAL, "'%s': %s, %s", wrong[i], ps_status_name(status),
		              ps_error_message());
		ck_assert_ptr_null(strchr(ps_error_message(), '\n'));
		ck_assert(!exists("to"));
	}
	/* Nobody listens on a port of a server that has stopped. */
	http_server *gone = http_server_start("", 0, &good, 1);
	char address[256];
	snprintf(address, sizeof address, "%s", http_server_url(gone, "/set.zip"));
	http_server_stop(gone);
	ps_fetch_options options = {.url = address};
	expect_failure(ps_data_fetch(&source, folder_path("to"), &options), PS_EIO, "cannot be fetched");
	ck_assert_int_eq(part_size(), -1);
}
END_TEST

START_TEST(wrong_folder)
{
	folder_write("file", "x", 1);
	ck_assert_int_eq(ps_data_fetch(&source, folder_path("file"), NULL), PS_EINVAL);
	ck_assert_int_eq(ps_data_fetch(&source, folder_path("file/to"), NULL), PS_EINVAL);
	ck_assert_int_eq(ps_data_fetch(&source, "", NULL), PS_EINVAL);
	ck_assert_int_eq(ps_data_fetch(&source, NULL, NULL), PS_EINVAL);
	/* A file of that name that is somebody else's stays as it is. */
	ck_assert_int_eq(mkdir(folder_path("to"), 0700), 0);
	folder_write("to/big", "mine", 4);
	ck_assert_int_eq(fetch(1), PS_EINVAL);
	ck_assert_ptr_nonnull(strstr(ps_error_message(), "to/big is there already"));
	size_t size = 0;
	char *bytes = folder_read("to/big", &size);
	ck_assert_str_eq(bytes, "mine");
	free(bytes);
	ck_assert_int_eq(unlink(folder_path("to/big")), 0);
	/* A link in the place of the unfinished download is not followed. */
	ck_assert_int_eq(symlink(folder_path("file"), folder_path("to/set.zip.part")), 0);
	ck_assert_int_eq(fetch(1), PS_EINVAL);
	ck_assert_int_eq(http_server_requests(server, NULL, 0), 0);
}
END_TEST

static int stop_at_once(void *user, uint64_t done, uint64_t total)
{
	(void)user;
	(void)done;
	(void)total;
	return 1;
}

START_TEST(stopped_by_caller)
{
	static const http_answer answers[] = {{.stop_after = 50000, .stall = 1}};
	http_server_answers(server, answers, 1);
	ps_fetch_options options = {.progress = stop_at_once};
	expect_failure(ps_data_fetch(&source, folder_path("to"), &options), PS_EIO, "was stopped");
	ck_assert_int_eq(http_server_requests(server, NULL, 0), 1);
}
END_TEST

/* Another process holds the lock while this one tries. */
START_TEST(locked)
{
	write_part(archive_bytes, 100);
	int ready[2];
	int done[2];
	ck_assert_int_eq(pipe(ready), 0);
	ck_assert_int_eq(pipe(done), 0);
	pid_t child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		char byte = 0;
		(void)close(done[1]);
		int descriptor = open(folder_path("to/set.zip.part"), O_RDWR);
		struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
		int fine = fcntl(descriptor, F_SETLK, &whole) == 0 && write(ready[1], "x", 1) == 1;
		(void)!read(done[0], &byte, 1);
		_exit(fine ? 0 : 1);
	}
	char byte = 0;
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	ps_status status = fetch(1);
	ck_assert_int_eq(close(done[1]), 0);
	int code = 0;
	ck_assert_int_eq(waitpid(child, &code, 0), child);
	ck_assert_int_eq(code, 0);
	expect_failure(status, PS_EIO, "another process");
	ck_assert_int_eq(part_size(), 100);
}
END_TEST

START_TEST(known_sources)
{
	const ps_fetch_source *wikitext = ps_fetch_source_find("wikitext-2");
	ck_assert_ptr_nonnull(wikitext);
	ck_assert_ptr_eq(ps_fetch_source_at(0), wikitext);
	ck_assert_ptr_null(ps_fetch_source_at(1));
	ck_assert_ptr_null(ps_fetch_source_find("wikitext-3"));
	ck_assert_uint_eq(wikitext->file_count, 3);
	ck_assert_uint_eq(strlen(wikitext->sha256), 64);
	ck_assert_uint_eq(strlen(wikitext->md5), 32);
	for (size_t i = 0; i < 3; i++)
		ck_assert_uint_eq(strlen(wikitext->files[i].sha256), 64);
}
END_TEST

int main(void)
{
	/* A proxy of the environment would stand between the client and the server. */
	if (setenv("no_proxy", "127.0.0.1", 1) != 0)
		return 1;
	Suite *suite = suite_create("fetch");
	TCase *cases = tcase_create("fetch");
	tcase_set_timeout(cases, 60);
	tcase_add_checked_fixture(cases, fetch_set_up, fetch_tear_down);
	tcase_add_test(cases, serves_well);
	tcase_add_test(cases, goes_on_after_a_cut);
	tcase_add_test(cases, goes_on_in_the_next_run);
	tcase_add_test(cases, without_ranges);
	tcase_add_test(cases, wrong_range);
	tcase_add_test(cases, foreign_part);
	tcase_add_test(cases, full_part);
	tcase_add_test(cases, stalls);
	tcase_add_test(cases, lies_about_length);
	tcase_add_test(cases, no_length);
	tcase_add_test(cases, wrong_content);
	tcase_add_test(cases, refuses);
	tcase_add_test(cases, redirects);
	tcase_add_test(cases, wrong_address);
	tcase_add_test(cases, wrong_folder);
	tcase_add_test(cases, stopped_by_caller);
	tcase_add_test(cases, locked);
	tcase_add_test(cases, known_sources);
	suite_add_tcase(suite, cases);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
