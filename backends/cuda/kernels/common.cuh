/*
 * What the kernels share: launching, quads of elements, sums over a block, random numbers and dropout.
 *
 * The same sources are compiled by nvcc and, for tests without a GPU, by a C++ compiler with an emulation of what they
 * use of CUDA (tests/cuda/emulated). Hence they launch through PS_LAUNCH and take dynamic shared memory through
 * PS_DYNAMIC_SHARED.
 *
 * Rules that all kernels keep:
 *   - no atomics on floating point, and no order of additions that depends on anything but the op's shape: neither on
 *     the alignment of a pointer nor on how many sample rows a call has;
 *   - threads of a block all reach each barrier;
 *   - the first thing a kernel does is to return when the queue's stop flag is set, which a failed range check sets, so
 *     that what is behind a failure on the stream is skipped there.
 */
#ifndef PS_BACKENDS_CUDA_KERNELS_COMMON_CUH
#define PS_BACKENDS_CUDA_KERNELS_COMMON_CUH

#include "backends/cuda/kernels/kernels.h"

#include <cuda_runtime.h>

#if defined(__CUDACC__)
/* It would take the launch's brackets apart. */
/* clang-format off */
#define PS_LAUNCH(kernel, blocks, threads, shared, stream, ...) \
	((kernel)<<<(blocks), (threads), (shared), (stream)>>>(__VA_ARGS__), cudaGetLastError())
/* clang-format on */
#define PS_DYNAMIC_SHARED(type, name)                                        \
	extern __shared__ __align__(128) unsigned char ps_dynamic_shared_[]; \
	type *name = reinterpret_cast<type *>(ps_dynamic_shared_)
#endif

namespace ps
{

constexpr int warp_lanes = 32;
constexpr int block_threads = 256;

/* Are all the pointers good for 16-byte accesses of quads? A NULL pointer is. */
inline bool aligned16(const void *a, const void *b = nullptr, const void *c = nullptr, const void *d = nullptr,
                      const void *e = nullptr)
{
	uintptr_t bits = reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) |
	                 reinterpret_cast<uintptr_t>(c) | reinterpret_cast<uintptr_t>(d) |
	                 reinterpret_cast<uintptr_t>(e);
	return bits % 16 == 0;
}

/* a / b for numbers that are not negative; in 32 bits, which takes a quarter of the time, where they fit. */
__device__ inline int64_t quotient(int64_t a, int64_t b)
{
	return (a | b) >> 32 ? a / b : int64_t(uint32_t(a) / uint32_t(b));
}

/*
 * Four elements from `at` on, of which the first `left` exist; those that do not are 0. VECTOR: all of them exist or
 * none does, they are floats, and `at` is aligned to 16 bytes, so that they are one access.
 */
template <bool VECTOR, typename T> __device__ inline void load4(T (&value)[4], const T *at, int64_t left)
{
	if (VECTOR) {
		float4 quad = {};
		if (left > 0)
			quad = *reinterpret_cast<const float4 *>(at);
		*reinterpret_cast<float4 *>(value) = quad;
	} else {
#pragma unroll
		for (int i = 0; i < 4; i++)
			value[i] = i < left ? at[i] : T(0);
	}
}

template <bool VECTOR, typename T> __device__ inline void store4(T *at, const T (&value)[4], int64_t left)
{
	if (VECTOR) {
		if (left > 0)
			*reinterpret_cast<float4 *>(at) = *reinterpret_cast<const float4 *>(value);
	} else {
#pragma unroll
		for (int i = 0; i < 4; i++)
			if (i < left)
				at[i] = value[i];
	}
}

/*
 * load4 and store4 of rows that start at a multiple of ACCESS floats and end at one. Pairs are for an even number of
 * columns that is no multiple of four, such as 28,782.
 */
template <int ACCESS, typename T> __device__ inline void load_row(T (&value)[4], const T *at, int64_t left)
{
	if (ACCESS == 2) {
		const float2 *pairs = reinterpret_cast<const float2 *>(at);
		float2 first = {}, second = {};
		if (left > 0)
			first = pairs[0];
		if (left > 2)
			second = pairs[1];
		*reinterpret_cast<float2 *>(value) = first;
		*reinterpret_cast<float2 *>(value + 2) = second;
	} else {
		load4<ACCESS == 4>(value, at, left);
	}
}

template <int ACCESS, typename T> __device__ inline void store_row(T *at, const T (&value)[4], int64_t left)
{
	if (ACCESS == 2) {
		float2 *pairs = reinterpret_cast<float2 *>(at);
		if (left > 0)
			pairs[0] = *reinterpret_cast<const float2 *>(value);
		if (left > 2)
			pairs[1] = *reinterpret_cast<const float2 *>(value + 2);
	} else {
		store4<ACCESS == 4>(at, value, left);
	}
}

/* The same where rows start so but end anywhere. */
template <int ACCESS, typename T> __device__ inline void load_end(T (&value)[4], const T *at, int64_t left)
{
	if (left >= 4)
		load_row<ACCESS>(value, at, left);
	else
		load4<false>(value, at, left);
}

template <int ACCESS, typename T> __device__ inline void store_end(T *at, const T (&value)[4], int64_t left)
{
	if (left >= 4)
		store_row<ACCESS>(at, value, left);
	else
		store4<false>(at, value, left);
}

/* A bf16 number in memory, as penstock/bf16.h has it; kernels compute with floats. */
struct bf16 {
	uint16_t bits;
};

struct alignas(8) bf16_quad {
	bf16 at[4];
};

/* What elements are computed with. */
template <typename T> struct computed {
	using type = T;
};
template <> struct computed<bf16> {
	using type = float;
};

__device__ inline float widen(bf16 value)
{
	return __uint_as_float(uint32_t(value.bits) << 16);
}

/* Adds `add` below the bits that are kept, which rounds; a NaN stays one. */
__device__ inline bf16 cut(float value, uint32_t add)
{
	uint32_t bits = __float_as_uint(value);
	bool nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
	return bf16{uint16_t(nan ? bits >> 16 | 0x40 : (bits + add) >> 16)};
}

/* To the nearest, ties to even. */
__device__ inline bf16 narrow(float value)
{
	return cut(value, 0x7FFFU + (__float_as_uint(value) >> 16 & 1));
}

template <bool VECTOR> __device__ inline void load4(float (&value)[4], const bf16 *at, int64_t left)
{
	bf16_quad quad = {};
	if (VECTOR) {
		if (left > 0)
			quad = *reinterpret_cast<const bf16_quad *>(at);
	} else {
#pragma unroll
		for (int i = 0; i < 4; i++)
			if (i < left)
				quad.at[i] = at[i];
	}
#pragma unroll
	for (int i = 0; i < 4; i++)
		value[i] = widen(quad.at[i]);
}

template <bool VECTOR> __device__ inline void store4(bf16 *at, const float (&value)[4], int64_t left)
{
	if (VECTOR) {
		/* As one number, for nvcc may store a structure in parts. */
		uint64_t quad = 0;
#pragma unroll
		for (int i = 0; i < 4; i++)
			quad |= uint64_t(narrow(value[i]).bits) << 16 * i;
		if (left > 0)
			*reinterpret_cast<uint64_t *>(at) = quad;
	} else {
#pragma unroll
		for (int i = 0; i < 4; i++)
			if (i < left)
				at[i] = narrow(value[i]);
	}
}

/* A register array that load4 and store4 may see as vectors. */
#define PS_QUAD(T, name) alignas(16) T name[4]

__device__ inline float exp_of(float x)
{
	return expf(x);
}
__device__ inline double exp_of(double x)
{
	return exp(x);
}
__device__ inline float log_of(float x)
{
	return logf(x);
}
__device__ inline double log_of(double x)
{
	return log(x);
}
__device__ inline float root_of(float x)
{
	return sqrtf(x);
}
__device__ inline double root_of(double x)
{
	return sqrt(x);
}

/* The sum over a warp, the same in all lanes: a butterfly adds the same pairs everywhere. */
template <typename T> __device__ inline T warp_sum(T value)
{
#pragma unroll
	for (int lanes = warp_lanes / 2; lanes > 0; lanes /= 2)
		value += __shfl_xor_sync(0xffffffffU, value, lanes);
	return value;
}

template <typename T> __device__ inline T warp_max(T value)
{
#pragma unroll
	for (int lanes = warp_lanes / 2; lanes > 0; lanes /= 2) {
		T other = __shfl_xor_sync(0xffffffffU, value, lanes);
		value = other > value ? other : value;
	}
	return value;
}

/* The sum over a block of whole warps, the same in all threads. `room` has an element for each warp and must not be
 * used again before another barrier. */
template <typename T> __device__ inline T block_sum(T value, T *room)
{
	unsigned lane = threadIdx.x % warp_lanes;
	value = warp_sum(value);
	if (lane == 0)
		room[threadIdx.x / warp_lanes] = value;
	__syncthreads();
	return warp_sum(lane < blockDim.x / warp_lanes ? room[lane] : T(0));
}

template <typename T> __device__ inline T block_max(T value, T *room)
{
	unsigned lane = threadIdx.x % warp_lanes;
	value = warp_max(value);
	if (lane == 0)
		room[threadIdx.x / warp_lanes] = value;
	__syncthreads();
	return warp_max(room[lane < blockDim.x / warp_lanes ? lane : 0]);
}

/* Philox4x32-10 (Salmon et al., SC 2011), as docs/random.md lays it out: the words of one block. */
struct words {
	uint32_t w[4];
};

__device__ inline words philox(const ps_cuda_dropout &d, uint32_t row, uint32_t block)
{
	uint32_t c0 = block, c1 = row, c2 = d.turn ? __ldg(&d.turn->step) : d.step, c3 = d.place, k0 = d.key[0],
	         k1 = d.key[1];
#pragma unroll
	for (int round = 0; round < 10; round++) {
		uint32_t high0 = __umulhi(0xD2511F53U, c0), low0 = 0xD2511F53U * c0;
		uint32_t high1 = __umulhi(0xCD9E8D57U, c2), low1 = 0xCD9E8D57U * c2;
		c0 = high1 ^ c1 ^ k0;
		c1 = low1;
		c2 = high0 ^ c3 ^ k1;
		c3 = low0;
		k0 += 0x9E3779B9U;
		k1 += 0xBB67AE85U;
	}
	return words{{c0, c1, c2, c3}};
}

__device__ inline uint32_t word_at(const words &block, int64_t element)
{
	/* Without an index into registers. */
	uint32_t low = element & 1 ? block.w[1] : block.w[0], high = element & 1 ? block.w[3] : block.w[2];
	return element & 2 ? high : low;
}

/* value / (1 - p) or 0, by the mask's word. */
template <typename T> __device__ inline T drop_by(const ps_cuda_dropout &d, uint32_t word, T value)
{
	return word >= d.threshold ? value * T(d.factor) : T(0);
}

/* Dropout of four neighbours within one sample row, from `element` on. */
template <typename T>
__device__ inline void drop4_in_row(const ps_cuda_dropout &d, uint32_t row, int64_t element, T (&value)[4])
{
	words block = philox(d, row, uint32_t(element / 4));
	if (element % 4 == 0) {
#pragma unroll
		for (int i = 0; i < 4; i++)
			value[i] = drop_by(d, block.w[i], value[i]);
		return;
	}
	words next = philox(d, row, uint32_t(element / 4) + 1);
#pragma unroll
	for (int i = 0; i < 4; i++) {
		bool here = (element + i) / 4 == element / 4;
		/* Not a choice between the blocks, which would put both into memory. */
		uint32_t word = here ? word_at(block, element + i) : word_at(next, element + i);
		value[i] = drop_by(d, word, value[i]);
	}
}

/* Dropout of the elements [at, at + 4) of a tensor with `elements` in each sample row. */
template <typename T>
__device__ inline void drop4(const ps_cuda_dropout &d, int64_t elements, int64_t at, T (&value)[4])
{
	if (!d.active)
		return;
	int64_t row = quotient(at, elements), element = at - row * elements;
	if (element + 4 <= elements) {
		drop4_in_row(d, d.first_row + uint32_t(row), element, value);
		return;
	}
	/* The last ones of a row that is no multiple of four, and the first ones of the next. */
	for (int i = 0; i < 4; i++, element++) {
		if (element == elements) {
			element = 0;
			row++;
		}
		words block = philox(d, d.first_row + uint32_t(row), uint32_t(element / 4));
		value[i] = drop_by(d, word_at(block, element), value[i]);
	}
}

inline unsigned blocks_for(int64_t threads, int per_block = block_threads)
{
	return unsigned((threads + per_block - 1) / per_block);
}

/* Calls body.run<T, VECTOR>() by a dtype and an alignment. Doubles, which are there for checks, have no vector form. */
template <typename BODY> cudaError_t by_dtype(ps_dtype dtype, bool vector, const BODY &body)
{
	if (dtype == PS_F64)
		return body.template run<double, false>();
	return vector ? body.template run<float, true>() : body.template run<float, false>();
}

/* The same by how far apart rows are, for load_row: calls body.run<T, ACCESS>(). `aligned`: the first rows' starts are.
 */
template <typename BODY> cudaError_t by_access(ps_dtype dtype, bool aligned, int64_t stride, const BODY &body)
{
	if (dtype == PS_F64)
		return body.template run<double, 1>();
	if (aligned && stride % 4 == 0)
		return body.template run<float, 4>();
	return aligned && stride % 2 == 0 ? body.template run<float, 2>() : body.template run<float, 1>();
}

} // namespace ps

#endif
