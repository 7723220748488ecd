/* Command lists: what is recorded, what a backend gets to see of it, and what is refused. */
#include "tests/core/probe.h"

static const ps_args_dropout *seen_dropout(void)
{
	ck_assert_int_eq(probe.seen.op, PS_OP_dropout);
	return (const ps_args_dropout *)(const void *)probe.seen.arguments.bytes;
}

START_TEST(test_list)
{
	enum { MANY = 300 };
	static const char *const scopes[] = {"layers.0", "layers.1"};
	ps_list *list;
	const char *scope;
	probe_set_up();
	ps_tensor x = MATRIX(3, 4), y = MATRIX(3, 4);
	check_ok(ps_list_create(&list, probe.queue));
	ck_assert_uint_eq(ps_list_count(list), 0);
	check_ok(ps_list_submit(list, 1));
	check_ok(ps_record(list, add, .a = x, .b = x, .y = y));
	for (uint32_t i = 0; i < MANY; i++) {
		ps_list_scope(list, scopes[i % 2]);
		check_ok(ps_record(list, dropout, .x = x, .y = y,
		                   .drop = {.p = 0.5f, .first_row = i, .place = {.step = 99, .layer = i}}));
	}
	ck_assert_int_eq(probe.seen.calls, 0);
	ck_assert_int_eq(probe.seen.dry_calls, 1 + MANY);
	ck_assert(!probe.queue->dry);
	ck_assert_uint_eq(ps_list_count(list), 1 + MANY);
	ck_assert_int_eq(ps_list_op(list, 0, &scope), PS_OP_add);
	ck_assert_str_eq(scope, "");
	ck_assert_int_eq(ps_list_op(list, 4, &scope), PS_OP_dropout);
	ck_assert_str_eq(scope, "layers.1");
	/* Each submission has its own step; nothing else of the place changes. */
	for (uint32_t step = 7; step < 9; step++) {
		check_ok(ps_list_submit(list, step));
		ck_assert_uint_eq(seen_dropout()->drop.place.step, step);
		ck_assert_uint_eq(seen_dropout()->drop.place.layer, MANY - 1);
		ck_assert_uint_eq(seen_dropout()->drop.first_row, MANY - 1);
		ck_assert_float_eq(seen_dropout()->drop.p, 0.5f);
	}
	ck_assert_int_eq(probe.seen.calls, 2 * (1 + MANY));
	ps_list_destroy(list);
	ps_list_destroy(NULL);
	probe_tear_down();
}
END_TEST

START_TEST(test_list_refusals)
{
	ps_list *list;
	probe_set_up();
	ps_tensor x = MATRIX(3, 4), y = MATRIX(3, 4), other = MATRIX(3, 5);
	check_ok(ps_list_create(&list, probe.queue));
	check_fails(ps_record(list, add, .a = x, .b = other, .y = y), PS_EINVAL);
	ck_assert_int_eq(probe.seen.dry_calls, 0);
	probe.seen.refusal = PS_ENOTSUP;
	check_fails(ps_record(list, add, .a = x, .b = x, .y = y), PS_ENOTSUP);
	ck_assert_str_eq(ps_error_message(), "ref cannot run add on fp32 (3, 4): the probe is told to");
	ck_assert(!probe.queue->dry);
	ck_assert_uint_eq(ps_list_count(list), 0);
	check_ok(ps_list_submit(list, 0));
	ck_assert_int_eq(probe.seen.calls, 0);
	ps_list_destroy(list);
	probe_tear_down();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("lists");
	TCase *cases = tcase_create("lists");
	tcase_add_test(cases, test_list);
	tcase_add_test(cases, test_list_refusals);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
