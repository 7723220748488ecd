/* The contract of queues, events and buffers, on every device that is here. */
#include "tests/core/contract.h"

#include <pthread.h>
#include <time.h>

enum { COUNT = 64 };

static ps_device *device;
static ps_queue *queue, *other;
static ps_buffer *buffer;
static struct gate gate;

static void set_up(int index)
{
	device = contract_open(index);
	check_ok(ps_queue_create(&queue, device, "first"));
	check_ok(ps_queue_create(&other, device, "second"));
	check_ok(ps_buffer_create(&buffer, device, COUNT * 4));
	gate_init(&gate);
}

static void tear_down(void)
{
	ps_queue_destroy(queue);
	ps_queue_destroy(other);
	ps_buffer_destroy(buffer);
	ps_device_close(device);
	gate_finish(&gate);
}

START_TEST(test_order)
{
	int32_t values[200], results[200];
	set_up(_i);
	for (int i = 0; i < 200; i++) {
		values[i] = i * i;
		check_ok(ps_queue_write(queue, ints(buffer, 0, 1), &values[i]));
		check_ok(ps_queue_copy(queue, ints(buffer, 7, 1), ints(buffer, 0, 1)));
		check_ok(ps_queue_zero(queue, ints(buffer, 0, 1)));
		check_ok(ps_queue_copy(queue, ints(buffer, 13, 1), ints(buffer, 7, 1)));
		check_ok(ps_queue_read(queue, &results[i], ints(buffer, 13, 1)));
	}
	check_ok(ps_queue_finish(queue));
	ck_assert_mem_eq(results, values, sizeof values);
	tear_down();
}
END_TEST

START_TEST(test_contents)
{
	int32_t values[COUNT], results[COUNT];
	set_up(_i);
	for (int i = 0; i < COUNT; i++)
		values[i] = i - 20;
	check_ok(ps_queue_write(queue, ints(buffer, 0, COUNT), values));
	check_ok(ps_queue_zero(queue, ints(buffer, 5, 3)));
	check_ok(ps_queue_read(queue, results, ints(buffer, 0, COUNT)));
	check_ok(ps_queue_finish(queue));
	memset(values + 5, 0, 3 * sizeof *values);
	ck_assert_mem_eq(results, values, sizeof values);
	tear_down();
}
END_TEST

START_TEST(test_waiting)
{
	int32_t value = 41, result = 0;
	set_up(_i);
	check_ok(ps_queue_zero(queue, ints(buffer, 0, 1)));
	check_ok(ps_queue_finish(queue));
	check_ok(ps_queue_wait(queue, gate_event(&gate)));
	check_ok(ps_queue_write(queue, ints(buffer, 0, 1), &value));
	ps_event written = ps_queue_record(queue);
	check_ok(ps_queue_wait(other, written));
	check_ok(ps_queue_read(other, &result, ints(buffer, 0, 1)));
	ps_event read = ps_queue_record(other);
	ck_assert(!ps_event_done(written));
	ck_assert(!ps_event_done(read));
	check_fails(ps_event_wait(read, SECOND / 50), PS_ESTALL);
	check_message("second has not reached point ");
	check_message("after 0.02 s");
	check_fails(ps_event_wait(read, 0), PS_ESTALL);
	gate_open(&gate);
	check_ok(ps_event_wait(read, INT64_MAX));
	ck_assert(ps_event_done(written));
	ck_assert_int_eq(result, 41);
	tear_down();
}
END_TEST

START_TEST(test_queues_overlap)
{
	int32_t result = 1;
	set_up(_i);
	check_ok(ps_queue_wait(queue, gate_event(&gate)));
	check_ok(ps_queue_zero(other, ints(buffer, 0, 1)));
	check_ok(ps_queue_read(other, &result, ints(buffer, 0, 1)));
	check_ok(ps_event_wait(ps_queue_record(other), 10 * SECOND));
	ck_assert_int_eq(result, 0);
	gate_open(&gate);
	tear_down();
}
END_TEST

START_TEST(test_across_devices)
{
	int32_t value = 5, middle = 0, result = 0;
	ps_device *far;
	ps_queue *far_queue;
	ps_buffer *far_buffer;
	set_up(_i);
	check_ok(ps_device_open(&far, "ref"));
	check_ok(ps_queue_create(&far_queue, far, "far"));
	check_ok(ps_buffer_create(&far_buffer, far, 4));
	check_ok(ps_queue_wait(queue, gate_event(&gate)));
	check_ok(ps_queue_write(queue, ints(buffer, 0, 1), &value));
	check_ok(ps_queue_read(queue, &middle, ints(buffer, 0, 1)));
	check_ok(ps_queue_wait(far_queue, ps_queue_record(queue)));
	check_ok(ps_queue_write(far_queue, ints(far_buffer, 0, 1), &middle));
	check_ok(ps_queue_wait(other, ps_queue_record(far_queue)));
	check_ok(ps_queue_write(other, ints(buffer, 1, 1), &middle));
	check_ok(ps_queue_read(other, &result, ints(buffer, 1, 1)));
	gate_open(&gate);
	check_ok(ps_queue_finish(other));
	ck_assert_int_eq(result, 5);
	ps_queue_destroy(far_queue);
	ps_buffer_destroy(far_buffer);
	ps_device_close(far);
	tear_down();
}
END_TEST

START_TEST(test_failure_is_sticky)
{
	int32_t one = 1, two = 2, result = 0;
	char message[MESSAGE_LENGTH + 1];
	set_up(_i);
	long_message(message);
	check_ok(ps_queue_write(queue, ints(buffer, 0, 1), &one));
	ps_event before = ps_queue_record(queue);
	check_ok(ps_queue_wait(queue, gate_event(&gate)));
	check_ok(ps_queue_write(queue, ints(buffer, 0, 1), &two));
	ps_event after = ps_queue_record(queue);
	check_ok(ps_queue_wait(other, after));
	check_ok(ps_queue_write(other, ints(buffer, 0, 1), &two));
	gate_fail(&gate, PS_ENUMERIC, message);
	/* The waiter's waiter gets the same status and the whole message. */
	check_fails(ps_queue_finish(other), PS_ENUMERIC);
	ck_assert_str_eq(ps_error_message(), message);
	check_fails(ps_event_wait(after, -1), PS_ENUMERIC);
	ck_assert_str_eq(ps_error_message(), message);
	check_ok(ps_event_wait(before, -1));
	ck_assert(ps_event_done(after));
	/* What comes later is taken and skipped. */
	check_ok(ps_queue_zero(queue, ints(buffer, 0, 1)));
	check_fails(ps_queue_finish(queue), PS_ENUMERIC);
	ps_queue_reset(queue);
	ps_queue_reset(other);
	check_ok(ps_queue_finish(queue));
	check_ok(ps_queue_read(queue, &result, ints(buffer, 0, 1)));
	check_ok(ps_queue_finish(queue));
	ck_assert_int_eq(result, 1);
	tear_down();
}
END_TEST

START_TEST(test_failure_outlasts_reset)
{
	set_up(_i);
	check_ok(ps_queue_zero(queue, ints(buffer, 0, 1)));
	ps_event good = ps_queue_record(queue);
	check_ok(ps_queue_wait(queue, gate_event(&gate)));
	ps_event bad = ps_queue_record(queue);
	gate_fail(&gate, PS_EIO, "the tape tore");
	ps_queue_reset(queue);
	ps_queue_reset(queue);
	ps_event later = ps_queue_record(queue);
	check_ok(ps_event_wait(good, -1));
	check_ok(ps_event_wait(later, -1));
	check_fails(ps_event_wait(bad, -1), PS_EIO);
	/* A queue that comes late to the wait is told all the same, and so is the queue itself. */
	check_ok(ps_queue_wait(other, bad));
	check_fails(ps_queue_finish(other), PS_EIO);
	ck_assert_str_eq(ps_error_message(), "the tape tore");
	check_ok(ps_queue_wait(queue, later));
	check_ok(ps_queue_finish(queue));
	check_ok(ps_queue_wait(queue, bad));
	check_fails(ps_queue_finish(queue), PS_EIO);
	ps_queue_reset(queue);
	ps_queue_reset(other);
	check_ok(ps_queue_finish(queue));
	tear_down();
}
END_TEST

START_TEST(test_second_failure)
{
	struct gate second;
	set_up(_i);
	gate_init(&second);
	gate_fail(&gate, PS_EIO, "first");
	gate_fail(&second, PS_EDEVICE, "second");
	check_ok(ps_queue_wait(queue, gate_event(&gate)));
	check_ok(ps_queue_wait(queue, gate_event(&second)));
	check_fails(ps_queue_finish(queue), PS_EIO);
	ck_assert_str_eq(ps_error_message(), "first");
	ps_queue_reset(queue);
	check_ok(ps_queue_wait(queue, gate_event(&second)));
	check_fails(ps_queue_finish(queue), PS_EDEVICE);
	ck_assert_str_eq(ps_error_message(), "second");
	tear_down();
	gate_finish(&second);
}
END_TEST

START_TEST(test_empty)
{
	int32_t value = 3;
	ps_buffer *none;
	set_up(_i);
	check_fails(ps_buffer_create(&none, device, 0), PS_EINVAL);
	ck_assert_ptr_null(none);
	check_ok(ps_queue_finish(queue));
	check_ok(ps_queue_write(queue, ints(buffer, 1, 0), &value));
	check_ok(ps_queue_read(queue, &value, ints(buffer, 1, 0)));
	check_ok(ps_queue_copy(queue, ints(buffer, 1, 0), ints(buffer, 2, 0)));
	check_ok(ps_queue_zero(queue, ints(buffer, COUNT, 0)));
	check_ok(ps_event_wait((ps_event){0}, 0));
	ck_assert(ps_event_done((ps_event){0}));
	check_ok(ps_queue_wait(queue, (ps_event){0}));
	check_ok(ps_queue_finish(queue));
	ck_assert_int_eq(value, 3);
	ps_queue_destroy(NULL);
	ps_buffer_destroy(NULL);
	ps_device_close(NULL);
	tear_down();
}
END_TEST

START_TEST(test_wrong_tensors)
{
	int32_t value = 0;
	ps_device *far;
	ps_buffer *far_buffer;
	set_up(_i);
	check_ok(ps_device_open(&far, "ref"));
	check_ok(ps_buffer_create(&far_buffer, far, COUNT * 4));
	ps_tensor good = ints(buffer, 0, 4), bad[12];
	for (int i = 0; i < 12; i++)
		bad[i] = good;
	bad[0].buffer = NULL;
	bad[1].offset = COUNT * 4;
	bad[2].dims[0] = COUNT + 1;
	bad[3].offset = 2;
	bad[4].dtype = PS_DTYPE_COUNT;
	bad[5].rank = PS_MAX_RANK + 1;
	bad[6].rank = -1;
	bad[7].dims[0] = -1;
	bad[8].strides[0] = 2;
	bad[9].offset = UINT64_MAX - 3;
	bad[10].dims[0] = INT64_MAX;
	bad[11] = ps_tensor_make(buffer, 0, PS_I32, 2, (int64_t[]){INT64_C(1) << 40, INT64_C(1) << 40});
	for (int i = 0; i < 12; i++) {
		check_fails(ps_queue_write(queue, bad[i], &value), PS_EINVAL);
		check_message("write on first");
		check_fails(ps_queue_read(queue, &value, bad[i]), PS_EINVAL);
		check_fails(ps_queue_zero(queue, bad[i]), PS_EINVAL);
		check_fails(ps_queue_copy(queue, bad[i], good), PS_EINVAL);
		check_fails(ps_queue_copy(queue, good, bad[i]), PS_EINVAL);
	}
	check_fails(ps_queue_write(queue, ints(far_buffer, 0, 1), &value), PS_EINVAL);
	check_message("the tensor is on ref");
	check_fails(ps_queue_copy(queue, good, ints(buffer, 8, 3)), PS_EINVAL);
	check_message("int32 (4) does not match int32 (3)");
	ps_tensor floats = good;
	floats.dtype = PS_F32;
	check_fails(ps_queue_copy(queue, good, floats), PS_EINVAL);
	check_ok(ps_queue_finish(queue));
	ps_buffer_destroy(far_buffer);
	ps_device_close(far);
	tear_down();
}
END_TEST

START_TEST(test_growth)
{
	enum { MANY = 10000 };
	int32_t *values = calloc(MANY, sizeof *values), *results = calloc(MANY, sizeof *results);
	ck_assert(values && results);
	set_up(_i);
	check_ok(ps_queue_wait(queue, gate_event(&gate)));
	for (int i = 0; i < MANY / 2; i++) {
		values[i] = i;
		check_ok(ps_queue_write(queue, ints(buffer, i % COUNT, 1), &values[i]));
		check_ok(ps_queue_read(queue, &results[i], ints(buffer, i % COUNT, 1)));
	}
	ck_assert(!ps_event_done(ps_queue_record(queue)));
	gate_open(&gate);
	check_ok(ps_queue_finish(queue));
	ck_assert_mem_eq(results, values, MANY * sizeof *values);
	tear_down();
	free(values);
	free(results);
}
END_TEST

START_TEST(test_wrong_order_of_destruction)
{
	int32_t value = 0;
	set_up(_i);
	ps_device_close(device);
	check_ok(ps_queue_wait(queue, gate_event(&gate)));
	check_ok(ps_queue_zero(queue, ints(buffer, 0, 1)));
	check_ok(ps_queue_read(queue, &value, ints(buffer, 0, 1)));
	gate_open(&gate);
	ps_queue_destroy(queue); /* waits for what it has still to do */
	ps_queue_destroy(other);
	ck_assert_ptr_eq(ps_buffer_device(buffer), device);
	ck_assert_uint_eq(ps_buffer_bytes(buffer), COUNT * 4);
	ps_buffer_destroy(buffer);
	gate_finish(&gate);
}
END_TEST

START_TEST(test_destruction_of_failed_queue)
{
	set_up(_i);
	gate_fail(&gate, PS_EIO, "gone");
	check_ok(ps_queue_wait(queue, gate_event(&gate)));
	for (int i = 0; i < 100; i++)
		check_ok(ps_queue_zero(queue, ints(buffer, 0, 1)));
	tear_down();
}
END_TEST

START_TEST(test_timestamps)
{
	int64_t before = ps_clock_ns(), stamps[3] = {0};
	set_up(_i);
	for (int i = 0; i < 3; i++) {
		check_ok(ps_queue_timestamp(queue, &stamps[i]));
		check_ok(ps_queue_zero(queue, ints(buffer, 0, COUNT)));
	}
	check_ok(ps_queue_finish(queue));
	ck_assert_int_ge(stamps[0], before);
	ck_assert_int_ge(stamps[1], stamps[0]);
	ck_assert_int_ge(stamps[2], stamps[1]);
	ck_assert_int_le(stamps[2] - stamps[0], ps_clock_ns() - before);
	tear_down();
}
END_TEST

START_TEST(test_memory)
{
	uint64_t now, peak, start, bytes = 1 << 20;
	ps_buffer *more, *none;
	set_up(_i);
	ps_device_get_memory(device, &start, NULL);
	check_ok(ps_buffer_create(&more, device, bytes));
	ps_device_get_memory(device, &now, &peak);
	ck_assert_uint_eq(now, start + bytes);
	ck_assert_uint_eq(peak, start + bytes);
	ps_buffer_destroy(more);
	ps_device_get_memory(device, &now, &peak);
	ck_assert_uint_eq(now, start);
	ck_assert_uint_eq(peak, start + bytes);
	const ps_device_info *info = ps_device_get_info(device);
	if (info->max_buffer_bytes) {
		check_fails(ps_buffer_create(&none, device, info->max_buffer_bytes + 1), PS_ETOOBIG);
		check_message(info->name);
		ck_assert_ptr_null(none);
	}
	ps_device_get_memory(device, &now, NULL);
	ck_assert_uint_eq(now, start);
	tear_down();
}
END_TEST

/* Two queues hand a number back and forth; each adds what it finds. */
START_TEST(test_ping_pong)
{
	enum { ROUNDS = 500 };
	int32_t results[2 * ROUNDS], values[2 * ROUNDS];
	set_up(_i);
	ps_event last = {0};
	for (int i = 0; i < 2 * ROUNDS; i++) {
		ps_queue *mine = i % 2 ? other : queue;
		values[i] = i;
		check_ok(ps_queue_wait(mine, last));
		if (i > 0)
			check_ok(ps_queue_read(mine, &results[i - 1], ints(buffer, 0, 1)));
		check_ok(ps_queue_write(mine, ints(buffer, 0, 1), &values[i]));
		last = ps_queue_record(mine);
	}
	check_ok(ps_event_wait(last, 60 * SECOND));
	ck_assert_mem_eq(results, values, (2 * ROUNDS - 1) * sizeof *values);
	tear_down();
}
END_TEST

/* Two queues wait for different points of one timeline, with and without the time to go to sleep before they come. */
START_TEST(test_points_one_by_one)
{
	enum { ROUNDS = 300 };
	set_up(_i);
	for (uint64_t i = 0; i < ROUNDS; i++) {
		ps_event near_point = {&gate.timeline, 2 * i + 1}, far_point = {&gate.timeline, 2 * i + 2};
		const struct timespec pause = {.tv_nsec = (long)(i % 3) * 100000};
		check_ok(ps_queue_wait(queue, far_point));
		check_ok(ps_queue_wait(other, near_point));
		check_ok(ps_queue_wait(other, far_point));
		nanosleep(&pause, NULL);
		ps__timeline_complete(&gate.timeline, near_point.value);
		ck_assert(!ps_event_done(ps_queue_record(queue)));
		nanosleep(&pause, NULL);
		ps__timeline_complete(&gate.timeline, far_point.value);
		check_ok(ps_event_wait(ps_queue_record(queue), 60 * SECOND));
		check_ok(ps_event_wait(ps_queue_record(other), 60 * SECOND));
	}
	tear_down();
}
END_TEST

int main(void)
{
	int devices = contract_devices();
	Suite *suite = suite_create("queue");
	TCase *cases = tcase_create("queue");
	tcase_set_timeout(cases, 60);
	tcase_add_loop_test(cases, test_order, 0, devices);
	tcase_add_loop_test(cases, test_contents, 0, devices);
	tcase_add_loop_test(cases, test_waiting, 0, devices);
	tcase_add_loop_test(cases, test_queues_overlap, 0, devices);
	tcase_add_loop_test(cases, test_across_devices, 0, devices);
	tcase_add_loop_test(cases, test_failure_is_sticky, 0, devices);
	tcase_add_loop_test(cases, test_failure_outlasts_reset, 0, devices);
	tcase_add_loop_test(cases, test_second_failure, 0, devices);
	tcase_add_loop_test(cases, test_empty, 0, devices);
	tcase_add_loop_test(cases, test_wrong_tensors, 0, devices);
	tcase_add_loop_test(cases, test_growth, 0, devices);
	tcase_add_loop_test(cases, test_wrong_order_of_destruction, 0, devices);
	tcase_add_loop_test(cases, test_destruction_of_failed_queue, 0, devices);
	tcase_add_loop_test(cases, test_timestamps, 0, devices);
	tcase_add_loop_test(cases, test_memory, 0, devices);
	tcase_add_loop_test(cases, test_ping_pong, 0, devices);
	tcase_add_loop_test(cases, test_points_one_by_one, 0, devices);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
