/*
 * Matrices from one dtype to another and from one pitch to another, for products whose factors are rounded or must be
 * aligned. A thread does eight neighbours of a row, 16 bytes of bf16.
 *
 * Bytes per element: 6 between fp32 and bf16, 4 within bf16, 8 within fp32; the memory bounds it on an H100: 500 rows
 * of 4096 to bf16 take 3.7 us, of 28,782 26 us.
 */
#include "backends/cuda/kernels/common.cuh"

namespace ps
{
namespace
{

template <typename FROM, typename TO> struct convert_arguments {
	const FROM *from;
	TO *to;
	int64_t from_stride, to_stride, columns, octets, count; /* octets of a row, and of all */
	const int *stop;
};

struct alignas(16) bf16_octet {
	bf16 at[8];
};

/* Eight elements of which the first `left` exist, from rows that start at a multiple of ACCESS floats, or of 16 bytes
 * of bf16 where ACCESS is 4. */
template <int ACCESS> __device__ inline void load8(float (&value)[8], const float *at, int64_t left)
{
	PS_QUAD(float, quad);
#pragma unroll
	for (int half = 0; half < 2; half++) {
		load_row<ACCESS>(quad, at + 4 * half, left - 4 * half);
#pragma unroll
		for (int i = 0; i < 4; i++)
			value[4 * half + i] = quad[i];
	}
}

template <int ACCESS> __device__ inline void load8(float (&value)[8], const bf16 *at, int64_t left)
{
	bf16_octet octet = {};
	if (ACCESS == 4 && left >= 8) {
		octet = *reinterpret_cast<const bf16_octet *>(at);
	} else {
#pragma unroll
		for (int i = 0; i < 8; i++)
			if (i < left)
				octet.at[i] = at[i];
	}
#pragma unroll
	for (int i = 0; i < 8; i++)
		value[i] = widen(octet.at[i]);
}

template <int ACCESS> __device__ inline void store8(float *at, const float (&value)[8], int64_t left)
{
	PS_QUAD(float, quad);
#pragma unroll
	for (int half = 0; half < 2; half++) {
#pragma unroll
		for (int i = 0; i < 4; i++)
			quad[i] = value[4 * half + i];
		store_row<ACCESS>(at + 4 * half, quad, left - 4 * half);
	}
}

template <int ACCESS> __device__ inline void store8(bf16 *at, const float (&value)[8], int64_t left)
{
	bf16_octet octet;
#pragma unroll
	for (int i = 0; i < 8; i++)
		octet.at[i] = narrow(value[i]);
	if (ACCESS == 4 && left >= 8) {
		*reinterpret_cast<bf16_octet *>(at) = octet;
	} else {
#pragma unroll
		for (int i = 0; i < 8; i++)
			if (i < left)
				at[i] = octet.at[i];
	}
}

template <typename FROM, typename TO, int FROM_ACCESS, int TO_ACCESS>
__global__ void convert_kernel(convert_arguments<FROM, TO> x)
{
	if (*x.stop)
		return;
	int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
	if (index >= x.count)
		return;
	int64_t row = quotient(index, x.octets), column = (index - row * x.octets) * 8, left = x.columns - column;
	float value[8];
	load8<FROM_ACCESS>(value, x.from + row * x.from_stride + column, left);
	store8<TO_ACCESS>(x.to + row * x.to_stride + column, value, left);
}

/* What the rows of a matrix are aligned to, for load8. */
template <typename T> int access_of(const T *matrix, int64_t stride)
{
	if (aligned16(matrix) && stride * int64_t(sizeof(T)) % 16 == 0)
		return 4;
	return sizeof(T) == sizeof(float) && aligned16(matrix) && stride % 2 == 0 ? 2 : 1;
}

template <typename FROM, typename TO>
cudaError_t convert(const ps_cuda_launch *launch, void *to, int64_t to_stride, const void *from, int64_t from_stride,
                    int64_t rows, int64_t columns)
{
	int64_t octets = (columns + 7) / 8;
	convert_arguments<FROM, TO> x = {static_cast<const FROM *>(from),
	                                 static_cast<TO *>(to),
	                                 from_stride,
	                                 to_stride,
	                                 columns,
	                                 octets,
	                                 rows * octets,
	                                 launch->stop};
	/* Copies for products are aligned, whatever they are made from. */
	int from_access = access_of(x.from, from_stride);
	void (*kernel)(convert_arguments<FROM, TO>) = convert_kernel<FROM, TO, 1, 1>;
	if (access_of(x.to, to_stride) == 4)
		kernel = from_access == 4   ? convert_kernel<FROM, TO, 4, 4>
		         : from_access == 2 ? convert_kernel<FROM, TO, 2, 4>
		                            : convert_kernel<FROM, TO, 1, 4>;
	return PS_LAUNCH(kernel, blocks_for(x.count), block_threads, 0, launch->stream, x);
}

} // namespace
} // namespace ps

extern "C" cudaError_t ps__cuda_convert(const ps_cuda_launch *launch, ps_dtype to_dtype, void *to, int64_t to_stride,
                                        ps_dtype from_dtype, const void *from, int64_t from_stride, int64_t rows,
                                        int64_t columns)
{
	auto run = to_dtype == PS_BF16
	                   ? from_dtype == PS_BF16 ? ps::convert<ps::bf16, ps::bf16> : ps::convert<float, ps::bf16>
	           : from_dtype == PS_BF16 ? ps::convert<ps::bf16, float>
	                                   : ps::convert<float, float>;
	return run(launch, to, to_stride, from, from_stride, rows, columns);
}
