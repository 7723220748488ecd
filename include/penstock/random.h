/*
 * Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 *
 * A value depends on what it is for and on nothing else, so that masks and initial weights are the same for every
 * placement, cut, micro-batch count, schedule, recomputation and backend. docs/random.md states the layout in full:
 *
 *   key     = { low word of seed, high word of seed }
 *   counter = { element / 4, row, step, layer << 8 | site },  value = word (element % 4) of the block
 *
 * row is the sample's index in the whole batch, element its index within that sample's part of the tensor, in
 * row-major order. Initial weights use row 0, step PS_RANDOM_STEP_INIT and the element's index in the whole parameter.
 */
#ifndef PENSTOCK_RANDOM_H
#define PENSTOCK_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The step number that stands for "before training". */
#define PS_RANDOM_STEP_INIT UINT32_C(0xFFFFFFFF)
/* Sites from this one on are initial weights: the layer's parameters in the order in which it lists them. */
#define PS_RANDOM_SITE_PARAMETER 128

/* Where a random tensor stands: all of the counter but the element and the sample row. layer < 2^24, site < 256. */
typedef struct ps_random_place {
	uint64_t seed;
	uint32_t step;
	uint32_t layer;
	uint32_t site;
} ps_random_place;

/* The four words of one block. */
void ps_random_block(const ps_random_place *place, uint32_t row, uint32_t block, uint32_t out[4]);

/* The word of one element. */
uint32_t ps_random_word(const ps_random_place *place, uint32_t row, uint64_t element);

/* The smallest word that a dropout with probability p keeps: floor(p * 2^32), for 0 <= p < 1. */
uint32_t ps_random_threshold(double p);

/*
 * values[i] = low + (high - low) * word(first + i) / 2^32, computed in double and rounded to float once; `place` has
 * step PS_RANDOM_STEP_INIT.
 */
void ps_random_uniform(const ps_random_place *place, double low, double high, uint64_t first, size_t count,
                       float *values);

#ifdef __cplusplus
}
#endif
#endif
