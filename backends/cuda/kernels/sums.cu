/*
 * Sums over rows in ascending order: the gradients of a bias and of LayerNorm's weights.
 *
 * The order leaves one addition after the other for each column, so that the work is spread over the loads instead: all
 * threads of a block bring a tile of 32 columns into registers and from there into shared memory, and one warp per sum
 * adds it up while the next tile is on its way.
 *
 * Bytes (fp32): column_sum 4 rows * columns, layernorm_bwd_weight 8 rows * columns; 1 and 4 operations per element. So
 * the memory bounds them on an H100: 500 rows of 4096 columns take 2.4 us and 4.9 us, of 28,782 columns 17 us. A block
 * has 16 KiB on their way, as many as its multiprocessor's share of the bandwidth needs; 4096 columns are 128 blocks.
 */
#include "backends/cuda/kernels/common.cuh"

namespace ps
{
namespace
{

constexpr int tile_columns = 32;
constexpr int quads_in_row = tile_columns / 4;
constexpr int tile_bytes = 16 * 1024;

template <typename T> struct sums_arguments {
	const T *dy, *x, *mean, *rstd;
	T *first, *second; /* the sums of dy * xhat (NORM) or dy, and of dy (NORM) */
	int64_t rows, columns;
	bool accumulate;
	const int *stop;
};

/* Rows of a tile, and how many quads of it a thread brings. */
template <typename T, bool NORM> struct tile_of {
	static constexpr int rows = tile_bytes / (tile_columns * int(sizeof(T))) / (NORM ? 2 : 1);
	static constexpr int quads = rows * quads_in_row / block_threads;
};

/* A thread's quads of the tile at `row`: every 32nd row from its own on. */
template <typename T, bool NORM, int ACCESS, int QUADS>
__device__ inline void fetch(const sums_arguments<T> &x, int64_t row, int64_t column, T (&dy)[QUADS][4],
                             T (&normal)[NORM ? QUADS : 1][4])
{
	int64_t left = x.columns - column;
#pragma unroll
	for (int k = 0; k < QUADS; k++) {
		int64_t r = row + k * (block_threads / quads_in_row), at = r * x.columns + column;
		int64_t inside = r < x.rows ? left : 0;
		load_row<ACCESS>(dy[k], x.dy + at, inside);
		if (NORM)
			load_row<ACCESS>(normal[NORM ? k : 0], x.x + at, inside);
	}
	/* After the loads, so that all of them are on their way. */
#pragma unroll
	for (int k = 0; NORM && k < QUADS; k++) {
		int64_t r = row + k * (block_threads / quads_in_row);
		T mean = r < x.rows ? x.mean[r] : T(0), rstd = r < x.rows ? x.rstd[r] : T(0);
#pragma unroll
		for (int i = 0; i < 4; i++)
			normal[NORM ? k : 0][i] = dy[k][i] * ((normal[NORM ? k : 0][i] - mean) * rstd);
	}
}

template <typename T, bool NORM, int ACCESS>
__global__ void __launch_bounds__(block_threads) sums_kernel(sums_arguments<T> x)
{
	constexpr int rows_in_tile = tile_of<T, NORM>::rows, quads = tile_of<T, NORM>::quads;
	__shared__ T tile[NORM ? 2 : 1][rows_in_tile][tile_columns];
	bool stop = *x.stop;
	int lane = int(threadIdx.x) % tile_columns, group = int(threadIdx.x) / tile_columns;
	int first_row = int(threadIdx.x) / quads_in_row, place = int(threadIdx.x) % quads_in_row * 4;
	int64_t column = int64_t(blockIdx.x) * tile_columns + lane;
	int64_t place_column = int64_t(blockIdx.x) * tile_columns + place;
	/* Warp 0 adds the first sum, warp 1 the second. */
	bool adds = group < (NORM ? 2 : 1) && column < x.columns;
	T *out = group == 0 ? x.first : x.second;
	T sum = adds && x.accumulate ? out[column] : T(0);
	alignas(16) T dy[quads][4], normal[NORM ? quads : 1][4];
	fetch<T, NORM, ACCESS, quads>(x, first_row, place_column, dy, normal);
	for (int64_t row = 0; row < x.rows; row += rows_in_tile) {
#pragma unroll
		for (int k = 0; k < quads; k++) {
			int r = first_row + k * (block_threads / quads_in_row);
			store4<sizeof(T) == sizeof(float)>(&tile[NORM ? 1 : 0][r][place], dy[k], 4);
			if (NORM)
				store4<sizeof(T) == sizeof(float)>(&tile[0][r][place], normal[NORM ? k : 0], 4);
		}
		__syncthreads();
		if (row + rows_in_tile < x.rows)
			fetch<T, NORM, ACCESS, quads>(x, row + rows_in_tile + first_row, place_column, dy, normal);
		int count = x.rows - row < rows_in_tile ? int(x.rows - row) : rows_in_tile;
		if (adds)
			for (int r = 0; r < count; r++)
				sum += tile[NORM ? group : 0][r][lane];
		__syncthreads();
	}
	if (adds && !stop)
		out[column] = sum;
}

template <bool NORM> struct sums_body {
	const ps_cuda_launch *launch;
	const void *dy, *x, *mean, *rstd;
	void *first, *second;
	int64_t rows, columns;
	bool accumulate;

	template <typename T, int ACCESS> cudaError_t run() const
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
		void (*kernel)(sums_arguments<T>) = sums_kernel<T, NORM, ACCESS>;
		return PS_LAUNCH(kernel, blocks_for(columns, tile_columns), block_threads, 0, launch->stream,
		                 arguments);
	}
};

} // namespace
} // namespace ps

extern "C" cudaError_t ps__cuda_column_sum(const ps_cuda_launch *launch, const void *x, void *y, int64_t rows,
                                           int64_t columns, bool accumulate)
{
	ps::sums_body<false> body = {launch, x, nullptr, nullptr, nullptr, y, nullptr, rows, columns, accumulate};
	return ps::by_access(launch->dtype, ps::bits_of(x), columns, body);
}

extern "C" cudaError_t ps__cuda_layernorm_bwd_weight(const ps_cuda_launch *launch, const void *dy, const void *x,
                                                     const void *mean, const void *rstd, void *dgamma, void *dbeta,
                                                     int64_t rows, int64_t columns, bool accumulate)
{
	ps::sums_body<true> body = {launch, dy, x, mean, rstd, dgamma, dbeta, rows, columns, accumulate};
	return ps::by_access(launch->dtype, ps::bits_of(dy, x), columns, body);
}
