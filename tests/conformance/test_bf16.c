/* How bf16 is rounded: copies of weights to the nearest, updates at random. */
#include "support/check.h"
#include "support/conform.h"
#include "support/rig.h"

#include <penstock/bf16.h>

#include <math.h>
#include <stdlib.h>

/* The copy is exactly the rounded weight, on every device. */
START_TEST(copy_is_the_rounded_weight)
{
	for (int d = 0; d < conform_device_count(); d++) {
		enum { N = 1 << 14 };
		struct rig rig;
		static float w[N];
		static uint16_t copy[N];
		rig_open(&rig, conform_device(d));
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
	static const double parts[] = {0, 1.0 / 65536, 0.01, 0.25, 0.5, 0.9, 1};
	enum { N = 1 << 18 };
	const double spacing = 1.0 / 128;
	double *ones = calloc(N, sizeof *ones), *gradients = calloc(N, sizeof *gradients);
	ck_assert(ones && gradients);
	for (int i = 0; i < N; i++) {
		ones[i] = i % 2 ? 1 : -1;
		gradients[i] = -ones[i];
	}
	for (int d = 0; d < conform_device_count(); d++) {
		struct rig rig;
		rig_open(&rig, conform_device(d));
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
	TCase *tests = tcase_create("rounding");
	tcase_add_test(tests, copy_is_the_rounded_weight);
	tcase_add_test(tests, rounding_is_unbiased);
	tcase_add_test(tests, documented_bits);
	tcase_add_test(tests, small_steps_add_up);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
