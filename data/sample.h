/*
 * The source of the sample corpus; docs/sample-corpus.md describes it.
 *
 * Sentences begin with one of four topic words and end with ".". Between them, the next word depends on the class of
 * the last word and on the sentence's topic. All probabilities are whole numbers over 2^32, so that the text is the
 * same on every machine and the entropy is that of what is really drawn.
 */
#ifndef PENSTOCK_DATA_SAMPLE_H
#define PENSTOCK_DATA_SAMPLE_H

#include <penstock/data.h>

enum {
	PS__SAMPLE_STOP = 1,   /* the id of "." */
	PS__SAMPLE_TOPIC0 = 2, /* the id of the first topic word */
	PS__SAMPLE_TOPICS = 4,
	PS__SAMPLE_FAVOURITES = 8,
	PS__SAMPLE_SUCCESSORS = 16
};

typedef struct ps__sample {
	uint64_t seed;
	int32_t vocabulary;
	int32_t classes;
	int32_t favourites[PS__SAMPLE_TOPICS][PS__SAMPLE_FAVOURITES];
	int32_t (*successors)[PS__SAMPLE_SUCCESSORS]; /* (classes, successors) */
	/* The shares of 2^32: the stop, the topic's favourites together, and each successor. */
	uint32_t stop_share;
	uint32_t favourite_share;
	uint32_t shares[PS__SAMPLE_SUCCESSORS];
} ps__sample;

/* PS_EINVAL for a vocabulary out of range. ps__sample_finish takes a zeroed one. */
ps_status ps__sample_init(ps__sample *sample, uint64_t seed, int vocabulary);
void ps__sample_finish(ps__sample *sample);

/* Probability that `next` follows `word` in a sentence of `topic` (0-based; any when word is the stop). */
double ps__sample_probability(const ps__sample *sample, int topic, int32_t word, int32_t next);

/* The entropy rate in nats per token. */
ps_status ps__sample_entropy(const ps__sample *sample, double *entropy);

/* Writes the first `count` tokens of a split, which begins a sentence. */
void ps__sample_generate(const ps__sample *sample, ps_split split, int32_t *tokens, size_t count);

/* Writes the word of an id, at most 6 bytes with its NUL. */
enum { PS__SAMPLE_WORD_BYTES = 6 };
void ps__sample_word(int32_t id, char word[PS__SAMPLE_WORD_BYTES]);

#endif
