/* Every backward op against finite differences in double, on the reference and on every device here. */
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

START_TEST(differences)
{
	size_t count;
	const char *const *devices = conform_devices(&count), *device = _i == 0 ? "ref" : devices[_i - 1];
	struct tally tally = {0};
	ps_verify_config config = conform_config(&device, 1, count_result, &tally);
	ck_assert_msg(ps_verify_gradients(&config) == PS_OK, "%s", ps_error_message());
	ck_assert_msg(tally.failures == 0, "%d gradients differ", tally.failures);
	ck_assert_int_gt(tally.same, 20);
}
END_TEST

int main(void)
{
	size_t count;
	conform_devices(&count);
	Suite *suite = suite_create("gradients");
	TCase *tests = tcase_create("finite differences");
	tcase_add_loop_test(tests, differences, 0, (int)count + 1);
	suite_add_tcase(suite, tests);
	return conform_suite_run(suite);
}
