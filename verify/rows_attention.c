/* Conformance of self-attention. */
#include "verify/conform.h"

struct row {
	int64_t rows, time, heads;
	int64_t features; /* of one head */
	bool causal;
	struct conform_drop drop;
};

static const struct row rows[] = {
        {1, 1, 1, 1, false, {0, 0, 0, 0}},
        {1, 1, 1, 1, true, {0.5F, 0, 1, 0}},
        {1, 2, 1, 3, true, {0, 0, 0, 0}},
        {2, 3, 2, 1, false, {0.2F, 1, 2, 1}},
        {3, 7, 3, 5, true, {0.5F, 13, 4, 3}},
        {2, 17, 2, 7, false, {0.2F, 19, 1000000, 4}},
        {1, 33, 4, 16, true, {0.2F, 4000000000U, 4294967294U, 16777215}},
        {1, 129, 1, 8, true, {0, 0, 0, 0}},
        {1, 129, 2, 33, false, {0.5F, 3, 9, 2}},
        {5, 4, 1, 64, true, {0.2F, 4294967294U, 77, 9}},
        {1, 35, 8, 64, true, {0.2F, 11, 149, 5}},    /* small */
        {2, 25, 16, 256, true, {0.2F, 17, 149, 11}}, /* tutorial */
        {1, 25, 16, 256, false, {0.2F, 17, 149, 11}},
        {1, 40, 2, 130, true, {0.2F, 1, 3, 2}}, /* features in more than one piece */
        {1, 64, 1, 160, false, {0.2F, 2, 5, 3}},
        {1, 193, 1, 4, true, {0, 0, 0, 0}},
};

/* So many factors are rounded in each term of a sum; bf16 keeps 8 bits of them, tf32 11. */
static ps__tolerance rounded(ps__tolerance tolerance, ps_math math, double factors)
{
	tolerance.f32 += math == PS_MATH_F32 ? 0 : factors / (math == PS_MATH_BF16 ? 256 : 2048);
	return tolerance;
}

static void filled(struct conform *c, const struct row *row, ps_math math, enum conform_fill fill)
{
	if (!ps__conform_math(c, math))
		return;
	int64_t width = row->heads * row->features;
	ps__tolerance close = {.f32 = fill == FILL_WHOLE ? 5e-5 : 1e-5, .f64 = 1e-13};
	conform_run(c, attention_fwd, .qkv = conform_in(c, "qkv", SHAPE(row->rows, row->time, 3 * width), .fill = fill),
	            .probs = conform_out(c, "probs", SHAPE(row->rows, row->heads, row->time, row->time),
	                                 .tolerance = rounded(close, math, fill == FILL_UNIT ? 2 : 0),
	                                 .zeros = fill == FILL_UNIT),
	            .out = conform_out(c, "out", SHAPE(row->rows, row->time, width),
	                               .tolerance = rounded(close, math, 2), .terms = 1),
	            .heads = (int)row->heads, .causal = row->causal, .drop = ps__conform_dropout(c->seed, &row->drop));
}

static void forward(struct conform *c, const struct row *row, ps_math math)
{
	filled(c, row, math, FILL_UNIT);
}

/*
 * Whole numbers need no rounding, so that probabilities are as near as in fp32; they are far apart, and out is the
 * better for it.
 */
static void forward_whole(struct conform *c, const struct row *row, ps_math math)
{
	filled(c, row, math, FILL_WHOLE);
}

/*
 * Backward takes any numbers for probs; those that the causal mask hides are 0, as forward leaves them. What is
 * rounded of dS is as large as its row's sum of probs dP, several times the mean of the rows.
 */
static void backward(struct conform *c, const struct row *row, ps_math math)
{
	if (!ps__conform_math(c, math))
		return;
	int64_t width = row->heads * row->features;
	conform_run(c, attention_bwd, .qkv = conform_in(c, "qkv", SHAPE(row->rows, row->time, 3 * width)),
	            .probs = conform_in(c, "probs", SHAPE(row->rows, row->heads, row->time, row->time),
	                                .fill = FILL_POSITIVE, .causal = row->causal),
	            .dout = conform_in(c, "dout", SHAPE(row->rows, row->time, width)),
	            .dqkv = conform_out(c, "dqkv", SHAPE(row->rows, row->time, 3 * width),
	                                .tolerance = rounded(ps__tolerance_of_sum(row->features * row->time), math, 12),
	                                .terms = 1),
	            .heads = (int)row->heads, .causal = row->causal, .drop = ps__conform_dropout(c->seed, &row->drop));
}

/*
 * The mask alone. With one head, features = time and the identity for v, out is the probabilities after dropout, and
 * with the identity for dout dv is their transpose: zeros exactly where something was dropped or hidden.
 */
struct mask_row {
	int64_t rows, time;
	bool causal;
	struct conform_drop drop;
};

static const struct mask_row mask_rows[] = {
        {1, 1, false, {0.5F, 0, 0, 0}},  {3, 3, false, {0.5F, 1, 2, 1}},
        {2, 7, true, {0.2F, 13, 4, 3}},  {2, 33, false, {0.2F, 4294967295U, 4294967294U, 16777215}},
        {1, 129, true, {0.5F, 3, 9, 2}}, {2, 25, true, {0.2F, 17, 149, 11}},
};

static void mask_forward(struct conform *c, const struct mask_row *row, ps_math math)
{
	if (!ps__conform_math(c, math))
		return;
	const ps__tolerance close = {.f32 = 1e-5, .f64 = 1e-13};
	conform_run(c, attention_fwd,
	            .qkv = conform_in(c, "qkv", SHAPE(row->rows, row->time, 3 * row->time), .thirds = true),
	            .probs = conform_out(c, "probs", SHAPE(row->rows, 1, row->time, row->time),
	                                 .tolerance = rounded(close, math, 2), .zeros = true),
	            .out = conform_out(c, "out", SHAPE(row->rows, row->time, row->time),
	                               .tolerance = rounded(close, math, 2), .terms = 1, .zeros = true),
	            .heads = 1, .causal = row->causal, .drop = ps__conform_dropout(c->seed, &row->drop));
}

/* q and k are zero, so that the first two thirds of dqkv are too. */
static void mask_backward(struct conform *c, const struct mask_row *row, ps_math math)
{
	if (!ps__conform_math(c, math))
		return;
	conform_run(c, attention_bwd,
	            .qkv = conform_in(c, "qkv", SHAPE(row->rows, row->time, 3 * row->time), .zero = true),
	            .probs = conform_in(c, "probs", SHAPE(row->rows, 1, row->time, row->time), .fill = FILL_POSITIVE,
	                                .causal = row->causal),
	            .dout = conform_in(c, "dout", SHAPE(row->rows, row->time, row->time), .identity = true),
	            .dqkv = conform_out(c, "dqkv", SHAPE(row->rows, row->time, 3 * row->time),
	                                .tolerance = rounded(CONFORM_CLOSE, math, 1), .zeros = true),
	            .heads = 1, .causal = row->causal, .drop = ps__conform_dropout(c->seed, &row->drop));
}

/* Scores far apart: softmax must neither overflow nor become 0 / 0. */
static const struct row steep[] = {
        {1, 5, 1, 3, false, {0, 0, 0, 0}},
        {2, 17, 2, 8, true, {0.2F, 1, 1, 1}},
};

static void attention_steep_body(struct conform *c, const void *data)
{
	const struct row *row = data;
	int64_t width = row->heads * row->features;
	conform_run(c, attention_fwd,
	            .qkv = conform_in(c, "qkv", SHAPE(row->rows, row->time, 3 * width), .fill = FILL_LARGE),
	            .probs = conform_out(c, "probs", SHAPE(row->rows, row->heads, row->time, row->time),
	                                 .tolerance = {.f32 = 1e-5, .f64 = 1e-13}),
	            .out = conform_out(c, "out", SHAPE(row->rows, row->time, width),
	                               .tolerance = {.f32 = 1e-5, .f64 = 1e-13}, .terms = 1),
	            .heads = (int)row->heads, .causal = row->causal, .drop = ps__conform_dropout(c->seed, &row->drop));
}

/* Several tiles of each of the kernels for tensor cores, the first small enough for checkers of memory. */
static const struct row tiles[] = {
        {1, 65, 1, 40, true, {0.2F, 5, 1, 3}},    {1, 150, 2, 64, true, {0.2F, 3, 5, 2}},
        {1, 65, 1, 128, false, {0.5F, 1, 2, 1}},  {2, 130, 1, 96, true, {0, 0, 0, 0}},
        {1, 72, 1, 256, true, {0.2F, 7, 149, 4}},
};

/* A body for each way to multiply. */
#define BODIES(name)                                                 \
	static void name##_fp32(struct conform *c, const void *data) \
	{                                                            \
		name(c, data, PS_MATH_F32);                          \
	}                                                            \
	static void name##_bf16(struct conform *c, const void *data) \
	{                                                            \
		name(c, data, PS_MATH_BF16);                         \
	}                                                            \
	static void name##_tf32(struct conform *c, const void *data) \
	{                                                            \
		name(c, data, PS_MATH_TF32);                         \
	}
BODIES(forward)
BODIES(forward_whole)
BODIES(backward)
BODIES(mask_forward)
BODIES(mask_backward)

#define SETS(op, part, rows, name)                                                               \
	CONFORM_SET(op, part, rows, name##_fp32), CONFORM_BF16_SET(op, part, rows, name##_bf16), \
	        CONFORM_TF32_SET(op, part, rows, name##_tf32)

static const struct conform_set sets[] = {
        SETS(attention_fwd, "", rows, forward),
        SETS(attention_bwd, "", rows, backward),
        SETS(attention_fwd, "mask", mask_rows, mask_forward),
        SETS(attention_bwd, "mask", mask_rows, mask_backward),
        CONFORM_SET(attention_fwd, "steep scores", steep, attention_steep_body),
        SETS(attention_fwd, "tiles", tiles, forward),
        SETS(attention_fwd, "whole numbers", tiles, forward_whole),
        SETS(attention_bwd, "tiles", tiles, backward),
};

const struct conform_family ps__conform_attention = CONFORM_FAMILY("attention", sets);
