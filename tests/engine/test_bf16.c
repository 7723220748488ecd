/*
 * Products and weights in bf16: what is kept in which dtype, copies that follow their weights, what is refused, and the
 * same bits for every cut, schedule, checkpoint mode and number of chunks.
 */
#include "tests/engine/trial.h"

#include <penstock/bf16.h>
#include <penstock/train.h>

#include <stdio.h>
#include <stdlib.h>

enum { STEPS = 2 };

static struct trial trial_of(bool pure)
{
	return (struct trial){.config = {.math = PS_MATH_BF16, .bf16_weights = pure}};
}

static bool is_matrix(const ps_parameter_view *view)
{
	return view->declaration->rank == 2;
}

START_TEST(test_dtypes)
{
	struct trial trial = trial_of(_i);
	uint64_t values = 0, copies = 0;
	int64_t elements = 0;
	trial_open(&trial);
	ck_assert_str_eq(ps_pipeline_precision(trial.pipeline), _i ? "bf16-pure" : "bf16");
	for (int i = 0; i < ps_pipeline_parameter_count(trial.pipeline); i++) {
		ps_parameter_view view;
		ps_pipeline_get_parameter(trial.pipeline, i, &view);
		bool narrow = _i && is_matrix(&view), copied = !_i && view.declaration->gemm;
		ck_assert_int_eq(view.value.dtype, narrow ? PS_BF16 : PS_F32);
		ck_assert_int_eq(view.gradient.dtype, view.value.dtype);
		ck_assert(ps_tensor_present(view.copy) == copied);
		/* Of the model's matrices only the embedding's is not multiplied. */
		ck_assert(view.declaration->gemm == (is_matrix(&view) && strcmp(view.name, "encoder.weight") != 0));
		uint64_t count = (uint64_t)ps_tensor_count(view.value);
		values += (count * (narrow ? 2 : 4) + 255) / 256 * 256;
		copies += copied ? (count * 2 + 255) / 256 * 256 : 0;
		elements += (int64_t)count;
	}
	ps_rank_info info;
	uint64_t now;
	ps_pipeline_get_rank(trial.pipeline, 0, &info);
	ps_device_get_memory(info.device, &now, NULL);
	ck_assert_uint_eq(info.parameter_bytes, values + copies);
	ck_assert_uint_eq(info.gradient_bytes, values);
	ck_assert_uint_eq(info.peak_bytes, now);
	ck_assert_int_eq(info.parameters, elements);
	trial_close(&trial);
}
END_TEST

/* Every copy is its weight, rounded. */
static void check_copies(ps_pipeline *pipeline)
{
	for (int i = 0; i < ps_pipeline_parameter_count(pipeline); i++) {
		ps_parameter_view view;
		ps_pipeline_get_parameter(pipeline, i, &view);
		size_t count = (size_t)ps_tensor_count(view.value);
		if (!ps_tensor_present(view.copy))
			continue;
		float *values = malloc(count * sizeof *values);
		uint16_t *copy = malloc(count * sizeof *copy);
		ck_assert(values && copy);
		check_ok(ps_pipeline_read_parameter(pipeline, i, values));
		check_ok(ps_queue_read(view.queue, copy, view.copy));
		check_ok(ps_queue_finish(view.queue));
		for (size_t k = 0; k < count; k++)
			ck_assert_msg(copy[k] == ps_bf16_round(values[k]), "%s: element %zu of the copy", view.name, k);
		free(values);
		free(copy);
	}
}

START_TEST(test_copies)
{
	struct trial trial = trial_of(false);
	double loss;
	trial.config.rank_count = 2;
	trial_open(&trial);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	check_copies(trial.pipeline);
	for (int i = 0; i < ps_pipeline_parameter_count(trial.pipeline); i++) {
		float values[1024];
		check_ok(ps_pipeline_read_parameter(trial.pipeline, i, values));
		for (int k = 0; k < 1024; k++)
			values[k] = 1 + (float)k / 1024;
		check_ok(ps_pipeline_write_parameter(trial.pipeline, i, values));
	}
	check_copies(trial.pipeline);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	check_ok(trial_train(&trial, 5, 6, 5, &loss));
	ck_assert_uint_eq(ps_pipeline_step(trial.pipeline), 5);
	trial_close(&trial);
}
END_TEST

/* A product of copies is not one of the weights themselves: the mode makes a difference, and a small one. */
START_TEST(test_difference)
{
	struct trial plain = {0}, rounded = trial_of(false), pure = trial_of(true);
	struct trial *const trials[] = {&plain, &rounded, &pure};
	double loss[3];
	for (int i = 0; i < 3; i++) {
		trial_open(trials[i]);
		check_ok(ps_pipeline_initialize(trials[i]->pipeline));
		check_ok(trial_train(trials[i], 0, 6, 5, &loss[i]));
		trial_close(trials[i]);
	}
	ck_assert_double_ne(loss[0], loss[1]);
	ck_assert_double_eq_tol(loss[0], loss[1], 0.01);
	/* Before the first update they differ in the embedding alone, which is rounded in one of them. */
	ck_assert_double_ne(loss[1], loss[2]);
	ck_assert_double_eq_tol(loss[1], loss[2], 0.01);
}
END_TEST

START_TEST(test_refusals)
{
	struct trial doubles = trial_of(false), alone = {.config = {.bf16_weights = true}}, unable = trial_of(_i);
	doubles.config.dtype = PS_F64;
	ck_assert_int_eq(trial_create(&doubles), PS_EINVAL);
	trial_close(&doubles);
	ck_assert_int_eq(trial_create(&alone), PS_EINVAL);
	trial_close(&alone);
	unable.hooked = true;
	unable.config.rank_count = 2;
	unable.hooks[1].deny_math = true;
	ck_assert_int_eq(trial_create(&unable), PS_ENOTSUP);
	ck_assert_str_eq(ps_error_message(), "hook:ref cannot multiply in bf16; cpu and ref can");
	trial_close(&unable);
}
END_TEST

/* A device without bf16 is handed no BF16 tensor. */
START_TEST(test_op_refusals)
{
	struct hook hook = {.deny_math = true};
	ps_device *device;
	ps_queue *queue;
	ps_buffer *buffer;
	check_ok(hook_device_open(&device, "ref", &hook));
	check_ok(ps_queue_create(&queue, device, "queue"));
	check_ok(ps_buffer_create(&buffer, device, 1024));
	ps_tensor wide = ps_tensor_make(buffer, 0, PS_F32, 2, (int64_t[]){2, 2}),
	          narrow = ps_tensor_make(buffer, 256, PS_BF16, 2, (int64_t[]){2, 2}),
	          c = ps_tensor_make(buffer, 512, PS_F32, 2, (int64_t[]){2, 2});
	check_ok(ps_run(queue, gemm, .a = wide, .b = wide, .c = c));
	ck_assert_int_eq(ps_run(queue, gemm, .a = wide, .b = narrow, .c = c), PS_ENOTSUP);
	ck_assert_str_eq(ps_error_message(), "hook:ref cannot run gemm on bf16 (2, 2): it has no bf16; cpu and ref do");
	ck_assert_int_eq(ps_queue_set_math(queue, PS_MATH_BF16), PS_ENOTSUP);
	ck_assert_int_eq(ps_queue_math(queue), PS_MATH_F32);
	ck_assert_int_eq(ps_queue_set_math(queue, PS_MATH_COUNT), PS_EINVAL);
	ps_queue_destroy(queue);
	ps_buffer_destroy(buffer);
	ps_device_close(device);
}
END_TEST

static void run_bits(struct trial *trial, struct outcome *out)
{
	trial_open(trial);
	trial_run(trial, STEPS, NULL, out);
	check_copies(trial->pipeline);
	trial_close(trial);
}

static void count_difference(void *payload, const ps_shadow_result *result)
{
	int *counts = payload;
	counts[result->bad != 0]++;
}

/* Every op of two steps, the updates too, as on the reference; and layers that are measured before. */
START_TEST(test_shadow)
{
	static const ps_shadow_stage stages[] = {{0, 0}, {1, 0}};
	int counts[2] = {0};
	double loss, norm;
	ps_sgd *sgd;
	struct trial trial = trial_of(_i);
	trial.devices[0] = trial.devices[1] = "cpu:0";
	trial.config.rank_count = 2;
	trial.config.measure = true;
	trial.config.shadow =
	        (ps_shadow_config){.stages = stages, .stage_count = 2, .compared = count_difference, .payload = counts};
	trial_open(&trial);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	check_ok(ps_sgd_create(&sgd, trial.pipeline));
	for (uint32_t step = 0; step < STEPS; step++) {
		check_ok(trial_train(&trial, step, 6, 5, &loss));
		check_ok(ps_sgd_step(sgd, 0.5, 0.5, &norm));
		check_copies(trial.pipeline);
	}
	check_ok(ps_pipeline_shadow_finish(trial.pipeline));
	ck_assert_int_eq(counts[1], 0);
	ck_assert_int_gt(counts[0], 100);
	ps_sgd_destroy(sgd);
	trial_close(&trial);
}
END_TEST

/* _i: which device, and whether the weights are bf16. */
START_TEST(test_bits)
{
	static const char *const schedules[] = {"1f1b", "gpipe"};
	static const char *const names[] = {"ref", "cpu:0", "cpu"};
	bool pure = _i % 2;
	const char *name = names[_i / 2];
	struct trial whole = trial_of(pure);
	struct outcome expected;
	whole.config.chunks = 1;
	whole.devices[0] = name;
	run_bits(&whole, &expected);
	for (int k = 0; k < 9; k++) {
		struct trial trial = trial_of(pure);
		struct outcome outcome;
		char what[128];
		for (int r = 0; r <= k % 3; r++)
			trial.devices[r] = name;
		trial.config.rank_count = k % 3 + 1;
		trial.config.chunks = 1 + (k + 1) % 6;
		trial.config.schedule = schedules[k / 3 % 2];
		trial.config.checkpoint = (ps_checkpoint)(k / 3);
		trial.config.split = k % 2 ? PS_SPLIT_TORCH : PS_SPLIT_EVEN;
		snprintf(what, sizeof what, "%s, %s, case %d", name, pure ? "bf16-pure" : "bf16", k);
		run_bits(&trial, &outcome);
		outcome_compare(&expected, &outcome, what);
		outcome_free(&outcome);
	}
	outcome_free(&expected);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("bf16");
	TCase *tests = tcase_create("bf16");
	tcase_set_timeout(tests, 300);
	tcase_add_loop_test(tests, test_dtypes, 0, 2);
	tcase_add_test(tests, test_copies);
	tcase_add_test(tests, test_difference);
	tcase_add_loop_test(tests, test_refusals, 0, 2);
	tcase_add_test(tests, test_op_refusals);
	tcase_add_loop_test(tests, test_shadow, 0, 2);
	tcase_add_loop_test(tests, test_bits, 0, 6);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
