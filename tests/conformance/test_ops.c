/* A family's conformance rows on every device here, a test for each set of them; the build gives the family's name. */
#include "support/conform.h"

#include <string.h>

static const struct conform_family *family;

START_TEST(rows)
{
	conform_check(&family->sets[_i]);
}
END_TEST

int main(void)
{
	size_t count;
	const struct conform_family *const *families = ps__conform_families(&count);
	for (size_t i = 0; i < count; i++)
		if (!strcmp(families[i]->name, FAMILY))
			family = families[i];
	Suite *suite = suite_create(FAMILY);
	TCase *tests = tcase_create("conformance");
	tcase_add_loop_test(tests, rows, 0, family ? (int)family->count : 0);
	suite_add_tcase(suite, tests);
	return family ? conform_suite_run(suite) : 1;
}
