/*
 * The register tile under GEMM and attention: a few rows by a few vectors of columns, each element one sum over k in
 * ascending order. All variants form an element by the same operations, so where the tiles lie does not show in it.
 */
#ifndef PS_FAST_KERNELS_TILE_H
#define PS_FAST_KERNELS_TILE_H

#include "backends/cpu/fast/fast.h"
#include "backends/cpu/fast/kernels/lanes.h"

/* Registers for sums: rows times vectors of columns, and a few left over. */
#if defined(__AVX512F__)
#define TILE_ROWS 12
#define TILE_COLUMNS 32
#elif defined(__AVX__)
#define TILE_ROWS 6
#define TILE_COLUMNS 16
#else
#define TILE_ROWS 4
#define TILE_COLUMNS 8
#endif
#define TILE_HALF (TILE_COLUMNS / 2)

#if defined(__GNUC__)
#define PREFETCH(address) __builtin_prefetch((address), 0, 2)
#define PREFETCH_WRITE(address) __builtin_prefetch((address), 1, 3)
#else
#define PREFETCH(address) ((void)(address))
#define PREFETCH_WRITE(address) ((void)(address))
#endif

/*
 * The factors of one tile: left (rows, k) by its strides, right (k, columns) by rows. Each step also fetches a line of
 * what will be needed next into the cache: step k that at ahead + k % 16 * ahead_low + k / 16 * 16 * ahead_high.
 */
struct tile {
	const float *left, *right;
	int64_t left_row, left_step, right_step;
	int64_t k;
	const float *ahead;
	int64_t ahead_low, ahead_high;
};

#define TILE_ONE(ROWS, COLUMNS, NAME)                                                                                  \
	static void NAME(const struct tile *t, float *restrict out)                                                    \
	{                                                                                                              \
		float sum[ROWS][COLUMNS] = {{0}};                                                                      \
		const float *restrict left = t->left, *restrict right = t->right, *ahead = t->ahead;                   \
		int64_t row = t->left_row, step = t->left_step, next = t->right_step;                                  \
		int64_t low = t->ahead_low, high = t->ahead_high;                                                      \
		for (int64_t k = 0; k < t->k; k++, left += step, right += next) {                                      \
			PREFETCH(ahead + (k & 15) * low + (k & ~(int64_t)15) * high);                                  \
			for (int r = 0; r < (ROWS); r++) {                                                             \
				float factor = left[r * row];                                                          \
				_Pragma("omp simd") for (int j = 0; j < (COLUMNS); j++) sum[r][j] +=                   \
				        factor * right[j];                                                             \
			}                                                                                              \
		}                                                                                                      \
		for (int r = 0; r < (ROWS); r++)                                                                       \
			_Pragma("omp simd") for (int j = 0; j < (COLUMNS); j++) out[r * TILE_COLUMNS + j] = sum[r][j]; \
	}
#define TILE(ROWS) TILE_ONE(ROWS, TILE_COLUMNS, tile_##ROWS) TILE_ONE(ROWS, TILE_HALF, tile_half_##ROWS)

TILE(1)
TILE(2)
TILE(3)
TILE(4)
#if TILE_ROWS >= 6
TILE(5)
TILE(6)
#endif
#if TILE_ROWS >= 12
TILE(7)
TILE(8)
TILE(9)
TILE(10)
TILE(11)
TILE(12)
#endif

typedef void (*tile_function)(const struct tile *tile, float *restrict out);

/* By the number of rows, less one, and whether half the columns will do. */
static const tile_function tiles[TILE_ROWS][2] = {
        {tile_1, tile_half_1},   {tile_2, tile_half_2},   {tile_3, tile_half_3}, {tile_4, tile_half_4},
#if TILE_ROWS >= 6
        {tile_5, tile_half_5},   {tile_6, tile_half_6},
#endif
#if TILE_ROWS >= 12
        {tile_7, tile_half_7},   {tile_8, tile_half_8},   {tile_9, tile_half_9}, {tile_10, tile_half_10},
        {tile_11, tile_half_11}, {tile_12, tile_half_12},
#endif
};

/* Computes up to `rows` rows of a tile of one panel, or half of one, into `out`; returns how many. */
static inline int tile_run(const struct tile *t, int64_t rows, bool half, float out[TILE_ROWS * TILE_COLUMNS])
{
	int count = (int)least(rows, TILE_ROWS);
	tiles[count - 1][half](t, out);
	return count;
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
	t.ahead = left;
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
