/* What is refused, and numbers that go astray: the message says what, where and what would be right. */
#include "tests/engine/trial.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Writes one element of a parameter, or all of them with at < 0. */
static void poke(const struct trial *trial, const char *name, int64_t at, float value)
{
	for (int i = 0; i < ps_pipeline_parameter_count(trial->pipeline); i++) {
		ps_parameter_view view;
		ps_pipeline_get_parameter(trial->pipeline, i, &view);
		if (strcmp(view.name, name))
			continue;
		int64_t count = ps_tensor_count(view.value);
		float *values = malloc((size_t)count * sizeof *values);
		ck_assert_ptr_nonnull(values);
		check_ok(ps_pipeline_read_parameter(trial->pipeline, i, values));
		for (int64_t k = at < 0 ? 0 : at; k < (at < 0 ? count : at + 1); k++)
			values[k] = value;
		check_ok(ps_pipeline_write_parameter(trial->pipeline, i, values));
		free(values);
		return;
	}
	ck_abort_msg("there is no parameter %s", name);
}

static ps_pipeline_config config_of(int i)
{
	return (ps_pipeline_config){.rank_count = 2 + i % 2,
	                            .chunks = 3,
	                            .checkpoint = (ps_checkpoint)(i % 3),
	                            .schedule = i % 2 ? "gpipe" : "1f1b",
	                            .weight_group = i / 3,
	                            .links = {.force_staged = i == 4}};
}

/* Works again after good values are back. */
static void check_well(struct trial *trial)
{
	double loss;
	check_ok(ps_pipeline_initialize(trial->pipeline));
	check_ok(trial_train(trial, 7, 6, 5, &loss));
	ck_assert(isfinite(loss));
}

START_TEST(test_bad_parameter)
{
	struct trial trial = {.config = config_of(_i)};
	char text[128];
	double loss;
	trial_open(&trial);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	poke(&trial, "layers.3.linear1.weight", 17, _i % 2 ? NAN : INFINITY);
	check_fails(trial_train(&trial, 7, 6, 5, &loss), PS_ENUMERIC);
	snprintf(text, sizeof text, "nan: parameter layers.3.linear1.weight of stage %d on ref is not finite",
	         trial.config.rank_count - 1);
	check_message("the loss of step 7 is ");
	check_message(text);
	check_well(&trial);
	trial_close(&trial);
}
END_TEST

START_TEST(test_overflow)
{
	struct trial trial = {.config = config_of(_i)};
	double loss;
	trial_open(&trial);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	poke(&trial, "layers.1.linear2.weight", -1, 3e38F);
	check_fails(trial_train(&trial, 7, 6, 5, &loss), PS_ENUMERIC);
	int stage = 0, rank, first, count;
	do
		ps_pipeline_get_stage(trial.pipeline, stage++, &rank, &first, &count);
	while (2 >= first + count);
	char text[128];
	snprintf(text, sizeof text,
	         ": the output of layer layers.1, stage %d on ref, is the first that is not finite, in micro-batch 0",
	         stage - 1);
	check_message("the loss of step 7 is ");
	check_message(text);
	check_well(&trial);
	trial_close(&trial);
}
END_TEST

/* Only one micro-batch has the token whose row is too large. */
START_TEST(test_overflow_of_one_token)
{
	struct trial trial = {.dropout = -1, .config = config_of(_i)};
	int32_t inputs[30] = {0}, targets[30] = {0};
	double loss;
	trial_open(&trial);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	poke(&trial, "encoder.weight", 12 * 8 + 3, 3e38F);
	inputs[13] = 12; /* row 2, micro-batch 1 */
	const ps_batch batch = {.inputs = inputs, .targets = targets, .rows = 6, .time = 5, .step = 1};
	check_fails(ps_pipeline_train(trial.pipeline, &batch, &loss), PS_ENUMERIC);
	check_message("the output of layer encoder, stage 0 on ref, is the first that is not finite, in micro-batch 1");
	inputs[13] = 0;
	check_ok(ps_pipeline_train(trial.pipeline, &batch, &loss));
	inputs[3] = 12;
	const ps_batch evaluation = {.inputs = inputs, .targets = targets, .rows = 4, .time = 5};
	check_fails(ps_pipeline_evaluate(trial.pipeline, &evaluation, &loss), PS_ENUMERIC);
	check_message("the loss of an evaluation is ");
	check_message("the output of layer encoder, stage 0 on ref, is the first that is not finite, in micro-batch 0");
	trial_close(&trial);
}
END_TEST

/* Logits that are too large: the loss is where it shows. */
START_TEST(test_overflow_in_decoder)
{
	struct trial trial = {.config = config_of(_i)};
	double loss;
	trial_open(&trial);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	poke(&trial, "decoder.weight", 0, 3e38F);
	check_fails(trial_train(&trial, 7, 6, 5, &loss), PS_ENUMERIC);
	check_message("the output of layer decoder, stage ");
	check_well(&trial);
	trial_close(&trial);
}
END_TEST

/* When the search itself fails, both are told, and the pipeline is usable. */
START_TEST(test_search_fails)
{
	struct trial trial = {.hooked = true, .config = {.rank_count = 2, .chunks = 2}};
	double loss;
	trial_open(&trial);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	check_ok(trial_train(&trial, 7, 6, 5, &loss));
	poke(&trial, "layers.1.linear2.weight", -1, 3e38F);
	hook_add(&trial.hooks[0], .effect = _i ? HOOK_FAIL : HOOK_REFUSE, .call = HOOK_READ);
	check_fails(trial_train(&trial, 7, 6, 5, &loss), PS_ENUMERIC);
	check_message("(the search for its origin failed: injected: read");
	check_well(&trial);
	trial_close(&trial);
}
END_TEST

START_TEST(test_token_out_of_range)
{
	struct trial trial = {.config = {.rank_count = 2, .chunks = 3}};
	int32_t inputs[30] = {0}, targets[30] = {0};
	double loss;
	const ps_batch batch = {.inputs = inputs, .targets = targets, .rows = 6, .time = 5};
	trial_open(&trial);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	const int32_t bad[] = {TRIAL_VOCABULARY, -1, INT32_MAX, INT32_MIN};
	inputs[25] = bad[_i];
	check_fails(ps_pipeline_train(trial.pipeline, &batch, &loss), PS_EINVAL);
	check_message("stage 0 on ref, F2, layer encoder, embedding_fwd: ");
	inputs[25] = 0;
	check_ok(ps_pipeline_train(trial.pipeline, &batch, &loss));
	targets[10] = bad[_i];
	check_fails(ps_pipeline_train(trial.pipeline, &batch, &loss), PS_EINVAL);
	check_message("stage 1 on ref, F1, layer decoder, cross_entropy: ");
	targets[10] = 0;
	check_ok(ps_pipeline_train(trial.pipeline, &batch, &loss));
	trial_close(&trial);
}
END_TEST

START_TEST(test_bad_batches)
{
	struct trial trial = {.config = {.chunks = 3}};
	const int64_t bad[][2] = {{0, 5}, {7, 5}, {6, 0}, {6, 6}, {-1, -1}, {INT64_MAX, 5}};
	int32_t tokens[64] = {0};
	double loss = 5;
	trial_open(&trial);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		const ps_batch batch = {.inputs = tokens, .targets = tokens, .rows = bad[i][0], .time = bad[i][1]};
		check_fails(ps_pipeline_train(trial.pipeline, &batch, &loss), PS_EINVAL);
		check_message("this pipeline takes 1 to 6 and 1 to 5");
		check_fails(ps_pipeline_evaluate(trial.pipeline, &batch, &loss), PS_EINVAL);
		check_message("this pipeline takes 1 to 4 and 1 to 5");
	}
	ck_assert(loss == 5);
	trial_close(&trial);
}
END_TEST

START_TEST(test_without_evaluation)
{
	struct trial trial = {.config = {.chunks = 3, .eval_rows = -2}};
	check_fails(trial_create(&trial), PS_EINVAL);
	trial_close(&trial);
	ps_transformer_config sizes = {
	        .vocabulary = 5, .emsize = 4, .nhead = 1, .nhid = 3, .nlayers = 1, .max_time = 2};
	ps_model model;
	check_ok(ps_transformer_create(&model, &sizes));
	const char *const devices[] = {"ref"};
	ps_pipeline_config config = {.layers = model.layers,
	                             .layer_count = model.layer_count,
	                             .devices = devices,
	                             .rank_count = 1,
	                             .rows = 2,
	                             .time = 2};
	ps_pipeline *pipeline;
	int32_t tokens[4] = {0};
	double loss;
	check_ok(ps_pipeline_create(&pipeline, &config));
	check_ok(ps_pipeline_initialize(pipeline));
	const ps_batch batch = {.inputs = tokens, .targets = tokens, .rows = 2, .time = 2};
	check_ok(ps_pipeline_train(pipeline, &batch, &loss));
	check_fails(ps_pipeline_evaluate(pipeline, &batch, &loss), PS_EINVAL);
	check_message("without evaluation");
	ps_pipeline_destroy(pipeline);
	ps_model_finish(&model);
}
END_TEST

static const int zero_balance[] = {3, 0, 3}, short_balance[] = {2, 2}, negative_balance[] = {7, -1},
                 huge_balance[] = {INT32_MAX, INT32_MAX, 8};

/* Configurations that are refused. */
static const struct {
	ps_pipeline_config config;
	ps_status status;
	const char *message;
} refusals[] = {
        {{.rank_count = 7}, PS_EINVAL, "7 stages need at least as many layers; the model has 6 units"},
        {{.rank_count = 2, .stage_count = 3}, PS_EINVAL, "3 stages cannot be spread evenly over 2 devices"},
        {{.rank_count = 3, .stage_count = 2}, PS_EINVAL, "2 stages on 3 devices; each device needs at least one"},
        {{.rank_count = 2, .stage_count = -4}, PS_EINVAL, "-4 stages on 2 devices"},
        {{.rank_count = -1}, PS_EINVAL, "at least one layer and one device"},
        {{.rank_count = 3, .balance = zero_balance},
         PS_EINVAL,
         "the balance gives stage 1 0 units; each stage needs at least 1"},
        {{.rank_count = 2, .balance = negative_balance}, PS_EINVAL, "stage 1 -1 units"},
        {{.rank_count = 2, .balance = short_balance}, PS_EINVAL, "the balance adds up to 4 units; the model has 6"},
        {{.rank_count = 3, .balance = huge_balance}, PS_EINVAL, "adds up to 4294967302 units"},
        {{.chunks = -1}, PS_EINVAL, "-1 chunks; at least 1 is needed"},
        {{.rows = -1}, PS_EINVAL, "at least one row and one time step"},
        {{.time = -1}, PS_EINVAL, "time"},
        {{.rows = INT64_MAX / 4}, PS_EINVAL, "2^31 - 1 tokens"},
        {{.eval_rows = INT64_MAX / 4}, PS_EINVAL, "2^31 - 1 tokens"},
        {{.rows = INT32_MAX, .time = 1, .chunks = INT32_MAX}, PS_EINVAL, "chunks for 1 stage are too many"},
        {{.dtype = PS_I32}, PS_EINVAL, "a pipeline computes in fp32 or fp64, not in int32"},
        {{.schedule = "zigzag"}, PS_EINVAL, "there is no schedule 'zigzag'; there are "},
        {{.schedule = "forward-only"}, PS_EINVAL, "has no backward"},
        {{.stage_count = 2}, PS_EINVAL, "1f1b: 2 stages a rank; this schedule places exactly 1"},
        {{.schedule_file = "/nowhere/at-all"}, PS_ENOENT, "/nowhere/at-all"},
};

START_TEST(test_refusals)
{
	struct trial trial = {.config = refusals[_i].config};
	check_fails(trial_create(&trial), refusals[_i].status);
	check_message(refusals[_i].message);
	ck_assert_ptr_null(trial.pipeline);
	trial_close(&trial);
}
END_TEST

START_TEST(test_refused_files)
{
	const struct {
		const char *text, *message;
		int chunks, ranks;
	} rows[] = {
	        {"micro-batches: 2\nF0 F1 BW0 BW1\n", "micro", 3, 1},
	        {"micro-batches: 2\nF0 F1 BW0 BW1\n", "is for 1 rank and 1 stage; here are 2 and 2", 2, 2},
	        {"micro-batches: 2\nF0 F1\n", "has no backward", 2, 1},
	        {"micro-batches: 2\nF0 BW0 BW1\n", "F1", 2, 1},
	        {"nonsense\n", "nonsense", 2, 1},
	        /* What grouping would replace is looked at before. */
	        {"F0 F1 B0 B1\n", "W0 of stage 0 is missing", 2, 1},
	        {"F0-1 BW1 BW0\n", "ascend", 2, 1},
	        {"F0-1 BW0\n", "B1 of stage 0 is missing", 2, 1},
	};
	char path[256];
	trial_write_file(path, rows[_i].text);
	struct trial trial = {.config = {.rank_count = rows[_i].ranks,
	                                 .stage_count = rows[_i].ranks,
	                                 .chunks = rows[_i].chunks,
	                                 .schedule_file = path}};
	ck_assert_int_ne(trial_create(&trial), PS_OK);
	check_message(rows[_i].message);
	unlink(path);
	trial_close(&trial);
}
END_TEST

/* The file is read again for a batch of another shape: smaller batches run by it too, as long as it is there. */
START_TEST(test_file_and_short_batch)
{
	char path[256];
	double loss;
	trial_write_file(path, "micro-batches: 3\nF0 F1 F2 BW0 BW1 BW2\n");
	struct trial trial = {.config = {.chunks = 3, .schedule_file = path}};
	trial_open(&trial);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	check_ok(trial_train(&trial, 0, 3, 2, &loss));
	check_ok(trial_train(&trial, 0, 1, 5, &loss));
	unlink(path);
	check_fails(trial_train(&trial, 0, 6, 4, &loss), PS_ENOENT);
	check_ok(trial_train(&trial, 0, 6, 5, &loss));
	trial_close(&trial);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("engine errors");
	TCase *cases = tcase_create("errors");
	tcase_set_timeout(cases, 120);
	tcase_add_loop_test(cases, test_bad_parameter, 0, 6);
	tcase_add_loop_test(cases, test_overflow, 0, 6);
	tcase_add_loop_test(cases, test_overflow_of_one_token, 0, 6);
	tcase_add_loop_test(cases, test_overflow_in_decoder, 0, 6);
	tcase_add_loop_test(cases, test_search_fails, 0, 2);
	tcase_add_loop_test(cases, test_token_out_of_range, 0, 4);
	tcase_add_test(cases, test_bad_batches);
	tcase_add_test(cases, test_without_evaluation);
	tcase_add_loop_test(cases, test_refusals, 0, (int)(sizeof refusals / sizeof *refusals));
	tcase_add_loop_test(cases, test_refused_files, 0, 8);
	tcase_add_test(cases, test_file_and_short_batch);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
