#include "data/fetch_fixture.h"

#include <penstock/random.h>

#include "support/folder.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <openssl/evp.h>

char big[BIG];
char small[SMALL];
static char sums[4][65];
char archive_bytes[ROOM];
size_t archive_size;
static ps_fetch_file files[2];
ps_fetch_source source;
http_server *server;
static char url[256];

const http_answer good = {0};

static void digest(const char *algorithm, const void *bytes, size_t size, char hex[65])
{
	unsigned char out[EVP_MAX_MD_SIZE];
	unsigned int length = 0;
	ck_assert_int_eq(EVP_Digest(bytes, size, out, &length, EVP_get_digestbyname(algorithm), NULL), 1);
	for (unsigned int i = 0; i < length; i++)
		snprintf(hex + (size_t)2 * i, 3, "%02x", out[i]);
}

size_t make_archive(const entry *entries, size_t count, int tar, char *out)
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

void fetch_set_up(void)
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

void fetch_tear_down(void)
{
	http_server_stop(server);
	folder_remove();
}

ps_status fetch(int attempts)
{
	ps_fetch_options options = {.stall_seconds = 1, .attempts = attempts};
	return ps_data_fetch(&source, folder_path("to"), &options);
}

int exists(const char *name)
{
	struct stat info;
	return lstat(folder_path(name), &info) == 0;
}

long long part_size(void)
{
	struct stat info;
	return stat(folder_path("to/set.zip.part"), &info) == 0 ? (long long)info.st_size : -1;
}

void expect_complete(void)
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

void expect_failure(ps_status status, ps_status expected, const char *part)
{
	ck_assert_msg(status == expected, "%s is not %s: %s", ps_status_name(status), ps_status_name(expected),
	              ps_error_message());
	ck_assert_msg(strstr(ps_error_message(), part) != NULL, "'%s' has no '%s'", ps_error_message(), part);
	ck_assert_ptr_null(strchr(ps_error_message(), '\n'));
	ck_assert(!exists("to/big") && !exists("to/small"));
	ck_assert(!exists("to/big.part") && !exists("to/small.part"));
}

void write_part(const void *bytes, size_t size)
{
	ck_assert_int_eq(mkdir(folder_path("to"), 0700), 0);
	folder_write("to/set.zip.part", bytes, size);
}
