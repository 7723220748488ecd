/* A step looked into is the same step, and its parts add up. */
#include "bench/profile.h"
#include "support/check.h"

#include <penstock/model.h>

#include <math.h>

enum { ROWS = 4, TIME = 3, WIDTH = 8, HIDDEN = 16, WORDS = 11, LAYERS = 2, CHUNKS = 2 };

static ps_model model;
static ps_pipeline *pipeline;
static int32_t words[ROWS * TIME];

static void enter(void)
{
	static const char *const devices[] = {"ref", "cpu"};
	const ps_transformer_config config = {.vocabulary = WORDS,
	                                      .emsize = WIDTH,
	                                      .nhead = 2,
	                                      .nhid = HIDDEN,
	                                      .nlayers = LAYERS,
	                                      .dropout = 0.25,
	                                      .causal = true,
	                                      .max_time = TIME};
	check_ok(ps_transformer_create(&model, &config));
	const ps_pipeline_config pipeline_config = {.layers = model.layers,
	                                            .layer_count = model.layer_count,
	                                            .devices = devices,
	                                            .rank_count = 2,
	                                            .chunks = CHUNKS,
	                                            .rows = ROWS,
	                                            .time = TIME};
	check_ok(ps_pipeline_create(&pipeline, &pipeline_config));
	check_ok(ps_pipeline_initialize(pipeline));
	for (int i = 0; i < ROWS * TIME; i++)
		words[i] = i * 7 % WORDS;
}

static void leave(void)
{
	ps_pipeline_destroy(pipeline);
	ps_model_finish(&model);
}

START_TEST(parts_add_up)
{
	const ps_batch batch = {words, words, ROWS, TIME, 5};
	struct bench_profile profile;
	double loss, again, wall, sum = 0;
	check_ok(ps_pipeline_train(pipeline, &batch, &loss));
	check_ok(bench_profile_init(&profile, pipeline));
	check_ok(bench_profile_step(&profile, &batch, false, &again, &wall));
	ck_assert_int_eq(profile.idle.count, 0);
	check_ok(bench_profile_step(&profile, &batch, true, &again, &wall));
	ck_assert_double_eq(loss, again);
	ck_assert_int_eq(profile.times[PS_OP_attention_fwd], CHUNKS * LAYERS);
	ck_assert_int_eq(profile.times[PS_OP_embedding_bwd_weight], 1);
	/* Four linear layers and the decoder: forward and backward for each micro-batch, the weights once. */
	ck_assert_int_eq(profile.times[PS_OP_gemm], (4 * LAYERS + 1) * (2 * CHUNKS + 1));
	for (int op = 0; op < PS_OP_COUNT; op++) {
		ck_assert_int_eq(profile.ops[op].count, profile.times[op] > 0);
		if (profile.times[op] > 0) {
			ck_assert_double_ge(profile.ops[op].values[0], 0);
			sum += profile.ops[op].values[0];
		}
	}
	ck_assert_double_eq_tol(sum + profile.idle.values[0], wall, 1e-9 + 1e-6 * wall);
	for (int i = 0; i < profile.transfer_count; i++)
		ck_assert_int_eq(profile.transfers[i].times, CHUNKS);
	ck_assert_int_eq(profile.transfer_count, 2);
	/* And nothing of it stays. */
	check_ok(ps_pipeline_train(pipeline, &batch, &again));
	ck_assert_double_eq(loss, again);
	bench_profile_finish(&profile);
}
END_TEST

START_TEST(products_of_a_step)
{
	struct bench_products products;
	double seconds = -1;
	check_ok(bench_products_init(&products, pipeline));
	double weights = LAYERS * (4.0 * WIDTH * WIDTH + 2.0 * WIDTH * HIDDEN) + (double)WORDS * WIDTH;
	ck_assert_double_eq(products.flops, 6 * weights * ROWS * TIME);
	check_ok(bench_products_run(&products, &seconds));
	ck_assert_double_gt(seconds, 0);
	bench_products_finish(&products);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("profile");
	TCase *tests = tcase_create("profile");
	tcase_add_checked_fixture(tests, enter, leave);
	tcase_add_test(tests, parts_add_up);
	tcase_add_test(tests, products_of_a_step);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
