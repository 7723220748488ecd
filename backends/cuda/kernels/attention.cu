/*
 * Self-attention forward and backward.
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
#include "backends/cuda/kernels/common.cuh"

namespace ps
{
namespace
{

constexpr int tile = 32;
constexpr int groups = 4; /* of lanes of a warp: each adds up a quarter of the features of a product */
static_assert(block_threads == tile / 4 * warp_lanes, "a warp has four rows of a tile");

enum role { QUERIES, KEYS, VALUES, ROLES };

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

template <typename T> __device__ inline place place_of(const attention_arguments<T> &x)
{
	unsigned tiles = unsigned(x.tiles), turns = unsigned(x.turns), rest = blockIdx.x / tiles;
	place p;
	p.first = int64_t(blockIdx.x % tiles) * tile;
	p.turn = int(rest % turns);
	p.head = rest / turns % unsigned(x.heads);
	p.row = rest / turns / unsigned(x.heads);
	return p;
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

/* Where a thread is in a tile of products: a row, and the first of four columns. */
struct seat {
	int warp, group, lane;
	__device__ int row() const
	{
		return 4 * warp + group;
	}
	__device__ int column() const
	{
		return 4 * lane;
	}
};

__device__ inline seat seat_of()
{
	int lane = int(threadIdx.x) % warp_lanes;
	return seat{int(threadIdx.x) / warp_lanes, lane / 8, lane % 8};
}

/*
 * Shared memory. Rows of `side` are 16 bytes longer than a slice of features, so that eight rows are in different
 * banks; `weights` has its quads of columns exchanged by row for the same end.
 */
template <typename T, int FEATURES> struct room {
	static constexpr int slice = int(256 / sizeof(T)), pitch = slice + int(16 / sizeof(T));
	union {
		alignas(16) T side[2][tile][pitch];
		alignas(16) T values[tile][FEATURES];
	};
	alignas(16) T weights[tile][tile];

	__device__ T *quad(int row, int column)
	{
		return &weights[row][(column / 4 ^ row / 4) * 4];
	}
};

/* The widest accesses to shared memory. */
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
		store4<is_float<T>>(at, value, left);
	else
		store4<false>(at, value, left);
}

/* A thread's quads of a slice of features from `f` on: the first half of a's rows, the second of b's. */
template <bool VECTOR, typename T, int QUADS>
__device__ inline void fetch_sides(T (&next)[QUADS][4], const attention_arguments<T> &x, strip<const T> a,
                                   int64_t a_first, strip<const T> b, int64_t b_first, int64_t f, int in_row)
{
#pragma unroll
	for (int u = 0; u < QUADS; u++) {
		int unit = int(threadIdx.x) + u % (QUADS / 2) * block_threads;
		int64_t position = (u < QUADS / 2 ? a_first : b_first) + unit / in_row, at = f + unit % in_row * 4;
		const T *from = (u < QUADS / 2 ? a : b).row(position) + at;
		load4<VECTOR>(next[u], from, position < x.time ? x.features - at : 0);
	}
}

/* The groups' sums of 4 x 4 products to a row of four complete ones for each group. The pairs are the same for all. */
template <typename T> __device__ inline void join_groups(const T (&sum)[4][4], int group, T (&score)[4])
{
	bool upper = group & 2, odd = group & 1;
	T half[2][4];
#pragma unroll
	for (int r = 0; r < 2; r++)
#pragma unroll
		for (int c = 0; c < 4; c++) {
			T other = __shfl_xor_sync(0xffffffffU, upper ? sum[r][c] : sum[r + 2][c], 16);
			half[r][c] = (upper ? sum[r + 2][c] : sum[r][c]) + other;
		}
#pragma unroll
	for (int c = 0; c < 4; c++)
		score[c] = (odd ? half[1][c] : half[0][c]) +
		           __shfl_xor_sync(0xffffffffU, odd ? half[0][c] : half[1][c], 8);
}

/*
 * score[c] = dot(a of position a_first + row, b of position b_first + column + c). What is beyond the sequence counts
 * as 0. Column 4 j + c of b lies at j + 8 c, for a thread's four columns are neighbours.
 */
template <bool VECTOR, typename T, int FEATURES>
__device__ inline void products(const attention_arguments<T> &x, strip<const T> a, int64_t a_first, strip<const T> b,
                                int64_t b_first, room<T, FEATURES> &s, T (&score)[4])
{
	constexpr int slice = room<T, FEATURES>::slice, in_row = slice / 4, quads = 2 * tile * in_row / block_threads;
	const seat seat = seat_of();
	alignas(16) T next[quads][4];
	T sum[4][4] = {};
	fetch_sides<VECTOR>(next, x, a, a_first, b, b_first, 0, in_row);
	for (int64_t f = 0; f < x.features; f += slice) {
		__syncthreads();
#pragma unroll
		for (int u = 0; u < quads; u++) {
			int unit = int(threadIdx.x) + u % (quads / 2) * block_threads, row = unit / in_row;
			int slot = u < quads / 2 ? row : row / 4 + row % 4 * 8;
			store4<is_float<T>>(&s.side[u / (quads / 2)][slot][unit % in_row * 4], next[u], 4);
		}
		__syncthreads();
		if (f + slice < x.features)
			fetch_sides<VECTOR>(next, x, a, a_first, b, b_first, f + slice, in_row);
		int end = x.features - f < slice ? int(x.features - f) : slice;
		for (int k = 4 * seat.group; k < end; k += 4 * groups) {
			alignas(16) T left[4][4], right[4][4];
#pragma unroll
			for (int i = 0; i < 4; i++) {
				load4<is_float<T>>(left[i], &s.side[0][4 * seat.warp + i][k], 4);
				load4<is_float<T>>(right[i], &s.side[1][seat.lane + 8 * i][k], 4);
			}
#pragma unroll
			for (int q = 0; q < 4; q++)
#pragma unroll
				for (int r = 0; r < 4; r++)
#pragma unroll
					for (int c = 0; c < 4; c++)
						sum[r][c] += left[r][q] * right[c][q];
		}
	}
	join_groups(sum, seat.group, score);
}

/* How threads share what a block writes: FEATURES / 4 lanes have four features of `rows` of a warp's four rows each. */
template <typename T, int FEATURES> struct share {
	static constexpr int lanes = FEATURES / 4, rows = 4 * lanes / warp_lanes;
	static constexpr int quads = tile * lanes / block_threads; /* of the values, for a thread to bring */
	static __device__ int row(int r)
	{
		int lane = int(threadIdx.x) % warp_lanes;
		return int(threadIdx.x) / warp_lanes * 4 + lane / lanes * rows + r;
	}
	static __device__ int feature()
	{
		return int(threadIdx.x) % lanes * 4;
	}
};

/* A thread's quads of 32 positions from `first` on, FEATURES features from `f` on. */
template <bool VECTOR, typename T, int FEATURES>
__device__ inline void fetch_values(T (&next)[share<T, FEATURES>::quads][4], const attention_arguments<T> &x,
                                    strip<const T> from, int64_t first, int64_t f)
{
	constexpr int lanes = share<T, FEATURES>::lanes;
#pragma unroll
	for (int u = 0; u < share<T, FEATURES>::quads; u++) {
		int64_t position = first + (int(threadIdx.x) + u * block_threads) / lanes;
		int64_t at = f + share<T, FEATURES>::feature();
		load4<VECTOR>(next[u], from.row(position) + at, position < x.time ? x.features - at : 0);
	}
}

/* sum += the weights times the fetched values. The weights were written just before; ends with a barrier. */
template <typename T, int FEATURES>
__device__ inline void accumulate(const T (&next)[share<T, FEATURES>::quads][4], room<T, FEATURES> &s,
                                  T (&sum)[share<T, FEATURES>::rows][4])
{
	using own = share<T, FEATURES>;
	int feature = own::feature();
	__syncthreads();
#pragma unroll
	for (int u = 0; u < own::quads; u++)
		store4<is_float<T>>(&s.values[(int(threadIdx.x) + u * block_threads) / own::lanes][feature], next[u],
		                    4);
	__syncthreads();
#pragma unroll 2
	for (int j = 0; j < tile; j += 4) {
		alignas(16) T weight[own::rows][4], value[4];
#pragma unroll
		for (int r = 0; r < own::rows; r++)
			load4<is_float<T>>(weight[r], s.quad(own::row(r), j), 4);
#pragma unroll
		for (int q = 0; q < 4; q++) {
			load4<is_float<T>>(value, &s.values[j + q][feature], 4);
#pragma unroll
			for (int r = 0; r < own::rows; r++)
#pragma unroll
				for (int i = 0; i < 4; i++)
					sum[r][i] += weight[r][q] * value[i];
		}
	}
	__syncthreads();
}

template <bool VECTOR, typename T, int FEATURES>
__device__ inline void write(const attention_arguments<T> &x, strip<T> out, int64_t first, int64_t f, T factor,
                             T (&sum)[share<T, FEATURES>::rows][4])
{
	using own = share<T, FEATURES>;
	int64_t feature = f + own::feature();
#pragma unroll
	for (int r = 0; r < own::rows; r++) {
		int64_t position = first + own::row(r);
#pragma unroll
		for (int i = 0; i < 4; i++)
			sum[r][i] *= factor;
		if (position < x.time)
			store4<VECTOR>(out.row(position) + feature, sum[r], x.features - feature);
	}
}

/* The dropout of the probabilities (i, j) to (i, j + 3). */
template <typename T>
__device__ inline void drop_probs(const attention_arguments<T> &x, const place &p, int64_t i, int64_t j, T (&value)[4])
{
	if (x.drop.active)
		drop4_in_row(x.drop, x.drop.first_row + uint32_t(p.row), (p.head * x.time + i) * x.time + j, value);
}

/* The sum of exp(score - most) over what a thread, and in the end the eight of a row, have seen. */
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

	__device__ void join_row()
	{
#pragma unroll
		for (int lanes = 4; lanes > 0; lanes /= 2) {
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

template <typename T, int FEATURES, bool VECTOR>
__global__ void __launch_bounds__(block_threads, 2) attention_fwd_kernel(attention_arguments<T> x)
{
	__shared__ room<T, FEATURES> s;
	if (*x.stop)
		return;
	const place p = place_of(x);
	const seat seat = seat_of();
	int64_t position = p.first + seat.row(), seen = x.causal ? position + 1 : x.time;
	int64_t to = x.causal && p.first + tile < x.time ? p.first + tile : x.time;
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
	all.join_row();
	/* A long sequence has one turn, which does all features. */
	for (int turn = p.turn; turn * FEATURES < x.features; turn += x.turns) {
		T sum[share<T, FEATURES>::rows][4] = {};
		for (int64_t first = 0; first < to; first += tile) {
			int64_t column = first + seat.column(), left = inside ? x.time - column : 0;
			alignas(16) T next[share<T, FEATURES>::quads][4], weight[4];
			fetch_values<VECTOR, T, FEATURES>(next, x, v, first, int64_t(turn) * FEATURES);
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
__global__ void __launch_bounds__(block_threads, 2) attention_bwd_kernel(attention_arguments<T> x)
{
	__shared__ room<T, FEATURES> s;
	if (*x.stop)
		return;
	const place p = place_of(x);
	const seat seat = seat_of();
	int role = x.role == ROLES ? p.turn % ROLES : x.role;
	int64_t f = int64_t(x.role == ROLES ? p.turn / ROLES : p.turn) * FEATURES;
	bool keys = role != QUERIES;
	int64_t from = keys && x.causal ? p.first : 0;
	int64_t to = !keys && x.causal && p.first + tile < x.time ? p.first + tile : x.time;
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
		fetch_values<VECTOR, T, FEATURES>(next, x, values, first, f);
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

	template <typename T> attention_arguments<T> arguments() const
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
		x.tiles = int((a->time + tile - 1) / tile);
		x.causal = a->causal;
		x.wide = a->time % 4 == 0 && aligned16(a->probs);
		x.scale = 1 / sqrt(double(features));
		x.drop = a->drop;
		x.stop = launch->stop;
		return x;
	}

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
		attention_arguments<T> x = arguments<T>();
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
