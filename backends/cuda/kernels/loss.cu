/*
 * Softmax, cross entropy and its gradient in one kernel. A block does a row and keeps it in registers, so that it is
 * read once and each exponential is formed once: up to 32,768 elements of fp32, or 12,288 of fp64. What a longer row
 * has beyond that is read again, from cache.
 *
 * Bytes per element (fp32): 4 for the loss alone, 8 with the gradient. Operations: 3 and an exponential, with the
 * gradient 3 more, about 30 instructions. So the memory bounds it: 75 rows of 28,782 take 5.2 us on an H100, 500 rows
 * 34 us. A block of 1024 threads with 64 registers each fills a multiprocessor's registers; all of its
 * row is asked for at once, which is what hides the latency.
 */
#include "backends/cuda/kernels/common.cuh"

namespace ps
{
namespace
{

constexpr int loss_threads = 1024;

template <typename T> struct loss_arguments {
	const T *logits;
	const int32_t *targets;
	T *losses, *dlogits;
	int64_t columns;
	double scale;
	const int *stop;
};

/* What is not there becomes minus infinity, which adds nothing to the sum. */
template <typename T> __device__ inline void take(T (&value)[4], int64_t left, T *most)
{
#pragma unroll
	for (int i = 0; i < 4; i++) {
		value[i] = i < left ? value[i] : -T(INFINITY);
		*most = value[i] > *most ? value[i] : *most;
	}
}

/* From the exponentials of four neighbours to their gradients. `share`: 1 / the sum of all. */
template <int ACCESS, typename T>
__device__ inline void give(const loss_arguments<T> &x, int64_t row, int64_t column, int64_t target, T share,
                            T (&value)[4])
{
#pragma unroll
	for (int i = 0; i < 4; i++)
		value[i] = T(x.scale) * (product(value[i], share) - (column + i == target ? T(1) : T(0)));
	store_row<ACCESS>(x.dlogits + row * x.columns + column, value, x.columns - column);
}

template <typename T, int ACCESS> __global__ void __launch_bounds__(loss_threads) loss_kernel(loss_arguments<T> x)
{
	constexpr int kept_quads = sizeof(T) == sizeof(float) ? 8 : 3;
	__shared__ T room[2][loss_threads / warp_lanes];
	bool stop = *x.stop;
	unsigned step = blockDim.x * 4, start = threadIdx.x * 4;
	int64_t row = blockIdx.x;
	const T *logits = x.logits + row * x.columns;
	int64_t target = x.targets[row];
	T most = -T(INFINITY), sum = 0;
	alignas(16) T kept[kept_quads][4];
	PS_QUAD(T, more);
#pragma unroll
	for (int k = 0; k < kept_quads; k++)
		load_row<ACCESS>(kept[k], logits + start + k * step, x.columns - start - k * step);
	/* The target is in range if nothing has stopped. Read before the barrier, since dlogits may be logits. */
	T picked = stop ? T(0) : logits[target];
#pragma unroll
	for (int k = 0; k < kept_quads; k++)
		take(kept[k], x.columns - start - k * step, &most);
#pragma unroll 1
	for (int64_t column = thread_anew() * 4 + kept_quads * step; column < x.columns; column += step) {
		load_row<ACCESS>(more, logits + column, x.columns - column);
		take(more, x.columns - column, &most);
	}
	most = block_max(most, room[0]);
#pragma unroll
	for (int k = 0; k < kept_quads; k++)
#pragma unroll
		for (int i = 0; i < 4; i++)
			sum += kept[k][i] = exp_of(kept[k][i] - most);
#pragma unroll 1
	for (int64_t column = thread_anew() * 4 + kept_quads * step; column < x.columns; column += step) {
		load_row<ACCESS>(more, logits + column, x.columns - column);
		for (int i = 0; i < 4; i++)
			if (column + i < x.columns)
				sum += exp_of(more[i] - most);
	}
	sum = block_sum(sum, room[1]);
	if (stop)
		return;
	if (thread_anew() == 0)
		x.losses[row] = log_of(sum) + (most - picked);
	if (!x.dlogits)
		return;
	T share = T(1) / sum;
	start = thread_anew() * 4;
#pragma unroll
	for (int k = 0; k < kept_quads; k++)
		if (start + k * step < x.columns)
			give<ACCESS>(x, row, start + k * step, target, share, kept[k]);
#pragma unroll 1
	for (int64_t column = thread_anew() * 4 + kept_quads * step; column < x.columns; column += step) {
		load_row<ACCESS>(more, logits + column, x.columns - column);
		for (int i = 0; i < 4; i++)
			more[i] = exp_of(more[i] - most);
		give<ACCESS>(x, row, column, target, share, more);
	}
}

struct loss_body {
	const ps_cuda_launch *launch;
	const void *logits;
	const int32_t *targets;
	void *losses, *dlogits;
	int64_t rows, columns;
	double scale;

	template <typename T, int ACCESS> cudaError_t run() const
	{
		loss_arguments<T> x = {static_cast<const T *>(logits),
		                       targets,
		                       static_cast<T *>(losses),
		                       static_cast<T *>(dlogits),
		                       columns,
		                       scale,
		                       launch->stop};
		/* By the length of a row alone. */
		int64_t warps = (columns + 4 * warp_lanes - 1) / (4 * warp_lanes), most = loss_threads / warp_lanes;
		int threads = int(warps < most ? warps : most) * warp_lanes;
		void (*kernel)(loss_arguments<T>) = loss_kernel<T, ACCESS>;
		return PS_LAUNCH(kernel, unsigned(rows), threads, 0, launch->stream, x);
	}
};

} // namespace
} // namespace ps

extern "C" cudaError_t ps__cuda_cross_entropy(const ps_cuda_launch *launch, const void *logits, const int32_t *targets,
                                              void *losses, void *dlogits, int64_t rows, int64_t columns, double scale)
{
	ps::loss_body body = {launch, logits, targets, losses, dlogits, rows, columns, scale};
	return ps::by_access(launch->dtype, ps::bits_of(logits, dlogits), columns, body);
}
