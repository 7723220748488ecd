/* What tests of the library share beyond Check itself. */
#ifndef PS_TESTS_SUPPORT_CHECK_H
#define PS_TESTS_SUPPORT_CHECK_H

#include <check.h>
#include <penstock/status.h>

#include <stdlib.h>

/* The call succeeds, or the test fails with its message. */
#define check_ok(call)                                                                                    \
	do {                                                                                              \
		ps_status check_status_ = (call);                                                         \
		ck_assert_msg(check_status_ == PS_OK, "%s: %s: %s", #call, ps_status_name(check_status_), \
		              ps_error_message());                                                        \
	} while (0)

/* The call fails with this status. */
#define check_fails(call, status)                                                            \
	do {                                                                                 \
		ps_status check_status_ = (call);                                            \
		ck_assert_msg(check_status_ == (status), "%s: %s instead of %s: %s", #call,  \
		              ps_status_name(check_status_), ps_status_name(status),         \
		              check_status_ == PS_OK ? "it succeeded" : ps_error_message()); \
	} while (0)

/* The last message contains this text. */
#define check_message(text) \
	ck_assert_msg(strstr(ps_error_message(), (text)) != NULL, "\"%s\" is not in \"%s\"", (text), ps_error_message())

/* Runs one suite; the exit status of main. */
static inline int check_run(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
