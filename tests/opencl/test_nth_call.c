/*
 * Each of OpenCL's calls fails in turn, once or for good, while a tiny pipeline is made, trains and is taken down:
 * there is an error with a message or, where the call did not matter, the result; nothing hangs, nothing is left, and a
 * pipeline whose step failed works afterwards. PS_TEST_STAGES names the stages.
 */
#include "support/check.h"
#include "support/tiny_life.h"

#include "tests/opencl/failing.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Of OpenCL 1.2, and one that no version has. */
enum { NOT_AVAILABLE = -2, ALLOCATION_FAILURE = -4, OUT_OF_RESOURCES = -5, OUT_OF_HOST_MEMORY = -6, UNKNOWN = -9999 };

enum { FIRST = 10 };

static bool another_path; /* a link does not use the path that failed, and its note says so */

static void look_at_links(const ps_pipeline *pipeline)
{
	another_path = false;
	for (int s = 0; s + 1 < ps_pipeline_stage_count(pipeline); s++) {
		for (int backward = 0; backward < 2; backward++) {
			const ps_link_info *info = ps_link_get_info(ps_pipeline_get_link(pipeline, s, backward));
			another_path |= strstr(info->note, "failed its test") != NULL;
		}
	}
}

static struct tiny_life life = {.ending = look_at_links};

static void set_up(void)
{
	check_ok(tiny_life_make_model(&life, 0));
}

static void tear_down(void)
{
	ps_model_finish(&life.model);
}

/* What a call may fail with, and for how many calls from the n-th on; every so manieth n is tried. */
static const struct row {
	int code;
	const char *name;
	bool for_ever;
	int stride, long_stride; /* of steps, and of what takes longer */
} rows[] = {
        {OUT_OF_RESOURCES, "CL_OUT_OF_RESOURCES", false, 1, 7},
        {ALLOCATION_FAILURE, "CL_MEM_OBJECT_ALLOCATION_FAILURE", true, 13, 61},
        {OUT_OF_HOST_MEMORY, "CL_OUT_OF_HOST_MEMORY", false, 11, 47},
        {NOT_AVAILABLE, "CL_DEVICE_NOT_AVAILABLE", true, 7, 37},
        {UNKNOWN, "OpenCL error -9999", false, 5, 53},
};
enum { KINDS = sizeof rows / sizeof *rows };

/*
 * A failure of these may pass unseen: a flush is followed by a wait, without a binary the source is compiled, and what
 * OpenCL cannot wait for the host can.
 */
static bool may_pass(const char *function)
{
	return another_path || !strcmp(function, "clRetainEvent") || !strcmp(function, "clFlush") ||
	       !strcmp(function, "clCreateProgramWithBinary") || !strcmp(function, "clGetProgramInfo");
}

/* What came of a run in which the n-th call was to fail; false when it has fewer calls. */
static bool judge(const struct row *row, uint64_t n, ps_status status, double loss, double wanted)
{
	const char *function = failing_function();
	failing_start(0, 0, false);
	if (status == PS_OK) {
		ck_assert_msg(!function || may_pass(function), "call %d, %s, failed and nobody saw it", (int)n,
		              function);
		ck_assert_double_eq(loss, wanted);
		return function;
	}
	ck_assert_msg(function, "%s", ps_error_message());
	ck_assert_msg(strstr(ps_error_message(), row->name), "call %d, %s: no %s in \"%s\"", (int)n, function,
	              row->name, ps_error_message());
	ck_assert_msg(!strchr(ps_error_message(), '\n'), "%s", ps_error_message());
	bool memory = row->code >= OUT_OF_HOST_MEMORY && row->code <= ALLOCATION_FAILURE;
	ck_assert_msg(memory || status != PS_ENOMEM, "call %d, %s: %s", (int)n, function, ps_status_name(status));
	return true;
}

/* From nothing to nothing, with everything that OpenCL keeps for the process made before. */
START_TEST(whole_life)
{
	const struct row *row = &rows[_i];
	double wanted = 0;
	check_ok(tiny_life_run(&life, &wanted));
	int64_t alive = failing_alive();
	for (uint64_t n = 1;; n += (uint64_t)row->long_stride) {
		double loss = 0;
		failing_start(n, row->code, row->for_ever);
		ps_status status = tiny_life_run(&life, &loss);
		if (!judge(row, n, status, loss, wanted))
			break;
		ck_assert_msg(failing_alive() == alive, "call %d leaves %d objects", (int)n,
		              (int)(failing_alive() - alive));
	}
}
END_TEST

/* One pipeline, whose every step fails at a later call and then works. */
START_TEST(steps)
{
	const struct row *row = &rows[_i];
	ps_pipeline *pipeline;
	double wanted, loss = 0;
	check_ok(tiny_life_create(&pipeline, &life));
	check_ok(ps_pipeline_initialize(pipeline));
	check_ok(tiny_life_step(pipeline, &wanted));
	int64_t alive = failing_alive();
	for (uint64_t n = 1;; n += (uint64_t)row->stride) {
		failing_start(n, row->code, row->for_ever);
		ps_status status = tiny_life_step(pipeline, &loss);
		if (!judge(row, n, status, loss, wanted))
			break;
		check_ok(tiny_life_step(pipeline, &loss));
		ck_assert_double_eq(loss, wanted);
		ck_assert_msg(failing_alive() == alive, "call %d leaves %d objects", (int)n,
		              (int)(failing_alive() - alive));
	}
	ps_pipeline_destroy(pipeline);
}
END_TEST

/* The first calls of a process, each time in one that has asked OpenCL nothing. */
START_TEST(first_calls)
{
	const struct row *row = &rows[_i < FIRST ? 0 : 3]; /* once, and for ever */
	double loss = 0, again = 0;
	failing_start((uint64_t)(_i % FIRST) + 1, row->code, row->for_ever);
	ps_status status = tiny_life_run(&life, &loss);
	ck_assert_ptr_nonnull(failing_function());
	judge(row, (uint64_t)(_i % FIRST) + 1, status, loss, loss);
	/* What failed once is tried again. */
	check_ok(tiny_life_run(&life, &again));
	ck_assert(status != PS_OK || again == loss);
}
END_TEST

static void add_case(Suite *suite, const char *name, const TTest *test, int runs)
{
	TCase *tests = tcase_create(name);
	tcase_add_checked_fixture(tests, set_up, tear_down);
	tcase_set_timeout(tests, 280);
	tcase_add_loop_test(tests, test, 0, runs);
	suite_add_tcase(suite, tests);
}

int main(void)
{
	tiny_life_name_stages(&life, "opencl:0,cpu");
	Suite *suite = suite_create("opencl calls that fail");
	add_case(suite, "first", first_calls, 2 * FIRST);
	add_case(suite, "life", whole_life, KINDS);
	add_case(suite, "steps", steps, KINDS);
	return check_run(suite);
}
