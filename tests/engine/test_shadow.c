/*
 * Shadow checks: an op that goes wrong is found and named wherever it runs, checked steps keep their bits, and what
 * fails while a step is checked ends as it does without.
 */
#include "pipeline/internal.h"
#include "tests/engine/trial.h"

#include <penstock/train.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const ps_shadow_stage all_stages[] = {{0, 0}, {1, 0}, {2, 0}, {3, 0}};

/* Results are told by the thread that checks; they are looked at once it is done. */
struct results {
	int count, bad, transfers;
	double share; /* the largest */
	char first[256];
};

static void count_result(void *payload, const ps_shadow_result *result)
{
	struct results *results = payload;
	results->count++;
	results->transfers += !strcmp(result->op, "transfer");
	results->share = fmax(results->share, result->share);
	if (result->bad && !results->bad++)
		snprintf(results->first, sizeof results->first, "step %u, stage %d, %s, %s, %s, %s", result->step,
		         result->stage, result->action, result->layer, result->op, result->output);
}

static struct results results;

static ps_shadow_config shadow_of(int stages)
{
	results = (struct results){0};
	return (ps_shadow_config){
	        .stages = all_stages, .stage_count = stages, .compared = count_result, .payload = &results};
}

START_TEST(test_same_bits)
{
	const ps_pipeline_config configs[] = {
	        {.rank_count = 1, .chunks = 2},
	        {.rank_count = 2, .chunks = 3, .checkpoint = PS_CHECKPOINT_EXCEPT_LAST},
	        {.rank_count = 2, .chunks = 2, .weight_group = 1, .links = {.force_staged = true}, .trace = true},
	        {.rank_count = 2, .stage_count = 4, .chunks = 2, .schedule = "gpipe", .dtype = PS_F64},
	};
	struct outcome plain, checked;
	struct trial trial = {.config = configs[_i]}, again = {.config = configs[_i]};
	trial_open(&trial);
	trial_run(&trial, 3, NULL, &plain);
	trial_close(&trial);
	int stages = configs[_i].stage_count ? configs[_i].stage_count : configs[_i].rank_count;
	again.config.shadow = shadow_of(stages);
	/* With little room, steps wait for their checks. */
	again.config.shadow.pool_bytes = _i % 2 ? 1 : 0;
	trial_open(&again);
	trial_run(&again, 3, NULL, &checked);
	check_ok(ps_pipeline_shadow_finish(again.pipeline));
	ps_shadow_report report;
	ps_pipeline_get_shadow(again.pipeline, &report);
	ck_assert_int_eq(report.steps, 3);
	ck_assert_int_eq(report.unchecked_steps, 0);
	int64_t ops = 0, transfers = 0;
	const struct program *program = again.pipeline->train;
	for (int i = 0; i < program->instruction_count; i++) {
		const struct instruction *instruction = &program->instructions[i];
		ops += instruction->list ? (int64_t)ps_list_count(instruction->list) : 0;
		transfers += instruction->kind == INSTRUCTION_TRANSFER;
	}
	ck_assert_int_gt(ops, 60);
	ck_assert_int_eq(report.ops, 3 * ops);
	ck_assert_int_eq(report.transfers, 3 * transfers);
	ck_assert_int_eq(results.transfers, 3 * transfers);
	ck_assert_int_ge(results.count, (int)(report.ops + report.transfers));
	ck_assert_int_eq(results.bad, 0);
	ck_assert(report.copy_s > 0 && report.against_s > 0 && report.checked_s > 0 && report.bytes > 100000);
	trial_close(&again);
	outcome_compare(&plain, &checked, "checked");
	outcome_free(&plain);
	outcome_free(&checked);
}
END_TEST

/* Batches of other shapes, whose last micro-batches may be empty. */
START_TEST(test_shapes)
{
	static const int64_t shapes[TRIAL_STEPS][2] = {{6, 5}, {2, 5}, {5, 3}, {1, 1}};
	struct outcome plain, checked;
	struct trial one = {.config = {.rank_count = 2, .chunks = 3}}, again = one;
	trial_open(&one);
	trial_run(&one, TRIAL_STEPS, shapes, &plain);
	trial_close(&one);
	again.config.shadow = shadow_of(2);
	trial_open(&again);
	trial_run(&again, TRIAL_STEPS, shapes, &checked);
	check_ok(ps_pipeline_shadow_finish(again.pipeline));
	ck_assert_int_eq(results.transfers, 2 * (3 + 2 + 3 + 1));
	ck_assert_int_eq(results.bad, 0);
	trial_close(&again);
	outcome_compare(&plain, &checked, "checked");
	outcome_free(&plain);
	outcome_free(&checked);
}
END_TEST

/* A pipeline of hooked devices, of which stages are checked. */
static struct trial trial;

static void set_up_with(const ps_pipeline_config *config)
{
	memset(&trial, 0, sizeof trial);
	trial.hooked = true;
	trial.config = *config;
	trial.config.chunks = 2;
	/* The device that checks is one of its own. */
	trial.config.shadow.against = "ref#7";
	trial_open(&trial);
	check_ok(ps_pipeline_initialize(trial.pipeline));
}

/* All stages are checked. */
static void set_up(int ranks)
{
	set_up_with(&(const ps_pipeline_config){.rank_count = ranks, .shadow = shadow_of(ranks)});
}

static ps_status step(uint32_t number)
{
	double loss;
	return trial_train(&trial, number, trial.config.rows, trial.config.time, &loss);
}

static void check_diverged(ps_status status, const char *begin, const char *within)
{
	ck_assert_msg(status == PS_EDIVERGED, "%s: %s", ps_status_name(status), ps_error_message());
	ck_assert_msg(!strncmp(ps_error_message(), begin, strlen(begin)), "\"%s\" does not begin with \"%s\"",
	              ps_error_message(), begin);
	check_message(within);
}

/* Every op of the model, each on a stage in the middle of three. */
static const struct {
	int op, nth, output;
	int64_t element;
	double value;
	const char *place, *at;
} spoiled[] = {
        {HOOK_OP_OF(gemm), 2, 0, 11, 0.5, "F0, layer layers.1, gemm: c", "worst [1, 3] is 0.5, should be "},
        {HOOK_OP_OF(gemm), 5, 0, 0, 1e30, "F0, layer layers.2, gemm: c", "worst [0, 0]"},
        {HOOK_OP_OF(attention_fwd), 4, 0, 25, 0.75, "F1, layer layers.2, attention_fwd: probs", "worst [0, 1, 0, 0]"},
        {HOOK_OP_OF(attention_fwd), 1, 1, 9, 1, "F0, layer layers.1, attention_fwd: out", "worst [0, 1, 1] is 1,"},
        {HOOK_OP_OF(dropout_add_layernorm_fwd), 1, 2, 3, 9, "F0, layer layers.1, dropout_add_layernorm_fwd: mean",
         "worst [0, 3] is 9,"},
        {HOOK_OP_OF(relu_dropout_fwd), 1, 0, 59, -1, "F0, layer layers.1, relu_dropout_fwd: y", "is -1, should be"},
        {HOOK_OP_OF(attention_bwd), 1, 0, 24, 1, "B0, layer layers.2, attention_bwd: dqkv", "worst [0, 1, 0] is 1,"},
        {HOOK_OP_OF(dropout_add_layernorm_bwd_input), 8, 1, 0, 1,
         "B1, layer layers.1, dropout_add_layernorm_bwd_input: dz", "worst [0, 0, 0] is 1,"},
        {HOOK_OP_OF(relu_dropout_bwd), 1, 0, 1, NAN, "B0, layer layers.2, relu_dropout_bwd: dx", "is nan, should be"},
        {HOOK_OP_OF(column_sum), 1, 0, 7, 1, "W0-1, layer layers.2, column_sum: y", "worst [7] is 1, should be"},
        {HOOK_OP_OF(layernorm_bwd_weight), 3, 1, 2, -3, "W0-1, layer layers.1, layernorm_bwd_weight: dbeta",
         "worst [2] is -3, should be"},
};

/* Stages of 3 ranks over embedding, 4 encoder layers and decoder are two layers each. */
START_TEST(test_broken_op)
{
	char begin[256];
	set_up(3);
	check_ok(step(0));
	check_ok(ps_pipeline_shadow_finish(trial.pipeline));
	hook_add(&trial.hooks[1], .effect = HOOK_SPOIL, .call = spoiled[_i].op, .nth = (uint64_t)spoiled[_i].nth,
	         .output = spoiled[_i].output, .element = spoiled[_i].element, .value = spoiled[_i].value);
	/* The step may be over before it is known, or not. */
	ps_status status = step(1);
	ck_assert(status == PS_OK || status == PS_EDIVERGED);
	status = ps_pipeline_shadow_finish(trial.pipeline);
	ck_assert_uint_eq(atomic_load(&trial.hooks[1].fired), 1);
	snprintf(begin, sizeof begin, "step 1, stage 1 on hook:ref, %s is not as on hook:ref: 1 of ",
	         spoiled[_i].place);
	check_diverged(status, begin, spoiled[_i].at);
	/* No further step is trained. */
	check_diverged(step(2), begin, spoiled[_i].at);
	trial_close(&trial);
}
END_TEST

/* A fast device beside the reference: results differ in their last digits, and none by more than it may. */
START_TEST(test_mixed)
{
	struct trial mixed = {.devices = {"cpu:0#0", "ref#1", "cpu:0#2"},
	                      .config = {.rank_count = 3, .chunks = 2, .rows = 8, .time = 7}};
	mixed.config.shadow = shadow_of(3);
	trial_open(&mixed);
	check_ok(ps_pipeline_initialize(mixed.pipeline));
	ps_sgd *sgd;
	check_ok(ps_sgd_create(&sgd, mixed.pipeline));
	for (uint32_t k = 0; k < 4; k++) {
		double loss, norm;
		check_ok(trial_train(&mixed, k, 8, 7, &loss));
		check_ok(ps_sgd_step(sgd, 5, 0.5, &norm));
	}
	check_ok(ps_pipeline_shadow_finish(mixed.pipeline));
	ck_assert_msg(results.share > 0 && results.share < 0.5, "the largest error is %g of what is allowed",
	              results.share);
	ps_sgd_destroy(sgd);
	trial_close(&mixed);
}
END_TEST

/* A fast stage between two of the reference: its own rounding passes, and one wrong element does not. */
START_TEST(test_broken_in_the_middle)
{
	memset(&trial, 0, sizeof trial);
	trial.hooked = true;
	trial.devices[1] = "cpu:0#1";
	trial.config = (ps_pipeline_config){.rank_count = 3, .chunks = 3, .shadow = shadow_of(3)};
	trial_open(&trial);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	check_ok(step(0));
	check_ok(ps_pipeline_shadow_finish(trial.pipeline));
	ck_assert(results.share > 0 && results.share < 0.5);
	hook_add(&trial.hooks[1], .effect = HOOK_SPOIL, .call = HOOK_OP_OF(layernorm_bwd_weight), .nth = 4, .output = 0,
	         .element = 6, .value = 0.25);
	ps_status status = step(1);
	ck_assert(status == PS_OK || status == PS_EDIVERGED);
	check_diverged(ps_pipeline_shadow_finish(trial.pipeline),
	               "step 1, stage 1 on hook:cpu:0, W0-2, layer layers.1, layernorm_bwd_weight: dgamma is not as on "
	               "hook:ref: 1 of 8 elements differ; worst [6] is 0.25, should be ",
	               " ULPs, ");
	ck_assert_str_eq(results.first, "step 1, stage 1, W0-2, layers.1, layernorm_bwd_weight, dgamma");
	trial_close(&trial);
}
END_TEST

/* Ops of one stage in one step. */
static int64_t ops_of(int stage)
{
	int64_t ops = 0;
	const struct program *program = trial.pipeline->train;
	for (int i = 0; i < program->instruction_count; i++)
		if (program->instructions[i].list && program->instructions[i].action.stage == stage)
			ops += (int64_t)ps_list_count(program->instructions[i].list);
	return ops;
}

START_TEST(test_every)
{
	static const ps_shadow_stage stages[] = {{0, 2}, {2, 3}};
	set_up_with(&(const ps_pipeline_config){.rank_count = 3, .shadow = {.stages = stages, .stage_count = 2}});
	/* Stage 1 is not checked, and stage 2 not in step 1. */
	hook_add(&trial.hooks[1], .effect = HOOK_SPOIL, .call = HOOK_OP_OF(column_sum), .every = true, .value = 1);
	for (uint32_t k = 0; k < 7; k++) {
		if (k == 1)
			hook_add(&trial.hooks[2], .effect = HOOK_SPOIL, .call = HOOK_OP_OF(column_sum), .value = 1);
		check_ok(step(k));
	}
	check_ok(ps_pipeline_shadow_finish(trial.pipeline));
	ps_shadow_report report;
	ps_pipeline_get_shadow(trial.pipeline, &report);
	ck_assert_int_eq(report.steps, 5);
	ck_assert_int_eq(report.unchecked_steps, 2);
	ck_assert_int_eq(report.ops, 4 * ops_of(0) + 3 * ops_of(2));
	ck_assert_int_eq(report.transfers, 4 * 2 + 3 * 2);
	hook_add(&trial.hooks[0], .effect = HOOK_SPOIL, .call = HOOK_OP_OF(embedding_bwd_weight), .element = 9,
	         .value = 7);
	ps_status status = step(8);
	ck_assert(status == PS_OK || status == PS_EDIVERGED);
	check_diverged(ps_pipeline_shadow_finish(trial.pipeline),
	               "step 8, stage 0 on hook:ref, W0-1, layer encoder, embedding_bwd_weight: dweight",
	               "worst [1, 1]");
	trial_close(&trial);
}
END_TEST

START_TEST(test_transfer)
{
	set_up(2);
	/* From the second transfer on, what a peer copy brings is wrong in its last element. */
	trial.hooks[1].corrupt_peer_from = 1;
	ps_status status = step(3);
	ck_assert(status == PS_OK || status == PS_EDIVERGED || status == PS_ENUMERIC);
	check_diverged(
	        ps_pipeline_shadow_finish(trial.pipeline),
	        "step 3, stage 1 on hook:ref, transfer of F0: what arrived is not what was sent: 1 of 120 elements",
	        "[2, 4, 7]");
	trial_close(&trial);
}
END_TEST

START_TEST(test_update)
{
	static const struct {
		int op;
		const char *begin;
	} rows[] = {
	        {HOOK_OP_OF(sum_squares),
	         "step 0, stage 1 on hook:ref, update, layers.2.self_attn.in_proj_weight, sum_squares: out is not"},
	        {HOOK_OP_OF(clip_scale),
	         "step 0, stage 1 on hook:ref, update, layers.2.self_attn.in_proj_weight, clip_scale: norm is not"},
	        {HOOK_OP_OF(sgd),
	         "step 0, stage 1 on hook:ref, update, layers.2.self_attn.in_proj_weight, sgd: w is not"},
	};
	double norm;
	ps_sgd *sgd;
	set_up(2);
	check_ok(ps_sgd_create(&sgd, trial.pipeline));
	hook_add(&trial.hooks[1], .effect = HOOK_SPOIL, .call = rows[_i].op, .value = 100);
	check_ok(step(0));
	check_ok(ps_sgd_step(sgd, 1, 0.5, &norm));
	check_diverged(ps_pipeline_shadow_finish(trial.pipeline), rows[_i].begin, "1 of ");
	ps_sgd_destroy(sgd);
	trial_close(&trial);
}
END_TEST

/* Views of a matrix: rows with gaps between them, of which the op leaves the bytes as they are. */
START_TEST(test_views)
{
	set_up(1);
	check_ok(step(0));
	ps_parameter_view view;
	ps_pipeline_get_parameter(trial.pipeline, 1, &view);
	ck_assert_str_eq(view.name, "layers.0.self_attn.in_proj_weight"); /* (24, 8) */
	ps_tensor a = ps_tensor_slice(view.value, 1, 2, 5), b = ps_tensor_slice(view.value, 1, 3, 5);
	ps_tensor c = ps_tensor_slice(ps_tensor_slice(view.gradient, 1, 1, 4), 0, 7, 6);
	if (_i)
		hook_add(&trial.hooks[0], .effect = HOOK_SPOIL, .call = HOOK_OP_OF(gemm), .element = 2 * 8 + 3,
		         .value = 9);
	ps_updates *updates;
	check_ok(ps_updates_create(&updates, trial.pipeline));
	check_ok(ps_update(updates, 1, gemm, .a = ps_tensor_slice(a, 0, 0, 6), .b = ps_tensor_slice(b, 0, 2, 4),
	                   .trans_b = true, .c = c, .accumulate = true));
	check_ok(ps_updates_submit(updates));
	ps_updates_destroy(updates);
	ps_status status = ps_pipeline_shadow_finish(trial.pipeline);
	if (_i)
		check_diverged(
		        status,
		        "step 0, stage 0 on hook:ref, update, layers.0.self_attn.in_proj_weight, gemm: c is not as "
		        "on hook:ref: 1 of 24 elements differ; worst [2, 3] is 9,",
		        "ULPs");
	else
		check_ok(status);
	trial_close(&trial);
}
END_TEST

/* A value that becomes NaN on one device is its fault; one that is NaN on both is the numbers' own. */
START_TEST(test_nan)
{
	set_up(2);
	hook_add(&trial.hooks[0], .effect = HOOK_SPOIL, .call = HOOK_OP_OF(gemm), .nth = 2, .element = 5, .value = NAN);
	check_diverged(step(4), "step 4, stage 0 on hook:ref, F0, layer layers.0, gemm: c is not as on hook:ref: 1 of ",
	               "worst [0, 5] is nan");
	trial_close(&trial);
	set_up(2);
	float weights[8 * 8];
	for (int i = 0; i < 8 * 8; i++)
		weights[i] = NAN;
	int out = 0;
	ps_parameter_view view;
	for (;; out++) {
		ps_pipeline_get_parameter(trial.pipeline, out, &view);
		if (!strcmp(view.name, "layers.1.self_attn.out_proj.weight"))
			break;
	}
	check_ok(ps_pipeline_write_parameter(trial.pipeline, out, weights));
	check_fails(step(4), PS_ENUMERIC);
	check_message("layers.1.self_attn.out_proj.weight");
	ck_assert_int_eq(results.bad, 0);
	trial_close(&trial);
}
END_TEST

/* A step that fails ends as it does unchecked, and the next one is checked again. */
START_TEST(test_faults)
{
	const int calls[] = {HOOK_OP_OF(gemm), HOOK_READ, HOOK_TIMESTAMP, HOOK_WRITE};
	const uint64_t places[] = {1, 7, 20};
	set_up(2);
	for (int k = 0; k < 2 * 4 * 3; k++) {
		int device = k % 2;
		enum hook_effect effect = _i ? HOOK_REFUSE : HOOK_FAIL;
		hook_add(&trial.hooks[device], .effect = effect, .call = calls[k / 2 % 4], .nth = places[k / 8],
		         .status = PS_EIO);
		ps_status status = step((uint32_t)k);
		bool fired = atomic_load(&trial.hooks[device].fired) > 0;
		ck_assert_int_eq(status, fired ? PS_EIO : PS_OK);
		if (fired)
			check_message("injected");
		atomic_store(&trial.hooks[device].fired, 0);
		hook_clear(&trial.hooks[device]);
		check_ok(step((uint32_t)k));
	}
	check_ok(ps_pipeline_shadow_finish(trial.pipeline));
	ck_assert_int_eq(results.bad, 0);
	trial_close(&trial);
}
END_TEST

/* What fails on the device that checks ends the run and names the op. */
START_TEST(test_failing_check)
{
	set_up(2);
	check_ok(step(0));
	check_ok(ps_pipeline_shadow_finish(trial.pipeline));
	hook_add(&trial.hooks[7], .effect = _i ? HOOK_REFUSE : HOOK_FAIL, .call = HOOK_OP_OF(attention_fwd), .nth = 2,
	         .status = PS_EDEVICE);
	ps_status status = step(1);
	ck_assert(status == PS_OK || status == PS_EDEVICE);
	check_fails(ps_pipeline_shadow_finish(trial.pipeline), PS_EDEVICE);
	check_message(
	        "step 1, stage 0 on hook:ref, F0, layer layers.1, attention_fwd: its check on hook:ref: injected");
	check_fails(step(2), PS_EDEVICE);
	trial_close(&trial);
}
END_TEST

/* A device that hangs while a step waits for room is a stall like any other. */
START_TEST(test_stall)
{
	static const uint64_t pools[] = {1, 0};
	ps_pipeline_config config = {.rank_count = 2, .stall_timeout_s = 0.3, .shadow = shadow_of(2)};
	config.shadow.pool_bytes = pools[_i];
	set_up_with(&config);
	check_ok(step(0));
	hook_add(&trial.hooks[1], .effect = HOOK_HANG, .call = HOOK_OP_OF(attention_bwd));
	check_fails(step(1), PS_ESTALL);
	check_message("no progress for 0.3 s; stage 1 on hook:ref, B0, layer layers.3, attention_bwd is not done");
	check_fails(step(2), PS_ESTALL);
	check_fails(ps_pipeline_shadow_finish(trial.pipeline), PS_ESTALL);
	hook_release(&trial.hooks[1]);
	trial_close(&trial);
}
END_TEST

/* A pipeline that goes while checks are under way does not wait for all of them. */
START_TEST(test_destroy)
{
	set_up(2);
	check_ok(step(0));
	check_ok(ps_pipeline_shadow_finish(trial.pipeline));
	uint64_t all = hook_calls(&trial.hooks[7], HOOK_OP);
	trial_close(&trial);
	set_up(2);
	hook_add(&trial.hooks[7], .effect = HOOK_DELAY, .call = HOOK_OP, .every = true, .delay_ns = 30000000);
	check_ok(step(0));
	trial_close(&trial);
	ck_assert_uint_lt(hook_calls(&trial.hooks[7], HOOK_OP), all);
}
END_TEST

START_TEST(test_config)
{
	static const ps_shadow_stage wrong[] = {{2, 1}, {-1, 1}, {0, -1}};
	static const char *const messages[] = {"there is no stage 2", "there is no stage -1", "every -1 steps"};
	for (int i = 0; i < 3; i++) {
		struct trial bad = {.config = {.rank_count = 2, .shadow = {.stages = &wrong[i], .stage_count = 1}}};
		check_fails(trial_create(&bad), PS_EINVAL);
		check_message(messages[i]);
		trial_close(&bad);
	}
	struct trial bad = {
	        .config = {.rank_count = 2, .shadow = {.stages = all_stages, .stage_count = 1, .against = "nothing"}}};
	check_fails(trial_create(&bad), PS_ENODEV);
	check_message("the device that checks: ");
	trial_close(&bad);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("engine shadow");
	TCase *cases = tcase_create("shadow");
	tcase_set_timeout(cases, 300);
	tcase_add_loop_test(cases, test_same_bits, 0, 4);
	tcase_add_loop_test(cases, test_broken_op, 0, sizeof spoiled / sizeof *spoiled);
	tcase_add_test(cases, test_shapes);
	tcase_add_loop_test(cases, test_views, 0, 2);
	tcase_add_test(cases, test_mixed);
	tcase_add_test(cases, test_broken_in_the_middle);
	tcase_add_test(cases, test_every);
	tcase_add_test(cases, test_transfer);
	tcase_add_loop_test(cases, test_update, 0, 3);
	tcase_add_test(cases, test_nan);
	tcase_add_loop_test(cases, test_faults, 0, 2);
	tcase_add_loop_test(cases, test_failing_check, 0, 2);
	tcase_add_loop_test(cases, test_stall, 0, 2);
	tcase_add_test(cases, test_destroy);
	tcase_add_test(cases, test_config);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
