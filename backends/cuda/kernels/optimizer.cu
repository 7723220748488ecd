/*
 * The gradient norm, clipping and SGD. Sums of squares and updates are done for a run of tensors by one launch, whose
 * arguments list them; each gets the same bits as by itself.
 *
 * Bytes per element: in fp32 sum_squares 4, sgd 12, 14 with a copy; in bf16 2 and 6. 2 operations each, those of
 * sum_squares in double, with a conversion before them; an update in bf16 adds some 15 of integers. On an H100 the
 * memory bounds them: 1.44e9 elements in fp32 take 1.7 and 5.2 ms. A GPU that does doubles at 1/64 of its fp32 rate
 * (sm_86, 89, 120) is bound by those in sum_squares: 1.44e9 squares take 10 ms on 84 multiprocessors at 1.7 GHz.
 */
#include "backends/cuda/kernels/common.cuh"

namespace ps
{
namespace
{

constexpr int per_thread = 16;         /* elements, until there are PS_CUDA_PARTIALS blocks */
constexpr unsigned most_blocks = 4096; /* of one tensor's update */

/*
 * One tensor of a run. Its blocks follow those of the tensors before it, so that none of the grid's has nothing to do,
 * however different the tensors are.
 */
struct squares_tensor {
	const void *x;
	double *out;
	int64_t count;
	unsigned first, blocks;
	int dtype;
	bool vector;
};

/* Whose is the block? By halves, for all of its threads ask the same. */
template <typename TENSOR> __device__ inline int tensor_of(const TENSOR (&tensors)[PS_CUDA_RUN], int count)
{
	int low = 0;
	for (int high = count; high - low > 1;) {
		int middle = (low + high) / 2;
		if (tensors[middle].first <= blockIdx.x)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* The running thread among those of its tensor. */
template <typename TENSOR> __device__ inline int64_t thread_of(const TENSOR &own)
{
	return int64_t(blockIdx.x - own.first) * blockDim.x + threadIdx.x;
}

struct squares_arguments {
	squares_tensor tensors[PS_CUDA_RUN];
	int count;
	double *partials; /* (tensors, PS_CUDA_PARTIALS) */
	const int *stop;
};

template <typename T, bool VECTOR> __device__ inline double add_squares(const squares_tensor &own)
{
	double sum = 0;
	int64_t step = int64_t(own.blocks) * blockDim.x * 4;
	for (int64_t at = thread_of(own) * 4; at < own.count; at += step) {
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
	int index = tensor_of(x.tensors, x.count);
	const squares_tensor own = x.tensors[index];
	if (*x.stop)
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
		x.partials[index * PS_CUDA_PARTIALS + blockIdx.x - own.first] = sum;
}

/* A block for each tensor. */
__global__ void join_kernel(squares_arguments x)
{
	__shared__ double room[block_threads / warp_lanes];
	const squares_tensor own = x.tensors[blockIdx.x];
	if (*x.stop)
		return;
	double sum = 0;
	for (int i = int(threadIdx.x); i < int(own.blocks); i += int(blockDim.x))
		sum += x.partials[blockIdx.x * PS_CUDA_PARTIALS + i];
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

struct sgd_tensor {
	void *w;
	const void *g;
	bf16 *copy;
	int64_t count;
	unsigned first, blocks;
	uint32_t place;
	int dtype;
	bool vector;
};

struct sgd_arguments {
	sgd_tensor tensors[PS_CUDA_RUN];
	int count;
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
	for (int64_t at = thread_of(own) * 4; at < own.count; at += step) {
		int64_t left = own.count - at;
		PS_QUAD(T, w);
		PS_QUAD(T, g);
		load4<VECTOR>(w, weights + at, left);
		load4<VECTOR>(g, static_cast<const T *>(own.g) + at, left);
#pragma unroll
		for (int i = 0; i < 4; i++)
			w[i] -= rate * g[i];
		put4<VECTOR>(weights + at, w, left);
		if constexpr (sizeof(T) == sizeof(float))
			if (own.copy)
				put4<VECTOR>(own.copy + at, w, left);
	}
}

/* Eight bf16 numbers by two in a word, of which the first `left` exist. */
template <bool VECTOR> __device__ inline void load8(uint32_t (&value)[4], const bf16 *at, int64_t left)
{
	uint4 quad = {};
	if (VECTOR && left >= 8) {
		quad = *reinterpret_cast<const uint4 *>(at);
	} else {
		uint32_t *words[] = {&quad.x, &quad.y, &quad.z, &quad.w};
#pragma unroll
		for (int i = 0; i < 8; i++)
			if (i < left)
				*words[i / 2] |= uint32_t(at[i].bits) << 16 * (i % 2);
	}
	value[0] = quad.x, value[1] = quad.y, value[2] = quad.z, value[3] = quad.w;
}

template <bool VECTOR> __device__ inline void put8(bf16 *at, const uint32_t (&value)[4], int64_t left)
{
	if (VECTOR && left >= 8) {
		store_global(reinterpret_cast<uint4 *>(at), uint4{value[0], value[1], value[2], value[3]});
		return;
	}
#pragma unroll
	for (int i = 0; i < 8; i++)
		if (i < left)
			at[i] = bf16{uint16_t(value[i / 2] >> 16 * (i % 2))};
}

/* A thread does the eight elements of a random block, by half a word each. */
template <bool VECTOR> __device__ inline void update_bf16(const sgd_arguments &x, const sgd_tensor &own)
{
	float rate = float(x.lr * *x.scale);
	bf16 *weights = static_cast<bf16 *>(own.w);
	ps_cuda_dropout random = x.random;
	random.place = own.place;
	random.step = step_of(random);
	random.turn = nullptr;
	int64_t step = int64_t(own.blocks) * blockDim.x;
	for (int64_t block = thread_of(own); block * 8 < own.count; block += step) {
		int64_t at = block * 8, left = own.count - at;
		uint32_t w[4], g[4];
		load8<VECTOR>(w, weights + at, left);
		load8<VECTOR>(g, static_cast<const bf16 *>(own.g) + at, left);
		words bits = philox(random, 0, uint32_t(block));
#pragma unroll
		for (int i = 0; i < 4; i++) {
			float low = fmaf(-rate, __uint_as_float(g[i] << 16), __uint_as_float(w[i] << 16));
			float high =
			        fmaf(-rate, __uint_as_float(g[i] & 0xFFFF0000U), __uint_as_float(w[i] & 0xFFFF0000U));
			w[i] = uint32_t(cut(low, bits.w[i] & 0xFFFFU).bits) | uint32_t(cut(high, bits.w[i] >> 16).bits)
			                                                              << 16;
		}
		put8<VECTOR>(weights + at, w, left);
	}
}

__global__ void sgd_kernel(sgd_arguments x)
{
	const sgd_tensor own = x.tensors[tensor_of(x.tensors, x.count)];
	if (*x.stop || isnan(*x.scale))
		return;
	if (own.dtype == PS_F64)
		update<double, false>(x, own);
	else if (own.dtype == PS_BF16 && own.vector)
		update_bf16<true>(x, own);
	else if (own.dtype == PS_BF16)
		update_bf16<false>(x, own);
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
	unsigned all = 0;
	for (int i = 0; i < count; i++) {
		const ps_cuda_squares *from = &tensors[i];
		unsigned blocks =
		        ps::at_most(ps::blocks_for(from->count, ps::block_threads * ps::per_thread), PS_CUDA_PARTIALS);
		x.tensors[i] = {from->x,
		                from->out,
		                from->count,
		                all,
		                blocks,
		                int(from->dtype),
		                from->count % 4 == 0 && ps::aligned16(from->x)};
		all += blocks;
	}
	x.count = count;
	x.partials = partials;
	x.stop = launch->stop;
	void (*squares)(ps::squares_arguments) = ps::squares_kernel, (*join)(ps::squares_arguments) = ps::join_kernel;
	cudaError_t error = PS_LAUNCH(squares, all, ps::block_threads, 0, launch->stream, x);
	if (error != cudaSuccess)
		return error;
	return PS_LAUNCH(join, unsigned(count), ps::block_threads, 0, launch->stream, x);
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
	unsigned all = 0;
	for (int i = 0; i < count; i++) {
		const ps_cuda_update *from = &tensors[i];
		int each = from->dtype == PS_BF16 ? 8 : 4;
		unsigned blocks = ps::at_most(ps::blocks_for((from->count + each - 1) / each), ps::most_blocks);
		x.tensors[i] = {from->w,
		                from->g,
		                static_cast<ps::bf16 *>(from->copy),
		                from->count,
		                all,
		                blocks,
		                from->place,
		                int(from->dtype),
		                from->count % 4 == 0 && ps::aligned16(from->w, from->g, from->copy)};
		all += blocks;
	}
	x.count = count;
	x.lr = lr;
	x.scale = scale;
	x.random = *random;
	x.stop = launch->stop;
	void (*kernel)(ps::sgd_arguments) = ps::sgd_kernel;
	return PS_LAUNCH(kernel, all, ps::block_threads, 0, launch->stream, x);
}
