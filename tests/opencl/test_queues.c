/* Queues of one OpenCL device that wait for one another: within OpenCL, in order, and with what failed. */
#include "support/check.h"

#include <penstock/ops.h>

#include <string.h>

enum { SIZE = 1000, ROUNDS = 300 };

static ps_device *devices[2];
static ps_queue *queues[2];
static ps_buffer *buffer;
static ps_tensor x, ones;
static float values[SIZE];

/* False when there is no device. The queues are on one device, with _i on one that was opened twice. */
static bool set_up(bool twice)
{
	if (ps_device_open(&devices[0], "opencl:0") != PS_OK)
		return false;
	check_ok(ps_device_open(&devices[1], "opencl:0"));
	check_ok(ps_queue_create(&queues[0], devices[0], "one"));
	check_ok(ps_queue_create(&queues[1], devices[twice], "other"));
	check_ok(ps_buffer_create(&buffer, devices[0], 2 * sizeof values));
	x = ps_tensor_make(buffer, 0, PS_F32, 1, (int64_t[]){SIZE});
	ones = ps_tensor_make(buffer, sizeof values, PS_F32, 1, (int64_t[]){SIZE});
	for (int i = 0; i < SIZE; i++)
		values[i] = 1;
	check_ok(ps_queue_write(queues[0], ones, values));
	check_ok(ps_queue_zero(queues[0], x));
	check_ok(ps_queue_finish(queues[0]));
	return true;
}

static void tear_down(void)
{
	for (int i = 0; i < 2; i++) {
		ps_queue_destroy(queues[i]);
		ps_device_close(devices[i]);
	}
	ps_buffer_destroy(buffer);
}

/* Buffers of a device that was opened twice are for copies only. */
static void add_one(ps_queue *queue)
{
	if (ps_queue_device(queue) == devices[0])
		check_ok(ps_run(queue, add, .a = x, .b = ones, .y = x));
}

static void check_all(float wanted)
{
	check_ok(ps_queue_read(queues[0], values, x));
	check_ok(ps_queue_finish(queues[0]));
	for (int i = 0; i < SIZE; i++)
		ck_assert_float_eq(values[i], wanted);
}

static int64_t stamp;

/* Each queue adds after the other, with nothing else to keep the order. */
START_TEST(turns)
{
	if (!set_up(false))
		return;
	for (int i = 0; i < ROUNDS; i++) {
		ps_queue *queue = queues[i % 2];
		check_ok(ps_queue_wait(queue, ps_queue_record(queues[(i + 1) % 2])));
		add_one(queue);
		if (i % 7 == 0) /* OpenCL gets nothing of this */
			check_ok(ps_queue_timestamp(queue, &stamp));
	}
	check_ok(ps_queue_wait(queues[0], ps_queue_record(queues[1])));
	check_all(ROUNDS);
	tear_down();
}
END_TEST

static void look_up_token(ps_queue *queue, int32_t token)
{
	ps_buffer *tokens;
	check_ok(ps_buffer_create(&tokens, devices[0], sizeof token));
	ps_tensor t = ps_tensor_make(tokens, 0, PS_I32, 2, (int64_t[]){1, 1});
	ps_tensor w = ps_tensor_make(buffer, sizeof values, PS_F32, 2, (int64_t[]){10, 10});
	ps_tensor p = ps_tensor_make(buffer, sizeof values, PS_F32, 2, (int64_t[]){1, 10});
	ps_tensor y = ps_tensor_make(buffer, 0, PS_F32, 3, (int64_t[]){1, 1, 10});
	check_ok(ps_queue_write(queue, t, &token));
	check_ok(ps_run(queue, embedding_fwd, .tokens = t, .weight = w, .positions = p, .y = y, .scale = 1));
	ps_event end = ps_queue_record(queue);
	for (int i = 0; i < 3; i++) {
		check_ok(ps_queue_wait(queues[1], end));
		add_one(queues[1]);
	}
	check_fails(ps_queue_finish(queues[1]), PS_EINVAL);
	check_message("embedding_fwd: row 0, position 0 has token 77, which should be at least 0 and below 10");
	check_fails(ps_event_wait(end, -1), PS_EINVAL);
	ps_queue_reset(queue);
	/* Late, after the reset: still a failure. */
	ps_queue_reset(queues[1]);
	check_ok(ps_queue_wait(queues[1], end));
	check_fails(ps_queue_finish(queues[1]), PS_EINVAL);
	ps_queue_reset(queues[1]);
	ps_buffer_destroy(tokens);
}

/* A failure that is found after the fact comes with its message to who waits within OpenCL, and ends with the reset. */
START_TEST(failures_pass)
{
	if (!set_up(_i))
		return;
	for (int round = 0; round < 3; round++)
		look_up_token(queues[0], 77);
	check_ok(ps_queue_zero(queues[0], x));
	add_one(queues[0]);
	check_ok(ps_queue_wait(queues[1], ps_queue_record(queues[0])));
	check_ok(ps_queue_finish(queues[1]));
	check_all(1);
	tear_down();
}
END_TEST

/* More points and waits than a flight has room for. */
START_TEST(many_at_once)
{
	if (!set_up(false))
		return;
	for (int i = 0; i < ROUNDS; i++) {
		add_one(queues[0]);
		check_ok(ps_queue_wait(queues[1], ps_queue_record(queues[0])));
	}
	add_one(queues[1]);
	check_ok(ps_queue_wait(queues[0], ps_queue_record(queues[1])));
	check_all(ROUNDS + 1);
	tear_down();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("opencl queues");
	TCase *cases = tcase_create("queues");
	tcase_set_timeout(cases, 60);
	tcase_add_test(cases, turns);
	tcase_add_loop_test(cases, failures_pass, 0, 2);
	tcase_add_test(cases, many_at_once);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
