/* A corpus as its users see it; corpus_text.c and sample.c make them. */
#include "data/corpus.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *ps_split_name(ps_split split)
{
	static const char *const names[PS_SPLIT_COUNT] = {"train", "valid", "test"};
	return split >= 0 && split < PS_SPLIT_COUNT ? names[split] : "?";
}

ps_status ps_corpus_open(ps_corpus **out, const char *where, const ps_corpus_options *options)
{
	static const ps_corpus_options defaults;
	*out = NULL;
	if (where == NULL || where[0] == '\0')
		return ps_fail(PS_EINVAL, "no corpus was named; name a folder with wiki.train.tokens, "
		                          "wiki.valid.tokens and wiki.test.tokens, or \"sample\"");
	if (options == NULL)
		options = &defaults;
	ps_corpus *corpus = calloc(1, sizeof *corpus);
	if (corpus == NULL)
		return ps_fail(PS_ENOMEM, "no memory for a corpus");
	corpus->entropy = NAN;
	ps_status status = strcmp(where, "sample") == 0 ? ps__corpus_generate(corpus, options)
	                                                : ps__corpus_read(corpus, where, options->cache_dir);
	if (status != PS_OK) {
		ps_corpus_close(corpus);
		return status;
	}
	*out = corpus;
	return PS_OK;
}

void ps_corpus_close(ps_corpus *corpus)
{
	if (corpus == NULL)
		return;
	for (int i = 0; i < PS_SPLIT_COUNT; i++) {
		free(corpus->splits[i].path);
		free(corpus->splits[i].tokens);
	}
	ps__words_finish(&corpus->words);
	free(corpus);
}

const int32_t *ps_corpus_tokens(const ps_corpus *corpus, ps_split split, size_t *count)
{
	*count = corpus->splits[split].count;
	return corpus->splits[split].tokens;
}

int32_t ps_corpus_vocabulary(const ps_corpus *corpus)
{
	return corpus->words.count;
}

const char *ps_corpus_word(const ps_corpus *corpus, int32_t id)
{
	if (id < 0 || id >= corpus->words.count)
		return NULL;
	return corpus->words.bytes + corpus->words.starts[id];
}

double ps_corpus_entropy(const ps_corpus *corpus)
{
	return corpus->entropy;
}

ps_split_info ps_corpus_split_info(const ps_corpus *corpus, ps_split split)
{
	const ps__split *from = &corpus->splits[split];
	ps_split_info info = {.path = from->path, .bytes = from->bytes, .lines = from->lines, .tokens = from->count};
	for (size_t i = 0; i < from->count; i++)
		info.unknown += from->tokens[i] == 0;
	return info;
}
