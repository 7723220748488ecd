/* Kernels over single elements. A unit is an element. */
#ifndef PS_FAST_KERNELS_ELEMENTS_H
#define PS_FAST_KERNELS_ELEMENTS_H

#include "backends/cpu/fast/fast.h"
#include "backends/cpu/fast/kernels/mask.h"

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

static void sgd_range(const struct fast_range *range)
{
	const ps_args_sgd *x = range->arguments;
	const float *g = ps__cpu_data(x->g);
	float *w = ps__cpu_data(x->w);
	const double *scale = ps__cpu_data(x->scale);
	float rate = (float)(x->lr * *scale);
#pragma omp simd
	for (int64_t i = range->begin; i < range->end; i++)
		w[i] -= rate * g[i];
}

#endif
