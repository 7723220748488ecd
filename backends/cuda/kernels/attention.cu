/*
 * Self-attention forward and backward for short sequences.
 *
 * A block does a head of a sample row and a tile of 8 positions. It is put together from two steps: `products` forms
 * the tile's dot products with all positions, through shared memory, and `combine` adds up features of all positions
 * with the tile's weights, in ascending order. Forward is a product, a softmax and a combination; backward is three
 * kernels, each a tile of
 *
 *   queries  dP = mask (dout v^T), inner = sum of P dP, dS = P (dP - inner), dq = dS k / sqrt(d)
 *   keys     the same dS, transposed, dk = dS^T q / sqrt(d)
 *   keys     dv = (mask P)^T dout
 *
 * so that nothing is added up across blocks, and no memory is needed beside the arguments: the first kernel leaves
 * inner where the last one will write dv.
 *
 * Operations per head of a row, with t positions and d features: forward 4 t^2 d, backward 10 t^2 d (two more than
 * need be, for the second dP). Bytes (fp32): forward 16 t d + 4 t^2 and backward 28 t d + 12 t^2, as long as a head's
 * features stay in cache; each is read once per tile.
 */
#include "backends/cuda/kernels/common.cuh"

namespace ps
{
namespace
{

constexpr int tile = 8;    /* positions of a block */
constexpr int others = 32; /* positions of a step of `products` */
constexpr int slice = 32;  /* features of a step of `products` */
constexpr int pitch = slice + 1;
static_assert(tile * others == block_threads, "a thread forms one product of a step");

/* Shared memory for the tile's products with all positions; what is left of 48 KiB holds the slices. */
constexpr int64_t weights_bytes = 36 * 1024;

template <typename T> struct attention_arguments {
	const T *qkv, *dout;
	T *probs, *out, *dqkv;
	int64_t time, width, features;
	int heads;
	bool causal;
	double scale;
	ps_cuda_dropout drop;
	const int *stop;
};

/* One head of a sample row: where its features of position 0 start, and how far apart positions are. */
template <typename T> struct strip {
	T *at;
	int64_t step;
	__device__ T *row(int64_t position) const
	{
		return at + position * step;
	}
};

template <typename T> struct place {
	int64_t row, head, first; /* sample row, head, first position of the tile */
	int count;                /* positions of the tile */
};

template <typename T> __device__ inline place<T> place_of(const attention_arguments<T> &x)
{
	place<T> p;
	p.row = blockIdx.y / unsigned(x.heads);
	p.head = blockIdx.y % unsigned(x.heads);
	p.first = int64_t(blockIdx.x) * tile;
	p.count = x.time - p.first < tile ? int(x.time - p.first) : tile;
	return p;
}

/* Part 0, 1, 2 of qkv or dqkv: q, k, v. */
template <typename T, typename U>
__device__ inline strip<U> part(const attention_arguments<T> &x, const place<T> &p, U *qkv, int which)
{
	return strip<U>{qkv + p.row * x.time * 3 * x.width + which * x.width + p.head * x.features, 3 * x.width};
}

template <typename T, typename U>
__device__ inline strip<U> plain(const attention_arguments<T> &x, const place<T> &p, U *out)
{
	return strip<U>{out + p.row * x.time * x.width + p.head * x.features, x.width};
}

template <typename T> struct slices {
	T tile_side[tile][pitch], other_side[others][pitch];
};

/* weights[i * time + j] = dot(a of tile position i, b of position j) for j in [from, to). Ends with a barrier. */
template <typename T>
__device__ inline void products(const place<T> &p, int64_t time, int64_t features, strip<const T> a, strip<const T> b,
                                int64_t from, int64_t to, T *weights, slices<T> &s)
{
	int lane = int(threadIdx.x) % others, i = int(threadIdx.x) / others;
	for (int64_t start = from / others * others; start < to; start += others) {
		T sum = 0;
		for (int64_t f = 0; f < features; f += slice) {
			bool inside = f + lane < features;
			s.tile_side[i][lane] = inside && i < p.count ? a.row(p.first + i)[f + lane] : T(0);
#pragma unroll
			for (int k = 0; k < others; k += tile) {
				int64_t j = start + k + i;
				s.other_side[k + i][lane] = inside && j < time ? b.row(j)[f + lane] : T(0);
			}
			__syncthreads();
#pragma unroll 8
			for (int k = 0; k < slice; k++)
				sum += s.tile_side[i][k] * s.other_side[lane][k];
			__syncthreads();
		}
		int64_t j = start + lane;
		if (i < p.count && j < time)
			weights[i * time + j] = sum;
	}
	__syncthreads();
}

/* to of tile position i = factor * sum over j in [from, to) of weights[i * time + j] * b of j. */
template <typename T>
__device__ inline void combine(const place<T> &p, int64_t time, int64_t features, const T *weights, strip<const T> b,
                               int64_t from, int64_t to, T factor, strip<T> out)
{
	/* Threads that one feature leaves idle take other positions of the tile. */
	int lanes = features > 128 ? 256 : features > 64 ? 128 : features > 32 ? 64 : 32;
	int groups = block_threads / lanes, group = int(threadIdx.x) / lanes;
	for (int64_t f = int(threadIdx.x) % lanes; f < features; f += lanes) {
		T sum[tile] = {};
		for (int64_t j = from; j < to; j++) {
			T value = b.row(j)[f];
#pragma unroll
			for (int k = 0; k < tile; k++) {
				int i = group + k * groups;
				if (i < p.count)
					sum[k] += weights[i * time + j] * value;
			}
		}
#pragma unroll
		for (int k = 0; k < tile; k++) {
			int i = group + k * groups;
			if (i < p.count)
				out.row(p.first + i)[f] = factor * sum[k];
		}
	}
}

/* The mask's word for probability (i, j). */
template <typename T>
__device__ inline T dropped(const attention_arguments<T> &x, const place<T> &p, int64_t i, int64_t j, T value)
{
	if (!x.drop.active)
		return value;
	int64_t element = (p.head * x.time + i) * x.time + j;
	words block = philox(x.drop, x.drop.first_row + uint32_t(p.row), uint32_t(element / 4));
	return drop_by(x.drop, word_at(block, element), value);
}

template <typename T> __device__ inline T *probs_of(const attention_arguments<T> &x, const place<T> &p, int64_t i)
{
	return x.probs + ((p.row * x.heads + p.head) * x.time + i) * x.time;
}

template <typename T> __global__ void attention_fwd_kernel(attention_arguments<T> x)
{
	__shared__ slices<T> s;
	PS_DYNAMIC_SHARED(T, weights);
	if (*x.stop)
		return;
	place<T> p = place_of(x);
	int64_t to = x.causal ? p.first + p.count : x.time;
	products<T>(p, x.time, x.features, part(x, p, x.qkv, 0), part(x, p, x.qkv, 1), 0, to, weights, s);
	/* A warp does a position's softmax; its probabilities are left in weights after dropout. */
	int lane = int(threadIdx.x) % warp_lanes, i = int(threadIdx.x) / warp_lanes;
	if (i < p.count) {
		int64_t position = p.first + i, seen = x.causal ? position + 1 : x.time;
		T *row = weights + i * x.time, *probs = probs_of(x, p, position);
		T most = -T(INFINITY), sum = 0;
		for (int64_t j = lane; j < seen; j += warp_lanes) {
			T score = row[j] * T(x.scale);
			most = score > most ? score : most;
		}
		most = warp_max(most);
		for (int64_t j = lane; j < seen; j += warp_lanes) {
			row[j] = exp_of(row[j] * T(x.scale) - most);
			sum += row[j];
		}
		sum = warp_sum(sum);
		for (int64_t j = lane; j < x.time; j += warp_lanes) {
			T prob = j < seen ? row[j] / sum : T(0);
			probs[j] = prob;
			row[j] = j < seen ? dropped(x, p, position, j, prob) : T(0);
		}
	}
	__syncthreads();
	combine<T>(p, x.time, x.features, weights, part(x, p, x.qkv, 2), 0, to, T(1), plain(x, p, x.out));
}

/* A tile of queries: dq, and inner into the place of dv. */
template <typename T> __global__ void attention_dq_kernel(attention_arguments<T> x)
{
	__shared__ slices<T> s;
	PS_DYNAMIC_SHARED(T, weights);
	if (*x.stop)
		return;
	place<T> p = place_of(x);
	int64_t to = x.causal ? p.first + p.count : x.time;
	strip<const T> v = part(x, p, x.qkv, 2), k = part(x, p, x.qkv, 1);
	products<T>(p, x.time, x.features, plain(x, p, x.dout), v, 0, to, weights, s);
	int lane = int(threadIdx.x) % warp_lanes, i = int(threadIdx.x) / warp_lanes;
	if (i < p.count) {
		int64_t position = p.first + i, seen = x.causal ? position + 1 : x.time;
		T *row = weights + i * x.time, inner = 0;
		const T *probs = probs_of(x, p, position);
		for (int64_t j = lane; j < seen; j += warp_lanes) {
			row[j] = dropped(x, p, position, j, row[j]);
			inner += probs[j] * row[j];
		}
		inner = warp_sum(inner);
		for (int64_t j = lane; j < x.time; j += warp_lanes)
			row[j] = j < seen ? probs[j] * (row[j] - inner) : T(0);
		if (lane == 0)
			part(x, p, x.dqkv, 2).row(position)[0] = inner;
	}
	__syncthreads();
	combine<T>(p, x.time, x.features, weights, k, 0, to, T(x.scale), part(x, p, x.dqkv, 0));
}

/* A tile of keys: dk. dS is formed with the same products in the same order as for dq. */
template <typename T> __global__ void attention_dk_kernel(attention_arguments<T> x)
{
	__shared__ slices<T> s;
	PS_DYNAMIC_SHARED(T, weights);
	if (*x.stop)
		return;
	place<T> p = place_of(x);
	int64_t from = x.causal ? p.first : 0;
	products<T>(p, x.time, x.features, part(x, p, x.qkv, 2), plain(x, p, x.dout), from, x.time, weights, s);
	int lane = int(threadIdx.x) % warp_lanes, j = int(threadIdx.x) / warp_lanes;
	if (j < p.count) {
		int64_t position = p.first + j;
		T *row = weights + j * x.time;
		strip<const T> inner = part(x, p, static_cast<const T *>(x.dqkv), 2);
		for (int64_t i = from + lane; i < x.time; i += warp_lanes) {
			bool seen = !x.causal || i >= position;
			T prob = probs_of(x, p, i)[position];
			row[i] = seen ? prob * (dropped(x, p, i, position, row[i]) - inner.row(i)[0]) : T(0);
		}
	}
	__syncthreads();
	combine<T>(p, x.time, x.features, weights, part(x, p, x.qkv, 0), from, x.time, T(x.scale),
	           part(x, p, x.dqkv, 1));
}

/* A tile of keys: dv. */
template <typename T> __global__ void attention_dv_kernel(attention_arguments<T> x)
{
	PS_DYNAMIC_SHARED(T, weights);
	if (*x.stop)
		return;
	place<T> p = place_of(x);
	int64_t from = x.causal ? p.first : 0;
	int lane = int(threadIdx.x) % warp_lanes, j = int(threadIdx.x) / warp_lanes;
	if (j < p.count) {
		int64_t position = p.first + j;
		for (int64_t i = from + lane; i < x.time; i += warp_lanes) {
			bool seen = !x.causal || i >= position;
			weights[j * x.time + i] = seen ? dropped(x, p, i, position, probs_of(x, p, i)[position]) : T(0);
		}
	}
	__syncthreads();
	combine<T>(p, x.time, x.features, weights, plain(x, p, x.dout), from, x.time, T(1), part(x, p, x.dqkv, 2));
}

template <typename T> attention_arguments<T> arguments_of(const ps_cuda_launch *launch, const ps_cuda_attention *a)
{
	int64_t features = a->width / a->heads;
	return attention_arguments<T>{static_cast<const T *>(a->qkv),
	                              static_cast<const T *>(a->dout),
	                              static_cast<T *>(a->probs),
	                              static_cast<T *>(a->out),
	                              static_cast<T *>(a->dqkv),
	                              a->time,
	                              a->width,
	                              features,
	                              a->heads,
	                              a->causal,
	                              1 / sqrt(double(features)),
	                              a->drop,
	                              launch->stop};
}

template <typename T>
cudaError_t launch_one(const ps_cuda_launch *launch, const ps_cuda_attention *a, void (*kernel)(attention_arguments<T>))
{
	attention_arguments<T> x = arguments_of<T>(launch, a);
	dim3 blocks(blocks_for(a->time, tile), unsigned(a->rows * a->heads));
	size_t shared = size_t(tile) * size_t(a->time) * sizeof(T);
	return PS_LAUNCH(kernel, blocks, block_threads, shared, launch->stream, x);
}

template <typename T> cudaError_t backward(const ps_cuda_launch *launch, const ps_cuda_attention *a)
{
	cudaError_t error = launch_one<T>(launch, a, attention_dq_kernel<T>);
	if (error == cudaSuccess)
		error = launch_one<T>(launch, a, attention_dk_kernel<T>);
	if (error == cudaSuccess)
		error = launch_one<T>(launch, a, attention_dv_kernel<T>);
	return error;
}

} // namespace
} // namespace ps

extern "C" int64_t ps__cuda_attention_limit(ps_dtype dtype)
{
	return ps::weights_bytes / ps::tile / (dtype == PS_F64 ? int64_t(sizeof(double)) : int64_t(sizeof(float)));
}

extern "C" cudaError_t ps__cuda_attention_fwd(const ps_cuda_launch *launch, const ps_cuda_attention *attention)
{
	if (launch->dtype == PS_F64)
		return ps::launch_one<double>(launch, attention, ps::attention_fwd_kernel<double>);
	return ps::launch_one<float>(launch, attention, ps::attention_fwd_kernel<float>);
}

extern "C" cudaError_t ps__cuda_attention_bwd(const ps_cuda_launch *launch, const ps_cuda_attention *attention)
{
	return launch->dtype == PS_F64 ? ps::backward<double>(launch, attention)
	                               : ps::backward<float>(launch, attention);
}
