/* Every backward op of the reference against finite differences of its forward op, in double. */
#include "support/conform.h"
#include "support/rig.h"

#include <math.h>
#include <stdlib.h>

static struct rig rig;

static void setup(void)
{
	rig_open(&rig, "ref");
}

static void teardown(void)
{
	rig_close(&rig);
}

#define RANDOM(...) rig_tensor(&rig, PS_F64, RIG_DIMS(__VA_ARGS__), NULL)

/* Runs the forward op; what it runs on is in file-scope variables of the test. */
typedef void (*forward_fn)(void);

/* The sum of dy * y after the forward op: a scalar whose gradient is what backward makes of dy. */
static double scalar(forward_fn forward, ps_tensor y, ps_tensor dy)
{
	int64_t count = ps_tensor_count(y);
	double *values = malloc(2 * (size_t)count * sizeof *values), sum = 0;
	ck_assert_ptr_nonnull(values);
	forward();
	rig_get(&rig, y, values);
	rig_get(&rig, dy, values + count);
	for (int64_t i = 0; i < count; i++)
		sum += values[i] * values[count + i];
	free(values);
	return sum;
}

/* Compares dx with central differences of the scalar in each element of x. */
static void check_gradient(const char *what, forward_fn forward, ps_tensor y, ps_tensor dy, ps_tensor x, ps_tensor dx)
{
	const double step = 1e-5;
	int64_t count = ps_tensor_count(x);
	double *values = malloc(2 * (size_t)count * sizeof *values), *gradient = values + count;
	ck_assert_ptr_nonnull(values);
	rig_get(&rig, x, values);
	rig_get(&rig, dx, gradient);
	double largest = 0;
	for (int64_t i = 0; i < count; i++) {
		double value = values[i];
		values[i] = value + step;
		rig_set(&rig, x, values);
		double above = scalar(forward, y, dy);
		values[i] = value - step;
		rig_set(&rig, x, values);
		double below = scalar(forward, y, dy);
		values[i] = value;
		double want = (above - below) / (2 * step);
		ck_assert_msg(fabs(gradient[i] - want) <= 2e-8 * fmax(1, fabs(want)),
		              "%s: element %d is %.12g, finite differences give %.12g", what, (int)i, gradient[i],
		              want);
		largest = fmax(largest, fabs(want));
	}
	ck_assert_msg(largest > 1e-3, "%s: the gradient is zero, which shows nothing", what);
	rig_set(&rig, x, values);
	forward();
	free(values);
}

static const struct conform_drop sites[] = {{0, 0, 0, 0}, {0.2F, 3, 5, 2}, {0.5F, 17, 149, 11}};
static ps_dropout drop;

static struct {
	ps_args_gemm gemm;
	ps_args_relu_fwd relu;
	ps_args_dropout dropout;
	ps_args_relu_dropout_fwd relu_dropout;
	ps_args_embedding_fwd embedding;
	ps_args_layernorm_fwd norm;
	ps_args_dropout_add_layernorm_fwd fused;
	ps_args_attention_fwd attention;
	ps_args_cross_entropy loss;
} at;

#define FORWARD(name, op, member)                                                         \
	static void name(void)                                                            \
	{                                                                                 \
		check_ok(ps_op_run(rig.queue, PS_OP_##op, &at.member, sizeof at.member)); \
		check_ok(ps_queue_finish(rig.queue));                                     \
	}
FORWARD(gemm_forward, gemm, gemm)
FORWARD(relu_forward, relu_fwd, relu)
FORWARD(dropout_forward, dropout, dropout)
FORWARD(relu_dropout_forward, relu_dropout_fwd, relu_dropout)
FORWARD(embedding_forward, embedding_fwd, embedding)
FORWARD(norm_forward, layernorm_fwd, norm)
FORWARD(fused_forward, dropout_add_layernorm_fwd, fused)
FORWARD(attention_forward, attention_fwd, attention)
FORWARD(loss_forward, cross_entropy, loss)

/* A linear layer as the model uses it: y = x W^T + b. */
START_TEST(linear)
{
	ps_tensor x = RANDOM(3, 5), w = RANDOM(7, 5), b = RANDOM(7), y = RANDOM(3, 7), dy = RANDOM(3, 7);
	ps_tensor dx = RANDOM(3, 5), dw = RANDOM(7, 5), db = RANDOM(7);
	at.gemm = (ps_args_gemm){.a = x, .b = w, .c = y, .bias = b, .trans_b = true};
	gemm_forward();
	rig_run(&rig, gemm, .a = dy, .b = w, .c = dx);
	rig_run(&rig, gemm, .a = dy, .b = x, .c = dw, .trans_a = true);
	rig_run(&rig, column_sum, .x = dy, .y = db);
	check_gradient("dx", gemm_forward, y, dy, x, dx);
	check_gradient("dw", gemm_forward, y, dy, w, dw);
	check_gradient("db", gemm_forward, y, dy, b, db);
}
END_TEST

START_TEST(relu)
{
	ps_tensor x = RANDOM(3, 11), y = RANDOM(3, 11), dy = RANDOM(3, 11), dx = RANDOM(3, 11);
	at.relu = (ps_args_relu_fwd){.x = x, .y = y};
	relu_forward();
	rig_run(&rig, relu_bwd, .dy = dy, .y = y, .dx = dx);
	check_gradient("relu", relu_forward, y, dy, x, dx);
}
END_TEST

START_TEST(dropouts)
{
	drop = conform_dropout(&sites[_i]);
	ps_tensor x = RANDOM(3, 11), y = RANDOM(3, 11), dy = RANDOM(3, 11), dx = RANDOM(3, 11);
	at.dropout = (ps_args_dropout){.x = x, .y = y, .drop = drop};
	rig_run(&rig, dropout, .x = dy, .y = dx, .drop = drop);
	check_gradient("dropout", dropout_forward, y, dy, x, dx);
	at.relu_dropout = (ps_args_relu_dropout_fwd){.x = x, .y = y, .drop = drop};
	relu_dropout_forward();
	rig_run(&rig, relu_dropout_bwd, .dy = dy, .y = y, .dx = dx, .p = drop.p);
	check_gradient("relu_dropout", relu_dropout_forward, y, dy, x, dx);
}
END_TEST

START_TEST(embedding)
{
	drop = conform_dropout(&sites[_i]);
	ps_tensor tokens = rig_tensor(&rig, PS_I32, RIG_DIMS(2, 4), (double[]){3, 0, 3, 1, 2, 3, 1, 3});
	ps_tensor weight = RANDOM(5, 3), positions = RANDOM(4, 3), y = RANDOM(2, 4, 3), dy = RANDOM(2, 4, 3);
	ps_tensor dweight = RANDOM(5, 3);
	at.embedding = (ps_args_embedding_fwd){
	        .tokens = tokens, .weight = weight, .positions = positions, .y = y, .scale = 1.75F, .drop = drop};
	rig_run(&rig, embedding_bwd_weight, .tokens = tokens, .dy = dy, .dweight = dweight, .scale = 1.75F,
	        .drop = drop);
	check_gradient("dweight", embedding_forward, y, dy, weight, dweight);
}
END_TEST

START_TEST(layernorm)
{
	ps_tensor x = RANDOM(2, 3, 7), y = RANDOM(2, 3, 7), dy = RANDOM(2, 3, 7), dx = RANDOM(2, 3, 7);
	ps_tensor gamma = RANDOM(7), beta = RANDOM(7), dgamma = RANDOM(7), dbeta = RANDOM(7), mean = RANDOM(6),
	          rstd = RANDOM(6);
	at.norm = (ps_args_layernorm_fwd){
	        .x = x, .gamma = gamma, .beta = beta, .y = y, .mean = mean, .rstd = rstd, .eps = 1e-3F};
	norm_forward();
	rig_run(&rig, layernorm_bwd_input, .dy = dy, .x = x, .mean = mean, .rstd = rstd, .gamma = gamma, .dx = dx);
	rig_run(&rig, layernorm_bwd_weight, .dy = dy, .x = x, .mean = mean, .rstd = rstd, .dgamma = dgamma,
	        .dbeta = dbeta);
	check_gradient("dx", norm_forward, y, dy, x, dx);
	check_gradient("dgamma", norm_forward, y, dy, gamma, dgamma);
	check_gradient("dbeta", norm_forward, y, dy, beta, dbeta);
}
END_TEST

START_TEST(dropout_add_layernorm)
{
	drop = conform_dropout(&sites[_i]);
	ps_tensor z = RANDOM(2, 3, 7), residual = RANDOM(2, 3, 7), sum = RANDOM(2, 3, 7), y = RANDOM(2, 3, 7);
	ps_tensor dy = RANDOM(2, 3, 7), dresidual = RANDOM(2, 3, 7), dz = RANDOM(2, 3, 7);
	ps_tensor gamma = RANDOM(7), beta = RANDOM(7), mean = RANDOM(6), rstd = RANDOM(6);
	at.fused = (ps_args_dropout_add_layernorm_fwd){.z = z,
	                                               .residual = residual,
	                                               .gamma = gamma,
	                                               .beta = beta,
	                                               .sum = sum,
	                                               .y = y,
	                                               .mean = mean,
	                                               .rstd = rstd,
	                                               .eps = 1e-3F,
	                                               .drop = drop};
	fused_forward();
	rig_run(&rig, dropout_add_layernorm_bwd_input, .dy = dy, .sum = sum, .mean = mean, .rstd = rstd, .gamma = gamma,
	        .dresidual = dresidual, .dz = dz, .drop = drop);
	check_gradient("dz", fused_forward, y, dy, z, dz);
	check_gradient("dresidual", fused_forward, y, dy, residual, dresidual);
}
END_TEST

START_TEST(attention)
{
	drop = conform_dropout(&sites[_i / 2]);
	ps_tensor qkv = RANDOM(2, 5, 18), probs = RANDOM(2, 2, 5, 5), out = RANDOM(2, 5, 6), dout = RANDOM(2, 5, 6);
	ps_tensor dqkv = RANDOM(2, 5, 18);
	bool causal = _i % 2;
	at.attention = (ps_args_attention_fwd){
	        .qkv = qkv, .probs = probs, .out = out, .heads = 2, .causal = causal, .drop = drop};
	attention_forward();
	rig_run(&rig, attention_bwd, .qkv = qkv, .probs = probs, .dout = dout, .dqkv = dqkv, .heads = 2,
	        .causal = causal, .drop = drop);
	check_gradient("dqkv", attention_forward, out, dout, qkv, dqkv);
}
END_TEST

START_TEST(cross_entropy)
{
	ps_tensor logits = RANDOM(3, 7), dlogits = RANDOM(3, 7), losses = RANDOM(3);
	ps_tensor targets = rig_tensor(&rig, PS_I32, RIG_DIMS(3), (double[]){6, 0, 3});
	ps_tensor weights = rig_tensor(&rig, PS_F64, RIG_DIMS(3), (double[]){0.25, 0.25, 0.25});
	at.loss = (ps_args_cross_entropy){.logits = logits, .targets = targets, .losses = losses};
	rig_run(&rig, cross_entropy, .logits = logits, .targets = targets, .losses = losses, .dlogits = dlogits,
	        .scale = 0.25F);
	check_gradient("dlogits", loss_forward, losses, weights, logits, dlogits);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("reference gradients");
	TCase *tests = tcase_create("finite differences");
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, linear);
	tcase_add_test(tests, relu);
	tcase_add_loop_test(tests, dropouts, 0, 3);
	tcase_add_loop_test(tests, embedding, 0, 3);
	tcase_add_test(tests, layernorm);
	tcase_add_loop_test(tests, dropout_add_layernorm, 0, 3);
	tcase_add_loop_test(tests, attention, 0, 6);
	tcase_add_test(tests, cross_entropy);
	suite_add_tcase(suite, tests);
	return conform_suite_run(suite);
}
