/* Softmax and cross entropy in one, and the sum of squares. */
#ifndef PS_FAST_KERNELS_LOSS_H
#define PS_FAST_KERNELS_LOSS_H

#include "backends/cpu/fast/kernels/norm.h"

/* A unit is a row of logits. Targets have been checked. */
static void cross_entropy_range(const struct fast_range *range)
{
	const ps_args_cross_entropy *a = range->arguments;
	int64_t columns = columns_of(a->logits);
	const float *logits = ps__cpu_data(a->logits);
	const int32_t *targets = ps__cpu_data(a->targets);
	float *losses = ps__cpu_data(a->losses);
	float *dlogits = ps_tensor_present(a->dlogits) ? ps__cpu_data(a->dlogits) : NULL;
	for (int64_t n = range->begin; n < range->end; n++) {
		const float *row = logits + n * columns;
		float most = max_of(row, columns), target = row[targets[n]];
		float *d = dlogits ? dlogits + n * columns : NULL;
		double sum = d ? exp_and_sum(row, d, columns, most) : exp_sum(row, columns, most);
		losses[n] = (float)(log(sum) + ((double)most - (double)target));
		if (!d)
			continue;
		float factor = (float)((double)a->scale / sum);
#pragma omp simd
		for (int64_t j = 0; j < columns; j++)
			d[j] *= factor;
		d[targets[n]] -= a->scale;
	}
}

/* A unit is a chunk; the partial sums go to the shared scratch, as doubles. */
static double sum_squares_chunk(const float *x, int64_t count)
{
	double lanes[LANES] = {0}, sum = 0;
	int64_t i = 0;
	for (; i + LANES <= count; i += LANES)
		for (int l = 0; l < LANES; l++)
			lanes[l] += (double)x[i + l] * (double)x[i + l];
	for (int l = 0; i + l < count; l++)
		lanes[l] += (double)x[i + l] * (double)x[i + l];
	for (int l = 0; l < LANES; l++)
		sum += lanes[l];
	return sum;
}

/* The same of BF16 numbers. */
static double sum_squares_chunk_bf16(const uint16_t *x, int64_t count)
{
	enum { PIECE = 1024 };
	float wide[PIECE];
	double sum = 0;
	for (int64_t first = 0; first < count; first += PIECE) {
		int64_t n = least(PIECE, count - first);
		widen_row(x + first, wide, n);
		sum += sum_squares_chunk(wide, n);
	}
	return sum;
}

static void sum_squares_range(const struct fast_range *range)
{
	const ps_args_sum_squares *a = range->arguments;
	const void *x = ps__cpu_data(a->x);
	int64_t count = ps_tensor_count(a->x);
	double *partial = (double *)(void *)range->shared;
	for (int64_t chunk = range->begin; chunk < range->end; chunk++) {
		int64_t first = chunk * FAST_SUM_CHUNK, n = least(FAST_SUM_CHUNK, count - first);
		partial[chunk] = a->x.dtype == PS_BF16 ? sum_squares_chunk_bf16((const uint16_t *)x + first, n)
		                                       : sum_squares_chunk((const float *)x + first, n);
	}
}

#endif
