/* Comparing tensors: what counts as the same, and what is said of the worst element. */
#include "core/compare.h"
#include "tests/support/check.h"

#include <float.h>
#include <math.h>
#include <string.h>

static const ps__tolerance exact, close = {.f32 = 1e-6, .f64 = 1e-14};

static ps_tensor shape(ps_dtype dtype, int64_t rows, int64_t columns)
{
	return ps_tensor_make(NULL, 0, dtype, 2, (int64_t[]){rows, columns});
}

START_TEST(worst_element)
{
	const float want[6] = {1, 2, 3, 4, 5, 6}, got[6] = {1, 2.000001F, 3, 4, 5.5F, 6};
	char text[256];
	ps__difference d = ps__compare(shape(PS_F32, 2, 3), got, want, &close);
	ck_assert_int_eq(d.count, 6);
	ck_assert_int_eq(d.bad, 1);
	ck_assert_int_eq(d.worst, 4);
	ck_assert(d.at[0] == 1 && d.at[1] == 1 && d.got == 5.5 && d.want == 5);
	ck_assert_double_eq(d.ulps, 0.5 / (4 * FLT_EPSILON));
	ck_assert_double_eq_tol(d.share, 1e5, 1e-3);
	ck_assert_str_eq(ps__difference_text(&d, text, sizeof text),
	                 "1 of 6 elements differ; worst [1, 1] is 5.5, should be 5 (1.05e+06 ULPs, 1e+05 times the "
	                 "tolerance)");
	d = ps__compare(shape(PS_F32, 2, 3), want, want, &exact);
	ck_assert(d.bad == 0 && d.ulps == 0 && d.share == 0 && d.worst == 0);
}
END_TEST

/* Errors are relative to the root mean square and to the terms where these are larger than the value. */
START_TEST(scales)
{
	const double want[4] = {1e-9, 2, 2, 2}, got[4] = {3e-9, 2, 2, 2}, alone[1] = {1e-9}, other[1] = {3e-9};
	ps__tolerance loose = {.f64 = 1e-8};
	ck_assert_int_eq(ps__compare(shape(PS_F64, 2, 2), got, want, &loose).bad, 0);
	ck_assert_int_eq(ps__compare(shape(PS_F64, 1, 1), other, alone, &loose).bad, 1);
	loose.terms = 1;
	ck_assert_int_eq(ps__compare(shape(PS_F64, 1, 1), other, alone, &loose).bad, 0);
	loose = ps__tolerance_of_sum(10000);
	ck_assert_double_eq_tol(loose.f32, 4.1e-5, 1e-12);
	ck_assert_double_eq_tol(loose.f64, 1.1e-13, 1e-22);
}
END_TEST

START_TEST(special_values)
{
	static const struct {
		float got, want;
		bool same;
	} rows[] = {{NAN, NAN, true},
	            {1, NAN, false},
	            {NAN, 1, false},
	            {INFINITY, INFINITY, true},
	            {-INFINITY, INFINITY, false},
	            {FLT_MAX, INFINITY, false},
	            {INFINITY, FLT_MAX, false},
	            {-0.0F, 0, true},
	            {FLT_MIN / 4, 0, true},
	            {0, -FLT_MIN, true},
	            {FLT_MIN * 2, 0, false},
	            {FLT_MAX, -FLT_MAX, false}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		ps__difference d = ps__compare(shape(PS_F32, 1, 1), &rows[i].got, &rows[i].want, &exact);
		ck_assert_msg((d.bad == 0) == rows[i].same, "%g for %g", (double)rows[i].got, (double)rows[i].want);
		ck_assert_msg((d.share <= 1) == rows[i].same, "%g for %g", (double)rows[i].got, (double)rows[i].want);
	}
}
END_TEST

START_TEST(zeros)
{
	const float want[3] = {1, 1e-20F, 0}, got[3] = {1, 0, 1e-20F};
	ps__tolerance tolerance = close;
	ck_assert_int_eq(ps__compare(shape(PS_F32, 1, 3), got, want, &tolerance).bad, 0);
	tolerance.zeros = true;
	ps__difference d = ps__compare(shape(PS_F32, 1, 3), got, want, &tolerance);
	ck_assert(d.bad == 2 && d.misplaced == 2 && d.worst == 1);
}
END_TEST

/* Only the elements of a view count, and whole numbers must be the same. */
START_TEST(views_and_integers)
{
	const int32_t want[8] = {1, 2, 77, 77, 3, 4, 77, 77}, got[8] = {1, 2, 0, 1, 3, 7, 2, 3};
	ps_tensor view = shape(PS_I32, 2, 2);
	view.strides[0] = 4;
	ps__difference d = ps__compare(view, got, want, &close);
	ck_assert(d.count == 4 && d.bad == 1 && d.worst == 3 && d.at[0] == 1 && d.at[1] == 1);
	ck_assert(d.got == 7 && d.want == 4 && d.ulps == 3);
	d = ps__compare(shape(PS_I32, 0, 2), got, want, &close);
	ck_assert(d.count == 0 && d.bad == 0 && d.worst == -1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("compare");
	TCase *cases = tcase_create("compare");
	tcase_add_test(cases, worst_element);
	tcase_add_test(cases, scales);
	tcase_add_test(cases, special_values);
	tcase_add_test(cases, zeros);
	tcase_add_test(cases, views_and_integers);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
