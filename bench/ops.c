/* The ops other than products, at the shapes and in the forms in which the model uses them. */
#include "bench/op_set.h"

static const ps_random_place place = {.seed = 1, .step = 1, .layer = 1, .site = 1};

static void add(struct bench_op_set *set, const struct bench_sizes *s, struct bench_op op)
{
	bench_op_set_add(set, s->name, ps_op_name(op.op), op);
}

static ps_dropout drop_of(const struct bench_sizes *s)
{
	return (ps_dropout){.p = (float)s->dropout, .place = place};
}

static void elements(struct bench_op_set *set, const struct bench_sizes *s)
{
	struct bench_rig *rig = &set->rig;
	ps_dropout drop = drop_of(s);
	ps_tensor x = BENCH_TENSOR(rig, set->values, s->rows, s->time, s->hidden);
	ps_tensor y = BENCH_TENSOR(rig, set->values, s->rows, s->time, s->hidden);
	ps_tensor z = BENCH_TENSOR(rig, set->values, s->rows, s->time, s->hidden);
	ps_tensor sums = BENCH_TENSOR(rig, set->values, s->hidden);
	add(set, s, BENCH_OP(rig, add, 0, .a = x, .b = y, .y = z));
	add(set, s, BENCH_OP(rig, relu_fwd, 0, .x = x, .y = z));
	add(set, s, BENCH_OP(rig, relu_bwd, 0, .dy = x, .y = y, .dx = z));
	add(set, s, BENCH_OP(rig, dropout, 0, .x = x, .y = z, .drop = drop));
	add(set, s, BENCH_OP(rig, relu_dropout_fwd, 0, .x = x, .y = z, .drop = drop));
	add(set, s, BENCH_OP(rig, relu_dropout_bwd, 0, .dy = x, .y = y, .dx = z, .p = drop.p));
	add(set, s, BENCH_OP(rig, column_sum, 0, .x = x, .y = sums));
}

static void norms(struct bench_op_set *set, const struct bench_sizes *s)
{
	struct bench_rig *rig = &set->rig;
	ps_dropout drop = drop_of(s);
	ps_tensor t[5]; /* (rows, time, E) */
	for (int i = 0; i < 5; i++)
		t[i] = BENCH_TENSOR(rig, set->values, s->rows, s->time, s->width);
	ps_tensor mean = BENCH_TENSOR(rig, set->values, s->rows, s->time),
	          rstd = BENCH_TENSOR(rig, set->values, s->rows, s->time);
	ps_tensor gamma = BENCH_TENSOR(rig, set->values, s->width), beta = BENCH_TENSOR(rig, set->values, s->width);
	ps_tensor dgamma = BENCH_TENSOR(rig, set->values, s->width), dbeta = BENCH_TENSOR(rig, set->values, s->width);
	add(set, s,
	    BENCH_OP(rig, layernorm_fwd, 0, .x = t[0], .gamma = gamma, .beta = beta, .y = t[3], .mean = mean,
	             .rstd = rstd, .eps = 1e-5));
	add(set, s,
	    BENCH_OP(rig, layernorm_bwd_input, 0, .dy = t[1], .x = t[0], .mean = mean, .rstd = rstd, .gamma = gamma,
	             .dx = t[3]));
	add(set, s,
	    BENCH_OP(rig, layernorm_bwd_weight, 0, .dy = t[1], .x = t[0], .mean = mean, .rstd = rstd, .dgamma = dgamma,
	             .dbeta = dbeta));
	add(set, s,
	    BENCH_OP(rig, dropout_add_layernorm_fwd, 0, .z = t[0], .residual = t[1], .gamma = gamma, .beta = beta,
	             .sum = t[3], .y = t[4], .mean = mean, .rstd = rstd, .eps = 1e-5, .drop = drop));
	add(set, s,
	    BENCH_OP(rig, dropout_add_layernorm_bwd_input, 0, .dy = t[1], .sum = t[0], .mean = mean, .rstd = rstd,
	             .gamma = gamma, .dresidual = t[3], .dz = t[4], .drop = drop));
}

static void attention(struct bench_op_set *set, const struct bench_sizes *s)
{
	struct bench_rig *rig = &set->rig;
	ps_dropout drop = drop_of(s);
	ps_tensor qkv = BENCH_TENSOR(rig, set->values, s->rows, s->time, 3 * s->width);
	ps_tensor dqkv = BENCH_TENSOR(rig, set->values, s->rows, s->time, 3 * s->width);
	ps_tensor out = BENCH_TENSOR(rig, set->values, s->rows, s->time, s->width);
	ps_tensor dout = BENCH_TENSOR(rig, set->values, s->rows, s->time, s->width);
	ps_tensor probs = BENCH_TENSOR(rig, set->values, s->rows, s->heads, s->time, s->time);
	double time = (double)s->time;
	/* Two products forward and four backward, over the positions that are seen. */
	double seen = s->causal ? (time + 1) / 2 : time;
	double product = 2.0 * (double)(s->rows * s->time * s->width) * seen;
	add(set, s,
	    BENCH_OP(rig, attention_fwd, 2 * product, .qkv = qkv, .probs = probs, .out = out, .heads = s->heads,
	             .causal = s->causal, .drop = drop));
	add(set, s,
	    BENCH_OP(rig, attention_bwd, 4 * product, .qkv = qkv, .probs = probs, .dout = dout, .dqkv = dqkv,
	             .heads = s->heads, .causal = s->causal, .drop = drop));
}

static void vocabulary(struct bench_op_set *set, const struct bench_sizes *s)
{
	struct bench_rig *rig = &set->rig;
	ps_dropout drop = drop_of(s);
	ps_tensor tokens = bench_tokens(rig, s->rows, s->time, s->vocabulary);
	ps_tensor weight = BENCH_TENSOR(rig, set->weights, s->vocabulary, s->width);
	ps_tensor gradient = BENCH_TENSOR(rig, set->weights, s->vocabulary, s->width);
	ps_tensor copy = {0};
	if (set->factors != set->weights)
		copy = BENCH_TENSOR(rig, set->factors, s->vocabulary, s->width);
	ps_tensor positions = BENCH_TENSOR(rig, set->values, s->time, s->width);
	ps_tensor y = BENCH_TENSOR(rig, set->values, s->rows, s->time, s->width);
	ps_tensor logits = BENCH_TENSOR(rig, set->values, s->rows, s->time, s->vocabulary);
	ps_tensor losses = BENCH_TENSOR(rig, set->values, s->rows, s->time);
	ps_tensor sums = BENCH_TENSOR(rig, PS_F64, 16), norm = BENCH_TENSOR(rig, PS_F64, 1);
	ps_tensor scale = BENCH_TENSOR(rig, PS_F64, 1), sum = BENCH_TENSOR(rig, PS_F64, 1);
	struct bench_op embed = BENCH_OP(rig, embedding_fwd, 0, .tokens = tokens, .weight = weight,
	                                 .positions = positions, .y = y, .scale = 1, .drop = drop);
	/* A row of the weight for each token, not all of them. */
	embed.necessary_bytes +=
	        (double)((s->rows * s->time - s->vocabulary) * s->width) * (double)ps_dtype_bytes(set->weights);
	add(set, s, embed);
	add(set, s,
	    BENCH_OP(rig, embedding_bwd_weight, 0, .tokens = tokens, .dy = y, .dweight = gradient, .scale = 1,
	             .drop = drop));
	/* In place, as the decoder does. */
	add(set, s,
	    BENCH_OP(rig, cross_entropy, 0, .logits = logits, .targets = tokens, .losses = losses, .dlogits = logits,
	             .scale = 0.5));
	add(set, s, BENCH_OP(rig, sum_squares, 0, .x = gradient, .out = sum));
	add(set, s, BENCH_OP(rig, clip_scale, 0, .sums = sums, .norm = norm, .scale = scale, .max_norm = 0.5));
	add(set, s,
	    BENCH_OP(rig, sgd, 0, .w = weight, .g = gradient, .copy = copy, .scale = scale, .lr = 1e-9,
	             .place = place));
}

static void fill(struct bench_op_set *set, const struct bench_sizes *s)
{
	elements(set, s);
	norms(set, s);
	attention(set, s);
	vocabulary(set, s);
}

ps_status bench_ops(struct bench_report *report, const struct bench_device *device, const struct bench_sizes *sizes,
                    int count, const struct bench_run *run)
{
	return bench_op_set_run(report, device, fill, sizes, count, run);
}
