/*
 * LayerNorm, alone and fused with the dropout and the residual before it, and its input gradient.
 *
 * A block does a row; a thread keeps up to four quads of it in registers, so that rows of up to 4096 elements are read
 * once; longer ones are read again, from cache. All of a row is on its way before any of it is waited for, and so are
 * gamma and beta while the block adds up: that hides the latency, which is most of a micro-batch's time. mean and
 * variance are two passes over the values, as in the reference.
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

/*
 * On a multiprocessor at least, of fp32: 500 rows are then at work at once on 132 of them. A quad that has random
 * blocks of two rows takes more registers.
 */
template <typename T, bool PARTED = false> constexpr int blocks_at_once()
{
	return sizeof(T) != sizeof(float) ? 1 : PARTED ? 3 : 4;
}

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

/* How much of a row is kept: a number of 32 bits, for half the registers. */
__device__ inline int kept_of(int64_t columns)
{
	constexpr int most = kept_quads * 4 * block_threads;
	return columns < most ? int(columns) : most;
}

/* A thread's first column, and the first that it does not keep. The next ones follow at four times blockDim.x. */
__device__ inline unsigned first_column()
{
	return thread_anew() * 4;
}
__device__ inline int64_t first_rest()
{
	return int64_t(first_column() + kept_quads * blockDim.x * 4);
}

/* Is element i of a quad one of the row's, of which so many are left? With VECTOR all four are or none is. */
template <bool VECTOR> __device__ inline bool inside(int i, int64_t left)
{
	return VECTOR ? left > 0 : i < left;
}

/* From z and the residual to their sum, in the place of z. */
template <bool VECTOR, typename T>
__device__ inline void join(const dropped_row &row, int64_t column, const T (&residual)[4], T (&value)[4])
{
	drop4<VECTOR>(row, column, value);
#pragma unroll
	for (int i = 0; i < 4; i++)
		value[i] += residual[i];
}

/* A thread's quads of a row that begins at `at`, 0 where the row has no more. */
template <bool VECTOR, typename T> __device__ inline void take_kept(const T *at, int columns, T (&kept)[kept_quads][4])
{
	unsigned step = blockDim.x * 4, column = first_column();
#pragma unroll
	for (int k = 0; k < kept_quads; k++, column += step)
		load4<VECTOR>(kept[k], at + column, columns - int(column));
}

/* A quad of what is not kept: x, or the sum, which is formed and stored when `first` is. */
template <typename T, bool VECTOR, bool FUSED>
__device__ inline void take_rest(const norm_arguments<T> &x, const dropped_row &row, int64_t column, bool first,
                                 T (&value)[4])
{
	int64_t at = row.at + column, left = x.columns - column;
	load4<VECTOR>(value, (!FUSED ? x.x : first ? x.z : x.sum) + at, left);
	if (!FUSED || !first)
		return;
	PS_QUAD(T, residual);
	load4<VECTOR>(residual, x.residual + at, left);
	join<VECTOR>(row, column, residual, value);
	put4<VECTOR>(x.sum + at, value, left);
}

template <typename T> __device__ inline T add4(const T (&value)[4], T sum)
{
#pragma unroll
	for (int i = 0; i < 4; i++)
		sum += value[i];
	return sum;
}

/* From elements to their distances from the mean, 0 beyond the row's end, in their place; sum + their squares. */
template <bool VECTOR, typename T> __device__ inline T add_distances(T (&value)[4], T mean, int64_t left, T sum)
{
#pragma unroll
	for (int i = 0; i < 4; i++) {
		value[i] = inside<VECTOR>(i, left) ? value[i] - mean : T(0);
		sum += value[i] * value[i];
	}
	return sum;
}

/* Normalizes a quad of distances from the mean and stores it in y. */
template <typename T, bool VECTOR>
__device__ inline void give(const norm_arguments<T> &x, int64_t at, int64_t left, T rstd, const T (&gamma)[4],
                            const T (&beta)[4], T (&value)[4])
{
#pragma unroll
	for (int i = 0; i < 4; i++)
		value[i] = value[i] * rstd * gamma[i] + beta[i];
	put4<VECTOR>(x.y + at, value, left);
}

template <typename T, bool VECTOR, bool FUSED>
__global__ void __launch_bounds__(block_threads, blocks_at_once<T, FUSED && !VECTOR>()) norm_kernel(norm_arguments<T> x)
{
	__shared__ T room[2][warps_in_block];
	unsigned step = blockDim.x * 4, start = first_column();
	int columns = kept_of(x.columns);
	int64_t at = blockIdx.x * x.columns;
	bool stop = *x.stop;
	alignas(16) T kept[kept_quads][4], gamma[kept_quads][4], beta[kept_quads][4];
	PS_QUAD(T, value);
	T sum = 0, squares = 0;
	/* All that is kept is asked for before any is waited for. */
	take_kept<VECTOR>((FUSED ? x.z : x.x) + at, columns, kept);
	if (FUSED)
		take_kept<VECTOR>(x.residual + at, columns, gamma);
	dropped_row row = row_at(this_step(x.drop), x.elements, at);
#pragma unroll
	for (int k = 0; k < kept_quads; k++) {
		if (FUSED)
			join<VECTOR>(row, start + k * step, gamma[k], kept[k]);
		sum = add4(kept[k], sum);
	}
#pragma unroll 1
	for (int64_t column = first_rest(); column < x.columns && !stop; column += step) {
		take_rest<T, VECTOR, FUSED>(x, row, column, true, value);
		sum = add4(value, sum);
	}
	/* On its way while the block adds up, as beta is when it does so again: the registers have no room for both. */
	take_kept<VECTOR>(x.gamma, columns, gamma);
	T mean = block_sum(sum, room[0]) / T(x.columns), ignored = 0;
	if (stop)
		return;
	start = first_column();
#pragma unroll
	for (int k = 0; k < kept_quads; k++) {
		unsigned column = start + k * step;
		if (FUSED)
			put4<VECTOR>(x.sum + at + column, kept[k], columns - int(column));
		squares = add_distances<VECTOR>(kept[k], mean, columns - int(column), squares);
	}
#pragma unroll 1
	for (int64_t column = first_rest(); column < x.columns; column += step) {
		take_rest<T, VECTOR, FUSED>(x, row, column, false, value);
		squares = add_distances<VECTOR>(value, mean, x.columns - column, squares);
	}
	if (thread_anew() == 0)
		x.mean[blockIdx.x] = mean;
	take_kept<VECTOR>(x.beta, columns, beta);
	T variance = block_sum(squares, room[1]) / T(x.columns), rstd = T(1) / root_of(variance + T(x.eps));
	if (thread_anew() == 0)
		x.rstd[blockIdx.x] = rstd;
	start = first_column();
#pragma unroll
	for (int k = 0; k < kept_quads; k++) {
		unsigned column = start + k * step;
		give<T, VECTOR>(x, at + column, columns - int(column), rstd, gamma[k], beta[k], kept[k]);
	}
#pragma unroll 1
	for (int64_t column = first_rest(); column < x.columns; column += step) {
		take_rest<T, VECTOR, FUSED>(x, row, column, false, value);
		add_distances<VECTOR>(value, mean, x.columns - column, ignored);
		load4<VECTOR>(gamma[0], x.gamma + column, x.columns - column);
		load4<VECTOR>(beta[0], x.beta + column, x.columns - column);
		give<T, VECTOR>(x, at + column, x.columns - column, rstd, gamma[0], beta[0], value);
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

/* From dy, x and gamma of a quad to g = dy * gamma and xhat, both 0 beyond the row's end, and their part of the sums.
 */
template <bool VECTOR, typename T>
__device__ inline void terms(int64_t left, T mean, T rstd, const T (&gamma)[4], T (&g)[4], T (&xhat)[4], T *sum_g,
                             T *sum_gx)
{
#pragma unroll
	for (int i = 0; i < 4; i++) {
		g[i] *= gamma[i];
		xhat[i] = inside<VECTOR>(i, left) ? (xhat[i] - mean) * rstd : T(0);
		*sum_g += g[i];
		*sum_gx += g[i] * xhat[i];
	}
}

/* The same of a quad that is not kept. */
template <typename T, bool VECTOR>
__device__ inline void take_rest(const norm_bwd_arguments<T> &x, const dropped_row &row, int64_t column, T mean, T rstd,
                                 T (&g)[4], T (&xhat)[4], T *sum_g, T *sum_gx)
{
	int64_t left = x.columns - column;
	PS_QUAD(T, gamma);
	load4<VECTOR>(g, x.dy + row.at + column, left);
	load4<VECTOR>(xhat, x.x + row.at + column, left);
	load4<VECTOR>(gamma, x.gamma + column, left);
	terms<VECTOR>(left, mean, rstd, gamma, g, xhat, sum_g, sum_gx);
}

template <typename T, bool VECTOR>
__device__ inline void give(const norm_bwd_arguments<T> &x, const dropped_row &row, int64_t column, int64_t left,
                            T rstd, T avg_g, T avg_gx, T (&g)[4], const T (&xhat)[4])
{
	int64_t at = row.at + column;
#pragma unroll
	for (int i = 0; i < 4; i++)
		g[i] = rstd * (g[i] - avg_g - xhat[i] * avg_gx);
	put4<VECTOR>(x.dx + at, g, left);
	if (!x.dz)
		return;
	drop4<VECTOR>(row, column, g);
	put4<VECTOR>(x.dz + at, g, left);
}

template <typename T, bool VECTOR>
__global__ void __launch_bounds__(block_threads, blocks_at_once<T>()) norm_bwd_kernel(norm_bwd_arguments<T> x)
{
	__shared__ T room[2][warps_in_block];
	unsigned step = blockDim.x * 4, start = first_column();
	int columns = kept_of(x.columns);
	int64_t at = blockIdx.x * x.columns;
	bool stop = *x.stop;
	T mean = x.mean[blockIdx.x], rstd = x.rstd[blockIdx.x], sum_g = 0, sum_gx = 0;
	alignas(16) T g[kept_quads][4], xhat[kept_quads][4], gamma[kept_quads][4];
	/* All that is kept is asked for before any is waited for. */
	take_kept<VECTOR>(x.dy + at, columns, g);
	take_kept<VECTOR>(x.x + at, columns, xhat);
	take_kept<VECTOR>(x.gamma, columns, gamma);
	dropped_row row = row_at(this_step(x.drop), x.elements, at);
#pragma unroll
	for (int k = 0; k < kept_quads; k++)
		terms<VECTOR>(columns - int(start + k * step), mean, rstd, gamma[k], g[k], xhat[k], &sum_g, &sum_gx);
	PS_QUAD(T, more_g);
	PS_QUAD(T, more_xhat);
	T ignored = 0;
#pragma unroll 1
	for (int64_t column = first_rest(); column < x.columns; column += step)
		take_rest<T, VECTOR>(x, row, column, mean, rstd, more_g, more_xhat, &sum_g, &sum_gx);
	T avg_g = block_sum(sum_g, room[0]) / T(x.columns), avg_gx = block_sum(sum_gx, room[1]) / T(x.columns);
	if (stop)
		return;
	start = first_column();
#pragma unroll
	for (int k = 0; k < kept_quads; k++)
		give<T, VECTOR>(x, row, start + k * step, columns - int(start + k * step), rstd, avg_g, avg_gx, g[k],
		                xhat[k]);
#pragma unroll 1
	for (int64_t column = first_rest(); column < x.columns; column += step) {
		take_rest<T, VECTOR>(x, row, column, mean, rstd, more_g, more_xhat, &ignored, &ignored);
		give<T, VECTOR>(x, row, column, x.columns - column, rstd, avg_g, avg_gx, more_g, more_xhat);
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
	bool vector = norm->columns % 4 == 0 && norm->elements % 4 == 0 &&
	              ps::aligned16(norm->z, norm->residual, norm->x, norm->sum, norm->y) &&
	              ps::aligned16(norm->gamma, norm->beta);
	return ps::by_dtype(launch->dtype, vector, ps::norm_body{launch, norm});
}

extern "C" cudaError_t ps__cuda_layernorm_bwd_input(const ps_cuda_launch *launch, const ps_cuda_norm_bwd *norm)
{
	bool vector = norm->columns % 4 == 0 && norm->elements % 4 == 0 &&
	              ps::aligned16(norm->dy, norm->x, norm->dx, norm->dz, norm->gamma);
	return ps::by_dtype(launch->dtype, vector, ps::norm_bwd_body{launch, norm});
}
