/* LayerNorm in its forms, cross entropy, and sums over rows. */
#include "backends/opencl/opencl.h"

static ps_status layernorm_fwd_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_layernorm_fwd *x = arguments;
	struct cl_launch l = ps__cl_launch(q, CL_layernorm_fwd, x->x.dtype);
	ps__cl_arg_tensor(&l, x->x);
	ps__cl_arg_tensor(&l, x->gamma);
	ps__cl_arg_tensor(&l, x->beta);
	ps__cl_arg_tensor(&l, x->y);
	ps__cl_arg_tensor(&l, x->mean);
	ps__cl_arg_tensor(&l, x->rstd);
	ps__cl_arg_long(&l, cl_columns(x->x));
	ps__cl_arg_real(&l, x->eps);
	return ps__cl_run_rows(&l, ps_tensor_count(x->mean), 1, 1);
}
CL_OP(layernorm_fwd, x, false)

static ps_status dropout_add_layernorm_fwd_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_dropout_add_layernorm_fwd *x = arguments;
	int64_t rows = ps_tensor_count(x->mean);
	struct cl_launch l = ps__cl_launch(q, CL_dropout_add_layernorm_fwd, x->sum.dtype);
	ps__cl_arg_tensor(&l, x->z);
	ps__cl_arg_tensor(&l, x->residual);
	ps__cl_arg_tensor(&l, x->gamma);
	ps__cl_arg_tensor(&l, x->beta);
	ps__cl_arg_tensor(&l, x->sum);
	ps__cl_arg_tensor(&l, x->y);
	ps__cl_arg_tensor(&l, x->mean);
	ps__cl_arg_tensor(&l, x->rstd);
	ps__cl_arg_long(&l, cl_columns(x->sum));
	ps__cl_arg_long(&l, rows / cl_samples(x->sum));
	ps__cl_arg_real(&l, x->eps);
	ps__cl_arg_drop(&l, &x->drop);
	return ps__cl_run_rows(&l, rows, 1, 1);
}
CL_OP(dropout_add_layernorm_fwd, sum, false)

static ps_status layernorm_bwd_input_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_layernorm_bwd_input *x = arguments;
	struct cl_launch l = ps__cl_launch(q, CL_layernorm_bwd_input, x->x.dtype);
	ps__cl_arg_tensor(&l, x->dy);
	ps__cl_arg_tensor(&l, x->x);
	ps__cl_arg_tensor(&l, x->mean);
	ps__cl_arg_tensor(&l, x->rstd);
	ps__cl_arg_tensor(&l, x->gamma);
	ps__cl_arg_tensor(&l, x->dx);
	ps__cl_arg_long(&l, cl_columns(x->x));
	return ps__cl_run_rows(&l, ps_tensor_count(x->mean), 1, 1);
}
CL_OP(layernorm_bwd_input, x, false)

static ps_status dropout_add_layernorm_bwd_input_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_dropout_add_layernorm_bwd_input *x = arguments;
	int64_t rows = ps_tensor_count(x->mean);
	struct cl_launch l = ps__cl_launch(q, CL_dropout_add_layernorm_bwd_input, x->sum.dtype);
	ps__cl_arg_tensor(&l, x->dy);
	ps__cl_arg_tensor(&l, x->sum);
	ps__cl_arg_tensor(&l, x->mean);
	ps__cl_arg_tensor(&l, x->rstd);
	ps__cl_arg_tensor(&l, x->gamma);
	ps__cl_arg_tensor(&l, x->dresidual);
	ps__cl_arg_tensor(&l, x->dz);
	ps__cl_arg_long(&l, cl_columns(x->sum));
	ps__cl_arg_long(&l, rows / cl_samples(x->sum));
	ps__cl_arg_drop(&l, &x->drop);
	return ps__cl_run_rows(&l, rows, 1, 1);
}
CL_OP(dropout_add_layernorm_bwd_input, sum, false)

static ps_status layernorm_bwd_weight_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_layernorm_bwd_weight *x = arguments;
	int64_t columns = cl_columns(x->x);
	struct cl_launch l = ps__cl_launch(q, CL_layernorm_bwd_weight, x->x.dtype);
	ps__cl_arg_tensor(&l, x->dy);
	ps__cl_arg_tensor(&l, x->x);
	ps__cl_arg_tensor(&l, x->mean);
	ps__cl_arg_tensor(&l, x->rstd);
	ps__cl_arg_tensor(&l, x->dgamma);
	ps__cl_arg_tensor(&l, x->dbeta);
	ps__cl_arg_long(&l, ps_tensor_count(x->mean));
	ps__cl_arg_long(&l, columns);
	ps__cl_arg_int(&l, x->accumulate);
	int64_t group_columns = (int64_t)cl_vector(q, x->x.dtype) * q->device->span * q->device->group;
	return ps__cl_run_rows(&l, cl_ceil(columns, group_columns), 1, 1);
}
CL_OP(layernorm_bwd_weight, x, false)

/* Vectors of a work-item: many, if there are enough work-items for all units. See kernels/norm.cl. */
static int64_t column_span(const struct cl_device *d, int64_t vectors)
{
	enum { MOST_SPAN = 64 };
	int64_t span = d->cpu ? vectors / (4 * (int64_t)(d->compute_units > 0 ? d->compute_units : 1)) : 1;
	return span < 1 ? 1 : span < MOST_SPAN ? span : MOST_SPAN;
}

static ps_status column_sum_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_column_sum *x = arguments;
	int64_t columns = cl_columns(x->x), vectors = cl_ceil(columns, cl_vector(q, x->x.dtype));
	int64_t span = column_span(q->device, vectors);
	struct cl_launch l = ps__cl_launch(q, CL_column_sum, x->x.dtype);
	ps__cl_arg_tensor(&l, x->x);
	ps__cl_arg_tensor(&l, x->y);
	ps__cl_arg_long(&l, ps_tensor_count(x->x) / columns);
	ps__cl_arg_long(&l, columns);
	ps__cl_arg_int(&l, x->accumulate);
	ps__cl_arg_int(&l, span);
	return ps__cl_run_rows(&l, cl_ceil(vectors, span * q->device->group), 1, 1);
}
CL_OP(column_sum, x, false)

static ps_status cross_entropy_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_cross_entropy *x = arguments;
	int64_t columns = cl_columns(x->logits);
	bool gradient = ps_tensor_present(x->dlogits);
	PS_TRY(ps__cl_check_range(q, x->targets, columns, "cross_entropy", "target", 0, x->logits.dtype));
	struct cl_launch l = ps__cl_launch(q, CL_cross_entropy, x->logits.dtype);
	ps__cl_arg_tensor(&l, x->logits);
	ps__cl_arg_tensor(&l, x->targets);
	ps__cl_arg_tensor(&l, x->losses);
	ps__cl_arg_tensor(&l, gradient ? x->dlogits : x->losses); /* never written when there is no gradient */
	ps__cl_arg_int(&l, gradient);
	ps__cl_arg_long(&l, columns);
	ps__cl_arg_real(&l, x->scale);
	ps__cl_arg_memory(&l, q->range);
	return ps__cl_run_rows(&l, ps_tensor_count(x->targets), 1, 1);
}
CL_OP(cross_entropy, logits, false)
