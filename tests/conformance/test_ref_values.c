/* The reference against numbers worked out by hand, and its masks against the random words that define them. */
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

static void expect(ps_tensor tensor, const double *want, size_t wanted, double tolerance)
{
	size_t count = (size_t)ps_tensor_count(tensor);
	ck_assert_uint_eq(count, wanted);
	double *got = malloc(count * sizeof *got);
	ck_assert_ptr_nonnull(got);
	rig_get(&rig, tensor, got);
	for (size_t i = 0; i < wanted; i++)
		ck_assert_msg(fabs(got[i] - want[i]) <= tolerance, "element %d is %.17g, which should be %.17g", (int)i,
		              got[i], want[i]);
	free(got);
}

#define EXPECT(tensor, tolerance, ...) \
	expect((tensor), (double[]){__VA_ARGS__}, sizeof((double[]){__VA_ARGS__}) / sizeof(double), (tolerance))
#define TENSOR(dtype, dims, ...) rig_tensor(&rig, (dtype), dims, (double[]){__VA_ARGS__})

START_TEST(products)
{
	ps_tensor a = TENSOR(PS_F64, RIG_DIMS(2, 2), 1, 2, 3, 4), b = TENSOR(PS_F64, RIG_DIMS(2, 2), 5, 6, 7, 8);
	ps_tensor c = TENSOR(PS_F64, RIG_DIMS(2, 2), 0, 0, 0, 0), bias = TENSOR(PS_F64, RIG_DIMS(2), 100, 200);
	rig_run(&rig, gemm, .a = a, .b = b, .c = c);
	EXPECT(c, 0, 19, 22, 43, 50);
	rig_run(&rig, gemm, .a = a, .b = b, .c = c, .trans_b = true);
	EXPECT(c, 0, 17, 23, 39, 53);
	rig_run(&rig, gemm, .a = a, .b = b, .c = c, .trans_a = true);
	EXPECT(c, 0, 26, 30, 38, 44);
	rig_run(&rig, gemm, .a = a, .b = b, .c = c, .trans_a = true, .trans_b = true);
	EXPECT(c, 0, 23, 31, 34, 46);
	rig_run(&rig, gemm, .a = a, .b = b, .c = c, .bias = bias);
	EXPECT(c, 0, 119, 222, 143, 250);
	rig_run(&rig, gemm, .a = a, .b = b, .c = c, .bias = bias, .accumulate = true);
	EXPECT(c, 0, 238, 444, 286, 500);
	ps_tensor y = TENSOR(PS_F64, RIG_DIMS(2), 10, 20);
	rig_run(&rig, column_sum, .x = a, .y = y, .accumulate = true);
	EXPECT(y, 0, 14, 26);
	rig_run(&rig, column_sum, .x = a, .y = y);
	EXPECT(y, 0, 4, 6);
}
END_TEST

/* One addend of 2^30 swallows a float 1, but not a double's: what cancels must leave the 1 of the sum in between. */
START_TEST(sums_are_double)
{
	ps_tensor a = TENSOR(PS_F32, RIG_DIMS(1, 3), 1073741824, 1, -1073741824);
	ps_tensor b = TENSOR(PS_F32, RIG_DIMS(3, 1), 1, 1, 1), c = TENSOR(PS_F32, RIG_DIMS(1, 1), 0);
	rig_run(&rig, gemm, .a = a, .b = b, .c = c);
	EXPECT(c, 0, 1);
	ps_tensor column = TENSOR(PS_F32, RIG_DIMS(3, 1), 1073741824, 1, -1073741824);
	ps_tensor y = TENSOR(PS_F32, RIG_DIMS(1), 0);
	rig_run(&rig, column_sum, .x = column, .y = y);
	EXPECT(y, 0, 1);
}
END_TEST

START_TEST(layernorm)
{
	ps_tensor x = TENSOR(PS_F64, RIG_DIMS(2, 4), 1, 2, 3, 4, 7, 7, 7, 7),
	          y = TENSOR(PS_F64, RIG_DIMS(2, 4), 0, 0, 0, 0, 0, 0, 0, 0);
	ps_tensor gamma = TENSOR(PS_F64, RIG_DIMS(4), 2, 2, 2, 2), beta = TENSOR(PS_F64, RIG_DIMS(4), 1, 1, 1, 10);
	ps_tensor mean = TENSOR(PS_F64, RIG_DIMS(2), 0, 0), rstd = TENSOR(PS_F64, RIG_DIMS(2), 0, 0);
	rig_run(&rig, layernorm_fwd, .x = x, .gamma = gamma, .beta = beta, .y = y, .mean = mean, .rstd = rstd,
	        .eps = 0.25F);
	/* Variance 1.25 and eps 0.25: rstd = 1 / sqrt(1.5). A constant row has rstd = 1 / sqrt(0.25). */
	EXPECT(mean, 1e-15, 2.5, 7);
	EXPECT(rstd, 1e-15, 0.816496580927726, 2);
	EXPECT(y, 1e-14, 1 - 2.449489742783178, 1 - 0.816496580927726, 1 + 0.816496580927726, 10 + 2.449489742783178, 1,
	       1, 1, 10);
}
END_TEST

START_TEST(cross_entropy)
{
	ps_tensor logits = TENSOR(PS_F64, RIG_DIMS(2, 3), 1, 2, 3, 1, 2, 3),
	          targets = TENSOR(PS_I32, RIG_DIMS(2), 2, 0);
	ps_tensor losses = TENSOR(PS_F64, RIG_DIMS(2), 0, 0);
	rig_run(&rig, cross_entropy, .logits = logits, .targets = targets, .losses = losses, .dlogits = logits,
	        .scale = 2);
	EXPECT(losses, 1e-15, 0.40760596444438, 2.40760596444438);
	const double p[] = {0.09003057317038046, 0.24472847105479764, 0.6652409557748218};
	EXPECT(logits, 1e-15, 2 * p[0], 2 * p[1], 2 * (p[2] - 1), 2 * (p[0] - 1), 2 * p[1], 2 * p[2]);
}
END_TEST

/* The most that F32 logits can be apart without their loss leaving the range of F32. */
START_TEST(extreme_logits)
{
	ps_tensor logits = TENSOR(PS_F32, RIG_DIMS(3, 3), 1e30, -1e30, 0, 1e30, -1e30, 0, -1e30, -1e30, -1e30);
	ps_tensor targets = TENSOR(PS_I32, RIG_DIMS(3), 0, 1, 2), losses = TENSOR(PS_F32, RIG_DIMS(3), 0, 0, 0);
	ps_tensor dlogits = TENSOR(PS_F32, RIG_DIMS(3, 3), 0, 0, 0, 0, 0, 0, 0, 0, 0);
	rig_run(&rig, cross_entropy, .logits = logits, .targets = targets, .losses = losses, .dlogits = dlogits,
	        .scale = 3);
	EXPECT(losses, 1e23, 0, 2e30, log(3));
	double loss[3];
	rig_get(&rig, losses, loss);
	ck_assert_double_eq(loss[0], 0);
	ck_assert_double_eq_tol(loss[2], log(3), 1e-6);
	EXPECT(dlogits, 1e-6, 0, 0, 0, 3, -3, 0, 1, 1, -2);
}
END_TEST

/* Two positions, one head, one feature: the softmax of two scores is the logistic function of their difference. */
START_TEST(attention)
{
	ps_tensor qkv = TENSOR(PS_F64, RIG_DIMS(1, 2, 3), 1, 0.5, 10, 2, -0.5, 20);
	ps_tensor probs = TENSOR(PS_F64, RIG_DIMS(1, 1, 2, 2), 0, 0, 0, 0),
	          out = TENSOR(PS_F64, RIG_DIMS(1, 2, 1), 0, 0);
	const double p = 0.7310585786300049, q = 0.8807970779778823; /* logistic(1), logistic(2) */
	rig_run(&rig, attention_fwd, .qkv = qkv, .probs = probs, .out = out, .heads = 1);
	EXPECT(probs, 1e-15, p, 1 - p, q, 1 - q);
	EXPECT(out, 1e-14, 10 * p + 20 * (1 - p), 10 * q + 20 * (1 - q));
	rig_run(&rig, attention_fwd, .qkv = qkv, .probs = probs, .out = out, .heads = 1, .causal = true);
	EXPECT(probs, 1e-15, 1, 0, q, 1 - q);
	EXPECT(out, 1e-14, 10, 10 * q + 20 * (1 - q));
}
END_TEST

/* Two heads of four features: each sees its own quarter, and scores are halved (1 / sqrt(4)). */
START_TEST(heads)
{
	double values[2 * 24] = {0};
	double *first = values, *second = values + 24;
	first[0] = second[0] = 2;   /* q of head 0 */
	first[8] = 1;               /* k of head 0: scores 2 * 1 / 2 and 0 */
	first[16] = 1;              /* v of head 0: out is the first probability */
	first[23] = second[23] = 7; /* v of head 1, whose scores are all 0 */
	ps_tensor qkv = rig_tensor(&rig, PS_F64, RIG_DIMS(1, 2, 24), values);
	ps_tensor probs = rig_tensor(&rig, PS_F64, RIG_DIMS(1, 2, 2, 2), NULL);
	ps_tensor out = rig_tensor(&rig, PS_F64, RIG_DIMS(1, 2, 8), NULL);
	rig_run(&rig, attention_fwd, .qkv = qkv, .probs = probs, .out = out, .heads = 2);
	const double p = 0.7310585786300049;
	EXPECT(probs, 1e-15, p, 1 - p, p, 1 - p, 0.5, 0.5, 0.5, 0.5);
	EXPECT(out, 1e-15, p, 0, 0, 0, 0, 0, 0, 7, p, 0, 0, 0, 0, 0, 0, 7);
}
END_TEST

START_TEST(embedding)
{
	ps_tensor tokens = TENSOR(PS_I32, RIG_DIMS(1, 3), 2, 0, 2),
	          weight = TENSOR(PS_F64, RIG_DIMS(3, 2), 1, 2, 3, 4, 5, 6);
	ps_tensor positions = TENSOR(PS_F64, RIG_DIMS(4, 2), 10, 20, 30, 40, 50, 60, 70, 80);
	ps_tensor y = TENSOR(PS_F64, RIG_DIMS(1, 3, 2), 0, 0, 0, 0, 0, 0);
	rig_run(&rig, embedding_fwd, .tokens = tokens, .weight = weight, .positions = positions, .y = y, .scale = 2);
	EXPECT(y, 0, 20, 32, 32, 44, 60, 72);
	ps_tensor dweight = TENSOR(PS_F64, RIG_DIMS(3, 2), 1, 1, 1, 1, 1, 1);
	rig_run(&rig, embedding_bwd_weight, .tokens = tokens, .dy = y, .dweight = dweight, .scale = 0.5F,
	        .accumulate = true);
	EXPECT(dweight, 0, 17, 23, 1, 1, 41, 53);
	rig_run(&rig, embedding_bwd_weight, .tokens = tokens, .dy = y, .dweight = dweight, .scale = 0.5F);
	EXPECT(dweight, 0, 16, 22, 0, 0, 40, 52);
}
END_TEST

START_TEST(optimizer)
{
	ps_tensor x = TENSOR(PS_F32, RIG_DIMS(3), 1, -2, 2), out = TENSOR(PS_F64, RIG_DIMS(1), 0);
	rig_run(&rig, sum_squares, .x = x, .out = out);
	EXPECT(out, 0, 9);
	ps_tensor sums = TENSOR(PS_F64, RIG_DIMS(2), 9, 16), norm = TENSOR(PS_F64, RIG_DIMS(1), 0),
	          scale = TENSOR(PS_F64, RIG_DIMS(1), 0);
	const double limits[] = {0.5, 5, 5.1, 0, -1}, scales[] = {0.5 / 5.000001, 5 / 5.000001, 1, 1, 1};
	for (int i = 0; i < 5; i++) {
		rig_run(&rig, clip_scale, .sums = sums, .norm = norm, .scale = scale, .max_norm = limits[i]);
		EXPECT(norm, 0, 5);
		EXPECT(scale, 1e-16, scales[i]);
	}
	rig_set(&rig, scale, (double[]){0.25});
	ps_tensor w = TENSOR(PS_F32, RIG_DIMS(3), 1, 1, 1);
	rig_run(&rig, sgd, .w = w, .g = x, .scale = scale, .lr = 0.5);
	EXPECT(w, 0, 0.875, 1.25, 0.75);
	/* A norm that is lost changes nothing. */
	const double lost[] = {INFINITY, -10, NAN};
	for (int i = 0; i < 3; i++) {
		rig_set(&rig, sums, (double[]){9, lost[i]});
		for (int limit = 0; limit < 2; limit++) {
			rig_run(&rig, clip_scale, .sums = sums, .norm = norm, .scale = scale, .max_norm = limit);
			rig_run(&rig, sgd, .w = w, .g = x, .scale = scale, .lr = 0.5);
			EXPECT(w, 0, 0.875, 1.25, 0.75);
		}
	}
}
END_TEST

/* A run that went astray must be seen: no op turns a NaN into a number, but for dropout where it drops. */
START_TEST(nan_stays)
{
	ps_tensor x = TENSOR(PS_F32, RIG_DIMS(2), NAN, -1), y = TENSOR(PS_F32, RIG_DIMS(2), 0, 5);
	rig_run(&rig, relu_fwd, .x = x, .y = y);
	double got[2];
	rig_get(&rig, y, got);
	ck_assert(isnan(got[0]) && got[1] == 0);
	ps_tensor sums = TENSOR(PS_F64, RIG_DIMS(2), NAN, 1), norm = TENSOR(PS_F64, RIG_DIMS(1), 0),
	          scale = TENSOR(PS_F64, RIG_DIMS(1), 0);
	rig_run(&rig, clip_scale, .sums = sums, .norm = norm, .scale = scale, .max_norm = 1);
	rig_get(&rig, norm, got);
	rig_get(&rig, scale, got + 1);
	ck_assert(isnan(got[0]) && isnan(got[1]));
}
END_TEST

/* Is the element kept, by docs/random.md's rule? */
static bool kept(const ps_dropout *drop, int64_t row, int64_t element)
{
	uint32_t threshold = (uint32_t)floor((double)drop->p * 4294967296.0);
	return ps_random_word(&drop->place, drop->first_row + (uint32_t)row, (uint64_t)element) >= threshold;
}

static const struct conform_drop sites[] = {
        {0, 3, 1, 1}, {0.2F, 0, 0, 0}, {0.5F, 17, 149, 11}, {0.2F, 4294967294U, 4294967294U, 16777215}};

/* dropout and relu_dropout of ones, in both dtypes. */
START_TEST(masks)
{
	ps_dropout drop = conform_dropout(&sites[_i / 2]);
	ps_dtype dtype = _i % 2 ? PS_F64 : PS_F32;
	double factor = 1 / (1 - (double)drop.p), ones[3 * 101], want[3 * 101];
	if (dtype == PS_F32)
		factor = (double)(float)factor;
	for (int i = 0; i < 3 * 101; i++) {
		ones[i] = 1;
		want[i] = drop.p == 0 || kept(&drop, i / 101, i % 101) ? factor : 0;
	}
	ps_tensor x = rig_tensor(&rig, dtype, RIG_DIMS(3, 101), ones),
	          y = rig_tensor(&rig, dtype, RIG_DIMS(3, 101), NULL);
	rig_run(&rig, dropout, .x = x, .y = y, .drop = drop);
	expect(y, want, sizeof want / sizeof *want, 0);
	rig_run(&rig, relu_dropout_fwd, .x = x, .y = y, .drop = drop);
	expect(y, want, sizeof want / sizeof *want, 0);
	rig_run(&rig, relu_dropout_bwd, .dy = x, .y = y, .dx = x, .p = drop.p);
	expect(x, want, sizeof want / sizeof *want, 0);
}
END_TEST

START_TEST(mask_of_attention)
{
	enum { ROWS = 2, HEADS = 2, TIME = 5, WIDTH = HEADS * TIME };
	ps_dropout drop = conform_dropout(&sites[_i]);
	double values[ROWS * TIME * 3 * WIDTH] = {0}, want[ROWS * TIME * WIDTH] = {0};
	/* Scores 0, so that probabilities are 1 / TIME; v of each head is the identity. */
	for (int r = 0; r < ROWS; r++)
		for (int h = 0; h < HEADS; h++)
			for (int i = 0; i < TIME; i++) {
				values[(r * TIME + i) * 3 * WIDTH + 2 * WIDTH + h * TIME + i] = 1;
				for (int j = 0; j < TIME; j++)
					if (drop.p == 0 || kept(&drop, r, (h * TIME + i) * TIME + j))
						want[(r * TIME + i) * WIDTH + h * TIME + j] =
						        1.0 / TIME / (1 - (double)drop.p);
			}
	ps_tensor qkv = rig_tensor(&rig, PS_F64, RIG_DIMS(ROWS, TIME, 3 * WIDTH), values);
	ps_tensor probs = rig_tensor(&rig, PS_F64, RIG_DIMS(ROWS, HEADS, TIME, TIME), NULL);
	ps_tensor out = rig_tensor(&rig, PS_F64, RIG_DIMS(ROWS, TIME, WIDTH), NULL);
	rig_run(&rig, attention_fwd, .qkv = qkv, .probs = probs, .out = out, .heads = HEADS, .drop = drop);
	expect(out, want, sizeof want / sizeof *want, 1e-15);
}
END_TEST

START_TEST(mask_of_embedding)
{
	enum { ROWS = 2, TIME = 3, WIDTH = 7 };
	ps_dropout drop = conform_dropout(&sites[_i]);
	double ones[TIME * WIDTH], want[ROWS * TIME * WIDTH];
	for (int i = 0; i < TIME * WIDTH; i++)
		ones[i] = 1;
	for (int i = 0; i < ROWS * TIME * WIDTH; i++)
		want[i] = drop.p == 0 || kept(&drop, i / (TIME * WIDTH), i % (TIME * WIDTH)) ? 1 / (1 - (double)drop.p)
		                                                                             : 0;
	ps_tensor tokens = TENSOR(PS_I32, RIG_DIMS(ROWS, TIME), 0, 1, 2, 3, 4, 5);
	ps_tensor weight = rig_tensor(&rig, PS_F64, RIG_DIMS(ROWS * TIME, WIDTH), NULL);
	ps_tensor positions = rig_tensor(&rig, PS_F64, RIG_DIMS(TIME, WIDTH), ones);
	ps_tensor y = rig_tensor(&rig, PS_F64, RIG_DIMS(ROWS, TIME, WIDTH), NULL);
	rig_run(&rig, embedding_fwd, .tokens = tokens, .weight = weight, .positions = positions, .y = y, .scale = 0,
	        .drop = drop);
	expect(y, want, sizeof want / sizeof *want, 0);
}
END_TEST

/* A fused op leaves the bits of the ops that it stands for. */
START_TEST(fusions)
{
	ps_dtype dtype = _i ? PS_F64 : PS_F32;
	ps_dropout drop = conform_dropout(&sites[1]);
	ps_tensor t[12];
	for (int i = 0; i < 12; i++)
		t[i] = rig_tensor(&rig, dtype, RIG_DIMS(3, 5, 17), NULL);
	ps_tensor gamma = rig_tensor(&rig, dtype, RIG_DIMS(17), NULL),
	          beta = rig_tensor(&rig, dtype, RIG_DIMS(17), NULL);
	ps_tensor mean = rig_tensor(&rig, dtype, RIG_DIMS(15), NULL),
	          rstd = rig_tensor(&rig, dtype, RIG_DIMS(15), NULL);
	ps_tensor mean2 = rig_tensor(&rig, dtype, RIG_DIMS(15), NULL),
	          rstd2 = rig_tensor(&rig, dtype, RIG_DIMS(15), NULL);
	rig_run(&rig, relu_dropout_fwd, .x = t[0], .y = t[1], .drop = drop);
	rig_run(&rig, relu_fwd, .x = t[0], .y = t[2]);
	rig_run(&rig, dropout, .x = t[2], .y = t[2], .drop = drop);
	ck_assert(rig_same_bits(&rig, t[1], t[2]));
	rig_run(&rig, dropout_add_layernorm_fwd, .z = t[0], .residual = t[3], .gamma = gamma, .beta = beta, .sum = t[1],
	        .y = t[2], .mean = mean, .rstd = rstd, .eps = 1e-5F, .drop = drop);
	rig_run(&rig, layernorm_fwd, .x = t[1], .gamma = gamma, .beta = beta, .y = t[4], .mean = mean2, .rstd = rstd2,
	        .eps = 1e-5F);
	ck_assert(rig_same_bits(&rig, t[2], t[4]) && rig_same_bits(&rig, mean, mean2) &&
	          rig_same_bits(&rig, rstd, rstd2));
	rig_run(&rig, dropout_add_layernorm_bwd_input, .dy = t[5], .sum = t[1], .mean = mean, .rstd = rstd,
	        .gamma = gamma, .dresidual = t[6], .dz = t[7], .drop = drop);
	rig_run(&rig, layernorm_bwd_input, .dy = t[5], .x = t[1], .mean = mean, .rstd = rstd, .gamma = gamma,
	        .dx = t[8]);
	rig_run(&rig, dropout, .x = t[8], .y = t[9], .drop = drop);
	ck_assert(rig_same_bits(&rig, t[6], t[8]) && rig_same_bits(&rig, t[7], t[9]));
	/* In place: the same bits as apart. */
	rig_run(&rig, layernorm_bwd_input, .dy = t[5], .x = t[1], .mean = mean, .rstd = rstd, .gamma = gamma,
	        .dx = t[5]);
	ck_assert(rig_same_bits(&rig, t[5], t[8]));
	rig_run(&rig, dropout_add_layernorm_fwd, .z = t[0], .residual = t[3], .gamma = gamma, .beta = beta, .sum = t[0],
	        .y = t[10], .mean = mean, .rstd = rstd, .eps = 1e-5F, .drop = drop);
	ck_assert(rig_same_bits(&rig, t[0], t[1]) && rig_same_bits(&rig, t[10], t[2]));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("reference values");
	TCase *tests = tcase_create("values");
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, products);
	tcase_add_test(tests, sums_are_double);
	tcase_add_test(tests, layernorm);
	tcase_add_test(tests, cross_entropy);
	tcase_add_test(tests, extreme_logits);
	tcase_add_test(tests, attention);
	tcase_add_test(tests, heads);
	tcase_add_test(tests, embedding);
	tcase_add_test(tests, optimizer);
	tcase_add_test(tests, nan_stays);
	tcase_add_loop_test(tests, masks, 0, 8);
	tcase_add_loop_test(tests, mask_of_attention, 0, 4);
	tcase_add_loop_test(tests, mask_of_embedding, 0, 4);
	tcase_add_loop_test(tests, fusions, 0, 2);
	suite_add_tcase(suite, tests);
	return conform_suite_run(suite);
}
