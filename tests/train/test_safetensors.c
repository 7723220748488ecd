/* Saved weights: what is written is read back, and every damage is one clear message. */
#include "support/check.h"

#include <penstock/safetensors.h>

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "safetensors-XXXXXX", path[64];

static void setup(void)
{
	strcpy(folder, "safetensors-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/file", folder);
}

static void teardown(void)
{
	unlink(path);
	rmdir(folder);
}

/* Files in the folder, whatever their names. */
static int count_files(void)
{
	DIR *dir = opendir(folder);
	ck_assert_ptr_nonnull(dir);
	int count = -2; /* . and .. */
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

static const float singles[6] = {1.5f, -0.0f, 3e38f, 1e-42f, 5, 6};
static const double doubles[1] = {0.1};
static const int32_t integers[3] = {-1, 0, INT32_MAX};
static const ps_saved_tensor tensors[] = {
        {.name = "a.weight", .dtype = PS_F32, .rank = 2, .dims = {2, 3}, .bytes = sizeof singles},
        {.name = "scalar", .dtype = PS_F64, .rank = 0, .bytes = sizeof doubles},
        {.name = "ids", .dtype = PS_I32, .rank = 1, .dims = {3}, .bytes = sizeof integers},
        {.name = "empty", .dtype = PS_F32, .rank = 2, .dims = {0, 4}, .bytes = 0},
};
static const void *const contents[] = {singles, doubles, integers, singles};

static void write_good(void)
{
	const ps_metadata metadata[] = {{"format", "pt"}, {"text", "with \"quotes\" and \xc3\xa9"}};
	ps_safetensors_writer *writer;
	check_ok(ps_safetensors_writer_create(&writer, path, tensors, 4, metadata, 2));
	for (int i = 0; i < 4; i++)
		check_ok(ps_safetensors_writer_put(writer, contents[i]));
	check_ok(ps_safetensors_writer_commit(writer));
}

START_TEST(round_trip)
{
	write_good();
	ps_safetensors *file;
	check_ok(ps_safetensors_open(&file, path));
	ck_assert_int_eq(ps_safetensors_count(file), 4);
	for (int i = 0; i < 4; i++) {
		const ps_saved_tensor *tensor = ps_safetensors_find(file, tensors[i].name);
		ck_assert_ptr_nonnull(tensor);
		ck_assert_int_eq(tensor->dtype, tensors[i].dtype);
		ck_assert_int_eq(tensor->rank, tensors[i].rank);
		for (int d = 0; d < tensor->rank; d++)
			ck_assert_int_eq(tensor->dims[d], tensors[i].dims[d]);
		ck_assert_uint_eq(tensor->bytes, tensors[i].bytes);
		ck_assert_int_eq(memcmp(tensor->data, contents[i], tensor->bytes), 0);
	}
	ck_assert_ptr_null(ps_safetensors_find(file, "b.weight"));
	ck_assert_str_eq(ps_safetensors_metadata(file, "text"), "with \"quotes\" and \xc3\xa9");
	ck_assert_ptr_null(ps_safetensors_metadata(file, "other"));
	ps_safetensors_close(file);
	struct stat info;
	ck_assert_int_eq(stat(path, &info), 0);
	mode_t mask = umask(0);
	umask(mask);
	ck_assert_int_eq((int)(info.st_mode & 0777), (int)(0666 & ~mask));
}
END_TEST

/* Until the commit the old file stands, and what is given up leaves nothing behind. */
START_TEST(atomic)
{
	write_good();
	ps_safetensors_writer *writer;
	check_ok(ps_safetensors_writer_create(&writer, path, tensors, 4, NULL, 0));
	check_ok(ps_safetensors_writer_put(writer, singles));
	ck_assert_int_eq(count_files(), 2);
	check_fails(ps_safetensors_writer_commit(writer), PS_EINTERNAL);
	ck_assert_int_eq(count_files(), 1);
	check_ok(ps_safetensors_writer_create(&writer, path, tensors, 4, NULL, 0));
	ps_safetensors_writer_abandon(writer);
	ck_assert_int_eq(count_files(), 1);
	ps_safetensors *file;
	check_ok(ps_safetensors_open(&file, path));
	ck_assert_int_eq(ps_safetensors_count(file), 4);
	ps_safetensors_close(file);
	check_fails(ps_safetensors_writer_create(&writer, "no-such-folder/file", tensors, 4, NULL, 0), PS_EINVAL);
	check_message("no-such-folder/");
	check_fails(ps_safetensors_writer_create(&writer, folder, tensors, 4, NULL, 0), PS_EINVAL);
	check_message("is a folder");
	check_fails(ps_safetensors_writer_create(&writer, "/dev/null", tensors, 4, NULL, 0), PS_EINVAL);
	check_message("no regular file");
}
END_TEST

#define T(dtype, shape, begin, end) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"
#define GOOD "{\"w\":" T("F32", "[2,2]", "0", "16") "}"

/* A header, what it announces as its length (0: the truth), bytes after it, and what the message must say. */
static const struct damage {
	const char *header;
	uint64_t length;
	size_t bytes;
	const char *message;
} damages[] = {
        {GOOD, 0, 15, "is truncated: w ends"},
        {GOOD, 0, 17, "1 bytes at its end belong to no tensor"},
        {GOOD, 0, 0, "is truncated"},
        {GOOD, 100000, 16, "is truncated: its header should have 100000 bytes"},
        {GOOD, UINT64_MAX, 16, "is no safetensors file"},
        {GOOD, 100000001, 16, "is no safetensors file"},
        {GOOD, 20, 32, "the JSON header is damaged"},
        {"PK\3\4 a zip archive, as torch.save makes", 0, 16, "is no safetensors file"},
        {"{\"w\":", 0, 16, "the JSON header is damaged"},
        {"{\"w\":" T("F32", "[2]", "0", "8") ",\"w\":" T("F32", "[2]", "8", "16") "}", 0, 16, "duplicate"},
        {"{\"w\":3}", 0, 0, "entry w is no JSON object"},
        {"{\"w\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 0, 4, "w has no dtype"},
        {"{\"w\":" T("F16", "[2]", "0", "4") "}", 0, 4, "w has dtype F16"},
        {"{\"w\":" T("F32", "[-1]", "0", "4") "}", 0, 4, "dimension 0 of w is no size"},
        {"{\"w\":" T("F32", "[1.5]", "0", "4") "}", 0, 4, "dimension 0 of w is no size"},
        {"{\"w\":" T("F32", "[1,1,1,1,1,1]", "0", "4") "}", 0, 4, "w has no shape of at most 5"},
        {"{\"w\":" T("F32", "4", "0", "4") "}", 0, 4, "w has no shape"},
        {"{\"w\":" T("F32", "[4294967296,4294967296]", "0", "4") "}", 0, 4, "w is larger than the file"},
        {"{\"w\":" T("F32", "[2]", "0", "4") "}", 0, 4, "w has 4 bytes, its shape needs 8"},
        {"{\"w\":" T("F32", "[1]", "8", "4") "}", 0, 4, "no data_offsets"},
        {"{\"w\":" T("F32", "[1]", "-4", "0") "}", 0, 4, "no data_offsets"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 0, 4, "no data_offsets"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[1]}}", 0, 4, "no data_offsets"},
        {"{\"v\":" T("F32", "[2]", "0", "8") ",\"w\":" T("F32", "[2]", "4", "12") "}", 0, 12,
         "w overlaps another tensor"},
        {"{\"v\":" T("F32", "[1]", "0", "4") ",\"w\":" T("F32", "[1]", "0", "4") "}", 0, 4, "overlaps another tensor"},
        {"{\"v\":" T("F32", "[1]", "0", "4") ",\"w\":" T("F32", "[1]", "8", "12") "}", 0, 12, "a hole before w"},
        {"{\"__metadata__\":3}", 0, 0, "__metadata__ is no JSON object"},
        {"{\"__metadata__\":{\"a\":1}}", 0, 0, "__metadata__ a is no text"},
};

static void write_raw(const char *header, uint64_t length, size_t bytes)
{
	FILE *file = fopen(path, "wb");
	ck_assert_ptr_nonnull(file);
	length = length != 0 ? length : strlen(header);
	for (int i = 0; i < 8; i++)
		fputc((int)(length >> (8 * i) & 0xff), file);
	fputs(header, file);
	for (size_t i = 0; i < bytes; i++)
		fputc((int)i, file);
	ck_assert_int_eq(fclose(file), 0);
}

START_TEST(damage)
{
	const struct damage *row = &damages[_i];
	write_raw(row->header, row->length, row->bytes);
	ps_safetensors *file = NULL;
	check_fails(ps_safetensors_open(&file, path), PS_EFORMAT);
	check_message(row->message);
	check_message(path);
	ck_assert_ptr_null(file);
}
END_TEST

/* Files of other kinds, and one whose header leaves its tensors unaligned. */
START_TEST(others)
{
	ps_safetensors *file;
	check_fails(ps_safetensors_open(&file, path), PS_ENOENT);
	check_fails(ps_safetensors_open(&file, folder), PS_EINVAL);
	FILE *empty = fopen(path, "wb");
	ck_assert_ptr_nonnull(empty);
	fclose(empty);
	check_fails(ps_safetensors_open(&file, path), PS_EFORMAT);
	check_message("has 0 bytes");
	unlink(path);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	check_fails(ps_safetensors_open(&file, path), PS_EINVAL);
	check_message("no regular file");
	unlink(path);
	static const char *const headers[] = {GOOD, GOOD " ", GOOD "  ", GOOD "   "};
	for (int i = 0; i < 4; i++) {
		write_raw(headers[i], 0, 16);
		check_ok(ps_safetensors_open(&file, path));
		const ps_saved_tensor *tensor = ps_safetensors_find(file, "w");
		ck_assert_ptr_nonnull(tensor);
		ck_assert_uint_eq((uintptr_t)tensor->data % 4, 0);
		for (int b = 0; b < 16; b++)
			ck_assert_int_eq(((const unsigned char *)tensor->data)[b], b);
		ps_safetensors_close(file);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("safetensors");
	TCase *cases = tcase_create("safetensors");
	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, round_trip);
	tcase_add_test(cases, atomic);
	tcase_add_test(cases, others);
	tcase_add_loop_test(cases, damage, 0, (int)(sizeof damages / sizeof *damages));
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
