/*
 * A stand-in for Check: what Penstock's tests use of it. Each test, and each turn of a loop test, runs in a process of
 * its own with a time limit, and its failure is printed. CK_FORK=no runs them in one, up to the first failure;
 * CK_RUN_CASE names the one test case to run; CK_DEFAULT_TIMEOUT is the limit in seconds of cases without one.
 */
#ifndef PS_BARE_CHECK_H
#define PS_BARE_CHECK_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Suite Suite;
typedef struct TCase TCase;
typedef struct SRunner SRunner;
enum print_output { CK_SILENT, CK_MINIMAL, CK_NORMAL, CK_VERBOSE, CK_ENV };
enum fork_status { CK_FORK_GETENV, CK_FORK, CK_NOFORK };

struct bare_test {
	const char *name;
	void (*run)(int _i);
};

#define START_TEST(name)                                          \
	static void name##_run(int _i);                           \
	static const struct bare_test name = {#name, name##_run}; \
	static void name##_run(int _i)                            \
	{                                                         \
		(void)_i;
#define END_TEST }

Suite *suite_create(const char *name);
TCase *tcase_create(const char *name);
void suite_add_tcase(Suite *suite, TCase *tests);
void tcase_set_timeout(TCase *tests, double seconds);
void tcase_add_checked_fixture(TCase *tests, void (*setup)(void), void (*teardown)(void));
void bare_add(TCase *tests, const struct bare_test *test, int first, int end);
#define tcase_add_test(tests, test) bare_add((tests), &(test), 0, 1)
#define tcase_add_loop_test(tests, test, first, end) bare_add((tests), &(test), (first), (end))

SRunner *srunner_create(Suite *suite);
void srunner_set_fork_status(SRunner *runner, enum fork_status status);
void srunner_run_all(SRunner *runner, enum print_output output);
int srunner_ntests_failed(SRunner *runner);
void srunner_free(SRunner *runner);

/* Ends the test. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4), noreturn))
#endif
void bare_fail(const char *file, int line, const char *format, ...);

#define ck_abort_msg(...) bare_fail(__FILE__, __LINE__, __VA_ARGS__)
#define ck_assert_msg(condition, ...) ((condition) ? (void)0 : bare_fail(__FILE__, __LINE__, __VA_ARGS__))
#define ck_assert(condition) \
	((condition) ? (void)0 : bare_fail(__FILE__, __LINE__, "%s", "Assertion '" #condition "' failed"))

#define bare_compare(type, format, a, op, b)                                                                        \
	do {                                                                                                        \
		type bare_a_ = (a);                                                                                 \
		type bare_b_ = (b);                                                                                 \
		if (!(bare_a_ op bare_b_))                                                                          \
			bare_fail(__FILE__, __LINE__, "%s: " format " against " format, #a " " #op " " #b, bare_a_, \
			          bare_b_);                                                                         \
	} while (0)
#define ck_assert_int_eq(a, b) bare_compare(intmax_t, "%jd", a, ==, b)
#define ck_assert_int_ne(a, b) bare_compare(intmax_t, "%jd", a, !=, b)
#define ck_assert_int_lt(a, b) bare_compare(intmax_t, "%jd", a, <, b)
#define ck_assert_int_le(a, b) bare_compare(intmax_t, "%jd", a, <=, b)
#define ck_assert_int_gt(a, b) bare_compare(intmax_t, "%jd", a, >, b)
#define ck_assert_int_ge(a, b) bare_compare(intmax_t, "%jd", a, >=, b)
#define ck_assert_uint_eq(a, b) bare_compare(uintmax_t, "%ju", a, ==, b)
#define ck_assert_uint_ne(a, b) bare_compare(uintmax_t, "%ju", a, !=, b)
#define ck_assert_uint_lt(a, b) bare_compare(uintmax_t, "%ju", a, <, b)
#define ck_assert_uint_le(a, b) bare_compare(uintmax_t, "%ju", a, <=, b)
#define ck_assert_uint_gt(a, b) bare_compare(uintmax_t, "%ju", a, >, b)
#define ck_assert_uint_ge(a, b) bare_compare(uintmax_t, "%ju", a, >=, b)
#define ck_assert_float_eq(a, b) bare_compare(double, "%.9g", (double)(a), ==, (double)(b))
#define ck_assert_double_eq(a, b) bare_compare(double, "%.17g", a, ==, b)
#define ck_assert_double_ne(a, b) bare_compare(double, "%.17g", a, !=, b)
#define ck_assert_double_lt(a, b) bare_compare(double, "%.17g", a, <, b)
#define ck_assert_double_le(a, b) bare_compare(double, "%.17g", a, <=, b)
#define ck_assert_double_gt(a, b) bare_compare(double, "%.17g", a, >, b)
#define ck_assert_double_ge(a, b) bare_compare(double, "%.17g", a, >=, b)
#define ck_assert_double_eq_tol(a, b, off) bare_compare(double, "%.17g", fabs((double)(a) - (double)(b)), <, off)
#define ck_assert_ptr_eq(a, b) bare_compare(const void *, "%p", a, ==, b)
#define ck_assert_ptr_ne(a, b) bare_compare(const void *, "%p", a, !=, b)
#define ck_assert_ptr_null(a) ck_assert_ptr_eq(a, NULL)
#define ck_assert_ptr_nonnull(a) ck_assert_ptr_ne(a, NULL)
#define bare_strings(a, op, b)                                                                        \
	do {                                                                                          \
		const char *bare_a_ = (a), *bare_b_ = (b);                                            \
		if (!bare_a_ || !bare_b_ || !(strcmp(bare_a_, bare_b_) op 0))                         \
			bare_fail(__FILE__, __LINE__, "%s: \"%s\" against \"%s\"", #a " " #op " " #b, \
			          bare_a_ ? bare_a_ : "(null)", bare_b_ ? bare_b_ : "(null)");        \
	} while (0)
#define ck_assert_str_eq(a, b) bare_strings(a, ==, b)
#define ck_assert_str_ne(a, b) bare_strings(a, !=, b)
#define ck_assert_mem_eq(a, b, bytes) \
	ck_assert_msg(memcmp((a), (b), (bytes)) == 0, "%s", "the bytes of " #a " and " #b " differ")
#define ck_assert_mem_ne(a, b, bytes) \
	ck_assert_msg(memcmp((a), (b), (bytes)) != 0, "%s", "the bytes of " #a " and " #b " are equal")

#endif
