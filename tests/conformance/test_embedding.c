/* Conformance of the embedding. */
#include "support/conform.h"

#include <stdlib.h>

struct row {
	int64_t rows, time, width, vocabulary, positions;
	struct conform_drop drop;
	bool accumulate;
};

static const struct row rows[] = {
        {1, 1, 1, 1, 1, {0, 0, 0, 0}, false},
        {1, 3, 7, 2, 3, {0.5F, 0, 1, 0}, true}, /* few tokens: many repeats */
        {3, 7, 17, 5, 9, {0.2F, 1, 2, 1}, false},
        {2, 33, 3, 129, 40, {0, 0, 0, 0}, true},
        {7, 17, 33, 3, 17, {0.5F, 4000000000U, 4294967294U, 16777215}, true},
        {2, 129, 65, 1000, 129, {0.2F, 13, 4, 3}, false},
        {20, 35, 16, 100, 35, {0.2F, 4294967294U, 77, 9}, true},
        {2, 35, 512, 28782, 35, {0.2F, 11, 149, 0}, false},
        {3, 25, 4096, 1000, 25, {0.2F, 17, 149, 0}, true},
};

static void embedding_fwd_body(struct conform *c, const void *data)
{
	const struct row *row = data;
	conform_run(c, embedding_fwd,
	            .tokens = conform_in(c, "tokens", SHAPE(row->rows, row->time), .bound = row->vocabulary),
	            .weight = conform_in(c, "weight", SHAPE(row->vocabulary, row->width)),
	            .positions = conform_in(c, "positions", SHAPE(row->positions, row->width), .fill = FILL_POSITIVE),
	            .y = conform_out(c, "y", SHAPE(row->rows, row->time, row->width), .tolerance = {1e-6, 1e-15},
	                             .terms = 22, .zeros = true),
	            .scale = 22.627417F, .drop = conform_dropout(&row->drop));
}

START_TEST(embedding_fwd)
{
	CONFORM_ROWS(embedding_fwd, rows, embedding_fwd_body);
}
END_TEST

static void embedding_bwd_weight_body(struct conform *c, const void *data)
{
	const struct row *row = data;
	struct conform_tolerance tolerance = conform_sum_tolerance(row->rows * row->time);
	ps_args_embedding_bwd_weight x = {
	        .tokens = conform_in(c, "tokens", SHAPE(row->rows, row->time), .bound = row->vocabulary),
	        .dy = conform_in(c, "dy", SHAPE(row->rows, row->time, row->width), .fill = FILL_POSITIVE),
	        .scale = 22.627417F,
	        .accumulate = row->accumulate,
	        .drop = conform_dropout(&row->drop)};
	x.dweight = row->accumulate ? conform_inout(c, "dweight", SHAPE(row->vocabulary, row->width),
	                                            .tolerance = tolerance, .terms = 22)
	                            : conform_out(c, "dweight", SHAPE(row->vocabulary, row->width),
	                                          .tolerance = tolerance, .terms = 22, .zeros = true);
	conform_call(c, PS_OP_embedding_bwd_weight, &x, sizeof x);
}

START_TEST(embedding_bwd_weight)
{
	CONFORM_ROWS(embedding_bwd_weight, rows, embedding_bwd_weight_body);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("embedding");
	TCase *tests = tcase_create("conformance");
	tcase_add_test(tests, embedding_fwd);
	tcase_add_test(tests, embedding_bwd_weight);
	suite_add_tcase(suite, tests);
	return conform_suite_run(suite);
}
