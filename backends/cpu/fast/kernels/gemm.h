/*
 * GEMM over packed blocks. The driver (gemm.c) cuts the product into blocks of rows and k and calls, for each, the
 * pack kernel and then the product kernel, in one of two forms:
 *
 *   plain       c = a b: rows of a are packed in groups of TILE_ROWS; b is packed by the panel when it is used.
 *   transposed  c^T = b^T a^T, for b stored (n, k): rows of a are packed in panels of TILE_COLUMNS; b is read where
 *               it lies, since the tile takes its left factor one element at a time. Weights are thus never packed.
 *
 * Either way an element of c is the sum of its products over blocks of GEMM_K, each in ascending order.
 */
#ifndef PS_FAST_KERNELS_GEMM_H
#define PS_FAST_KERNELS_GEMM_H

#include "backends/cpu/fast/gemm.h"
#include "backends/cpu/fast/kernels/tile.h"

#include <string.h>

/* Packs rows of a. A unit is a row; ranges start at multiples of the group or panel. */
static void gemm_pack_range(const struct fast_range *range)
{
	const struct fast_gemm *g = range->arguments;
	int64_t group = g->transposed ? TILE_COLUMNS : TILE_ROWS;
	for (int64_t first = range->begin; first < range->end; first += group) {
		float *restrict to = range->shared + first * g->k;
		const float *from = g->a + first * g->a_row;
		int64_t rows = least(group, g->rows - first);
		if (g->a_row == 1)
			for (int64_t k = 0; k < g->k; k++)
				for (int64_t r = 0; r < rows; r++)
					to[k * group + r] = from[r + k * g->a_step];
		else
			for (int64_t k = 0; k < g->k; k++)
				for (int64_t r = 0; r < rows; r++)
					to[k * group + r] = from[r * g->a_row + k];
		for (int64_t k = 0; k < g->k && rows < group; k++)
			for (int64_t r = rows; r < group; r++)
				to[k * group + r] = 0;
	}
}

/* to (k, TILE_COLUMNS) = rows of b, zeros behind `columns`. */
static inline void pack_panel(const float *from, int64_t stride, int64_t k, int64_t columns, float *restrict to)
{
	if (columns == TILE_COLUMNS) {
		for (; k > 0; k--, from += stride, to += TILE_COLUMNS)
			for (int j = 0; j < TILE_COLUMNS; j++)
				to[j] = from[j];
		return;
	}
	for (; k > 0; k--, from += stride, to += TILE_COLUMNS)
		for (int64_t j = 0; j < TILE_COLUMNS; j++)
			to[j] = j < columns ? from[j] : 0;
}

/* c (done, columns) = or += sums, plus the bias when it is not NULL. */
static inline void store_tile(const float *sums, int done, int64_t columns, float *c, int64_t stride, bool add,
                              const float *bias)
{
	for (int r = 0; r < done; r++, c += stride, sums += TILE_COLUMNS) {
		if (add && !bias && columns == TILE_COLUMNS)
			for (int j = 0; j < TILE_COLUMNS; j++)
				c[j] += sums[j];
		else
			for (int64_t j = 0; j < columns; j++)
				c[j] = sums[j] + (bias ? bias[j] : 0) + (add ? c[j] : 0);
	}
}

/* Fetches the lines of c (rows, columns) into the cache. */
static inline void fetch_tile(const float *c, int64_t stride, int64_t rows, int64_t columns)
{
	rows = least(rows, TILE_ROWS);
	for (int64_t r = 0; r < rows; r++, c += stride)
		for (int64_t j = 0; j < columns; j += LANES)
			PREFETCH_WRITE(c + j);
}

/* One panel of columns of the plain form, over one block of k. */
static void plain_panel(const struct fast_gemm *g, const float *packed, int64_t column, int64_t first_k, int64_t k,
                        float *panel)
{
	int64_t columns = least(TILE_COLUMNS, g->columns - column);
	bool add = g->add || first_k > 0;
	const float *bias = g->bias && first_k == 0 ? g->bias + column : NULL;
	const float *b = g->b + first_k * g->b_row + column;
	float sums[TILE_ROWS * TILE_COLUMNS];
	pack_panel(b, g->b_row, k, columns, panel);
	/* The first tiles fetch the panel to the right, a line of its rows each. */
	struct tile t = {.right = panel,
	                 .left_row = 1,
	                 .left_step = TILE_ROWS,
	                 .right_step = TILE_COLUMNS,
	                 .k = k,
	                 .ahead = b + TILE_COLUMNS,
	                 .ahead_low = g->b_row,
	                 .ahead_high = g->b_row};
	for (int64_t row = 0; row < g->rows; row += TILE_ROWS) {
		float *c = g->c + row * g->c_row + column;
		if (add)
			fetch_tile(c, g->c_row, g->rows - row, columns);
		t.left = packed + row * g->k + first_k * TILE_ROWS;
		int done = tile_run(&t, g->rows - row, columns <= TILE_HALF, sums);
		store_tile(sums, done, columns, c, g->c_row, add, bias);
		if (row < TILE_COLUMNS / LANES * TILE_ROWS)
			t.ahead += LANES;
		else {
			t.ahead = sums;
			t.ahead_low = t.ahead_high = 0;
		}
	}
}

/* A unit is a column of c; ranges start at multiples of TILE_COLUMNS. */
static void plain_range(const struct fast_range *range)
{
	enum { PANELS = 8 };
	const struct fast_gemm *g = range->arguments;
	for (int64_t first = range->begin; first < range->end; first += PANELS * TILE_COLUMNS) {
		int64_t end = least(range->end, first + PANELS * TILE_COLUMNS);
		for (int64_t k = 0; k < g->k; k += GEMM_K)
			for (int64_t column = first; column < end; column += TILE_COLUMNS)
				plain_panel(g, range->shared, column, k, least(GEMM_K, g->k - k), range->scratch);
	}
}

/*
 * A block of `count` rows of c^T from `first` on, which is kept as (count, padded rows of c) in `block`. Where the
 * panels of one block of k are more than the second-level cache keeps beside b, the tiles of each fetch the next.
 */
static void transposed_block(const struct fast_gemm *g, const float *packed, int64_t first, int64_t count, float *block)
{
	int64_t padded = round_up(g->rows, TILE_COLUMNS);
	float sums[TILE_ROWS * TILE_COLUMNS];
	for (int64_t k = 0; k < g->k; k += GEMM_K) {
		int64_t depth = least(GEMM_K, g->k - k);
		bool many = g->rows * depth > GEMM_CACHED;
		for (int64_t row = 0; row < g->rows; row += TILE_COLUMNS) {
			bool half = g->rows - row <= TILE_HALF;
			struct tile t = {.right = packed + row * g->k + k * TILE_COLUMNS,
			                 .left_row = g->b_row,
			                 .left_step = 1,
			                 .right_step = TILE_COLUMNS,
			                 .k = depth,
			                 .ahead = sums};
			bool fetch = many && row + TILE_COLUMNS < g->rows;
			for (int64_t at = 0; at < count;) {
				t.left = g->b + (first + at) * g->b_row + k;
				if (fetch && at < 2 * TILE_ROWS) {
					t.ahead = t.right + g->k * TILE_COLUMNS + at / TILE_ROWS * depth * LANES;
					t.ahead_low = t.ahead_high = LANES;
				} else {
					t.ahead = sums;
					t.ahead_low = t.ahead_high = 0;
				}
				int done = tile_run(&t, count - at, half, sums);
				store_tile(sums, done, half ? TILE_HALF : TILE_COLUMNS, block + at * padded + row,
				           padded, k > 0, NULL);
				at += done;
			}
		}
	}
	for (int64_t row = 0; row < g->rows; row++) {
		float *c = g->c + row * g->c_row + first;
		for (int64_t j = 0; j < count; j++)
			c[j] = block[j * padded + row] + (g->bias ? g->bias[first + j] : 0) + (g->add ? c[j] : 0);
	}
}

/* A unit is a column of c. */
static void transposed_range(const struct fast_range *range)
{
	const struct fast_gemm *g = range->arguments;
	for (int64_t first = range->begin; first < range->end; first += GEMM_BLOCK)
		transposed_block(g, range->shared, first, least(GEMM_BLOCK, range->end - first), range->scratch);
}

static void gemm_range(const struct fast_range *range)
{
	const struct fast_gemm *g = range->arguments;
	(g->transposed ? transposed_range : plain_range)(range);
}

#endif
