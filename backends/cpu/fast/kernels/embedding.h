/* Embedding with positions. Tokens have been checked. */
#ifndef PS_FAST_KERNELS_EMBEDDING_H
#define PS_FAST_KERNELS_EMBEDDING_H

#include "backends/cpu/fast/kernels/elements.h"

#include <string.h>

/* A unit is a token. */
static void embedding_fwd_range(const struct fast_range *range)
{
	const ps_args_embedding_fwd *x = range->arguments;
	int64_t time = x->y.dims[1], width = x->y.dims[2];
	const int32_t *tokens = ps__cpu_data(x->tokens);
	const float *positions = ps__cpu_data(x->positions);
	const void *weights = ps__cpu_data(x->weight);
	float *y = ps__cpu_data(x->y);
	struct mask mask;
	mask_init(&mask, &x->drop);
	for (int64_t n = range->begin; n < range->end; n++) {
		int64_t row = tokens[n] * x->weight.strides[0];
		const float *weight = range->scratch;
		if (x->weight.dtype == PS_BF16)
			widen_row((const uint16_t *)weights + row, range->scratch, width);
		else
			weight = (const float *)weights + row;
		const float *position = positions + n % time * x->positions.strides[0];
		for (struct walk w = walk_start(n * width, (n + 1) * width, time * width); walk_next(&w, &mask);) {
			int64_t first = w.at - n * width;
#pragma omp simd
			for (int64_t i = 0; i < w.count; i++)
				y[w.at + i] =
				        mask_apply(w.factor[i], weight[first + i] * x->scale + position[first + i]);
		}
	}
}

/*
 * The gradient in BF16, one token's sum after the other: the shared scratch has token << 32 | position for each place
 * in `tokens`, in ascending order.
 */
static void embedding_bwd_weight_bf16(const struct fast_range *range)
{
	const ps_args_embedding_bwd_weight *x = range->arguments;
	int64_t time = x->dy.dims[1], width = x->dy.dims[2], count = x->dy.dims[0] * time, next;
	const uint64_t *order = (const uint64_t *)(const void *)range->shared;
	const float *dy = ps__cpu_data(x->dy);
	uint16_t *dweight = ps__cpu_data(x->dweight);
	float sum[MASK_CHUNK];
	struct mask mask;
	mask_init(&mask, &x->drop);
	if (!x->accumulate)
		for (int64_t v = 0; v < x->dweight.dims[0]; v++)
			memset(dweight + v * width + range->begin, 0,
			       (size_t)(range->end - range->begin) * sizeof *dweight);
	for (int64_t at = 0; at < count; at = next) {
		uint16_t *to = dweight + (int64_t)(order[at] >> 32) * width;
		for (next = at + 1; next < count && order[next] >> 32 == order[at] >> 32; next++)
			;
		for (int64_t first = range->begin; first < range->end; first += MASK_CHUNK) {
			int64_t columns = least(MASK_CHUNK, range->end - first);
			widen_row(to + first, sum, columns);
			for (int64_t k = at; k < next; k++) {
				int64_t begin = (int64_t)(order[k] & UINT32_MAX) * width + first;
				for (struct walk w = walk_start(begin, begin + columns, time * width);
				     walk_next(&w, &mask);)
#pragma omp simd
					for (int64_t i = 0; i < w.count; i++)
						sum[w.at - begin + i] +=
						        mask_apply(w.factor[i], dy[w.at + i]) * x->scale;
			}
			narrow_row(sum, to + first, columns);
		}
	}
}

/* A unit is a feature, so that each thread adds up its own columns over all tokens in order. */
static void embedding_bwd_weight_range(const struct fast_range *range)
{
	const ps_args_embedding_bwd_weight *x = range->arguments;
	if (x->dweight.dtype == PS_BF16) {
		embedding_bwd_weight_bf16(range);
		return;
	}
	int64_t time = x->dy.dims[1], width = x->dy.dims[2], count = x->dy.dims[0] * time;
	const int32_t *tokens = ps__cpu_data(x->tokens);
	const float *dy = ps__cpu_data(x->dy);
	float *dweight = ps__cpu_data(x->dweight);
	struct mask mask;
	mask_init(&mask, &x->drop);
	if (!x->accumulate)
		for (int64_t v = 0; v < x->dweight.dims[0]; v++)
			memset(dweight + v * width + range->begin, 0,
			       (size_t)(range->end - range->begin) * sizeof *dweight);
	for (int64_t n = 0; n < count; n++) {
		float *to = dweight + tokens[n] * width;
		int64_t begin = n * width + range->begin, end = n * width + range->end;
		for (struct walk w = walk_start(begin, end, time * width); walk_next(&w, &mask);) {
			int64_t first = w.at - n * width;
#pragma omp simd
			for (int64_t i = 0; i < w.count; i++)
				to[first + i] += mask_apply(w.factor[i], dy[w.at + i]) * x->scale;
		}
	}
}

#endif
