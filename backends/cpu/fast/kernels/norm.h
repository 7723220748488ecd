/* LayerNorm, alone and fused with the dropout and the residual before it. */
#ifndef PS_FAST_KERNELS_NORM_H
#define PS_FAST_KERNELS_NORM_H

#include "backends/cpu/fast/kernels/elements.h"

static inline int64_t columns_of(ps_tensor tensor)
{
	return tensor.rank ? tensor.dims[tensor.rank - 1] : 1;
}

static inline void normalize_row(const float *restrict x, const float *restrict gamma, const float *restrict beta,
                                 float *y, int64_t columns, float eps, float *mean_out, float *rstd_out)
{
	double mean = sum_of(x, columns) / (double)columns;
	float center = (float)mean;
	/* The second sum mends what rounding the mean left. */
	float squares[LANES] = {0}, rest[LANES] = {0};
	int64_t i = 0;
	for (; i + LANES <= columns; i += LANES)
#pragma omp simd
		for (int l = 0; l < LANES; l++) {
			float off = x[i + l] - center;
			squares[l] += off * off;
			rest[l] += off;
		}
	for (int l = 0; i + l < columns; l++) {
		float off = x[i + l] - center;
		squares[l] += off * off;
		rest[l] += off;
	}
	double shift = lanes_sum(rest) / (double)columns;
	double variance = lanes_sum(squares) / (double)columns - shift * shift;
	float rstd = (float)(1 / sqrt((variance > 0 ? variance : variance * 0) + (double)eps));
	float shift_scaled = (float)(shift * (double)rstd);
#pragma omp simd
	for (int64_t j = 0; j < columns; j++)
		y[j] = ((x[j] - center) * rstd - shift_scaled) * gamma[j] + beta[j];
	*mean_out = (float)((double)center + shift);
	*rstd_out = rstd;
}

/* A unit is a row of features. */
static void layernorm_fwd_range(const struct fast_range *range)
{
	const ps_args_layernorm_fwd *a = range->arguments;
	int64_t columns = columns_of(a->x);
	const float *x = ps__cpu_data(a->x), *gamma = ps__cpu_data(a->gamma), *beta = ps__cpu_data(a->beta);
	float *y = ps__cpu_data(a->y), *mean = ps__cpu_data(a->mean), *rstd = ps__cpu_data(a->rstd);
	for (int64_t n = range->begin; n < range->end; n++)
		normalize_row(x + n * columns, gamma, beta, y + n * columns, columns, a->eps, &mean[n], &rstd[n]);
}

static void dropout_add_layernorm_fwd_range(const struct fast_range *range)
{
	const ps_args_dropout_add_layernorm_fwd *a = range->arguments;
	int64_t columns = columns_of(a->sum), row_elements = per_row(a->sum);
	const float *z = ps__cpu_data(a->z), *residual = ps__cpu_data(a->residual);
	const float *gamma = ps__cpu_data(a->gamma), *beta = ps__cpu_data(a->beta);
	float *sum = ps__cpu_data(a->sum), *y = ps__cpu_data(a->y);
	float *mean = ps__cpu_data(a->mean), *rstd = ps__cpu_data(a->rstd);
	struct mask mask;
	mask_init(&mask, &a->drop);
	for (int64_t n = range->begin; n < range->end; n++) {
		int64_t at = n * columns;
		for (struct walk w = walk_start(at, at + columns, row_elements); walk_next(&w, &mask);) {
#pragma omp simd
			for (int64_t i = 0; i < w.count; i++)
				sum[w.at + i] = residual[w.at + i] + mask_apply(w.factor[i], z[w.at + i]);
		}
		normalize_row(sum + at, gamma, beta, y + at, columns, a->eps, &mean[n], &rstd[n]);
	}
}

/* dx may be dy. */
static inline void norm_gradient_row(const float *dy, const float *restrict x, const float *restrict gamma, float mean,
                                     float rstd, float *dx, int64_t columns)
{
	float plain[LANES] = {0}, scaled[LANES] = {0};
	int64_t i = 0;
	for (; i + LANES <= columns; i += LANES)
#pragma omp simd
		for (int l = 0; l < LANES; l++) {
			float g = dy[i + l] * gamma[i + l];
			plain[l] += g;
			scaled[l] += g * ((x[i + l] - mean) * rstd);
		}
	for (int l = 0; i + l < columns; l++) {
		float g = dy[i + l] * gamma[i + l];
		plain[l] += g;
		scaled[l] += g * ((x[i + l] - mean) * rstd);
	}
	float average = (float)(lanes_sum(plain) / (double)columns);
	float along = (float)(lanes_sum(scaled) / (double)columns);
#pragma omp simd
	for (int64_t j = 0; j < columns; j++)
		dx[j] = rstd * (dy[j] * gamma[j] - average - (x[j] - mean) * rstd * along);
}

static void layernorm_bwd_input_range(const struct fast_range *range)
{
	const ps_args_layernorm_bwd_input *a = range->arguments;
	int64_t columns = columns_of(a->x);
	const float *dy = ps__cpu_data(a->dy), *x = ps__cpu_data(a->x), *gamma = ps__cpu_data(a->gamma);
	const float *mean = ps__cpu_data(a->mean), *rstd = ps__cpu_data(a->rstd);
	float *dx = ps__cpu_data(a->dx);
	for (int64_t n = range->begin; n < range->end; n++)
		norm_gradient_row(dy + n * columns, x + n * columns, gamma, mean[n], rstd[n], dx + n * columns,
		                  columns);
}

static void dropout_add_layernorm_bwd_input_range(const struct fast_range *range)
{
	const ps_args_dropout_add_layernorm_bwd_input *a = range->arguments;
	int64_t columns = columns_of(a->sum), row_elements = per_row(a->sum);
	const float *dy = ps__cpu_data(a->dy), *x = ps__cpu_data(a->sum), *gamma = ps__cpu_data(a->gamma);
	const float *mean = ps__cpu_data(a->mean), *rstd = ps__cpu_data(a->rstd);
	float *dresidual = ps__cpu_data(a->dresidual), *dz = ps__cpu_data(a->dz);
	struct mask mask;
	mask_init(&mask, &a->drop);
	for (int64_t n = range->begin; n < range->end; n++) {
		int64_t at = n * columns;
		norm_gradient_row(dy + at, x + at, gamma, mean[n], rstd[n], dresidual + at, columns);
		for (struct walk w = walk_start(at, at + columns, row_elements); walk_next(&w, &mask);) {
#pragma omp simd
			for (int64_t i = 0; i < w.count; i++)
				dz[w.at + i] = mask_apply(w.factor[i], dresidual[w.at + i]);
		}
	}
}

/* A unit is a feature. Columns are added up a few at a time, in registers, over all rows in order. */
static void layernorm_bwd_weight_range(const struct fast_range *range)
{
	enum { WIDTH = 64 };
	const ps_args_layernorm_bwd_weight *a = range->arguments;
	int64_t columns = columns_of(a->x), rows = ps_tensor_count(a->mean);
	const float *dy = ps__cpu_data(a->dy), *x = ps__cpu_data(a->x);
	const float *mean = ps__cpu_data(a->mean), *rstd = ps__cpu_data(a->rstd);
	float *dgamma = ps__cpu_data(a->dgamma), *dbeta = ps__cpu_data(a->dbeta);
	for (int64_t first = range->begin; first < range->end; first += WIDTH) {
		int64_t width = least(WIDTH, range->end - first);
		float gamma[WIDTH] = {0}, beta[WIDTH] = {0};
		for (int64_t j = 0; j < width && a->accumulate; j++) {
			gamma[j] = dgamma[first + j];
			beta[j] = dbeta[first + j];
		}
		for (int64_t r = 0; r < rows; r++) {
			const float *from_dy = dy + r * columns + first, *from_x = x + r * columns + first;
			float center = mean[r], scale = rstd[r];
#pragma omp simd
			for (int64_t j = 0; j < width; j++) {
				gamma[j] += from_dy[j] * ((from_x[j] - center) * scale);
				beta[j] += from_dy[j];
			}
		}
		for (int64_t j = 0; j < width; j++) {
			dgamma[first + j] = gamma[j];
			dbeta[first + j] = beta[j];
		}
	}
}

/* A unit is a column. */
static void column_sum_range(const struct fast_range *range)
{
	enum { WIDTH = 128 };
	const ps_args_column_sum *a = range->arguments;
	int64_t columns = columns_of(a->x), rows = ps_tensor_count(a->x) / columns;
	const float *x = ps__cpu_data(a->x);
	float *y = ps__cpu_data(a->y);
	for (int64_t first = range->begin; first < range->end; first += WIDTH) {
		int64_t width = least(WIDTH, range->end - first);
		float sum[WIDTH] = {0};
		for (int64_t j = 0; j < width && a->accumulate; j++)
			sum[j] = y[first + j];
		for (int64_t r = 0; r < rows; r++) {
			const float *from = x + r * columns + first;
#pragma omp simd
			for (int64_t j = 0; j < width; j++)
				sum[j] += from[j];
		}
		for (int64_t j = 0; j < width; j++)
			y[first + j] = sum[j];
	}
}

#endif
