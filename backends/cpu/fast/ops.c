/* The table of ops: what an op's units are, how they are cut, and what it checks when it runs. */
#include "backends/cpu/fast/fast.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int64_t round_up(int64_t value, int64_t multiple)
{
	return (value + multiple - 1) / multiple * multiple;
}

static int64_t last_dim(ps_tensor tensor)
{
	return tensor.rank ? tensor.dims[tensor.rank - 1] : 1;
}

/* Fails unless all of the `count` indices are in [0, limit). */
static ps_status check_indices(const char *op, const char *what, ps_tensor indices, int64_t limit)
{
	const int32_t *index = ps__cpu_data(indices);
	int64_t count = ps_tensor_count(indices), time = last_dim(indices);
	for (int64_t i = 0; i < count; i++)
		if (index[i] < 0 || index[i] >= limit)
			return ps_fail(PS_EINVAL,
			               "%s: row %" PRId64 ", position %" PRId64 " has %s %" PRId32
			               ", which should be at least 0 and below %" PRId64,
			               op, i / time, i % time, what, index[i], limit);
	return PS_OK;
}

/* Elements cut at multiples of this go to different threads. */
#define ELEMENTS ((int64_t)16384)
/* Columns: whole cache lines, and where there is dropout whole chunks of random words. */
#define COLUMNS ((int64_t)64)
#define DROPOUT_COLUMNS ((int64_t)128)

/*
 * Defines NAME, which launches NAME_kernel, which runs the op's range kernel over `units`. Both expressions may use x,
 * the arguments. `main` is the tensor whose dtype decides.
 */
#define FAST_OP(name, main, units, grain)                                                                 \
	static ps_status name##_kernel(const struct cpu_device *device, const void *arguments)            \
	{                                                                                                 \
		const ps_args_##name *x = arguments;                                                      \
		const struct fast *fast = device->fast;                                                   \
		ps__fast_run(device, fast->kernels->op[PS_OP_##name], arguments, (units), (grain), 0, 0); \
		return PS_OK;                                                                             \
	}                                                                                                 \
	FAST_LAUNCH(name, main)

#define FAST_LAUNCH(name, main)                                                    \
	static ps_status name(ps_queue *queue, const void *arguments)              \
	{                                                                          \
		const ps_args_##name *x = arguments;                               \
		PS_TRY(take_f32(queue, PS_OP_##name, x->main));                    \
		return ps__cpu_launch(queue, name##_kernel, arguments, sizeof *x); \
	}

static ps_status take_f32(const ps_queue *queue, ps_op op, ps_tensor tensor)
{
	if (tensor.dtype != PS_F32)
		return ps__op_refuse(queue, op, tensor, "it computes in fp32 only; ref takes fp64");
	return PS_OK;
}

FAST_OP(column_sum, x, last_dim(x->x), COLUMNS)
FAST_OP(add, y, ps_tensor_count(x->y), ELEMENTS)
FAST_OP(relu_fwd, y, ps_tensor_count(x->y), ELEMENTS)
FAST_OP(relu_bwd, dx, ps_tensor_count(x->dx), ELEMENTS)
FAST_OP(dropout, y, ps_tensor_count(x->y), ELEMENTS)
FAST_OP(relu_dropout_fwd, y, ps_tensor_count(x->y), ELEMENTS)
FAST_OP(relu_dropout_bwd, dx, ps_tensor_count(x->dx), ELEMENTS)
FAST_OP(layernorm_fwd, x, ps_tensor_count(x->mean), 1)
FAST_OP(layernorm_bwd_input, x, ps_tensor_count(x->mean), 1)
FAST_OP(layernorm_bwd_weight, x, last_dim(x->x), COLUMNS)
FAST_OP(dropout_add_layernorm_fwd, sum, ps_tensor_count(x->mean), 1)
FAST_OP(dropout_add_layernorm_bwd_input, sum, ps_tensor_count(x->mean), 1)

static ps_status sgd_kernel(const struct cpu_device *device, const void *arguments)
{
	const ps_args_sgd *x = arguments;
	const struct fast *fast = device->fast;
	if (!isnan(*(const double *)ps__cpu_data(x->scale)))
		ps__fast_run(device, fast->kernels->op[PS_OP_sgd], x, ps_tensor_count(x->w), ELEMENTS, 0, 0);
	return PS_OK;
}

static ps_status sgd(ps_queue *queue, const void *arguments)
{
	const ps_args_sgd *x = arguments;
	if (x->w.dtype != PS_BF16)
		PS_TRY(take_f32(queue, PS_OP_sgd, x->w));
	return ps__cpu_launch(queue, sgd_kernel, arguments, sizeof *x);
}

static ps_status embedding_fwd_kernel(const struct cpu_device *device, const void *arguments)
{
	const ps_args_embedding_fwd *x = arguments;
	const struct fast *fast = device->fast;
	PS_TRY(check_indices("embedding_fwd", "token", x->tokens, x->weight.dims[0]));
	ps__fast_run(device, fast->kernels->op[PS_OP_embedding_fwd], x, ps_tensor_count(x->tokens), 1, 0,
	             (size_t)x->y.dims[2]);
	return PS_OK;
}

static ps_status embedding_fwd(ps_queue *queue, const void *arguments)
{
	const ps_args_embedding_fwd *x = arguments;
	PS_TRY(take_f32(queue, PS_OP_embedding_fwd, x->y));
	PS_TRY(ps__fast_reserve(queue->device->impl, 0, (size_t)x->y.dims[2]));
	return ps__cpu_launch(queue, embedding_fwd_kernel, arguments, sizeof *x);
}

static int ascending(const void *left, const void *right)
{
	const uint64_t *a = left, *b = right;
	return (*a > *b) - (*a < *b);
}

/* Puts token << 32 | position for each place in `tokens` into ascending order. */
static void order_tokens(ps_tensor tokens, uint64_t *order)
{
	const int32_t *token = ps__cpu_data(tokens);
	size_t count = (size_t)ps_tensor_count(tokens);
	for (size_t i = 0; i < count; i++)
		order[i] = (uint64_t)token[i] << 32 | i;
	qsort(order, count, sizeof *order, ascending);
}

/* Floats of shared scratch: the order is of two each. */
static size_t order_floats(const ps_args_embedding_bwd_weight *x)
{
	return x->dweight.dtype == PS_BF16 ? 2 * (size_t)ps_tensor_count(x->tokens) : 0;
}

static ps_status embedding_bwd_weight_kernel(const struct cpu_device *device, const void *arguments)
{
	const ps_args_embedding_bwd_weight *x = arguments;
	const struct fast *fast = device->fast;
	PS_TRY(check_indices("embedding_bwd_weight", "token", x->tokens, x->dweight.dims[0]));
	size_t shared = order_floats(x);
	if (shared)
		order_tokens(x->tokens, fast->scratch.memory);
	ps__fast_run(device, fast->kernels->op[PS_OP_embedding_bwd_weight], x, x->dy.dims[2], DROPOUT_COLUMNS, shared,
	             0);
	return PS_OK;
}

static ps_status embedding_bwd_weight(ps_queue *queue, const void *arguments)
{
	const ps_args_embedding_bwd_weight *x = arguments;
	PS_TRY(take_f32(queue, PS_OP_embedding_bwd_weight, x->dy));
	PS_TRY(ps__fast_reserve(queue->device->impl, order_floats(x), 0));
	return ps__cpu_launch(queue, embedding_bwd_weight_kernel, arguments, sizeof *x);
}

static ps_status cross_entropy_kernel(const struct cpu_device *device, const void *arguments)
{
	const ps_args_cross_entropy *x = arguments;
	const struct fast *fast = device->fast;
	PS_TRY(check_indices("cross_entropy", "target", x->targets, last_dim(x->logits)));
	ps__fast_run(device, fast->kernels->op[PS_OP_cross_entropy], x, ps_tensor_count(x->targets), 1, 0, 0);
	return PS_OK;
}
FAST_LAUNCH(cross_entropy, logits)

/* Floats of scratch that one thread needs for one block of queries and one head's k and v, as attention.h lays out. */
static size_t attention_floats(ps_tensor out, int heads, bool backward)
{
	int64_t features = out.dims[2] / heads, time = round_up(out.dims[1], 16), padded = round_up(features, 16);
	int64_t planes = features * time + (backward ? 3 : 1) * time * padded;
	return (size_t)(planes + FAST_QUERIES * ((backward ? 4 : 3) * time + 3 * padded));
}

static ps_status attention_fwd_kernel(const struct cpu_device *device, const void *arguments)
{
	const ps_args_attention_fwd *x = arguments;
	const struct fast *fast = device->fast;
	ps__fast_run(device, fast->kernels->op[PS_OP_attention_fwd], x, x->out.dims[0] * x->heads, 1, 0,
	             attention_floats(x->out, x->heads, false));
	return PS_OK;
}

static ps_status attention_fwd(ps_queue *queue, const void *arguments)
{
	const ps_args_attention_fwd *x = arguments;
	PS_TRY(take_f32(queue, PS_OP_attention_fwd, x->out));
	PS_TRY(ps__fast_reserve(queue->device->impl, 0, attention_floats(x->out, x->heads, false)));
	return ps__cpu_launch(queue, attention_fwd_kernel, arguments, sizeof *x);
}

static ps_status attention_bwd_kernel(const struct cpu_device *device, const void *arguments)
{
	const ps_args_attention_bwd *x = arguments;
	const struct fast *fast = device->fast;
	ps__fast_run(device, fast->kernels->op[PS_OP_attention_bwd], x, x->dout.dims[0] * x->heads, 1, 0,
	             attention_floats(x->dout, x->heads, true));
	return PS_OK;
}

static ps_status attention_bwd(ps_queue *queue, const void *arguments)
{
	const ps_args_attention_bwd *x = arguments;
	PS_TRY(take_f32(queue, PS_OP_attention_bwd, x->dout));
	PS_TRY(ps__fast_reserve(queue->device->impl, 0, attention_floats(x->dout, x->heads, true)));
	return ps__cpu_launch(queue, attention_bwd_kernel, arguments, sizeof *x);
}

static int64_t sum_chunks(const ps_args_sum_squares *x)
{
	return (ps_tensor_count(x->x) + FAST_SUM_CHUNK - 1) / FAST_SUM_CHUNK;
}

/* The partial sums are doubles: two floats of the shared scratch each. */
static ps_status sum_squares_kernel(const struct cpu_device *device, const void *arguments)
{
	const ps_args_sum_squares *x = arguments;
	const struct fast *fast = device->fast;
	int64_t chunks = sum_chunks(x);
	ps__fast_run(device, fast->kernels->op[PS_OP_sum_squares], x, chunks, 1, (size_t)chunks * 2, 0);
	const double *partial = fast->scratch.memory;
	double sum = 0;
	for (int64_t i = 0; i < chunks; i++)
		sum += partial[i];
	memcpy(ps__cpu_data(x->out), &sum, sizeof sum);
	return PS_OK;
}

static ps_status sum_squares(ps_queue *queue, const void *arguments)
{
	const ps_args_sum_squares *x = arguments;
	if (x->x.dtype != PS_BF16)
		PS_TRY(take_f32(queue, PS_OP_sum_squares, x->x));
	PS_TRY(ps__fast_reserve(queue->device->impl, (size_t)sum_chunks(x) * 2, 0));
	return ps__cpu_launch(queue, sum_squares_kernel, arguments, sizeof *x);
}

static ps_status clip_scale_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_args_clip_scale *x = arguments;
	const double *sums = ps__cpu_data(x->sums);
	double *norm = ps__cpu_data(x->norm), *scale = ps__cpu_data(x->scale), sum = 0;
	int64_t count = ps_tensor_count(x->sums);
	for (int64_t i = 0; i < count; i++)
		sum += sums[i];
	*norm = sqrt(sum);
	*scale = x->max_norm > 0 ? x->max_norm / (*norm + 1e-6) : 1;
	if (*scale > 1)
		*scale = 1;
	if (!isfinite(*norm))
		*scale = NAN;
	return PS_OK;
}
CPU_OP(clip_scale)

const ps_op_fn ps__fast_ops[PS_OP_COUNT] = {
        [PS_OP_gemm] = ps__fast_gemm,
        [PS_OP_column_sum] = column_sum,
        [PS_OP_add] = add,
        [PS_OP_relu_fwd] = relu_fwd,
        [PS_OP_relu_bwd] = relu_bwd,
        [PS_OP_dropout] = dropout,
        [PS_OP_relu_dropout_fwd] = relu_dropout_fwd,
        [PS_OP_relu_dropout_bwd] = relu_dropout_bwd,
        [PS_OP_embedding_fwd] = embedding_fwd,
        [PS_OP_embedding_bwd_weight] = embedding_bwd_weight,
        [PS_OP_layernorm_fwd] = layernorm_fwd,
        [PS_OP_layernorm_bwd_input] = layernorm_bwd_input,
        [PS_OP_layernorm_bwd_weight] = layernorm_bwd_weight,
        [PS_OP_dropout_add_layernorm_fwd] = dropout_add_layernorm_fwd,
        [PS_OP_dropout_add_layernorm_bwd_input] = dropout_add_layernorm_bwd_input,
        [PS_OP_attention_fwd] = attention_fwd,
        [PS_OP_attention_bwd] = attention_bwd,
        [PS_OP_cross_entropy] = cross_entropy,
        [PS_OP_sum_squares] = sum_squares,
        [PS_OP_clip_scale] = clip_scale,
        [PS_OP_sgd] = sgd,
};
