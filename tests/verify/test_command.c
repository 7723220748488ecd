/* `penstock verify` from outside: a good device, one with a fault, and what is printed of each. */
#include "cli/program.h"
#include "support/check.h"

#include <jansson.h>
#include <string.h>

static struct outcome run;

static void setup(void)
{
	program_enter();
	ck_assert_int_eq(setenv("PENSTOCK_BACKEND_PATH", PS_TEST_MODULES, 1), 0);
}

#define CONTAINS(text, part) ck_assert_msg(strstr((text), (part)) != NULL, "\"%s\" is not in\n%.1500s", (part), (text))

/* The one element that is wrong is named, and all else passes. */
START_TEST(broken_op)
{
	program_run(&run, "verify ops --device broken --elements 250000");
	ck_assert_msg(run.status == 1, "%d: %s", run.status, run.error);
	CONTAINS(run.out, "dropout_add_layernorm_fwd        fp32 ");
	CONTAINS(run.out, " inf  DIFFERS");
	CONTAINS(run.out, "dropout_add_layernorm_fwd fp32 on broken, row 9 (");
	CONTAINS(run.out, "sum fp32 (2, 25, 4096)");
	/* 77777 = 18 * 4096 + 4049, in the first of two rows of 25. */
	CONTAINS(run.out, "sum: 1 of 204800 elements differ; worst [0, 18, 4049] is ");
	CONTAINS(run.out, " ULPs, ");
	CONTAINS(run.error, "penstock verify: 2 of ");
	CONTAINS(run.error, " rows differ from ref, the first of them dropout_add_layernorm_fwd fp32 on broken, row 9; "
	                    "--seed 1 repeats them\n");
	ck_assert_int_eq(count_lines(run.error), 1);
	const char *first = strstr(run.out, "DIFFERS");
	ck_assert_ptr_null(strstr(first + 1, "DIFFERS"));
}
END_TEST

START_TEST(broken_op_as_json)
{
	program_run(&run, "verify ops --device broken --elements 250000 --json");
	ck_assert_int_eq(run.status, 1);
	json_error_t error;
	json_t *object = json_loads(run.out, 0, &error), *entry;
	ck_assert_msg(object != NULL, "%s", error.text);
	ck_assert_int_eq(json_integer_value(json_object_get(object, "differing")), 2);
	size_t index;
	int differing = 0;
	json_array_foreach(json_object_get(object, "results"), index, entry)
	{
		const char *subject;
		int64_t count;
		json_t *differences;
		ck_assert_int_eq(json_unpack(entry, "{s:s, s:I, s:o}", "subject", &subject, "differing", &count,
		                             "differences", &differences),
		                 0);
		if (count == 0)
			continue;
		differing++;
		ck_assert_str_eq(subject, "dropout_add_layernorm_fwd");
		json_int_t row, at[3];
		double got, want, ulps;
		const char *tensor;
		ck_assert_int_eq(json_unpack(json_array_get(differences, 0), "{s:I, s:s, s:[I,I,I], s:F, s:F, s:F}",
		                             "row", &row, "tensor", &tensor, "index", &at[0], &at[1], &at[2], "got",
		                             &got, "want", &want, "ulps", &ulps),
		                 0);
		ck_assert_str_eq(tensor, "sum");
		ck_assert(row == 9 && at[0] == 0 && at[1] == 18 && at[2] == 4049);
		ck_assert_double_eq_tol(got - want, 0.0009765625, 1e-6);
		ck_assert(ulps > 1000 && ulps < 20000);
	}
	ck_assert_int_eq(differing, 1);
	json_decref(object);
}
END_TEST

/* Runs a check of a device with a fault: exit status 1, and this line is among the output, differing rows alone. */
static void expect_fault(const char *arguments, const char *line)
{
	program_run(&run, "verify %s", arguments);
	ck_assert_msg(run.status == 1, "%d: %s\n%.1500s", run.status, run.error, run.out);
	CONTAINS(run.out, line);
	CONTAINS(run.error, "differ from ref");
}

START_TEST(wrong_gradient)
{
	expect_fault("grad --device broken:grad",
	             "relu_dropout fp32 on broken:grad, row 0: dx: 1 of 33 elements differ; "
	             "worst [0, 0] is ");
	CONTAINS(run.out, "encoder layer fp32 on broken:grad, row ");
	expect_fault("layers --device broken:grad", "encoder_layer fp32 on broken:grad, row 2 of B: dx: ");
	CONTAINS(run.out, " of W: ");
	ck_assert_ptr_null(strstr(run.out, " of R: "));
	ck_assert_ptr_null(strstr(run.out, " of W after B: "));
}
END_TEST

/* Within every tolerance, but not the same bits twice. */
START_TEST(restless_bits)
{
	expect_fault("layers --device broken:bits", " of R: ");
	ck_assert_ptr_null(strstr(run.out, " of F: "));
	CONTAINS(run.out, "encoder_layer                    fp32 ");
}
END_TEST

START_TEST(overwritten_guard)
{
	expect_fault(
	        "ops --device broken:guard --elements 100",
	        "add fp32 on broken:guard, row 0 (b fp32 (1), a fp32 (1), y fp32 (1)): y: bytes between 0 and 1028, "
	        "outside of the tensor, were overwritten\n");
}
END_TEST

/* A command that fails is a difference, and the queue goes on. */
START_TEST(failing_command)
{
	expect_fault("ops --device broken:late --elements 100", "PS_EDEVICE: the device has a fault\n");
	CONTAINS(run.out, "relu_fwd                         fp32     10      12           0            0  ok; ");
}
END_TEST

/* By the device's own answer. */
START_TEST(support)
{
	program_run(&run, "verify support --device cpu,ref");
	ck_assert_msg(run.status == 0, "%d: %s", run.status, run.error);
	CONTAINS(run.out, "cpu fp32  cpu fp64  cpu bf16  ref fp32  ref fp64  ref bf16\n");
	CONTAINS(run.out, "\nadd                               yes       no        -         yes       yes       -\n");
	CONTAINS(run.out, "cpu fp64: 20 refused, the first: cpu cannot run gemm on fp64 ");
	program_run(&run, "verify support --device cpu,ref --markdown");
	ck_assert_msg(run.status == 0, "%d: %s", run.status, run.error);
	CONTAINS(run.out, "| support | cpu fp32 | cpu fp64 | cpu bf16 | ref fp32 | ref fp64 | ref bf16 |\n"
	                  "|---|---|---|---|---|---|---|\n| gemm | yes | no | ");
}
END_TEST

/* Small tensors only: the fault does not show, what was left out is counted, and nothing is on standard error. */
START_TEST(small_tensors)
{
	program_run(&run, "verify ops --device broken --elements 1000");
	ck_assert_msg(run.status == 0, "%d: %s", run.status, run.error);
	CONTAINS(run.out, "ok; skipped: it has tensors of more than 1000 elements\n");
	CONTAINS(run.out, " rows, no difference\n");
	ck_assert_str_eq(run.error, "");
}
END_TEST

/* Any device against any other, several at a time; what a device does not take is said. */
START_TEST(other_devices)
{
	program_run(&run, "verify ops --device ref,cpu --against broken --elements 300");
	ck_assert_msg(run.status == 0, "%d: %s", run.status, run.error);
	CONTAINS(run.out, "ops of ref against broken\n");
	CONTAINS(run.out, "ops of cpu against broken\n");
	CONTAINS(run.out, "20 not run in fp64; gemm: cpu cannot run gemm on fp64");
}
END_TEST

int main(void)
{
	/* Drivers are not what this is about. */
	if (setenv("OCL_ICD_VENDORS", "/nowhere", 1))
		return EXIT_FAILURE;
	Suite *suite = suite_create("verify");
	TCase *cases = tcase_create("verify");
	tcase_add_checked_fixture(cases, setup, program_leave);
	tcase_add_test(cases, broken_op);
	tcase_add_test(cases, broken_op_as_json);
	tcase_add_test(cases, wrong_gradient);
	tcase_add_test(cases, restless_bits);
	tcase_add_test(cases, overwritten_guard);
	tcase_add_test(cases, failing_command);
	tcase_add_test(cases, support);
	tcase_add_test(cases, small_tensors);
	tcase_add_test(cases, other_devices);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
