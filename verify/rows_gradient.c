/* Every backward op with the forward op that it belongs to. */
#include "verify/gradient.h"

/* A linear layer as the model uses it: y = x W^T + b. */
static void linear(struct gradient *g)
{
	ps_tensor x = gradient_real(g, 3, 5), w = gradient_real(g, 7, 5), b = gradient_real(g, 7);
	ps_tensor y = gradient_real(g, 3, 7), dy = gradient_real(g, 3, 7);
	ps_tensor dx = gradient_real(g, 3, 5), dw = gradient_real(g, 7, 5), db = gradient_real(g, 7);
	gradient_forward(g, gemm, y, dy, .a = x, .b = w, .c = y, .bias = b, .trans_b = true);
	gradient_backward(g, gemm, .a = dy, .b = w, .c = dx);
	gradient_backward(g, gemm, .a = dy, .b = x, .c = dw, .trans_a = true);
	gradient_backward(g, column_sum, .x = dy, .y = db);
	ps__gradient_check(g, "dx", x, dx);
	ps__gradient_check(g, "dw", w, dw);
	ps__gradient_check(g, "db", b, db);
}

static void relu(struct gradient *g)
{
	ps_tensor x = gradient_real(g, 3, 11), y = gradient_real(g, 3, 11);
	ps_tensor dy = gradient_real(g, 3, 11), dx = gradient_real(g, 3, 11);
	gradient_forward(g, relu_fwd, y, dy, .x = x, .y = y);
	gradient_backward(g, relu_bwd, .dy = dy, .y = y, .dx = dx);
	ps__gradient_check(g, "dx", x, dx);
}

static void dropout(struct gradient *g)
{
	ps_dropout drop = ps__conform_dropout(g->seed, &g->drop);
	ps_tensor x = gradient_real(g, 3, 11), y = gradient_real(g, 3, 11);
	ps_tensor dy = gradient_real(g, 3, 11), dx = gradient_real(g, 3, 11);
	gradient_forward(g, dropout, y, dy, .x = x, .y = y, .drop = drop);
	gradient_backward(g, dropout, .x = dy, .y = dx, .drop = drop);
	ps__gradient_check(g, "dx", x, dx);
}

static void relu_dropout(struct gradient *g)
{
	ps_dropout drop = ps__conform_dropout(g->seed, &g->drop);
	ps_tensor x = gradient_real(g, 3, 11), y = gradient_real(g, 3, 11);
	ps_tensor dy = gradient_real(g, 3, 11), dx = gradient_real(g, 3, 11);
	gradient_forward(g, relu_dropout_fwd, y, dy, .x = x, .y = y, .drop = drop);
	gradient_backward(g, relu_dropout_bwd, .dy = dy, .y = y, .dx = dx, .p = drop.p);
	ps__gradient_check(g, "dx", x, dx);
}

static void embedding(struct gradient *g)
{
	ps_dropout drop = ps__conform_dropout(g->seed, &g->drop);
	ps_tensor tokens = ps__gradient_whole(g, 2, 4, (const double[]){3, 0, 3, 1, 2, 3, 1, 3});
	ps_tensor weight = gradient_real(g, 5, 3), positions = gradient_real(g, 4, 3);
	ps_tensor y = gradient_real(g, 2, 4, 3), dy = gradient_real(g, 2, 4, 3), dweight = gradient_real(g, 5, 3);
	gradient_forward(g, embedding_fwd, y, dy, .tokens = tokens, .weight = weight, .positions = positions, .y = y,
	                 .scale = 1.75, .drop = drop);
	gradient_backward(g, embedding_bwd_weight, .tokens = tokens, .dy = dy, .dweight = dweight, .scale = 1.75,
	                  .drop = drop);
	ps__gradient_check(g, "dweight", weight, dweight);
}

static void layernorm(struct gradient *g)
{
	ps_tensor x = gradient_real(g, 2, 3, 7), gamma = gradient_real(g, 7), beta = gradient_real(g, 7);
	ps_tensor y = gradient_real(g, 2, 3, 7), dy = gradient_real(g, 2, 3, 7), dx = gradient_real(g, 2, 3, 7);
	ps_tensor dgamma = gradient_real(g, 7), dbeta = gradient_real(g, 7);
	ps_tensor mean = gradient_real(g, 6), rstd = gradient_real(g, 6);
	gradient_forward(g, layernorm_fwd, y, dy, .x = x, .gamma = gamma, .beta = beta, .y = y, .mean = mean,
	                 .rstd = rstd, .eps = 1e-3);
	gradient_backward(g, layernorm_bwd_input, .dy = dy, .x = x, .mean = mean, .rstd = rstd, .gamma = gamma,
	                  .dx = dx);
	gradient_backward(g, layernorm_bwd_weight, .dy = dy, .x = x, .mean = mean, .rstd = rstd, .dgamma = dgamma,
	                  .dbeta = dbeta);
	ps__gradient_check(g, "dx", x, dx);
	ps__gradient_check(g, "dgamma", gamma, dgamma);
	ps__gradient_check(g, "dbeta", beta, dbeta);
}

static void dropout_add_layernorm(struct gradient *g)
{
	ps_dropout drop = ps__conform_dropout(g->seed, &g->drop);
	ps_tensor z = gradient_real(g, 2, 3, 7), residual = gradient_real(g, 2, 3, 7), sum = gradient_real(g, 2, 3, 7);
	ps_tensor y = gradient_real(g, 2, 3, 7), dy = gradient_real(g, 2, 3, 7);
	ps_tensor dresidual = gradient_real(g, 2, 3, 7), dz = gradient_real(g, 2, 3, 7);
	ps_tensor gamma = gradient_real(g, 7), beta = gradient_real(g, 7);
	ps_tensor mean = gradient_real(g, 6), rstd = gradient_real(g, 6);
	gradient_forward(g, dropout_add_layernorm_fwd, y, dy, .z = z, .residual = residual, .gamma = gamma,
	                 .beta = beta, .sum = sum, .y = y, .mean = mean, .rstd = rstd, .eps = 1e-3, .drop = drop);
	gradient_backward(g, dropout_add_layernorm_bwd_input, .dy = dy, .sum = sum, .mean = mean, .rstd = rstd,
	                  .gamma = gamma, .dresidual = dresidual, .dz = dz, .drop = drop);
	ps__gradient_check(g, "dz", z, dz);
	ps__gradient_check(g, "dresidual", residual, dresidual);
}

static void attention(struct gradient *g)
{
	ps_dropout drop = ps__conform_dropout(g->seed, &g->drop);
	ps_tensor qkv = gradient_real(g, 2, 5, 18), probs = gradient_real(g, 2, 2, 5, 5);
	ps_tensor out = gradient_real(g, 2, 5, 6), dout = gradient_real(g, 2, 5, 6), dqkv = gradient_real(g, 2, 5, 18);
	gradient_forward(g, attention_fwd, out, dout, .qkv = qkv, .probs = probs, .out = out, .heads = 2,
	                 .causal = g->causal, .drop = drop);
	gradient_backward(g, attention_bwd, .qkv = qkv, .probs = probs, .dout = dout, .dqkv = dqkv, .heads = 2,
	                  .causal = g->causal, .drop = drop);
	ps__gradient_check(g, "dqkv", qkv, dqkv);
}

/* Each loss counts by its own factor, the same for all: what dlogits has for its scale. */
static void cross_entropy(struct gradient *g)
{
	ps_tensor logits = gradient_real(g, 3, 7), dlogits = gradient_real(g, 3, 7), losses = gradient_real(g, 3);
	ps_tensor targets = ps__gradient_whole(g, 3, 1, (const double[]){6, 0, 3});
	ps_tensor factors = ps__gradient_constant(g, 3, 0.25);
	gradient_forward(g, cross_entropy, losses, factors, .logits = logits, .targets = targets, .losses = losses);
	gradient_backward(g, cross_entropy, .logits = logits, .targets = targets, .losses = losses, .dlogits = dlogits,
	                  .scale = 0.25);
	ps__gradient_check(g, "dlogits", logits, dlogits);
}

static const struct gradient_case cases[] = {
        {"gemm and column_sum", linear, 1, false},
        {"relu", relu, 1, false},
        {"dropout", dropout, 3, false},
        {"relu_dropout", relu_dropout, 3, false},
        {"embedding", embedding, 3, false},
        {"layernorm", layernorm, 1, false},
        {"dropout_add_layernorm", dropout_add_layernorm, 3, false},
        {"attention", attention, 3, true},
        {"cross_entropy", cross_entropy, 1, false},
};

const struct gradient_case *ps__gradient_op_cases(size_t *count)
{
	*count = sizeof cases / sizeof *cases;
	return cases;
}
