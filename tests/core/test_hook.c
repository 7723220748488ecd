/* The hook device does what its header says. */
#include "tests/support/check.h"
#include "tests/support/hook.h"

#include <math.h>
#include <string.h>

#define SECOND ((int64_t)1000000000)

static struct hook hook;
static ps_device *device;
static ps_queue *queue;
static ps_buffer *buffer;

static void open_with(struct hook settings)
{
	memcpy(&hook, &settings, sizeof hook);
	check_ok(hook_device_open(&device, "ref", &hook));
	ck_assert_str_eq(ps_device_get_info(device)->name, "hook:ref");
	check_ok(ps_queue_create(&queue, device, "q"));
	check_ok(ps_buffer_create(&buffer, device, 64));
}

static void close_all(void)
{
	ps_buffer_destroy(buffer);
	ps_queue_destroy(queue);
	ps_device_close(device);
	ck_assert_int_eq(atomic_load(&hook.buffers), 0);
	ck_assert_int_eq(atomic_load(&hook.queues), 0);
}

static ps_tensor floats(void)
{
	return ps_tensor_make(buffer, 0, PS_F32, 1, (int64_t[]){16});
}

static ps_status add(void)
{
	return ps_run(queue, add, .a = floats(), .b = floats(), .y = floats());
}

START_TEST(test_refuse)
{
	open_with((struct hook){0});
	hook_add(&hook, .effect = HOOK_REFUSE, .call = HOOK_OP_OF(add), .nth = 2, .status = PS_ENOMEM);
	check_ok(add());
	check_fails(add(), PS_ENOMEM);
	check_message("injected: add, call 2 of queue q on hook:ref");
	check_ok(add());
	check_ok(ps_queue_finish(queue));
	ck_assert_uint_eq(hook_calls(&hook, HOOK_OP), 3);
	ck_assert_uint_eq(hook_calls(&hook, HOOK_OP_OF(add)), 3);
	hook_add(&hook, .call = HOOK_BUFFER_CREATE, .status = PS_ETOOBIG);
	hook_add(&hook, .call = HOOK_QUEUE_CREATE, .message = "no more");
	ps_buffer *none;
	ps_queue *no_queue;
	check_fails(ps_buffer_create(&none, device, 4), PS_ETOOBIG);
	check_fails(ps_queue_create(&no_queue, device, ""), PS_EDEVICE);
	ck_assert_str_eq(ps_error_message(), "no more");
	ck_assert_ptr_null(none);
	ck_assert_ptr_null(no_queue);
	close_all();
}
END_TEST

START_TEST(test_fail_at_run_time)
{
	open_with((struct hook){0});
	hook_add(&hook, .effect = HOOK_FAIL, .call = HOOK_OP, .nth = 3, .message = "the third one");
	ps_event events[4];
	for (int i = 0; i < 4; i++) {
		check_ok(add());
		events[i] = ps_queue_record(queue);
	}
	check_ok(ps_event_wait(events[1], -1));
	check_fails(ps_event_wait(events[2], -1), PS_EDEVICE);
	ck_assert_str_eq(ps_error_message(), "the third one");
	check_fails(ps_event_wait(events[3], -1), PS_EDEVICE);
	ps_queue_reset(queue);
	check_ok(add());
	check_ok(ps_queue_finish(queue));
	close_all();
}
END_TEST

START_TEST(test_hang_and_release)
{
	open_with((struct hook){0});
	hook_add(&hook, .effect = HOOK_HANG, .call = HOOK_ZERO, .queue = "q");
	check_ok(add());
	check_ok(ps_queue_finish(queue));
	check_ok(ps_queue_zero(queue, floats()));
	check_fails(ps_event_wait(ps_queue_record(queue), SECOND / 50), PS_ESTALL);
	hook_release(&hook);
	check_ok(ps_queue_finish(queue));
	check_ok(ps_queue_zero(queue, floats()));
	check_ok(ps_queue_finish(queue));
	close_all();
}
END_TEST

START_TEST(test_delay)
{
	open_with((struct hook){0});
	hook_add(&hook, .effect = HOOK_DELAY, .call = HOOK_ZERO, .every = true, .delay_ns = SECOND / 50);
	int64_t times[3];
	for (int i = 0; i < 3; i++) {
		check_ok(ps_queue_timestamp(queue, &times[i]));
		check_ok(ps_queue_zero(queue, floats()));
	}
	check_ok(ps_queue_finish(queue));
	ck_assert_int_ge(times[1] - times[0], SECOND / 50);
	ck_assert_int_ge(times[2] - times[1], SECOND / 50);
	ck_assert_uint_eq(atomic_load(&hook.fired), 3);
	close_all();
}
END_TEST

START_TEST(test_poison)
{
	float values[16];
	open_with((struct hook){.poison = true});
	check_ok(ps_queue_read(queue, values, floats()));
	check_ok(ps_queue_finish(queue));
	for (int i = 0; i < 16; i++)
		ck_assert(isnan(values[i]));
	check_ok(ps_queue_zero(queue, floats()));
	check_ok(ps_queue_finish(queue));
	close_all();
	ck_assert_uint_eq(hook_faults(&hook), 0);
}
END_TEST

/* The host address of a buffer, for what no correct program does. */
static unsigned char *address(const ps_buffer *of)
{
	return of->impl;
}

START_TEST(test_poison_finds_faults)
{
	open_with((struct hook){.poison = true});
	address(buffer)[64] = 0;
	ps_buffer *second;
	check_ok(ps_buffer_create(&second, device, 64));
	unsigned char *freed = address(second);
	ps_buffer_destroy(second);
	freed[3] = 1;
	close_all();
	ck_assert_uint_eq(atomic_load(&hook.overruns), 1);
	ck_assert_uint_eq(atomic_load(&hook.touched), 1);
}
END_TEST

START_TEST(test_recording_only_asks)
{
	open_with((struct hook){0});
	ps_list *list;
	check_ok(ps_list_create(&list, queue));
	hook_add(&hook, .effect = HOOK_REFUSE, .call = HOOK_ASK_OF(add), .nth = 2, .status = PS_ENOTSUP);
	check_ok(ps_record(list, add, .a = floats(), .b = floats(), .y = floats()));
	check_fails(ps_record(list, add, .a = floats(), .b = floats(), .y = floats()), PS_ENOTSUP);
	ck_assert_uint_eq(hook_calls(&hook, HOOK_OP), 0);
	ck_assert_uint_eq(hook_calls(&hook, HOOK_ASK), 2);
	check_ok(ps_list_submit(list, 0));
	ck_assert_uint_eq(hook_calls(&hook, HOOK_OP_OF(add)), 1);
	check_ok(ps_queue_finish(queue));
	ps_list_destroy(list);
	close_all();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("hook");
	TCase *cases = tcase_create("hook");
	tcase_add_test(cases, test_refuse);
	tcase_add_test(cases, test_fail_at_run_time);
	tcase_add_test(cases, test_hang_and_release);
	tcase_add_test(cases, test_delay);
	tcase_add_test(cases, test_poison);
	tcase_add_test(cases, test_poison_finds_faults);
	tcase_add_test(cases, test_recording_only_asks);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
