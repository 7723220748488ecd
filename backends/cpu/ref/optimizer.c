/* Reference gradient norm, clipping and SGD. */
#include "backends/cpu/ref/ref.h"

#include <math.h>

static ps_status sum_squares_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_args_sum_squares *x = arguments;
	int64_t count = ps_tensor_count(x->x);
	double sum = 0;
	for (int64_t i = 0; i < count; i++) {
		double value = ref_get(x->x, i);
		sum += value * value;
	}
	ref_set(x->out, 0, sum);
	return PS_OK;
}
REF_OP(sum_squares)

static ps_status clip_scale_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_args_clip_scale *x = arguments;
	int64_t count = ps_tensor_count(x->sums);
	double sum = 0;
	for (int64_t i = 0; i < count; i++)
		sum += ref_get(x->sums, i);
	double norm = sqrt(sum), scale = 1;
	if (x->max_norm > 0) {
		scale = x->max_norm / (norm + 1e-6);
		if (scale > 1)
			scale = 1;
	}
	ref_set(x->norm, 0, norm);
	ref_set(x->scale, 0, isfinite(norm) ? scale : NAN);
	return PS_OK;
}
REF_OP(clip_scale)

/* w (BF16) as ops.h says, rounded at random: element e by half a word, the lower one of an even e. */
static void sgd_bf16(const ps_args_sgd *x)
{
	const uint16_t *g = ps__cpu_data(x->g);
	uint16_t *w = ps__cpu_data(x->w);
	int64_t count = ps_tensor_count(x->w);
	float rate = (float)(x->lr * ref_get(x->scale, 0));
	uint32_t words[4] = {0};
	for (int64_t i = 0; i < count; i++) {
		if (i % 8 == 0)
			ps_random_block(&x->place, 0, (uint32_t)(i / 8), words);
		float updated = fmaf(-rate, ps_bf16_widen(g[i]), ps_bf16_widen(w[i]));
		w[i] = ps_bf16_round_randomly(updated, words[i / 2 % 4] >> 16 * (i % 2));
	}
}

static ps_status sgd_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_args_sgd *x = arguments;
	if (isnan(ref_get(x->scale, 0)))
		return PS_OK;
	if (x->w.dtype == PS_BF16) {
		sgd_bf16(x);
		return PS_OK;
	}
	bool copied = ps_tensor_present(x->copy);
	int64_t count = ps_tensor_count(x->w);
	double rate = x->lr * ref_get(x->scale, 0);
	for (int64_t i = 0; i < count; i++) {
		ref_set(x->w, i, ref_get(x->w, i) - rate * ref_get(x->g, i));
		if (copied)
			ref_set(x->copy, i, ref_get(x->w, i));
	}
	return PS_OK;
}
REF_OP(sgd)
