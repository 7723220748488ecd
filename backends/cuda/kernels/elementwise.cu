/*
 * Elementwise kernels and their fusions with dropout. A thread does four neighbours.
 *
 * Bytes per element (fp32): add, relu_bwd, relu_dropout_bwd 12; relu_fwd, dropout, relu_dropout_fwd 8. One operation
 * each; dropout adds about 25 of integers per element (one Philox block for four). So the memory bounds them on an
 * H100: 500 rows of 4096 elements take 7.3 and 4.9 us.
 */
#include "backends/cuda/kernels/common.cuh"

namespace ps
{
namespace
{

template <typename T> struct elementwise_arguments {
	const T *a, *b;
	T *y;
	int64_t count, elements;
	ps_cuda_dropout drop;
	const int *stop;
};

/* Written so that a NaN stays one. */
template <typename T> __device__ inline T relu(T value)
{
	return value <= T(0) ? T(0) : value;
}

template <typename T, int KIND> __device__ inline T combine(T a, T b, double factor)
{
	switch (KIND) {
	case PS_CUDA_ADD:
		return a + b;
	case PS_CUDA_RELU_BWD:
		return b > T(0) ? a : T(0);
	case PS_CUDA_RELU_DROPOUT_BWD:
		return b > T(0) ? a * T(factor) : T(0);
	case PS_CUDA_RELU_FWD:
	case PS_CUDA_RELU_DROPOUT_FWD:
		return relu(a);
	default:
		return a;
	}
}

template <typename T, int KIND, bool VECTOR> __global__ void elementwise_kernel(elementwise_arguments<T> x)
{
	constexpr bool reads_b = KIND == PS_CUDA_ADD || KIND == PS_CUDA_RELU_BWD || KIND == PS_CUDA_RELU_DROPOUT_BWD;
	constexpr bool drops = KIND == PS_CUDA_DROPOUT || KIND == PS_CUDA_RELU_DROPOUT_FWD;
	bool stop = *x.stop;
	int64_t at = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * 4, left = x.count - at;
	if (left <= 0)
		return;
	PS_QUAD(T, a);
	PS_QUAD(T, b) = {};
	load_end<VECTOR ? 4 : 1>(a, x.a + at, left);
	if (reads_b)
		load_end<VECTOR ? 4 : 1>(b, x.b + at, left);
#pragma unroll
	for (int i = 0; i < 4; i++)
		a[i] = combine<T, KIND>(a[i], b[i], x.drop.factor);
	if (drops)
		drop4<VECTOR>(row_at(this_step(x.drop), x.elements, at), 0, a);
	if (!stop)
		store_end<VECTOR ? 4 : 1>(x.y + at, a, left);
}

struct elementwise_body {
	const ps_cuda_launch *launch;
	ps_cuda_elementwise kind;
	const void *a, *b;
	void *y;
	int64_t count, elements;
	const ps_cuda_dropout *drop;

	template <typename T, bool VECTOR> cudaError_t run() const
	{
		using kernel_type = void (*)(elementwise_arguments<T>);
		static const kernel_type kernels[] = {
		        elementwise_kernel<T, PS_CUDA_ADD, VECTOR>,
		        elementwise_kernel<T, PS_CUDA_RELU_FWD, VECTOR>,
		        elementwise_kernel<T, PS_CUDA_RELU_BWD, VECTOR>,
		        elementwise_kernel<T, PS_CUDA_DROPOUT, VECTOR>,
		        elementwise_kernel<T, PS_CUDA_RELU_DROPOUT_FWD, VECTOR>,
		        elementwise_kernel<T, PS_CUDA_RELU_DROPOUT_BWD, VECTOR>,
		};
		elementwise_arguments<T> x = {static_cast<const T *>(a),
		                              static_cast<const T *>(b),
		                              static_cast<T *>(y),
		                              count,
		                              elements,
		                              *drop,
		                              launch->stop};
		kernel_type kernel = kernels[kind];
		return PS_LAUNCH(kernel, blocks_for((count + 3) / 4), block_threads, 0, launch->stream, x);
	}
};

template <typename T> struct rows_arguments {
	T *c;
	const T *bias;
	int64_t stride, columns, count;
	bool accumulate;
	const int *stop;
};

/* 4 bytes per element (fp32), 8 when it accumulates: where cuBLASLt does not take a bias. */
template <typename T> __global__ void rows_kernel(rows_arguments<T> x)
{
	if (*x.stop)
		return;
	int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
	if (index >= x.count)
		return;
	int64_t row = quotient(index, x.columns), column = index - row * x.columns;
	T *at = x.c + row * x.stride + column;
	*at = x.accumulate ? *at + x.bias[column] : x.bias[column];
}

template <typename T>
cudaError_t set_rows(const ps_cuda_launch *launch, void *c, int64_t stride, const void *bias, int64_t rows,
                     int64_t columns, bool accumulate)
{
	rows_arguments<T> x = {
	        static_cast<T *>(c), static_cast<const T *>(bias), stride, columns, rows * columns, accumulate,
	        launch->stop};
	void (*kernel)(rows_arguments<T>) = rows_kernel<T>;
	return PS_LAUNCH(kernel, blocks_for(x.count), block_threads, 0, launch->stream, x);
}

} // namespace
} // namespace ps

extern "C" cudaError_t ps__cuda_set_rows(const ps_cuda_launch *launch, void *c, int64_t stride, const void *bias,
                                         int64_t rows, int64_t columns, bool accumulate)
{
	return launch->dtype == PS_F64 ? ps::set_rows<double>(launch, c, stride, bias, rows, columns, accumulate)
	                               : ps::set_rows<float>(launch, c, stride, bias, rows, columns, accumulate);
}

extern "C" cudaError_t ps__cuda_elementwise(const ps_cuda_launch *launch, ps_cuda_elementwise kind, const void *a,
                                            const void *b, void *y, int64_t count, int64_t elements,
                                            const ps_cuda_dropout *drop)
{
	ps::elementwise_body body = {launch, kind, a, b, y, count, elements, drop};
	/* What is dropped by quads has a random block for each. */
	bool whole = !drop->active || elements % 4 == 0;
	return ps::by_dtype(launch->dtype, whole && ps::aligned16(a, b, y), body);
}
