/*
 * The pictures of docs/schedules.md are what ps_simulation_draw draws. With PS_PRINT_PICTURES set the program prints
 * them, for pasting.
 */
#include "helpers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	int ranks, stages_per_rank, micro_batches, group;
	double backward, weight, link, unit;
} pictures[] = {
        {"gpipe", 4, 1, 6, 0, 1, 1, 0, 1},        {"1f1b", 4, 1, 6, 0, 1, 1, 0, 1},  {"1f1b", 4, 1, 6, 6, 1, 1, 0, 1},
        {"forward-only", 4, 1, 6, 0, 1, 1, 0, 1}, {"gpipe", 2, 2, 4, 0, 1, 1, 0, 1}, {"1f1b", 4, 1, 6, 0, 1, 1, 1, 1},
};

static char *draw(int index)
{
	ps_schedule *schedule = generate(pictures[index].name, pictures[index].ranks, pictures[index].stages_per_rank,
	                                 pictures[index].micro_batches);
	if (pictures[index].group)
		assert_ok(ps_schedule_group_weight(schedule, pictures[index].group));
	equal_costs equal;
	set_equal_costs(&equal, 1, pictures[index].backward, pictures[index].weight, pictures[index].link);
	ps_simulation simulation;
	assert_ok(ps_schedule_simulate(&simulation, schedule, &equal.costs, true));
	char *text;
	assert_ok(ps_simulation_draw(&text, schedule, &simulation, pictures[index].unit));
	ps_simulation_finish(&simulation);
	ps_schedule_destroy(schedule);
	return text;
}

static const char *read_page(void)
{
	static char page[65536];
	FILE *file = fopen(PS_DOCS_FOLDER "/schedules.md", "r");
	ck_assert_ptr_nonnull(file);
	size_t length = fread(page, 1, sizeof page - 1, file);
	page[length] = '\0';
	ck_assert_int_eq(fclose(file), 0);
	return page;
}

START_TEST(picture_is_in_docs)
{
	char *text = draw(_i);
	if (getenv("PS_PRINT_PICTURES"))
		printf("%s\n", text);
	const char *page = read_page();
	ck_assert_msg(strstr(page, text) != NULL, "docs/schedules.md lacks this picture:\n%s", text);
	free(text);
}
END_TEST

START_TEST(example_file)
{
	const char *begin = strstr(read_page(), "# Two ranks in a V");
	ck_assert_ptr_nonnull(begin);
	char text[1024];
	snprintf(text, sizeof text, "%.*s", (int)(strstr(begin, "```") - begin), begin);
	ps_schedule *schedule = schedule_of(text);
	assert_ok(ps_schedule_validate(schedule));
	ck_assert_int_eq(schedule->stages, 4);
	ck_assert_int_eq(schedule->rank_of_stage[3], 0);
	ps_schedule_destroy(schedule);
}
END_TEST

START_TEST(drawing)
{
	ps_schedule *schedule = generate("1f1b", 2, 1, 2);
	ps_simulation simulation;
	char *text = NULL;
	assert_ok(ps_schedule_simulate(&simulation, schedule, NULL, true));
	assert_ok(ps_simulation_draw(&text, schedule, &simulation, 1));
	ck_assert_str_eq(text, "rank 0  F0 F1 .  .  BW0-- .  BW1--\n"
	                       "rank 1  .  F0 BW0-- F1 BW1-- .  .\n");
	free(text);
	/* Three units a column: what is shorter may fall between two columns. */
	assert_ok(ps_simulation_draw(&text, schedule, &simulation, 3));
	ck_assert_str_eq(text, "rank 0  F1- BW0 BW1\n"
	                       "rank 1  F0- F1- .\n");
	free(text);
	text = NULL;
	ck_assert_int_eq(ps_simulation_draw(&text, schedule, &simulation, 0), PS_EINVAL);
	ck_assert_int_eq(ps_simulation_draw(&text, schedule, &simulation, -1), PS_EINVAL);
	ck_assert_int_eq(ps_simulation_draw(&text, schedule, &simulation, 1e-9), PS_EINVAL);
	ck_assert_ptr_nonnull(strstr(ps_error_message(), "with a unit above 0.0009 it has at most 10000"));
	ps_simulation_finish(&simulation);
	assert_ok(ps_schedule_simulate(&simulation, schedule, NULL, false));
	ck_assert_int_eq(ps_simulation_draw(&text, schedule, &simulation, 1), PS_EINVAL);
	ck_assert_ptr_null(text);
	ps_simulation_finish(&simulation);
	ps_schedule_destroy(schedule);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("schedule docs");
	TCase *tests = tcase_create("docs");
	suite_add_tcase(suite, tests);
	tcase_add_loop_test(tests, picture_is_in_docs, 0, (int)(sizeof pictures / sizeof *pictures));
	tcase_add_test(tests, example_file);
	tcase_add_test(tests, drawing);
	return run_suite(suite);
}
