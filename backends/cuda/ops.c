/* The ops but gemm: from arguments to launches. The functions refuse, the runners launch. */
#include "backends/cuda/cuda.h"

static struct ps_cuda_launch launch_of(struct cuda_queue *q, ps_dtype dtype)
{
	(void)ps__cuda_flight(q, false);
	return (struct ps_cuda_launch){.stream = q->stream, .dtype = dtype, .stop = q->stop};
}

static ps_status launched(const struct cuda_queue *q, ps_op op, cudaError_t error)
{
	return error == cudaSuccess ? PS_OK : ps__cuda_fail(q->queue->device->info.name, ps_op_name(op), error);
}

static int64_t columns_of(ps_tensor tensor)
{
	return tensor.rank ? tensor.dims[tensor.rank - 1] : 1;
}

static int64_t rows_of(ps_tensor tensor)
{
	return ps_tensor_count(tensor) / columns_of(tensor);
}

/* Elements in each sample row. */
static int64_t elements_of(ps_tensor tensor)
{
	return ps_tensor_count(tensor) / (tensor.rank ? tensor.dims[0] : 1);
}

/* 1 / (1 - p) as tensors of the dtype are multiplied by it. */
static double factor_of(float p, ps_dtype dtype)
{
	double factor = 1 / (1 - (double)p);
	return dtype == PS_F64 ? factor : (double)(float)factor;
}

static struct ps_cuda_dropout dropout_of(const struct cuda_queue *q, const ps_dropout *drop, ps_dtype dtype)
{
	return (struct ps_cuda_dropout){.active = drop->p != 0,
	                                .threshold = ps_random_threshold((double)drop->p),
	                                .first_row = drop->first_row,
	                                .step = q->step ? *q->step : drop->place.step,
	                                .turn = q->capturing ? q->turn : NULL,
	                                .place = drop->place.layer << 8 | drop->place.site,
	                                .key = {(uint32_t)drop->place.seed, (uint32_t)(drop->place.seed >> 32)},
	                                .factor = factor_of(drop->p, dtype)};
}

/* Launches a range check whose failure fails the queue; the message names rows, and positions where time is not 0. */
static cudaError_t check_range(struct cuda_queue *q, ps_op op, const char *what, ps_tensor tokens, int64_t time,
                               int64_t bound)
{
	struct ps_cuda_launch launch = launch_of(q, PS_F32);
	const struct cuda_check check = {.op = ps_op_name(op), .what = what, .time = time, .bound = bound};
	struct ps_cuda_range range = {
	        .tokens = ps__cuda_data(tokens), .count = ps_tensor_count(tokens), .bound = bound, .stop = q->stop};
	if (!ps__cuda_list_check(q, &check, &range))
		return cudaErrorMemoryAllocation;
	return ps__cuda_check_range(&launch, &range);
}

/* An op function that enqueues NAME_runner and refuses nothing. */
#define CUDA_OP(name)                                                                             \
	static ps_status name(ps_queue *queue, const void *arguments)                             \
	{                                                                                         \
		return ps__cuda_enqueue(queue, name##_runner, arguments, sizeof(ps_args_##name)); \
	}

static ps_status elementwise(struct cuda_queue *q, ps_op op, enum ps_cuda_elementwise kind, ps_tensor a, ps_tensor b,
                             ps_tensor y, struct ps_cuda_dropout drop)
{
	struct ps_cuda_launch launch = launch_of(q, y.dtype);
	return launched(q, op,
	                ps__cuda_elementwise(&launch, kind, ps__cuda_data(a), ps__cuda_data(b), ps__cuda_data(y),
	                                     ps_tensor_count(y), elements_of(y), &drop));
}

static ps_status add_runner(struct cuda_queue *q, const void *arguments)
{
	const ps_args_add *x = arguments;
	return elementwise(q, PS_OP_add, PS_CUDA_ADD, x->a, x->b, x->y, (struct ps_cuda_dropout){0});
}
CUDA_OP(add)

static ps_status relu_fwd_runner(struct cuda_queue *q, const void *arguments)
{
	const ps_args_relu_fwd *x = arguments;
	return elementwise(q, PS_OP_relu_fwd, PS_CUDA_RELU_FWD, x->x, (ps_tensor){0}, x->y,
	                   (struct ps_cuda_dropout){0});
}
CUDA_OP(relu_fwd)

static ps_status relu_bwd_runner(struct cuda_queue *q, const void *arguments)
{
	const ps_args_relu_bwd *x = arguments;
	return elementwise(q, PS_OP_relu_bwd, PS_CUDA_RELU_BWD, x->dy, x->y, x->dx, (struct ps_cuda_dropout){0});
}
CUDA_OP(relu_bwd)

static ps_status dropout_runner(struct cuda_queue *q, const void *arguments)
{
	const ps_args_dropout *x = arguments;
	return elementwise(q, PS_OP_dropout, PS_CUDA_DROPOUT, x->x, (ps_tensor){0}, x->y,
	                   dropout_of(q, &x->drop, x->y.dtype));
}
CUDA_OP(dropout)

static ps_status relu_dropout_fwd_runner(struct cuda_queue *q, const void *arguments)
{
	const ps_args_relu_dropout_fwd *x = arguments;
	return elementwise(q, PS_OP_relu_dropout_fwd, PS_CUDA_RELU_DROPOUT_FWD, x->x, (ps_tensor){0}, x->y,
	                   dropout_of(q, &x->drop, x->y.dtype));
}
CUDA_OP(relu_dropout_fwd)

static ps_status relu_dropout_bwd_runner(struct cuda_queue *q, const void *arguments)
{
	const ps_args_relu_dropout_bwd *x = arguments;
	return elementwise(q, PS_OP_relu_dropout_bwd, PS_CUDA_RELU_DROPOUT_BWD, x->dy, x->y, x->dx,
	                   (struct ps_cuda_dropout){.factor = factor_of(x->p, x->dx.dtype)});
}
CUDA_OP(relu_dropout_bwd)

static ps_status column_sum_runner(struct cuda_queue *q, const void *arguments)
{
	const ps_args_column_sum *x = arguments;
	struct ps_cuda_launch launch = launch_of(q, x->x.dtype);
	return launched(q, PS_OP_column_sum,
	                ps__cuda_column_sum(&launch, ps__cuda_data(x->x), ps__cuda_data(x->y), rows_of(x->x),
	                                    columns_of(x->x), x->accumulate));
}
CUDA_OP(column_sum)

static ps_status embedding_fwd_runner(struct cuda_queue *q, const void *arguments)
{
	const ps_args_embedding_fwd *x = arguments;
	struct ps_cuda_launch launch = launch_of(q, x->y.dtype);
	struct ps_cuda_embedding embedding = {.tokens = ps__cuda_data(x->tokens),
	                                      .weight = ps__cuda_data(x->weight),
	                                      .positions = ps__cuda_data(x->positions),
	                                      .y = ps__cuda_data(x->y),
	                                      .rows = x->y.dims[0],
	                                      .time = x->y.dims[1],
	                                      .width = x->y.dims[2],
	                                      .vocabulary = x->weight.dims[0],
	                                      .weight_stride = x->weight.strides[0],
	                                      .position_stride = x->positions.strides[0],
	                                      .scale = x->scale,
	                                      .narrow = x->weight.dtype == PS_BF16,
	                                      .drop = dropout_of(q, &x->drop, x->y.dtype)};
	cudaError_t error =
	        check_range(q, PS_OP_embedding_fwd, "token", x->tokens, embedding.time, embedding.vocabulary);
	if (error == cudaSuccess)
		error = ps__cuda_embedding_fwd(&launch, &embedding);
	return launched(q, PS_OP_embedding_fwd, error);
}
CUDA_OP(embedding_fwd)

static ps_status embedding_bwd_weight_runner(struct cuda_queue *q, const void *arguments)
{
	const ps_args_embedding_bwd_weight *x = arguments;
	struct ps_cuda_launch launch = launch_of(q, x->dy.dtype);
	struct ps_cuda_embedding embedding = {.tokens = ps__cuda_data(x->tokens),
	                                      .y = ps__cuda_data(x->dy),
	                                      .dweight = ps__cuda_data(x->dweight),
	                                      .rows = x->dy.dims[0],
	                                      .time = x->dy.dims[1],
	                                      .width = x->dy.dims[2],
	                                      .vocabulary = x->dweight.dims[0],
	                                      .scale = x->scale,
	                                      .accumulate = x->accumulate,
	                                      .narrow = x->dweight.dtype == PS_BF16,
	                                      .drop = dropout_of(q, &x->drop, x->dy.dtype)};
	cudaError_t error =
	        check_range(q, PS_OP_embedding_bwd_weight, "token", x->tokens, embedding.time, embedding.vocabulary);
	if (error == cudaSuccess)
		error = ps__cuda_embedding_bwd_weight(&launch, &embedding);
	return launched(q, PS_OP_embedding_bwd_weight, error);
}
CUDA_OP(embedding_bwd_weight)

static ps_status layernorm_fwd_runner(struct cuda_queue *q, const void *arguments)
{
	const ps_args_layernorm_fwd *x = arguments;
	struct ps_cuda_launch launch = launch_of(q, x->x.dtype);
	struct ps_cuda_norm norm = {.x = ps__cuda_data(x->x),
	                            .gamma = ps__cuda_data(x->gamma),
	                            .beta = ps__cuda_data(x->beta),
	                            .y = ps__cuda_data(x->y),
	                            .mean = ps__cuda_data(x->mean),
	                            .rstd = ps__cuda_data(x->rstd),
	                            .rows = rows_of(x->x),
	                            .columns = columns_of(x->x),
	                            .elements = elements_of(x->x),
	                            .eps = x->eps};
	return launched(q, PS_OP_layernorm_fwd, ps__cuda_layernorm_fwd(&launch, &norm));
}
CUDA_OP(layernorm_fwd)

static ps_status dropout_add_layernorm_fwd_runner(struct cuda_queue *q, const void *arguments)
{
	const ps_args_dropout_add_layernorm_fwd *x = arguments;
	struct ps_cuda_launch launch = launch_of(q, x->sum.dtype);
	struct ps_cuda_norm norm = {.z = ps__cuda_data(x->z),
	                            .residual = ps__cuda_data(x->residual),
	                            .sum = ps__cuda_data(x->sum),
	                            .gamma = ps__cuda_data(x->gamma),
	                            .beta = ps__cuda_data(x->beta),
	                            .y = ps__cuda_data(x->y),
	                            .mean = ps__cuda_data(x->mean),
	                            .rstd = ps__cuda_data(x->rstd),
	                            .rows = rows_of(x->sum),
	                            .columns = columns_of(x->sum),
	                            .elements = elements_of(x->sum),
	                            .eps = x->eps,
	                            .drop = dropout_of(q, &x->drop, x->sum.dtype)};
	return launched(q, PS_OP_dropout_add_layernorm_fwd, ps__cuda_layernorm_fwd(&launch, &norm));
}
CUDA_OP(dropout_add_layernorm_fwd)

static ps_status norm_bwd(struct cuda_queue *q, ps_op op, const ps_args_layernorm_bwd_input *x, ps_tensor dz,
                          struct ps_cuda_dropout drop)
{
	struct ps_cuda_launch launch = launch_of(q, x->x.dtype);
	struct ps_cuda_norm_bwd norm = {.dy = ps__cuda_data(x->dy),
	                                .x = ps__cuda_data(x->x),
	                                .mean = ps__cuda_data(x->mean),
	                                .rstd = ps__cuda_data(x->rstd),
	                                .gamma = ps__cuda_data(x->gamma),
	                                .dx = ps__cuda_data(x->dx),
	                                .dz = ps__cuda_data(dz),
	                                .rows = rows_of(x->x),
	                                .columns = columns_of(x->x),
	                                .elements = elements_of(x->x),
	                                .drop = drop};
	return launched(q, op, ps__cuda_layernorm_bwd_input(&launch, &norm));
}

static ps_status layernorm_bwd_input_runner(struct cuda_queue *q, const void *arguments)
{
	return norm_bwd(q, PS_OP_layernorm_bwd_input, arguments, (ps_tensor){0}, (struct ps_cuda_dropout){0});
}
CUDA_OP(layernorm_bwd_input)

static ps_status dropout_add_layernorm_bwd_input_runner(struct cuda_queue *q, const void *arguments)
{
	const ps_args_dropout_add_layernorm_bwd_input *x = arguments;
	const ps_args_layernorm_bwd_input norm = {
	        .dy = x->dy, .x = x->sum, .mean = x->mean, .rstd = x->rstd, .gamma = x->gamma, .dx = x->dresidual};
	return norm_bwd(q, PS_OP_dropout_add_layernorm_bwd_input, &norm, x->dz, dropout_of(q, &x->drop, x->sum.dtype));
}
CUDA_OP(dropout_add_layernorm_bwd_input)

static ps_status layernorm_bwd_weight_runner(struct cuda_queue *q, const void *arguments)
{
	const ps_args_layernorm_bwd_weight *x = arguments;
	struct ps_cuda_launch launch = launch_of(q, x->x.dtype);
	return launched(q, PS_OP_layernorm_bwd_weight,
	                ps__cuda_layernorm_bwd_weight(&launch, ps__cuda_data(x->dy), ps__cuda_data(x->x),
	                                              ps__cuda_data(x->mean), ps__cuda_data(x->rstd),
	                                              ps__cuda_data(x->dgamma), ps__cuda_data(x->dbeta), rows_of(x->x),
	                                              columns_of(x->x), x->accumulate));
}
CUDA_OP(layernorm_bwd_weight)

/* The arguments of an attention op, and the math of the queue when it was enqueued. */
struct attention_fwd {
	ps_args_attention_fwd x;
	ps_math math;
};
struct attention_bwd {
	ps_args_attention_bwd x;
	ps_math math;
};

static ps_status attention_fwd_runner(struct cuda_queue *q, const void *arguments)
{
	const struct attention_fwd *own = arguments;
	const ps_args_attention_fwd *x = &own->x;
	struct ps_cuda_launch launch = launch_of(q, x->out.dtype);
	struct ps_cuda_attention attention = {.qkv = ps__cuda_data(x->qkv),
	                                      .probs = ps__cuda_data(x->probs),
	                                      .out = ps__cuda_data(x->out),
	                                      .rows = x->out.dims[0],
	                                      .time = x->out.dims[1],
	                                      .width = x->out.dims[2],
	                                      .heads = x->heads,
	                                      .causal = x->causal,
	                                      .math = own->math,
	                                      .drop = dropout_of(q, &x->drop, x->out.dtype)};
	return launched(q, PS_OP_attention_fwd, ps__cuda_attention_fwd(&launch, &attention));
}

static ps_status attention_fwd(ps_queue *queue, const void *arguments)
{
	const struct attention_fwd own = {*(const ps_args_attention_fwd *)arguments, queue->math};
	return ps__cuda_enqueue(queue, attention_fwd_runner, &own, sizeof own);
}

static ps_status attention_bwd_runner(struct cuda_queue *q, const void *arguments)
{
	const struct attention_bwd *own = arguments;
	const ps_args_attention_bwd *x = &own->x;
	struct ps_cuda_launch launch = launch_of(q, x->dout.dtype);
	struct ps_cuda_attention attention = {.qkv = ps__cuda_data(x->qkv),
	                                      .dout = ps__cuda_data(x->dout),
	                                      .probs = ps__cuda_data(x->probs),
	                                      .dqkv = ps__cuda_data(x->dqkv),
	                                      .rows = x->dout.dims[0],
	                                      .time = x->dout.dims[1],
	                                      .width = x->dout.dims[2],
	                                      .heads = x->heads,
	                                      .causal = x->causal,
	                                      .math = own->math,
	                                      .drop = dropout_of(q, &x->drop, x->dout.dtype)};
	return launched(q, PS_OP_attention_bwd, ps__cuda_attention_bwd(&launch, &attention));
}

static ps_status attention_bwd(ps_queue *queue, const void *arguments)
{
	const struct attention_bwd own = {*(const ps_args_attention_bwd *)arguments, queue->math};
	return ps__cuda_enqueue(queue, attention_bwd_runner, &own, sizeof own);
}

static ps_status cross_entropy_runner(struct cuda_queue *q, const void *arguments)
{
	const ps_args_cross_entropy *x = arguments;
	struct ps_cuda_launch launch = launch_of(q, x->logits.dtype);
	int64_t columns = columns_of(x->logits);
	cudaError_t error = check_range(q, PS_OP_cross_entropy, "target", x->targets, 0, columns);
	if (error == cudaSuccess)
		error = ps__cuda_cross_entropy(&launch, ps__cuda_data(x->logits), ps__cuda_data(x->targets),
		                               ps__cuda_data(x->losses), ps__cuda_data(x->dlogits), rows_of(x->logits),
		                               columns, x->scale);
	return launched(q, PS_OP_cross_entropy, error);
}
CUDA_OP(cross_entropy)

static ps_status clip_scale_runner(struct cuda_queue *q, const void *arguments)
{
	const ps_args_clip_scale *x = arguments;
	struct ps_cuda_launch launch = launch_of(q, PS_F64);
	return launched(q, PS_OP_clip_scale,
	                ps__cuda_clip_scale(&launch, ps__cuda_data(x->sums), ps_tensor_count(x->sums),
	                                    ps__cuda_data(x->norm), ps__cuda_data(x->scale), x->max_norm));
}
CUDA_OP(clip_scale)

static ps_status sum_squares(ps_queue *queue, const void *arguments)
{
	return ps__cuda_enqueue_squares(queue, arguments);
}

static ps_status sgd(ps_queue *queue, const void *arguments)
{
	return ps__cuda_enqueue_sgd(queue, arguments);
}

static ps_status gemm(ps_queue *queue, const void *arguments)
{
	return ps__cuda_gemm(queue, arguments);
}

const ps_op_fn ps__cuda_ops[PS_OP_COUNT] = {
#define PS_OP(name, text) [PS_OP_##name] = name,
#include <penstock/ops.def>
};
