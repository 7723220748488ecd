/* The embedding, and the check of numbers that choose a row. */
#include "backends/opencl/opencl.h"

#include <stdlib.h>

ps_status ps__cl_check_range(struct cl_queue *q, ps_tensor numbers, int64_t bound, const char *op, const char *what,
                             int64_t time, ps_dtype dtype)
{
	struct cl_launch l = ps__cl_launch(q, CL_check_range, dtype);
	ps__cl_arg_tensor(&l, numbers);
	ps__cl_arg_int(&l, ps_tensor_count(numbers));
	ps__cl_arg_int(&l, bound);
	ps__cl_arg_memory(&l, q->range);
	PS_TRY(ps__cl_run_rows(&l, 1, 1, 1));
	struct cl_fault *fault = calloc(1, sizeof *fault);
	if (!fault)
		return ps_fail(PS_ENOMEM, "%s: out of memory for the check of its %ss", op, what);
	*fault = (struct cl_fault){.found = {CL_NO_FAULT, 0}, .op = op, .what = what, .time = time, .bound = bound};
	cl_event event;
	cl_int error =
	        clEnqueueReadBuffer(q->cl, q->range, CL_FALSE, 0, sizeof fault->found, fault->found, 0, NULL, &event);
	ps_status status = ps__cl_enqueued(q, op, error, event);
	if (status == PS_OK)
		q->fault = fault; /* the completer looks at it and frees it */
	else
		free(fault);
	return status;
}

static ps_status embedding_fwd_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_embedding_fwd *x = arguments;
	int64_t time = x->y.dims[1], width = x->y.dims[2];
	PS_TRY(ps__cl_check_range(q, x->tokens, x->weight.dims[0], "embedding_fwd", "token", time, x->y.dtype));
	struct cl_launch l = ps__cl_launch(q, CL_embedding_fwd, x->y.dtype);
	ps__cl_arg_tensor(&l, x->tokens);
	ps__cl_arg_tensor(&l, x->weight);
	ps__cl_arg_tensor(&l, x->positions);
	ps__cl_arg_tensor(&l, x->y);
	ps__cl_arg_long(&l, time);
	ps__cl_arg_long(&l, width);
	ps__cl_arg_long(&l, x->weight.strides[0]);
	ps__cl_arg_long(&l, x->positions.strides[0]);
	ps__cl_arg_real(&l, x->scale);
	ps__cl_arg_memory(&l, q->range);
	ps__cl_arg_drop(&l, &x->drop);
	return ps__cl_run_elements(&l, cl_ceil(width, cl_chunk(q, x->y.dtype)), x->y.dims[0] * time, 1);
}
CL_OP(embedding_fwd, y, false)

static ps_status embedding_bwd_weight_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_embedding_bwd_weight *x = arguments;
	ps_dtype dtype = x->dy.dtype;
	int64_t time = x->dy.dims[1], width = x->dy.dims[2], count = ps_tensor_count(x->tokens);
	cl_mem chain;
	PS_TRY(ps__cl_check_range(q, x->tokens, x->dweight.dims[0], "embedding_bwd_weight", "token", time, dtype));
	PS_TRY(ps__cl_scratch(q, 0, 2 * (size_t)count * sizeof(cl_int), &chain));
	struct cl_launch l = ps__cl_launch(q, CL_embedding_chain, dtype);
	ps__cl_arg_tensor(&l, x->tokens);
	ps__cl_arg_int(&l, count);
	ps__cl_arg_memory(&l, chain);
	PS_TRY(ps__cl_run_elements(&l, count, 1, 1));
	if (!x->accumulate)
		PS_TRY(ps__cl_zero(q, x->dweight));
	l = ps__cl_launch(q, CL_embedding_bwd_weight, dtype);
	ps__cl_arg_tensor(&l, x->tokens);
	ps__cl_arg_tensor(&l, x->dy);
	ps__cl_arg_tensor(&l, x->dweight);
	ps__cl_arg_long(&l, time);
	ps__cl_arg_long(&l, width);
	ps__cl_arg_real(&l, x->scale);
	ps__cl_arg_int(&l, x->accumulate);
	ps__cl_arg_memory(&l, chain);
	ps__cl_arg_memory(&l, q->range);
	ps__cl_arg_drop(&l, &x->drop);
	return ps__cl_run_elements(&l, cl_ceil(width, cl_chunk(q, dtype)), count, 1);
}
CL_OP(embedding_bwd_weight, dy, false)
