/*
 * A pipeline over the stand-in for CUDA (not a GPU), alone and with other backends: calls that fail one by one, errors
 * that stick, a peer path that corrupts, and the memory that is taken against the plan. PS_TEST_STAGES names the
 * stages.
 */
#include "tests/cuda/controls.h"
#include "tests/support/check.h"
#include "tests/support/tiny_life.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OUT_OF_MEMORY = 2, ECC = 214, LAUNCH_FAILURE = 719 }; /* CUDA's codes */

static const struct fake_cuda *fake;
static struct tiny_life life;

static bool is_emulated(const char *device)
{
	return !strncmp(device, "cuda-emulated", 13);
}

static void set_up(void)
{
	fake = find_controls();
	check_ok(tiny_life_make_model(&life, 0.2));
}

static void tear_down(void)
{
	ps_model_finish(&life.model);
	ck_assert_str_eq(fake->misuse(), "");
}

static void check_message_is_one_line(long n)
{
	const char *message = ps_error_message();
	ck_assert_msg(*message && !strchr(message, '\n'), "call %ld: \"%s\"", n, message);
}

/* cuBLASLt has codes of its own for a launch that CUDA refused it. */
static bool is_of_cublas(void)
{
	return strstr(ps_error_message(), ": cublasLtMatmul: CUBLAS_STATUS_EXECUTION_FAILED");
}

/* Every so manieth n of a whole life is tried; every n of it by calls that ask for memory. */
static const struct row {
	enum fake_failure what;
	int code, stride;
	const char *name;
	ps_status status;
} rows[] = {
        {FAKE_ALLOCATION, OUT_OF_MEMORY, 1, "out of memory", PS_ENOMEM},
        {FAKE_CALL, OUT_OF_MEMORY, 47, "", PS_ENOMEM},
        {FAKE_CALL, LAUNCH_FAILURE, 61, "cudaErrorLaunchFailure", PS_EDEVICE},
        {FAKE_COMMAND, ECC, 17, "cudaErrorECCUncorrectable", PS_EDEVICE},
        {FAKE_COMMAND, LAUNCH_FAILURE, 19, "cudaErrorLaunchFailure", PS_EDEVICE},
};
enum { KINDS = sizeof rows / sizeof *rows };

START_TEST(test_life)
{
	const struct row *row = &rows[_i];
	double wanted = 0;
	check_ok(tiny_life_run(&life, &wanted));
	long live = fake->live(), failures = 0;
	for (long n = 1;; n += row->stride) {
		double loss = 0;
		long failed = fake->failed();
		fake->fail_nth(row->what, n, row->code);
		ps_status status = tiny_life_run(&life, &loss);
		bool fired = fake->failed() > failed;
		fake->fail_nth(row->what, 0, 0);
		fake->heal();
		ck_assert_msg(fake->live() == live, "call %ld leaves %ld objects", n, fake->live() - live);
		if (!fired) {
			check_ok(status);
			break;
		}
		/* Taking down, and asking for a path between devices, need no answer. */
		if (status == PS_OK) {
			ck_assert_double_eq(loss, wanted);
			continue;
		}
		failures++;
		check_message_is_one_line(n);
		if (row->what == FAKE_CALL && (status == PS_ENODEV || is_of_cublas()))
			continue;
		ck_assert_msg(status == row->status && strstr(ps_error_message(), row->name),
		              "call %ld: %s without \"%s\": %s", n, ps_status_name(status), row->name,
		              ps_error_message());
	}
	ck_assert_int_gt(failures, row->what == FAKE_ALLOCATION ? 5 : 3);
}
END_TEST

/*
 * One pipeline whose every step fails at a later command and then works: the message has stage, action, layer and op
 * of the command, or the transfer, and CUDA's name of the error. With a path between the GPUs and without.
 */
START_TEST(test_steps)
{
	ps_pipeline *pipeline;
	double wanted, loss = 0;
	long named = 0;
	bool call = _i & 1;
	fake->allow_peers(_i / 2);
	check_ok(tiny_life_create(&pipeline, &life));
	check_ok(ps_pipeline_initialize(pipeline));
	check_ok(tiny_life_step(pipeline, &wanted));
	for (long n = 1;; n += 3) {
		long failed = fake->failed();
		fake->fail_nth(call ? FAKE_CALL : FAKE_COMMAND, n, LAUNCH_FAILURE);
		ps_status status = tiny_life_step(pipeline, &loss);
		bool fired = fake->failed() > failed;
		fake->fail_nth(call ? FAKE_CALL : FAKE_COMMAND, 0, 0);
		fake->heal();
		if (!fired) {
			check_ok(status);
			break;
		}
		if (status != PS_OK) {
			const char *message = ps_error_message();
			check_fails(status, PS_EDEVICE);
			check_message_is_one_line(n);
			ck_assert_msg(strstr(message, "cudaErrorLaunchFailure") || (call && is_of_cublas()), "%s",
			              message);
			ck_assert_msg(strstr(message, " on cuda-emulated:"), "%s", message);
			ck_assert_msg(!strncmp(message, "stage ", 6) || !strncmp(message, "transfer of ", 12), "%s",
			              message);
			named++;
		}
		check_ok(tiny_life_step(pipeline, &loss));
		ck_assert_double_eq(loss, wanted);
	}
	ck_assert_int_gt(named, 15);
	ps_pipeline_destroy(pipeline);
	ck_assert_int_eq(fake->live(), 0);
}
END_TEST

/* Waits until all of a step has been given to streams that are held, as far as that comes without their moving. */
static void wait_until_given(void)
{
	const struct timespec nap = {.tv_nsec = 200000000};
	for (long before = -1; before != fake->waiting();) {
		before = fake->waiting();
		nanosleep(&nap, NULL);
	}
}

/*
 * A GPU falls off the bus while a step is on its way. The step says which; where the stream of another GPU waits for it
 * for ever, nobody waits for that one.
 */
START_TEST(test_lost_device)
{
	ps_pipeline *pipeline;
	double loss;
	char name[32];
	int stages = 0;
	snprintf(name, sizeof name, "cuda-emulated:%d", _i);
	for (int s = 0; s < life.stages; s++)
		stages += !strcmp(life.devices[s], name);
	if (stages == 0)
		return;
	life.stall_timeout_s = 1;
	check_ok(tiny_life_create(&pipeline, &life));
	check_ok(ps_pipeline_initialize(pipeline));
	check_ok(tiny_life_step(pipeline, &loss));
	fake->hold(1);
	check_ok(tiny_life_submit(pipeline, 1));
	wait_until_given();
	fake->lose(_i);
	fake->hold(0);
	check_fails(ps_pipeline_collect(pipeline, &loss), PS_EDEVICE);
	check_message("cudaErrorECCUncorrectable");
	check_message(name);
	bool stalled = tiny_life_step(pipeline, &loss) == PS_ESTALL;
	ck_assert_int_eq(stalled, is_emulated(life.devices[life.stages - 1]));
	if (stalled) {
		ps_pipeline_destroy(pipeline);
		ck_assert_int_gt(fake->live(), 0);
	}
	fake->heal();
	ps_pipeline_destroy(pipeline);
	ck_assert_int_eq(fake->live(), 0);
}
END_TEST

/* A path between GPUs that corrupts is found out when the pipeline is made, and its results are those of no such path.
 */
START_TEST(test_corrupting_peers)
{
	double wanted, loss;
	ps_pipeline *pipeline;
	fake->allow_peers(0);
	check_ok(tiny_life_run(&life, &wanted));
	fake->allow_peers(1);
	for (unsigned long bytes = 4; bytes <= 4096; bytes *= 32) {
		fake->corrupt_peers(bytes);
		check_ok(tiny_life_run(&life, &loss));
		ck_assert_double_eq(loss, wanted);
	}
	check_ok(tiny_life_create(&pipeline, &life));
	for (int s = 0; s + 1 < life.stages; s++) {
		const ps_link_info *info = ps_link_get_info(ps_pipeline_get_link(pipeline, s, false));
		if (is_emulated(life.devices[s]) && is_emulated(life.devices[s + 1]) &&
		    strcmp(life.devices[s], life.devices[s + 1]) != 0)
			ck_assert_msg(strstr(info->note, "the peer path failed its test"), "%s", info->note);
	}
	ps_pipeline_destroy(pipeline);
	fake->corrupt_peers(0);
}
END_TEST

/* What is taken on the devices is the plan's bytes and what docs/cuda.md lists beside them, to the byte. */
START_TEST(test_memory)
{
	ps_pipeline *pipeline;
	ps_device *device;
	ps_queue *queue;
	double loss;
	unsigned long planned = 0, queues = 0;
	check_ok(ps_device_open(&device, "cuda-emulated:0"));
	unsigned long before = fake->device_bytes();
	check_ok(ps_queue_create(&queue, device, "q"));
	unsigned long one = fake->device_bytes() - before;
	ps_queue_destroy(queue);
	ps_device_close(device);
	check_ok(tiny_life_create(&pipeline, &life));
	for (int r = 0; r < ps_pipeline_rank_count(pipeline); r++) {
		ps_rank_info info;
		ps_pipeline_get_rank(pipeline, r, &info);
		if (!is_emulated(ps_device_get_info(info.device)->name))
			continue;
		planned += (unsigned long)info.peak_bytes;
		queues++;
	}
	ck_assert_uint_gt(queues, 0);
	check_ok(ps_pipeline_initialize(pipeline));
	check_ok(tiny_life_step(pipeline, &loss));
	unsigned long workspaces = queues * (4UL << 20), taken = fake->device_bytes();
	ck_assert_msg(taken >= planned + workspaces &&
	                      taken <= planned + workspaces + one * (queues + 2 * TINY_LIFE_STAGES),
	              "%lu bytes are taken; planned are %lu, for workspaces %lu, for each queue %lu", taken, planned,
	              workspaces, one);
	check_ok(tiny_life_step(pipeline, &loss));
	ck_assert_uint_eq(fake->device_bytes(), taken);
	ps_pipeline_destroy(pipeline);
	ck_assert_uint_eq(fake->device_bytes(), 0);
}
END_TEST

int main(void)
{
	tiny_life_name_stages(&life, "cuda-emulated:0,cuda-emulated:1");
	Suite *suite = suite_create("pipelines against a stand-in for CUDA's runtime");
	TCase *tests = tcase_create("faults");
	tcase_add_checked_fixture(tests, set_up, tear_down);
	tcase_set_timeout(tests, 280);
	tcase_add_loop_test(tests, test_life, 0, KINDS);
	tcase_add_loop_test(tests, test_steps, 0, 4);
	tcase_add_loop_test(tests, test_lost_device, 0, 2);
	tcase_add_test(tests, test_corrupting_peers);
	tcase_add_test(tests, test_memory);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
