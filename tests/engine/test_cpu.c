/*
 * The engine on the fast CPU devices: the same bits for every placement, cut, schedule, checkpoint mode and number of
 * chunks, and stages on cores of their own that work at the same time. Skips where the devices lack what a model needs.
 */
#include "tests/engine/trial.h"

#include <stdio.h>

enum { STEPS = 2 };

static struct outcome expected;

static void set_up(void)
{
	struct trial trial = {.devices = {"cpu:0"}, .config = {.chunks = 1}};
	trial_keep_devices(false);
	trial_open(&trial);
	trial_run(&trial, STEPS, NULL, &expected);
	trial_close(&trial);
}

static void tear_down(void)
{
	outcome_free(&expected);
}

static bool has_two_cores(void)
{
	ps_device *device;
	bool two = ps_device_open(&device, "cpu:1") == PS_OK;
	if (two)
		ps_device_close(device);
	return two;
}

START_TEST(test_bits)
{
	const char *const schedules[] = {"1f1b", "gpipe"};
	const char *second = has_two_cores() ? "cpu:1" : "cpu:0";
	const char *const devices[][3] = {{"cpu:0", NULL, NULL}, {"cpu:0", second, NULL}, {second, "cpu:0", "cpu:0"}};
	for (int k = 0; k < 6; k++) {
		const char *const *names = devices[k % 3];
		struct trial trial = {.devices = {names[0], names[1], names[2]},
		                      .config = {.rank_count = k % 3 + 1,
		                                 .chunks = _i + 1,
		                                 .schedule = schedules[k / 3],
		                                 .checkpoint = (ps_checkpoint)((k + _i) % 3),
		                                 .split = _i % 2 ? PS_SPLIT_TORCH : PS_SPLIT_EVEN}};
		struct outcome outcome;
		char what[128];
		snprintf(what, sizeof what, "%s on %d ranks, %d chunks", schedules[k / 3], k % 3 + 1, _i + 1);
		trial_open(&trial);
		trial_run(&trial, STEPS, NULL, &outcome);
		outcome_compare(&expected, &outcome, what);
		outcome_free(&outcome);
		trial_close(&trial);
	}
}
END_TEST

/* Work enough for stages to meet: some action of one stage runs while one of the other does. */
START_TEST(test_overlap)
{
	if (!has_two_cores())
		return;
	struct trial trial = {
	        .devices = {"cpu:0", "cpu:1"},
	        .encoder_layers = 8,
	        .config = {.rank_count = 2, .rows = 256, .time = 32, .chunks = 16, .schedule = "gpipe", .trace = true}};
	double loss;
	size_t count;
	int overlaps = 0;
	trial_open(&trial);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	for (uint32_t step = 0; step < 3; step++)
		check_ok(trial_train(&trial, step, 256, 32, &loss));
	const ps_trace_span *spans = ps_pipeline_spans(trial.pipeline, &count);
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < count; j++)
			overlaps += !spans[i].transfer && !spans[j].transfer && spans[i].rank == 0 &&
			            spans[j].rank == 1 && spans[i].begin_ns < spans[j].end_ns &&
			            spans[j].begin_ns < spans[i].end_ns;
	ck_assert_int_ge(overlaps, 4);
	trial_close(&trial);
}
END_TEST

/* Can the device run the model at all? Outside of a test, so without assertions. */
static ps_status probe(void)
{
	static const char *const devices[] = {"cpu:0"};
	const ps_transformer_config sizes = {
	        .vocabulary = 5, .emsize = 4, .nhead = 1, .nhid = 3, .nlayers = 1, .max_time = 2};
	ps_model model;
	PS_TRY(ps_transformer_create(&model, &sizes));
	const ps_pipeline_config config = {.layers = model.layers,
	                                   .layer_count = model.layer_count,
	                                   .devices = devices,
	                                   .rank_count = 1,
	                                   .rows = 2,
	                                   .time = 2};
	ps_pipeline *pipeline;
	ps_status status = ps_pipeline_create(&pipeline, &config);
	ps_pipeline_destroy(pipeline);
	ps_model_finish(&model);
	return status;
}

int main(void)
{
	if (probe() == PS_ENOTSUP) {
		printf("skipped: %s\n", ps_error_message());
		return 77;
	}
	Suite *suite = suite_create("engine on cpu");
	TCase *cases = tcase_create("cpu");
	tcase_set_timeout(cases, 300);
	tcase_add_checked_fixture(cases, set_up, tear_down);
	tcase_add_loop_test(cases, test_bits, 0, 6);
	tcase_add_test(cases, test_overlap);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
