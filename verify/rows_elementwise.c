/* Conformance of add, relu, dropout and relu_dropout. */
#include "verify/conform.h"

static const int64_t lengths[] = {1, 2, 3, 7, 8, 15, 17, 33, 64, 129, 255, 1000, 4099, 65537};

struct plain {
	int64_t count;
	enum conform_fill fill;
	bool alias; /* y is one of the inputs */
};

#define PLAIN_ROWS(alias)                                                                               \
	{1, FILL_UNIT, alias}, {3, FILL_UNIT, alias}, {7, FILL_SPECIAL, alias}, {17, FILL_TINY, alias}, \
	        {33, FILL_SPECIAL, alias}, {129, FILL_UNIT, alias}, {1000, FILL_SPECIAL, alias},        \
	        {1000, FILL_TINY, alias}, {4099, FILL_LARGE, alias}, {65537, FILL_SPECIAL, alias},      \
	{                                                                                               \
		3 * 25 * 4096, FILL_UNIT, alias                                                         \
	}

static const struct plain plain_rows[] = {PLAIN_ROWS(false), PLAIN_ROWS(true)};

static void add_body(struct conform *c, const void *data)
{
	const struct plain *row = data;
	ps_tensor b = conform_in(c, "b", SHAPE(row->count), .fill = row->fill);
	struct conform_pair p = conform_pair(c, row->alias, "a", "y", SHAPE(row->count), .fill = row->fill);
	conform_run(c, add, .a = p.in, .b = b, .y = p.out);
}

/* y in the place of b, the other alias that is allowed. */
static void add_to_second_body(struct conform *c, const void *data)
{
	const struct plain *row = data;
	ps_tensor b = conform_inout(c, "b", SHAPE(row->count), .fill = row->fill, .tolerance = CONFORM_EXACT);
	conform_run(c, add, .a = conform_in(c, "a", SHAPE(row->count), .fill = row->fill), .b = b, .y = b);
}

static void relu_fwd_body(struct conform *c, const void *data)
{
	const struct plain *row = data;
	struct conform_pair p = conform_pair(c, row->alias, "x", "y", SHAPE(row->count), .fill = row->fill,
	                                     .zeros = row->fill == FILL_UNIT);
	conform_run(c, relu_fwd, .x = p.in, .y = p.out);
}

/*
 * A denormal y may be taken for zero by a device that flushes, which changes dx by more than a denormal; the fills of y
 * leave denormals out.
 */
static enum conform_fill fill_of_y(enum conform_fill fill)
{
	return fill == FILL_TINY || fill == FILL_SPECIAL ? FILL_WHOLE : fill;
}

static void relu_bwd_body(struct conform *c, const void *data)
{
	const struct plain *row = data;
	ps_tensor y = conform_in(c, "y", SHAPE(row->count), .fill = fill_of_y(row->fill));
	struct conform_pair p = conform_pair(c, row->alias, "dy", "dx", SHAPE(row->count), .fill = row->fill);
	conform_run(c, relu_bwd, .dy = p.in, .y = y, .dx = p.out);
}

static void relu_dropout_bwd_body(struct conform *c, const void *data)
{
	const struct plain *row = data;
	static const float probabilities[] = {0, 0.2F, 0.5F, 0.9F};
	ps_tensor y = conform_in(c, "y", SHAPE(row->count), .fill = fill_of_y(row->fill));
	struct conform_pair p = conform_pair(c, row->alias, "dy", "dx", SHAPE(row->count), .fill = row->fill);
	conform_run(c, relu_dropout_bwd, .dy = p.in, .y = y, .dx = p.out, .p = probabilities[(row - plain_rows) % 4]);
}

struct masked {
	int64_t rows, elements;
	struct conform_drop drop;
	enum conform_fill fill;
	bool alias;
};

static const struct masked masked_rows[] = {
        {1, 1, {0, 0, 0, 0}, FILL_UNIT, false},
        {3, 7, {0, 5, 1, 1}, FILL_SPECIAL, false},
        {1, 1, {0.5F, 0, 0, 0}, FILL_UNIT, false},
        {1, 3, {0.2F, 0, 1, 0}, FILL_UNIT, false},
        {7, 1, {0.5F, 0, 2, 1}, FILL_UNIT, false},
        {3, 7, {0.2F, 1, 3, 2}, FILL_UNIT, true},
        {7, 17, {0.5F, 13, 4, 3}, FILL_UNIT, false},
        {2, 33, {0.2F, 19, 1000000, 4}, FILL_SPECIAL, false},
        {5, 129, {0.5F, 4000000000U, 4294967294U, 16777215}, FILL_UNIT, true},
        {5, 129, {0.2F, 4294967294U, 77, 9}, FILL_UNIT, false}, /* rows wrap round at 2^32 */
        {3, 1000, {0.999F, 2, 5, 5}, FILL_UNIT, false},
        {3, 1000, {1e-3F, 2, 5, 5}, FILL_LARGE, false},
        {3, 1000, {1e-9F, 2, 5, 5}, FILL_TINY, false},
        {3, 25 * 4096, {0.2F, 17, 149, 11}, FILL_UNIT, false},
        {2, 35 * 2048, {0.2F, 3, 149, 5}, FILL_UNIT, true},
};

static struct conform_pair masked_pair(struct conform *c, const struct masked *row)
{
	return conform_pair(c, row->alias, "x", "y", SHAPE(row->rows, row->elements), .fill = row->fill,
	                    .zeros = row->fill == FILL_UNIT || row->fill == FILL_LARGE);
}

static void dropout_body(struct conform *c, const void *data)
{
	const struct masked *row = data;
	struct conform_pair p = masked_pair(c, row);
	conform_run(c, dropout, .x = p.in, .y = p.out, .drop = ps__conform_dropout(c->seed, &row->drop));
}

static void relu_dropout_fwd_body(struct conform *c, const void *data)
{
	const struct masked *row = data;
	struct conform_pair p = masked_pair(c, row);
	conform_run(c, relu_dropout_fwd, .x = p.in, .y = p.out, .drop = ps__conform_dropout(c->seed, &row->drop));
}

/* Rows of more than two dimensions, whose mask's elements run on through all but the first. */
static void dropout_cube_body(struct conform *c, const void *data)
{
	const int64_t *length = data;
	ps_dropout drop = ps__conform_dropout(c->seed, &(struct conform_drop){0.2F, 6, 12, 2});
	conform_run(c, dropout, .x = conform_in(c, "x", SHAPE(2, 3, *length)),
	            .y = conform_out(c, "y", SHAPE(2, 3, *length), .tolerance = CONFORM_EXACT, .zeros = true),
	            .drop = drop);
}

static const struct conform_set sets[] = {
        CONFORM_SET(add, "", plain_rows, add_body),
        CONFORM_SET(add, "y in the place of b", plain_rows, add_to_second_body),
        CONFORM_SET(relu_fwd, "", plain_rows, relu_fwd_body),
        CONFORM_SET(relu_bwd, "", plain_rows, relu_bwd_body),
        CONFORM_SET(relu_dropout_bwd, "", plain_rows, relu_dropout_bwd_body),
        CONFORM_SET(dropout, "", masked_rows, dropout_body),
        CONFORM_SET(relu_dropout_fwd, "", masked_rows, relu_dropout_fwd_body),
        CONFORM_SET(dropout, "rank 3", lengths, dropout_cube_body),
};

const struct conform_family ps__conform_elementwise = CONFORM_FAMILY("elementwise", sets);
