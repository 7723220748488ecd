/*
 * What the kernels use of CUDA C++, for a C++ compiler.
 *
 * A launch becomes a command of the stand-in's stream that runs the blocks one after the other. The threads of a block
 * are run one by one; one that comes to a barrier is left there, on a stack of its own, until all have come
 * (block.cpp). Shared memory is a static variable of the stream's thread. Threads run in ascending order, or, with a
 * seed, in a different order in each block, so that a barrier that is not there shows as a wrong result.
 */
#ifndef PS_TESTS_CUDA_RUNTIME_H
#define PS_TESTS_CUDA_RUNTIME_H

#include "cuda_runtime_api.h"

#include <climits>
#include <cmath>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __shared__ static thread_local
#define __launch_bounds__(...)

struct alignas(16) float4 {
	float x, y, z, w;
};
struct alignas(8) float2 {
	float x, y;
};
struct alignas(8) uint2 {
	unsigned x, y;
};
struct alignas(16) uint4 {
	unsigned x, y, z, w;
};
struct dim3 {
	unsigned x, y, z;
	dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
	{
	}
};

namespace emulated
{

constexpr unsigned lanes = 32;

/* One thread of a block. */
struct thread_state {
	dim3 thread, block, block_size, grid;
	unsigned turn = 0; /* of the warp's exchange room */
	int state = 0;
};

/* The running thread. */
thread_state &here();
void block_barrier();
void warp_barrier();
/* True for all when `value` is for one. */
bool block_any(bool value);
/* Room for one value of each lane of the running thread's warp: of this turn, or of the other one. */
double *exchange(unsigned turn);
unsigned char *dynamic_shared();

/* The kernel fails where these bytes are not aligned to their number, or not all in one allocation on a device. */
void check_global(const void *at, size_t bytes);

/* What the lanes of a warp do as one: the last of them to come calls `act` with what each has given. */
struct warp_call {
	const char *name;
	void (*act)(const warp_call *const *calls);
};
void together(const warp_call &call);

cudaError_t enqueue(const void *kernel, cudaStream_t stream, dim3 grid, dim3 block, size_t shared,
                    std::function<void()> body);

template <typename... P, typename... A>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream, A... arguments)
{
	static_assert((sizeof(P) + ... + 0) <= 4096, "a kernel's arguments have 4 KiB at most");
	return enqueue(reinterpret_cast<const void *>(kernel), stream, grid, block, shared,
	               [=] { kernel(arguments...); });
}

} // namespace emulated

#define threadIdx (::emulated::here().thread)
#define blockIdx (::emulated::here().block)
#define blockDim (::emulated::here().block_size)
#define gridDim (::emulated::here().grid)

template <typename... P> cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute attribute, int value)
{
	return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), attribute, value);
}

#define PS_LAUNCH(kernel, blocks, threads, shared, stream, ...) \
	(::emulated::launch((kernel), (blocks), unsigned(threads), (shared), (stream), __VA_ARGS__))
#define PS_DYNAMIC_SHARED(type, name) type *name = reinterpret_cast<type *>(::emulated::dynamic_shared())

/* A load of what does not change while the kernel runs. */
template <typename T> T __ldg(const T *at)
{
	return *at;
}

/* One access to global memory. */
template <typename T> void store_global(T *at, T value)
{
	::emulated::check_global(at, sizeof *at);
	*at = value;
}

inline unsigned thread_anew()
{
	return threadIdx.x;
}

inline void __syncthreads()
{
	::emulated::block_barrier();
}

inline void __syncwarp()
{
	::emulated::warp_barrier();
}

inline int __syncthreads_or(int value)
{
	return ::emulated::block_any(value != 0);
}

/* All lanes of a warp take part. */
template <typename T> T __shfl_xor_sync(unsigned, T value, int mask)
{
	::emulated::thread_state &me = ::emulated::here();
	unsigned lane = me.thread.x % ::emulated::lanes;
	double *room = ::emulated::exchange(me.turn++ % 2);
	std::memcpy(room + lane, &value, sizeof value);
	::emulated::warp_barrier();
	T other;
	std::memcpy(&other, room + (lane ^ unsigned(mask)), sizeof other);
	return other;
}

/* Bit i: is `value` true in lane i? All lanes of a warp take part. */
inline unsigned __ballot_sync(unsigned, bool value)
{
	::emulated::thread_state &me = ::emulated::here();
	double *room = ::emulated::exchange(me.turn++ % 2);
	unsigned bits = 0;
	std::memcpy(room + me.thread.x % ::emulated::lanes, &value, sizeof value);
	::emulated::warp_barrier();
	for (unsigned i = 0; i < ::emulated::lanes; i++) {
		bool other;
		std::memcpy(&other, room + i, sizeof other);
		bits |= unsigned(other) << i;
	}
	return bits;
}

/* The lowest set bit's place plus one; 0: none is set. */
inline int __ffs(unsigned bits)
{
	int place = 0;
	while (bits && !(bits >> place & 1))
		place++;
	return bits ? place + 1 : 0;
}

using std::isfinite;
using std::isnan;

inline uint32_t __float_as_uint(float value)
{
	uint32_t bits;
	std::memcpy(&bits, &value, sizeof bits);
	return bits;
}

inline float __uint_as_float(uint32_t bits)
{
	float value;
	std::memcpy(&value, &bits, sizeof value);
	return value;
}

inline float __fmul_rn(float a, float b)
{
	return a * b;
}
inline double __dmul_rn(double a, double b)
{
	return a * b;
}

inline uint32_t __umulhi(uint32_t a, uint32_t b)
{
	return uint32_t((uint64_t(a) * b) >> 32);
}

#endif
