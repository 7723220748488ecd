/* Dropout masks: Philox4x32-10 over many blocks at a time, the words that ps_random_word gives (docs/random.md). */
#ifndef PS_FAST_KERNELS_MASK_H
#define PS_FAST_KERNELS_MASK_H

#include "backends/cpu/fast/kernels/lanes.h"

#include <penstock/ops.h>

enum {
	MASK_BLOCKS = 32,
	MASK_CHUNK = 4 * MASK_BLOCKS, /* elements whose factors are made at once; chunks start at its multiples */
};

/* The factors of the chunk of elements from `element` on in one sample row: 0, or 1 / (1 - p). */
struct mask {
	const ps_dropout *drop;
	float keep;
	uint32_t threshold;
	float factor[MASK_CHUNK];
};

/*
 * A word of the state, in the lower half of a lane. GCC is fastest with lanes as wide as the products where it has an
 * instruction for these: then nothing is moved from lane to lane, and what the upper halves hold does not matter.
 */
#if defined(__AVX512DQ__) && !defined(__clang__)
typedef uint64_t philox_lane;
#else
typedef uint32_t philox_lane;
#endif

/* One round: the key is that of the round. */
#define PHILOX_ROUND(k0, k1)                                                    \
	for (int i = 0; i < MASK_BLOCKS; i++) {                                 \
		uint64_t p0 = (uint64_t)(uint32_t)c0[i] * UINT32_C(0xD2511F53); \
		uint64_t p1 = (uint64_t)(uint32_t)c2[i] * UINT32_C(0xCD9E8D57); \
		c0[i] = (philox_lane)(p1 >> 32) ^ c1[i] ^ (k0);                 \
		c1[i] = (philox_lane)p1;                                        \
		c2[i] = (philox_lane)(p0 >> 32) ^ c3[i] ^ (k1);                 \
		c3[i] = (philox_lane)p0;                                        \
	}

/* words[i] = ps_random_word(place, row, 4 * block + i), for a chunk. */
static inline void philox_words(const ps_random_place *place, uint32_t row, uint32_t block, uint32_t *restrict words)
{
	philox_lane c0[MASK_BLOCKS], c1[MASK_BLOCKS], c2[MASK_BLOCKS], c3[MASK_BLOCKS];
	uint32_t k0 = (uint32_t)place->seed, k1 = (uint32_t)(place->seed >> 32);
	for (int i = 0; i < MASK_BLOCKS; i++) {
		c0[i] = block + (uint32_t)i;
		c1[i] = row;
		c2[i] = place->step;
		c3[i] = place->layer << 8 | place->site;
	}
	for (int round = 0; round < 10; round++) {
		PHILOX_ROUND(k0, k1)
		k0 += UINT32_C(0x9E3779B9);
		k1 += UINT32_C(0xBB67AE85);
	}
	for (int i = 0; i < MASK_BLOCKS; i++) {
		words[4 * i + 0] = (uint32_t)c0[i];
		words[4 * i + 1] = (uint32_t)c1[i];
		words[4 * i + 2] = (uint32_t)c2[i];
		words[4 * i + 3] = (uint32_t)c3[i];
	}
}

static inline void mask_init(struct mask *mask, const ps_dropout *drop)
{
	mask->drop = drop;
	mask->keep = (float)(1 / (1 - (double)drop->p));
	mask->threshold = ps_random_threshold((double)drop->p);
	for (int i = 0; i < MASK_CHUNK; i++)
		mask->factor[i] = 1;
}

/* Makes the factors for elements [element, element + MASK_CHUNK) of a local sample row; element % MASK_CHUNK == 0. */
static inline void mask_chunk(struct mask *mask, int64_t row, int64_t element)
{
	if (mask->drop->p == 0)
		return;
	uint32_t words[MASK_CHUNK], threshold = mask->threshold;
	float keep = mask->keep;
	philox_words(&mask->drop->place, mask->drop->first_row + (uint32_t)row, (uint32_t)(element / 4), words);
	for (int i = 0; i < MASK_CHUNK; i++)
		mask->factor[i] = words[i] >= threshold ? keep : 0.0f;
}

/* A dropped value is 0, even where it was NaN. */
static inline float mask_apply(float factor, float value)
{
	return factor != 0 ? value * factor : 0.0f;
}

/*
 * Walks elements [begin, end) of a tensor whose sample rows have `per_row` elements, a part of one chunk at a time:
 *
 *   for (struct walk w = walk_start(begin, end, per_row); walk_next(&w, &mask);)
 *           elements [w.at, w.at + w.count) have the factors w.factor[0 … count)
 */
struct walk {
	int64_t end, per_row, row, element;
	int64_t at, count;
	const float *factor;
};

static inline struct walk walk_start(int64_t begin, int64_t end, int64_t per_row)
{
	return (struct walk){
	        .end = end, .per_row = per_row, .row = begin / per_row, .element = begin % per_row, .at = begin};
}

static inline int walk_next(struct walk *w, struct mask *mask)
{
	w->at += w->count;
	w->element += w->count;
	if (w->at == w->end)
		return 0;
	if (w->element == w->per_row) {
		w->element = 0;
		w->row++;
	}
	int64_t in_chunk = w->element % MASK_CHUNK;
	w->count = least(least(MASK_CHUNK - in_chunk, w->per_row - w->element), w->end - w->at);
	mask_chunk(mask, w->row, w->element - in_chunk);
	w->factor = mask->factor + in_chunk;
	return 1;
}

#endif
