/* ps_data_fetch against a server that truncates, stalls and lies, and against archives that are not what they seem. */
#include <penstock/data.h>
#include <penstock/random.h>

#include "data/folder.h"
#include "data/http_server.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <openssl/evp.h>

enum { BIG = 200000, SMALL = 1000, ROOM = 600000 };

/* What every test starts with: two files, their archive, and a server that has it. */
static char big[BIG];
static char small[SMALL];
static char sums[4][65];
static char archive_bytes[ROOM];
static size_t archive_size;
static ps_fetch_file files[2];
static ps_fetch_source source;
static http_server *server;
static char url[256];

static const http_answer good = {0};

static void digest(const char *algorithm, const void *bytes, size_t size, char hex[65])
{
	unsigned char out[EVP_MAX_MD_SIZE];
	unsigned int length = 0;
	ck_assert_int_eq(EVP_Digest(bytes, size, out, &length, EVP_get_digestbyname(algorithm), NULL), 1);
	for (unsigned int i = 0; i < length; i++)
		snprintf(hex + (size_t)2 * i, 3, "%02x", out[i]);
}

/* One entry of an archive to be made. */
typedef struct entry {
	const char *path;
	const char *bytes;
	size_t size;
	const char *link; /* a symbolic link to this */
} entry;

static size_t make_archive(const entry *entries, size_t count, int tar, char *out)
{
	struct archive *archive = archive_write_new();
	ck_assert_int_eq(tar ? archive_write_set_format_pax_restricted(archive) : archive_write_set_format_zip(archive),
	                 ARCHIVE_OK);
	if (tar)
		ck_assert_int_eq(archive_write_add_filter_gzip(archive), ARCHIVE_OK);
	size_t used = 0;
	ck_assert_int_eq(archive_write_open_memory(archive, out, ROOM, &used), ARCHIVE_OK);
	for (size_t i = 0; i < count; i++) {
		struct archive_entry *item = archive_entry_new();
		archive_entry_set_pathname(item, entries[i].path);
		archive_entry_set_perm(item, 0644);
		if (entries[i].link != NULL) {
			archive_entry_set_filetype(item, AE_IFLNK);
			archive_entry_set_symlink(item, entries[i].link);
		} else {
			archive_entry_set_filetype(item, AE_IFREG);
			archive_entry_set_size(item, (la_int64_t)entries[i].size);
		}
		ck_assert_int_eq(archive_write_header(archive, item), ARCHIVE_OK);
		if (entries[i].link == NULL)
			ck_assert_int_eq(archive_write_data(archive, entries[i].bytes, entries[i].size),
			                 (la_ssize_t)entries[i].size);
		archive_entry_free(item);
	}
	ck_assert_int_eq(archive_write_close(archive), ARCHIVE_OK);
	ck_assert_int_eq(archive_write_free(archive), ARCHIVE_OK);
	return used;
}

static void set_up(void)
{
	folder_make();
	/* Bytes that do not compress, so that the archive is of a known order of size. */
	ps_random_place place = {.seed = 11};
	for (uint32_t i = 0; i < BIG; i++)
		big[i] = (char)ps_random_word(&place, 0, i);
	memset(small, 's', SMALL);
	digest("SHA256", big, BIG, sums[0]);
	digest("SHA256", small, SMALL, sums[1]);
	entry entries[] = {
	        {"set/readme", "hello", 5, NULL}, {"set/big", big, BIG, NULL}, {"set/small", small, SMALL, NULL}};
	archive_size = make_archive(entries, 3, 0, archive_bytes);
	digest("SHA256", archive_bytes, archive_size, sums[2]);
	digest("MD5", archive_bytes, archive_size, sums[3]);
	files[0] = (ps_fetch_file){"big", BIG, sums[0]};
	files[1] = (ps_fetch_file){"small", SMALL, sums[1]};
	server = http_server_start(archive_bytes, archive_size, &good, 1);
	snprintf(url, sizeof url, "%s", http_server_url(server, "/set.zip"));
	source = (ps_fetch_source){.name = "set",
	                           .url = url,
	                           .archive = "set.zip",
	                           .bytes = archive_size,
	                           .sha256 = sums[2],
	                           .md5 = sums[3],
	                           .files = files,
	                           .file_count = 2};
}

static void tear_down(void)
{
	http_server_stop(server);
	folder_remove();
}

static ps_status fetch(int attempts)
{
	ps_fetch_options options = {.stall_seconds = 1, .attempts = attempts};
	return ps_data_fetch(&source, folder_path("to"), &options);
}

static int exists(const char *name)
{
	struct stat info;
	return lstat(folder_path(name), &info) == 0;
}

/* Size of the unfinished download, -1 when there is none. */
static long long part_size(void)
{
	struct stat info;
	return stat(folder_path("to/set.zip.part"), &info) == 0 ? (long long)info.st_size : -1;
}

/* The two files, whole and right, and nothing else. */
static void expect_complete(void)
{
	size_t size = 0;
	char *bytes = folder_read("to/big", &size);
	ck_assert_uint_eq(size, BIG);
	ck_assert_int_eq(memcmp(bytes, big, BIG), 0);
	free(bytes);
	bytes = folder_read("to/small", &size);
	ck_assert_uint_eq(size, SMALL);
	ck_assert_int_eq(memcmp(bytes, small, SMALL), 0);
	free(bytes);
	char name[300];
	ck_assert_int_eq(folder_find("to", "", name), 2);
}

/* A failed fetch: its status, a part of its one-line message, no file under a final name. */
static void expect_failure(ps_status status, ps_status expected, const char *part)
{
	ck_assert_msg(status == expected, "%s is not %s: %s", ps_status_name(status), ps_status_name(expected),
	              ps_error_message());
	ck_assert_msg(strstr(ps_error_message(), part) != NULL, "'%s' has no '%s'", ps_error_message(), part);
	ck_assert_ptr_null(strchr(ps_error_message(), '\n'));
	ck_assert(!exists("to/big") && !exists("to/small"));
	ck_assert(!exists("to/big.part") && !exists("to/small.part"));
}

static void write_part(const void *bytes, size_t size)
{
	ck_assert_int_eq(mkdir(folder_path("to"), 0700), 0);
	folder_write("to/set.zip.part", bytes, size);
}

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
	ck_assert_msg(fetch(3) == PS_OK, "%s", ps_error_message());
	expect_complete();
	char request[2048];
	ck_assert_int_eq(http_server_requests(server, request, sizeof request), 3);
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
	folder_write("to/set.zip.part", archive_bytes, 5000);
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
		ck_assert_int_eq(part_size(), -1);
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
	}
	http_answer text[] = {{.body = "this is no archive at all", .size = 25}};
	http_server_answers(server, text, 1);
	expect_failure(fetch(1), PS_EIO, "the archive is damaged");
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
	tcase_add_checked_fixture(cases, set_up, tear_down);
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
	tcase_add_test(cases, strange_archives);
	tcase_add_test(cases, damaged_archives);
	tcase_add_test(cases, known_sources);
	suite_add_tcase(suite, cases);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
