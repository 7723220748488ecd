/*
 * The register tile under GEMM and attention: a few rows by a few vectors of columns, each element one sum over k in
 * ascending order. All variants form an element by the same operations, so where the tiles lie does not show in it.
 */
#ifndef PS_FAST_KERNELS_TILE_H
#define PS_FAST_KERNELS_TILE_H

#include "backends/cpu/fast/fast.h"
#include "backends/cpu/fast/kernels/lanes.h"

#if defined(__AVX512F__)
enum { TILE_ROWS = 12, TILE_COLUMNS = 32 };
#elif defined(__AVX__)
enum { TILE_ROWS = 6, TILE_COLUMNS = 16 };
#else
enum { TILE_ROWS = 4, TILE_COLUMNS = 8 };
#endif
enum { TILE_HALF = TILE_COLUMNS / 2 };

/* The factors of one tile: left (rows, k) by its strides, right (k, columns) by rows. */
struct tile {
	const float *left, *right;
	int64_t left_row, left_step, right_step;
	int64_t k;
};

#define TILE(ROWS, COLUMNS, NAME)                                                     \
	static void NAME(const struct tile *t, float *restrict out)                   \
	{                                                                             \
		float sum[ROWS][COLUMNS];                                             \
		const float *restrict left = t->left, *restrict right = t->right;     \
		int64_t row = t->left_row, step = t->left_step, next = t->right_step; \
		for (int r = 0; r < (ROWS); r++)                                      \
			for (int j = 0; j < (COLUMNS); j++)                           \
				sum[r][j] = 0;                                        \
		for (int64_t k = t->k; k > 0; k--, left += step, right += next)       \
			for (int r = 0; r < (ROWS); r++) {                            \
				float factor = left[r * row];                         \
				for (int j = 0; j < (COLUMNS); j++)                   \
					sum[r][j] += factor * right[j];               \
			}                                                             \
		for (int r = 0; r < (ROWS); r++)                                      \
			for (int j = 0; j < (COLUMNS); j++)                           \
				out[r * TILE_COLUMNS + j] = sum[r][j];                \
	}

TILE(TILE_ROWS, TILE_COLUMNS, tile_full)
TILE(TILE_ROWS, TILE_HALF, tile_full_half)
TILE(TILE_ROWS / 2, TILE_COLUMNS, tile_some)
TILE(TILE_ROWS / 2, TILE_HALF, tile_some_half)
TILE(1, TILE_COLUMNS, tile_one)
TILE(1, TILE_HALF, tile_one_half)

/* Computes up to `rows` rows of a tile of one panel, or half of one, into `out`; returns how many. */
static inline int tile_run(const struct tile *t, int64_t rows, bool half, float out[TILE_ROWS * TILE_COLUMNS])
{
	if (rows >= TILE_ROWS) {
		(half ? tile_full_half : tile_full)(t, out);
		return TILE_ROWS;
	}
	if (rows >= TILE_ROWS / 2) {
		(half ? tile_some_half : tile_some)(t, out);
		return TILE_ROWS / 2;
	}
	(half ? tile_one_half : tile_one)(t, out);
	return 1;
}

static inline int64_t round_up(int64_t value, int64_t multiple)
{
	return (value + multiple - 1) / multiple * multiple;
}

/*
 * out (rows, columns) (+)= left (rows, k) right (k, columns); right and out have columns to spare up to a multiple of
 * LANES, which are computed too. For small matrices that lie in the cache.
 */
static inline void multiply(int64_t rows, int64_t columns, struct tile t, float *out, int64_t out_row, bool add)
{
	const float *left = t.left, *right = t.right;
	float sum[TILE_ROWS * TILE_COLUMNS];
	int64_t width;
	for (int64_t column = 0; column < columns; column += width) {
		bool half = columns - column <= TILE_HALF;
		width = half ? TILE_HALF : TILE_COLUMNS;
		t.right = right + column;
		for (int64_t row = 0; row < rows;) {
			t.left = left + row * t.left_row;
			int done = tile_run(&t, rows - row, half, sum);
			for (int r = 0; r < done; r++) {
				float *to = out + (row + r) * out_row + column;
				const float *from = sum + r * TILE_COLUMNS;
				for (int64_t j = 0; j < width; j++)
					to[j] = add ? to[j] + from[j] : from[j];
			}
			row += done;
		}
	}
}

#endif
