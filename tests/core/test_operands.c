/* The table of operands, and tolerances that are known from the numbers. */
#include "core/backend.h"
#include "core/operands.h"
#include "support/check.h"

#include <math.h>
#include <string.h>

START_TEST(table)
{
	const ps__operands *operands = ps__op_operands((ps_op)_i);
	ck_assert_ptr_nonnull(operands);
	ck_assert(operands->outputs >= 1 && operands->outputs < operands->count && operands->count <= PS_MAX_OPERANDS);
	for (int i = 0; i < operands->count; i++) {
		const ps__operand *operand = &operands->list[i];
		ck_assert_int_eq(operand->use == PS__OPERAND_IN, i >= operands->outputs);
		ck_assert_uint_le(operand->offset + sizeof(ps_tensor), ps__op_bytes((ps_op)_i));
		/* Only inputs can be what an output may be the same as. */
		ck_assert_uint_eq(operand->same & ((1U << operands->outputs) - 1), 0);
		ck_assert_uint_eq(operand->same >> operands->count, 0);
		for (int j = 0; j < i; j++) {
			ck_assert_str_ne(operand->name, operands->list[j].name);
			ck_assert_uint_ne(operand->offset, operands->list[j].offset);
		}
	}
}
END_TEST

START_TEST(no_op)
{
	ck_assert_ptr_null(ps__op_operands(PS_OP_COUNT));
}
END_TEST

static ps_tensor shaped(int64_t rows, int64_t columns)
{
	return ps_tensor_make(NULL, 0, PS_F32, 2, (int64_t[]){rows, columns});
}

/* What an op reads of the operands that it writes. */
START_TEST(reads)
{
	const ps__operands *gemm = ps__op_operands(PS_OP_gemm), *sgd = ps__op_operands(PS_OP_sgd);
	ps_args_gemm x = {.accumulate = false};
	ck_assert(!ps__operand_is_read(&gemm->list[0], &x));
	ck_assert(ps__operand_is_read(&gemm->list[1], &x));
	x.accumulate = true;
	ck_assert(ps__operand_is_read(&gemm->list[0], &x));
	ck_assert(ps__operand_is_read(&sgd->list[0], &(const ps_args_sgd){.lr = 1}));
	ck_assert(!ps__operand_is_read(&ps__op_operands(PS_OP_add)->list[0], &(const ps_args_add){.y = {0}}));
}
END_TEST

START_TEST(extent)
{
	int buffer;
	ps_tensor whole = shaped(4, 10);
	ck_assert_uint_eq(ps__tensor_extent(whole), 0);
	whole.buffer = (ps_buffer *)(void *)&buffer;
	ck_assert_uint_eq(ps__tensor_extent(whole), 160);
	ck_assert_uint_eq(ps__tensor_extent(ps_tensor_slice(whole, 1, 2, 3)), (3 * 10 + 3) * 4);
}
END_TEST

/* c = a b^T with a row of length 5, one of b of length 13, and gaps and NaNs that do not count. */
START_TEST(gemm_terms)
{
	const float a[] = {3, 4, 1e9F, 1, 0, 1e9F}, b[] = {5, 12, NAN, 1};
	ps_args_gemm x = {.a = shaped(2, 2), .b = shaped(2, 2), .c = shaped(2, 2), .trans_b = true};
	x.a.strides[0] = 3;
	const void *values[PS_MAX_OPERANDS] = {NULL, a, b};
	ps__tolerance tolerance = ps__op_tolerance(PS_OP_gemm, &x, 0, values, PS_MATH_F32),
	              sum = ps__tolerance_of_sum(2);
	ck_assert_double_eq_tol(tolerance.terms, 5 * 13 / sqrt(2), 1e-12);
	ck_assert_double_eq(tolerance.f32, sum.f32);
	ck_assert_double_eq(tolerance.f64, sum.f64);
	/* Stored the other way, it is the columns. */
	x.trans_a = true;
	x.trans_b = false;
	tolerance = ps__op_tolerance(PS_OP_gemm, &x, 0, values, PS_MATH_F32);
	ck_assert_double_eq_tol(tolerance.terms, 4 * sqrt(145) / sqrt(2), 1e-12);
}
END_TEST

/* Rounded factors count where the queue's math rounds them. |q| |k| / sqrt(d) is 5 / sqrt(2). */
START_TEST(attention_terms)
{
	const float qkv[] = {3, 4, 1, 0, 1, 2, 3, 4, 0, 1, 2, 1}, probs[] = {0.5F, 0.5F, 0.5F, 0.5F},
	            dout[] = {1, 2, 3, 4};
	const ps_args_attention_fwd x = {.qkv = ps_tensor_make(NULL, 0, PS_F32, 3, (int64_t[]){1, 2, 6}), .heads = 1};
	const ps_args_attention_bwd dx = {.qkv = x.qkv,
	                                  .probs = ps_tensor_make(NULL, 0, PS_F32, 4, (int64_t[]){1, 1, 2, 2}),
	                                  .dout = ps_tensor_make(NULL, 0, PS_F32, 3, (int64_t[]){1, 2, 2}),
	                                  .heads = 1};
	const void *forward[PS_MAX_OPERANDS] = {probs, dout, qkv}, *backward[PS_MAX_OPERANDS] = {qkv, qkv, probs, dout};
	const double size = 5 / sqrt(2), units[] = {[PS_MATH_F32] = 0, 1.0 / 256, 1.0 / 2048};
	for (int math = 0; math < PS_MATH_COUNT; math++) {
		double more[3];
		for (int i = 0; i < 2; i++)
			more[i] = ps__op_tolerance(PS_OP_attention_fwd, &x, i, forward, (ps_math)math).f32 -
			          ps__op_tolerance(PS_OP_attention_fwd, &x, i, forward, PS_MATH_F32).f32;
		more[2] = ps__op_tolerance(PS_OP_attention_bwd, &dx, 0, backward, (ps_math)math).f32 -
		          ps__op_tolerance(PS_OP_attention_bwd, &dx, 0, backward, PS_MATH_F32).f32;
		ck_assert_double_eq_tol(more[0], 2 * units[math] * size, 1e-12);
		ck_assert_double_eq_tol(more[1], 2 * units[math] * (size + 1), 1e-12);
		ck_assert_double_eq_tol(more[2], 4 * units[math], 1e-12);
	}
}
END_TEST

START_TEST(exact)
{
	const ps_args_add x = {.a = shaped(1, 1), .b = shaped(1, 1), .y = shaped(1, 1)};
	const void *values[PS_MAX_OPERANDS] = {NULL};
	ps__tolerance tolerance = ps__op_tolerance(PS_OP_add, &x, 0, values, PS_MATH_F32);
	ck_assert(tolerance.f32 == 0 && tolerance.f64 == 0 && tolerance.terms == 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("operands");
	TCase *cases = tcase_create("operands");
	tcase_add_loop_test(cases, table, 0, PS_OP_COUNT);
	tcase_add_test(cases, no_op);
	tcase_add_test(cases, reads);
	tcase_add_test(cases, extent);
	tcase_add_test(cases, gemm_terms);
	tcase_add_test(cases, attention_terms);
	tcase_add_test(cases, exact);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
