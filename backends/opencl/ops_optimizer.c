/* Gradient norm, clipping and SGD: in doubles, hence only where the device has them. */
#include "backends/opencl/opencl.h"

/* Of kernels/optimizer.cl. */
enum { SQUARES_OF_GROUP = 16384 };

static ps_status sum_squares_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_sum_squares *x = arguments;
	int64_t count = ps_tensor_count(x->x), groups = cl_ceil(count, SQUARES_OF_GROUP);
	cl_mem partial;
	PS_TRY(ps__cl_scratch(q, 0, (size_t)groups * sizeof(cl_double), &partial));
	struct cl_launch l = ps__cl_launch(q, CL_sum_squares, x->x.dtype);
	ps__cl_arg_tensor(&l, x->x);
	ps__cl_arg_memory(&l, partial);
	ps__cl_arg_long(&l, count);
	PS_TRY(ps__cl_run_rows(&l, groups, 1, 1));
	l = ps__cl_launch(q, CL_sum_partial, x->x.dtype);
	ps__cl_arg_memory(&l, partial);
	ps__cl_arg_tensor(&l, x->out);
	ps__cl_arg_long(&l, groups);
	return ps__cl_run_rows(&l, 1, 1, 1);
}
CL_OP(sum_squares, x, true)

static ps_status clip_scale_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_clip_scale *x = arguments;
	struct cl_launch l = ps__cl_launch(q, CL_clip_scale, PS_F64);
	ps__cl_arg_tensor(&l, x->sums);
	ps__cl_arg_tensor(&l, x->norm);
	ps__cl_arg_tensor(&l, x->scale);
	ps__cl_arg_long(&l, ps_tensor_count(x->sums));
	ps__cl_arg_double(&l, x->max_norm);
	return ps__cl_run_single(&l);
}
CL_OP(clip_scale, sums, true)

static ps_status sgd_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_sgd *x = arguments;
	int64_t count = ps_tensor_count(x->w);
	struct cl_launch l = ps__cl_launch(q, CL_sgd, x->w.dtype);
	ps__cl_arg_tensor(&l, x->w);
	ps__cl_arg_tensor(&l, x->g);
	ps__cl_arg_tensor(&l, x->scale);
	ps__cl_arg_long(&l, count);
	ps__cl_arg_double(&l, x->lr);
	return ps__cl_run_elements(&l, cl_ceil(count, cl_vector(q, x->w.dtype)), 1, 1);
}
CL_OP(sgd, w, true)
