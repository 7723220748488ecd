/*
 * Self-attention whose products are tensor cores', with factors rounded to bf16 or tf32 and sums, softmax, dropout and
 * probabilities in fp32: on queues of that math, for sequences of more than 32 positions and heads of up to 256
 * features. The rest is attention.cu's.
 *
 * A block does a head of a sample row and a tile of 64 positions (32 of tf32 with more than 128 features), with all
 * features of what it writes. It goes through the other positions a tile at a time; nothing is added up across blocks.
 *
 *   forward  once for the largest score and the sum of each row, and again, from the same scores, for
 *            probs = softmax(q k^T / sqrt(d)) and out = (mask probs) v
 *   INNER    inner = sum of probs dP, dP = mask (dout v^T), which it leaves where QUERIES will write dq
 *   KEYS     dS = probs (dP - inner), dv = (mask probs)^T dout, dk = dS^T q / sqrt(d)
 *   QUERIES  the same dS, dq = dS k / sqrt(d)
 *
 * Where a tile has the whole sequence, forward goes through it once, and backward needs no INNER. Scores are formed
 * again rather than kept: with d = 64 that is 128 operations a score, 0.13 ps on an H100 in bf16, where writing and
 * reading it takes 8 bytes, 2.4 ps.
 *
 * With t positions and d features a head of a row needs 6 t^2 d operations forward, 4 t^2 d where it goes once, and
 * backward 12 t^2 d, 10 t^2 d without INNER. Bytes: forward 16 t d + 4 t^2, backward 28 t d + 4 t^2, of which the
 * probabilities are asked for three times, the second and third from the L2 cache where they fit. At t = 512, d = 64
 * that is 1.6 MB and 101 million operations forward, on an H100 0.47 us for a head and 0.10 us in bf16 (fp32: 67
 * million, 1.0 us): the memory bounds it. Each tile is read as fp32 and rounded, 4 d bytes a position from L2 for each
 * 64 positions: 3 t^2 d / 16 bytes forward.
 */
#include "backends/cuda/kernels/attention_mma.cuh"

namespace ps
{
namespace
{

/* A thread's quad of each of its rows. */
template <typename F> using quads = float[F::turns][4];

/* Dropout of the thread's quad of the first of its rows, of queries from `i` on and keys from `j` on; and row by row.
 */
template <typename F> struct mask_of_tile {
	int64_t element;
	uint32_t row;
	__device__ mask_of_tile(const mma_arguments &x, const place &p, int64_t i, int64_t j)
	    : element((p.head * x.time + i + F::row(0)) * x.time + j + F::column()),
	      row(x.drop.first_row + uint32_t(p.row))
	{
	}
	__device__ void apply(const mma_arguments &x, float (&value)[4])
	{
		if (x.drop.active)
			drop4_in_row(x.drop, row, element, value);
		element += F::row_step * x.time;
	}
};

/* How many positions of the tile that starts at `first` exist. */
template <typename F> __device__ inline int within(const mma_arguments &x, int64_t first)
{
	return x.time - first < F::side ? int(x.time - first) : F::side;
}

/* A quad of scores, and its weights in the same place: the lanes of a row read it before any writes there. */
template <typename F> __device__ inline void read_scores(const F &s, int turn, float (&score)[4])
{
	load4<true>(score, s.scores() + F::row(turn) * F::score_pitch + F::column(), 4);
	__syncwarp();
}
template <typename F> __device__ inline void lay_weights(const F &s, int turn, const float (&weight)[4], int which = 0)
{
	lay(s.weights(which) + F::row(turn) * F::weight_pitch + F::column(), weight);
}

template <typename F>
__global__ void __launch_bounds__(block_threads, F::blocks) attention_mma_fwd_kernel(mma_arguments x)
{
	PS_DYNAMIC_SHARED(unsigned char, memory);
	if (*x.stop)
		return;
	const F s = {memory};
	const place p = place_of<F::side>(x);
	int64_t to = keys_end<F::side>(x, p);
	bool whole = to <= F::side;
	int rows = within<F>(x, p.first);
	strip<const float> q = part(x, p, x.qkv, 0), k = part(x, p, x.qkv, 1), v = part(x, p, x.qkv, 2);
	const float scale = float(x.scale);
	softmax<float> all[F::turns];
#pragma unroll
	for (int r = 0; r < F::turns; r++)
		all[r] = {-INFINITY, 0};
	bring<F>(s.left(), x, q, p.first);
	for (int64_t first = 0; first < to; first += F::side) {
		bring<F>(s.right(), x, k, first);
		multiply(s, x, s.left(), s.right());
#pragma unroll
		for (int r = 0; r < F::turns; r++) {
			int seen = within<F>(x, first), below = int(p.first - first) + F::row(r) + 1;
			PS_QUAD(float, score);
			load4<true>(score, s.scores() + F::row(r) * F::score_pitch + F::column(), 4);
#pragma unroll
			for (int c = 0; c < 4; c++)
				score[c] *= scale;
			all[r].add(score, F::column(), x.causal && below < seen ? below : seen);
		}
	}
#pragma unroll
	for (int r = 0; r < F::turns; r++)
		all[r].template join_row<F::lanes>();
	typename F::sums sum[F::sum_squares];
	clear<F>(sum);
	for (int64_t first = 0; first < to; first += F::side) {
		if (!whole) {
			bring<F>(s.right(), x, k, first);
			multiply(s, x, s.left(), s.right());
		}
		float *probs = probs_of(x, p, p.first + F::row(0)) + first + F::column();
		int left = within<F>(x, first) - F::column();
		int seen = x.causal ? int(p.first - first) + F::row(0) + 1 - F::column() : left;
		mask_of_tile<F> mask(x, p, p.first, first);
#pragma unroll
		for (int r = 0; r < F::turns; r++) {
			PS_QUAD(float, prob);
			read_scores(s, r, prob);
#pragma unroll
			for (int c = 0; c < 4; c++)
				prob[c] = c < left && c < seen ? exp_of(prob[c] * scale - all[r].most) / all[r].sum : 0;
			store_probs(probs, prob, F::row(r) < rows ? left : 0, x.wide);
			mask.apply(x, prob);
			lay_weights(s, r, prob);
			probs += F::row_step * x.time;
			seen += x.causal ? F::row_step : 0;
		}
		bring<F>(s.right(), x, v, first);
		accumulate<F, false>(s.weights(), s.right(), sum);
	}
	write(s, x, plain(x, p, x.out), p.first, 1, sum);
	/* The tiles that no query of this one sees. */
	const float zeros[4] = {};
	for (int64_t first = to; first < x.time; first += F::side)
#pragma unroll
		for (int r = 0; r < F::turns; r++) {
			int64_t position = p.first + F::row(r), column = first + F::column();
			if (position < x.time)
				store_probs(probs_of(x, p, position) + column, zeros, x.time - column, x.wide);
		}
}

/* Of the queries from `i` on and the keys from `j` on, the thread's probabilities; 0 where a query sees no key. */
template <typename F>
__device__ inline void load_tile(quads<F> &prob, const mma_arguments &x, const place &p, int64_t i, int64_t j)
{
	const float *at = probs_of(x, p, i + F::row(0)) + j + F::column();
	int rows = within<F>(x, i) - F::row(0), left = within<F>(x, j) - F::column();
	int seen = x.causal ? int(i - j) + F::row(0) + 1 - F::column() : left;
#pragma unroll
	for (int r = 0; r < F::turns; r++) {
		load_probs(prob[r], at, r * F::row_step < rows ? left : 0, x.wide);
#pragma unroll
		for (int c = 0; c < 4; c++)
			prob[r][c] = x.causal && c >= seen ? 0 : prob[r][c];
		at += F::row_step * x.time;
		seen += F::row_step;
	}
}

/*
 * From the scores, which are dout v^T, and the probabilities of a row: dP, and in `weight` the probabilities after
 * dropout.
 */
template <typename F>
__device__ inline void drop_both(const F &s, const mma_arguments &x, mask_of_tile<F> &mask, int turn,
                                 const float (&prob)[4], float (&value)[4], float (&weight)[4])
{
	PS_QUAD(float, factor) = {1, 1, 1, 1};
	read_scores(s, turn, value);
	mask.apply(x, factor);
#pragma unroll
	for (int c = 0; c < 4; c++) {
		value[c] = factor[c] != 0 ? value[c] * factor[c] : 0;
		weight[c] = prob[c] * factor[c];
	}
}

/* The sum of a b over a row, the same in all threads that have it. */
template <typename F> __device__ inline float over_row(float sum)
{
#pragma unroll
	for (int lanes = F::lanes / 2; lanes > 0; lanes /= 2)
		sum += __shfl_xor_sync(0xffffffffU, sum, lanes);
	return sum;
}
__device__ inline float dot(const float (&a)[4], const float (&b)[4])
{
	float sum = 0;
#pragma unroll
	for (int c = 0; c < 4; c++)
		sum += a[c] * b[c];
	return sum;
}

template <typename F>
__global__ void __launch_bounds__(block_threads, F::blocks) attention_mma_inner_kernel(mma_arguments x)
{
	PS_DYNAMIC_SHARED(unsigned char, memory);
	if (*x.stop)
		return;
	const F s = {memory};
	const place p = place_of<F::side>(x);
	int64_t to = keys_end<F::side>(x, p);
	strip<float> dq = part(x, p, x.dqkv, 0);
	float inner[F::turns] = {};
	bring<F>(s.left(), x, plain(x, p, x.dout), p.first);
	for (int64_t first = 0; first < to; first += F::side) {
		alignas(16) quads<F> prob, value, weight;
		bring<F>(s.right(), x, part(x, p, x.qkv, 2), first);
		load_tile<F>(prob, x, p, p.first, first);
		mask_of_tile<F> mask(x, p, p.first, first);
		multiply(s, x, s.left(), s.right());
#pragma unroll
		for (int r = 0; r < F::turns; r++) {
			drop_both(s, x, mask, r, prob[r], value[r], weight[r]);
			inner[r] += dot(prob[r], value[r]);
		}
	}
#pragma unroll
	for (int r = 0; r < F::turns; r++) {
		float sum = over_row<F>(inner[r]);
		if (F::column() == 0 && p.first + F::row(r) < x.time)
			dq.row(p.first + F::row(r))[0] = sum;
	}
}

/* dS in `value`. `whole`: all keys of a query are in the tile; else `inner` has what INNER left of the query. */
template <typename F>
__device__ inline void to_dscore(const float (&prob)[4], float (&value)[4], bool whole, float inner)
{
	if (whole)
		inner = over_row<F>(dot(prob, value));
#pragma unroll
	for (int c = 0; c < 4; c++)
		value[c] = prob[c] * (value[c] - inner);
}

template <typename F>
__global__ void __launch_bounds__(block_threads, F::key_blocks) attention_mma_keys_kernel(mma_arguments x)
{
	PS_DYNAMIC_SHARED(unsigned char, memory);
	if (*x.stop)
		return;
	const F s = {memory};
	const place p = place_of<F::side>(x);
	bool whole = x.time <= F::side;
	strip<float> dq = part(x, p, x.dqkv, 0);
	typename F::sums dk[F::sum_squares], dv[F::sum_squares];
	clear<F>(dk);
	clear<F>(dv);
	bring<F>(s.left(), x, part(x, p, x.qkv, 2), p.first);
	for (int64_t first = x.causal ? p.first : 0; first < x.time; first += F::side) {
		alignas(16) quads<F> prob, value;
		bring<F>(s.right(), x, plain(x, p, x.dout), first);
		multiply(s, x, s.right(), s.left());
		load_tile<F>(prob, x, p, first, p.first);
		mask_of_tile<F> mask(x, p, first, p.first);
		const float *inner = dq.row(first + F::row(0));
		int rows = whole ? 0 : within<F>(x, first) - F::row(0);
#pragma unroll
		for (int r = 0; r < F::turns; r++) {
			PS_QUAD(float, weight);
			drop_both(s, x, mask, r, prob[r], value[r], weight);
			lay_weights(s, r, weight);
			to_dscore<F>(prob[r], value[r], whole, r * F::row_step < rows ? *inner : 0);
			inner += F::row_step * dq.step;
			if (F::two_weights)
				lay_weights(s, r, value[r], 1);
		}
		accumulate<F, true>(s.weights(), s.right(), dv);
#pragma unroll
		for (int r = 0; r < F::turns && !F::two_weights; r++)
			lay_weights(s, r, value[r]);
		bring<F>(s.right(), x, part(x, p, x.qkv, 0), first);
		accumulate<F, true>(s.weights(F::two_weights), s.right(), dk);
	}
	write(s, x, part(x, p, x.dqkv, 1), p.first, float(x.scale), dk);
	write(s, x, part(x, p, x.dqkv, 2), p.first, 1, dv);
}

template <typename F>
__global__ void __launch_bounds__(block_threads, F::blocks) attention_mma_queries_kernel(mma_arguments x)
{
	PS_DYNAMIC_SHARED(unsigned char, memory);
	if (*x.stop)
		return;
	const F s = {memory};
	const place p = place_of<F::side>(x);
	int64_t to = keys_end<F::side>(x, p);
	bool whole = x.time <= F::side;
	strip<float> dq = part(x, p, x.dqkv, 0);
	float inner[F::turns];
#pragma unroll
	for (int r = 0; r < F::turns; r++)
		inner[r] = !whole && p.first + F::row(r) < x.time ? dq.row(p.first + F::row(r))[0] : 0;
	typename F::sums sum[F::sum_squares];
	clear<F>(sum);
	bring<F>(s.left(), x, plain(x, p, x.dout), p.first);
	for (int64_t first = 0; first < to; first += F::side) {
		alignas(16) quads<F> prob;
		bring<F>(s.right(), x, part(x, p, x.qkv, 2), first);
		load_tile<F>(prob, x, p, p.first, first);
		mask_of_tile<F> mask(x, p, p.first, first);
		multiply(s, x, s.left(), s.right());
#pragma unroll
		for (int r = 0; r < F::turns; r++) {
			PS_QUAD(float, value);
			PS_QUAD(float, weight);
			drop_both(s, x, mask, r, prob[r], value, weight);
			to_dscore<F>(prob[r], value, whole, inner[r]);
			lay_weights(s, r, value);
		}
		bring<F>(s.right(), x, part(x, p, x.qkv, 1), first);
		accumulate<F, false>(s.weights(), s.right(), sum);
	}
	write(s, x, dq, p.first, float(x.scale), sum);
}

struct mma_launcher {
	const ps_cuda_launch *launch;
	const ps_cuda_attention *a;
	bool backward;

	cudaError_t start(void (*kernel)(mma_arguments), int bytes, const mma_arguments &x) const
	{
		cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
		unsigned blocks = unsigned(a->rows * a->heads * x.tiles);
		return error == cudaSuccess ? PS_LAUNCH(kernel, blocks, block_threads, bytes, launch->stream, x)
		                            : error;
	}

	template <typename F> cudaError_t run_with() const
	{
		mma_arguments x = {};
		static_cast<attention_arguments<float> &>(x) = arguments_of<float>(launch, a, F::side);
		x.turns = 1;
		x.vector = x.features % 4 == 0 && aligned16(a->qkv, a->dout, a->out, a->dqkv);
		if (!backward)
			return start(attention_mma_fwd_kernel<F>, F::bytes, x);
		cudaError_t error = cudaSuccess;
		if (x.tiles > 1)
			error = start(attention_mma_inner_kernel<F>, F::bytes, x);
		if (error == cudaSuccess)
			error = start(attention_mma_keys_kernel<F>, F::bytes, x);
		/* Last, for it writes where INNER's sums are. */
		return error == cudaSuccess ? start(attention_mma_queries_kernel<F>, F::bytes, x) : error;
	}

	template <typename MATH> cudaError_t run() const
	{
		int64_t features = a->width / a->heads;
		if (features <= 64)
			return run_with<form<MATH, 64>>();
		return features <= 128 ? run_with<form<MATH, 128>>() : run_with<form<MATH, mma_features>>();
	}
};

} // namespace

cudaError_t attention_by_mma(const ps_cuda_launch *launch, const ps_cuda_attention *a, bool backward)
{
	const mma_launcher launcher = {launch, a, backward};
	return a->math == PS_MATH_BF16 ? launcher.run<by_bf16>() : launcher.run<by_tf32>();
}

} // namespace ps
