/* Reference matrix product and column sum. */
#include "backends/cpu/ref/ref.h"

#include <string.h>

/*
 * One tile of c and the parts of a and b that are multiplied into it, as doubles whatever their dtype and layout. Each
 * element of c is one sum over k in ascending order, from the old value on when it accumulates, so that neither m nor
 * the tiling shows in its bits, nor in double where the rows of a reduction over rows were split.
 */
enum { TILE_M = 16, TILE_N = 64, TILE_K = 128, LANES = 16 };

struct tile {
	double a[TILE_M][TILE_K], b[TILE_K][TILE_N], c[TILE_M][TILE_N];
};

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* What gemm_kernel takes: whether it is a bf16 product is the queue's to say. */
struct call {
	ps_args_gemm x;
	bool bf16;
};

/* Reads (rows, columns) of a stored matrix from (row, column) on, or of its transpose; `to` has rows of `width`. */
static void load(double *to, int64_t width, ps_tensor from, bool transpose, int64_t row, int64_t column, int64_t rows,
                 int64_t columns)
{
	int64_t stride = from.strides[0];
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j < columns; j++)
			to[i * width + j] = ref_get(from, transpose ? (column + j) * stride + row + i
			                                            : (row + i) * stride + column + j);
}

/* The columns that a narrow c leaves unused are multiplied too, so that the inner loops have a constant length. */
static void multiply(struct tile *t, int64_t m, int64_t k)
{
	for (int64_t i = 0; i < m; i++)
		for (int64_t column = 0; column < TILE_N; column += LANES) {
			double sum[LANES];
			memcpy(sum, &t->c[i][column], sizeof sum);
			for (int64_t p = 0; p < k; p++)
				for (int64_t j = 0; j < LANES; j++)
					sum[j] += t->a[i][p] * t->b[p][column + j];
			memcpy(&t->c[i][column], sum, sizeof sum);
		}
}

static void store(const struct tile *t, const ps_args_gemm *x, int64_t row, int64_t column, int64_t m, int64_t n)
{
	bool biased = ps_tensor_present(x->bias);
	for (int64_t i = 0; i < m; i++)
		for (int64_t j = 0; j < n; j++)
			ref_set(x->c, (row + i) * x->c.strides[0] + column + j,
			        t->c[i][j] + (biased ? ref_get(x->bias, column + j) : 0));
}

/* The factors of a bf16 product, which may be fp32. */
static void round_factor(double *values, int64_t count)
{
	for (int64_t i = 0; i < count; i++)
		values[i] = (double)ps_bf16_widen(ps_bf16_round((float)values[i]));
}

static ps_status gemm_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const struct call *call = arguments;
	const ps_args_gemm *x = &call->x;
	int64_t m = x->c.dims[0], n = x->c.dims[1], k = x->trans_a ? x->a.dims[0] : x->a.dims[1];
	struct tile t = {0};
	for (int64_t column = 0; column < n; column += TILE_N) {
		int64_t columns = least(TILE_N, n - column);
		for (int64_t row = 0; row < m; row += TILE_M) {
			int64_t rows = least(TILE_M, m - row);
			memset(t.c, 0, sizeof t.c);
			if (x->accumulate)
				load(t.c[0], TILE_N, x->c, false, row, column, rows, columns);
			for (int64_t p = 0; p < k; p += TILE_K) {
				int64_t depth = least(TILE_K, k - p);
				load(t.a[0], TILE_K, x->a, x->trans_a, row, p, rows, depth);
				load(t.b[0], TILE_N, x->b, x->trans_b, p, column, depth, columns);
				if (call->bf16) {
					round_factor(t.a[0], rows * TILE_K);
					round_factor(t.b[0], depth * TILE_N);
				}
				multiply(&t, rows, depth);
			}
			store(&t, x, row, column, rows, columns);
		}
	}
	return PS_OK;
}

ps_status ps__ref_gemm(ps_queue *queue, const void *arguments)
{
	const ps_args_gemm *x = arguments;
	const struct call call = {*x, ps_gemm_is_bf16(x, queue->math)};
	return ps__cpu_launch(queue, gemm_kernel, &call, sizeof call);
}

static ps_status column_sum_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_args_column_sum *x = arguments;
	int64_t columns = ref_columns(x->x), rows = ps_tensor_count(x->x) / columns;
	for (int64_t first = 0; first < columns; first += TILE_N) {
		int64_t width = least(TILE_N, columns - first);
		double sums[TILE_N] = {0};
		for (int64_t j = 0; j < width && x->accumulate; j++)
			sums[j] = ref_get(x->y, first + j);
		for (int64_t r = 0; r < rows; r++)
			for (int64_t j = 0; j < width; j++)
				sums[j] += ref_get(x->x, r * columns + first + j);
		for (int64_t j = 0; j < width; j++)
			ref_set(x->y, first + j, sums[j]);
	}
	return PS_OK;
}
REF_OP(column_sum)
