/*
 * Self-attention forward and backward, in fp32 and fp64; attention_mma.cu has what tensor cores multiply.
 *
 * A block does a head of a sample row, a tile of 32 positions and up to FEATURES features of what it writes. It goes
 * through the other positions 32 at a time: `products` forms 32 x 32 dot products from shared memory, each thread keeps
 * a row's four neighbours of them in registers, what becomes of them is laid down as weights, and `accumulate` adds up
 * 32 positions with the weights, in ascending order. So a block reads each element of what it needs once, whatever the
 * length of the sequence, and nothing is added up across blocks.
 *
 *   forward  scores = q k^T / sqrt(d), probs = softmax, out = (mask probs) v
 *   QUERIES  dP = mask (dout v^T), inner = sum of probs dP, dS = probs (dP - inner), dq = dS k / sqrt(d)
 *   KEYS     the same dS, dk = dS^T q / sqrt(d)
 *   VALUES   dv = (mask probs)^T dout
 *
 * A sequence of up to 32 positions keeps its scores in registers and is one launch each way, whose blocks split the
 * features between them, for a micro-batch has few heads. A longer one's scores wait in probs until the row's sum is
 * known; backward, QUERIES leaves inner where VALUES will write dv and forms dP twice, and the parts are one launch
 * each.
 *
 * With t positions and d features a head of a row needs 4 t^2 d operations forward and 8 t^2 d backward; FEATURES = 128
 * of d = 256 make that 6 and 10, and sequences of more than 32 positions backward 12, with d = 256 16. Bytes (fp32):
 * forward 16 t d + 4 t^2, backward 28 t d + 4 t^2. At the tutorial's sizes (3 rows of 16 heads, t = 25, d = 256) that
 * is 5.0 MB and 8.7 MB, 1.5 and 2.6 us on an H100, and 46 and 77 million operations, about 1 us each way at its peak;
 * 96 and 288 blocks share it. With t = 512, d = 64 the operations bound it: 67 million forward for each head, 1 us.
 */
#include "backends/cuda/kernels/attention_tiles.cuh"

namespace ps
{
namespace
{

template <typename T, int FEATURES, bool VECTOR>
__global__ void __launch_bounds__(block_threads, 2) attention_fwd_kernel(attention_arguments<T> x)
{
	__shared__ room<T, FEATURES> s;
	if (*x.stop)
		return;
	const place p = place_of<tile>(x);
	const seat seat = seat_of();
	int64_t position = p.first + seat.row(), seen = x.causal ? position + 1 : x.time;
	int64_t to = keys_end<tile>(x, p);
	bool inside = position < x.time, kept = to <= tile;
	T *probs = probs_of(x, p, inside ? position : 0);
	strip<const T> q = part(x, p, x.qkv, 0), k = part(x, p, x.qkv, 1), v = part(x, p, x.qkv, 2);
	alignas(16) T score[4];
	softmax<T> all = {-T(INFINITY), T(0)};
	for (int64_t first = 0; first < to; first += tile) {
		int64_t column = first + seat.column();
		products<VECTOR>(x, q, p.first, k, first, s, score);
#pragma unroll
		for (int c = 0; c < 4; c++)
			score[c] *= T(x.scale);
		all.add(score, column, seen < x.time ? seen : x.time);
		if (!kept && inside)
			store_probs(probs + column, score, x.time - column, x.wide);
	}
	all.template join_row<tile / 4>();
	/* A long sequence has one turn, which does all features. */
	for (int turn = p.turn; turn * FEATURES < x.features; turn += x.turns) {
		T sum[share<T, FEATURES>::rows][4] = {};
		for (int64_t first = 0; first < to; first += tile) {
			int64_t column = first + seat.column(), left = inside ? x.time - column : 0;
			alignas(16) T next[share<T, FEATURES>::quads][4], weight[4];
			fetch_values<VECTOR, T, FEATURES>(x, v, first, int64_t(turn) * FEATURES, next);
			if (!kept)
				load_probs(score, probs + column, left, x.wide);
				/* Scores become probabilities in the first turn. */
#pragma unroll
			for (int c = 0; c < 4 && turn == p.turn; c++)
				score[c] = c < left && column + c < seen ? exp_of(score[c] - all.most) / all.sum : T(0);
			if (turn == 0)
				store_probs(probs + column, score, left, x.wide);
#pragma unroll
			for (int c = 0; c < 4; c++)
				weight[c] = score[c];
			drop_probs(x, p, position, column, weight);
			store4<is_float<T>>(s.quad(seat.row(), seat.column()), weight, 4);
			accumulate(next, s, sum);
		}
		write<VECTOR, T, FEATURES>(x, plain(x, p, x.out), p.first, int64_t(turn) * FEATURES, T(1), sum);
	}
	const T zeros[4] = {};
	for (int64_t column = p.first + tile + seat.column(); x.causal && p.turn == 0; column += tile) {
		if (column >= x.time || !inside)
			break;
		store_probs(probs + column, zeros, x.time - column, x.wide);
	}
}

/*
 * A thread's four of dP, or for VALUES of the probabilities, after dropout, and its probabilities, of the tile with the
 * queries from `i` and the keys from `j` on. 0 where a query does not see a key.
 */
template <bool VECTOR, typename T, int FEATURES>
__device__ inline void terms(const attention_arguments<T> &x, const place &p, int role, int64_t i, int64_t j,
                             room<T, FEATURES> &s, T (&value)[4], T (&prob)[4])
{
	const seat seat = seat_of();
	int64_t position = i + seat.row(), column = j + seat.column(), left = x.time - column;
	if (x.causal && position + 1 - column < left)
		left = position + 1 - column;
	bool inside = position < x.time;
	/* Together or not at all, so that what is aligned is read at once. */
	load_probs(prob, probs_of(x, p, inside ? position : 0) + column, inside ? x.time - column : 0, x.wide);
	if (role != VALUES)
		products<VECTOR>(x, plain(x, p, x.dout), i, part(x, p, x.qkv, 2), j, s, value);
#pragma unroll
	for (int c = 0; c < 4; c++) {
		prob[c] = c < left ? prob[c] : T(0);
		value[c] = role == VALUES ? prob[c] : value[c];
	}
	drop_probs(x, p, position, column, value);
}

/* The sum over the eight threads of a row, the same in all. */
template <typename T> __device__ inline T row_sum(const T (&a)[4], const T (&b)[4], T sum)
{
#pragma unroll
	for (int c = 0; c < 4; c++)
		sum += a[c] * b[c];
	return sum;
}

template <typename T> __device__ inline T over_row(T sum)
{
#pragma unroll
	for (int lanes = 4; lanes > 0; lanes /= 2)
		sum += __shfl_xor_sync(0xffffffffU, sum, lanes);
	return sum;
}

/* A tile's weights as they are, or for keys transposed. */
template <typename T, int FEATURES>
__device__ inline void lay_down(room<T, FEATURES> &s, bool keys, const T (&value)[4])
{
	const seat seat = seat_of();
	if (!keys) {
		store4<is_float<T>>(s.quad(seat.row(), seat.column()), value, 4);
		return;
	}
#pragma unroll
	for (int c = 0; c < 4; c++)
		s.quad(seat.column() + c, seat.row())[seat.group] = value[c];
}

template <typename T, int FEATURES, bool VECTOR>
__global__ void __launch_bounds__(block_threads, is_float<T> ? 2 : 1) attention_bwd_kernel(attention_arguments<T> x)
{
	__shared__ room<T, FEATURES> s;
	if (*x.stop)
		return;
	const place p = place_of<tile>(x);
	const seat seat = seat_of();
	int role = x.role == ROLES ? p.turn % ROLES : x.role;
	int64_t f = int64_t(x.role == ROLES ? p.turn / ROLES : p.turn) * FEATURES;
	bool keys = role != QUERIES;
	int64_t from = keys && x.causal ? p.first : 0;
	int64_t to = keys ? x.time : keys_end<tile>(x, p);
	/* Are all keys of a query in the tile? */
	bool whole = keys ? x.time <= tile : to <= tile;
	strip<const T> values = role == VALUES ? plain(x, p, x.dout) : part(x, p, x.qkv, keys ? 0 : 1);
	strip<T> dv = part(x, p, x.dqkv, 2);
	alignas(16) T value[4], prob[4];
	T inner = 0, sum[share<T, FEATURES>::rows][4] = {};
	for (int64_t first = 0; !keys && !whole && first < to; first += tile) {
		terms<VECTOR>(x, p, role, p.first, first, s, value, prob);
		inner = row_sum(prob, value, inner);
	}
	inner = over_row(inner);
	for (int64_t first = from; first < to; first += tile) {
		alignas(16) T next[share<T, FEATURES>::quads][4];
		fetch_values<VECTOR, T, FEATURES>(x, values, first, f, next);
		int64_t i = keys ? first : p.first, j = keys ? p.first : first;
		terms<VECTOR>(x, p, role, i, j, s, value, prob);
		if (whole)
			inner = over_row(row_sum(prob, value, T(0)));
		else if (role == KEYS)
			inner = i + seat.row() < x.time ? dv.row(i + seat.row())[0] : T(0);
#pragma unroll
		for (int c = 0; c < 4 && role != VALUES; c++)
			value[c] = prob[c] * (value[c] - inner);
		lay_down(s, keys, value);
		accumulate(next, s, sum);
	}
	strip<T> out = part(x, p, x.dqkv, role);
	write<VECTOR, T, FEATURES>(x, out, p.first, f, role == VALUES ? T(1) : T(x.scale), sum);
	/* For KEYS, of which there is a launch of its own. */
	if (role == QUERIES && x.role == QUERIES && f == 0 && seat.lane == 0 && p.first + seat.row() < x.time)
		dv.row(p.first + seat.row())[0] = inner;
}

struct attention_body {
	const ps_cuda_launch *launch;
	const ps_cuda_attention *a;
	bool backward;

	template <typename T>
	cudaError_t start(void (*kernel)(attention_arguments<T>), attention_arguments<T> x, int role, int turns) const
	{
		x.role = role;
		x.turns = turns;
		unsigned blocks = unsigned(a->rows * a->heads * turns * x.tiles);
		return PS_LAUNCH(kernel, blocks, block_threads, 0, launch->stream, x);
	}

	template <typename T, int FEATURES, bool VECTOR> cudaError_t run_with() const
	{
		attention_arguments<T> x = arguments_of<T>(launch, a, tile);
		int turns = int((x.features + FEATURES - 1) / FEATURES);
		if (!backward)
			return start<T>(attention_fwd_kernel<T, FEATURES, VECTOR>, x, 0, x.tiles == 1 ? turns : 1);
		void (*kernel)(attention_arguments<T>) = attention_bwd_kernel<T, FEATURES, VECTOR>;
		if (x.tiles == 1)
			return start<T>(kernel, x, ROLES, ROLES * turns);
		cudaError_t error = cudaSuccess;
		for (int role = QUERIES; role < ROLES && error == cudaSuccess; role++)
			error = start<T>(kernel, x, role, turns);
		return error;
	}

	template <typename T, bool VECTOR> cudaError_t run() const
	{
		if constexpr (is_float<T>)
			if (a->width / a->heads > 64)
				return run_with<T, 128, VECTOR>();
		return run_with<T, 64, VECTOR>();
	}
};

cudaError_t run(const ps_cuda_launch *launch, const ps_cuda_attention *a, bool backward)
{
	if (on_tensor_cores(launch, a))
		return attention_by_mma(launch, a, backward);
	bool vector = a->width / a->heads % 4 == 0 && aligned16(a->qkv, a->dout, a->out, a->dqkv);
	return by_dtype(launch->dtype, vector, attention_body{launch, a, backward});
}

} // namespace
} // namespace ps

extern "C" cudaError_t ps__cuda_attention_fwd(const ps_cuda_launch *launch, const ps_cuda_attention *attention)
{
	return ps::run(launch, attention, false);
}

extern "C" cudaError_t ps__cuda_attention_bwd(const ps_cuda_launch *launch, const ps_cuda_attention *attention)
{
	return ps::run(launch, attention, true);
}
