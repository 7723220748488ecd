/*
 * The tiles that attention.cu goes through: where threads stand, 32 x 32 products from shared memory, and what is added
 * up with 32 positions' weights.
 */
#ifndef PS_BACKENDS_CUDA_KERNELS_ATTENTION_TILES_CUH
#define PS_BACKENDS_CUDA_KERNELS_ATTENTION_TILES_CUH

#include "backends/cuda/kernels/attention.cuh"

namespace ps
{

constexpr int groups = 4; /* of lanes of a warp: each adds up a quarter of the features of a product */
static_assert(block_threads == tile / 4 * warp_lanes, "a warp has four rows of a tile");

enum role { QUERIES, KEYS, VALUES, ROLES };

/* Where a thread is in a tile of products: a row, and the first of four columns. */
struct seat {
	int warp, group, lane;
	__device__ int row() const
	{
		return 4 * warp + group;
	}
	__device__ int column() const
	{
		return 4 * lane;
	}
};

__device__ inline seat seat_of()
{
	int lane = int(threadIdx.x) % warp_lanes;
	return seat{int(threadIdx.x) / warp_lanes, lane / 8, lane % 8};
}

/*
 * Shared memory. Rows of `side` are 16 bytes longer than a slice of features, so that eight rows are in different
 * banks; `weights` has its quads of columns exchanged by row for the same end.
 */
template <typename T, int FEATURES> struct room {
	static constexpr int slice = int(256 / sizeof(T)), pitch = slice + int(16 / sizeof(T));
	union {
		alignas(16) T side[2][tile][pitch];
		alignas(16) T values[tile][FEATURES];
	};
	alignas(16) T weights[tile][tile];

	__device__ T *quad(int row, int column)
	{
		return &weights[row][(column / 4 ^ row / 4) * 4];
	}
};

/* A thread's quads of a slice of features from `f` on: the first half of a's rows, the second of b's. */
template <bool VECTOR, typename T, int QUADS>
__device__ inline void fetch_sides(T (&next)[QUADS][4], const attention_arguments<T> &x, strip<const T> a,
                                   int64_t a_first, strip<const T> b, int64_t b_first, int64_t f, int in_row)
{
	int thread = int(thread_anew());
#pragma unroll
	for (int u = 0; u < QUADS; u++) {
		int unit = thread + u % (QUADS / 2) * block_threads;
		int64_t position = (u < QUADS / 2 ? a_first : b_first) + unit / in_row, at = f + unit % in_row * 4;
		const T *from = (u < QUADS / 2 ? a : b).row(position) + at;
		load4<VECTOR>(next[u], from, position < x.time ? x.features - at : 0);
	}
}

/* The groups' sums of 4 x 4 products to a row of four complete ones for each group. The pairs are the same for all. */
template <typename T> __device__ inline void join_groups(const T (&sum)[4][4], int group, T (&score)[4])
{
	bool upper = group & 2, odd = group & 1;
	T half[2][4];
#pragma unroll
	for (int r = 0; r < 2; r++)
#pragma unroll
		for (int c = 0; c < 4; c++) {
			T other = __shfl_xor_sync(0xffffffffU, upper ? sum[r][c] : sum[r + 2][c], 16);
			half[r][c] = (upper ? sum[r + 2][c] : sum[r][c]) + other;
		}
#pragma unroll
	for (int c = 0; c < 4; c++)
		score[c] = (odd ? half[1][c] : half[0][c]) +
		           __shfl_xor_sync(0xffffffffU, odd ? half[0][c] : half[1][c], 8);
}

/*
 * score[c] = dot(a of position a_first + row, b of position b_first + column + c). What is beyond the sequence counts
 * as 0. Column 4 j + c of b lies at j + 8 c, for a thread's four columns are neighbours.
 */
template <bool VECTOR, typename T, int FEATURES>
__device__ inline void products(const attention_arguments<T> &x, strip<const T> a, int64_t a_first, strip<const T> b,
                                int64_t b_first, room<T, FEATURES> &s, T (&score)[4])
{
	constexpr int slice = room<T, FEATURES>::slice, in_row = slice / 4, quads = 2 * tile * in_row / block_threads;
	const seat seat = seat_of();
	alignas(16) T next[quads][4];
	T sum[4][4] = {};
	fetch_sides<VECTOR>(next, x, a, a_first, b, b_first, 0, in_row);
	for (int64_t f = 0; f < x.features; f += slice) {
		__syncthreads();
#pragma unroll
		for (int u = 0; u < quads; u++) {
			int unit = int(threadIdx.x) + u % (quads / 2) * block_threads, row = unit / in_row;
			int slot = u < quads / 2 ? row : row / 4 + row % 4 * 8;
			store4<is_float<T>>(&s.side[u / (quads / 2)][slot][unit % in_row * 4], next[u], 4);
		}
		__syncthreads();
		if (f + slice < x.features)
			fetch_sides<VECTOR>(next, x, a, a_first, b, b_first, f + slice, in_row);
		int end = x.features - f < slice ? int(x.features - f) : slice;
		for (int k = 4 * seat.group; k < end; k += 4 * groups) {
			alignas(16) T left[4][4], right[4][4];
#pragma unroll
			for (int i = 0; i < 4; i++) {
				load4<is_float<T>>(left[i], &s.side[0][4 * seat.warp + i][k], 4);
				load4<is_float<T>>(right[i], &s.side[1][seat.lane + 8 * i][k], 4);
			}
#pragma unroll
			for (int q = 0; q < 4; q++)
#pragma unroll
				for (int r = 0; r < 4; r++)
#pragma unroll
					for (int c = 0; c < 4; c++)
						sum[r][c] += left[r][q] * right[c][q];
		}
	}
	join_groups(sum, seat.group, score);
}

/* How threads share what a block writes: FEATURES / 4 lanes have four features of `rows` of a warp's four rows each. */
template <typename T, int FEATURES> struct share {
	static constexpr int lanes = FEATURES / 4, rows = 4 * lanes / warp_lanes;
	static constexpr int quads = tile * lanes / block_threads; /* of the values, for a thread to bring */
	static __device__ int row(int r)
	{
		int lane = int(threadIdx.x) % warp_lanes;
		return int(threadIdx.x) / warp_lanes * 4 + lane / lanes * rows + r;
	}
	static __device__ int feature()
	{
		return int(threadIdx.x) % lanes * 4;
	}
};

/* A thread's quads of 32 positions from `first` on, FEATURES features from `f` on. */
template <bool VECTOR, typename T, int FEATURES>
__device__ inline void fetch_values(const attention_arguments<T> &x, strip<const T> from, int64_t first, int64_t f,
                                    T (&next)[share<T, FEATURES>::quads][4])
{
	constexpr int lanes = share<T, FEATURES>::lanes;
	int thread = int(thread_anew());
	int64_t at = f + thread % lanes * 4;
#pragma unroll
	for (int u = 0; u < share<T, FEATURES>::quads; u++) {
		int64_t position = first + (thread + u * block_threads) / lanes;
		load4<VECTOR>(next[u], from.row(position) + at, position < x.time ? x.features - at : 0);
	}
}

/* sum += the weights times the fetched values. The weights were written just before; ends with a barrier. */
template <typename T, int FEATURES>
__device__ inline void accumulate(const T (&next)[share<T, FEATURES>::quads][4], room<T, FEATURES> &s,
                                  T (&sum)[share<T, FEATURES>::rows][4])
{
	using own = share<T, FEATURES>;
	int feature = own::feature();
	__syncthreads();
#pragma unroll
	for (int u = 0; u < own::quads; u++)
		store4<is_float<T>>(&s.values[(int(threadIdx.x) + u * block_threads) / own::lanes][feature], next[u],
		                    4);
	__syncthreads();
#pragma unroll 2
	for (int j = 0; j < tile; j += 4) {
		alignas(16) T weight[own::rows][4], value[4];
#pragma unroll
		for (int r = 0; r < own::rows; r++)
			load4<is_float<T>>(weight[r], s.quad(own::row(r), j), 4);
#pragma unroll
		for (int q = 0; q < 4; q++) {
			load4<is_float<T>>(value, &s.values[j + q][feature], 4);
#pragma unroll
			for (int r = 0; r < own::rows; r++)
#pragma unroll
				for (int i = 0; i < 4; i++)
					sum[r][i] += weight[r][q] * value[i];
		}
	}
	__syncthreads();
}

template <bool VECTOR, typename T, int FEATURES>
__device__ inline void write(const attention_arguments<T> &x, strip<T> out, int64_t first, int64_t f, T factor,
                             T (&sum)[share<T, FEATURES>::rows][4])
{
	using own = share<T, FEATURES>;
	int64_t feature = f + own::feature();
#pragma unroll
	for (int r = 0; r < own::rows; r++) {
		int64_t position = first + own::row(r);
#pragma unroll
		for (int i = 0; i < 4; i++)
			sum[r][i] *= factor;
		if (position < x.time)
			put4<VECTOR>(out.row(position) + feature, sum[r], x.features - feature);
	}
}

} // namespace ps
#endif
