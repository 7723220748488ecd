/*
 * The same seed gives the same bits: the files saved after two epochs with dropout are compared byte for byte over
 * every cut, schedule, checkpoint mode, number of chunks and split.
 */
#include "support/check.h"
#include "support/tiny_run.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "bits-XXXXXX", wanted[64], got[64];

static void setup(void)
{
	strcpy(folder, "bits-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(wanted, sizeof wanted, "%s/wanted", folder);
	snprintf(got, sizeof got, "%s/got", folder);
}

static void teardown(void)
{
	unlink(wanted);
	unlink(got);
	rmdir(folder);
}

/* The units of the five stages there can be at most. */
static const int cuts[][TINY_STAGES] = {{5}, {1, 4}, {3, 2}, {2, 1, 2}, {1, 1, 1, 1, 1}};
enum { CUTS = sizeof cuts / sizeof *cuts };

static int stages_of(const int *cut)
{
	int stages = 0;
	while (stages < TINY_STAGES && cut[stages] > 0)
		stages++;
	return stages;
}

/* `device` for all stages of a cut, and in turn with `other`. */
static const char *names(char text[128], int stages, const char *device, const char *other)
{
	text[0] = '\0';
	for (int s = 0; s < stages; s++) {
		size_t length = strlen(text);
		snprintf(text + length, 128 - length, "%s ", s % 2 == 0 ? device : other);
	}
	return text;
}

/* Every `stride`-th point of the grid; a stride without a factor in common with it still meets every value. */
static void check_grid_of(struct tiny_run kind, const char *device, const char *other, int stride)
{
	static const char *const schedules[] = {"gpipe", "1f1b"};
	static const int chunks[] = {1, 2, 3, 5};
	struct tiny_run reference = kind;
	reference.devices = device;
	reference.chunks = 1;
	reference.dropout = 0.2;
	reference.steps_per_epoch = 3;
	reference.save_last = wanted;
	check_ok(tiny_run(&reference));
	for (int i = 0; i < CUTS * 2 * 3 * 4 * 2; i += stride) {
		char devices[128];
		const int *cut = cuts[i % CUTS];
		struct tiny_run run = reference;
		run.devices = names(devices, stages_of(cut), device, other);
		run.balance = cut;
		run.schedule = schedules[i / CUTS % 2];
		run.checkpoint = (ps_checkpoint)(i / CUTS / 2 % 3);
		run.chunks = chunks[i / CUTS / 6 % 4];
		run.split = (ps_split_rule)(i / CUTS / 24);
		run.save_last = got;
		check_ok(tiny_run(&run));
		ck_assert_msg(tiny_same_files(wanted, got),
		              "%s: cut %d, %s, checkpoint %d, %d chunks, split %d: other bits", devices, i % CUTS,
		              run.schedule, (int)run.checkpoint, run.chunks, (int)run.split);
		ck_assert_double_eq(run.result.test_loss, reference.result.test_loss);
	}
}

static void check_grid(const char *device, const char *other, int stride)
{
	check_grid_of((struct tiny_run){0}, device, other, stride);
}

/* Products in bf16, and weights too, with their updates rounded at random. */
START_TEST(bf16)
{
	const struct tiny_run kind = {.math = PS_MATH_BF16, .bf16_weights = _i % 2};
	check_grid_of(kind, _i / 2 ? "cpu" : "ref", _i / 2 ? "cpu:0" : "ref", 11);
}
END_TEST

START_TEST(ref)
{
	check_grid("ref", "ref", 1);
}
END_TEST

START_TEST(cpu)
{
	check_grid("cpu:0", "cpu:0", 7);
}
END_TEST

/* Stages that really run at the same time, on cores of their own or on all of them. */
START_TEST(cores)
{
	ps_device *second;
	if (ps_device_open(&second, "cpu:1") != PS_OK)
		return;
	ps_device_close(second);
	check_grid("cpu:0", "cpu:1", 7);
	check_grid("cpu", "cpu", 11);
}
END_TEST

START_TEST(opencl)
{
	ps_device *device;
	if (ps_device_open(&device, "opencl:0") != PS_OK)
		return;
	ps_device_close(device);
	check_grid("opencl:0", "opencl:0", 13);
}
END_TEST

/* Another seed, and no dropout, do give other bits: the comparison can fail. */
START_TEST(sensitive)
{
	struct tiny_run run = {.dropout = 0.2, .steps_per_epoch = 3, .save_last = wanted};
	struct tiny_run seeded = run, dry = run;
	seeded.seed = 1;
	dry.dropout = 0.1;
	seeded.save_last = dry.save_last = got;
	check_ok(tiny_run(&run));
	check_ok(tiny_run(&seeded));
	ck_assert_double_ne(run.steps[0].loss, seeded.steps[0].loss);
	ck_assert(!tiny_same_files(wanted, got));
	check_ok(tiny_run(&dry));
	ck_assert_double_ne(run.steps[0].loss, dry.steps[0].loss);
	ck_assert(!tiny_same_files(wanted, got));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("bits");
	TCase *cases = tcase_create("bits");
	tcase_set_timeout(cases, 300);
	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, ref);
	tcase_add_test(cases, cpu);
	tcase_add_test(cases, cores);
	tcase_add_test(cases, opencl);
	tcase_add_loop_test(cases, bf16, 0, 4);
	tcase_add_test(cases, sensitive);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
