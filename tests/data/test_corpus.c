/* Corpora from folders: figures of WikiText-2, small files, faulty ones, and the cache of token ids. */
#include <penstock/data.h>

#include "support/folder.h"

#include <check.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

static const ps_corpus_options no_cache = {.cache_dir = ""};

static void write_splits(const char *train, const char *valid, const char *test)
{
	folder_write("wiki.train.tokens", train, strlen(train));
	folder_write("wiki.valid.tokens", valid, strlen(valid));
	folder_write("wiki.test.tokens", test, strlen(test));
}

static ps_corpus *open_folder(const ps_corpus_options *options)
{
	ps_corpus *corpus = NULL;
	ck_assert_msg(ps_corpus_open(&corpus, folder_path(""), options) == PS_OK, "%s", ps_error_message());
	return corpus;
}

/* Expects a failure with this status whose one-line message has `part` in it. */
static void expect_failure(const char *where, ps_status expected, const char *part)
{
	ps_corpus *corpus = NULL;
	ps_status status = ps_corpus_open(&corpus, where, &no_cache);
	ck_assert_msg(status == expected, "%s is not %s: %s", ps_status_name(status), ps_status_name(expected),
	              ps_error_message());
	ck_assert_ptr_null(corpus);
	ck_assert_msg(strstr(ps_error_message(), part) != NULL, "'%s' has no '%s'", ps_error_message(), part);
	ck_assert_ptr_null(strchr(ps_error_message(), '\n'));
	ck_assert(ps_status_is_usage(status));
}

/* The ids of a split are these, ended by -1. */
static void expect_ids(const ps_corpus *corpus, ps_split split, const int32_t *ids)
{
	size_t count = 0;
	const int32_t *tokens = ps_corpus_tokens(corpus, split, &count);
	for (size_t i = 0; i < count; i++)
		ck_assert_int_eq(tokens[i], ids[i]);
	ck_assert_int_eq(ids[count], -1);
}

START_TEST(small)
{
	write_splits("The cat, the dog. \nthe <unk> é a\n", "the cow\n\n", "Dog <unk> . É");
	ps_corpus *corpus = open_folder(&no_cache);
	/* Three "the", then once each, in code-point order. */
	static const char *const words[] = {"<unk>", "the", ",", ".", "a", "cat", "dog", "é"};
	ck_assert_int_eq(ps_corpus_vocabulary(corpus), 8);
	for (int32_t i = 0; i < 8; i++)
		ck_assert_str_eq(ps_corpus_word(corpus, i), words[i]);
	ck_assert(isnan(ps_corpus_entropy(corpus)));
	expect_ids(corpus, PS_SPLIT_TRAIN, (const int32_t[]){1, 5, 2, 1, 6, 3, 1, 0, 7, 4, -1});
	expect_ids(corpus, PS_SPLIT_VALID, (const int32_t[]){1, 0, -1});
	expect_ids(corpus, PS_SPLIT_TEST, (const int32_t[]){6, 0, 3, 7, -1});
	ps_split_info train = ps_corpus_split_info(corpus, PS_SPLIT_TRAIN);
	ck_assert_uint_eq(train.bytes, 34);
	ck_assert_uint_eq(train.lines, 2);
	ck_assert_uint_eq(train.tokens, 10);
	ck_assert_uint_eq(train.unknown, 1);
	ps_split_info test = ps_corpus_split_info(corpus, PS_SPLIT_TEST);
	ck_assert_uint_eq(test.lines, 1);
	ck_assert_str_eq(test.path, folder_path("wiki.test.tokens"));
	ps_corpus_close(corpus);
	ps_corpus_close(NULL);
}
END_TEST

/* Line ends of either kind and a missing last one change nothing; <unk> is word 0 even where the text has none. */
START_TEST(line_ends)
{
	write_splits("a b\r\nc a\r\n", "a\r\n\r\nb", "c");
	ps_corpus *corpus = open_folder(&no_cache);
	ck_assert_int_eq(ps_corpus_vocabulary(corpus), 4);
	expect_ids(corpus, PS_SPLIT_TRAIN, (const int32_t[]){1, 2, 3, 1, -1});
	expect_ids(corpus, PS_SPLIT_VALID, (const int32_t[]){1, 2, -1});
	ck_assert_uint_eq(ps_corpus_split_info(corpus, PS_SPLIT_VALID).lines, 3);
	ps_corpus_close(corpus);
}
END_TEST

START_TEST(faulty)
{
	expect_failure("", PS_EINVAL, "no corpus was named");
	expect_failure("/nowhere/at/all", PS_ENOENT, "there is no folder /nowhere/at/all");
	folder_write("file", "x", 1);
	expect_failure(folder_path("file"), PS_EINVAL, "is not a folder");
	expect_failure(folder_path("file/below"), PS_ENOENT, "there is no folder");
	expect_failure(folder_path(""), PS_ENOENT, "wiki.train.tokens");

	write_splits("a b", "a", "b");
	ck_assert_int_eq(unlink(folder_path("wiki.valid.tokens")), 0);
	expect_failure(folder_path(""), PS_ENOENT, "there is no file");
	ck_assert_ptr_nonnull(strstr(ps_error_message(), "wiki.valid.tokens"));

	ck_assert_int_eq(mkdir(folder_path("wiki.valid.tokens"), 0700), 0);
	expect_failure(folder_path(""), PS_EINVAL, "wiki.valid.tokens is a folder");
	ck_assert_int_eq(rmdir(folder_path("wiki.valid.tokens")), 0);

	ck_assert_int_eq(mkfifo(folder_path("wiki.valid.tokens"), 0600), 0);
	expect_failure(folder_path(""), PS_EINVAL, "not a regular file");
	ck_assert_int_eq(unlink(folder_path("wiki.valid.tokens")), 0);

	folder_write("wiki.valid.tokens", "", 0);
	expect_failure(folder_path(""), PS_EFORMAT, "wiki.valid.tokens is empty");
	folder_write("wiki.valid.tokens", " \n\"\n;", 5);
	expect_failure(folder_path(""), PS_EFORMAT, "holds no words");
	folder_write("wiki.valid.tokens", "fine\nab\xFF", 8);
	expect_failure(folder_path(""), PS_EFORMAT, "wiki.valid.tokens:2:3: byte 0xFF is not valid UTF-8");
	folder_write("wiki.valid.tokens", "\x89PNG\r\n\x1A\n\0\0", 10);
	expect_failure(folder_path(""), PS_EFORMAT, "wiki.valid.tokens:1:1: byte 0x89");
	folder_write("wiki.valid.tokens", "PK\3\4\0\0", 6);
	expect_failure(folder_path(""), PS_EFORMAT, "wiki.valid.tokens:1:5: a NUL byte");

	folder_write("wiki.valid.tokens", "a", 1);
	ck_assert_int_eq(chmod(folder_path("wiki.valid.tokens"), 0), 0);
	if (access(folder_path("wiki.valid.tokens"), R_OK) != 0)
		expect_failure(folder_path(""), PS_EINVAL, "Permission denied");
	ck_assert_int_eq(chmod(folder_path("wiki.valid.tokens"), 0600), 0);
	ps_corpus_close(open_folder(&no_cache));
}
END_TEST

/* The one file in the cache folder, or none; its name goes into `name`. */
static int find_cache(char name[300])
{
	return folder_find("cache", "corpus-", name);
}

/* The cache is used: what it holds is taken even though nobody reads the text. Seen by its file staying the same. */
static void expect_reopened(const ps_corpus_options *options, int rebuilt)
{
	char name[300];
	struct stat before;
	struct stat after;
	ck_assert_int_eq(find_cache(name), 1);
	ck_assert_int_eq(stat(folder_path(name), &before), 0);
	ps_corpus *corpus = open_folder(options);
	ck_assert_int_eq(ps_corpus_vocabulary(corpus), 4);
	expect_ids(corpus, PS_SPLIT_TRAIN, (const int32_t[]){1, 2, 3, 1, -1});
	expect_ids(corpus, PS_SPLIT_VALID, (const int32_t[]){0, 2, -1});
	ck_assert_uint_eq(ps_corpus_split_info(corpus, PS_SPLIT_TRAIN).lines, 2);
	ps_corpus_close(corpus);
	ck_assert_int_eq(find_cache(name), 1);
	ck_assert_int_eq(stat(folder_path(name), &after), 0);
	ck_assert_int_eq(before.st_ino != after.st_ino || before.st_mtim.tv_nsec != after.st_mtim.tv_nsec, rebuilt);
}

START_TEST(cache)
{
	char where[300];
	snprintf(where, sizeof where, "%s", folder_path("deeper/cache"));
	ps_corpus_options options = {.cache_dir = where};
	write_splits("a b\nc a\n", "x b", "c");
	ps_corpus_close(open_folder(&options));
	snprintf(where, sizeof where, "%s", folder_path("cache"));
	ps_corpus_close(open_folder(&options));
	expect_reopened(&options, 0);

	/* Another text of the same size at the same time, which the fingerprint alone tells. */
	struct stat info;
	ck_assert_int_eq(stat(folder_path("wiki.train.tokens"), &info), 0);
	struct timespec times[2] = {info.st_atim, info.st_mtim};
	folder_write("wiki.train.tokens", "q b\nc q\n", 8);
	ck_assert_int_eq(utimensat(AT_FDCWD, folder_path("wiki.train.tokens"), times, 0), 0);
	ps_corpus *corpus = open_folder(&options);
	ck_assert_str_eq(ps_corpus_word(corpus, 1), "q");
	ps_corpus_close(corpus);
	folder_write("wiki.train.tokens", "a b\nc a\n", 8);
	ck_assert_int_eq(utimensat(AT_FDCWD, folder_path("wiki.train.tokens"), times, 0), 0);
	expect_reopened(&options, 1);
	expect_reopened(&options, 0);

	/* The same text a nanosecond later. */
	times[1].tv_nsec = times[1].tv_nsec / 1000 * 1000 + (times[1].tv_nsec % 1000 + 1) % 1000;
	ck_assert_int_eq(utimensat(AT_FDCWD, folder_path("wiki.train.tokens"), times, 0), 0);
	expect_reopened(&options, 1);
	expect_reopened(&options, 0);
}
END_TEST

/* Cut short or with a byte changed, the cache is made anew and never believed. */
START_TEST(damaged_cache)
{
	char where[300];
	snprintf(where, sizeof where, "%s", folder_path("cache"));
	ps_corpus_options options = {.cache_dir = where};
	write_splits("a b\nc a\n", "x b", "c");
	ps_corpus_close(open_folder(&options));
	char name[300];
	ck_assert_int_eq(find_cache(name), 1);
	size_t size = 0;
	char *good = folder_read(name, &size);
	for (size_t i = 0; i < size; i += i < size - 40 ? 3 : 1) {
		folder_write(name, good, i);
		expect_reopened(&options, 1);
		good[i] ^= 0x40;
		folder_write(name, good, size);
		expect_reopened(&options, 1);
		good[i] ^= 0x40;
	}
	folder_write(name, good, size);
	expect_reopened(&options, 0);
	free(good);
}
END_TEST

/* A cache that cannot be written is no error and leaves nothing behind. */
START_TEST(no_place_for_the_cache)
{
	write_splits("a b", "a", "b");
	folder_write("file", "x", 1);
	char where[300];
	snprintf(where, sizeof where, "%s", folder_path("file/cache"));
	ps_corpus_options options = {.cache_dir = where};
	ps_corpus_close(open_folder(&options));
	ck_assert_int_eq(unsetenv("XDG_CACHE_HOME"), 0);
	ck_assert_int_eq(setenv("HOME", folder_path("file"), 1), 0);
	ps_corpus_close(open_folder(NULL));
	ck_assert_int_eq(setenv("HOME", "", 1), 0);
	ps_corpus_close(open_folder(NULL));
	char name[300];
	ck_assert_int_eq(setenv("XDG_CACHE_HOME", folder_path("xdg"), 1), 0);
	ps_corpus_close(open_folder(NULL));
	ck_assert_int_eq(folder_find("xdg/penstock", "corpus-", name), 1);
}
END_TEST

/* SHA-256 as hex digits. */
static void sha256(const void *bytes, size_t size, char hex[65])
{
	unsigned char digest[32];
	ck_assert_int_eq(EVP_Digest(bytes, size, digest, NULL, EVP_sha256(), NULL), 1);
	for (int i = 0; i < 32; i++)
		snprintf(hex + (ptrdiff_t)2 * i, 3, "%02x", digest[i]);
}

static const char *wikitext(void)
{
	const char *where = getenv("PS_WIKITEXT2");
	return where != NULL ? where : PS_SOURCE_DIR "/../shared/wikitext-2";
}

/* The figures that tests/reference/basic_english.py prints. */
START_TEST(wikitext2)
{
	static const struct {
		size_t tokens;
		uint64_t bytes;
		uint64_t lines;
		const char *sha256;
	} splits[PS_SPLIT_COUNT] = {
	        {2049990, 10797148, 36718, "8944153a126c462ed5b477a7052a4b436ad5c931bff65e9acf4df828a0f2f774"},
	        {214417, 1121681, 3760, "9917664c22f9611c0470bd27513ead14debbd3166f2898113c21bbf674204215"},
	        {241859, 1256449, 4358, "1e5a22431d6a4c5a8f6231adb11f31c09b1f90fba5207dffd5a267a412759755"},
	};
	char where[300];
	snprintf(where, sizeof where, "%s", folder_path("cache"));
	ps_corpus_options cached = {.cache_dir = where};
	/* From the text, from the text into the cache, from the cache. */
	for (int round = 0; round < 3; round++) {
		ps_corpus *corpus = NULL;
		ck_assert_msg(ps_corpus_open(&corpus, wikitext(), round == 0 ? &no_cache : &cached) == PS_OK, "%s",
		              ps_error_message());
		ck_assert_int_eq(ps_corpus_vocabulary(corpus), 28782);
		for (int s = 0; s < PS_SPLIT_COUNT; s++) {
			size_t count = 0;
			const int32_t *tokens = ps_corpus_tokens(corpus, (ps_split)s, &count);
			ck_assert_uint_eq(count, splits[s].tokens);
			ps_split_info info = ps_corpus_split_info(corpus, (ps_split)s);
			ck_assert_uint_eq(info.bytes, splits[s].bytes);
			ck_assert_uint_eq(info.lines, splits[s].lines);
			uint8_t *bytes = malloc(4 * count);
			ck_assert_ptr_nonnull(bytes);
			for (size_t i = 0; i < 4 * count; i++)
				bytes[i] = (uint8_t)((uint32_t)tokens[i / 4] >> 8 * (i % 4));
			char hex[65];
			sha256(bytes, 4 * count, hex);
			ck_assert_str_eq(hex, splits[s].sha256);
			free(bytes);
		}
		char *text = malloc(1 << 20);
		ck_assert_ptr_nonnull(text);
		size_t used = 0;
		for (int32_t id = 0; id < 28782; id++)
			used += (size_t)snprintf(text + used, 128, "%s\n", ps_corpus_word(corpus, id));
		char hex[65];
		sha256(text, used, hex);
		ck_assert_str_eq(hex, "858b8eab7ef6f3616d0051b43e2b0edc39b41ddc45904df381f15164b6c14d08");
		free(text);
		ps_corpus_close(corpus);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("corpus");
	TCase *cases = tcase_create("corpus");
	tcase_set_timeout(cases, 120);
	tcase_add_checked_fixture(cases, folder_make, folder_remove);
	tcase_add_test(cases, small);
	tcase_add_test(cases, line_ends);
	tcase_add_test(cases, faulty);
	tcase_add_test(cases, cache);
	tcase_add_test(cases, damaged_cache);
	tcase_add_test(cases, no_place_for_the_cache);
	suite_add_tcase(suite, cases);
	int have_wikitext = access(wikitext(), R_OK) == 0;
	if (have_wikitext)
		tcase_add_test(cases, wikitext2);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	if (failed == 0 && !have_wikitext) {
		printf("skipped: WikiText-2 is not in %s; name its folder in PS_WIKITEXT2\n", wikitext());
		return 77;
	}
	return failed != 0;
}
