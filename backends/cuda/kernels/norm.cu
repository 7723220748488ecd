/*
 * LayerNorm, alone and fused with the dropout and the residual before it, and its input gradient.
 *
 * A block does a row; a thread keeps up to four quads of it in registers, so that rows of up to 4096 elements are read
 * once; longer ones are read again, from cache. mean and variance are two passes over the values, as in the reference.
 *
 * Bytes per element (fp32): layernorm_fwd 8, dropout_add_layernorm_fwd 16, layernorm_bwd_input 12, with dropout 16;
 * gamma and beta are shared by all rows and come from caches. About 8 operations, and 25 more for a dropout, of
 * integers. So the memory bounds them on an H100: 500 rows of 4096 take 4.9, 9.8, 7.3 and 9.8 us. A micro-batch of 75
 * rows has fewer blocks than there are multiprocessors, and its time is a latency's.
 */
#include "backends/cuda/kernels/common.cuh"

namespace ps
{
namespace
{

constexpr int kept_quads = 4;
constexpr int warps_in_block = block_threads / warp_lanes;

/* Threads for a row, by its length alone. */
int threads_for(int64_t columns)
{
	int64_t warps = (columns + 4 * warp_lanes - 1) / (4 * warp_lanes);
	return int(warps < warps_in_block ? warps : warps_in_block) * warp_lanes;
}

template <typename T> struct norm_arguments {
	const T *z, *residual, *x;
	T *sum;
	const T *gamma, *beta;
	T *y, *mean, *rstd;
	int64_t columns, elements;
	double eps;
	ps_cuda_dropout drop;
	const int *stop;
};

/* The quad at `column` of the row: from x, or formed from z and the residual and stored as the sum. */
template <typename T, bool VECTOR, bool FUSED>
__device__ inline void take(const norm_arguments<T> &x, int64_t row, int64_t column, bool first, T (&value)[4])
{
	int64_t at = row * x.columns + column, left = x.columns - column;
	if (!FUSED) {
		load4<VECTOR>(value, x.x + at, left);
		return;
	}
	if (!first) {
		load4<VECTOR>(value, x.sum + at, left);
		return;
	}
	PS_QUAD(T, residual);
	load4<VECTOR>(value, x.z + at, left);
	load4<VECTOR>(residual, x.residual + at, left);
	drop4(x.drop, x.elements, at, value);
#pragma unroll
	for (int i = 0; i < 4; i++)
		value[i] += residual[i];
	store4<VECTOR>(x.sum + at, value, left);
}

/* Normalizes a quad and stores it in y. */
template <typename T, bool VECTOR>
__device__ inline void give(const norm_arguments<T> &x, int64_t row, int64_t column, T mean, T rstd, T (&value)[4])
{
	PS_QUAD(T, gamma);
	PS_QUAD(T, beta);
	int64_t left = x.columns - column;
	load4<VECTOR>(gamma, x.gamma + column, left);
	load4<VECTOR>(beta, x.beta + column, left);
#pragma unroll
	for (int i = 0; i < 4; i++)
		value[i] = (value[i] - mean) * rstd * gamma[i] + beta[i];
	store4<VECTOR>(x.y + row * x.columns + column, value, left);
}

template <typename T, bool VECTOR, bool FUSED>
__global__ void __launch_bounds__(block_threads) norm_kernel(norm_arguments<T> x)
{
	__shared__ T room[2][warps_in_block];
	if (*x.stop)
		return;
	int64_t row = blockIdx.x, step = int64_t(blockDim.x) * 4, start = int64_t(threadIdx.x) * 4;
	alignas(16) T kept[kept_quads][4];
	PS_QUAD(T, value);
	T sum = 0;
#pragma unroll
	for (int k = 0; k < kept_quads; k++) {
		int64_t column = start + k * step;
#pragma unroll
		for (int i = 0; i < 4; i++)
			kept[k][i] = 0;
		if (column < x.columns)
			take<T, VECTOR, FUSED>(x, row, column, true, kept[k]);
#pragma unroll
		for (int i = 0; i < 4; i++)
			sum += column + i < x.columns ? kept[k][i] : T(0);
	}
	for (int64_t column = start + kept_quads * step; column < x.columns; column += step) {
		take<T, VECTOR, FUSED>(x, row, column, true, value);
		for (int i = 0; i < 4; i++)
			sum += column + i < x.columns ? value[i] : T(0);
	}
	T mean = block_sum(sum, room[0]) / T(x.columns), squares = 0;
#pragma unroll
	for (int k = 0; k < kept_quads; k++)
#pragma unroll
		for (int i = 0; i < 4; i++) {
			T off = kept[k][i] - mean;
			squares += start + k * step + i < x.columns ? off * off : T(0);
		}
	for (int64_t column = start + kept_quads * step; column < x.columns; column += step) {
		take<T, VECTOR, FUSED>(x, row, column, false, value);
		for (int i = 0; i < 4; i++) {
			T off = value[i] - mean;
			squares += column + i < x.columns ? off * off : T(0);
		}
	}
	T variance = block_sum(squares, room[1]) / T(x.columns), rstd = T(1) / root_of(variance + T(x.eps));
#pragma unroll
	for (int k = 0; k < kept_quads; k++) {
		int64_t column = start + k * step;
		if (column < x.columns)
			give<T, VECTOR>(x, row, column, mean, rstd, kept[k]);
	}
	for (int64_t column = start + kept_quads * step; column < x.columns; column += step) {
		take<T, VECTOR, FUSED>(x, row, column, false, value);
		give<T, VECTOR>(x, row, column, mean, rstd, value);
	}
	if (threadIdx.x == 0) {
		x.mean[row] = mean;
		x.rstd[row] = rstd;
	}
}

struct norm_body {
	const ps_cuda_launch *launch;
	const ps_cuda_norm *norm;

	template <typename T, bool VECTOR> cudaError_t run() const
	{
		norm_arguments<T> x = {};
		x.z = static_cast<const T *>(norm->z);
		x.residual = static_cast<const T *>(norm->residual);
		x.x = static_cast<const T *>(norm->x);
		x.sum = static_cast<T *>(norm->sum);
		x.gamma = static_cast<const T *>(norm->gamma);
		x.beta = static_cast<const T *>(norm->beta);
		x.y = static_cast<T *>(norm->y);
		x.mean = static_cast<T *>(norm->mean);
		x.rstd = static_cast<T *>(norm->rstd);
		x.columns = norm->columns;
		x.elements = norm->elements;
		x.eps = norm->eps;
		x.drop = norm->drop;
		x.stop = launch->stop;
		void (*kernel)(norm_arguments<T>) =
		        norm->z ? norm_kernel<T, VECTOR, true> : norm_kernel<T, VECTOR, false>;
		return PS_LAUNCH(kernel, unsigned(norm->rows), threads_for(norm->columns), 0, launch->stream, x);
	}
};

template <typename T> struct norm_bwd_arguments {
	const T *dy, *x, *mean, *rstd, *gamma;
	T *dx, *dz;
	int64_t columns, elements;
	ps_cuda_dropout drop;
	const int *stop;
};

/* g = dy * gamma and xhat of a quad; both are 0 beyond the row's end. */
template <typename T, bool VECTOR>
__device__ inline void terms(const norm_bwd_arguments<T> &x, int64_t row, int64_t column, T mean, T rstd, T (&g)[4],
                             T (&xhat)[4])
{
	int64_t at = row * x.columns + column, left = x.columns - column;
	PS_QUAD(T, gamma);
	load4<VECTOR>(g, x.dy + at, left);
	load4<VECTOR>(xhat, x.x + at, left);
	load4<VECTOR>(gamma, x.gamma + column, left);
#pragma unroll
	for (int i = 0; i < 4; i++) {
		bool inside = i < left;
		g[i] = inside ? g[i] * gamma[i] : T(0);
		xhat[i] = inside ? (xhat[i] - mean) * rstd : T(0);
	}
}

template <typename T, bool VECTOR>
__device__ inline void give(const norm_bwd_arguments<T> &x, int64_t row, int64_t column, T rstd, T avg_g, T avg_gx,
                            T (&g)[4], const T (&xhat)[4])
{
	int64_t at = row * x.columns + column, left = x.columns - column;
#pragma unroll
	for (int i = 0; i < 4; i++)
		g[i] = rstd * (g[i] - avg_g - xhat[i] * avg_gx);
	store4<VECTOR>(x.dx + at, g, left);
	if (!x.dz)
		return;
	drop4(x.drop, x.elements, at, g);
	store4<VECTOR>(x.dz + at, g, left);
}

template <typename T, bool VECTOR>
__global__ void __launch_bounds__(block_threads) norm_bwd_kernel(norm_bwd_arguments<T> x)
{
	__shared__ T room[2][warps_in_block];
	if (*x.stop)
		return;
	int64_t row = blockIdx.x, step = int64_t(blockDim.x) * 4, start = int64_t(threadIdx.x) * 4;
	T mean = x.mean[row], rstd = x.rstd[row], sum_g = 0, sum_gx = 0;
	alignas(16) T g[kept_quads][4], xhat[kept_quads][4];
	PS_QUAD(T, more_g);
	PS_QUAD(T, more_xhat);
#pragma unroll
	for (int k = 0; k < kept_quads; k++) {
		int64_t column = start + k * step;
#pragma unroll
		for (int i = 0; i < 4; i++)
			g[k][i] = xhat[k][i] = 0;
		if (column < x.columns)
			terms<T, VECTOR>(x, row, column, mean, rstd, g[k], xhat[k]);
#pragma unroll
		for (int i = 0; i < 4; i++) {
			sum_g += g[k][i];
			sum_gx += g[k][i] * xhat[k][i];
		}
	}
	for (int64_t column = start + kept_quads * step; column < x.columns; column += step) {
		terms<T, VECTOR>(x, row, column, mean, rstd, more_g, more_xhat);
		for (int i = 0; i < 4; i++) {
			sum_g += more_g[i];
			sum_gx += more_g[i] * more_xhat[i];
		}
	}
	T avg_g = block_sum(sum_g, room[0]) / T(x.columns), avg_gx = block_sum(sum_gx, room[1]) / T(x.columns);
#pragma unroll
	for (int k = 0; k < kept_quads; k++)
		if (start + k * step < x.columns)
			give<T, VECTOR>(x, row, start + k * step, rstd, avg_g, avg_gx, g[k], xhat[k]);
	for (int64_t column = start + kept_quads * step; column < x.columns; column += step) {
		terms<T, VECTOR>(x, row, column, mean, rstd, more_g, more_xhat);
		give<T, VECTOR>(x, row, column, rstd, avg_g, avg_gx, more_g, more_xhat);
	}
}

struct norm_bwd_body {
	const ps_cuda_launch *launch;
	const ps_cuda_norm_bwd *norm;

	template <typename T, bool VECTOR> cudaError_t run() const
	{
		norm_bwd_arguments<T> x = {static_cast<const T *>(norm->dy),
		                           static_cast<const T *>(norm->x),
		                           static_cast<const T *>(norm->mean),
		                           static_cast<const T *>(norm->rstd),
		                           static_cast<const T *>(norm->gamma),
		                           static_cast<T *>(norm->dx),
		                           static_cast<T *>(norm->dz),
		                           norm->columns,
		                           norm->elements,
		                           norm->drop,
		                           launch->stop};
		void (*kernel)(norm_bwd_arguments<T>) = norm_bwd_kernel<T, VECTOR>;
		return PS_LAUNCH(kernel, unsigned(norm->rows), threads_for(norm->columns), 0, launch->stream, x);
	}
};

} // namespace
} // namespace ps

extern "C" cudaError_t ps__cuda_layernorm_fwd(const ps_cuda_launch *launch, const ps_cuda_norm *norm)
{
	bool vector = norm->columns % 4 == 0 && ps::aligned16(norm->z, norm->residual, norm->x, norm->sum, norm->y) &&
	              ps::aligned16(norm->gamma, norm->beta);
	return ps::by_dtype(launch->dtype, vector, ps::norm_body{launch, norm});
}

extern "C" cudaError_t ps__cuda_layernorm_bwd_input(const ps_cuda_launch *launch, const ps_cuda_norm_bwd *norm)
{
	bool vector = norm->columns % 4 == 0 && ps::aligned16(norm->dy, norm->x, norm->dx, norm->dz, norm->gamma);
	return ps::by_dtype(launch->dtype, vector, ps::norm_bwd_body{launch, norm});
}
