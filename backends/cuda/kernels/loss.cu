/*
 * Softmax, cross entropy and its gradient in one kernel. A block does a row: one pass with a running maximum, and a
 * second one, from cache, for the gradient.
 *
 * Bytes per element (fp32): 4 for the loss alone, 8 with the gradient (12 where a row does not stay in cache); about 4
 * operations and 1 exponential, with the gradient 8 and 2.
 */
#include "backends/cuda/kernels/common.cuh"

namespace ps
{
namespace
{

constexpr int loss_threads = 512;
constexpr int loss_warps = loss_threads / warp_lanes;

template <typename T> struct loss_arguments {
	const T *logits;
	const int32_t *targets;
	T *losses, *dlogits;
	int64_t columns;
	double scale;
	const int *stop;
};

/* The sum of exp(value - most) over what was seen. */
template <typename T> struct running {
	T most, sum;
};

/* The sum to another maximum. An empty one stays empty, where the difference could be that of two infinities. */
template <typename T> __device__ inline T rescale(T sum, T from, T to)
{
	return sum == T(0) ? T(0) : sum * exp_of(from - to);
}

template <typename T> __device__ inline running<T> join(running<T> a, running<T> b)
{
	T most = a.most > b.most ? a.most : b.most;
	return running<T>{most, rescale(a.sum, a.most, most) + rescale(b.sum, b.most, most)};
}

template <typename T, bool VECTOR> __device__ inline running<T> scan(const T *logits, int64_t columns)
{
	running<T> state = {-T(INFINITY), T(0)};
	for (int64_t column = int64_t(threadIdx.x) * 4; column < columns; column += int64_t(blockDim.x) * 4) {
		PS_QUAD(T, value);
		int64_t left = columns - column;
		load4<VECTOR>(value, logits + column, left);
		T most = state.most;
#pragma unroll
		for (int i = 0; i < 4; i++)
			most = i < left && value[i] > most ? value[i] : most;
		T sum = rescale(state.sum, state.most, most);
#pragma unroll
		for (int i = 0; i < 4; i++)
			sum += i < left ? exp_of(value[i] - most) : T(0);
		state = running<T>{most, sum};
	}
	return state;
}

template <typename T, bool VECTOR> __global__ void loss_kernel(loss_arguments<T> x)
{
	__shared__ running<T> room[loss_warps];
	if (*x.stop)
		return;
	const T *logits = x.logits + int64_t(blockIdx.x) * x.columns;
	int32_t target = x.targets[blockIdx.x];
	/* Read before the barrier, since dlogits may be logits. */
	T picked = logits[target];
	running<T> state = scan<T, VECTOR>(logits, x.columns);
#pragma unroll
	for (int lanes = warp_lanes / 2; lanes > 0; lanes /= 2) {
		running<T> other;
		other.most = __shfl_xor_sync(0xffffffffU, state.most, lanes);
		other.sum = __shfl_xor_sync(0xffffffffU, state.sum, lanes);
		state = join(state, other);
	}
	if (threadIdx.x % warp_lanes == 0)
		room[threadIdx.x / warp_lanes] = state;
	__syncthreads();
	state = room[0];
	for (int i = 1; i < loss_warps; i++)
		state = join(state, room[i]);
	if (threadIdx.x == 0)
		x.losses[blockIdx.x] = log_of(state.sum) + (state.most - picked);
	if (!x.dlogits)
		return;
	T *dlogits = x.dlogits + int64_t(blockIdx.x) * x.columns;
	for (int64_t column = int64_t(threadIdx.x) * 4; column < x.columns; column += int64_t(blockDim.x) * 4) {
		PS_QUAD(T, value);
		load4<VECTOR>(value, logits + column, x.columns - column);
#pragma unroll
		for (int i = 0; i < 4; i++) {
			T softmax = exp_of(value[i] - state.most) / state.sum;
			value[i] = T(x.scale) * (softmax - (column + i == target ? T(1) : T(0)));
		}
		store4<VECTOR>(dlogits + column, value, x.columns - column);
	}
}

struct loss_body {
	const ps_cuda_launch *launch;
	const void *logits;
	const int32_t *targets;
	void *losses, *dlogits;
	int64_t rows, columns;
	double scale;

	template <typename T, bool VECTOR> cudaError_t run() const
	{
		loss_arguments<T> x = {static_cast<const T *>(logits),
		                       targets,
		                       static_cast<T *>(losses),
		                       static_cast<T *>(dlogits),
		                       columns,
		                       scale,
		                       launch->stop};
		void (*kernel)(loss_arguments<T>) = loss_kernel<T, VECTOR>;
		return PS_LAUNCH(kernel, unsigned(rows), loss_threads, 0, launch->stream, x);
	}
};

} // namespace
} // namespace ps

extern "C" cudaError_t ps__cuda_cross_entropy(const ps_cuda_launch *launch, const void *logits, const int32_t *targets,
                                              void *losses, void *dlogits, int64_t rows, int64_t columns, double scale)
{
	bool vector = columns % 4 == 0 && ps::aligned16(logits, dlogits);
	return ps::by_dtype(launch->dtype, vector,
	                    ps::loss_body{launch, logits, targets, losses, dlogits, rows, columns, scale});
}
