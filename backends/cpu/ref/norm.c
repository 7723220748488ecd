/* Reference LayerNorm, alone and fused with the dropout and the residual before it. */
#include "backends/cpu/ref/ref.h"

#include <math.h>

/* Row r of layernorm, from the values as stored in x->x. */
static void normalize(const ps_args_layernorm_fwd *x, int64_t r)
{
	int64_t columns = ref_columns(x->x), at = r * columns;
	double mean = 0, variance = 0;
	for (int64_t j = 0; j < columns; j++)
		mean += ref_get(x->x, at + j);
	mean /= (double)columns;
	for (int64_t j = 0; j < columns; j++) {
		double off = ref_get(x->x, at + j) - mean;
		variance += off * off;
	}
	variance /= (double)columns;
	double rstd = 1 / sqrt(variance + (double)x->eps);
	for (int64_t j = 0; j < columns; j++)
		ref_set(x->y, at + j,
		        (ref_get(x->x, at + j) - mean) * rstd * ref_get(x->gamma, j) + ref_get(x->beta, j));
	ref_set(x->mean, r, mean);
	ref_set(x->rstd, r, rstd);
}

static ps_status layernorm_fwd_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_args_layernorm_fwd *x = arguments;
	int64_t rows = ps_tensor_count(x->mean);
	for (int64_t r = 0; r < rows; r++)
		normalize(x, r);
	return PS_OK;
}
REF_OP(layernorm_fwd)

/* Row r of layernorm's input gradient. */
static void input_gradient(const ps_args_layernorm_bwd_input *x, int64_t r)
{
	int64_t columns = ref_columns(x->x), at = r * columns;
	double mean = ref_get(x->mean, r), rstd = ref_get(x->rstd, r);
	double sum_g = 0, sum_gx = 0;
	for (int64_t j = 0; j < columns; j++) {
		double g = ref_get(x->dy, at + j) * ref_get(x->gamma, j);
		sum_g += g;
		sum_gx += g * (ref_get(x->x, at + j) - mean) * rstd;
	}
	double avg_g = sum_g / (double)columns, avg_gx = sum_gx / (double)columns;
	for (int64_t j = 0; j < columns; j++) {
		double g = ref_get(x->dy, at + j) * ref_get(x->gamma, j);
		double xhat = (ref_get(x->x, at + j) - mean) * rstd;
		ref_set(x->dx, at + j, rstd * (g - avg_g - xhat * avg_gx));
	}
}

static ps_status layernorm_bwd_input_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_args_layernorm_bwd_input *x = arguments;
	int64_t rows = ps_tensor_count(x->mean);
	for (int64_t r = 0; r < rows; r++)
		input_gradient(x, r);
	return PS_OK;
}
REF_OP(layernorm_bwd_input)

static ps_status layernorm_bwd_weight_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_args_layernorm_bwd_weight *x = arguments;
	int64_t columns = ref_columns(x->x), rows = ps_tensor_count(x->mean);
	enum { WIDTH = 64 };
	for (int64_t first = 0; first < columns; first += WIDTH) {
		int64_t width = columns - first < WIDTH ? columns - first : WIDTH;
		double gamma[WIDTH] = {0}, beta[WIDTH] = {0};
		for (int64_t j = 0; j < width && x->accumulate; j++) {
			gamma[j] = ref_get(x->dgamma, first + j);
			beta[j] = ref_get(x->dbeta, first + j);
		}
		for (int64_t r = 0; r < rows; r++) {
			double mean = ref_get(x->mean, r), rstd = ref_get(x->rstd, r);
			for (int64_t j = 0; j < width; j++) {
				int64_t at = r * columns + first + j;
				double dy = ref_get(x->dy, at);
				gamma[j] += dy * (ref_get(x->x, at) - mean) * rstd;
				beta[j] += dy;
			}
		}
		for (int64_t j = 0; j < width; j++) {
			ref_set(x->dgamma, first + j, gamma[j]);
			ref_set(x->dbeta, first + j, beta[j]);
		}
	}
	return PS_OK;
}
REF_OP(layernorm_bwd_weight)

/* What is formed from sum and from dresidual reads them as they were rounded, as ops of their own would. */
static ps_status dropout_add_layernorm_fwd_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_args_dropout_add_layernorm_fwd *x = arguments;
	struct ref_mask mask = ref_mask_start(&x->drop, x->sum.dtype);
	int64_t rows = ref_samples(x->sum), elements = ps_tensor_count(x->sum) / rows;
	for (int64_t r = 0; r < rows; r++)
		for (int64_t e = 0; e < elements; e++) {
			int64_t at = r * elements + e;
			ref_set(x->sum, at, ref_get(x->residual, at) + ref_mask_apply(&mask, r, e, ref_get(x->z, at)));
		}
	const ps_args_layernorm_fwd norm = {.x = x->sum,
	                                    .gamma = x->gamma,
	                                    .beta = x->beta,
	                                    .y = x->y,
	                                    .mean = x->mean,
	                                    .rstd = x->rstd,
	                                    .eps = x->eps};
	return layernorm_fwd_kernel(device, &norm);
}
REF_OP(dropout_add_layernorm_fwd)

static ps_status dropout_add_layernorm_bwd_input_kernel(const struct cpu_device *device, const void *arguments)
{
	const ps_args_dropout_add_layernorm_bwd_input *x = arguments;
	const ps_args_layernorm_bwd_input norm = {
	        .dy = x->dy, .x = x->sum, .mean = x->mean, .rstd = x->rstd, .gamma = x->gamma, .dx = x->dresidual};
	PS_TRY(layernorm_bwd_input_kernel(device, &norm));
	struct ref_mask mask = ref_mask_start(&x->drop, x->dz.dtype);
	int64_t rows = ref_samples(x->dz), elements = ps_tensor_count(x->dz) / rows;
	for (int64_t r = 0; r < rows; r++)
		for (int64_t e = 0; e < elements; e++)
			ref_set(x->dz, r * elements + e,
			        ref_mask_apply(&mask, r, e, ref_get(x->dresidual, r * elements + e)));
	return PS_OK;
}
REF_OP(dropout_add_layernorm_bwd_input)
