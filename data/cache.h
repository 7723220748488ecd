/*
 * Token ids kept between runs, one file for each corpus folder. The cache only ever saves time: whatever is wrong with
 * it, the corpus is read from its text instead.
 */
#ifndef PENSTOCK_DATA_CACHE_H
#define PENSTOCK_DATA_CACHE_H

#include "data/corpus.h"
#include "data/text_file.h"

/* Which file, and what the text is that it must have been made from. */
typedef struct ps__cache_key {
	char *path;                 /* of the cache file; NULL: no cache */
	char *folder;               /* the corpus folder's real path */
	const ps__text_file *files; /* PS_SPLIT_COUNT of them, borrowed */
} ps__cache_key;

/* `cache_dir` is as in ps_corpus_options. Never fails: without memory or a folder there is no cache. */
void ps__cache_key_init(ps__cache_key *key, const char *cache_dir, const char *folder, const ps__text_file *files);
void ps__cache_key_finish(ps__cache_key *key);

/* True when the words, the ids and the line counts of the corpus were taken from the cache. */
int ps__cache_load(const ps__cache_key *key, ps_corpus *corpus);

/* Writes the corpus under a temporary name and renames it; does nothing when that is not possible. */
void ps__cache_save(const ps__cache_key *key, const ps_corpus *corpus);

#endif
