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

int main(void)
{
	Suite *suite = suite_create("engine shadow");
	TCase *cases = tcase_create("shadow");
	tcase_set_timeout(cases, 300);
	tcase_add_loop_test(cases, test_same_bits, 0, 4);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
