/*
 * Gradients against finite differences in double on the reference: every parameter of every layer and, through the
 * embedding of tokens that come once each, every layer's input. And the two halves of a backward against the whole.
 */
#include "pipeline/internal.h"
#include "tests/model/norm_layer.h"
#include "tests/support/check.h"

#include <penstock/model.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 3, TIME = 4, TOKENS = ROWS * TIME, VOCABULARY = TOKENS + 1, EMSIZE = 6, HEADS = 3, NHID = 5 };

struct variant {
	int encoder_layers; /* -1: the worked example in their place */
	double dropout;
	bool causal;
	int64_t time;
};

static ps_model model;
static ps_pipeline *pipeline;
static int32_t inputs[TOKENS], targets[TOKENS];

static void open_pipeline(const struct variant *variant, ps_dtype dtype, int chunks, int group, const char *schedule)
{
	static const char *const devices[] = {"ref"};
	bool example = variant->encoder_layers < 0;
	model.layer_count = example ? 3 : variant->encoder_layers + 2;
	model.layers = calloc((size_t)model.layer_count, sizeof(ps_layer *));
	ck_assert_ptr_nonnull(model.layers);
	uint32_t last = (uint32_t)model.layer_count - 1;
	check_ok(ps_embedding_create(&model.layers[0], 0, VOCABULARY, EMSIZE, TIME, variant->dropout));
	if (example)
		check_ok(norm_layer_create(&model.layers[1], 1, EMSIZE));
	for (uint32_t l = 1; l < last && !example; l++)
		check_ok(ps_encoder_layer_create(&model.layers[l], l, "layers.0", EMSIZE, HEADS, NHID, variant->dropout,
		                                 variant->causal));
	check_ok(ps_decoder_create(&model.layers[last], last, VOCABULARY, EMSIZE));
	const ps_pipeline_config config = {.layers = model.layers,
	                                   .layer_count = model.layer_count,
	                                   .devices = devices,
	                                   .rank_count = 1,
	                                   .schedule = schedule,
	                                   .chunks = chunks,
	                                   .weight_group = group,
	                                   .dtype = dtype,
	                                   .seed = 3,
	                                   .rows = ROWS,
	                                   .eval_rows = ROWS,
	                                   .time = TIME};
	check_ok(ps_pipeline_create(&pipeline, &config));
	check_ok(ps_pipeline_initialize(pipeline));
	for (int i = 0; i < TOKENS; i++) {
		inputs[i] = (i * 5 + 2) % TOKENS;
		targets[i] = (i * 7 + 3) % VOCABULARY;
	}
}

static void close_pipeline(void)
{
	ps_pipeline_destroy(pipeline);
	ps_model_finish(&model);
}

static double train(int64_t time)
{
	double loss;
	const ps_batch batch = {.inputs = inputs, .targets = targets, .rows = ROWS, .time = time, .step = 9};
	check_ok(ps_pipeline_train(pipeline, &batch, &loss));
	return loss;
}

static int64_t count_of(int index)
{
	ps_parameter_view view;
	ps_pipeline_get_parameter(pipeline, index, &view);
	return ps_tensor_count(view.value);
}

/* Larger and other values than the start has, so that no gradient vanishes: norms and biases are not 1 and 0. */
static void scatter(void)
{
	uint64_t state = 11;
	for (int i = 0; i < ps_pipeline_parameter_count(pipeline); i++) {
		int64_t count = count_of(i);
		double *values = malloc((size_t)count * sizeof *values);
		ck_assert_ptr_nonnull(values);
		check_ok(ps_pipeline_read_parameter(pipeline, i, values));
		for (int64_t k = 0; k < count; k++) {
			state = state * UINT64_C(6364136223846793005) + 1;
			values[k] += 0.8 * ((double)(state >> 33) / 2147483648.0 - 0.5);
		}
		check_ok(ps_pipeline_write_parameter(pipeline, i, values));
		free(values);
	}
}

static double difference(int index, double *values, int64_t at, int64_t time)
{
	const double step = 1e-5;
	double kept = values[at], loss[2];
	for (int side = 0; side < 2; side++) {
		values[at] = kept + (side ? step : -step);
		check_ok(ps_pipeline_write_parameter(pipeline, index, values));
		loss[side] = train(time);
	}
	values[at] = kept;
	check_ok(ps_pipeline_write_parameter(pipeline, index, values));
	return (loss[1] - loss[0]) / (2 * step);
}

static const struct variant variants[] = {
        {0, 0, true, TIME},   {0, 0.3, true, TIME}, {1, 0, true, TIME},   {1, 0, false, TIME},
        {1, 0.3, true, TIME}, {1, 0.3, false, 3},   {2, 0.2, true, TIME}, {-1, 0.2, true, TIME},
};

START_TEST(test_finite_differences)
{
	const struct variant *variant = &variants[_i];
	open_pipeline(variant, PS_F64, 2, 0, NULL);
	scatter();
	train(variant->time);
	for (int i = 0; i < ps_pipeline_parameter_count(pipeline); i++) {
		int64_t count = count_of(i);
		double *values = malloc((size_t)count * sizeof *values);
		double *gradient = malloc((size_t)count * sizeof *gradient), largest = 0;
		ck_assert(values && gradient);
		ps_parameter_view view;
		ps_pipeline_get_parameter(pipeline, i, &view);
		train(variant->time);
		check_ok(ps_pipeline_read_parameter(pipeline, i, values));
		check_ok(ps_pipeline_read_gradient(pipeline, i, gradient));
		for (int64_t k = 0; k < count; k++) {
			double expected = difference(i, values, k, variant->time);
			double error = fabs(gradient[k] - expected);
			ck_assert_msg(error <= 2e-9 + 1e-6 * fabs(expected),
			              "%s, element %lld: the gradient is %.12g, the difference %.12g", view.name,
			              (long long)k, gradient[k], expected);
			largest = fmax(largest, fabs(expected));
		}
		/* Of the in-projection's bias, the part of the keys has none: softmax does not see it. */
		ck_assert_msg(largest > 1e-5, "%s has no gradient", view.name);
		free(values);
		free(gradient);
	}
	close_pipeline();
}
END_TEST

static void read_gradients(float **out, size_t *count)
{
	*count = (size_t)ps_pipeline_parameter_elements(pipeline);
	*out = malloc(*count * sizeof **out);
	ck_assert_ptr_nonnull(*out);
	size_t at = 0;
	for (int i = 0; i < ps_pipeline_parameter_count(pipeline); at += (size_t)count_of(i++))
		check_ok(ps_pipeline_read_gradient(pipeline, i, *out + at));
}

/* Gradients of one step: in one micro-batch or three, W fused (0) or with each B as gpipe has it (-1). */
static void gradients_of(const struct variant *variant, int chunks, int group, float **out, size_t *count)
{
	open_pipeline(variant, PS_F32, chunks, group, "gpipe");
	const ps_schedule *schedule = ps_pipeline_get_schedule(pipeline);
	int expected = group < 0 ? PS_ACTION_BW : PS_ACTION_W;
	ck_assert_int_eq(schedule->rank[0].actions[schedule->rank[0].count - 1].kind, expected);
	train(variant->time);
	read_gradients(out, count);
	close_pipeline();
}

START_TEST(test_halves)
{
	const struct variant *variant = &variants[_i];
	float *whole, *one, *three;
	size_t count, same;
	gradients_of(variant, 1, -1, &one, &count);
	gradients_of(variant, 3, 0, &whole, &same);
	ck_assert_uint_eq(count, same);
	ck_assert_msg(!memcmp(one, whole, count * sizeof *one), "B, B, B and one W are not BW bit for bit");
	gradients_of(variant, 3, -1, &three, &same);
	for (size_t i = 0; i < count; i++)
		ck_assert_msg(fabsf(three[i] - whole[i]) <= 1e-6F + 1e-5F * fabsf(whole[i]),
		              "element %zu: %.9g by micro-batches, %.9g at once", i, (double)three[i],
		              (double)whole[i]);
	free(whole);
	free(one);
	free(three);
}
END_TEST

/* With the mask a position's loss does not depend on later tokens; without it does. */
START_TEST(test_mask)
{
	const struct variant variant = {2, 0, _i == 0, TIME};
	float before[TOKENS], after[TOKENS];
	double sum;
	open_pipeline(&variant, PS_F32, 2, 0, NULL);
	const ps_batch batch = {.inputs = inputs, .targets = targets, .rows = ROWS, .time = TIME};
	check_ok(ps_pipeline_evaluate(pipeline, &batch, &sum));
	memcpy(before, pipeline->last->edges[EDGE_LOSSES].address, sizeof before);
	inputs[TIME + 2] = VOCABULARY - 1;
	check_ok(ps_pipeline_evaluate(pipeline, &batch, &sum));
	memcpy(after, pipeline->last->edges[EDGE_LOSSES].address, sizeof after);
	for (int i = 0; i < TOKENS; i++) {
		bool sees = i / TIME == 1 && (!variant.causal || i % TIME >= 2);
		ck_assert_msg((before[i] != after[i]) == sees, "position %d", i);
	}
	close_pipeline();
}
END_TEST

/* Dropout is of training alone: an evaluation is that of a model without. */
START_TEST(test_evaluation_has_no_dropout)
{
	struct variant variant = {1, 0.4, true, TIME};
	double with, without, loss_with, loss_without;
	const ps_batch batch = {.inputs = inputs, .targets = targets, .rows = ROWS, .time = TIME};
	open_pipeline(&variant, PS_F32, 2, 0, NULL);
	check_ok(ps_pipeline_evaluate(pipeline, &batch, &with));
	loss_with = train(TIME);
	close_pipeline();
	variant.dropout = 0;
	open_pipeline(&variant, PS_F32, 2, 0, NULL);
	check_ok(ps_pipeline_evaluate(pipeline, &batch, &without));
	loss_without = train(TIME);
	close_pipeline();
	ck_assert(with == without);
	ck_assert(loss_with != loss_without);
	ck_assert(fabs(without / TOKENS - loss_without) < 1e-6);
}
END_TEST

static char *read_file(const char *path)
{
	static char text[1 << 16];
	FILE *file = fopen(path, "r");
	ck_assert_msg(file != NULL, "%s cannot be read", path);
	size_t length = fread(text, 1, sizeof text - 1, file);
	ck_assert_int_eq(fclose(file), 0);
	text[length] = '\0';
	char *copy = malloc(length + 1);
	ck_assert_ptr_nonnull(copy);
	memcpy(copy, text, length + 1);
	return copy;
}

/* The code in docs/add-a-layer.md is that of the layer that is tested. */
START_TEST(test_worked_example)
{
	char *page = read_file(PS_SOURCE_FOLDER "/docs/add-a-layer.md");
	char *code = read_file(PS_SOURCE_FOLDER "/tests/model/norm_layer.c");
	int blocks = 0;
	for (char *at = strstr(page, "```c\n"); at; at = strstr(at, "```c\n")) {
		char *begin = at + 5, *end = strstr(begin, "```");
		ck_assert_ptr_nonnull(end);
		*end = '\0';
		ck_assert_msg(strstr(code, begin) != NULL, "this is not in the layer's file:\n%s", begin);
		at = end + 1;
		blocks++;
	}
	ck_assert_int_ge(blocks, 5);
	free(page);
	free(code);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("layers");
	TCase *cases = tcase_create("layers");
	tcase_set_timeout(cases, 300);
	int count = (int)(sizeof variants / sizeof *variants);
	tcase_add_loop_test(cases, test_finite_differences, 0, count);
	tcase_add_loop_test(cases, test_halves, 0, count);
	tcase_add_loop_test(cases, test_mask, 0, 2);
	tcase_add_test(cases, test_evaluation_has_no_dropout);
	tcase_add_test(cases, test_worked_example);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
