/*
 * What the kernels share: launching, quads of elements, sums over a block; random numbers and dropout are in
 * dropout.cuh.
 *
 * The same sources are compiled by nvcc and, for tests without a GPU, by a C++ compiler with an emulation of what they
 * use of CUDA (tests/cuda/emulated). Hence they launch through PS_LAUNCH, take dynamic shared memory through
 * PS_DYNAMIC_SHARED, store vectors through store_global, and have thread_anew.
 *
 * Rules that all kernels keep:
 *   - no atomics on floating point, and no order of additions that depends on anything but the op's shape: neither on
 *     the alignment of a pointer nor on how many sample rows a call has;
 *   - threads of a block all reach each barrier;
 *   - when the queue's stop flag is set, as a failed range check does, a kernel writes nothing, nor follows tokens that
 *     may be out of range, so that what is behind a failure on the stream is skipped there. Kernels ask for the flag
 *     first, and where they can look at it once their data is on its way too.
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

/* One access to global memory, of which nvcc makes several where an assignment comes from an array. */
__device__ inline void store_global(float4 *at, float4 value)
{
	asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(at)), "f"(value.x),
	             "f"(value.y), "f"(value.z), "f"(value.w)
	             : "memory");
}
__device__ inline void store_global(uint4 *at, uint4 value)
{
	asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(at)), "r"(value.x),
	             "r"(value.y), "r"(value.z), "r"(value.w)
	             : "memory");
}
__device__ inline void store_global(float2 *at, float2 value)
{
	asm volatile("st.global.v2.f32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(at)), "f"(value.x), "f"(value.y)
	             : "memory");
}

/* threadIdx.x, read anew: what is worked out from it is so again, instead of being kept in registers until then. */
__device__ inline unsigned thread_anew()
{
	unsigned thread;
	asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
	return thread;
}
#endif

namespace ps
{

constexpr int warp_lanes = 32;
constexpr int block_threads = 256;

/* The bits of all the addresses: a power of two that divides this divides each. A NULL pointer has none. */
inline uintptr_t bits_of(const void *a, const void *b = nullptr, const void *c = nullptr, const void *d = nullptr,
                         const void *e = nullptr)
{
	return reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) | reinterpret_cast<uintptr_t>(c) |
	       reinterpret_cast<uintptr_t>(d) | reinterpret_cast<uintptr_t>(e);
}

/* Are all the pointers good for 16-byte accesses of quads? */
inline bool aligned16(const void *a, const void *b = nullptr, const void *c = nullptr, const void *d = nullptr,
                      const void *e = nullptr)
{
	return bits_of(a, b, c, d, e) % 16 == 0;
}

/* How many floats, of 4, 2 and 1, an access to rows that start there and are so far apart may have. */
inline int access_of(uintptr_t bits, int64_t stride)
{
	bits |= uintptr_t(stride) * sizeof(float);
	return bits % 16 == 0 ? 4 : bits % 8 == 0 ? 2 : 1;
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

/* store4 to global memory, surely by one access. */
template <bool VECTOR, typename T> __device__ inline void put4(T *at, const T (&value)[4], int64_t left)
{
	if (!VECTOR)
		store4<false>(at, value, left);
	else if (left > 0)
		store_global(reinterpret_cast<float4 *>(at), *reinterpret_cast<const float4 *>(value));
}

/*
 * load4 and put4 of rows that start at a multiple of ACCESS floats and end at one. Pairs are for an even number of
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
			store_global(pairs, *reinterpret_cast<const float2 *>(value));
		if (left > 2)
			store_global(pairs + 1, *reinterpret_cast<const float2 *>(value + 2));
	} else {
		put4<ACCESS == 4>(at, value, left);
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

template <bool VECTOR> __device__ inline void put4(bf16 *at, const float (&value)[4], int64_t left)
{
	store4<VECTOR>(at, value, left);
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

/* The same for load_row and rows that start at addresses of these bits and are so far apart: body.run<T, ACCESS>(). */
template <typename BODY> cudaError_t by_access(ps_dtype dtype, uintptr_t bits, int64_t stride, const BODY &body)
{
	if (dtype == PS_F64)
		return body.template run<double, 1>();
	int access = access_of(bits, stride);
	return access == 4   ? body.template run<float, 4>()
	       : access == 2 ? body.template run<float, 2>()
	                     : body.template run<float, 1>();
}

} // namespace ps

#include "backends/cuda/kernels/dropout.cuh"

#endif
