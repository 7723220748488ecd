/*
 * For trials of algorithms: numbers to multiply, and whether two results have the same bits. Once for each product that
 * is recorded, and outside of steps. Bytes per element (fp32): 4 written, 8 read; 10 operations for a number.
 */
#include "backends/cuda/kernels/common.cuh"

namespace ps
{
namespace
{

__device__ inline void put(double *at, float value)
{
	*at = double(value);
}
__device__ inline void put(float *at, float value)
{
	*at = value;
}
__device__ inline void put(bf16 *at, float value)
{
	*at = narrow(value);
}

/* Numbers in [-1, 1) of many sizes with all their digits, so that each order of additions rounds otherwise. */
template <typename T> __global__ void numbers_kernel(T *to, int64_t count)
{
	int64_t step = int64_t(gridDim.x) * blockDim.x;
	for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
		uint32_t bits = uint32_t(i) * 2654435761U;
		bits = (bits ^ bits >> 15) * 2246822519U;
		bits ^= bits >> 13;
		put(to + i, (float(bits >> 8) * (1.0F / 8388608) - 1) / float(1 << (bits & 7)));
	}
}

/* Whoever finds a difference says so; all say the same. */
__global__ void differ_kernel(const uint16_t *a, const uint16_t *b, int64_t count, int *differ)
{
	int64_t step = int64_t(gridDim.x) * blockDim.x;
	for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step)
		if (a[i] != b[i])
			*differ = 1;
}

template <typename T> cudaError_t numbers(cudaStream_t stream, void *to, int64_t count)
{
	void (*kernel)(T *, int64_t) = numbers_kernel<T>;
	return PS_LAUNCH(kernel, blocks_for(count, 16 * block_threads), block_threads, 0, stream, static_cast<T *>(to),
	                 count);
}

} // namespace
} // namespace ps

extern "C" cudaError_t ps__cuda_numbers(cudaStream_t stream, ps_dtype dtype, void *to, int64_t count)
{
	return dtype == PS_F64    ? ps::numbers<double>(stream, to, count)
	       : dtype == PS_BF16 ? ps::numbers<ps::bf16>(stream, to, count)
	                          : ps::numbers<float>(stream, to, count);
}

extern "C" cudaError_t ps__cuda_differ(cudaStream_t stream, const void *a, const void *b, int64_t bytes, int *differ)
{
	void (*kernel)(const uint16_t *, const uint16_t *, int64_t, int *) = ps::differ_kernel;
	return PS_LAUNCH(kernel, ps::blocks_for(bytes / 2, 16 * ps::block_threads), ps::block_threads, 0, stream,
	                 static_cast<const uint16_t *>(a), static_cast<const uint16_t *>(b), bytes / 2, differ);
}
