/*
 * The gradient norm, clipping and SGD.
 *
 * Bytes per element: in fp32 sum_squares 4, sgd 12, 14 with a copy; in bf16 2 and 6. 2 operations each, those of
 * sum_squares in double.
 */
#include "backends/cuda/kernels/common.cuh"

namespace ps
{
namespace
{

constexpr int per_thread = 16; /* elements, until there are PS_CUDA_PARTIALS blocks */

/* What an element is computed with. */
__device__ inline float wide(bf16)
{
	return 0;
}
template <typename T> __device__ inline T wide(T)
{
	return 0;
}

template <typename T> struct squares_arguments {
	const T *x;
	double *partials;
	int64_t count;
	const int *stop;
};

/* One partial sum per block; the number of blocks and what each adds depend on the count alone. */
template <typename T, bool VECTOR> __global__ void squares_kernel(squares_arguments<T> x)
{
	__shared__ double room[block_threads / warp_lanes];
	if (*x.stop)
		return;
	double sum = 0;
	int64_t step = int64_t(gridDim.x) * blockDim.x * 4;
	for (int64_t at = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * 4; at < x.count; at += step) {
		alignas(16) decltype(wide(T())) value[4];
		load4<VECTOR>(value, x.x + at, x.count - at);
#pragma unroll
		for (int i = 0; i < 4; i++)
			sum += double(value[i]) * double(value[i]);
	}
	sum = block_sum(sum, room);
	if (threadIdx.x == 0)
		x.partials[blockIdx.x] = sum;
}

__global__ void join_kernel(const double *partials, int count, double *out, const int *stop)
{
	__shared__ double room[block_threads / warp_lanes];
	if (*stop)
		return;
	double sum = 0;
	for (int i = int(threadIdx.x); i < count; i += int(blockDim.x))
		sum += partials[i];
	sum = block_sum(sum, room);
	if (threadIdx.x == 0)
		*out = sum;
}

struct squares_body {
	const ps_cuda_launch *launch;
	const void *x;
	int64_t count;
	double *partials;
	unsigned blocks;

	template <typename T, bool VECTOR> cudaError_t run() const
	{
		squares_arguments<T> arguments = {static_cast<const T *>(x), partials, count, launch->stop};
		void (*kernel)(squares_arguments<T>) = squares_kernel<T, VECTOR>;
		return PS_LAUNCH(kernel, blocks, block_threads, 0, launch->stream, arguments);
	}
};

/* One block. The sums are added in ascending order, from shared memory. Written so that a NaN norm makes the scale NaN.
 */
__global__ void clip_kernel(const double *sums, int64_t count, double *norm, double *scale, double max_norm,
                            const int *stop)
{
	__shared__ double tile[block_threads];
	if (*stop)
		return;
	double sum = 0;
	for (int64_t first = 0; first < count; first += blockDim.x) {
		int64_t left = count - first;
		if (int64_t(threadIdx.x) < left)
			tile[threadIdx.x] = sums[first + threadIdx.x];
		__syncthreads();
		if (threadIdx.x == 0)
			for (int i = 0; i < int(left < int64_t(blockDim.x) ? left : int64_t(blockDim.x)); i++)
				sum += tile[i];
		__syncthreads();
	}
	if (threadIdx.x != 0)
		return;
	double root = sqrt(sum), factor = 1;
	if (max_norm > 0) {
		factor = max_norm / (root + 1e-6);
		if (factor > 1)
			factor = 1;
	}
	*norm = root;
	*scale = factor;
}

template <typename T> struct sgd_arguments {
	T *w;
	const T *g;
	bf16 *copy;
	int64_t count;
	double lr;
	const double *scale;
	const int *stop;
};

template <typename T, bool VECTOR> __global__ void sgd_kernel(sgd_arguments<T> x)
{
	if (*x.stop)
		return;
	int64_t at = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * 4, left = x.count - at;
	if (left <= 0)
		return;
	T rate = T(x.lr * *x.scale);
	PS_QUAD(T, w);
	PS_QUAD(T, g);
	load4<VECTOR>(w, x.w + at, left);
	load4<VECTOR>(g, x.g + at, left);
#pragma unroll
	for (int i = 0; i < 4; i++)
		w[i] -= rate * g[i];
	store4<VECTOR>(x.w + at, w, left);
	if constexpr (sizeof(T) == sizeof(float))
		if (x.copy)
			store4<VECTOR>(x.copy + at, w, left);
}

struct sgd_body {
	const ps_cuda_launch *launch;
	void *w;
	const void *g;
	void *copy;
	int64_t count;
	double lr;
	const double *scale;

	template <typename T, bool VECTOR> cudaError_t run() const
	{
		sgd_arguments<T> x = {
		        static_cast<T *>(w), static_cast<const T *>(g), static_cast<bf16 *>(copy), count, lr, scale,
		        launch->stop};
		void (*kernel)(sgd_arguments<T>) = sgd_kernel<T, VECTOR>;
		return PS_LAUNCH(kernel, blocks_for((count + 3) / 4), block_threads, 0, launch->stream, x);
	}
};

struct sgd_bf16_arguments {
	bf16 *w;
	const bf16 *g;
	int64_t count;
	double lr;
	const double *scale;
	ps_cuda_dropout place;
	const int *stop;
};

/* A thread does the eight elements of one random block, by half a word each. */
__global__ void sgd_bf16_kernel(sgd_bf16_arguments x)
{
	if (*x.stop)
		return;
	int64_t block = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, at = block * 8;
	if (at >= x.count)
		return;
	float rate = float(x.lr * *x.scale);
	words random = philox(x.place, 0, uint32_t(block));
#pragma unroll
	for (int i = 0; i < 8; i++) {
		if (at + i >= x.count)
			continue;
		float updated = fmaf(-rate, widen(x.g[at + i]), widen(x.w[at + i]));
		x.w[at + i] = cut(updated, random.w[i / 2] >> 16 * (i % 2) & 0xFFFFU);
	}
}

} // namespace
} // namespace ps

extern "C" cudaError_t ps__cuda_sum_squares(const ps_cuda_launch *launch, const void *x, int64_t count,
                                            double *partials, double *out)
{
	int64_t wanted = ps::blocks_for(count, ps::block_threads * ps::per_thread);
	int64_t most = PS_CUDA_PARTIALS;
	unsigned blocks = unsigned(wanted < most ? wanted : most);
	ps::squares_body body = {launch, x, count, partials, blocks};
	bool vector = count % 4 == 0 && ps::aligned16(x);
	cudaError_t error;
	if (launch->dtype == PS_BF16)
		error = vector ? body.run<ps::bf16, true>() : body.run<ps::bf16, false>();
	else
		error = ps::by_dtype(launch->dtype, vector, body);
	if (error != cudaSuccess)
		return error;
	void (*kernel)(const double *, int, double *, const int *) = ps::join_kernel;
	return PS_LAUNCH(kernel, 1, ps::block_threads, 0, launch->stream, partials, int(blocks), out, launch->stop);
}

extern "C" cudaError_t ps__cuda_clip_scale(const ps_cuda_launch *launch, const double *sums, int64_t count,
                                           double *norm, double *scale, double max_norm)
{
	void (*kernel)(const double *, int64_t, double *, double *, double, const int *) = ps::clip_kernel;
	return PS_LAUNCH(kernel, 1, ps::block_threads, 0, launch->stream, sums, count, norm, scale, max_norm,
	                 launch->stop);
}

extern "C" cudaError_t ps__cuda_sgd(const ps_cuda_launch *launch, void *w, const void *g, void *copy, int64_t count,
                                    double lr, const double *scale)
{
	return ps::by_dtype(launch->dtype, count % 4 == 0 && ps::aligned16(w, g, copy),
	                    ps::sgd_body{launch, w, g, copy, count, lr, scale});
}

extern "C" cudaError_t ps__cuda_sgd_bf16(const ps_cuda_launch *launch, void *w, const void *g, int64_t count, double lr,
                                         const double *scale, const ps_cuda_dropout *place)
{
	ps::sgd_bf16_arguments x = {
	        static_cast<ps::bf16 *>(w), static_cast<const ps::bf16 *>(g), count, lr, scale, *place, launch->stop};
	void (*kernel)(ps::sgd_bf16_arguments) = ps::sgd_bf16_kernel;
	return PS_LAUNCH(kernel, ps::blocks_for((count + 7) / 8), ps::block_threads, 0, launch->stream, x);
}
