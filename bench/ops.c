/*
 * Speed of the ops other than GEMM at the sizes of the tutorial's batch (20 rows of 25 tokens, width 4096) and of the
 * preset `small` (20 rows of 35, width 512), in GB/s of the bytes that an op must read and write, beside a plain copy;
 * attention also in GFLOP/s.
 *
 *   bench-ops [DEVICE]
 */
#include "bench.h"

#include <stdio.h>

struct sizes {
	int64_t rows, time, width, hidden, vocabulary;
	int heads;
};

static void print(struct bench *bench, const char *name, double bytes, double seconds)
{
	if (bench->status == PS_OK && seconds > 0)
		printf("  %-34s %9.3f ms %7.1f GB/s\n", name, seconds * 1e3, bytes / seconds * 1e-9);
	fflush(stdout);
}

static const ps_dropout drop = {.p = 0.2f, .place = {.seed = 1, .step = 1, .layer = 1, .site = 1}};

static void elements(struct bench *bench, const struct sizes *s)
{
	ps_tensor x = BENCH_TENSOR(bench, PS_F32, s->rows, s->time, s->hidden);
	ps_tensor y = BENCH_TENSOR(bench, PS_F32, s->rows, s->time, s->hidden);
	ps_tensor sums = BENCH_TENSOR(bench, PS_F32, s->hidden);
	double bytes = 4.0 * (double)(s->rows * s->time * s->hidden);
	print(bench, "add", 3 * bytes, BENCH_TIME(bench, add, .a = x, .b = y, .y = y));
	print(bench, "relu_dropout_fwd", 2 * bytes, BENCH_TIME(bench, relu_dropout_fwd, .x = x, .y = y, .drop = drop));
	print(bench, "relu_dropout_bwd", 3 * bytes,
	      BENCH_TIME(bench, relu_dropout_bwd, .dy = x, .y = y, .dx = x, .p = 0.2f));
	print(bench, "column_sum", bytes, BENCH_TIME(bench, column_sum, .x = x, .y = sums));
	bench_free(sums);
	bench_free(y);
	bench_free(x);
}

static void norms(struct bench *bench, const struct sizes *s)
{
	ps_tensor x = BENCH_TENSOR(bench, PS_F32, s->rows, s->time, s->width);
	ps_tensor z = BENCH_TENSOR(bench, PS_F32, s->rows, s->time, s->width);
	ps_tensor sum = BENCH_TENSOR(bench, PS_F32, s->rows, s->time, s->width);
	ps_tensor y = BENCH_TENSOR(bench, PS_F32, s->rows, s->time, s->width);
	ps_tensor mean = BENCH_TENSOR(bench, PS_F32, s->rows, s->time),
	          rstd = BENCH_TENSOR(bench, PS_F32, s->rows, s->time);
	ps_tensor gamma = BENCH_TENSOR(bench, PS_F32, s->width), beta = BENCH_TENSOR(bench, PS_F32, s->width);
	double bytes = 4.0 * (double)(s->rows * s->time * s->width);
	print(bench, "dropout_add_layernorm_fwd", 4 * bytes,
	      BENCH_TIME(bench, dropout_add_layernorm_fwd, .z = z, .residual = x, .gamma = gamma, .beta = beta,
	                 .sum = sum, .y = y, .mean = mean, .rstd = rstd, .eps = 1e-5f, .drop = drop));
	print(bench, "dropout_add_layernorm_bwd_input", 4 * bytes,
	      BENCH_TIME(bench, dropout_add_layernorm_bwd_input, .dy = y, .sum = sum, .mean = mean, .rstd = rstd,
	                 .gamma = gamma, .dresidual = x, .dz = z, .drop = drop));
	print(bench, "layernorm_bwd_weight", 2 * bytes,
	      BENCH_TIME(bench, layernorm_bwd_weight, .dy = y, .x = sum, .mean = mean, .rstd = rstd, .dgamma = gamma,
	                 .dbeta = beta));
	bench_free(beta);
	bench_free(gamma);
	bench_free(rstd);
	bench_free(mean);
	bench_free(y);
	bench_free(sum);
	bench_free(z);
	bench_free(x);
}

static void attention(struct bench *bench, const struct sizes *s)
{
	ps_tensor qkv = BENCH_TENSOR(bench, PS_F32, s->rows, s->time, 3 * s->width);
	ps_tensor dqkv = BENCH_TENSOR(bench, PS_F32, s->rows, s->time, 3 * s->width);
	ps_tensor out = BENCH_TENSOR(bench, PS_F32, s->rows, s->time, s->width);
	ps_tensor probs = BENCH_TENSOR(bench, PS_F32, s->rows, s->heads, s->time, s->time);
	double bytes = 4.0 * (double)(s->rows * s->time * s->width);
	double work = 4e-9 * (double)(s->rows * s->time * s->time * s->width);
	double forward = BENCH_TIME(bench, attention_fwd, .qkv = qkv, .probs = probs, .out = out, .heads = s->heads,
	                            .causal = true, .drop = drop);
	print(bench, "attention_fwd", 4 * bytes, forward);
	double backward = BENCH_TIME(bench, attention_bwd, .qkv = qkv, .probs = probs, .dout = out, .dqkv = dqkv,
	                             .heads = s->heads, .causal = true, .drop = drop);
	print(bench, "attention_bwd", 7 * bytes, backward);
	if (bench->status == PS_OK)
		printf("    as if without a mask: %.0f and %.0f GFLOP/s\n", work / forward, 2 * work / backward);
	bench_free(probs);
	bench_free(out);
	bench_free(dqkv);
	bench_free(qkv);
}

static void vocabulary(struct bench *bench, const struct sizes *s)
{
	ps_tensor tokens = BENCH_TENSOR(bench, PS_I32, s->rows, s->time);
	ps_tensor weight = BENCH_TENSOR(bench, PS_F32, s->vocabulary, s->width);
	ps_tensor gradient = BENCH_TENSOR(bench, PS_F32, s->vocabulary, s->width);
	ps_tensor positions = BENCH_TENSOR(bench, PS_F32, s->time, s->width);
	ps_tensor y = BENCH_TENSOR(bench, PS_F32, s->rows, s->time, s->width);
	ps_tensor logits = BENCH_TENSOR(bench, PS_F32, s->rows, s->time, s->vocabulary);
	ps_tensor losses = BENCH_TENSOR(bench, PS_F32, s->rows, s->time);
	ps_tensor scale = BENCH_TENSOR(bench, PS_F64, 1), sum = BENCH_TENSOR(bench, PS_F64, 1);
	double n = (double)(s->rows * s->time), wide = 4.0 * n * (double)s->width;
	double weights = 4.0 * (double)(s->vocabulary * s->width);
	print(bench, "embedding_fwd", 2 * wide,
	      BENCH_TIME(bench, embedding_fwd, .tokens = tokens, .weight = weight, .positions = positions, .y = y,
	                 .scale = 1, .drop = drop));
	print(bench, "embedding_bwd_weight, adding", 3 * wide,
	      BENCH_TIME(bench, embedding_bwd_weight, .tokens = tokens, .dy = y, .dweight = gradient, .scale = 1,
	                 .accumulate = true, .drop = drop));
	print(bench, "cross_entropy with gradient", 8 * n * (double)s->vocabulary,
	      BENCH_TIME(bench, cross_entropy, .logits = logits, .targets = tokens, .losses = losses, .dlogits = logits,
	                 .scale = 0.5f));
	print(bench, "sum_squares", weights, BENCH_TIME(bench, sum_squares, .x = gradient, .out = sum));
	print(bench, "sgd", 3 * weights,
	      BENCH_TIME(bench, sgd, .w = weight, .g = gradient, .scale = scale, .lr = 1e-9));
	bench_free(sum);
	bench_free(scale);
	bench_free(losses);
	bench_free(logits);
	bench_free(y);
	bench_free(positions);
	bench_free(gradient);
	bench_free(weight);
	bench_free(tokens);
}

int main(int count, char **words)
{
	static const struct sizes tutorial = {20, 25, 4096, 4096, 28782, 16}, small = {20, 35, 512, 2048, 28782, 8};
	const struct sizes *all[] = {&tutorial, &small};
	static const char *const names[] = {"tutorial", "small"};
	struct bench bench;
	bench_open(&bench, count > 1 ? words[1] : "cpu");
	for (int i = 0; i < 2 && bench.status == PS_OK; i++) {
		printf("%s\n", names[i]);
		elements(&bench, all[i]);
		norms(&bench, all[i]);
		attention(&bench, all[i]);
		vocabulary(&bench, all[i]);
	}
	return bench_close(&bench);
}
