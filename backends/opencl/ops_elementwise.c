/* add, relu, dropout and their fusion. */
#include "backends/opencl/opencl.h"

static ps_status add_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_add *x = arguments;
	int64_t count = ps_tensor_count(x->y);
	struct cl_launch l = ps__cl_launch(q, CL_add, x->y.dtype);
	ps__cl_arg_tensor(&l, x->a);
	ps__cl_arg_tensor(&l, x->b);
	ps__cl_arg_tensor(&l, x->y);
	ps__cl_arg_long(&l, count);
	return ps__cl_run_elements(&l, cl_ceil(count, cl_vector(q, x->y.dtype)), 1, 1);
}
CL_OP(add, y, false)

static ps_status relu_fwd_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_relu_fwd *x = arguments;
	int64_t count = ps_tensor_count(x->y);
	struct cl_launch l = ps__cl_launch(q, CL_relu_fwd, x->y.dtype);
	ps__cl_arg_tensor(&l, x->x);
	ps__cl_arg_tensor(&l, x->y);
	ps__cl_arg_long(&l, count);
	return ps__cl_run_elements(&l, cl_ceil(count, cl_vector(q, x->y.dtype)), 1, 1);
}
CL_OP(relu_fwd, y, false)

static ps_status relu_backward(struct cl_queue *q, ps_tensor dy, ps_tensor y, ps_tensor dx, double factor)
{
	int64_t count = ps_tensor_count(dx);
	struct cl_launch l = ps__cl_launch(q, CL_relu_bwd, dx.dtype);
	ps__cl_arg_tensor(&l, dy);
	ps__cl_arg_tensor(&l, y);
	ps__cl_arg_tensor(&l, dx);
	ps__cl_arg_long(&l, count);
	ps__cl_arg_real(&l, factor);
	return ps__cl_run_elements(&l, cl_ceil(count, cl_vector(q, dx.dtype)), 1, 1);
}

static ps_status relu_bwd_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_relu_bwd *x = arguments;
	return relu_backward(q, x->dy, x->y, x->dx, 1);
}
CL_OP(relu_bwd, dx, false)

static ps_status relu_dropout_bwd_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_relu_dropout_bwd *x = arguments;
	return relu_backward(q, x->dy, x->y, x->dx, 1 / (1 - (double)x->p));
}
CL_OP(relu_dropout_bwd, dx, false)

static ps_status masked(struct cl_queue *q, ps_tensor x, ps_tensor y, const ps_dropout *drop, bool with_relu)
{
	int64_t rows = cl_samples(y), elements = ps_tensor_count(y) / rows;
	struct cl_launch l = ps__cl_launch(q, CL_dropout, y.dtype);
	ps__cl_arg_tensor(&l, x);
	ps__cl_arg_tensor(&l, y);
	ps__cl_arg_long(&l, elements);
	ps__cl_arg_int(&l, with_relu);
	ps__cl_arg_drop(&l, drop);
	return ps__cl_run_elements(&l, cl_ceil(elements, cl_chunk(q, y.dtype)), rows, 1);
}

static ps_status dropout_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_dropout *x = arguments;
	return masked(q, x->x, x->y, &x->drop, false);
}
CL_OP(dropout, y, false)

static ps_status relu_dropout_fwd_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_relu_dropout_fwd *x = arguments;
	return masked(q, x->x, x->y, &x->drop, true);
}
CL_OP(relu_dropout_fwd, y, false)
