/*
 * Out of memory at the n-th allocation, for every n: each function says so, leaves its result alone and loses
 * nothing (the leak checker sees to that). The module is compiled into this program with these allocators.
 */
#include "helpers.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *failing_malloc(size_t bytes);
void *failing_calloc(size_t count, size_t bytes);
void *failing_realloc(void *old, size_t bytes);

static int allocations_left = -1; /* negative: any number */

static bool fails(void)
{
	if (allocations_left == 0)
		return true;
	allocations_left -= allocations_left > 0;
	return false;
}

void *failing_malloc(size_t bytes)
{
	return fails() ? NULL : malloc(bytes);
}

void *failing_calloc(size_t count, size_t bytes)
{
	return fails() ? NULL : calloc(count, bytes);
}

void *failing_realloc(void *old, size_t bytes)
{
	return fails() ? NULL : realloc(old, bytes);
}

typedef struct job {
	const char *path;
	ps_schedule *schedule; /* for steps that take one */
	ps_simulation simulation;
	ps_schedule *made;
	char *text;
} job;

static ps_status do_generate(job *work)
{
	return ps_schedule_generate(&work->made, "1f1b", 3, 1, 40);
}

static ps_status do_generate_wave(job *work)
{
	return ps_schedule_generate(&work->made, "gpipe", 2, 2, 40);
}

static ps_status do_generate_forward(job *work)
{
	return ps_schedule_generate_forward(&work->made, work->schedule, 5);
}

static ps_status do_read(job *work)
{
	return ps_schedule_read(&work->made, work->path, 0);
}

static ps_status do_recompute(job *work)
{
	return ps_schedule_add_recompute(work->schedule, PS_CHECKPOINT_ALWAYS);
}

static ps_status do_group(job *work)
{
	return ps_schedule_group_weight(work->schedule, 2);
}

static ps_status do_validate(job *work)
{
	return ps_schedule_validate(work->schedule);
}

static ps_status do_simulate(job *work)
{
	return ps_schedule_simulate(&work->simulation, work->schedule, NULL, true);
}

static ps_status do_draw(job *work)
{
	if (!work->simulation.spans)
		PS_TRY(ps_schedule_simulate(&work->simulation, work->schedule, NULL, true));
	return ps_simulation_draw(&work->text, work->schedule, &work->simulation, 1);
}

static const struct {
	ps_status (*run)(job *work);
	int least; /* allocations that it makes at least: the test must reach them */
} steps[] = {
        {do_generate, 6}, {do_generate_wave, 6}, {do_generate_forward, 6}, {do_read, 6},  {do_recompute, 4},
        {do_group, 5},    {do_validate, 8},      {do_simulate, 10},        {do_draw, 11},
};

START_TEST(every_allocation_fails)
{
	char path[64];
	static const char text[] = "F0 F1 BW0 BW1\nF0 F1 BW0 BW1\n";
	write_temporary(path, text, strlen(text));
	int failures = 0;
	for (;; failures++) {
		job work = {.path = path, .schedule = generate("gpipe", 3, 1, 6)};
		ps_schedule *before = copy_schedule(work.schedule);
		allocations_left = failures;
		ps_status status = steps[_i].run(&work);
		allocations_left = -1;
		if (status != PS_OK) {
			ck_assert_int_eq(status, PS_ENOMEM);
			ck_assert_ptr_nonnull(strstr(ps_error_message(), "no memory"));
			ck_assert_ptr_null(work.made);
			ck_assert_ptr_null(work.text);
			assert_same_actions(before, work.schedule);
		}
		free(work.text);
		ps_simulation_finish(&work.simulation);
		ps_schedule_destroy(work.made);
		ps_schedule_destroy(work.schedule);
		ps_schedule_destroy(before);
		if (status == PS_OK)
			break;
	}
	ck_assert_int_ge(failures, steps[_i].least);
	ck_assert_int_eq(unlink(path), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("schedule memory");
	TCase *tests = tcase_create("memory");
	suite_add_tcase(suite, tests);
	tcase_add_loop_test(tests, every_allocation_fails, 0, (int)(sizeof steps / sizeof *steps));
	return run_suite(suite);
}
