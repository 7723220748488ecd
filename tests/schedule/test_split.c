/* ps_split_rows over a grid, and ps_checkpoint_applies. */
#include "helpers.h"

START_TEST(examples)
{
	int64_t sizes[8];
	static const int64_t torch_20_in_8[] = {3, 3, 3, 3, 3, 3, 2}, even_20_in_8[] = {3, 3, 3, 3, 2, 2, 2, 2};
	ck_assert_int_eq(ps_split_rows(PS_SPLIT_TORCH, 20, 8, sizes), 7);
	ck_assert_mem_eq(sizes, torch_20_in_8, sizeof torch_20_in_8);
	ck_assert_int_eq(ps_split_rows(PS_SPLIT_EVEN, 20, 8, sizes), 8);
	ck_assert_mem_eq(sizes, even_20_in_8, sizeof even_20_in_8);
	ck_assert_int_eq(ps_split_rows(PS_SPLIT_TORCH, 10, 8, sizes), 5);
	ck_assert_int_eq(ps_split_rows(PS_SPLIT_EVEN, 3, 8, sizes), 3);
	ck_assert_int_eq(ps_split_rows(PS_SPLIT_TORCH, 3, 8, sizes), 3);
}
END_TEST

START_TEST(grid)
{
	for (int rows = 1; rows <= 70; rows++) {
		for (int chunks = 1; chunks <= 70; chunks++) {
			int64_t sizes[71];
			sizes[chunks] = -77;
			for (ps_split_rule rule = PS_SPLIT_EVEN; rule <= PS_SPLIT_TORCH; rule++) {
				int count = ps_split_rows(rule, rows, chunks, sizes);
				ck_assert_int_ge(count, 1);
				ck_assert_int_le(count, chunks);
				ck_assert_int_eq(sizes[chunks], -77);
				int64_t sum = 0;
				for (int i = 0; i < count; i++) {
					ck_assert_int_gt(sizes[i], 0);
					if (i > 0)
						ck_assert_int_le(sizes[i], sizes[i - 1]);
					sum += sizes[i];
				}
				ck_assert_int_eq(sum, rows);
				if (rule == PS_SPLIT_EVEN) {
					ck_assert_int_eq(count, rows < chunks ? rows : chunks);
					ck_assert_int_le(sizes[0] - sizes[count - 1], 1);
				} else {
					int each = (rows + chunks - 1) / chunks;
					ck_assert_int_eq(count, (rows + each - 1) / each);
					for (int i = 0; i + 1 < count; i++)
						ck_assert_int_eq(sizes[i], each);
				}
			}
		}
	}
}
END_TEST

START_TEST(large_and_wrong)
{
	int64_t sizes[3] = {7, 7, 7};
	ck_assert_int_eq(ps_split_rows(PS_SPLIT_TORCH, INT64_MAX, 2, sizes), 2);
	ck_assert_int_eq(sizes[0] - sizes[1], 1);
	ck_assert_int_eq(ps_split_rows(PS_SPLIT_EVEN, INT64_MAX, 3, sizes), 3);
	ck_assert_int_eq(sizes[0] + (sizes[1] + sizes[2] - INT64_MAX), 0);
	sizes[0] = 7;
	ck_assert_int_eq(ps_split_rows(PS_SPLIT_EVEN, 0, 3, sizes), 0);
	ck_assert_int_eq(ps_split_rows(PS_SPLIT_TORCH, 3, 0, sizes), 0);
	ck_assert_int_eq(ps_split_rows(PS_SPLIT_TORCH, -1, 3, sizes), 0);
	ck_assert_int_eq(sizes[0], 7);
}
END_TEST

START_TEST(checkpoint_modes)
{
	for (int m = 1; m < 5; m++) {
		for (int i = 0; i < m; i++) {
			ck_assert(!ps_checkpoint_applies(PS_CHECKPOINT_NEVER, i, m));
			ck_assert(ps_checkpoint_applies(PS_CHECKPOINT_ALWAYS, i, m));
			ck_assert(ps_checkpoint_applies(PS_CHECKPOINT_EXCEPT_LAST, i, m) == (i != m - 1));
		}
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("split");
	TCase *tests = tcase_create("split");
	suite_add_tcase(suite, tests);
	tcase_add_test(tests, examples);
	tcase_add_test(tests, grid);
	tcase_add_test(tests, large_and_wrong);
	tcase_add_test(tests, checkpoint_modes);
	return run_suite(suite);
}
