/* Conformance of what is in bf16: products, embedding, the sum of squares and the update. */
#include "verify/conform.h"

/* --- gemm ------------------------------------------------------------------------------------------------------ */

enum { A = 1, B = 2, C = 4 }; /* what is BF16; without any the queue's math makes it a bf16 product */

struct product_row {
	int64_t m, n, k;
	int64_t pad; /* columns between the rows of each view */
	enum conform_fill fill;
	bool bias, accumulate;
};

static const struct product_row product_rows[] = {
        {1, 1, 1, 0, FILL_UNIT, false, false},       {1, 7, 3, 0, FILL_UNIT, true, false},
        {3, 1, 7, 0, FILL_UNIT, true, true},         {7, 3, 17, 1, FILL_UNIT, true, true},
        {16, 64, 128, 0, FILL_UNIT, false, false},   {17, 65, 129, 0, FILL_UNIT, true, false},
        {17, 33, 129, 3, FILL_UNIT, false, true},    {33, 129, 1000, 0, FILL_WHOLE, false, false},
        {129, 33, 17, 0, FILL_WHOLE, true, true},    {7, 33, 129, 0, FILL_LARGE, false, false},
        {7, 33, 129, 0, FILL_TINY, true, true},      {1, 1000, 1000, 0, FILL_UNIT, true, false},
        {100, 100, 100, 0, FILL_UNIT, false, true},  {35, 1536, 512, 0, FILL_UNIT, true, false},
        {1536, 512, 70, 0, FILL_UNIT, false, false}, {3, 28782, 16, 0, FILL_UNIT, true, false},
        {3, 16, 28782, 0, FILL_UNIT, false, true},   {28782, 8, 5, 0, FILL_UNIT, false, false},
};

/* Factors are the same numbers on all devices once they are rounded, and so the products, which are exact. */
static ps__tolerance tolerance_of(const struct product_row *row)
{
	return row->fill == FILL_WHOLE ? CONFORM_EXACT : ps__tolerance_of_sum(row->k);
}

static void product(struct conform *c, const struct product_row *row, bool trans_a, bool trans_b, int bf16)
{
	if (!ps__conform_math(c, bf16 ? PS_MATH_F32 : PS_MATH_BF16))
		return;
	int64_t a_rows = trans_a ? row->k : row->m, a_columns = trans_a ? row->m : row->k;
	int64_t b_rows = trans_b ? row->n : row->k, b_columns = trans_b ? row->k : row->n;
	ps_args_gemm x = {.trans_a = trans_a, .trans_b = trans_b, .accumulate = row->accumulate};
	x.a = conform_in(c, "a", SHAPE(a_rows, a_columns), .pitch = a_columns + row->pad, .fill = row->fill,
	                 .narrow = bf16 & A);
	x.b = conform_in(c, "b", SHAPE(b_rows, b_columns), .pitch = b_columns + row->pad, .fill = row->fill,
	                 .narrow = bf16 & B);
	if (row->bias)
		x.bias = conform_in(c, "bias", SHAPE(row->n), .fill = row->fill);
	x.c = conform_sum(c, "c", row->accumulate, SHAPE(row->m, row->n), .pitch = row->n + row->pad, .fill = row->fill,
	                  .narrow = bf16 & C, .tolerance = tolerance_of(row), .terms = row->fill == FILL_UNIT);
	ps__conform_call(c, PS_OP_gemm, &x, sizeof x);
}

/* The combinations that training has first: forward, gradient of the input, gradient of the weights. */
#define PRODUCT(name, trans_a, trans_b, bf16)                        \
	static void name##_body(struct conform *c, const void *data) \
	{                                                            \
		product(c, data, (trans_a), (trans_b), (bf16));      \
	}
PRODUCT(forward, false, true, B)
PRODUCT(backward, false, false, B)
PRODUCT(weight, true, false, 0)
PRODUCT(weight_bf16, true, false, C)
PRODUCT(by_math, false, true, 0)
PRODUCT(both, true, true, A | B)
PRODUCT(all, false, false, A | B | C)
PRODUCT(left, true, true, A)

/* --- embedding ------------------------------------------------------------------------------------------------- */

struct embedding_row {
	int64_t rows, time, width, vocabulary;
	bool accumulate;
	struct conform_drop drop;
};

static const struct embedding_row embedding_rows[] = {
        {1, 1, 1, 1, false, {0, 0, 0, 0}},           {3, 5, 7, 4, true, {0.2F, 0, 3, 1}},
        {7, 9, 33, 5, false, {0.5F, 4, 149, 11}},    {4, 35, 512, 100, true, {0.2F, 8, 2, 0}},
        {20, 25, 129, 1000, false, {0.2F, 0, 0, 0}},
};

static void embedding_fwd_body(struct conform *c, const void *data)
{
	const struct embedding_row *row = data;
	conform_run(c, embedding_fwd,
	            .tokens = conform_in(c, "tokens", SHAPE(row->rows, row->time), .bound = row->vocabulary),
	            .weight = conform_in(c, "weight", SHAPE(row->vocabulary, row->width), .narrow = true),
	            .positions = conform_in(c, "positions", SHAPE(row->time, row->width)),
	            .y = conform_out(c, "y", SHAPE(row->rows, row->time, row->width), .tolerance = CONFORM_CLOSE,
	                             .zeros = true),
	            .scale = 5.5, .drop = ps__conform_dropout(c->seed, &row->drop));
}

static void embedding_bwd_weight_body(struct conform *c, const void *data)
{
	const struct embedding_row *row = data;
	ps__tolerance tolerance = ps__tolerance_of_sum(row->rows * row->time);
	conform_run(c, embedding_bwd_weight,
	            .tokens = conform_in(c, "tokens", SHAPE(row->rows, row->time), .bound = row->vocabulary),
	            .dy = conform_in(c, "dy", SHAPE(row->rows, row->time, row->width)),
	            .dweight = conform_sum(c, "dweight", row->accumulate, SHAPE(row->vocabulary, row->width),
	                                   .narrow = true, .tolerance = tolerance),
	            .scale = 5.5, .accumulate = row->accumulate, .drop = ps__conform_dropout(c->seed, &row->drop));
}

/* --- the optimizer --------------------------------------------------------------------------------------------- */

struct update_row {
	int64_t count;
	enum conform_fill fill;
};

static const struct update_row update_rows[] = {
        {1, FILL_UNIT},     {7, FILL_SPECIAL},    {33, FILL_LARGE},       {1000, FILL_SPECIAL}, {4099, FILL_WHOLE},
        {65537, FILL_UNIT}, {1000003, FILL_UNIT}, {65536 * 3, FILL_TINY}, {1000, FILL_UNIT},
};

static void sum_squares_body(struct conform *c, const void *data)
{
	const struct update_row *row = data;
	conform_run(
	        c, sum_squares, .x = conform_in(c, "x", SHAPE(row->count), .fill = row->fill, .narrow = true),
	        .out = conform_out(c, "out", SHAPE(1), .wide = true, .tolerance = ps__tolerance_of_sum(row->count)));
}

/* The same bits on every device: no tolerance. */
static void sgd_body(struct conform *c, const void *data)
{
	const struct update_row *row = data;
	conform_run(c, sgd, .w = conform_inout(c, "w", SHAPE(row->count), .fill = row->fill, .narrow = true),
	            .g = conform_in(c, "g", SHAPE(row->count), .fill = row->fill, .narrow = true),
	            .scale = conform_in(c, "scale", SHAPE(1), .wide = true, .fill = FILL_POSITIVE), .lr = 4.75,
	            .place = {.seed = c->seed, .step = 12, .layer = 3, .site = PS_RANDOM_SITE_PARAMETER + 2});
}

/* fp32 weights with a copy, which is one rounding away from them. */
static void sgd_copy_body(struct conform *c, const void *data)
{
	const struct update_row *row = data;
	if (row->fill == FILL_SPECIAL)
		return;
	conform_run(c, sgd,
	            .w = conform_inout(c, "w", SHAPE(row->count), .fill = row->fill, .tolerance = {.f32 = 3e-7},
	                               .terms = row->fill == FILL_UNIT),
	            .g = conform_in(c, "g", SHAPE(row->count), .fill = row->fill),
	            .copy = conform_out(c, "copy", SHAPE(row->count), .narrow = true, .tolerance = {.f32 = 3e-7}),
	            .scale = conform_in(c, "scale", SHAPE(1), .wide = true, .fill = FILL_POSITIVE), .lr = 4.75);
}

/* Of an update whose norm is not finite. */
static void sgd_lost_body(struct conform *c, const void *data)
{
	const struct update_row *row = data;
	conform_run(c, sgd, .w = conform_inout(c, "w", SHAPE(row->count), .fill = row->fill, .narrow = true),
	            .g = conform_in(c, "g", SHAPE(row->count), .fill = row->fill, .narrow = true),
	            .scale = conform_in(c, "scale", SHAPE(1), .wide = true, .fill = FILL_NAN), .lr = 4.75);
}

static const struct conform_set sets[] = {
        CONFORM_BF16_SET(gemm, "forward", product_rows, forward_body),
        CONFORM_BF16_SET(gemm, "backward", product_rows, backward_body),
        CONFORM_BF16_SET(gemm, "weight", product_rows, weight_body),
        CONFORM_BF16_SET(gemm, "weight bf16", product_rows, weight_bf16_body),
        CONFORM_BF16_SET(gemm, "by math", product_rows, by_math_body),
        CONFORM_BF16_SET(gemm, "both", product_rows, both_body),
        CONFORM_BF16_SET(gemm, "all", product_rows, all_body),
        CONFORM_BF16_SET(gemm, "left", product_rows, left_body),
        CONFORM_BF16_SET(embedding_fwd, "bf16", embedding_rows, embedding_fwd_body),
        CONFORM_BF16_SET(embedding_bwd_weight, "bf16", embedding_rows, embedding_bwd_weight_body),
        CONFORM_BF16_SET(sum_squares, "bf16", update_rows, sum_squares_body),
        CONFORM_BF16_SET(sgd, "bf16", update_rows, sgd_body),
        CONFORM_BF16_SET(sgd, "lost", update_rows, sgd_lost_body),
        CONFORM_BF16_SET(sgd, "copy", update_rows, sgd_copy_body),
};

const struct conform_family ps__conform_bf16 = CONFORM_FAMILY("bf16", sets);
