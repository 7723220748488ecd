/*
 * Self-attention. A unit is one head of one sample row. Its positions are done in blocks of queries; what a block
 * needs of q, k, v and their gradients is copied into dense scratch matrices with rows padded to LANES.
 */
#ifndef PS_FAST_KERNELS_ATTENTION_H
#define PS_FAST_KERNELS_ATTENTION_H

#include "backends/cpu/fast/kernels/elements.h"
#include "backends/cpu/fast/kernels/tile.h"

#include <string.h>

struct head {
	int64_t time, features, heads, width;
	int64_t padded_time, padded; /* time and features rounded up to LANES */
	float scale;
	bool causal;
	const float *qkv; /* of the sample row, at the head's first feature of q */
	int64_t index;    /* of the unit */
};

static inline struct head head_init(const ps_tensor *out, int heads, bool causal)
{
	int64_t features = out->dims[2] / heads;
	return (struct head){.time = out->dims[1],
	                     .features = features,
	                     .heads = heads,
	                     .width = out->dims[2],
	                     .padded_time = round_up(out->dims[1], LANES),
	                     .padded = round_up(features, LANES),
	                     .scale = (float)(1 / sqrt((double)features)),
	                     .causal = causal};
}

/* Where a head's features start in a tensor of (rows, time, parts * width). */
static inline int64_t head_at(const struct head *h, int64_t parts)
{
	return h->index / h->heads * h->time * parts * h->width + h->index % h->heads * h->features;
}

/* to (count, padded) = the head's features at `count` positions, zeros behind them. */
static inline void copy_in(const struct head *h, const float *from, int64_t stride, int64_t count, float *restrict to)
{
	for (int64_t t = 0; t < count; t++) {
		memcpy(to + t * h->padded, from + t * stride, (size_t)h->features * sizeof *to);
		for (int64_t f = h->features; f < h->padded; f++)
			to[t * h->padded + f] = 0;
	}
}

/* to (features, padded_time) = the transpose of that, over all positions. */
static inline void copy_in_transposed(const struct head *h, const float *from, int64_t stride, float *restrict to)
{
	enum { BLOCK = 16 };
	for (int64_t first = 0; first < h->padded_time; first += BLOCK) {
		int64_t count = least(BLOCK, h->time - first);
		for (int64_t f = 0; f < h->features; f++) {
			float *restrict at = to + f * h->padded_time + first;
			for (int64_t t = 0; t < BLOCK; t++)
				at[t] = t < count ? from[(first + t) * stride + f] : 0.0f;
		}
	}
}

static inline void copy_out(const struct head *h, const float *from, int64_t count, float *to, int64_t stride)
{
	for (int64_t t = 0; t < count; t++)
		memcpy(to + t * stride, from + t * h->padded, (size_t)h->features * sizeof *to);
}

/* factors (count, time) of the probabilities of positions [first, first + count). */
static inline void copy_factors(const struct head *h, struct mask *mask, int64_t first, int64_t count, float *factors)
{
	int64_t begin = (h->index * h->time + first) * h->time, end = begin + count * h->time;
	for (struct walk w = walk_start(begin, end, h->heads * h->time * h->time); walk_next(&w, mask);)
		memcpy(factors + (w.at - begin), w.factor, (size_t)w.count * sizeof *factors);
}

/* Positions that position i sees. */
static inline int64_t seen_by(const struct head *h, int64_t i)
{
	return h->causal ? i + 1 : h->time;
}

/*
 * Scores (count, padded_time) to probabilities, which are stored; then to what remains of them after dropout. Rows are
 * done in whole vectors, since what is behind the positions that are seen does not matter, and one step for all rows
 * after the other, so that the latency of a row's sum is hidden by the next rows.
 */
static inline void softmax_rows(const struct head *h, float *scores, const float *factors, int64_t first, int64_t count,
                                float *probs)
{
	float most[FAST_QUERIES], norm[FAST_QUERIES], scale = h->scale;
	for (int64_t i = 0; i < count; i++) {
		float *restrict row = scores + i * h->padded_time;
		int64_t seen = seen_by(h, first + i);
		float lanes[LANES];
		for (int l = 0; l < LANES; l++)
			lanes[l] = -INFINITY;
		for (int64_t j = 0; j < seen; j += LANES)
#pragma omp simd
			for (int l = 0; l < LANES; l++) {
				float scaled = row[j + l] * scale, score = j + l < seen ? scaled : -INFINITY;
				row[j + l] = score;
				lanes[l] = score > lanes[l] ? score : lanes[l];
			}
		most[i] = lanes_max(lanes);
	}
	for (int64_t i = 0; i < count; i++) {
		float *restrict row = scores + i * h->padded_time;
		norm[i] = (float)(1 / exp_and_sum(row, row, round_up(seen_by(h, first + i), LANES), most[i]));
	}
	for (int64_t i = 0; i < count; i++) {
		float *restrict row = scores + i * h->padded_time;
		const float *restrict factor = factors + i * h->time;
		int64_t seen = seen_by(h, first + i), width = round_up(seen, LANES);
#pragma omp simd
		for (int64_t j = 0; j < width; j++)
			row[j] *= norm[i];
		for (int64_t j = width; j < h->padded_time; j++)
			row[j] = 0;
		memcpy(probs + (h->index * h->time + first + i) * h->time, row, (size_t)h->time * sizeof *row);
#pragma omp simd
		for (int64_t j = 0; j < width; j++) {
			float kept = mask_apply(factor[j], row[j]);
			row[j] = j < seen ? kept : 0.0f;
		}
	}
}

/*
 * out (count, …) = left right for queries from `first` on, a tile's rows at a time and without what they do not see:
 * columns of the scores, or k where the left factor is scores.
 */
static inline void multiply_scores(const struct head *h, int64_t first, int64_t count, const float *left,
                                   const float *right, float *scores)
{
	for (int64_t at = 0; at < count; at += TILE_ROWS) {
		int64_t rows = least(TILE_ROWS, count - at);
		multiply(rows, seen_by(h, first + at + rows - 1),
		         (struct tile){.left = left + at * h->padded,
		                       .right = right,
		                       .left_row = h->padded,
		                       .left_step = 1,
		                       .right_step = h->padded_time,
		                       .k = h->features},
		         scores + at * h->padded_time, h->padded_time, false);
	}
}

static inline void multiply_by_scores(const struct head *h, int64_t first, int64_t count, const float *scores,
                                      const float *right, float *out)
{
	for (int64_t at = 0; at < count; at += TILE_ROWS) {
		int64_t rows = least(TILE_ROWS, count - at);
		multiply(rows, h->features,
		         (struct tile){.left = scores + at * h->padded_time,
		                       .right = right,
		                       .left_row = h->padded_time,
		                       .left_step = 1,
		                       .right_step = h->padded,
		                       .k = seen_by(h, first + at + rows - 1)},
		         out + at * h->padded, h->padded, false);
	}
}

/* out (seen, features) += scores^T right, where position j is seen by queries from j on. */
static inline void add_transposed_scores(const struct head *h, int64_t first, int64_t count, const float *scores,
                                         const float *right, float *out)
{
	int64_t seen = seen_by(h, first + count - 1);
	for (int64_t at = 0; at < seen; at += TILE_ROWS) {
		int64_t blind = h->causal && at > first ? at - first : 0;
		multiply(least(TILE_ROWS, seen - at), h->features,
		         (struct tile){.left = scores + blind * h->padded_time + at,
		                       .right = right + blind * h->padded,
		                       .left_row = 1,
		                       .left_step = h->padded_time,
		                       .right_step = h->padded,
		                       .k = count - blind},
		         out + at * h->padded, h->padded, true);
	}
}

static void attention_fwd_range(const struct fast_range *range)
{
	const ps_args_attention_fwd *a = range->arguments;
	struct head h = head_init(&a->out, a->heads, a->causal);
	float *probs = ps__cpu_data(a->probs), *out = ps__cpu_data(a->out);
	float *kt = range->scratch, *v = kt + h.features * h.padded_time, *q = v + h.padded_time * h.padded;
	float *scores = q + FAST_QUERIES * h.padded, *factors = scores + FAST_QUERIES * h.padded_time;
	float *block = factors + FAST_QUERIES * h.padded_time;
	struct mask mask;
	mask_init(&mask, &a->drop);
	for (h.index = range->begin; h.index < range->end; h.index++) {
		int64_t stride = 3 * h.width;
		const float *qkv = (const float *)ps__cpu_data(a->qkv) + head_at(&h, 3);
		copy_in_transposed(&h, qkv + h.width, stride, kt);
		copy_in(&h, qkv + 2 * h.width, stride, h.time, v);
		for (int64_t first = 0; first < h.time; first += FAST_QUERIES) {
			int64_t count = least(FAST_QUERIES, h.time - first);
			copy_in(&h, qkv + first * stride, stride, count, q);
			copy_factors(&h, &mask, first, count, factors);
			multiply_scores(&h, first, count, q, kt, scores);
			softmax_rows(&h, scores, factors, first, count, probs);
			multiply_by_scores(&h, first, count, scores, v, block);
			copy_out(&h, block, count, out + head_at(&h, 1) + first * h.width, h.width);
		}
	}
}

/*
 * From dprobs (count, padded_time), the gradient of the probabilities after dropout: dscores in its place, and kept,
 * the probabilities after dropout. With m the mask's factors: dS = P (m dP - sum over j of P m dP) / sqrt(d). Factors
 * and probabilities are dense, (count, time), with room for a vector behind them.
 */
static inline void softmax_gradient_rows(const struct head *h, float *dprobs, float *kept, const float *factors,
                                         const float *probs, int64_t first, int64_t count)
{
	float inner[FAST_QUERIES], scale = h->scale;
	for (int64_t i = 0; i < count; i++) {
		float *restrict row = dprobs + i * h->padded_time;
		const float *restrict factor = factors + i * h->time, *restrict prob = probs + i * h->time;
		int64_t seen = seen_by(h, first + i);
		float lanes[LANES] = {0};
		for (int64_t j = 0; j < seen; j += LANES)
#pragma omp simd
			for (int l = 0; l < LANES; l++) {
				float gradient = mask_apply(factor[j + l], row[j + l]);
				float product = gradient * prob[j + l];
				row[j + l] = gradient;
				lanes[l] += j + l < seen ? product : 0.0f;
			}
		inner[i] = (float)lanes_sum(lanes);
	}
	for (int64_t i = 0; i < count; i++) {
		float *restrict row = dprobs + i * h->padded_time, *restrict keep = kept + i * h->padded_time;
		const float *restrict factor = factors + i * h->time, *restrict prob = probs + i * h->time;
		int64_t seen = seen_by(h, first + i), width = round_up(seen, LANES);
#pragma omp simd
		for (int64_t j = 0; j < width; j++) {
			float score = prob[j] * (row[j] - inner[i]) * scale, after = mask_apply(factor[j], prob[j]);
			row[j] = j < seen ? score : 0.0f;
			keep[j] = j < seen ? after : 0.0f;
		}
		for (int64_t j = width; j < h->padded_time; j++)
			row[j] = keep[j] = 0;
	}
}

static void attention_bwd_range(const struct fast_range *range)
{
	const ps_args_attention_bwd *a = range->arguments;
	struct head h = head_init(&a->dout, a->heads, a->causal);
	const float *probs = ps__cpu_data(a->probs), *dout = ps__cpu_data(a->dout);
	int64_t plane = h.padded_time * h.padded, rows = FAST_QUERIES * h.padded_time;
	float *vt = range->scratch, *k = vt + h.features * h.padded_time, *dk = k + plane, *dv = dk + plane;
	float *dscores = dv + plane, *kept = dscores + rows, *factors = kept + rows, *block = factors + rows;
	float *q = block + rows, *dy = q + FAST_QUERIES * h.padded, *dq = dy + FAST_QUERIES * h.padded;
	struct mask mask;
	mask_init(&mask, &a->drop);
	for (h.index = range->begin; h.index < range->end; h.index++) {
		int64_t stride = 3 * h.width;
		const float *qkv = (const float *)ps__cpu_data(a->qkv) + head_at(&h, 3);
		float *dqkv = (float *)ps__cpu_data(a->dqkv) + head_at(&h, 3);
		copy_in_transposed(&h, qkv + 2 * h.width, stride, vt);
		copy_in(&h, qkv + h.width, stride, h.time, k);
		memset(dk, 0, (size_t)(2 * plane) * sizeof *dk);
		for (int64_t first = 0; first < h.time; first += FAST_QUERIES) {
			int64_t count = least(FAST_QUERIES, h.time - first);
			copy_in(&h, qkv + first * stride, stride, count, q);
			copy_in(&h, dout + head_at(&h, 1) + first * h.width, h.width, count, dy);
			copy_factors(&h, &mask, first, count, factors);
			memcpy(block, probs + (h.index * h.time + first) * h.time,
			       (size_t)(count * h.time) * sizeof *block);
			multiply_scores(&h, first, count, dy, vt, dscores);
			softmax_gradient_rows(&h, dscores, kept, factors, block, first, count);
			multiply_by_scores(&h, first, count, dscores, k, dq);
			add_transposed_scores(&h, first, count, dscores, q, dk);
			add_transposed_scores(&h, first, count, kept, dy, dv);
			copy_out(&h, dq, count, dqkv + first * stride, stride);
		}
		copy_out(&h, dk, h.time, dqkv + h.width, stride);
		copy_out(&h, dv, h.time, dqkv + 2 * h.width, stride);
	}
}

#endif
