/*
 * Matrices from fp32 to bf16 and back, for products whose factors are rounded. A thread does four neighbours of a row.
 *
 * Bytes per element: 6.
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

template <typename FROM, typename TO, bool VECTOR> __global__ void convert_kernel(convert_arguments<FROM, TO> x)
{
	if (*x.stop)
		return;
	int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
	if (index >= x.count)
		return;
	int64_t row = index / x.quads, column = (index - row * x.quads) * 4, left = x.columns - column;
	alignas(16) float value[4];
	load4<VECTOR>(value, x.from + row * x.from_stride + column, left);
	store4<VECTOR>(x.to + row * x.to_stride + column, value, left);
}

template <typename FROM, typename TO>
cudaError_t convert(const ps_cuda_launch *launch, void *to, int64_t to_stride, const void *from, int64_t from_stride,
                    int64_t rows, int64_t columns)
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
	bool vector = columns % 4 == 0 && from_stride % 4 == 0 && to_stride % 4 == 0 && aligned16(from, to);
	void (*kernel)(convert_arguments<FROM, TO>) =
	        vector ? convert_kernel<FROM, TO, true> : convert_kernel<FROM, TO, false>;
	return PS_LAUNCH(kernel, blocks_for(x.count), block_threads, 0, launch->stream, x);
}

} // namespace
} // namespace ps

extern "C" cudaError_t ps__cuda_narrow(const ps_cuda_launch *launch, void *to, int64_t to_stride, const void *from,
                                       int64_t from_stride, int64_t rows, int64_t columns)
{
	return ps::convert<float, ps::bf16>(launch, to, to_stride, from, from_stride, rows, columns);
}

extern "C" cudaError_t ps__cuda_widen(const ps_cuda_launch *launch, void *to, int64_t to_stride, const void *from,
                                      int64_t from_stride, int64_t rows, int64_t columns)
{
	return ps::convert<ps::bf16, float>(launch, to, to_stride, from, from_stride, rows, columns);
}
