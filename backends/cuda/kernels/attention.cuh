/* What attention's kernels share: arguments, where a block stands, probabilities, softmax, dropout. */
#ifndef PS_BACKENDS_CUDA_KERNELS_ATTENTION_CUH
#define PS_BACKENDS_CUDA_KERNELS_ATTENTION_CUH

#include "backends/cuda/kernels/common.cuh"

namespace ps
{

constexpr int tile = 32;          /* positions that attention.cu does at a time */
constexpr int mma_features = 256; /* the most of a head that attention_mma.cu does */

/*
 * Do tensor cores multiply? By the op's shape and the queue's math alone. A sequence of one tile does not keep them
 * busy: launches and memory bound it.
 */
inline bool on_tensor_cores(const ps_cuda_launch *launch, const ps_cuda_attention *a)
{
	return launch->dtype == PS_F32 && a->math != PS_MATH_F32 && a->time > tile &&
	       a->width / a->heads <= mma_features;
}
cudaError_t attention_by_mma(const ps_cuda_launch *launch, const ps_cuda_attention *a, bool backward);

template <typename T> struct attention_arguments {
	const T *qkv, *dout;
	T *probs, *out, *dqkv;
	int64_t time, width, features;
	int heads, tiles, turns; /* tiles of the positions; blocks that share a tile */
	int role;                /* ROLES: all of them are among the turns */
	bool causal, wide;       /* wide: rows of probs are aligned to 16 bytes */
	double scale;
	ps_cuda_dropout drop;
	const int *stop;
};

/* `side`: positions of a tile. */
template <typename T>
attention_arguments<T> arguments_of(const ps_cuda_launch *launch, const ps_cuda_attention *a, int side)
{
	int64_t features = a->width / a->heads;
	attention_arguments<T> x = {};
	x.qkv = static_cast<const T *>(a->qkv);
	x.dout = static_cast<const T *>(a->dout);
	x.probs = static_cast<T *>(a->probs);
	x.out = static_cast<T *>(a->out);
	x.dqkv = static_cast<T *>(a->dqkv);
	x.time = a->time;
	x.width = a->width;
	x.features = features;
	x.heads = a->heads;
	x.tiles = int((a->time + side - 1) / side);
	x.causal = a->causal;
	x.wide = a->time % 4 == 0 && aligned16(a->probs);
	x.scale = 1 / sqrt(double(features));
	x.drop = a->drop;
	x.stop = launch->stop;
	return x;
}

/* One head of a sample row: where its features of position 0 start, and how far apart positions are. */
template <typename T> struct strip {
	T *at;
	int64_t step;
	__device__ T *row(int64_t position) const
	{
		return at + position * step;
	}
};

/* The block's sample row, head, first position, and which of those that share the tile it is. */
struct place {
	int64_t row, head, first;
	int turn;
};

/* Of a kernel whose tiles have SIDE positions. */
template <int SIDE, typename T> __device__ inline place place_of(const attention_arguments<T> &x)
{
	unsigned tiles = unsigned(x.tiles), turns = unsigned(x.turns), rest = blockIdx.x / tiles;
	place p;
	p.first = int64_t(blockIdx.x % tiles) * SIDE;
	p.turn = int(rest % turns);
	p.head = rest / turns % unsigned(x.heads);
	p.row = rest / turns / unsigned(x.heads);
	return p;
}

/* Behind the last key that a query of the block's tile sees. */
template <int SIDE, typename T> __device__ inline int64_t keys_end(const attention_arguments<T> &x, const place &p)
{
	return x.causal && p.first + SIDE < x.time ? p.first + SIDE : x.time;
}

/* Part 0, 1, 2 of qkv or dqkv: q, k, v. */
template <typename T, typename U>
__device__ inline strip<U> part(const attention_arguments<T> &x, const place &p, U *qkv, int which)
{
	return strip<U>{qkv + p.row * x.time * 3 * x.width + which * x.width + p.head * x.features, 3 * x.width};
}

template <typename T, typename U>
__device__ inline strip<U> plain(const attention_arguments<T> &x, const place &p, U *out)
{
	return strip<U>{out + p.row * x.time * x.width + p.head * x.features, x.width};
}

template <typename T> __device__ inline T *probs_of(const attention_arguments<T> &x, const place &p, int64_t i)
{
	return x.probs + ((p.row * x.heads + p.head) * x.time + i) * x.time;
}

/* Have elements vector accesses? */
template <typename T> constexpr bool is_float = sizeof(T) == sizeof(float);

template <typename T> __device__ inline void load_probs(T (&value)[4], const T *at, int64_t left, bool wide)
{
	if (is_float<T> && wide)
		load4<is_float<T>>(value, at, left);
	else
		load4<false>(value, at, left);
}

template <typename T> __device__ inline void store_probs(T *at, const T (&value)[4], int64_t left, bool wide)
{
	if (is_float<T> && wide)
		put4<is_float<T>>(at, value, left);
	else
		put4<false>(at, value, left);
}

/* The sum of exp(score - most) over what a thread, and in the end all of a row, have seen. */
template <typename T> struct softmax {
	T most, sum;

	/* An empty one stays empty, where the difference could be that of two infinities. */
	__device__ void raise(T to)
	{
		sum = sum == T(0) ? T(0) : sum * exp_of(most - to);
		most = to;
	}

	/* Those of four scores that are in columns before `seen`. */
	__device__ void add(const T (&score)[4], int64_t column, int64_t seen)
	{
		T higher = most;
#pragma unroll
		for (int c = 0; c < 4; c++)
			higher = column + c < seen && score[c] > higher ? score[c] : higher;
		raise(higher);
#pragma unroll
		for (int c = 0; c < 4; c++)
			sum += column + c < seen ? exp_of(score[c] - most) : T(0);
	}

	/* Over the LANES neighbours of a warp that have the row. */
	template <int LANES> __device__ void join_row()
	{
#pragma unroll
		for (int lanes = LANES / 2; lanes > 0; lanes /= 2) {
			softmax other;
			other.most = __shfl_xor_sync(0xffffffffU, most, lanes);
			other.sum = __shfl_xor_sync(0xffffffffU, sum, lanes);
			T higher = other.most > most ? other.most : most;
			raise(higher);
			other.raise(higher);
			sum += other.sum;
		}
	}
};

/* The dropout of the probabilities (i, j) to (i, j + 3). */
template <typename T>
__device__ inline void drop_probs(const attention_arguments<T> &x, const place &p, int64_t i, int64_t j, T (&value)[4])
{
	if (x.drop.active)
		drop4_in_row(x.drop, x.drop.first_row + uint32_t(p.row), (p.head * x.time + i) * x.time + j, value);
}

} // namespace ps
#endif
