/* Conformance of the embedding. */
#include "verify/conform.h"

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
	            .y = conform_out(c, "y", SHAPE(row->rows, row->time, row->width),
	                             .tolerance = {.f32 = 1e-6, .f64 = 1e-15}, .terms = 22, .zeros = true),
	            .scale = 22.627417F, .drop = ps__conform_dropout(c->seed, &row->drop));
}

static void embedding_bwd_weight_body(struct conform *c, const void *data)
{
	const struct row *row = data;
	ps__tolerance tolerance = ps__tolerance_of_sum(row->rows * row->time);
	conform_run(c, embedding_bwd_weight,
	            .tokens = conform_in(c, "tokens", SHAPE(row->rows, row->time), .bound = row->vocabulary),
	            .dy = conform_in(c, "dy", SHAPE(row->rows, row->time, row->width), .fill = FILL_POSITIVE),
	            .dweight = conform_sum(c, "dweight", row->accumulate, SHAPE(row->vocabulary, row->width),
	                                   .tolerance = tolerance, .terms = 22, .zeros = !row->accumulate),
	            .scale = 22.627417F, .accumulate = row->accumulate,
	            .drop = ps__conform_dropout(c->seed, &row->drop));
}

static const struct conform_set sets[] = {
        CONFORM_SET(embedding_fwd, "", rows, embedding_fwd_body),
        CONFORM_SET(embedding_bwd_weight, "", rows, embedding_bwd_weight_body),
};

const struct conform_family ps__conform_embedding = CONFORM_FAMILY("embedding", sets);
