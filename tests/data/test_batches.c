/* batchify and get_batch against the tutorial's own slicing, written out with two-dimensional indices. */
#include <penstock/data.h>

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* Token c * length + i of a range stands in column c, row i of the tutorial's transposed matrix. */
static int32_t matrix(const ps_batches *batches, int64_t row, int64_t column)
{
	return (int32_t)(column * batches->length + row);
}

/* Checks every batch of a pass over 0, 1, 2, … for one shape. */
static void check_pass(size_t count, int64_t columns, int64_t bptt)
{
	int32_t *tokens = malloc(count * sizeof *tokens);
	int32_t *inputs = malloc((size_t)(columns * bptt) * sizeof *inputs);
	int32_t *targets = malloc((size_t)(columns * bptt) * sizeof *targets);
	int32_t *published = malloc((size_t)(columns * bptt) * sizeof *published);
	ck_assert(tokens != NULL && inputs != NULL && targets != NULL && published != NULL);
	for (size_t i = 0; i < count; i++)
		tokens[i] = (int32_t)i;
	ps_batches batches;
	ck_assert_int_eq(ps_batches_init(&batches, tokens, count, columns, bptt), PS_OK);
	ck_assert_int_eq(batches.columns, columns);
	ck_assert_int_eq(batches.length, (int64_t)count / columns);
	int64_t index = 0;
	for (int64_t row = 0; row < batches.length - 1; row += bptt, index++) {
		int64_t left = batches.length - 1 - row;
		int64_t time = 0;
		ck_assert_int_eq(ps_batches_get(&batches, index, inputs, targets, &time), PS_OK);
		ck_assert_int_eq(time, left < bptt ? left : bptt);
		for (int64_t c = 0; c < columns; c++) {
			for (int64_t t = 0; t < time; t++) {
				ck_assert_int_eq(inputs[c * time + t], matrix(&batches, row + t, c));
				ck_assert_int_eq(targets[c * time + t], matrix(&batches, row + t + 1, c));
			}
		}
		ck_assert_int_eq(ps_batches_get_as_published(&batches, index, inputs, published, &time), PS_OK);
		for (int64_t k = 0; k < columns * time; k++) {
			ck_assert_int_eq(inputs[k], matrix(&batches, row + k % time, k / time));
			ck_assert_int_eq(published[k], matrix(&batches, row + 1 + k / columns, k % columns));
		}
	}
	ck_assert_int_eq(ps_batches_count(&batches), index);
	int64_t time = -7;
	ck_assert_int_eq(ps_batches_get(&batches, index, inputs, targets, &time), PS_EINVAL);
	ck_assert_int_eq(ps_batches_get(&batches, -1, inputs, targets, &time), PS_EINVAL);
	ck_assert_int_eq(ps_batches_get_as_published(&batches, index, inputs, targets, &time), PS_EINVAL);
	ck_assert_int_eq(time, -7);
	free(tokens);
	free(inputs);
	free(targets);
	free(published);
}

START_TEST(passes)
{
	check_pass(1000, 20, 25);
	check_pass(1019, 20, 25);
	check_pass(103, 4, 7);
	check_pass(2, 1, 1);
	check_pass(7, 3, 5);
	check_pass(52, 2, 25); /* 26 rows: one full batch and none left over */
	check_pass(54, 2, 25); /* 27 rows: a last batch of one */
	check_pass(11, 1, 1);
}
END_TEST

/* The tutorial's figures for WikiText-2: 102,499 rows in training, 4,100 batches. */
START_TEST(tutorial_figures)
{
	int32_t token = 0;
	ps_batches batches;
	ck_assert_int_eq(ps_batches_init(&batches, &token, 2049990, 20, 25), PS_OK);
	ck_assert_int_eq(batches.length, 102499);
	ck_assert_int_eq(ps_batches_count(&batches), 4100);
	ck_assert_int_eq(ps_batches_init(&batches, &token, 214417, 10, 25), PS_OK);
	ck_assert_int_eq(ps_batches_count(&batches), 858);
	ck_assert_int_eq(ps_batches_init(&batches, &token, 2049990, 20, INT64_MAX), PS_OK);
	ck_assert_int_eq(ps_batches_count(&batches), 1);
}
END_TEST

START_TEST(too_short)
{
	int32_t tokens[8] = {0};
	ps_batches batches = {.columns = -1};
	ck_assert_int_eq(ps_batches_init(&batches, tokens, 7, 4, 5), PS_EINVAL);
	ck_assert_ptr_nonnull(strstr(ps_error_message(), "7 tokens"));
	ck_assert_ptr_nonnull(strstr(ps_error_message(), "batch size of 4"));
	ck_assert_ptr_nonnull(strstr(ps_error_message(), "the most is 3"));
	ck_assert_int_eq(ps_batches_init(&batches, tokens, 0, 1, 5), PS_EINVAL);
	ck_assert_int_eq(ps_batches_init(&batches, tokens, 8, 0, 5), PS_EINVAL);
	ck_assert_int_eq(ps_batches_init(&batches, tokens, 8, -2, 5), PS_EINVAL);
	ck_assert_int_eq(ps_batches_init(&batches, tokens, 8, INT64_MAX, 5), PS_EINVAL);
	ck_assert_int_eq(ps_batches_init(&batches, tokens, 8, 2, 0), PS_EINVAL);
	ck_assert_int_eq(batches.columns, -1);
	ck_assert_int_eq(ps_batches_init(&batches, tokens, 8, 4, 5), PS_OK);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("batches");
	TCase *cases = tcase_create("batches");
	tcase_add_test(cases, passes);
	tcase_add_test(cases, tutorial_figures);
	tcase_add_test(cases, too_short);
	suite_add_tcase(suite, cases);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
