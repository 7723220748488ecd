/*
 * Sums over rows in ascending order: the gradients of a bias and of LayerNorm's weights.
 *
 * The order leaves one addition after the other for each column, so that the work is spread over the loads instead: a
 * block takes 32 columns, all its threads bring tiles of 32 rows into shared memory, and one warp per sum adds the tile
 * before while the next one is on its way.
 *
 * Bytes (fp32): column_sum 4 rows * columns, layernorm_bwd_weight 8 rows * columns; 1 and 5 operations per element.
 */
#include "backends/cuda/kernels/common.cuh"

namespace ps
{
namespace
{

constexpr int tile_columns = 32;
constexpr int tile_rows = 32;
constexpr int per_thread = tile_rows * tile_columns / block_threads;

template <typename T> struct sums_arguments {
	const T *dy, *x, *mean, *rstd;
	T *first, *second; /* the sums of dy * xhat (NORM) or dy, and of dy (NORM) */
	int64_t rows, columns;
	bool accumulate;
	const int *stop;
};

template <typename T, bool NORM>
__device__ inline void fetch(const sums_arguments<T> &x, int64_t row, int64_t column, T (&first)[per_thread],
                             T (&second)[per_thread])
{
#pragma unroll
	for (int i = 0; i < per_thread; i++) {
		int64_t r = row + i * (tile_rows / per_thread);
		first[i] = second[i] = T(0);
		if (r >= x.rows || column >= x.columns)
			continue;
		T dy = x.dy[r * x.columns + column];
		first[i] = NORM ? dy * ((x.x[r * x.columns + column] - x.mean[r]) * x.rstd[r]) : dy;
		second[i] = dy;
	}
}

template <typename T, bool NORM> __global__ void sums_kernel(sums_arguments<T> x)
{
	__shared__ T tile[NORM ? 2 : 1][2][tile_rows][tile_columns];
	if (*x.stop)
		return;
	int lane = int(threadIdx.x) % tile_columns, group = int(threadIdx.x) / tile_columns;
	int64_t column = int64_t(blockIdx.x) * tile_columns + lane;
	/* Group 0 adds the first sum, group 1 the second. */
	bool adds = group < (NORM ? 2 : 1) && column < x.columns;
	T *out = group == 0 ? x.first : x.second;
	T sum = adds && x.accumulate ? out[column] : T(0);
	T first[per_thread], second[per_thread];
	fetch<T, NORM>(x, group, column, first, second);
	int buffer = 0;
	for (int64_t row = 0; row < x.rows; row += tile_rows, buffer ^= 1) {
#pragma unroll
		for (int i = 0; i < per_thread; i++) {
			int r = group + i * (tile_rows / per_thread);
			tile[0][buffer][r][lane] = first[i];
			if (NORM)
				tile[NORM ? 1 : 0][buffer][r][lane] = second[i];
		}
		__syncthreads();
		if (row + tile_rows < x.rows)
			fetch<T, NORM>(x, row + tile_rows + group, column, first, second);
		int count = x.rows - row < tile_rows ? int(x.rows - row) : tile_rows;
		if (adds)
			for (int r = 0; r < count; r++)
				sum += tile[group < 2 && NORM ? group : 0][buffer][r][lane];
	}
	if (adds)
		out[column] = sum;
}

template <typename T, bool NORM>
cudaError_t launch_sums(const ps_cuda_launch *launch, const void *dy, const void *x, const void *mean, const void *rstd,
                        void *first, void *second, int64_t rows, int64_t columns, bool accumulate)
{
	sums_arguments<T> arguments = {static_cast<const T *>(dy),
	                               static_cast<const T *>(x),
	                               static_cast<const T *>(mean),
	                               static_cast<const T *>(rstd),
	                               static_cast<T *>(first),
	                               static_cast<T *>(second),
	                               rows,
	                               columns,
	                               accumulate,
	                               launch->stop};
	void (*kernel)(sums_arguments<T>) = sums_kernel<T, NORM>;
	return PS_LAUNCH(kernel, blocks_for(columns, tile_columns), block_threads, 0, launch->stream, arguments);
}

} // namespace
} // namespace ps

extern "C" cudaError_t ps__cuda_column_sum(const ps_cuda_launch *launch, const void *x, void *y, int64_t rows,
                                           int64_t columns, bool accumulate)
{
	if (launch->dtype == PS_F64)
		return ps::launch_sums<double, false>(launch, x, nullptr, nullptr, nullptr, y, nullptr, rows, columns,
		                                      accumulate);
	return ps::launch_sums<float, false>(launch, x, nullptr, nullptr, nullptr, y, nullptr, rows, columns,
	                                     accumulate);
}

extern "C" cudaError_t ps__cuda_layernorm_bwd_weight(const ps_cuda_launch *launch, const void *dy, const void *x,
                                                     const void *mean, const void *rstd, void *dgamma, void *dbeta,
                                                     int64_t rows, int64_t columns, bool accumulate)
{
	if (launch->dtype == PS_F64)
		return ps::launch_sums<double, true>(launch, dy, x, mean, rstd, dgamma, dbeta, rows, columns,
		                                     accumulate);
	return ps::launch_sums<float, true>(launch, dy, x, mean, rstd, dgamma, dbeta, rows, columns, accumulate);
}
