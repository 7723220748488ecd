/* Words and their numbers: a hash table while text is read, a plain table afterwards. */
#ifndef PENSTOCK_DATA_VOCABULARY_H
#define PENSTOCK_DATA_VOCABULARY_H

#include "data/tokenizer.h"

#include <penstock/status.h>

#include <stddef.h>
#include <stdint.h>

/* Word i is the NUL-terminated string at bytes + starts[i]; words follow each other without gaps. */
typedef struct ps__words {
	char *bytes;
	size_t size;
	size_t *starts;
	int32_t count;
} ps__words;

void ps__words_finish(ps__words *words);

typedef struct ps__entry {
	size_t start; /* in bytes */
	size_t length;
	uint64_t hash;
	uint64_t count;
} ps__entry;

/* Words in the order in which they came, with how often each came. */
typedef struct ps__vocabulary {
	char *bytes;
	size_t used;
	size_t size;
	ps__entry *entries;
	int32_t count;
	int32_t capacity;
	int32_t *slots; /* open addressing; -1 is free */
	uint32_t mask;
} ps__vocabulary;

/* Makes a vocabulary whose only word is <unk>, number 0. ps__vocabulary_finish takes a zeroed one, too. */
ps_status ps__vocabulary_init(ps__vocabulary *vocabulary);
void ps__vocabulary_finish(ps__vocabulary *vocabulary);

/* The number of a word, entered when it is new; its count goes up by one. */
ps_status ps__vocabulary_add(ps__vocabulary *vocabulary, ps__token token, int32_t *id);

/* The number of a word, or 0 (that of <unk>). */
int32_t ps__vocabulary_find(const ps__vocabulary *vocabulary, ps__token token);

/*
 * The words in final order: <unk>, then falling count, equal counts in code-point order. final_ids[i], with room for
 * vocabulary->count numbers, is the final number of word i.
 */
ps_status ps__vocabulary_sort(const ps__vocabulary *vocabulary, ps__words *words, int32_t *final_ids);

#endif
