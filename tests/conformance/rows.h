/* What conform_rows tests beside the ops that work row by row. */
#ifndef PS_TESTS_CONFORMANCE_ROWS_H
#define PS_TESTS_CONFORMANCE_ROWS_H

#include <check.h>

/* Products: test_product_rows.c. */
void add_product_rows(TCase *tests);

#endif
