/*
 * The cache of token ids. A file is: the header, the folder's path, the words (each with its NUL), the ids of the three
 * splits, and the SHA-256 of all of that. Numbers are the machine's own, since a cache does not travel; the header's
 * byte-order mark and version make a foreign one count as damaged.
 */
#define _XOPEN_SOURCE 700 /* realpath */
#include "data/cache.h"

#include "core/platform.h"
#include "data/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Goes up whenever the tokenizer, the order of words or this layout changes. */
enum { CACHE_VERSION = 1, BYTE_ORDER_MARK = 0x01020304 };

/* Without gaps, so that every byte of it is set and compared. */
typedef struct split_header {
	uint64_t bytes;
	int64_t seconds;
	int64_t nanoseconds;
	uint8_t sha256[PS__SHA256_BYTES];
	uint64_t lines;
	uint64_t tokens;
} split_header;

typedef struct header {
	char magic[8];
	uint32_t byte_order;
	uint32_t version;
	uint64_t path_bytes;
	uint64_t word_bytes;
	uint64_t word_count;
	split_header splits[PS_SPLIT_COUNT];
} header;

static const char magic[8] = {'P', 'S', 'T', 'O', 'K', 'E', 'N', 'S'};

/* "first" + "second", or NULL. */
static char *join(const char *first, const char *second)
{
	size_t size = strlen(first) + strlen(second) + 1;
	char *path = malloc(size);
	if (path != NULL)
		snprintf(path, size, "%s%s", first, second);
	return path;
}

void ps__cache_key_init(ps__cache_key *key, const char *cache_dir, const char *folder, const ps__text_file *files)
{
	*key = (ps__cache_key){.files = files};
	if (cache_dir != NULL && cache_dir[0] == '\0')
		return;
	key->folder = realpath(folder, NULL);
	char user[4096];
	if (cache_dir == NULL && ps__cache_folder(user, sizeof user))
		cache_dir = user;
	uint8_t digest[PS__SHA256_BYTES];
	if (cache_dir != NULL && key->folder != NULL && ps__sha256(key->folder, strlen(key->folder), digest) == PS_OK) {
		char name[64];
		unsigned long long short_digest = 0;
		for (int i = 0; i < 8; i++)
			short_digest = short_digest << 8 | digest[i];
		snprintf(name, sizeof name, "/corpus-%016llx.ids", short_digest);
		key->path = join(cache_dir, name);
	}
}

void ps__cache_key_finish(ps__cache_key *key)
{
	free(key->path);
	free(key->folder);
	*key = (ps__cache_key){0};
}

/* The part of the header that says what the text is; the caller fills in the rest. */
static int describe_source(const ps__cache_key *key, header *head)
{
	memset(head, 0, sizeof *head);
	memcpy(head->magic, magic, sizeof magic);
	head->byte_order = BYTE_ORDER_MARK;
	head->version = CACHE_VERSION;
	head->path_bytes = strlen(key->folder);
	for (int i = 0; i < PS_SPLIT_COUNT; i++) {
		const ps__text_file *file = &key->files[i];
		split_header *split = &head->splits[i];
		split->bytes = file->size;
		split->seconds = file->seconds;
		split->nanoseconds = file->nanoseconds;
		if (ps__sha256(file->bytes, file->size, split->sha256) != PS_OK)
			return 0;
	}
	return 1;
}

/* The whole file, or NULL. */
static uint8_t *read_whole(const char *path, size_t *size)
{
	int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (descriptor < 0)
		return NULL;
	struct stat info;
	uint8_t *bytes = NULL;
	size_t done = 0;
	if (fstat(descriptor, &info) == 0 && S_ISREG(info.st_mode) && (uintmax_t)info.st_size < SIZE_MAX) {
		*size = (size_t)info.st_size;
		bytes = malloc(*size + 1);
		while (bytes != NULL && done < *size) {
			ssize_t got = read(descriptor, bytes + done, *size - done);
			if (got < 0 && errno == EINTR)
				continue;
			if (got <= 0)
				break;
			done += (size_t)got;
		}
	}
	(void)close(descriptor);
	if (bytes != NULL && done == *size)
		return bytes;
	free(bytes);
	return NULL;
}

/* Whether the cache's header names the same text as `now` does. */
static int same_source(const header *cached, const header *now)
{
	if (memcmp(cached->magic, now->magic, sizeof magic) != 0 || cached->byte_order != now->byte_order ||
	    cached->version != now->version || cached->path_bytes != now->path_bytes)
		return 0;
	for (int i = 0; i < PS_SPLIT_COUNT; i++) {
		const split_header *a = &cached->splits[i];
		const split_header *b = &now->splits[i];
		if (a->bytes != b->bytes || a->seconds != b->seconds || a->nanoseconds != b->nanoseconds ||
		    memcmp(a->sha256, b->sha256, sizeof a->sha256) != 0)
			return 0;
	}
	return 1;
}

/* Whether the parts that the header announces fill `size` bytes exactly. */
static int fits(const header *head, size_t size)
{
	if (size < sizeof *head + PS__SHA256_BYTES)
		return 0;
	uint64_t left = size - sizeof *head - PS__SHA256_BYTES;
	if (head->path_bytes > left)
		return 0;
	left -= head->path_bytes;
	if (head->word_bytes > left || head->word_count > head->word_bytes || head->word_count > INT32_MAX ||
	    head->word_count == 0)
		return 0;
	left -= head->word_bytes;
	for (int i = 0; i < PS_SPLIT_COUNT; i++) {
		if (head->splits[i].tokens > left / sizeof(int32_t))
			return 0;
		left -= head->splits[i].tokens * sizeof(int32_t);
	}
	return left == 0;
}

static int take_words(const header *head, const uint8_t *from, ps__words *words)
{
	words->size = (size_t)head->word_bytes;
	words->count = (int32_t)head->word_count;
	words->bytes = malloc(words->size);
	words->starts = malloc((size_t)words->count * sizeof *words->starts);
	if (words->bytes == NULL || words->starts == NULL)
		return 0;
	memcpy(words->bytes, from, words->size);
	size_t start = 0;
	for (int32_t i = 0; i < words->count; i++) {
		const char *end = start < words->size ? memchr(words->bytes + start, 0, words->size - start) : NULL;
		if (end == NULL)
			return 0;
		words->starts[i] = start;
		start = (size_t)(end - words->bytes) + 1;
	}
	return start == words->size;
}

static int take_tokens(const split_header *head, int32_t word_count, const uint8_t *from, ps__split *split)
{
	split->count = (size_t)head->tokens;
	split->lines = head->lines;
	split->tokens = malloc(split->count * sizeof *split->tokens + 1);
	if (split->tokens == NULL)
		return 0;
	memcpy(split->tokens, from, split->count * sizeof *split->tokens);
	int wrong = 0;
	for (size_t i = 0; i < split->count; i++)
		wrong |= split->tokens[i] < 0 || split->tokens[i] >= word_count;
	return !wrong;
}

/* Fills the corpus from the bytes of a cache file; what is there after a failure is the caller's to throw away. */
static int take(const ps__cache_key *key, const uint8_t *bytes, size_t size, ps_corpus *corpus)
{
	header head;
	if (size < sizeof head)
		return 0;
	memcpy(&head, bytes, sizeof head);
	header now;
	uint8_t digest[PS__SHA256_BYTES];
	if (!fits(&head, size) || !describe_source(key, &now) || !same_source(&head, &now) ||
	    memcmp(bytes + sizeof head, key->folder, (size_t)head.path_bytes) != 0 ||
	    ps__sha256(bytes, size - PS__SHA256_BYTES, digest) != PS_OK ||
	    memcmp(bytes + size - PS__SHA256_BYTES, digest, PS__SHA256_BYTES) != 0)
		return 0;
	const uint8_t *at = bytes + sizeof head + head.path_bytes;
	if (!take_words(&head, at, &corpus->words))
		return 0;
	at += head.word_bytes;
	for (int i = 0; i < PS_SPLIT_COUNT; i++) {
		if (!take_tokens(&head.splits[i], corpus->words.count, at, &corpus->splits[i]))
			return 0;
		at += head.splits[i].tokens * sizeof(int32_t);
	}
	return 1;
}

int ps__cache_load(const ps__cache_key *key, ps_corpus *corpus)
{
	size_t size = 0;
	uint8_t *bytes = key->path != NULL ? read_whole(key->path, &size) : NULL;
	if (bytes == NULL)
		return 0;
	int loaded = take(key, bytes, size, corpus);
	free(bytes);
	if (!loaded) {
		ps__words_finish(&corpus->words);
		for (int i = 0; i < PS_SPLIT_COUNT; i++) {
			free(corpus->splits[i].tokens);
			corpus->splits[i].tokens = NULL;
			corpus->splits[i].count = 0;
			corpus->splits[i].lines = 0;
		}
	}
	return loaded;
}

/* Makes the folder of `path` and those above it; whether that worked shows when the file is opened. */
static void make_folders(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdir(path, 0700);
		*slash = '/';
	}
}

static int write_all(int descriptor, const uint8_t *bytes, size_t size)
{
	while (size > 0) {
		ssize_t put = write(descriptor, bytes, size);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return 0;
		bytes += put;
		size -= (size_t)put;
	}
	return 1;
}

/* The bytes of a cache file, or NULL. */
static uint8_t *compose(const ps__cache_key *key, const ps_corpus *corpus, size_t *size)
{
	header head;
	if (!describe_source(key, &head))
		return NULL;
	head.word_bytes = corpus->words.size;
	head.word_count = (uint64_t)corpus->words.count;
	*size = sizeof head + (size_t)head.path_bytes + corpus->words.size + PS__SHA256_BYTES;
	for (int i = 0; i < PS_SPLIT_COUNT; i++) {
		head.splits[i].lines = corpus->splits[i].lines;
		head.splits[i].tokens = corpus->splits[i].count;
		*size += corpus->splits[i].count * sizeof(int32_t);
	}
	uint8_t *bytes = malloc(*size);
	if (bytes == NULL)
		return NULL;
	uint8_t *at = bytes;
	memcpy(at, &head, sizeof head);
	at += sizeof head;
	memcpy(at, key->folder, (size_t)head.path_bytes);
	at += head.path_bytes;
	memcpy(at, corpus->words.bytes, corpus->words.size);
	at += corpus->words.size;
	for (int i = 0; i < PS_SPLIT_COUNT; i++) {
		size_t split_size = corpus->splits[i].count * sizeof(int32_t);
		memcpy(at, corpus->splits[i].tokens, split_size);
		at += split_size;
	}
	if (ps__sha256(bytes, *size - PS__SHA256_BYTES, at) != PS_OK) {
		free(bytes);
		return NULL;
	}
	return bytes;
}

void ps__cache_save(const ps__cache_key *key, const ps_corpus *corpus)
{
	if (key->path == NULL)
		return;
	make_folders(key->path);
	char *temporary = join(key->path, ".XXXXXX");
	int descriptor = temporary != NULL ? mkstemp(temporary) : -1;
	if (descriptor < 0) {
		free(temporary);
		return;
	}
	size_t size = 0;
	uint8_t *bytes = compose(key, corpus, &size);
	int written = bytes != NULL && write_all(descriptor, bytes, size) && fsync(descriptor) == 0;
	free(bytes);
	written = close(descriptor) == 0 && written;
	if (!written || rename(temporary, key->path) != 0)
		(void)unlink(temporary);
	free(temporary);
}
