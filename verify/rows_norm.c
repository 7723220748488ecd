/* Conformance of LayerNorm, alone and fused with dropout and residual. */
#include "verify/conform.h"

struct row {
	int64_t rows, time, width;
	struct conform_drop drop;
	enum conform_fill fill;
	bool flag; /* accumulate, or the alias that the op allows */
};

static const struct row rows[] = {
        {1, 1, 1, {0, 0, 0, 0}, FILL_UNIT, false},
        {1, 1, 3, {0.2F, 0, 1, 0}, FILL_UNIT, true},
        {3, 1, 7, {0.5F, 1, 2, 1}, FILL_UNIT, false},
        {2, 3, 17, {0, 0, 0, 0}, FILL_UNIT, true},
        {1, 7, 33, {0.2F, 19, 1000000, 4}, FILL_UNIT, false},
        {5, 2, 129, {0.5F, 4000000000U, 4294967294U, 16777215}, FILL_UNIT, true},
        {3, 3, 1000, {0.2F, 4, 7, 3}, FILL_POSITIVE, false},
        {1, 100, 64, {0.2F, 4, 7, 3}, FILL_UNIT, true},
        {2, 35, 512, {0.2F, 11, 149, 5}, FILL_UNIT, true},
        {2, 25, 4096, {0.2F, 17, 149, 11}, FILL_UNIT, false},
        {1, 3, 4096, {0.2F, 17, 149, 11}, FILL_POSITIVE, true},
};

/* What layernorm leaves of values near 1 has lost the digits that the mean took. */
#define NORM ((ps__tolerance){.f32 = 1e-5, .f64 = 1e-12})
#define STATISTIC ((ps__tolerance){.f32 = 2e-6, .f64 = 1e-13})

static void layernorm_fwd_body(struct conform *c, const void *data)
{
	const struct row *row = data;
	conform_run(c, layernorm_fwd,
	            .x = conform_in(c, "x", SHAPE(row->rows, row->time, row->width), .fill = row->fill),
	            .gamma = conform_in(c, "gamma", SHAPE(row->width), .fill = FILL_POSITIVE),
	            .beta = conform_in(c, "beta", SHAPE(row->width)),
	            .y = conform_out(c, "y", SHAPE(row->rows, row->time, row->width), .tolerance = NORM, .terms = 1),
	            .mean = conform_out(c, "mean", SHAPE(row->rows * row->time), .tolerance = STATISTIC, .terms = 1),
	            .rstd = conform_out(c, "rstd", SHAPE(row->rows * row->time), .tolerance = STATISTIC, .terms = 1),
	            .eps = 1e-5F);
}

/* Rows whose variance is 0, lost in eps or far above it. */
static const enum conform_fill extremes[] = {FILL_TINY, FILL_LARGE, FILL_WHOLE};

static void layernorm_extreme_body(struct conform *c, const void *data)
{
	const enum conform_fill *fill = data;
	conform_run(c, layernorm_fwd, .x = conform_in(c, "x", SHAPE(5, 33), .fill = *fill),
	            .gamma = conform_in(c, "gamma", SHAPE(33), .fill = FILL_POSITIVE),
	            .beta = conform_in(c, "beta", SHAPE(33)),
	            .y = conform_out(c, "y", SHAPE(5, 33), .tolerance = NORM, .terms = 1),
	            .mean = conform_out(c, "mean", SHAPE(5), .tolerance = STATISTIC, .terms = 1),
	            .rstd = conform_out(c, "rstd", SHAPE(5), .tolerance = STATISTIC, .terms = 1), .eps = 1e-5F);
}

/* The backward ops read mean and rstd as given; any values serve. */
static void layernorm_bwd_input_body(struct conform *c, const void *data)
{
	const struct row *row = data;
	ps_args_layernorm_bwd_input x = {
	        .x = conform_in(c, "x", SHAPE(row->rows, row->time, row->width), .fill = row->fill),
	        .mean = conform_in(c, "mean", SHAPE(row->rows * row->time)),
	        .rstd = conform_in(c, "rstd", SHAPE(row->rows * row->time), .fill = FILL_POSITIVE),
	        .gamma = conform_in(c, "gamma", SHAPE(row->width), .fill = FILL_POSITIVE)};
	struct conform_pair p = conform_pair(c, row->flag, "dy", "dx", SHAPE(row->rows, row->time, row->width),
	                                     .tolerance = NORM, .terms = 1);
	x.dy = p.in;
	x.dx = p.out;
	ps__conform_call(c, PS_OP_layernorm_bwd_input, &x, sizeof x);
}

static void layernorm_bwd_weight_body(struct conform *c, const void *data)
{
	const struct row *row = data;
	ps__tolerance tolerance = ps__tolerance_of_sum(row->rows * row->time);
	conform_run(c, layernorm_bwd_weight, .dy = conform_in(c, "dy", SHAPE(row->rows, row->time, row->width)),
	            .x = conform_in(c, "x", SHAPE(row->rows, row->time, row->width), .fill = row->fill),
	            .mean = conform_in(c, "mean", SHAPE(row->rows * row->time)),
	            .rstd = conform_in(c, "rstd", SHAPE(row->rows * row->time), .fill = FILL_POSITIVE),
	            .dgamma =
	                    conform_sum(c, "dgamma", row->flag, SHAPE(row->width), .tolerance = tolerance, .terms = 1),
	            .dbeta = conform_sum(c, "dbeta", row->flag, SHAPE(row->width), .tolerance = tolerance, .terms = 1),
	            .accumulate = row->flag);
}

static void fused_fwd_body(struct conform *c, const void *data)
{
	const struct row *row = data;
	ps_args_dropout_add_layernorm_fwd x = {
	        .residual = conform_in(c, "residual", SHAPE(row->rows, row->time, row->width), .fill = row->fill),
	        .gamma = conform_in(c, "gamma", SHAPE(row->width), .fill = FILL_POSITIVE),
	        .beta = conform_in(c, "beta", SHAPE(row->width)),
	        .y = conform_out(c, "y", SHAPE(row->rows, row->time, row->width), .tolerance = NORM, .terms = 1),
	        .mean = conform_out(c, "mean", SHAPE(row->rows * row->time), .tolerance = STATISTIC, .terms = 1),
	        .rstd = conform_out(c, "rstd", SHAPE(row->rows * row->time), .tolerance = STATISTIC, .terms = 1),
	        .eps = 1e-5F,
	        .drop = ps__conform_dropout(c->seed, &row->drop)};
	/* sum is one product and one sum, which a device may form with one rounding or with two. */
	struct conform_pair p = conform_pair(c, row->flag, "z", "sum", SHAPE(row->rows, row->time, row->width),
	                                     .fill = row->fill, .tolerance = {.f32 = 3e-7, .f64 = 1e-15}, .terms = 1);
	x.z = p.in;
	x.sum = p.out;
	ps__conform_call(c, PS_OP_dropout_add_layernorm_fwd, &x, sizeof x);
}

/* With no residual, sum shows the mask. */
static void fused_mask_body(struct conform *c, const void *data)
{
	const struct row *row = data;
	conform_run(c, dropout_add_layernorm_fwd,
	            .z = conform_in(c, "z", SHAPE(row->rows, row->time, row->width), .fill = FILL_POSITIVE),
	            .residual = conform_in(c, "residual", SHAPE(row->rows, row->time, row->width), .zero = true),
	            .gamma = conform_in(c, "gamma", SHAPE(row->width), .fill = FILL_POSITIVE),
	            .beta = conform_in(c, "beta", SHAPE(row->width)),
	            .sum = conform_out(c, "sum", SHAPE(row->rows, row->time, row->width), .zeros = true),
	            .y = conform_out(c, "y", SHAPE(row->rows, row->time, row->width), .tolerance = NORM, .terms = 1),
	            .mean = conform_out(c, "mean", SHAPE(row->rows * row->time), .tolerance = STATISTIC, .terms = 1),
	            .rstd = conform_out(c, "rstd", SHAPE(row->rows * row->time), .tolerance = STATISTIC, .terms = 1),
	            .eps = 1e-5F, .drop = ps__conform_dropout(c->seed, &row->drop));
}

static void fused_bwd_body(struct conform *c, const void *data)
{
	const struct row *row = data;
	if (row->width == 1) /* dx is zero but for rounding, so that zeros say nothing of the mask */
		return;
	ps_args_dropout_add_layernorm_bwd_input x = {
	        .sum = conform_in(c, "sum", SHAPE(row->rows, row->time, row->width), .fill = row->fill),
	        .mean = conform_in(c, "mean", SHAPE(row->rows * row->time)),
	        .rstd = conform_in(c, "rstd", SHAPE(row->rows * row->time), .fill = FILL_POSITIVE),
	        .gamma = conform_in(c, "gamma", SHAPE(row->width), .fill = FILL_POSITIVE),
	        .dz = conform_out(c, "dz", SHAPE(row->rows, row->time, row->width), .tolerance = NORM, .terms = 1,
	                          .zeros = true),
	        .drop = ps__conform_dropout(c->seed, &row->drop)};
	struct conform_pair p = conform_pair(c, row->flag, "dy", "dresidual", SHAPE(row->rows, row->time, row->width),
	                                     .tolerance = NORM, .terms = 1);
	x.dy = p.in;
	x.dresidual = p.out;
	ps__conform_call(c, PS_OP_dropout_add_layernorm_bwd_input, &x, sizeof x);
}

static const struct conform_set sets[] = {
        CONFORM_SET(layernorm_fwd, "", rows, layernorm_fwd_body),
        CONFORM_SET(layernorm_fwd, "extremes", extremes, layernorm_extreme_body),
        CONFORM_SET(layernorm_bwd_input, "", rows, layernorm_bwd_input_body),
        CONFORM_SET(layernorm_bwd_weight, "", rows, layernorm_bwd_weight_body),
        CONFORM_SET(dropout_add_layernorm_fwd, "", rows, fused_fwd_body),
        CONFORM_SET(dropout_add_layernorm_fwd, "mask", rows, fused_mask_body),
        CONFORM_SET(dropout_add_layernorm_bwd_input, "", rows, fused_bwd_body),
};

const struct conform_family ps__conform_norm = CONFORM_FAMILY("norm", sets);
