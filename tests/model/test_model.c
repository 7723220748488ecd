/* The Transformer as published: names, sizes, start values; and sizes that are refused. */
#include "tests/support/check.h"

#include <penstock/model.h>
#include <penstock/pipeline.h>

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The sizes of the published tutorial. */
static const ps_transformer_config published = {.vocabulary = 28782,
                                                .emsize = 4096,
                                                .nhead = 16,
                                                .nhid = 4096,
                                                .nlayers = 12,
                                                .dropout = 0.2,
                                                .causal = true,
                                                .max_time = 25};

START_TEST(test_published_size)
{
	ps_model model;
	check_ok(ps_transformer_create(&model, &published));
	ck_assert_int_eq(ps_model_parameter_elements(&model), 1444261998);
	ck_assert_int_eq(model.layer_count, 14);
	int parameters = 0;
	for (int l = 0; l < model.layer_count; l++) {
		ck_assert_uint_eq(model.layers[l]->index, (uint32_t)l);
		parameters += model.layers[l]->parameter_count;
	}
	ck_assert_int_eq(parameters, 1 + 12 * 12 + 2);
	/* The work of encoder layers is all the same, and that of the decoder about that of one and a quarter. */
	ps_shape in = {PS_F32, 2, {25, 4096}};
	ps_layer_plan layer = {0}, decoder = {0};
	check_ok(model.layers[3]->impl->plan(model.layers[3], &in, PS_F32, &layer));
	check_ok(model.layers[13]->impl->plan(model.layers[13], &in, PS_F32, &decoder));
	ck_assert_double_eq_tol(layer.forward_flops, 2.0 * 25 * 6 * 4096 * 4096, 2e-2 * layer.forward_flops);
	ck_assert_double_eq_tol(decoder.forward_flops, 2.0 * 25 * 28782 * 4096, 1e-9 * decoder.forward_flops);
	ps_model_finish(&model);
	ck_assert_ptr_null(model.layers);
	ps_model_finish(&model);
}
END_TEST

/*
 * First and last element of every parameter for seed 42 and these sizes, from docs/random.md by an implementation of
 * its own, tests/reference/philox.py; `bound`: the range that the published model draws from, or the constant value.
 */
static const struct {
	const char *name;
	int64_t rows, columns;
	float first, last;
	double bound;
	bool constant;
} start[] = {
        {"encoder.weight", 13, 8, -0.012899743F, -0.016741415F, 0.1, false},
        {"layers.0.self_attn.in_proj_weight", 24, 8, -0.14598124F, 0.18616824F, 0.43301270189221935, false},
        {"layers.0.self_attn.in_proj_bias", 24, 1, 0, 0, 0, true},
        {"layers.0.self_attn.out_proj.weight", 8, 8, -0.21382862F, -0.12181691F, 0.35355339059327373, false},
        {"layers.0.self_attn.out_proj.bias", 8, 1, 0, 0, 0, true},
        {"layers.0.linear1.weight", 12, 8, 0.23955445F, -0.12256803F, 0.35355339059327373, false},
        {"layers.0.linear1.bias", 12, 1, 0.25960222F, -0.26665196F, 0.35355339059327373, false},
        {"layers.0.linear2.weight", 8, 12, -0.0021100705F, -0.23079765F, 0.28867513459481287, false},
        {"layers.0.linear2.bias", 8, 1, -0.018746765F, 0.060856637F, 0.28867513459481287, false},
        {"layers.0.norm1.weight", 8, 1, 1, 1, 1, true},
        {"layers.0.norm1.bias", 8, 1, 0, 0, 0, true},
        {"layers.0.norm2.weight", 8, 1, 1, 1, 1, true},
        {"layers.0.norm2.bias", 8, 1, 0, 0, 0, true},
        {"decoder.weight", 13, 8, 0.066192575F, 0.061816268F, 0.1, false},
        {"decoder.bias", 13, 1, 0, 0, 0, true},
};
enum { PARAMETERS = sizeof start / sizeof *start };

static void check_start(const float *values, int64_t count, int i)
{
	double sum = 0, most = 0;
	ck_assert(values[0] == start[i].first);
	ck_assert(values[count - 1] == start[i].last);
	for (int64_t k = 0; k < count; k++) {
		if (start[i].constant)
			ck_assert(values[k] == (float)start[i].bound);
		sum += values[k];
		most = fmax(most, fabs((double)values[k]));
	}
	if (start[i].constant)
		return;
	ck_assert_msg(most <= start[i].bound, "%s: %g is out of range", start[i].name, most);
	ck_assert_msg(most > 0.6 * start[i].bound, "%s: the range is not used", start[i].name);
	/* Six standard deviations of the mean of uniform values. */
	ck_assert_msg(fabs(sum / (double)count) < 6 * start[i].bound / sqrt(3.0 * (double)count), "%s: the mean is %g",
	              start[i].name, sum / (double)count);
}

/* On one rank and cut, in both dtypes: fp64 has the very values of fp32. */
START_TEST(test_start_values)
{
	const ps_transformer_config sizes = {
	        .vocabulary = 13, .emsize = 8, .nhead = 2, .nhid = 12, .nlayers = 1, .max_time = 2};
	const char *const devices[] = {"ref", "ref", "ref"};
	ps_model model;
	check_ok(ps_transformer_create(&model, &sizes));
	ps_pipeline_config config = {.layers = model.layers,
	                             .layer_count = model.layer_count,
	                             .devices = devices,
	                             .rank_count = _i % 2 ? 3 : 1,
	                             .dtype = _i / 2 ? PS_F64 : PS_F32,
	                             .seed = 42,
	                             .rows = 1,
	                             .time = 2};
	ps_pipeline *pipeline;
	check_ok(ps_pipeline_create(&pipeline, &config));
	check_ok(ps_pipeline_initialize(pipeline));
	ck_assert_int_eq(ps_pipeline_parameter_count(pipeline), PARAMETERS);
	ck_assert_int_eq(ps_pipeline_parameter_elements(pipeline), ps_model_parameter_elements(&model));
	for (int i = 0; i < PARAMETERS; i++) {
		ps_parameter_view view;
		float values[256];
		double wide[256];
		int64_t count = start[i].rows * start[i].columns;
		ps_pipeline_get_parameter(pipeline, i, &view);
		ck_assert_str_eq(view.name, start[i].name);
		ck_assert_int_eq(ps_tensor_count(view.value), count);
		ck_assert_int_eq(view.value.dims[0], start[i].rows);
		check_ok(ps_pipeline_read_parameter(pipeline, i, _i / 2 ? (void *)wide : (void *)values));
		for (int64_t k = 0; k < count && _i / 2; k++) {
			values[k] = (float)wide[k];
			ck_assert(values[k] == wide[k]);
		}
		check_start(values, count, i);
	}
	ps_pipeline_destroy(pipeline);
	ps_model_finish(&model);
}
END_TEST

/* More values than are made at a time: the pieces fit together, whoever makes them. */
START_TEST(test_start_values_of_a_large_parameter)
{
	enum { VOCABULARY = 66000, WIDTH = 34 };
	const char *const devices[] = {"ref"};
	ps_layer *layers[2];
	check_ok(ps_embedding_create(&layers[0], 5, VOCABULARY, WIDTH, 1, 0));
	check_ok(ps_decoder_create(&layers[1], 6, 2, WIDTH));
	const ps_pipeline_config config = {.layers = layers,
	                                   .layer_count = 2,
	                                   .devices = devices,
	                                   .rank_count = 1,
	                                   .seed = UINT64_C(0x123456789ABCDEF),
	                                   .rows = 1,
	                                   .time = 1};
	ps_pipeline *pipeline;
	float *values = malloc((size_t)VOCABULARY * WIDTH * sizeof *values);
	ck_assert_ptr_nonnull(values);
	check_ok(ps_pipeline_create(&pipeline, &config));
	check_ok(ps_pipeline_initialize(pipeline));
	check_ok(ps_pipeline_read_parameter(pipeline, 0, values));
	const ps_random_place place = {
	        .seed = config.seed, .step = PS_RANDOM_STEP_INIT, .layer = 5, .site = PS_RANDOM_SITE_PARAMETER};
	int64_t wrong = 0;
	for (int64_t i = 0; i < (int64_t)VOCABULARY * WIDTH; i++) {
		double unit = ps_random_word(&place, 0, (uint64_t)i) / 4294967296.0;
		wrong += values[i] != (float)(-0.1 + 0.2 * unit);
	}
	ck_assert_int_eq(wrong, 0);
	free(values);
	ps_pipeline_destroy(pipeline);
	ps_layer_destroy(layers[0]);
	ps_layer_destroy(layers[1]);
}
END_TEST

/* A size each that is wrong, in place of the published one. */
static const struct {
	ps_transformer_config config;
	const char *message;
} refused[] = {
        {{1, 8, 2, 8, 1, 0, true, 5}, "a vocabulary of 1; it should be 2 to 2^31 - 1"},
        {{(int64_t)1 << 31, 8, 2, 8, 1, 0, true, 5}, "a vocabulary of 2147483648"},
        {{INT64_MIN, 8, 2, 8, 1, 0, true, 5}, "a vocabulary of -"},
        {{9, 7, 1, 8, 1, 0, true, 5}, "emsize 7; it should be an even number"},
        {{9, 0, 1, 8, 1, 0, true, 5}, "emsize 0"},
        {{9, INT64_MAX - 1, 1, 8, 1, 0, true, 5}, "emsize 9223372036854775806"},
        {{9, 8, 3, 8, 1, 0, true, 5}, "nhead 3 does not divide emsize 8"},
        {{9, 8, 0, 8, 1, 0, true, 5}, "nhead 0 does not divide"},
        {{9, 8, -2, 8, 1, 0, true, 5}, "nhead -2 does not divide"},
        {{9, 8, 16, 8, 1, 0, true, 5}, "nhead 16 does not divide"},
        {{9, 8, 2, 0, 1, 0, true, 5}, "nhid 0; it should be 1 to 2^24"},
        {{9, 8, 2, INT64_MAX, 1, 0, true, 5}, "nhid 9223372036854775807"},
        {{9, 8, 2, 8, 0, 0, true, 5}, "nlayers 0; it should be 1 to 100000"},
        {{9, 8, 2, 8, INT32_MAX, 0, true, 5}, "nlayers 2147483647"},
        {{9, 8, 2, 8, 1, 1, true, 5}, "dropout 1; it should be at least 0 and below 1"},
        {{9, 8, 2, 8, 1, -0.1, true, 5}, "dropout -0.1"},
        {{9, 8, 2, 8, 1, NAN, true, 5}, "dropout "},
        {{9, 8, 2, 8, 1, 0, true, 0}, "0 time steps; there should be 1 to 2^20"},
        {{9, 8, 2, 8, 1, 0, true, INT64_MAX}, "9223372036854775807 time steps"},
};

START_TEST(test_refused_sizes)
{
	ps_model model;
	check_fails(ps_transformer_create(&model, &refused[_i].config), PS_EINVAL);
	check_message(refused[_i].message);
	ck_assert_ptr_null(model.layers);
	ck_assert_int_eq(model.layer_count, 0);
}
END_TEST

/* Every size is allowed by itself, but the bytes of all cannot be counted. */
START_TEST(test_beyond_counting)
{
	const ps_transformer_config sizes = {.vocabulary = INT32_MAX,
	                                     .emsize = 1 << 20,
	                                     .nhead = 1 << 20,
	                                     .nhid = 1 << 24,
	                                     .nlayers = 3000,
	                                     .max_time = 1 << 20};
	const char *const devices[] = {"ref"};
	ps_model model;
	check_ok(ps_transformer_create(&model, &sizes));
	ps_pipeline_config config = {.layers = model.layers,
	                             .layer_count = model.layer_count,
	                             .devices = devices,
	                             .rank_count = 1,
	                             .rows = 2000,
	                             .time = 1 << 19};
	ps_pipeline *pipeline;
	check_fails(ps_pipeline_create(&pipeline, &config), PS_ETOOBIG);
	check_message("a model and batch of these sizes would take ");
	config.time = 1;
	check_fails(ps_pipeline_create(&pipeline, &config), PS_ETOOBIG);
	check_message("GiB");
	ps_model_finish(&model);
}
END_TEST

START_TEST(test_refused_layers)
{
	ps_layer *layer;
	check_fails(ps_encoder_layer_create(&layer, 1, "a name that is longer than the forty-seven bytes there are", 8,
	                                    2, 8, 0, true),
	            PS_EINVAL);
	check_message("is too long; it may have 47 bytes");
	ck_assert_ptr_null(layer);
	/* Layers that do not fit together are refused when the pipeline is planned. */
	ps_layer *layers[3];
	const char *const devices[] = {"ref"};
	check_ok(ps_embedding_create(&layers[0], 0, 9, 8, 4, 0));
	check_ok(ps_encoder_layer_create(&layers[1], 1, "layers.0", 6, 2, 8, 0, true));
	check_ok(ps_decoder_create(&layers[2], 2, 9, 8));
	ps_pipeline_config config = {
	        .layers = layers, .layer_count = 3, .devices = devices, .rank_count = 1, .rows = 2, .time = 4};
	ps_pipeline *pipeline;
	check_fails(ps_pipeline_create(&pipeline, &config), PS_EINVAL);
	check_message("layer layers.0 takes (time, 6)");
	config.time = 5;
	check_fails(ps_pipeline_create(&pipeline, &config), PS_EINVAL);
	check_message("layer encoder takes int32 (time) with time up to 4");
	config.time = 4;
	config.layer_count = 1;
	check_fails(ps_pipeline_create(&pipeline, &config), PS_EINVAL);
	check_message("layer encoder is the last but has no losses");
	for (int i = 0; i < 3; i++)
		ps_layer_destroy(layers[i]);
	ps_layer_destroy(NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("model");
	TCase *cases = tcase_create("model");
	tcase_set_timeout(cases, 120);
	tcase_add_test(cases, test_published_size);
	tcase_add_loop_test(cases, test_start_values, 0, 4);
	tcase_add_test(cases, test_start_values_of_a_large_parameter);
	tcase_add_loop_test(cases, test_refused_sizes, 0, (int)(sizeof refused / sizeof *refused));
	tcase_add_test(cases, test_beyond_counting);
	tcase_add_test(cases, test_refused_layers);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
