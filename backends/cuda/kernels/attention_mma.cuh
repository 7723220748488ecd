/*
 * The tiles that attention_mma.cu goes through: factors rounded into shared memory, products of tensor cores there and
 * back, and where threads stand between the two.
 *
 * Tensor cores are reached through nvcuda::wmma, whose fragments say nothing of which lane has which element. So what
 * needs to know goes through shared memory: scores are stored there as floats, and threads lay weights down in their
 * place, rounded. Sums stay in fragments until they are written.
 */
#ifndef PS_BACKENDS_CUDA_KERNELS_ATTENTION_MMA_CUH
#define PS_BACKENDS_CUDA_KERNELS_ATTENTION_MMA_CUH

#include "backends/cuda/kernels/attention.cuh"

#include <mma.h>

#include <type_traits>

#if defined(__CUDACC__)
/*
 * wmma::load_matrix_sync of what lies in shared memory: one ldmatrix in bf16. By the pointer alone, which may be of any
 * memory, nvcc has four loads and, where rows and columns are exchanged, four exchanges in registers.
 */
#define PS_LOAD_SHARED(matrix, layout, k, stored, name, text)                                                     \
	__device__ inline void load_shared(nvcuda::wmma::fragment<nvcuda::wmma::matrix_##matrix, 16, 16, k, name, \
	                                                          nvcuda::wmma::layout##_major> &to,              \
	                                   const stored *from, unsigned step)                                     \
	{                                                                                                         \
		static_assert(sizeof to.x == 4 * sizeof(unsigned), "four registers");                             \
		unsigned *x = reinterpret_cast<unsigned *>(to.x);                                                 \
		asm volatile("wmma.load." #matrix ".sync.aligned." #layout ".m16n16k" #k ".shared." #text         \
		             " {%0, %1, %2, %3}, [%4], %5;"                                                       \
		             : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])                                     \
		             : "r"(unsigned(__cvta_generic_to_shared(from))), "r"(step)                           \
		             : "memory");                                                                         \
	}
#define PS_LOADS_SHARED(matrix, layout)                                        \
	PS_LOAD_SHARED(matrix, layout, 16, __nv_bfloat16, __nv_bfloat16, bf16) \
	PS_LOAD_SHARED(matrix, layout, 8, float, nvcuda::wmma::precision::tf32, tf32)
PS_LOADS_SHARED(a, row)
PS_LOADS_SHARED(a, col)
PS_LOADS_SHARED(b, row)
PS_LOADS_SHARED(b, col)
#endif

namespace ps
{

namespace wmma = nvcuda::wmma;

/* What factors are rounded to: how they lie in memory, as wmma names them, and how many of a sum one product takes. */
struct by_bf16 {
	using type = __nv_bfloat16;
	using name = __nv_bfloat16;
	static constexpr int k = 16;
};
struct by_tf32 {
	using type = float;
	using name = wmma::precision::tf32;
	static constexpr int k = 8;
};

struct mma_arguments : attention_arguments<float> {
	bool vector; /* rows of features are aligned to 16 bytes and end there */
};

/*
 * A tile of `side` positions, and how a block's warps and threads share it. Rows in shared memory are 16 bytes longer
 * than what is in them, so that eight rows are in different banks. 99 KiB is what each architecture has for a block.
 */
template <typename MATH, int FEATURES> struct form {
	using type = typename MATH::type;
	static constexpr int square = 16, k = MATH::k, features = FEATURES;
	static constexpr int side = FEATURES * int(sizeof(type)) > 512 ? 32 : 64;
	static constexpr int pitch = FEATURES + int(16 / sizeof(type));
	static constexpr int score_pitch = side + 4, weight_pitch = score_pitch * int(sizeof(float) / sizeof(type));
	static constexpr int factor_bytes = side * pitch * int(sizeof(type));
	static constexpr int bytes = 2 * factor_bytes + side * score_pitch * int(sizeof(float));
	static_assert(bytes <= 99 << 10 && factor_bytes % 32 == 0, "what a block may have, aligned as wmma wants it");

	/* Warps that have 16 rows together, and how many squares of 16 x 16 one has of scores and of sums. */
	static constexpr int warps = block_threads / warp_lanes, together = warps / (side / square);
	static constexpr int score_squares = side / square > together ? side / square / together : 1;
	static constexpr int sum_squares = FEATURES / square / together;

	/* Neighbours of a warp that have a row's quads between them, and how many rows a thread has a quad of. */
	static constexpr int lanes = side / 4, turns = side * lanes / block_threads, row_step = warp_lanes / lanes;
	static __device__ int row(int turn)
	{
		int lane = int(threadIdx.x) % warp_lanes;
		return (int(threadIdx.x) / warp_lanes * turns + turn) * row_step + lane / lanes;
	}
	static __device__ int column()
	{
		return int(threadIdx.x) % lanes * 4;
	}

	/* How many blocks share the registers: two, but for what takes much of them or of shared memory. */
	static constexpr int blocks = bytes > 80 << 10 ? 1 : 2;
	static constexpr int key_blocks = blocks == 2 && sum_squares * turns <= 8 ? 2 : 1;

	/* A block's dynamic shared memory: two tiles of factors, and scores or weights. */
	unsigned char *memory;
	__device__ type *left() const
	{
		return reinterpret_cast<type *>(memory);
	}
	__device__ type *right() const
	{
		return reinterpret_cast<type *>(memory + factor_bytes);
	}
	__device__ float *scores() const
	{
		return reinterpret_cast<float *>(memory + 2 * factor_bytes);
	}
	/* Those of a tile, and, where the scores' rows have room for two, of another one. */
	static constexpr bool two_weights = weight_pitch >= 2 * side;
	__device__ type *weights(int which = 0) const
	{
		return reinterpret_cast<type *>(memory + 2 * factor_bytes) + which * side;
	}

	using sums = wmma::fragment<wmma::accumulator, square, square, k, float>;
	template <typename USE, typename LAYOUT>
	using factor = wmma::fragment<USE, square, square, k, typename MATH::name, LAYOUT>;
};

__device__ inline uint32_t rounded_pair(float low, float high)
{
	__nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
	return *reinterpret_cast<const uint32_t *>(&pair);
}

/* Four neighbours into shared memory, rounded. */
__device__ inline void lay(__nv_bfloat16 *at, const float (&value)[4])
{
	*reinterpret_cast<uint2 *>(at) = {rounded_pair(value[0], value[1]), rounded_pair(value[2], value[3])};
}
__device__ inline void lay(float *at, const float (&value)[4])
{
	*reinterpret_cast<float4 *>(at) = {wmma::__float_to_tf32(value[0]), wmma::__float_to_tf32(value[1]),
	                                   wmma::__float_to_tf32(value[2]), wmma::__float_to_tf32(value[3])};
}

/* The features of a tile's positions from `first` on; 0 beyond the sequence and the head. */
template <typename F, bool VECTOR>
__device__ inline void bring_as(typename F::type *to, const mma_arguments &x, strip<const float> from, int64_t first)
{
	constexpr int in_row = F::features / 4, step = block_threads / in_row, quads = F::side / step;
	/* How many are asked for before any is waited for. */
	constexpr int batch = VECTOR ? 4 : 1;
	int row = int(threadIdx.x) / in_row, f = int(threadIdx.x) % in_row * 4, left = int(x.features) - f;
	const float *at = from.row(first + row) + f;
	int inside = x.time - first < F::side ? int(x.time - first) : F::side;
	to += row * F::pitch + f;
#pragma unroll 1
	for (int done = 0; done < quads; done += batch) {
		alignas(16) float next[batch][4];
#pragma unroll
		for (int u = 0; u < batch; u++) {
			load4<VECTOR>(next[u], at, row < inside ? left : 0);
			at += step * from.step;
			row += step;
		}
#pragma unroll
		for (int u = 0; u < batch; u++) {
			lay(to, next[u]);
			to += step * F::pitch;
		}
	}
}

template <typename F>
__device__ inline void bring(typename F::type *to, const mma_arguments &x, strip<const float> from, int64_t first)
{
	if (x.vector)
		bring_as<F, true>(to, x, from, first);
	else
		bring_as<F, false>(to, x, from, first);
}

/* Row and first square of a warp that has so many of them. */
template <typename F> struct seat_of_warp {
	int row, square;
	__device__ explicit seat_of_warp(int squares)
	    : row(int(threadIdx.x) / warp_lanes / F::together * F::square),
	      square(int(threadIdx.x) / warp_lanes % F::together * squares)
	{
	}
};

/*
 * scores = a b^T, where a and b are tiles of factors. A barrier comes first and one last, as in `accumulate`: what
 * threads have laid down is there for all, and is no longer read when they go on.
 */
template <typename F>
__device__ inline void multiply(const F &s, const mma_arguments &x, const typename F::type *a,
                                const typename F::type *b)
{
	const seat_of_warp<F> seat(F::score_squares);
	__syncthreads();
	if (seat.square * F::square < F::side) {
		typename F::sums sum[F::score_squares];
#pragma unroll
		for (int c = 0; c < F::score_squares; c++)
			wmma::fill_fragment(sum[c], 0.0F);
#pragma unroll 2
		for (int f = 0; f < int(x.features); f += F::k) {
			typename F::template factor<wmma::matrix_a, wmma::row_major> left;
			load_shared(left, a + seat.row * F::pitch + f, F::pitch);
#pragma unroll
			for (int c = 0; c < F::score_squares; c++) {
				typename F::template factor<wmma::matrix_b, wmma::col_major> right;
				load_shared(right, b + (seat.square + c) * F::square * F::pitch + f, F::pitch);
				wmma::mma_sync(sum[c], left, right, sum[c]);
			}
		}
#pragma unroll
		for (int c = 0; c < F::score_squares; c++)
			wmma::store_matrix_sync(s.scores() + seat.row * F::score_pitch + (seat.square + c) * F::square,
			                        sum[c], F::score_pitch, wmma::mem_row_major);
	}
	__syncthreads();
}

template <typename F> __device__ inline void clear(typename F::sums (&sum)[F::sum_squares])
{
#pragma unroll
	for (int c = 0; c < F::sum_squares; c++)
		wmma::fill_fragment(sum[c], 0.0F);
}

/* sum += the weights, or for TRANSPOSED their transpose, times a tile of factors. */
template <typename F, bool TRANSPOSED>
__device__ inline void accumulate(const typename F::type *weights, const typename F::type *values,
                                  typename F::sums (&sum)[F::sum_squares])
{
	using layout = typename std::conditional<TRANSPOSED, wmma::col_major, wmma::row_major>::type;
	const seat_of_warp<F> seat(F::sum_squares);
	__syncthreads();
#pragma unroll 1
	for (int j = 0; j < F::side; j += F::k) {
		typename F::template factor<wmma::matrix_a, layout> weight;
		load_shared(weight,
		            weights + (TRANSPOSED ? j * F::weight_pitch + seat.row : seat.row * F::weight_pitch + j),
		            F::weight_pitch);
#pragma unroll
		for (int c = 0; c < F::sum_squares; c++) {
			typename F::template factor<wmma::matrix_b, wmma::row_major> value;
			load_shared(value, values + j * F::pitch + (seat.square + c) * F::square, F::pitch);
			wmma::mma_sync(sum[c], weight, value, sum[c]);
		}
	}
	__syncthreads();
}

/* Rows of a tile's sums times `factor`, by way of the factors' memory, which nobody reads any more; ends likewise. */
template <typename F>
__device__ inline void write(const F &s, const mma_arguments &x, strip<float> out, int64_t first, float factor,
                             const typename F::sums (&sum)[F::sum_squares])
{
	constexpr int pitch = F::features + 4, in_row = F::features / 4;
	static_assert(F::side * pitch * int(sizeof(float)) <= 2 * F::factor_bytes, "it fits there");
	const seat_of_warp<F> seat(F::sum_squares);
	float *rows = reinterpret_cast<float *>(s.memory);
#pragma unroll
	for (int c = 0; c < F::sum_squares; c++)
		wmma::store_matrix_sync(rows + seat.row * pitch + (seat.square + c) * F::square, sum[c], pitch,
		                        wmma::mem_row_major);
	__syncthreads();
	for (int unit = int(threadIdx.x); unit < F::side * in_row; unit += block_threads) {
		int row = unit / in_row, f = unit % in_row * 4;
		int64_t left = first + row < x.time ? x.features - f : 0;
		PS_QUAD(float, value);
		load4<true>(value, rows + row * pitch + f, 4);
#pragma unroll
		for (int i = 0; i < 4; i++)
			value[i] *= factor;
		if (x.vector)
			put4<true>(out.row(first + row) + f, value, left);
		else
			put4<false>(out.row(first + row) + f, value, left);
	}
	__syncthreads();
}

} // namespace ps
#endif
