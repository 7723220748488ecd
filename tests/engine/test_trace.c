/* The trace: a span of every action and transfer, in order within a rank, each after what it needs. */
#include "tests/engine/schedules.h"
#include "tests/engine/trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const ps_trace_span *find(const ps_trace_span *spans, size_t count, bool transfer, bool backward, int stage,
                                 int micro_batch)
{
	for (size_t i = 0; i < count; i++) {
		ps_action a = spans[i].action;
		bool is_backward = a.kind == PS_ACTION_B || a.kind == PS_ACTION_BW;
		if (spans[i].transfer == transfer && a.stage == stage && a.micro_batch == micro_batch &&
		    (backward ? is_backward : a.kind == PS_ACTION_F))
			return &spans[i];
	}
	return NULL;
}

/* The spans of one training step against its schedule. */
static void check_spans(const ps_pipeline *pipeline, int64_t begin, int64_t end)
{
	size_t count, actions = 0;
	const ps_trace_span *spans = ps_pipeline_spans(pipeline, &count);
	const ps_schedule *schedule = ps_pipeline_get_schedule(pipeline);
	int64_t last[TRIAL_RANKS] = {0}, next[TRIAL_RANKS] = {0};
	ck_assert_ptr_nonnull(spans);
	for (size_t i = 0; i < count; i++) {
		const ps_trace_span *span = &spans[i];
		ck_assert_int_le(begin, span->begin_ns);
		ck_assert_int_le(span->begin_ns, span->end_ns);
		ck_assert_int_le(span->end_ns, end);
		ck_assert_int_eq(span->rank, schedule->rank_of_stage[span->action.stage]);
		if (span->transfer)
			continue;
		actions++;
		const ps_action *expected = &schedule->rank[span->rank].actions[next[span->rank]++];
		ck_assert_int_eq(span->action.kind, expected->kind);
		ck_assert_int_eq(span->action.stage, expected->stage);
		ck_assert_int_eq(span->action.micro_batch, expected->micro_batch);
		ck_assert_int_eq(span->action.count, expected->count);
		ck_assert_int_le(last[span->rank], span->begin_ns);
		last[span->rank] = span->end_ns;
	}
	size_t expected_actions = 0, transfers = 0;
	for (int r = 0; r < schedule->ranks; r++)
		expected_actions += (size_t)schedule->rank[r].count;
	ck_assert_uint_eq(actions, expected_actions);
	for (int s = 0; s + 1 < schedule->stages; s++) {
		bool linked = ps_pipeline_get_link(pipeline, s, false) != NULL;
		ck_assert(linked == (ps_pipeline_get_link(pipeline, s, true) != NULL));
		for (int i = 0; i < schedule->micro_batches; i++) {
			for (int backward = 0; backward < 2; backward++) {
				int from = backward ? s + 1 : s, to = backward ? s : s + 1;
				const ps_trace_span *made = find(spans, count, false, backward, from, i);
				const ps_trace_span *used = find(spans, count, false, backward, to, i);
				const ps_trace_span *sent = find(spans, count, true, backward, from, i);
				ck_assert(made && used && linked == (sent != NULL));
				ck_assert_int_le(made->end_ns, sent ? sent->begin_ns : used->begin_ns);
				ck_assert(!sent || sent->end_ns <= used->begin_ns);
				transfers += sent != NULL;
			}
		}
	}
	ck_assert_uint_eq(count, actions + transfers);
}

START_TEST(test_spans)
{
	uint64_t state = (uint64_t)_i + 5;
	char path[256];
	struct random_schedule wanted = {.ranks = 1 + _i % 4,
	                                 .stages = 4 + _i % 3,
	                                 .micro_batches = 1 + _i % 6,
	                                 .recompute = true,
	                                 .split_weight = true,
	                                 .any_order = _i % 2};
	schedule_random_file(path, &wanted, &state);
	struct trial trial = {.devices = {"ref#0", _i % 3 ? "ref#1" : "ref#0"},
	                      .mixed = _i % 2,
	                      .config = {.rank_count = wanted.ranks,
	                                 .chunks = wanted.micro_batches,
	                                 .weight_group = -1,
	                                 .schedule_file = path,
	                                 .trace = true,
	                                 .links = {.force_staged = _i % 4 == 1}}};
	double loss;
	size_t count;
	trial_open(&trial);
	ck_assert_ptr_null(ps_pipeline_spans(trial.pipeline, &count));
	ck_assert_uint_eq(count, 0);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	for (int k = 0; k < 3; k++) {
		int64_t begin = ps_clock_ns();
		check_ok(trial_train(&trial, (uint32_t)k, 6, 5, &loss));
		check_spans(trial.pipeline, begin, ps_clock_ns());
	}
	unlink(path);
	trial_close(&trial);
}
END_TEST

/* Tracing changes no bit, and without it there are no spans. */
START_TEST(test_tracing_changes_nothing)
{
	struct trial plain = {.config = {.rank_count = 3, .chunks = 3}},
	             traced = {.config = {.rank_count = 3, .chunks = 3, .trace = true}};
	struct outcome one, other;
	size_t count;
	trial_open(&plain);
	trial_run(&plain, 2, NULL, &one);
	ck_assert_ptr_null(ps_pipeline_spans(plain.pipeline, &count));
	trial_close(&plain);
	trial_open(&traced);
	trial_run(&traced, 2, NULL, &other);
	/* The last step was the evaluation. */
	const ps_trace_span *spans = ps_pipeline_spans(traced.pipeline, &count);
	ck_assert_uint_eq(count, 3 * 3 + 2 * 3);
	for (size_t i = 0; i < count; i++)
		ck_assert_int_eq(spans[i].action.kind, PS_ACTION_F);
	trial_close(&traced);
	outcome_compare(&one, &other, "with a trace");
	outcome_free(&one);
	outcome_free(&other);
}
END_TEST

/* After a failure there is what did end, and nothing from the steps before. */
START_TEST(test_after_a_failure)
{
	struct trial trial = {.hooked = true, .config = {.rank_count = 2, .chunks = 3, .trace = true}};
	double loss;
	size_t whole, count;
	trial_open(&trial);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	check_ok(trial_train(&trial, 0, 6, 5, &loss));
	ps_pipeline_spans(trial.pipeline, &whole);
	hook_add(&trial.hooks[1], .effect = HOOK_FAIL, .call = HOOK_OP_OF(cross_entropy), .nth = 2);
	int64_t begin = ps_clock_ns();
	ck_assert_int_ne(trial_train(&trial, 0, 6, 5, &loss), PS_OK);
	const ps_trace_span *spans = ps_pipeline_spans(trial.pipeline, &count);
	ck_assert_uint_lt(count, whole);
	ck_assert_uint_gt(count, 0);
	for (size_t i = 0; i < count; i++) {
		ck_assert_int_le(begin, spans[i].begin_ns);
		ck_assert_int_le(spans[i].begin_ns, spans[i].end_ns);
	}
	trial_close(&trial);
}
END_TEST

/* Two stages on devices of their own work at the same time: each waits for nothing but what it needs. */
START_TEST(test_overlap)
{
	struct trial trial = {.hooked = true,
	                      .encoder_layers = 2,
	                      .config = {.rank_count = 2, .chunks = 6, .schedule = "gpipe", .trace = true}};
	double loss;
	size_t count;
	trial_open(&trial);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	/* Slow enough to be told from the machine's own delays. */
	for (int d = 0; d < 2; d++)
		hook_add(&trial.hooks[d], .effect = HOOK_DELAY, .call = HOOK_OP_OF(attention_fwd), .every = true,
		         .delay_ns = 20000000);
	check_ok(trial_train(&trial, 0, 6, 5, &loss));
	const ps_trace_span *spans = ps_pipeline_spans(trial.pipeline, &count);
	int overlaps = 0;
	for (int i = 0; i < 5; i++) {
		const ps_trace_span *later = find(spans, count, false, false, 0, i + 1);
		const ps_trace_span *earlier = find(spans, count, false, false, 1, i);
		ck_assert(later && earlier);
		overlaps += later->begin_ns < earlier->end_ns && earlier->begin_ns < later->end_ns;
	}
	ck_assert_int_ge(overlaps, 3);
	trial_close(&trial);
}
END_TEST

/* While a micro-batch is on its way, its producer makes the next one and its consumer works on the one before. */
START_TEST(test_transfers_overlap)
{
	const int64_t delay = 20000000;
	struct trial trial = {.hooked = true,
	                      .encoder_layers = 2,
	                      .config = {.rank_count = 2,
	                                 .chunks = 6,
	                                 .schedule = "gpipe",
	                                 .trace = true,
	                                 .links = {.force_staged = _i}}};
	double loss;
	size_t count;
	trial_open(&trial);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	for (int d = 0; d < 2; d++)
		hook_add(&trial.hooks[d], .effect = HOOK_DELAY, .call = HOOK_OP_OF(attention_fwd), .every = true,
		         .delay_ns = delay);
	hook_add(&trial.hooks[_i ? 0 : 1], .effect = HOOK_DELAY, .call = _i ? HOOK_READ : HOOK_PEER_COPY,
	         .queue = "link 0>1", .every = true, .delay_ns = delay);
	check_ok(trial_train(&trial, 0, 6, 5, &loss));
	const ps_trace_span *spans = ps_pipeline_spans(trial.pipeline, &count);
	int producer = 0, consumer = 0;
	for (int i = 1; i < 5; i++) {
		const ps_trace_span *sent = find(spans, count, true, false, 0, i);
		const ps_trace_span *next = find(spans, count, false, false, 0, i + 1);
		const ps_trace_span *before = find(spans, count, false, false, 1, i - 1);
		ck_assert(sent && next && before);
		producer += sent->begin_ns < next->end_ns && next->begin_ns < sent->end_ns;
		consumer += sent->begin_ns < before->end_ns && before->begin_ns < sent->end_ns;
	}
	ck_assert_int_ge(producer, 3);
	ck_assert_int_ge(consumer, 3);
	trial_close(&trial);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("engine trace");
	TCase *cases = tcase_create("trace");
	tcase_set_timeout(cases, 120);
	tcase_add_loop_test(cases, test_spans, 0, 12);
	tcase_add_test(cases, test_tracing_changes_nothing);
	tcase_add_test(cases, test_after_a_failure);
	tcase_add_test(cases, test_overlap);
	tcase_add_loop_test(cases, test_transfers_overlap, 0, 2);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
