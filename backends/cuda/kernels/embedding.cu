/*
 * The embedding with positions, and its weight gradient.
 *
 * Bytes per element (fp32): embedding_fwd 12; embedding_bwd_weight 8 for those that follow a token's first occurrence
 * and 8 or 12 for that one, beside a fill of dweight with zeros when it does not accumulate.
 */
#include "backends/cuda/kernels/common.cuh"

namespace ps
{
namespace
{

template <typename T, typename W> struct embedding_arguments {
	const int32_t *tokens;
	const W *weight;
	const T *positions;
	T *y;
	int64_t time, width, quads, count; /* quads of a row of y, and of all */
	int64_t weight_stride, position_stride;
	double scale;
	ps_cuda_dropout drop;
	const int *stop;
};

template <typename T, typename W, bool VECTOR> __global__ void embedding_fwd_kernel(embedding_arguments<T, W> x)
{
	if (*x.stop)
		return;
	int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
	if (index >= x.count)
		return;
	int64_t n = index / x.quads, column = (index - n * x.quads) * 4, left = x.width - column;
	PS_QUAD(T, value);
	PS_QUAD(T, position);
	load4<VECTOR>(value, x.weight + x.tokens[n] * x.weight_stride + column, left);
	load4<VECTOR>(position, x.positions + n % x.time * x.position_stride + column, left);
#pragma unroll
	for (int i = 0; i < 4; i++)
		value[i] = value[i] * T(x.scale) + position[i];
	int64_t at = n * x.width + column;
	drop4(x.drop, x.time * x.width, at, value);
	store4<VECTOR>(x.y + at, value, left);
}

struct embedding_body {
	const ps_cuda_launch *launch;
	const ps_cuda_embedding *e;

	template <typename T, bool VECTOR> cudaError_t run() const
	{
		if constexpr (sizeof(T) == sizeof(float))
			if (e->narrow)
				return run_with<T, bf16, VECTOR>();
		return run_with<T, T, VECTOR>();
	}

	template <typename T, typename W, bool VECTOR> cudaError_t run_with() const
	{
		int64_t quads = (e->width + 3) / 4, count = e->rows * e->time * quads;
		embedding_arguments<T, W> x = {e->tokens,
		                               static_cast<const W *>(e->weight),
		                               static_cast<const T *>(e->positions),
		                               static_cast<T *>(e->y),
		                               e->time,
		                               e->width,
		                               quads,
		                               count,
		                               e->weight_stride,
		                               e->position_stride,
		                               e->scale,
		                               e->drop,
		                               launch->stop};
		void (*kernel)(embedding_arguments<T, W>) = embedding_fwd_kernel<T, W, VECTOR>;
		return PS_LAUNCH(kernel, blocks_for(count), block_threads, 0, launch->stream, x);
	}
};

template <typename T, typename W> struct embedding_bwd_arguments {
	const int32_t *tokens;
	const T *dy;
	W *dweight;
	int64_t count, time, width; /* count: rows * time */
	double scale;
	ps_cuda_dropout drop;
	const int *stop;
};

/*
 * Block (n, piece): if occurrence n is its token's first, adds up all of them in ascending order for the columns of the
 * piece, going on from what dweight holds. The others have nothing to do.
 */
template <typename T, typename W, bool VECTOR> __global__ void embedding_bwd_kernel(embedding_bwd_arguments<T, W> x)
{
	if (*x.stop)
		return;
	int64_t n = blockIdx.x;
	int32_t token = x.tokens[n];
	int before = 0;
	for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
		before |= x.tokens[i] == token;
	if (__syncthreads_or(before))
		return;
	int64_t column = (int64_t(blockIdx.y) * blockDim.x + threadIdx.x) * 4, left = x.width - column;
	if (left <= 0)
		return;
	W *to = x.dweight + token * x.width + column;
	PS_QUAD(T, sum);
	PS_QUAD(T, value);
	load4<VECTOR>(sum, to, left);
	for (int64_t i = n; i < x.count; i++) {
		if (x.tokens[i] != token)
			continue;
		int64_t at = i * x.width + column;
		load4<VECTOR>(value, x.dy + at, left);
		drop4(x.drop, x.time * x.width, at, value);
#pragma unroll
		for (int k = 0; k < 4; k++)
			sum[k] += value[k] * T(x.scale);
	}
	store4<VECTOR>(to, sum, left);
}

struct embedding_bwd_body {
	const ps_cuda_launch *launch;
	const ps_cuda_embedding *e;

	template <typename T, bool VECTOR> cudaError_t run() const
	{
		if constexpr (sizeof(T) == sizeof(float))
			if (e->narrow)
				return run_with<T, bf16, VECTOR>();
		return run_with<T, T, VECTOR>();
	}

	template <typename T, typename W, bool VECTOR> cudaError_t run_with() const
	{
		embedding_bwd_arguments<T, W> x = {e->tokens,
		                                   static_cast<const T *>(e->y),
		                                   static_cast<W *>(e->dweight),
		                                   e->rows * e->time,
		                                   e->time,
		                                   e->width,
		                                   e->scale,
		                                   e->drop,
		                                   launch->stop};
		void (*kernel)(embedding_bwd_arguments<T, W>) = embedding_bwd_kernel<T, W, VECTOR>;
		int64_t quads = (e->width + 3) / 4;
		int threads =
		        quads < block_threads ? int((quads + warp_lanes - 1) / warp_lanes) * warp_lanes : block_threads;
		dim3 blocks(unsigned(x.count), blocks_for(quads, threads));
		return PS_LAUNCH(kernel, blocks, threads, 0, launch->stream, x);
	}
};

template <typename T> __global__ void clear_kernel(T *to, int64_t count, const int *stop)
{
	if (*stop)
		return;
	int64_t step = int64_t(gridDim.x) * blockDim.x;
	for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step)
		to[i] = T{};
}

template <typename T> cudaError_t clear(const ps_cuda_launch *launch, void *to, int64_t count)
{
	void (*kernel)(T *, int64_t, const int *) = clear_kernel<T>;
	unsigned blocks = blocks_for(count, 16 * block_threads);
	return PS_LAUNCH(kernel, blocks, block_threads, 0, launch->stream, static_cast<T *>(to), count, launch->stop);
}

} // namespace
} // namespace ps

extern "C" cudaError_t ps__cuda_embedding_fwd(const ps_cuda_launch *launch, const ps_cuda_embedding *embedding)
{
	bool vector = embedding->width % 4 == 0 && embedding->weight_stride % 4 == 0 &&
	              embedding->position_stride % 4 == 0 &&
	              ps::aligned16(embedding->weight, embedding->positions, embedding->y);
	return ps::by_dtype(launch->dtype, vector, ps::embedding_body{launch, embedding});
}

extern "C" cudaError_t ps__cuda_embedding_bwd_weight(const ps_cuda_launch *launch, const ps_cuda_embedding *embedding)
{
	if (!embedding->accumulate) {
		int64_t count = embedding->vocabulary * embedding->width;
		cudaError_t error = launch->dtype == PS_F64 ? ps::clear<double>(launch, embedding->dweight, count)
		                    : embedding->narrow     ? ps::clear<ps::bf16>(launch, embedding->dweight, count)
		                                            : ps::clear<float>(launch, embedding->dweight, count);
		if (error != cudaSuccess)
			return error;
	}
	bool vector = embedding->width % 4 == 0 && ps::aligned16(embedding->dweight, embedding->y);
	return ps::by_dtype(launch->dtype, vector, ps::embedding_bwd_body{launch, embedding});
}
