#include "helpers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void write_temporary(char *path, const void *text, size_t bytes)
{
	const char *folder = getenv("TMPDIR");
	snprintf(path, 64, "%s/penstock-schedule-XXXXXX", folder && strlen(folder) < 32 ? folder : "/tmp");
	int descriptor = mkstemp(path);
	ck_assert_int_ge(descriptor, 0);
	ck_assert_int_eq(write(descriptor, text, bytes), (ssize_t)bytes);
	ck_assert_int_eq(close(descriptor), 0);
}

ps_status read_text(ps_schedule **out, char *path, const char *text, int micro_batches)
{
	write_temporary(path, text, strlen(text));
	ps_status status = ps_schedule_read(out, path, micro_batches);
	ck_assert_int_eq(unlink(path), 0);
	return status;
}

ps_schedule *schedule_of(const char *text)
{
	char path[64];
	ps_schedule *schedule = NULL;
	assert_ok(read_text(&schedule, path, text, 0));
	return schedule;
}

ps_schedule *generate(const char *name, int ranks, int stages_per_rank, int micro_batches)
{
	ps_schedule *schedule = NULL;
	assert_ok(ps_schedule_generate(&schedule, name, ranks, stages_per_rank, micro_batches));
	assert_ok(ps_schedule_validate(schedule));
	return schedule;
}

ps_schedule *copy_schedule(const ps_schedule *schedule)
{
	ps_schedule *copy = NULL;
	assert_ok(
	        ps_schedule_create(&copy, schedule->name, schedule->ranks, schedule->stages, schedule->micro_batches));
	copy->rule = schedule->rule;
	copy->forward_only = schedule->forward_only;
	for (int stage = 0; stage < schedule->stages; stage++)
		copy->rank_of_stage[stage] = schedule->rank_of_stage[stage];
	for (int rank = 0; rank < schedule->ranks; rank++)
		for (int64_t position = 0; position < schedule->rank[rank].count; position++)
			assert_ok(ps_schedule_add(copy, rank, schedule->rank[rank].actions[position]));
	return copy;
}

void assert_same_actions(const ps_schedule *a, const ps_schedule *b)
{
	ck_assert_int_eq(a->ranks, b->ranks);
	for (int rank = 0; rank < a->ranks; rank++) {
		ck_assert_int_eq(a->rank[rank].count, b->rank[rank].count);
		for (int64_t position = 0; position < a->rank[rank].count; position++) {
			ps_action x = a->rank[rank].actions[position], y = b->rank[rank].actions[position];
			ck_assert(x.kind == y.kind && x.stage == y.stage && x.micro_batch == y.micro_batch &&
			          x.count == y.count);
		}
	}
}

double makespan(const ps_schedule *schedule, const ps_costs *costs)
{
	assert_ok(ps_schedule_validate(schedule));
	ps_simulation simulation;
	assert_ok(ps_schedule_simulate(&simulation, schedule, costs, false));
	double result = simulation.makespan;
	ps_simulation_finish(&simulation);
	return result;
}

void set_equal_costs(equal_costs *out, double f, double b, double w, double link)
{
	for (int i = 0; i < 64; i++) {
		out->f[i] = f;
		out->b[i] = b;
		out->w[i] = w;
		out->link[i] = link;
	}
	out->costs = (ps_costs){
	        .forward = out->f,
	        .backward_input = out->b,
	        .backward_weight = out->w,
	        .send_forward = out->link,
	        .send_backward = out->link,
	};
}

int run_suite(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
