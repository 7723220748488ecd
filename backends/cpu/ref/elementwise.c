/* Reference kernels over single elements: add, relu, dropout and their fusion. */
#include "backends/cpu/ref/ref.h"

static ps_status add_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_args_add *x = arguments;
	int64_t count = ps_tensor_count(x->y);
	for (int64_t i = 0; i < count; i++)
		ref_set(x->y, i, ref_get(x->a, i) + ref_get(x->b, i));
	return PS_OK;
}
REF_OP(add)

/* Written so that a NaN stays one. */
static double relu(double value)
{
	return value <= 0 ? 0 : value;
}

static ps_status relu_fwd_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_args_relu_fwd *x = arguments;
	int64_t count = ps_tensor_count(x->y);
	for (int64_t i = 0; i < count; i++)
		ref_set(x->y, i, relu(ref_get(x->x, i)));
	return PS_OK;
}
REF_OP(relu_fwd)

static ps_status relu_bwd_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_args_relu_bwd *x = arguments;
	int64_t count = ps_tensor_count(x->dx);
	for (int64_t i = 0; i < count; i++)
		ref_set(x->dx, i, ref_get(x->y, i) > 0 ? ref_get(x->dy, i) : 0);
	return PS_OK;
}
REF_OP(relu_bwd)

static ps_status dropout_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_args_dropout *x = arguments;
	struct ref_mask mask = ref_mask_start(&x->drop, x->y.dtype);
	int64_t rows = ref_samples(x->y), elements = ps_tensor_count(x->y) / rows;
	for (int64_t r = 0; r < rows; r++)
		for (int64_t e = 0; e < elements; e++)
			ref_set(x->y, r * elements + e, ref_mask_apply(&mask, r, e, ref_get(x->x, r * elements + e)));
	return PS_OK;
}
REF_OP(dropout)

static ps_status relu_dropout_fwd_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_args_relu_dropout_fwd *x = arguments;
	struct ref_mask mask = ref_mask_start(&x->drop, x->y.dtype);
	int64_t rows = ref_samples(x->y), elements = ps_tensor_count(x->y) / rows;
	for (int64_t r = 0; r < rows; r++)
		for (int64_t e = 0; e < elements; e++)
			ref_set(x->y, r * elements + e,
			        ref_mask_apply(&mask, r, e, relu(ref_get(x->x, r * elements + e))));
	return PS_OK;
}
REF_OP(relu_dropout_fwd)

static ps_status relu_dropout_bwd_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_args_relu_dropout_bwd *x = arguments;
	double factor = ref_dropout_factor(x->p, x->dx.dtype);
	int64_t count = ps_tensor_count(x->dx);
	for (int64_t i = 0; i < count; i++)
		ref_set(x->dx, i, ref_get(x->y, i) > 0 ? ref_get(x->dy, i) * factor : 0);
	return PS_OK;
}
REF_OP(relu_dropout_bwd)
