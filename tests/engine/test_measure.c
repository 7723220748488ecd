/*
 * Measured costs: the cut that follows from them, within the memory there is, the prediction, and what happens when
 * measuring fails. Ops that wait stand for slow devices, so that nothing depends on how busy the machine is.
 */
#include "tests/engine/trial.h"

#include <limits.h>
#include <math.h>

#define MILLISECOND INT64_C(1000000)

/* Every op on device k waits delays[k]. */
static int64_t delays[TRIAL_RANKS];

static void delay(struct trial *trial, int device)
{
	hook_add(&trial->hooks[device], .effect = HOOK_DELAY, .call = HOOK_OP, .every = true,
	         .delay_ns = delays[device]);
}

static int units_of(const struct trial *trial, int rank)
{
	ps_rank_info info;
	ps_pipeline_get_rank(trial->pipeline, rank, &info);
	return info.units;
}

/*
 * A device that is ten times slower than the other gets its share and no more, whichever it is. What a busy machine
 * adds to both makes them more alike, so that they get three chances.
 */
START_TEST(test_slow_device)
{
	int slow = _i % 2, units = INT_MAX;
	delays[slow] = 2 * MILLISECOND;
	delays[1 - slow] = MILLISECOND / 5;
	for (int chance = 0; chance < 3 && units > 3; chance++) {
		struct trial trial = {.hooked = true,
		                      .opened = delay,
		                      .encoder_layers = 9,
		                      .config = {.rank_count = 2, .chunks = 2, .balance_time = true}};
		trial_open(&trial);
		units = units_of(&trial, slow);
		ck_assert_int_ge(units, 1);
		ck_assert_int_eq(units + units_of(&trial, 1 - slow), 11);
		trial_close(&trial);
	}
	ck_assert_int_le(units, 3);
}
END_TEST

/* Counted operations know nothing of devices: the cut stays as it is while steps are predicted. */
START_TEST(test_prediction_alone)
{
	struct trial plain = {.config = {.rank_count = 3, .chunks = 3}};
	struct trial measured = {.config = {.rank_count = 3, .chunks = 3, .measure = true}};
	trial_open(&plain);
	trial_open(&measured);
	for (int r = 0; r < 3; r++)
		ck_assert_int_eq(units_of(&plain, r), units_of(&measured, r));
	ck_assert(isnan(ps_pipeline_predicted_step(plain.pipeline)));
	ck_assert(ps_pipeline_predicted_step(measured.pipeline) > 0);
	trial_close(&plain);
	trial_close(&measured);
}
END_TEST

/* The shortest of three steps, from the begin of its first action to the end of its last, and what was predicted. */
static void time_steps(struct trial *trial, double *quickest, double *predicted)
{
	double loss;
	*quickest = INFINITY;
	*predicted = 0;
	check_ok(ps_pipeline_initialize(trial->pipeline));
	for (int k = 0; k < 3; k++) {
		size_t count;
		check_ok(trial_train(trial, (uint32_t)k, 6, 5, &loss));
		const ps_trace_span *spans = ps_pipeline_spans(trial->pipeline, &count);
		int64_t begin = INT64_MAX, end = 0;
		for (size_t i = 0; i < count; i++) {
			begin = spans[i].begin_ns < begin ? spans[i].begin_ns : begin;
			end = spans[i].end_ns > end ? spans[i].end_ns : end;
			*predicted = fmax(*predicted, spans[i].predicted_end_s);
			ck_assert(spans[i].predicted_begin_s >= 0);
			ck_assert(spans[i].predicted_end_s >= spans[i].predicted_begin_s);
		}
		*quickest = fmin(*quickest, (double)(end - begin) * 1e-9);
	}
}

/*
 * Where waiting is nearly all that is done, steps take what was predicted; 1F1B and GPipe, with recomputation. A busy
 * machine may disturb a measurement, so that it gets five chances.
 */
START_TEST(test_prediction)
{
	double quickest = 0, predicted = 0, off = INFINITY;
	delays[0] = MILLISECOND;
	delays[1] = MILLISECOND * 3 / 2;
	for (int chance = 0; chance < 5 && off > 0.2; chance++) {
		struct trial trial = {.hooked = true,
		                      .opened = delay,
		                      .config = {.rank_count = 2,
		                                 .chunks = 3,
		                                 .schedule = _i % 2 ? "gpipe" : "1f1b",
		                                 .checkpoint = _i / 2 ? PS_CHECKPOINT_ALWAYS : PS_CHECKPOINT_NEVER,
		                                 .trace = true,
		                                 .measure = true}};
		trial_open(&trial);
		time_steps(&trial, &quickest, &predicted);
		off = fabs(quickest / predicted - 1);
		/* The optimizer, which no span is of, comes on top. */
		ck_assert(ps_pipeline_predicted_step(trial.pipeline) > predicted);
		trial_close(&trial);
	}
	ck_assert_msg(off <= 0.2, "predicted %g s, measured %g s", predicted, quickest);
}
END_TEST

/* The spans of a prediction keep the schedule's order and its dependencies. */
START_TEST(test_predicted_order)
{
	struct trial trial = {
	        .config = {
	                .rank_count = 4, .chunks = 5, .trace = true, .measure = true, .links = {.force_staged = true}}};
	double loss, last[TRIAL_RANKS] = {0};
	size_t count;
	trial_open(&trial);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	/* A batch of another shape is predicted too. */
	check_ok(trial_train(&trial, 0, _i % 2 ? 6 : 4, 5, &loss));
	const ps_trace_span *spans = ps_pipeline_spans(trial.pipeline, &count);
	ck_assert_uint_gt(count, 0);
	for (size_t i = 0; i < count; i++) {
		if (spans[i].transfer)
			continue;
		ck_assert(spans[i].predicted_begin_s >= last[spans[i].rank]);
		last[spans[i].rank] = spans[i].predicted_end_s;
		for (size_t j = 0; j < count; j++) {
			ps_action a = spans[i].action, b = spans[j].action;
			if (!spans[j].transfer && a.kind == PS_ACTION_F && b.kind == PS_ACTION_F &&
			    b.stage == a.stage + 1 && a.micro_batch == b.micro_batch)
				ck_assert(spans[j].predicted_begin_s >= spans[i].predicted_end_s);
		}
	}
	trial_close(&trial);
}
END_TEST

/* Two ranks of one device work in turn, for all that two devices do side by side. */
START_TEST(test_shared_device)
{
	struct trial trial = {.devices = {"cpu:0#0", "cpu:0#0"},
	                      .config = {.rank_count = 2, .chunks = 2, .rows = 8, .time = 16, .measure = true}};
	trial_open(&trial);
	ck_assert(ps_pipeline_predicted_step(trial.pipeline) > 0);
	trial_close(&trial);
}
END_TEST

/* A fast device without the memory for its share gets what fits, which is what is then allocated. */
START_TEST(test_memory)
{
	struct trial trial = {.hooked = true,
	                      .opened = delay,
	                      .encoder_layers = 6,
	                      .config = {.rank_count = 2, .chunks = 2, .balance_time = true}};
	delays[0] = MILLISECOND;
	delays[1] = MILLISECOND / 10;
	/* Memories of their own, in place of the host's. */
	for (int d = 0; d < 2; d++)
		trial.hooks[d].opaque = true;
	ps_rank_info info;
	check_ok(trial_create(&trial));
	int units = units_of(&trial, 1);
	ps_pipeline_get_rank(trial.pipeline, 1, &info);
	trial_close(&trial);
	ck_assert_int_ge(units, 5);
	trial.memory_bytes[1] = info.peak_bytes - 1;
	check_ok(trial_create(&trial));
	ck_assert_int_lt(units_of(&trial, 1), units);
	ps_pipeline_get_rank(trial.pipeline, 1, &info);
	ck_assert_uint_le(info.peak_bytes, trial.memory_bytes[1]);
	trial_close(&trial);
	/* And the least that is too little is refused before anything is measured. */
	trial.memory_bytes[0] = trial.memory_bytes[1] = 4096;
	ck_assert_int_eq(trial_create(&trial), PS_ETOOBIG);
	ck_assert_ptr_nonnull(
	        strstr(ps_error_message(), "no cut into 2 stages fits: the one that comes closest needs"));
	ck_assert_ptr_nonnull(strstr(ps_error_message(), "hook:ref"));
	ck_assert_uint_eq(hook_calls(&trial.hooks[0], HOOK_OP), 0);
	ck_assert_uint_eq(hook_calls(&trial.hooks[1], HOOK_OP), 0);
	trial_close(&trial);
}
END_TEST

/* Measuring changes no bit. */
START_TEST(test_bits)
{
	struct trial plain = {.config = {.rank_count = 2, .chunks = 3}};
	struct trial measured = {.config = {.rank_count = 2, .chunks = 3, .balance_time = true}};
	struct outcome one, other;
	trial_open(&plain);
	trial_run(&plain, 3, NULL, &one);
	trial_close(&plain);
	trial_open(&measured);
	trial_run(&measured, 3, NULL, &other);
	trial_close(&measured);
	outcome_compare(&one, &other, "cut by measured time");
	outcome_free(&one);
	outcome_free(&other);
}
END_TEST

/* Layers of all kinds of needs. */
START_TEST(test_mixed_layers)
{
	struct trial trial = {.mixed = true,
	                      .config = {.rank_count = 2, .chunks = 3, .weight_group = _i - 1, .balance_time = true}};
	trial_open(&trial);
	ck_assert(ps_pipeline_predicted_step(trial.pipeline) > 0);
	trial_close(&trial);
}
END_TEST

/* Products in bf16, with copies of the weights or with weights that are bf16: the same cut for the same memory. */
START_TEST(test_bf16)
{
	struct trial trial = {.devices = {"cpu:0#0", "cpu:0#1"},
	                      .config = {.rank_count = 2,
	                                 .chunks = 2,
	                                 .math = PS_MATH_BF16,
	                                 .bf16_weights = _i == 1,
	                                 .balance_time = true}};
	double loss;
	trial_open(&trial);
	ck_assert(ps_pipeline_predicted_step(trial.pipeline) > 0);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	check_ok(trial_train(&trial, 0, 6, 5, &loss));
	trial_close(&trial);
}
END_TEST

/* Whatever fails while layers are measured ends with a message that says so, and nothing is left behind. */
static const struct {
	enum hook_effect effect;
	int call;
	const char *message;
} failures[] = {
        {HOOK_REFUSE, HOOK_QUEUE_CREATE, "measuring layer "},
        {HOOK_REFUSE, HOOK_BUFFER_CREATE, "measuring layer "},
        {HOOK_REFUSE, HOOK_ZERO, "measuring layer "},
        {HOOK_REFUSE, HOOK_WRITE, "measuring layer "},
        {HOOK_REFUSE, HOOK_ASK, "measuring layer "},
        {HOOK_REFUSE, HOOK_TIMESTAMP, "measuring layer "},
        {HOOK_FAIL, HOOK_OP, "measuring layer "},
        {HOOK_FAIL, HOOK_WRITE, "measuring layer "},
        {HOOK_FAIL, HOOK_TIMESTAMP, "measuring layer "},
};
static int failing;
static uint64_t failing_nth;

static void fail_device(struct trial *trial, int device)
{
	if (device == 1)
		hook_add(&trial->hooks[1], .effect = failures[failing].effect, .call = failures[failing].call,
		         .nth = failing_nth);
}

START_TEST(test_failures)
{
	struct trial trial = {.hooked = true,
	                      .opened = fail_device,
	                      .encoder_layers = 1,
	                      .config = {.rank_count = 2, .chunks = 2, .balance_time = true}};
	failing = _i;
	/* Also late ones, while two benches run at a time. */
	for (failing_nth = 1; failing_nth < 20; failing_nth = failing_nth * 3 + 1) {
		ps_status status = trial_create(&trial);
		if (status == PS_OK)
			ck_assert_uint_gt(failing_nth, 1);
		else
			ck_assert_msg(strstr(ps_error_message(), failures[_i].message) != NULL, "%s",
			              ps_error_message());
		trial_close(&trial);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("measure");
	TCase *cases = tcase_create("measure");
	tcase_set_timeout(cases, 300);
	tcase_add_loop_test(cases, test_slow_device, 0, 2);
	tcase_add_test(cases, test_prediction_alone);
	tcase_add_loop_test(cases, test_prediction, 0, 4);
	tcase_add_loop_test(cases, test_predicted_order, 0, 2);
	tcase_add_test(cases, test_shared_device);
	tcase_add_test(cases, test_memory);
	tcase_add_test(cases, test_bits);
	tcase_add_loop_test(cases, test_mixed_layers, 0, 3);
	tcase_add_loop_test(cases, test_bf16, 0, 2);
	tcase_add_loop_test(cases, test_failures, 0, (int)(sizeof failures / sizeof *failures));
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
