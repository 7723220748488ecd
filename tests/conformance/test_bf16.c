/* Conformance of what is in bf16: products, embedding, the sum of squares and the update. */
#include "support/conform.h"
#include "support/rig.h"

#include <penstock/bf16.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* --- gemm ------------------------------------------------------------------------------------------------------ */

enum { A = 1, B = 2, C = 4 }; /* what is BF16; without any the queue's math makes it a bf16 product */

struct row {
	int64_t m, n, k;
	int64_t pad; /* columns between the rows of each view */
	enum conform_fill fill;
	bool bias, accumulate;
};

static const struct row rows[] = {
        {1, 1, 1, 0, FILL_UNIT, false, false},       {1, 7, 3, 0, FILL_UNIT, true, false},
        {3, 1, 7, 0, FILL_UNIT, true, true},         {7, 3, 17, 1, FILL_UNIT, true, true},
        {16, 64, 128, 0, FILL_UNIT, false, false},   {17, 65, 129, 0, FILL_UNIT, true, false},
        {17, 33, 129, 3, FILL_UNIT, false, true},    {33, 129, 1000, 0, FILL_WHOLE, false, false},
        {129, 33, 17, 0, FILL_WHOLE, true, true},    {7, 33, 129, 0, FILL_LARGE, false, false},
        {7, 33, 129, 0, FILL_TINY, true, true},      {1, 1000, 1000, 0, FILL_UNIT, true, false},
        {100, 100, 100, 0, FILL_UNIT, false, true},  {35, 1536, 512, 0, FILL_UNIT, true, false},
        {1536, 512, 70, 0, FILL_UNIT, false, false},
};

/* Factors are the same numbers on all devices once they are rounded, and so the products, which are exact. */
static struct conform_tolerance tolerance_of(const struct row *row)
{
	return row->fill == FILL_WHOLE ? (struct conform_tolerance){0, 0} : conform_sum_tolerance(row->k);
}

static void product(struct conform *c, const struct row *row, bool trans_a, bool trans_b, int bf16)
{
	if (c->dtype != PS_F32 || !conform_math(c, bf16 ? PS_MATH_F32 : PS_MATH_BF16))
		return;
	int64_t a_rows = trans_a ? row->k : row->m, a_columns = trans_a ? row->m : row->k;
	int64_t b_rows = trans_b ? row->n : row->k, b_columns = trans_b ? row->k : row->n;
	ps_args_gemm x = {.trans_a = trans_a, .trans_b = trans_b, .accumulate = row->accumulate};
	x.a = conform_in(c, "a", SHAPE(a_rows, a_columns), .pitch = a_columns + row->pad, .fill = row->fill,
	                 .narrow = bf16 & A);
	x.b = conform_in(c, "b", SHAPE(b_rows, b_columns), .pitch = b_columns + row->pad, .fill = row->fill,
	                 .narrow = bf16 & B);
	if (row->bias)
		x.bias = conform_in(c, "bias", SHAPE(row->n), .fill = row->fill);
	x.c = conform_tensor(c, &(const struct conform_spec){.name = "c",
	                                                     .role = row->accumulate ? CONFORM_INOUT : CONFORM_OUT,
	                                                     SHAPE(row->m, row->n),
	                                                     .pitch = row->n + row->pad,
	                                                     .fill = row->fill,
	                                                     .narrow = bf16 & C,
	                                                     .tolerance = tolerance_of(row),
	                                                     .terms = row->fill == FILL_UNIT});
	conform_call(c, PS_OP_gemm, &x, sizeof x);
}

/* The combinations that training has first: forward, gradient of the input, gradient of the weights. */
#define PRODUCT(name, trans_a, trans_b, bf16)                        \
	static void name##_body(struct conform *c, const void *data) \
	{                                                            \
		product(c, data, (trans_a), (trans_b), (bf16));      \
	}                                                            \
	START_TEST(name)                                             \
	{                                                            \
		CONFORM_ROWS(gemm, rows, name##_body);               \
	}                                                            \
	END_TEST
PRODUCT(forward, false, true, B)
PRODUCT(backward, false, false, B)
PRODUCT(weight, true, false, 0)
PRODUCT(weight_bf16, true, false, C)
PRODUCT(by_math, false, true, 0)
PRODUCT(both, true, true, A | B)
PRODUCT(all, false, false, A | B | C)
PRODUCT(left, true, true, A)

/* --- embedding ------------------------------------------------------------------------------------------------- */

struct embedding_row {
	int64_t rows, time, width, vocabulary;
	bool accumulate;
	struct conform_drop drop;
};

static const struct embedding_row embedding_rows[] = {
        {1, 1, 1, 1, false, {0, 0, 0, 0}},           {3, 5, 7, 4, true, {0.2F, 0, 3, 1}},
        {7, 9, 33, 5, false, {0.5F, 4, 149, 11}},    {4, 35, 512, 100, true, {0.2F, 8, 2, 0}},
        {20, 25, 129, 1000, false, {0.2F, 0, 0, 0}},
};

static void embedding_fwd_body(struct conform *c, const void *data)
{
	const struct embedding_row *row = data;
	if (c->dtype != PS_F32)
		return;
	conform_run(c, embedding_fwd,
	            .tokens = conform_in(c, "tokens", SHAPE(row->rows, row->time), .bound = row->vocabulary),
	            .weight = conform_in(c, "weight", SHAPE(row->vocabulary, row->width), .narrow = true),
	            .positions = conform_in(c, "positions", SHAPE(row->time, row->width)),
	            .y = conform_out(c, "y", SHAPE(row->rows, row->time, row->width), .tolerance = CONFORM_CLOSE,
	                             .zeros = true),
	            .scale = 5.5, .drop = conform_dropout(&row->drop));
}

START_TEST(embedding_fwd)
{
	CONFORM_ROWS(embedding_fwd, embedding_rows, embedding_fwd_body);
}
END_TEST

static void embedding_bwd_weight_body(struct conform *c, const void *data)
{
	const struct embedding_row *row = data;
	if (c->dtype != PS_F32)
		return;
	struct conform_tolerance tolerance = conform_sum_tolerance(row->rows * row->time);
	conform_run(c, embedding_bwd_weight,
	            .tokens = conform_in(c, "tokens", SHAPE(row->rows, row->time), .bound = row->vocabulary),
	            .dy = conform_in(c, "dy", SHAPE(row->rows, row->time, row->width)),
	            .dweight = conform_tensor(
	                    c, &(const struct conform_spec){.name = "dweight",
	                                                    .role = row->accumulate ? CONFORM_INOUT : CONFORM_OUT,
	                                                    SHAPE(row->vocabulary, row->width),
	                                                    .narrow = true,
	                                                    .tolerance = tolerance}),
	            .scale = 5.5, .accumulate = row->accumulate, .drop = conform_dropout(&row->drop));
}

START_TEST(embedding_bwd_weight)
{
	CONFORM_ROWS(embedding_bwd_weight, embedding_rows, embedding_bwd_weight_body);
}
END_TEST

/* --- the optimizer --------------------------------------------------------------------------------------------- */

struct update_row {
	int64_t count;
	enum conform_fill fill;
};

static const struct update_row update_rows[] = {
        {1, FILL_UNIT},     {7, FILL_SPECIAL},  {33, FILL_LARGE},     {1000, FILL_SPECIAL},
        {4099, FILL_WHOLE}, {65537, FILL_UNIT}, {1000003, FILL_UNIT}, {65536 * 3, FILL_TINY},
};

static void sum_squares_body(struct conform *c, const void *data)
{
	const struct update_row *row = data;
	if (c->dtype != PS_F32)
		return;
	conform_run(
	        c, sum_squares, .x = conform_in(c, "x", SHAPE(row->count), .fill = row->fill, .narrow = true),
	        .out = conform_out(c, "out", SHAPE(1), .wide = true, .tolerance = conform_sum_tolerance(row->count)));
}

START_TEST(sum_squares)
{
	CONFORM_ROWS(sum_squares, update_rows, sum_squares_body);
}
END_TEST

/* The same bits on every device: no tolerance. */
static void sgd_body(struct conform *c, const void *data)
{
	const struct update_row *row = data;
	if (c->dtype != PS_F32)
		return;
	conform_run(c, sgd, .w = conform_inout(c, "w", SHAPE(row->count), .fill = row->fill, .narrow = true),
	            .g = conform_in(c, "g", SHAPE(row->count), .fill = row->fill, .narrow = true),
	            .scale = conform_in(c, "scale", SHAPE(1), .wide = true, .fill = FILL_POSITIVE), .lr = 4.75,
	            .place = {.seed = conform_seed(), .step = 12, .layer = 3, .site = PS_RANDOM_SITE_PARAMETER + 2});
}

START_TEST(sgd)
{
	CONFORM_ROWS(sgd, update_rows, sgd_body);
}
END_TEST

/* fp32 weights with a copy, which is one rounding away from them. */
static void sgd_copy_body(struct conform *c, const void *data)
{
	const struct update_row *row = data;
	if (c->dtype != PS_F32 || row->fill == FILL_SPECIAL)
		return;
	conform_run(c, sgd,
	            .w = conform_inout(c, "w", SHAPE(row->count), .fill = row->fill, .tolerance = {3e-7, 0},
	                               .terms = row->fill == FILL_UNIT),
	            .g = conform_in(c, "g", SHAPE(row->count), .fill = row->fill),
	            .copy = conform_out(c, "copy", SHAPE(row->count), .narrow = true, .tolerance = {3e-7, 0}),
	            .scale = conform_in(c, "scale", SHAPE(1), .wide = true, .fill = FILL_POSITIVE), .lr = 4.75);
}

START_TEST(sgd_copy)
{
	CONFORM_ROWS(sgd, update_rows, sgd_copy_body);
}
END_TEST

/* The copy is exactly the rounded weight, on every device. */
START_TEST(copy_is_the_rounded_weight)
{
	size_t count;
	const char *const *names = conform_devices(&count);
	for (size_t d = 0; d <= count; d++) {
		enum { N = 1 << 14 };
		struct rig rig;
		static float w[N];
		static uint16_t copy[N];
		rig_open(&rig, d == 0 ? "ref" : names[d - 1]);
		if (ps_queue_set_math(rig.queue, PS_MATH_BF16) == PS_OK) {
			ps_tensor weights = rig_tensor(&rig, PS_F32, RIG_DIMS(N), NULL);
			ps_tensor copies = rig_tensor(&rig, PS_BF16, RIG_DIMS(N), NULL);
			rig_run(&rig, sgd, .w = weights, .g = rig_tensor(&rig, PS_F32, RIG_DIMS(N), NULL),
			        .copy = copies, .scale = rig_tensor(&rig, PS_F64, RIG_DIMS(1), (double[]){0.1}),
			        .lr = 1);
			rig_bytes(&rig, weights, w);
			rig_bytes(&rig, copies, copy);
			for (int i = 0; i < N; i++)
				ck_assert_uint_eq(copy[i], ps_bf16_round(w[i]));
		}
		rig_close(&rig);
	}
}
END_TEST

/*
 * Stochastic rounding on average: N weights of 1 take a step of s / 128 of their spacing. Rounding up is a coin with
 * probability s, so the mean of N is within 5 standard deviations, sqrt(s (1 - s) / N), of s; nearest gives 0 or 1.
 */
START_TEST(rounding_is_unbiased)
{
	size_t count;
	const char *const *names = conform_devices(&count);
	static const double parts[] = {0, 1.0 / 65536, 0.01, 0.25, 0.5, 0.9, 1};
	enum { N = 1 << 18 };
	const double spacing = 1.0 / 128;
	double *ones = calloc(N, sizeof *ones), *gradients = calloc(N, sizeof *gradients);
	ck_assert(ones && gradients);
	for (int i = 0; i < N; i++) {
		ones[i] = i % 2 ? 1 : -1;
		gradients[i] = -ones[i];
	}
	for (size_t d = 0; d <= count; d++) {
		struct rig rig;
		rig_open(&rig, d == 0 ? "ref" : names[d - 1]);
		bool able = ps_queue_set_math(rig.queue, PS_MATH_BF16) == PS_OK;
		for (size_t p = 0; able && p < sizeof parts / sizeof *parts; p++) {
			ps_tensor w = rig_tensor(&rig, PS_BF16, RIG_DIMS(N), ones);
			double *got = malloc(N * sizeof *got), sum = 0;
			rig_run(&rig, sgd, .w = w, .g = rig_tensor(&rig, PS_BF16, RIG_DIMS(N), gradients),
			        .scale = rig_tensor(&rig, PS_F64, RIG_DIMS(1), (double[]){1}), .lr = parts[p] * spacing,
			        .place = {.seed = 7, .step = (uint32_t)p, .layer = 1, .site = 128});
			rig_get(&rig, w, got);
			for (int i = 0; i < N; i++)
				sum += (fabs(got[i]) - 1) / spacing;
			double mean = sum / N, allowed = 5 * sqrt(parts[p] * (1 - parts[p]) / N);
			ck_assert_msg(fabs(mean - parts[p]) <= allowed,
			              "%s: %g of a spacing became %g on average, allowed %g off",
			              ps_queue_label(rig.queue), parts[p], mean, allowed);
			free(got);
		}
		rig_close(&rig);
	}
	free(gradients);
	free(ones);
}
END_TEST

/* The example of docs/random.md. */
START_TEST(documented_bits)
{
	static const char up[] = "00000000110010100001010010010000";
	double ones[32], gradients[32], got[32];
	struct rig rig;
	for (int i = 0; i < 32; i++) {
		ones[i] = 1;
		gradients[i] = -1;
	}
	rig_open(&rig, "ref");
	ps_tensor w = rig_tensor(&rig, PS_BF16, RIG_DIMS(32), ones);
	rig_run(&rig, sgd, .w = w, .g = rig_tensor(&rig, PS_BF16, RIG_DIMS(32), gradients),
	        .scale = rig_tensor(&rig, PS_F64, RIG_DIMS(1), (double[]){1}), .lr = 1.0 / 1024,
	        .place = {.seed = 7, .step = 5, .layer = 1, .site = PS_RANDOM_SITE_PARAMETER});
	rig_get(&rig, w, got);
	for (int i = 0; i < 32; i++)
		ck_assert_double_eq(got[i], up[i] == '1' ? 1.0078125 : 1);
	rig_close(&rig);
}
END_TEST

/*
 * Weights of 1 with the loss (w - 1.5)^2 / 2 and steps of 1/1000: less than half the distance to the next bf16 number,
 * so that rounding to the nearest would leave them where they are for ever. Rounded at random they get there.
 */
START_TEST(small_steps_add_up)
{
	enum { N = 1024, STEPS = 4000 };
	const double rate = 1e-3, target = 1.5;
	ck_assert_uint_eq(ps_bf16_round((float)(1 + rate * (target - 1))), ps_bf16_round(1));
	struct rig rig;
	double w[N], mean = 0;
	uint16_t weights[N], gradients[N];
	rig_open(&rig, "ref");
	for (int i = 0; i < N; i++)
		w[i] = 1;
	ps_tensor value = rig_tensor(&rig, PS_BF16, RIG_DIMS(N), w),
	          gradient = rig_tensor(&rig, PS_BF16, RIG_DIMS(N), w);
	ps_tensor scale = rig_tensor(&rig, PS_F64, RIG_DIMS(1), (double[]){1});
	for (uint32_t step = 0; step < STEPS; step++) {
		rig_bytes(&rig, value, weights);
		for (int i = 0; i < N; i++)
			gradients[i] = ps_bf16_round(ps_bf16_widen(weights[i]) - (float)target);
		check_ok(ps_queue_write(rig.queue, gradient, gradients));
		rig_run(&rig, sgd, .w = value, .g = gradient, .scale = scale, .lr = rate,
		        .place = {.seed = 3, .step = step});
	}
	rig_get(&rig, value, w);
	for (int i = 0; i < N; i++)
		mean += w[i] / N;
	/* (1 - rate)^STEPS of the way is left: 1.8 %. */
	ck_assert_double_eq_tol(mean, target - 0.5 * pow(1 - rate, STEPS), 0.005);
	rig_close(&rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("bf16");
	TCase *tests = tcase_create("conformance");
	tcase_add_test(tests, forward);
	tcase_add_test(tests, backward);
	tcase_add_test(tests, weight);
	tcase_add_test(tests, weight_bf16);
	tcase_add_test(tests, by_math);
	tcase_add_test(tests, both);
	tcase_add_test(tests, all);
	tcase_add_test(tests, left);
	tcase_add_test(tests, embedding_fwd);
	tcase_add_test(tests, embedding_bwd_weight);
	tcase_add_test(tests, sum_squares);
	tcase_add_test(tests, sgd);
	tcase_add_test(tests, sgd_copy);
	tcase_add_test(tests, copy_is_the_rounded_weight);
	tcase_add_test(tests, rounding_is_unbiased);
	tcase_add_test(tests, documented_bits);
	tcase_add_test(tests, small_steps_add_up);
	suite_add_tcase(suite, tests);
	return conform_suite_run(suite);
}
