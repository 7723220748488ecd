/* A corpus from the three text files of a folder. */
#include "data/cache.h"
#include "data/corpus.h"
#include "data/text_file.h"
#include "data/tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A growing array of ids. */
typedef struct id_list {
	int32_t *ids;
	size_t count;
	size_t capacity;
} id_list;

static ps_status grow(id_list *list, const char *path)
{
	size_t capacity = list->capacity + list->capacity / 2 + 1024;
	int32_t *ids = realloc(list->ids, capacity * sizeof *ids);
	if (ids == NULL)
		return ps_fail(PS_ENOMEM, "no memory for the tokens of %s", path);
	list->ids = ids;
	list->capacity = capacity;
	return PS_OK;
}

/* Appends the ids of all words; new words are entered when `enter` is true, else they are number 0. */
static ps_status number_words(ps__tokenizer *tokenizer, ps__vocabulary *vocabulary, int enter, const char *path,
                              id_list *list)
{
	for (;;) {
		ps__token token;
		ps_status status = ps__tokenizer_next(tokenizer, &token);
		if (status == PS_EFORMAT)
			return ps__tokenizer_fail(tokenizer, path);
		PS_TRY(status);
		if (token.length == 0)
			return PS_OK;
		if (list->count == list->capacity)
			PS_TRY(grow(list, path));
		int32_t id = 0;
		if (enter)
			PS_TRY(ps__vocabulary_add(vocabulary, token, &id));
		else
			id = ps__vocabulary_find(vocabulary, token);
		list->ids[list->count++] = id;
	}
}

static ps_status read_split(ps__split *split, const ps__text_file *file, ps__vocabulary *vocabulary, int enter)
{
	/* English has more than five bytes to a token. */
	id_list list = {0};
	list.capacity = file->size / 5 + 16;
	list.ids = malloc(list.capacity * sizeof *list.ids);
	if (list.ids == NULL)
		return ps_fail(PS_ENOMEM, "no memory for the tokens of %s", split->path);
	ps__tokenizer tokenizer;
	ps__tokenizer_init(&tokenizer, file->bytes, file->size);
	ps_status status = number_words(&tokenizer, vocabulary, enter, split->path, &list);
	ps__tokenizer_finish(&tokenizer);
	split->tokens = list.ids;
	split->count = list.count;
	PS_TRY(status);
	if (list.count == 0)
		return ps_fail(PS_EFORMAT, "%s holds no words; it must hold text", split->path);
	for (size_t i = 0; i < file->size; i++)
		split->lines += file->bytes[i] == '\n';
	split->lines += file->bytes[file->size - 1] != '\n';
	return PS_OK;
}

/* Reads all splits, the training split first since it makes the vocabulary, and gives the words their final order. */
static ps_status read_splits(ps_corpus *corpus, const ps__text_file *files, ps__vocabulary *vocabulary)
{
	for (int i = 0; i < PS_SPLIT_COUNT; i++)
		PS_TRY(read_split(&corpus->splits[i], &files[i], vocabulary, i == PS_SPLIT_TRAIN));
	int32_t *final_ids = malloc((size_t)vocabulary->count * sizeof *final_ids);
	if (final_ids == NULL)
		return ps_fail(PS_ENOMEM, "no memory for %d words", (int)vocabulary->count);
	ps_status status = ps__vocabulary_sort(vocabulary, &corpus->words, final_ids);
	for (int i = 0; status == PS_OK && i < PS_SPLIT_COUNT; i++) {
		ps__split *split = &corpus->splits[i];
		for (size_t k = 0; k < split->count; k++)
			split->tokens[k] = final_ids[split->tokens[k]];
	}
	free(final_ids);
	return status;
}

static ps_status read_text(ps_corpus *corpus, const ps__text_file *files)
{
	ps__vocabulary vocabulary;
	PS_TRY(ps__vocabulary_init(&vocabulary));
	ps_status status = read_splits(corpus, files, &vocabulary);
	ps__vocabulary_finish(&vocabulary);
	return status;
}

static ps_status check_folder(const char *folder)
{
	struct stat info;
	if (stat(folder, &info) != 0) {
		int error = errno;
		if (error == ENOENT || error == ENOTDIR)
			return ps_fail(PS_ENOENT,
			               "there is no folder %s with wiki.train.tokens, wiki.valid.tokens and "
			               "wiki.test.tokens",
			               folder);
		return ps_fail(PS_EINVAL, "the folder %s cannot be read: %s", folder, strerror(error));
	}
	if (!S_ISDIR(info.st_mode))
		return ps_fail(PS_EINVAL,
		               "%s is not a folder; name the one with wiki.train.tokens, wiki.valid.tokens and "
		               "wiki.test.tokens",
		               folder);
	return PS_OK;
}

/* Opens the file of a split and keeps its path and size. */
static ps_status open_split(ps__split *split, ps_split which, const char *folder, ps__text_file *file)
{
	const char *name = ps_split_name(which);
	size_t length = strlen(folder);
	const char *slash = length > 0 && folder[length - 1] == '/' ? "" : "/";
	size_t size = length + strlen(name) + sizeof "/wiki..tokens";
	split->path = malloc(size);
	if (split->path == NULL)
		return ps_fail(PS_ENOMEM, "no memory for a path");
	snprintf(split->path, size, "%s%swiki.%s.tokens", folder, slash, name);
	ps_status status = ps__text_file_open(file, split->path);
	if (status == PS_ENOENT)
		return ps_fail(status,
		               "there is no file %s; a corpus is wiki.train.tokens, wiki.valid.tokens and "
		               "wiki.test.tokens in one folder",
		               split->path);
	split->bytes = file->size;
	return status;
}

static ps_status read_files(ps_corpus *corpus, const char *folder, const char *cache_dir, ps__text_file *files)
{
	for (int i = 0; i < PS_SPLIT_COUNT; i++)
		PS_TRY(open_split(&corpus->splits[i], (ps_split)i, folder, &files[i]));
	ps__cache_key key;
	ps__cache_key_init(&key, cache_dir, folder, files);
	ps_status status = PS_OK;
	if (!ps__cache_load(&key, corpus)) {
		status = read_text(corpus, files);
		if (status == PS_OK)
			ps__cache_save(&key, corpus);
	}
	ps__cache_key_finish(&key);
	return status;
}

ps_status ps__corpus_read(ps_corpus *corpus, const char *folder, const char *cache_dir)
{
	PS_TRY(check_folder(folder));
	ps__text_file files[PS_SPLIT_COUNT] = {{0}};
	ps_status status = read_files(corpus, folder, cache_dir, files);
	for (int i = 0; i < PS_SPLIT_COUNT; i++)
		ps__text_file_close(&files[i]);
	return status;
}
