/* What `penstock verify` checks beyond the rows of ops, on the reference and on every device here. */
#include "support/conform.h"

#include <stdio.h>

struct tally {
	int same, failures;
};

static void count_result(void *payload, const ps_verify_result *result)
{
	struct tally *tally = payload;
	tally->same += result->outcome == PS_VERIFY_SAME;
	if (result->outcome == PS_VERIFY_SAME ||
	    (result->outcome == PS_VERIFY_SKIPPED && result->status == PS_ENOTSUP && result->dtype == PS_F64))
		return;
	tally->failures++;
	fprintf(stderr, "%s %s row %zu %s on %s: %s\n", result->subject, ps_dtype_name(result->dtype), result->row,
	        result->part, result->device, result->message);
}

static void check(ps_status (*verify)(const ps_verify_config *config), int index)
{
	const char *device = conform_device(index);
	struct tally tally = {0};
	ps_verify_config config = conform_config(&device, 1, count_result, &tally);
	ck_assert_msg(verify(&config) == PS_OK, "%s", ps_error_message());
	ck_assert_msg(tally.failures == 0, "%d results differ", tally.failures);
	ck_assert_int_gt(tally.same, 20);
}

START_TEST(gradients)
{
	check(ps_verify_gradients, _i);
}
END_TEST

START_TEST(layers)
{
	check(ps_verify_layers, _i);
}
END_TEST

int main(void)
{
	int count = conform_device_count();
	Suite *suite = suite_create("checks");
	TCase *tests = tcase_create("checks");
	tcase_add_loop_test(tests, gradients, 0, count);
	tcase_add_loop_test(tests, layers, 0, count);
	suite_add_tcase(suite, tests);
	return conform_suite_run(suite);
}
