/*
 * Matrices from one dtype to another and from one pitch to another, for products whose factors are rounded or must be
 * aligned. A thread does four neighbours of a row, so that a warp's accesses are whole lines on both sides.
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
	int64_t from_stride, to_stride, columns, quads, count; /* quads of a row, and of all */
	const int *stop;
};

/* load_end by what is in memory. */
template <int ACCESS> __device__ inline void take(float (&value)[4], const float *at, int64_t left)
{
	load_end<ACCESS>(value, at, left);
}
template <int ACCESS> __device__ inline void take(float (&value)[4], const bf16 *at, int64_t left)
{
	if (ACCESS == 4 && left >= 4)
		load4<true>(value, at, left);
	else
		load4<false>(value, at, left);
}
template <typename FROM, typename TO, int FROM_ACCESS, bool TO_VECTOR>
__global__ void convert_kernel(convert_arguments<FROM, TO> x)
{
	bool stop = *x.stop;
	int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
	if (index >= x.count)
		return;
	int64_t row = quotient(index, x.quads), column = (index - row * x.quads) * 4, left = x.columns - column;
	PS_QUAD(float, value);
	take<FROM_ACCESS>(value, x.from + row * x.from_stride + column, left);
	if (!stop)
		put4<TO_VECTOR>(x.to + row * x.to_stride + column, value, left);
}

/* What the rows of a matrix are aligned to, for take. */
int access_to(const float *matrix, int64_t stride)
{
	return access_of(bits_of(matrix), stride);
}
int access_to(const bf16 *matrix, int64_t stride)
{
	return (bits_of(matrix) | uintptr_t(stride) * sizeof(bf16)) % sizeof(bf16_quad) == 0 ? 4 : 1;
}

template <typename FROM, typename TO>
cudaError_t convert(const ps_cuda_launch *launch, void *to, int64_t to_stride, const void *from, int64_t from_stride,
                    bool padded, int64_t rows, int64_t columns)
{
	int64_t quads = (columns + 3) / 4;
	convert_arguments<FROM, TO> x = {static_cast<const FROM *>(from),
	                                 static_cast<TO *>(to),
	                                 from_stride,
	                                 to_stride,
	                                 columns,
	                                 quads,
	                                 rows * quads,
	                                 launch->stop};
	int from_access = access_to(x.from, from_stride);
	void (*kernel)(convert_arguments<FROM, TO>) = convert_kernel<FROM, TO, 1, false>;
	if (access_to(x.to, to_stride) == 4 && (padded || columns % 4 == 0))
		kernel = from_access == 4   ? convert_kernel<FROM, TO, 4, true>
		         : from_access == 2 ? convert_kernel<FROM, TO, 2, true>
		                            : convert_kernel<FROM, TO, 1, true>;
	return PS_LAUNCH(kernel, blocks_for(x.count), block_threads, 0, launch->stream, x);
}

} // namespace
} // namespace ps

extern "C" cudaError_t ps__cuda_convert(const ps_cuda_launch *launch, ps_dtype to_dtype, void *to, int64_t to_stride,
                                        bool padded, ps_dtype from_dtype, const void *from, int64_t from_stride,
                                        int64_t rows, int64_t columns)
{
	auto run = to_dtype == PS_BF16
	                   ? from_dtype == PS_BF16 ? ps::convert<ps::bf16, ps::bf16> : ps::convert<float, ps::bf16>
	           : from_dtype == PS_BF16 ? ps::convert<ps::bf16, float>
	                                   : ps::convert<float, float>;
	return run(launch, to, to_stride, from, from_stride, padded, rows, columns);
}
