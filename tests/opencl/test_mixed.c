/*
 * Training with dropout over OpenCL devices and others, of one platform and of two: losses are the reference's, which
 * they are not unless every mask is, and a second run gives the same bits.
 */
#include "support/check.h"
#include "support/tiny_run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const placements[] = {"opencl:0 cpu", "cpu:0 opencl:0 ref", "opencl:0 opencl:1"};
enum { PLACEMENTS = sizeof placements / sizeof *placements, STEPS = 2 };

static bool is_here(const char *placement)
{
	char names[128];
	snprintf(names, sizeof names, "%s", placement);
	for (char *rest = NULL, *name = strtok_r(names, " ", &rest); name; name = strtok_r(NULL, " ", &rest)) {
		ps_device *device;
		if (ps_device_open(&device, name) != PS_OK)
			return false;
		ps_device_close(device);
	}
	return true;
}

static struct tiny_run run_on(const char *devices, const char *file)
{
	struct tiny_run run = {.devices = devices,
	                       .dropout = 0.2,
	                       .chunks = 3,
	                       .epochs = 1,
	                       .steps_per_epoch = STEPS,
	                       .save_last = file};
	check_ok(tiny_run(&run));
	ck_assert_int_eq(run.step_count, STEPS);
	return run;
}

static void check_near(const char *what, double got, double wanted, double limit)
{
	ck_assert_msg(fabs(got - wanted) <= limit * wanted, "%s is %.9g instead of %.9g", what, got, wanted);
}

START_TEST(placement)
{
	char folder[] = "mixed-XXXXXX", first[64], second[64];
	if (!is_here(placements[_i])) {
		printf("not here: %s\n", placements[_i]);
		return;
	}
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(first, sizeof first, "%s/first", folder);
	snprintf(second, sizeof second, "%s/second", folder);
	struct tiny_run reference = run_on("ref", first), run = run_on(placements[_i], first);
	for (int i = 0; i < STEPS; i++) {
		check_near("a loss", run.steps[i].loss, reference.steps[i].loss, 1e-5);
		check_near("a norm", run.steps[i].grad_norm, reference.steps[i].grad_norm, 1e-4);
	}
	check_near("the test's loss", run.result.test_loss, reference.result.test_loss, 1e-5);
	run_on(placements[_i], second);
	ck_assert_msg(tiny_same_files(first, second), "%s: other bits", placements[_i]);
	unlink(first);
	unlink(second);
	rmdir(folder);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mixed placements");
	TCase *cases = tcase_create("placements");
	tcase_set_timeout(cases, 300);
	tcase_add_loop_test(cases, placement, 0, PLACEMENTS);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
