/*
 * The gradient norm, clipping and SGD. Sums of squares and updates are done for a run of tensors by one launch, whose
 * arguments list them; each gets the same bits as by itself.
 *
 * Bytes per element: in fp32 sum_squares 4, sgd 12, 14 with a copy; in bf16 2 and 6. 2 operations each, those of
 * sum_squares in double.
 */
#include "backends/cuda/kernels/common.cuh"

namespace ps
{
namespace
{

constexpr int per_thread = 16;         /* elements, until there are PS_CUDA_PARTIALS blocks */
constexpr unsigned most_blocks = 4096; /* of one tensor's update */

/* One tensor of a run, which the second dimension of the grid walks. */
struct squares_tensor {
	const void *x;
	double *out;
	int64_t count;
	unsigned blocks;
	int dtype;
	bool vector;
};

struct squares_arguments {
	squares_tensor tensors[PS_CUDA_RUN];
	double *partials; /* (tensors, PS_CUDA_PARTIALS) */
	const int *stop;
};

template <typename T, bool VECTOR> __device__ inline double add_squares(const squares_tensor &own)
{
	double sum = 0;
	int64_t step = int64_t(own.blocks) * blockDim.x * 4;
	for (int64_t at = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * 4; at < own.count; at += step) {
		PS_QUAD(typename computed<T>::type, value);
		load4<VECTOR>(value, static_cast<const T *>(own.x) + at, own.count - at);
#pragma unroll
		for (int i = 0; i < 4; i++)
			sum += double(value[i]) * double(value[i]);
	}
	return sum;
}

/* One partial sum per block; the number of blocks and what each adds depend on the tensor's count alone. */
__global__ void squares_kernel(squares_arguments x)
{
	__shared__ double room[block_threads / warp_lanes];
	const squares_tensor own = x.tensors[blockIdx.y];
	if (*x.stop || blockIdx.x >= own.blocks)
		return;
	double sum;
	if (own.dtype == PS_F64)
		sum = add_squares<double, false>(own);
	else if (own.dtype == PS_BF16)
		sum = own.vector ? add_squares<bf16, true>(own) : add_squares<bf16, false>(own);
	else
		sum = own.vector ? add_squares<float, true>(own) : add_squares<float, false>(own);
	sum = block_sum(sum, room);
	if (threadIdx.x == 0)
		x.partials[blockIdx.y * PS_CUDA_PARTIALS + blockIdx.x] = sum;
}

/* A block for each tensor. */
__global__ void join_kernel(squares_arguments x)
{
	__shared__ double room[block_threads / warp_lanes];
	const squares_tensor own = x.tensors[blockIdx.y];
	if (*x.stop)
		return;
	double sum = 0;
	for (int i = int(threadIdx.x); i < int(own.blocks); i += int(blockDim.x))
		sum += x.partials[blockIdx.y * PS_CUDA_PARTIALS + i];
	sum = block_sum(sum, room);
	if (threadIdx.x == 0)
		*own.out = sum;
}

/* One block. The sums are added in ascending order, from shared memory. */
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
	*scale = isfinite(root) ? factor : double(NAN);
}

/* One tensor of a run. */
struct sgd_tensor {
	void *w;
	const void *g;
	bf16 *copy;
	int64_t count;
	unsigned blocks;
	uint32_t place;
	int dtype;
	bool vector;
};

struct sgd_arguments {
	sgd_tensor tensors[PS_CUDA_RUN];
	double lr;
	const double *scale;
	ps_cuda_dropout random;
	const int *stop;
};

template <typename T, bool VECTOR> __device__ inline void update(const sgd_arguments &x, const sgd_tensor &own)
{
	T rate = T(x.lr * *x.scale);
	T *weights = static_cast<T *>(own.w);
	int64_t step = int64_t(own.blocks) * blockDim.x * 4;
	for (int64_t at = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * 4; at < own.count; at += step) {
		int64_t left = own.count - at;
		PS_QUAD(T, w);
		PS_QUAD(T, g);
		load4<VECTOR>(w, weights + at, left);
		load4<VECTOR>(g, static_cast<const T *>(own.g) + at, left);
#pragma unroll
		for (int i = 0; i < 4; i++)
			w[i] -= rate * g[i];
		store4<VECTOR>(weights + at, w, left);
		if constexpr (sizeof(T) == sizeof(float))
			if (own.copy)
				store4<VECTOR>(own.copy + at, w, left);
	}
}

/* A thread does the eight elements of a random block, by half a word each. */
__device__ inline void update_bf16(const sgd_arguments &x, const sgd_tensor &own)
{
	float rate = float(x.lr * *x.scale);
	bf16 *w = static_cast<bf16 *>(own.w);
	const bf16 *g = static_cast<const bf16 *>(own.g);
	ps_cuda_dropout random = x.random;
	random.place = own.place;
	int64_t step = int64_t(own.blocks) * blockDim.x;
	for (int64_t block = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; block * 8 < own.count; block += step) {
		words bits = philox(random, 0, uint32_t(block));
		int64_t at = block * 8;
#pragma unroll
		for (int i = 0; i < 8; i++) {
			if (at + i >= own.count)
				continue;
			float updated = fmaf(-rate, widen(g[at + i]), widen(w[at + i]));
			w[at + i] = cut(updated, bits.w[i / 2] >> 16 * (i % 2) & 0xFFFFU);
		}
	}
}

__global__ void sgd_kernel(sgd_arguments x)
{
	const sgd_tensor own = x.tensors[blockIdx.y];
	if (*x.stop || blockIdx.x >= own.blocks || isnan(*x.scale))
		return;
	if (own.dtype == PS_F64)
		update<double, false>(x, own);
	else if (own.dtype == PS_BF16)
		update_bf16(x, own);
	else if (own.vector)
		update<float, true>(x, own);
	else
		update<float, false>(x, own);
}

inline unsigned at_most(int64_t blocks, unsigned most)
{
	return blocks < int64_t(most) ? unsigned(blocks) : most;
}

} // namespace
} // namespace ps

extern "C" cudaError_t ps__cuda_sum_squares(const ps_cuda_launch *launch, const ps_cuda_squares *tensors, int count,
                                            double *partials)
{
	ps::squares_arguments x = {};
	unsigned most = 0;
	for (int i = 0; i < count; i++) {
		const ps_cuda_squares *from = &tensors[i];
		unsigned blocks =
		        ps::at_most(ps::blocks_for(from->count, ps::block_threads * ps::per_thread), PS_CUDA_PARTIALS);
		x.tensors[i] = {from->x, from->out,        from->count,
		                blocks,  int(from->dtype), from->count % 4 == 0 && ps::aligned16(from->x)};
		most = blocks > most ? blocks : most;
	}
	x.partials = partials;
	x.stop = launch->stop;
	void (*squares)(ps::squares_arguments) = ps::squares_kernel, (*join)(ps::squares_arguments) = ps::join_kernel;
	cudaError_t error = PS_LAUNCH(squares, dim3(most, unsigned(count)), ps::block_threads, 0, launch->stream, x);
	if (error != cudaSuccess)
		return error;
	return PS_LAUNCH(join, dim3(1, unsigned(count)), ps::block_threads, 0, launch->stream, x);
}

extern "C" cudaError_t ps__cuda_clip_scale(const ps_cuda_launch *launch, const double *sums, int64_t count,
                                           double *norm, double *scale, double max_norm)
{
	void (*kernel)(const double *, int64_t, double *, double *, double, const int *) = ps::clip_kernel;
	return PS_LAUNCH(kernel, 1, ps::block_threads, 0, launch->stream, sums, count, norm, scale, max_norm,
	                 launch->stop);
}

extern "C" cudaError_t ps__cuda_sgd(const ps_cuda_launch *launch, const ps_cuda_update *tensors, int count, double lr,
                                    const double *scale, const ps_cuda_dropout *random)
{
	ps::sgd_arguments x = {};
	unsigned most = 0;
	for (int i = 0; i < count; i++) {
		const ps_cuda_update *from = &tensors[i];
		int each = from->dtype == PS_BF16 ? 8 : 4;
		unsigned blocks = ps::at_most(ps::blocks_for((from->count + each - 1) / each), ps::most_blocks);
		x.tensors[i] = {from->w,
		                from->g,
		                static_cast<ps::bf16 *>(from->copy),
		                from->count,
		                blocks,
		                from->place,
		                int(from->dtype),
		                from->count % 4 == 0 && ps::aligned16(from->w, from->g, from->copy)};
		most = blocks > most ? blocks : most;
	}
	x.lr = lr;
	x.scale = scale;
	x.random = *random;
	x.stop = launch->stop;
	void (*kernel)(ps::sgd_arguments) = ps::sgd_kernel;
	return PS_LAUNCH(kernel, dim3(most, unsigned(count)), ps::block_threads, 0, launch->stream, x);
}
