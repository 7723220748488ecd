/*
 * What the reference kernels share. They are plain loops over float or double tensors that compute in double, round
 * each result once to the tensor's dtype, and are never optimised at the cost of being read: the oracle that every
 * other backend is held against.
 */
#ifndef PS_BACKENDS_CPU_REF_REF_H
#define PS_BACKENDS_CPU_REF_REF_H

#include "backends/cpu/cpu.h"

#include <penstock/bf16.h>

/* ps__ref_NAME for every op; the reference lacks none. */
#define PS_OP(name, text) ps_status ps__ref_##name(ps_queue *queue, const void *arguments);
#include <penstock/ops.def>

/* Defines ps__ref_NAME, which launches NAME_kernel. */
#define REF_OP(name)                                                                            \
	ps_status ps__ref_##name(ps_queue *queue, const void *arguments)                        \
	{                                                                                       \
		return ps__cpu_launch(queue, name##_kernel, arguments, sizeof(ps_args_##name)); \
	}

/* Element i, counted from the tensor's first. */
static inline double ref_get(ps_tensor tensor, int64_t i)
{
	const void *data = ps__cpu_data(tensor);
	if (tensor.dtype == PS_BF16)
		return (double)ps_bf16_widen(((const uint16_t *)data)[i]);
	return tensor.dtype == PS_F64 ? ((const double *)data)[i] : (double)((const float *)data)[i];
}

static inline void ref_set(ps_tensor tensor, int64_t i, double value)
{
	void *data = ps__cpu_data(tensor);
	if (tensor.dtype == PS_F64)
		((double *)data)[i] = value;
	else if (tensor.dtype == PS_BF16)
		((uint16_t *)data)[i] = ps_bf16_round((float)value);
	else
		((float *)data)[i] = (float)value;
}

/* Size of the last dimension: what a row-wise op calls its features. */
static inline int64_t ref_columns(ps_tensor tensor)
{
	return tensor.rank ? tensor.dims[tensor.rank - 1] : 1;
}

/* Size of the first dimension: sample rows. */
static inline int64_t ref_samples(ps_tensor tensor)
{
	return tensor.rank ? tensor.dims[0] : 1;
}

/* A dropout site at work. It remembers the last random block, since neighbours share it. */
struct ref_mask {
	const ps_dropout *drop;
	double factor;
	uint32_t threshold;
	int64_t row, block;
	uint32_t words[4];
};

/* The factor 1 / (1 - p) in the precision in which a tensor of `dtype` is multiplied by it. */
static inline double ref_dropout_factor(float p, ps_dtype dtype)
{
	double factor = 1 / (1 - (double)p);
	return dtype == PS_F64 ? factor : (double)(float)factor;
}

static inline struct ref_mask ref_mask_start(const ps_dropout *drop, ps_dtype dtype)
{
	return (struct ref_mask){.drop = drop,
	                         .factor = ref_dropout_factor(drop->p, dtype),
	                         .threshold = ps_random_threshold((double)drop->p),
	                         .row = -1};
}

/* The value at element `element` of local sample row `row` after dropout. A dropped one is 0, even when it was NaN. */
static inline double ref_mask_apply(struct ref_mask *mask, int64_t row, int64_t element, double value)
{
	if (mask->drop->p == 0)
		return value;
	if (row != mask->row || element / 4 != mask->block) {
		mask->row = row;
		mask->block = element / 4;
		ps_random_block(&mask->drop->place, mask->drop->first_row + (uint32_t)row, (uint32_t)mask->block,
		                mask->words);
	}
	return mask->words[element % 4] >= mask->threshold ? value * mask->factor : 0;
}

#endif
