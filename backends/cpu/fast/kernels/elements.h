/* Kernels over single elements. A unit is an element. */
#ifndef PS_FAST_KERNELS_ELEMENTS_H
#define PS_FAST_KERNELS_ELEMENTS_H

#include "backends/cpu/fast/fast.h"
#include "backends/cpu/fast/gemm.h"
#include "backends/cpu/fast/kernels/mask.h"

#include <penstock/bf16.h>

/* Elements in one sample row of a tensor. */
static inline int64_t per_row(ps_tensor tensor)
{
	return tensor.rank ? ps_tensor_count(tensor) / tensor.dims[0] : 1;
}

static inline float relu(float x)
{
	return x <= 0 ? 0.0f : x; /* a NaN stays one */
}

static void add_range(const struct fast_range *range)
{
	const ps_args_add *x = range->arguments;
	const float *a = ps__cpu_data(x->a), *b = ps__cpu_data(x->b);
	float *y = ps__cpu_data(x->y);
#pragma omp simd
	for (int64_t i = range->begin; i < range->end; i++)
		y[i] = a[i] + b[i];
}

static void relu_fwd_range(const struct fast_range *range)
{
	const ps_args_relu_fwd *x = range->arguments;
	const float *from = ps__cpu_data(x->x);
	float *y = ps__cpu_data(x->y);
#pragma omp simd
	for (int64_t i = range->begin; i < range->end; i++)
		y[i] = relu(from[i]);
}

static void relu_bwd_range(const struct fast_range *range)
{
	const ps_args_relu_bwd *x = range->arguments;
	const float *dy = ps__cpu_data(x->dy), *y = ps__cpu_data(x->y);
	float *dx = ps__cpu_data(x->dx);
#pragma omp simd
	for (int64_t i = range->begin; i < range->end; i++)
		dx[i] = y[i] > 0 ? dy[i] : 0.0f;
}

static void dropout_range(const struct fast_range *range)
{
	const ps_args_dropout *x = range->arguments;
	const float *from = ps__cpu_data(x->x);
	float *y = ps__cpu_data(x->y);
	struct mask mask;
	mask_init(&mask, &x->drop);
	for (struct walk w = walk_start(range->begin, range->end, per_row(x->y)); walk_next(&w, &mask);) {
#pragma omp simd
		for (int64_t i = 0; i < w.count; i++)
			y[w.at + i] = mask_apply(w.factor[i], from[w.at + i]);
	}
}

static void relu_dropout_fwd_range(const struct fast_range *range)
{
	const ps_args_relu_dropout_fwd *x = range->arguments;
	const float *from = ps__cpu_data(x->x);
	float *y = ps__cpu_data(x->y);
	struct mask mask;
	mask_init(&mask, &x->drop);
	for (struct walk w = walk_start(range->begin, range->end, per_row(x->y)); walk_next(&w, &mask);) {
#pragma omp simd
		for (int64_t i = 0; i < w.count; i++)
			y[w.at + i] = mask_apply(w.factor[i], relu(from[w.at + i]));
	}
}

static void relu_dropout_bwd_range(const struct fast_range *range)
{
	const ps_args_relu_dropout_bwd *x = range->arguments;
	const float *dy = ps__cpu_data(x->dy), *y = ps__cpu_data(x->y);
	float *dx = ps__cpu_data(x->dx), keep = (float)(1 / (1 - (double)x->p));
#pragma omp simd
	for (int64_t i = range->begin; i < range->end; i++)
		dx[i] = y[i] > 0 ? dy[i] * keep : 0.0f;
}

static void narrow_row(const float *restrict from, uint16_t *restrict to, int64_t count)
{
	for (int64_t i = 0; i < count; i++)
		to[i] = ps_bf16_round(from[i]);
}

static void widen_row(const uint16_t *restrict from, float *restrict to, int64_t count)
{
	for (int64_t i = 0; i < count; i++)
		to[i] = ps_bf16_widen(from[i]);
}

static void round_row(const float *restrict from, float *restrict to, int64_t count)
{
	for (int64_t i = 0; i < count; i++)
		to[i] = ps_bf16_widen(ps_bf16_round(from[i]));
}

/* A unit is a row. */
static void convert_range(const struct fast_range *range)
{
	const struct fast_convert *x = range->arguments;
	for (int64_t row = range->begin; row < range->end; row++) {
		int64_t from = row * x->from_stride, to = row * x->to_stride;
		if (x->to_bf16)
			narrow_row((const float *)x->from + from, (uint16_t *)x->to + to, x->columns);
		else if (x->from_bf16)
			widen_row((const uint16_t *)x->from + from, (float *)x->to + to, x->columns);
		else
			round_row((const float *)x->from + from, (float *)x->to + to, x->columns);
	}
}

/* w (BF16), rounded at random by half words: the lower half of word e / 2 for an even e. */
static void sgd_bf16_range(const struct fast_range *range, float rate)
{
	enum { HALVES = 2 * MASK_CHUNK };
	const ps_args_sgd *x = range->arguments;
	const uint16_t *g = ps__cpu_data(x->g);
	uint16_t *w = ps__cpu_data(x->w);
	for (int64_t at = range->begin / HALVES * HALVES; at < range->end; at += HALVES) {
		uint32_t words[MASK_CHUNK], halves[HALVES];
		philox_words(&x->place, 0, (uint32_t)(at / 8), words);
		for (int i = 0; i < MASK_CHUNK; i++) {
			halves[2 * i] = words[i];
			halves[2 * i + 1] = words[i] >> 16;
		}
		int64_t begin = at < range->begin ? range->begin : at, end = least(range->end, at + HALVES);
#pragma omp simd
		for (int64_t i = begin; i < end; i++)
			w[i] = ps_bf16_round_randomly(fmaf(-rate, ps_bf16_widen(g[i]), ps_bf16_widen(w[i])),
			                              halves[i - at]);
	}
}

static void sgd_range(const struct fast_range *range)
{
	const ps_args_sgd *x = range->arguments;
	const float *g = ps__cpu_data(x->g);
	float *w = ps__cpu_data(x->w);
	const double *scale = ps__cpu_data(x->scale);
	float rate = (float)(x->lr * *scale);
	if (x->w.dtype == PS_BF16) {
		sgd_bf16_range(range, rate);
	} else if (ps_tensor_present(x->copy)) {
		uint16_t *copy = ps__cpu_data(x->copy);
#pragma omp simd
		for (int64_t i = range->begin; i < range->end; i++) {
			w[i] -= rate * g[i];
			copy[i] = ps_bf16_round(w[i]);
		}
	} else {
#pragma omp simd
		for (int64_t i = range->begin; i < range->end; i++)
			w[i] -= rate * g[i];
	}
}

#endif
