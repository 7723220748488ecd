/* Self-attention: scores and their gradients by position, then sums over positions. */
#include "backends/opencl/opencl.h"

#include <math.h>

struct shape {
	int64_t rows, time, width, heads, features;
	bool causal;
};

static struct shape shape_of(ps_tensor out, int heads, bool causal)
{
	return (struct shape){out.dims[0], out.dims[1], out.dims[2], heads, out.dims[2] / heads, causal};
}

/* A tensor that starts `elements` later. */
static ps_tensor moved(ps_tensor tensor, int64_t elements)
{
	tensor.offset += (uint64_t)elements * ps_dtype_bytes(tensor.dtype);
	return tensor;
}

/* Working memory of the size of probs, as a tensor. The buffer exists for as long as the runner. */
static ps_status piece(struct cl_queue *q, int which, ps_tensor probs, ps_buffer *buffer, ps_tensor *out)
{
	cl_mem memory;
	PS_TRY(ps__cl_scratch(q, which, (size_t)ps_tensor_count(probs) * ps_dtype_bytes(probs.dtype), &memory));
	*buffer = (ps_buffer){.device = q->queue->device, .impl = memory};
	*out = probs;
	out->buffer = buffer;
	out->offset = 0;
	return PS_OK;
}

static void arg_shape(struct cl_launch *l, const struct shape *s)
{
	ps__cl_arg_int(l, s->heads);
	ps__cl_arg_int(l, s->time);
	ps__cl_arg_int(l, s->width);
	ps__cl_arg_int(l, s->causal);
	ps__cl_arg_real(l, 1 / sqrt((double)s->features));
}

/* One of the two products of a (time, time) matrix and rows of features. */
static ps_status multiply(struct cl_queue *q, enum cl_kernel_id kernel, const struct shape *s, ps_tensor matrix,
                          ps_tensor from, int64_t from_width, ps_tensor to, int64_t to_width)
{
	struct cl_launch l = ps__cl_launch(q, kernel, to.dtype);
	ps__cl_arg_tensor(&l, matrix);
	ps__cl_arg_tensor(&l, from);
	ps__cl_arg_tensor(&l, to);
	ps__cl_arg_int(&l, s->heads);
	ps__cl_arg_int(&l, s->time);
	ps__cl_arg_int(&l, s->features);
	ps__cl_arg_int(&l, from_width);
	ps__cl_arg_int(&l, to_width);
	ps__cl_arg_int(&l, s->causal);
	return ps__cl_run_elements(&l,
	                           cl_ceil(s->features, (int64_t)cl_vector(q, to.dtype) * q->device->span) * s->time,
	                           s->rows * s->heads, 1);
}

static ps_status attention_fwd_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_attention_fwd *x = arguments;
	struct shape s = shape_of(x->out, x->heads, x->causal);
	ps_buffer buffer;
	ps_tensor weights = x->probs;
	if (x->drop.p > 0)
		PS_TRY(piece(q, 0, x->probs, &buffer, &weights));
	struct cl_launch l = ps__cl_launch(q, CL_attention_probs, x->out.dtype);
	ps__cl_arg_tensor(&l, x->qkv);
	ps__cl_arg_tensor(&l, x->probs);
	ps__cl_arg_memory(&l, cl_memory(weights));
	arg_shape(&l, &s);
	ps__cl_arg_drop(&l, &x->drop);
	PS_TRY(ps__cl_run_rows(&l, s.time, s.heads, s.rows));
	return multiply(q, CL_attention_rows, &s, weights, moved(x->qkv, 2 * s.width), 3 * s.width, x->out, s.width);
}
CL_OP(attention_fwd, out, false)

static ps_status attention_bwd_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_attention_bwd *x = arguments;
	struct shape s = shape_of(x->dout, x->heads, x->causal);
	ps_buffer weight_buffer, score_buffer;
	ps_tensor weights = x->probs, dscores;
	if (x->drop.p > 0)
		PS_TRY(piece(q, 0, x->probs, &weight_buffer, &weights));
	PS_TRY(piece(q, 1, x->probs, &score_buffer, &dscores));
	struct cl_launch l = ps__cl_launch(q, CL_attention_dscores, x->dout.dtype);
	ps__cl_arg_tensor(&l, x->qkv);
	ps__cl_arg_tensor(&l, x->probs);
	ps__cl_arg_tensor(&l, x->dout);
	ps__cl_arg_memory(&l, cl_memory(weights));
	ps__cl_arg_memory(&l, cl_memory(dscores));
	arg_shape(&l, &s);
	ps__cl_arg_drop(&l, &x->drop);
	PS_TRY(ps__cl_run_rows(&l, s.time, s.heads, s.rows));
	int64_t w = s.width;
	PS_TRY(multiply(q, CL_attention_rows, &s, dscores, moved(x->qkv, w), 3 * w, x->dqkv, 3 * w));
	PS_TRY(multiply(q, CL_attention_columns, &s, dscores, x->qkv, 3 * w, moved(x->dqkv, w), 3 * w));
	return multiply(q, CL_attention_columns, &s, weights, x->dout, w, moved(x->dqkv, 2 * w), 3 * w);
}
CL_OP(attention_bwd, dout, false)
