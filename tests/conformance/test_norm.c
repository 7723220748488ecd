/* Conformance of LayerNorm, alone and fused with dropout and residual. */
#include "support/conform.h"

#include <stdlib.h>

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
#define NORM ((struct conform_tolerance){1e-5, 1e-12})
#define STATISTIC ((struct conform_tolerance){2e-6, 1e-13})

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

START_TEST(layernorm_fwd)
{
	CONFORM_ROWS(layernorm_fwd, rows, layernorm_fwd_body);
}
END_TEST

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

START_TEST(layernorm_of_extremes)
{
	CONFORM_ROWS(layernorm_fwd, extremes, layernorm_extreme_body);
}
END_TEST

/* The backward ops read mean and rstd as given; any values serve. */
static void layernorm_bwd_input_body(struct conform *c, const void *data)
{
	const struct row *row = data;
	ps_args_layernorm_bwd_input x = {
	        .x = conform_in(c, "x", SHAPE(row->rows, row->time, row->width), .fill = row->fill),
	        .mean = conform_in(c, "mean", SHAPE(row->rows * row->time)),
	        .rstd = conform_in(c, "rstd", SHAPE(row->rows * row->time), .fill = FILL_POSITIVE),
	        .gamma = conform_in(c, "gamma", SHAPE(row->width), .fill = FILL_POSITIVE)};
	if (row->flag) {
		x.dy = x.dx =
		        conform_inout(c, "dy", SHAPE(row->rows, row->time, row->width), .tolerance = NORM, .terms = 1);
	} else {
		x.dy = conform_in(c, "dy", SHAPE(row->rows, row->time, row->width));
		x.dx = conform_out(c, "dx", SHAPE(row->rows, row->time, row->width), .tolerance = NORM, .terms = 1);
	}
	conform_call(c, PS_OP_layernorm_bwd_input, &x, sizeof x);
}

START_TEST(layernorm_bwd_input)
{
	CONFORM_ROWS(layernorm_bwd_input, rows, layernorm_bwd_input_body);
}
END_TEST

static void layernorm_bwd_weight_body(struct conform *c, const void *data)
{
	const struct row *row = data;
	struct conform_tolerance tolerance = conform_sum_tolerance(row->rows * row->time);
	ps_args_layernorm_bwd_weight x = {
	        .dy = conform_in(c, "dy", SHAPE(row->rows, row->time, row->width)),
	        .x = conform_in(c, "x", SHAPE(row->rows, row->time, row->width), .fill = row->fill),
	        .mean = conform_in(c, "mean", SHAPE(row->rows * row->time)),
	        .rstd = conform_in(c, "rstd", SHAPE(row->rows * row->time), .fill = FILL_POSITIVE),
	        .accumulate = row->flag};
	if (row->flag) {
		x.dgamma = conform_inout(c, "dgamma", SHAPE(row->width), .tolerance = tolerance, .terms = 1);
		x.dbeta = conform_inout(c, "dbeta", SHAPE(row->width), .tolerance = tolerance, .terms = 1);
	} else {
		x.dgamma = conform_out(c, "dgamma", SHAPE(row->width), .tolerance = tolerance, .terms = 1);
		x.dbeta = conform_out(c, "dbeta", SHAPE(row->width), .tolerance = tolerance, .terms = 1);
	}
	conform_call(c, PS_OP_layernorm_bwd_weight, &x, sizeof x);
}

START_TEST(layernorm_bwd_weight)
{
	CONFORM_ROWS(layernorm_bwd_weight, rows, layernorm_bwd_weight_body);
}
END_TEST

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
	        .drop = conform_dropout(&row->drop)};
	/* sum is one product and one sum, which a device may form with one rounding or with two. */
	if (row->flag) {
		x.z = x.sum = conform_inout(c, "z", SHAPE(row->rows, row->time, row->width), .fill = row->fill,
		                            .tolerance = {3e-7, 1e-15}, .terms = 1);
	} else {
		x.z = conform_in(c, "z", SHAPE(row->rows, row->time, row->width), .fill = row->fill);
		x.sum = conform_out(c, "sum", SHAPE(row->rows, row->time, row->width), .tolerance = {3e-7, 1e-15},
		                    .terms = 1);
	}
	conform_call(c, PS_OP_dropout_add_layernorm_fwd, &x, sizeof x);
}

START_TEST(dropout_add_layernorm_fwd)
{
	CONFORM_ROWS(dropout_add_layernorm_fwd, rows, fused_fwd_body);
}
END_TEST

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
	            .eps = 1e-5F, .drop = conform_dropout(&row->drop));
}

START_TEST(mask_of_dropout_add_layernorm_fwd)
{
	CONFORM_ROWS(dropout_add_layernorm_fwd, rows, fused_mask_body);
}
END_TEST

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
	        .drop = conform_dropout(&row->drop)};
	if (row->flag) {
		x.dy = x.dresidual =
		        conform_inout(c, "dy", SHAPE(row->rows, row->time, row->width), .tolerance = NORM, .terms = 1);
	} else {
		x.dy = conform_in(c, "dy", SHAPE(row->rows, row->time, row->width));
		x.dresidual = conform_out(c, "dresidual", SHAPE(row->rows, row->time, row->width), .tolerance = NORM,
		                          .terms = 1);
	}
	conform_call(c, PS_OP_dropout_add_layernorm_bwd_input, &x, sizeof x);
}

START_TEST(dropout_add_layernorm_bwd_input)
{
	CONFORM_ROWS(dropout_add_layernorm_bwd_input, rows, fused_bwd_body);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("norm");
	TCase *tests = tcase_create("conformance");
	tcase_add_test(tests, layernorm_fwd);
	tcase_add_test(tests, layernorm_of_extremes);
	tcase_add_test(tests, layernorm_bwd_input);
	tcase_add_test(tests, layernorm_bwd_weight);
	tcase_add_test(tests, dropout_add_layernorm_fwd);
	tcase_add_test(tests, mask_of_dropout_add_layernorm_fwd);
	tcase_add_test(tests, dropout_add_layernorm_bwd_input);
	suite_add_tcase(suite, tests);
	return conform_suite_run(suite);
}
