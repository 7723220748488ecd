/*
 * Steps whose numbers are read a step late: the same bits as steps that are waited for, whatever is slow; failures that
 * are told of the right step; and norms that are lost.
 */
#include "pipeline/internal.h"
#include "tests/engine/trial.h"

#include "core/backend.h"

#include <penstock/train.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { STEPS = 6, MOST = 64 /* tokens */ };

/* What a run of steps comes to. */
struct course {
	double losses[STEPS], norms[STEPS];
	struct outcome gradients;
	unsigned char *weights;
	size_t size;
};

static void read_weights(ps_pipeline *pipeline, struct course *course)
{
	for (int i = 0; i < ps_pipeline_parameter_count(pipeline); i++) {
		ps_parameter_view view;
		ps_pipeline_get_parameter(pipeline, i, &view);
		size_t bytes = (size_t)ps_tensor_count(view.value) * ps_dtype_bytes(view.value.dtype);
		course->weights = realloc(course->weights, course->size + bytes);
		ck_assert_ptr_nonnull(course->weights);
		check_ok(ps_pipeline_read_parameter(pipeline, i, course->weights + course->size));
		course->size += bytes;
	}
}

static void course_free(struct course *course)
{
	outcome_free(&course->gradients);
	free(course->weights);
}

static void course_compare(const struct course *a, const struct course *b, const char *what)
{
	for (int k = 0; k < STEPS; k++)
		ck_assert_msg(a->losses[k] == b->losses[k] && a->norms[k] == b->norms[k],
		              "%s: step %d has loss %.17g and norm %.17g, not %.17g and %.17g", what, k, b->losses[k],
		              b->norms[k], a->losses[k], a->norms[k]);
	outcome_compare(&a->gradients, &b->gradients, what);
	ck_assert_uint_eq(a->size, b->size);
	ck_assert_msg(!memcmp(a->weights, b->weights, a->size), "%s: the weights differ", what);
}

/* The tokens' memory is overwritten as soon as they are submitted, which the pipeline must not mind. */
static ps_status submit(struct trial *trial, uint32_t step, int64_t time)
{
	static int32_t inputs[MOST], targets[MOST];
	int64_t rows = trial->config.rows;
	ck_assert_int_le(rows * time, MOST);
	trial_tokens(step, rows, time, inputs, targets);
	ps_batch batch = {.inputs = inputs, .targets = targets, .rows = rows, .time = time, .step = step};
	ps_status status = ps_pipeline_submit(trial->pipeline, &batch);
	memset(inputs, 0, sizeof inputs);
	memset(targets, 0, sizeof targets);
	return status;
}

/* The rate changes half way, and the last batch is shorter. */
static double rate_of(int step)
{
	return step < STEPS / 2 ? 0.5 : 0.25;
}

static int64_t time_of(const struct trial *trial, int step)
{
	return trial->config.time - (step == STEPS - 1);
}

static void run_course(struct trial *trial, ps_sgd *sgd, bool late, struct course *out)
{
	ps_pipeline *pipeline = trial->pipeline;
	*out = (struct course){.gradients.steps = 0};
	check_ok(ps_pipeline_initialize(pipeline));
	for (int k = 0; k < STEPS; k++) {
		check_ok(submit(trial, (uint32_t)k, time_of(trial, k)));
		int collected = late ? k - 1 : k;
		if (collected >= 0)
			check_ok(ps_pipeline_collect(pipeline, &out->losses[collected]));
		if (late && k > 0)
			check_ok(ps_sgd_collect(sgd, &out->norms[k - 1]));
		check_ok(ps_sgd_submit(sgd, rate_of(k), 0.5));
		if (!late)
			check_ok(ps_sgd_collect(sgd, &out->norms[k]));
	}
	if (late) {
		check_ok(ps_pipeline_collect(pipeline, &out->losses[STEPS - 1]));
		check_ok(ps_sgd_collect(sgd, &out->norms[STEPS - 1]));
	}
	outcome_add_gradients(&out->gradients, pipeline);
	read_weights(pipeline, out);
}

static struct trial trials[] = {
        {.config = {.rank_count = 1, .chunks = 3}},
        {.config = {.rank_count = 2, .chunks = 3}},
        {.config = {.rank_count = 3, .chunks = 3, .schedule = "gpipe", .links = {.force_staged = true}}},
        {.devices = {"ref#0", "ref#0"}, .config = {.rank_count = 2, .chunks = 2}},
        {.config = {.rank_count = 2, .stage_count = 4, .chunks = 2, .schedule = "gpipe"}},
        {.devices = {"ref#0", "ref#1", "ref#0"}, .config = {.rank_count = 3, .chunks = 3}},
};
enum { TRIALS = sizeof trials / sizeof *trials };

/* Late and not, with nobody slow and with each device slow in turn: bit for bit what the first one gives. */
START_TEST(test_bits)
{
	struct trial trial = trials[_i];
	struct course expected, got;
	ps_sgd *sgd;
	trial.hooked = true;
	trial_open(&trial);
	check_ok(ps_sgd_create(&sgd, trial.pipeline));
	run_course(&trial, sgd, false, &expected);
	ck_assert(expected.losses[0] != expected.losses[1]);
	for (int slow = -1; slow < trial.pipeline->device_count; slow++) {
		char what[64];
		snprintf(what, sizeof what, "late, device %d slow", slow);
		if (slow >= 0)
			hook_add(&trial.hooks[slow], .effect = HOOK_DELAY, .call = HOOK_OP, .every = true,
			         .delay_ns = 50000);
		run_course(&trial, sgd, true, &got);
		course_compare(&expected, &got, what);
		course_free(&got);
		if (slow >= 0)
			hook_clear(&trial.hooks[slow]);
	}
	course_free(&expected);
	ps_sgd_destroy(sgd);
	trial_close(&trial);
}
END_TEST

/* Has every rank copy its gradients out when it comes to that: it is not waited for. */
static void enqueue_gradients(ps_pipeline *pipeline, struct outcome *out)
{
	for (int i = 0; i < ps_pipeline_parameter_count(pipeline); i++) {
		ps_parameter_view view;
		ps_pipeline_get_parameter(pipeline, i, &view);
		check_ok(ps_queue_read(view.queue, out->bytes + out->size, view.gradient));
		out->size += (size_t)ps_tensor_count(view.gradient) * ps_dtype_bytes(view.gradient.dtype);
	}
}

/*
 * Two steps with no exchange between the ranks: a rank that is ahead does not write over what another one still needs
 * for its gradients.
 */
START_TEST(test_no_update)
{
	struct trial trial = trials[_i];
	struct outcome expected = {.steps = 1}, got = {.steps = 1};
	double loss;
	trial.hooked = true;
	trial_open(&trial);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	check_ok(trial_train(&trial, 0, trial.config.rows, trial.config.time, &expected.losses[0]));
	outcome_add_gradients(&expected, trial.pipeline);
	got.bytes = malloc(expected.size);
	ck_assert_ptr_nonnull(got.bytes);
	for (int slow = 0; slow < trial.pipeline->device_count; slow++) {
		hook_add(&trial.hooks[slow], .effect = HOOK_DELAY, .call = HOOK_OP, .every = true, .delay_ns = 200000);
		check_ok(submit(&trial, 0, trial.config.time));
		got.size = 0;
		enqueue_gradients(trial.pipeline, &got);
		check_ok(submit(&trial, 1, trial.config.time));
		check_ok(ps_pipeline_collect(trial.pipeline, &got.losses[0]));
		check_ok(ps_pipeline_collect(trial.pipeline, &loss));
		outcome_compare(&expected, &got, "with a step behind it");
		hook_clear(&trial.hooks[slow]);
	}
	outcome_free(&expected);
	outcome_free(&got);
	trial_close(&trial);
}
END_TEST

static struct trial trial;
static ps_sgd *sgd;
static struct course before;

static void set_up(void)
{
	trial = (struct trial){.hooked = true, .config = {.rank_count = 2, .chunks = 2}};
	trial_open(&trial);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	check_ok(ps_sgd_create(&sgd, trial.pipeline));
	before = (struct course){0};
}

static void tear_down(void)
{
	ps_sgd_destroy(sgd);
	trial_close(&trial);
	course_free(&before);
}

static void check_weights_stand(void)
{
	struct course now = {0};
	read_weights(trial.pipeline, &now);
	ck_assert_uint_eq(now.size, before.size);
	ck_assert_msg(!memcmp(now.weights, before.weights, now.size), "the weights have changed");
	course_free(&now);
}

/* A norm that is lost is told of a step late, and by then neither its own update nor another has changed anything. */
START_TEST(test_lost_norm)
{
	double loss, norm;
	const double values[] = {NAN, INFINITY};
	check_ok(submit(&trial, 0, trial.config.time));
	check_ok(ps_sgd_submit(sgd, 0.5, _i % 2 ? 0.5 : 0));
	check_ok(ps_pipeline_collect(trial.pipeline, &loss));
	check_ok(ps_sgd_collect(sgd, &norm));
	read_weights(trial.pipeline, &before);
	hook_add(&trial.hooks[1], .effect = HOOK_SPOIL, .call = HOOK_OP_OF(sum_squares), .nth = 3,
	         .value = values[_i / 2]);
	check_ok(submit(&trial, 1, trial.config.time));
	check_ok(ps_sgd_submit(sgd, 0.5, _i % 2 ? 0.5 : 0));
	check_ok(submit(&trial, 2, trial.config.time));
	check_ok(ps_pipeline_collect(trial.pipeline, &loss));
	check_fails(ps_sgd_collect(sgd, &norm), PS_ENUMERIC);
	check_message("is not finite (its sum of squares is ");
	check_message("the weights were left as they are");
	/* The step behind it has learnt from the weights as they were. */
	check_ok(ps_pipeline_collect(trial.pipeline, &loss));
	check_weights_stand();
	check_ok(submit(&trial, 3, trial.config.time));
	check_ok(ps_pipeline_collect(trial.pipeline, &loss));
	check_ok(ps_sgd_step(sgd, 0.5, 0.5, &norm));
}
END_TEST

static void fill_bias(float *bias, float value)
{
	bias[3] = value;
	check_ok(ps_pipeline_write_parameter(trial.pipeline, ps_pipeline_parameter_count(trial.pipeline) - 1, bias));
}

/* A loss that is not finite: nothing has changed, and the step behind it is gone. */
START_TEST(test_lost_loss)
{
	double loss, norm;
	float bias[TRIAL_VOCABULARY] = {0};
	fill_bias(bias, NAN);
	read_weights(trial.pipeline, &before);
	check_ok(submit(&trial, 4, trial.config.time));
	check_ok(ps_sgd_submit(sgd, 0.5, 0.5));
	check_ok(submit(&trial, 5, trial.config.time));
	check_fails(ps_pipeline_collect(trial.pipeline, &loss), PS_ENUMERIC);
	check_message("the loss of step 4 is nan: parameter decoder.bias of stage 1 on hook:ref is not finite");
	check_weights_stand();
	check_fails(ps_pipeline_collect(trial.pipeline, &loss), PS_EINVAL);
	check_fails(ps_sgd_collect(sgd, &norm), PS_ENUMERIC);
	fill_bias(bias, 0);
	check_ok(submit(&trial, 6, trial.config.time));
	check_ok(ps_pipeline_collect(trial.pipeline, &loss));
}
END_TEST

/*
 * A caller who was told that a step has failed need not ask what became of the update behind it: the next one takes its
 * place, and does what it would have done without.
 */
START_TEST(test_forgotten_update)
{
	double loss, norm, norms[2];
	float bias[TRIAL_VOCABULARY] = {0};
	check_ok(submit(&trial, 0, trial.config.time));
	check_ok(ps_pipeline_collect(trial.pipeline, &loss));
	check_ok(ps_sgd_step(sgd, 0, 0.5, &norms[0]));
	if (_i)
		hook_add(&trial.hooks[1], .effect = HOOK_FAIL, .call = HOOK_OP_OF(gemm), .nth = 1);
	else
		fill_bias(bias, NAN);
	check_ok(submit(&trial, 1, trial.config.time));
	check_ok(ps_sgd_submit(sgd, 0.5, 0.5));
	check_ok(submit(&trial, 2, trial.config.time));
	check_fails(ps_pipeline_collect(trial.pipeline, &loss), _i ? PS_EDEVICE : PS_ENUMERIC);
	ck_assert_int_eq(ps_pipeline_failures(trial.pipeline), 1);
	hook_clear(&trial.hooks[1]);
	fill_bias(bias, 0);
	check_ok(submit(&trial, 0, trial.config.time));
	check_ok(ps_sgd_submit(sgd, 0.5, 0.5));
	check_fails(ps_sgd_submit(sgd, 0.5, 0.5), PS_EINVAL);
	check_ok(ps_pipeline_collect(trial.pipeline, &loss));
	check_ok(ps_sgd_collect(sgd, &norms[1]));
	ck_assert(norms[0] == norms[1]);
	check_fails(ps_sgd_collect(sgd, &norm), PS_EINVAL);
}
END_TEST

/* One token, which only the earlier of two steps has, makes the embedding overflow: that step's tokens are searched. */
START_TEST(test_search_of_earlier_step)
{
	enum { EMSIZE = 8, BAD = 7 };
	float embedding[TRIAL_VOCABULARY * EMSIZE] = {0};
	int32_t tokens[MOST] = {0};
	double loss;
	int64_t rows = trial.config.rows, time = trial.config.time;
	ps_batch batch = {.inputs = tokens, .targets = tokens, .rows = rows, .time = time};
	for (int i = 0; i < EMSIZE; i++)
		embedding[BAD * EMSIZE + i] = 3e38F;
	check_ok(ps_pipeline_write_parameter(trial.pipeline, 0, embedding));
	tokens[(rows - 1) * time] = BAD;
	check_ok(ps_pipeline_submit(trial.pipeline, &batch));
	tokens[(rows - 1) * time] = 0;
	batch.step = 1;
	check_ok(ps_pipeline_submit(trial.pipeline, &batch));
	check_fails(ps_pipeline_collect(trial.pipeline, &loss), PS_ENUMERIC);
	check_message(
	        "the loss of step 0 is nan: the output of layer encoder, stage 0 on hook:ref, is the first that is "
	        "not finite, in micro-batch 1");
}
END_TEST

/* What fails in the step behind does not fail the one before it, however early it does. */
START_TEST(test_later_step)
{
	double losses[2], loss, norm;
	check_ok(trial_train(&trial, 0, trial.config.rows, trial.config.time, &losses[0]));
	hook_add(&trial.hooks[0], .effect = HOOK_DELAY, .call = HOOK_OP_OF(sgd), .every = true, .delay_ns = 5000000);
	hook_add(&trial.hooks[1], .effect = HOOK_FAIL, .call = HOOK_WRITE, .queue = "rank 1", .nth = 2);
	check_ok(submit(&trial, 0, trial.config.time));
	check_ok(ps_sgd_submit(sgd, 0.5, 0.5));
	check_ok(submit(&trial, 1, trial.config.time));
	check_ok(ps_pipeline_collect(trial.pipeline, &losses[1]));
	ck_assert(losses[0] == losses[1]);
	check_ok(ps_sgd_collect(sgd, &norm));
	check_fails(ps_pipeline_collect(trial.pipeline, &loss), PS_EDEVICE);
	check_message("stage 1 on hook:ref, copying the targets in: injected");
	hook_clear(&trial.hooks[0]);
	hook_clear(&trial.hooks[1]);
	check_ok(submit(&trial, 1, trial.config.time));
	check_ok(ps_pipeline_collect(trial.pipeline, &loss));
	check_ok(ps_sgd_step(sgd, 0.5, 0.5, &norm));
}
END_TEST

/*
 * An update of which a rank's wait fails, while the transfer that it is for is slow: the optimizer's memory is not
 * freed before.
 */
START_TEST(test_slow_gathering)
{
	bool fired = true;
	for (uint64_t nth = 1; fired; nth++) {
		struct trial slow = {.hooked = true,
		                     .hooks = {{.poison = true}, {.poison = true}},
		                     .config = {.rank_count = 2, .chunks = 2, .links = {.force_staged = _i}}};
		ps_sgd *own;
		double loss, norm;
		trial_open(&slow);
		check_ok(ps_pipeline_initialize(slow.pipeline));
		check_ok(ps_sgd_create(&own, slow.pipeline));
		check_ok(submit(&slow, 0, slow.config.time));
		check_ok(ps_pipeline_collect(slow.pipeline, &loss));
		hook_add(&slow.hooks[1], .effect = HOOK_DELAY, .call = _i ? HOOK_WRITE : HOOK_PEER_COPY,
		         .queue = "link 0>1", .every = true, .delay_ns = 20000000);
		hook_add(&slow.hooks[1], .effect = HOOK_FAIL, .call = HOOK_WAIT, .queue = "rank 1", .nth = nth);
		ps_status status = ps_sgd_step(own, 0.5, 0.5, &norm);
		fired = status != PS_OK;
		ck_assert_msg(!fired || status == PS_EDEVICE, "%s", ps_error_message());
		ps_sgd_destroy(own);
		/* Whatever has been written to the memory since shows when the devices are closed. */
		trial_close(&slow);
		ck_assert(fired || nth > 1);
	}
}
END_TEST

START_TEST(test_wrong_use)
{
	double number;
	const int32_t tokens[2] = {0};
	const ps_batch batch = {.inputs = tokens, .targets = tokens, .rows = 1, .time = 1};
	ck_assert_int_eq(ps_pipeline_most_in_flight(trial.pipeline), 2);
	check_fails(ps_pipeline_collect(trial.pipeline, &number), PS_EINVAL);
	check_message("no step is on its way; submit one first");
	check_fails(ps_sgd_collect(sgd, &number), PS_EINVAL);
	check_message("no update is on its way; submit one first");
	check_ok(ps_pipeline_submit(trial.pipeline, &batch));
	check_fails(ps_pipeline_train(trial.pipeline, &batch, &number), PS_EINVAL);
	check_message("a step is on its way; collect it first");
	check_fails(ps_pipeline_evaluate(trial.pipeline, &batch, &number), PS_EINVAL);
	check_ok(ps_sgd_submit(sgd, 0.5, 0.5));
	check_fails(ps_sgd_submit(sgd, 0.5, 0.5), PS_EINVAL);
	check_message("an update is on its way; collect it first");
	check_ok(ps_pipeline_submit(trial.pipeline, &batch));
	check_fails(ps_pipeline_submit(trial.pipeline, &batch), PS_EINVAL);
	check_message("2 steps are on the way; collect the oldest one first");
	check_ok(ps_pipeline_collect(trial.pipeline, &number));
	check_ok(ps_pipeline_submit(trial.pipeline, &batch));
	/* Both are left to be destroyed with what they have on the way. */
}
END_TEST

static void check_access(ps_status status)
{
	float values[TRIAL_VOCABULARY];
	int last = ps_pipeline_parameter_count(trial.pipeline) - 1;
	check_fails(ps_pipeline_read_parameter(trial.pipeline, last, values), status);
	check_fails(ps_pipeline_read_gradient(trial.pipeline, last, values), status);
	check_fails(ps_pipeline_write_parameter(trial.pipeline, last, values), status);
	check_fails(ps_pipeline_initialize(trial.pipeline), status);
}

/* Parameters and gradients are out of reach while a step is on its way, and not while only an update is. */
START_TEST(test_access)
{
	double loss, norm;
	check_access(PS_OK);
	check_ok(submit(&trial, 0, trial.config.time));
	check_access(PS_EINVAL);
	check_message("a step is on its way; collect it first");
	check_ok(ps_sgd_submit(sgd, 0.5, 0.5));
	check_ok(ps_pipeline_collect(trial.pipeline, &loss));
	check_access(PS_OK);
	check_ok(ps_sgd_collect(sgd, &norm));
}
END_TEST

/* With a trace one step is on its way at most. */
START_TEST(test_one_in_flight)
{
	struct trial traced = {.config = {.rank_count = 2, .chunks = 2, .trace = true}};
	double loss;
	trial_open(&traced);
	check_ok(ps_pipeline_initialize(traced.pipeline));
	ck_assert_int_eq(ps_pipeline_most_in_flight(traced.pipeline), 1);
	check_ok(submit(&traced, 0, traced.config.time));
	check_fails(submit(&traced, 1, traced.config.time), PS_EINVAL);
	check_message("1 step is on the way; collect the oldest one first");
	check_ok(ps_pipeline_collect(traced.pipeline, &loss));
	check_ok(submit(&traced, 1, traced.config.time));
	check_ok(ps_pipeline_collect(traced.pipeline, &loss));
	trial_close(&traced);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("engine in flight");
	TCase *bits = tcase_create("bits"), *faults = tcase_create("faults");
	tcase_set_timeout(bits, 120);
	tcase_add_loop_test(bits, test_bits, 0, TRIALS);
	tcase_add_loop_test(bits, test_no_update, 0, TRIALS);
	tcase_add_checked_fixture(faults, set_up, tear_down);
	tcase_add_loop_test(faults, test_lost_norm, 0, 4);
	tcase_add_test(faults, test_lost_loss);
	tcase_add_loop_test(faults, test_forgotten_update, 0, 2);
	tcase_add_test(faults, test_search_of_earlier_step);
	tcase_add_test(faults, test_later_step);
	tcase_add_loop_test(faults, test_slow_gathering, 0, 2);
	tcase_add_test(faults, test_wrong_use);
	tcase_add_test(faults, test_access);
	tcase_add_test(faults, test_one_in_flight);
	suite_add_tcase(suite, bits);
	suite_add_tcase(suite, faults);
	return check_run(suite);
}
