/* Conformance of the matrix product and the column sum. */
#include "verify/conform.h"

struct row {
	int64_t m, n, k;
	int64_t pad_a, pad_b, pad_c; /* columns between the rows of a view */
	enum conform_fill fill;
	bool bias, accumulate;
	bool f32_only; /* the model's sizes, once is enough */
};

static const struct row rows[] = {
        {1, 1, 1, 0, 0, 0, FILL_UNIT, false, false, false},
        {1, 1, 1, 0, 0, 0, FILL_UNIT, true, true, false},
        {1, 7, 3, 0, 0, 0, FILL_UNIT, false, false, false},
        {3, 1, 7, 0, 0, 0, FILL_UNIT, true, false, false},
        {3, 7, 1, 0, 0, 0, FILL_UNIT, false, true, false},
        {7, 3, 17, 0, 0, 0, FILL_UNIT, true, true, false},
        {16, 64, 128, 0, 0, 0, FILL_UNIT, false, false, false},
        {17, 65, 129, 0, 0, 0, FILL_UNIT, true, false, false},
        {17, 33, 129, 1, 0, 0, FILL_UNIT, false, false, false},
        {17, 33, 129, 0, 3, 0, FILL_UNIT, false, true, false},
        {17, 33, 129, 0, 0, 5, FILL_UNIT, true, false, false},
        {33, 17, 7, 2, 4, 6, FILL_UNIT, true, true, false},
        {5, 16, 1, 1, 1, 1, FILL_UNIT, false, false, false},
        {1, 16, 5, 7, 7, 7, FILL_UNIT, false, true, false},
        {33, 129, 1000, 0, 0, 0, FILL_WHOLE, false, false, false},
        {129, 33, 17, 0, 0, 0, FILL_WHOLE, true, true, false},
        {7, 33, 129, 0, 0, 0, FILL_LARGE, false, false, false},
        {7, 33, 129, 0, 0, 0, FILL_TINY, true, true, false},
        {1, 1000, 1000, 0, 0, 0, FILL_UNIT, true, false, false},
        {100, 100, 100, 0, 0, 0, FILL_UNIT, false, true, false},
        /* small: 512 wide, 2048 inside, 35 positions a row */
        {35, 1536, 512, 0, 0, 0, FILL_UNIT, true, false, true},
        {35, 2048, 512, 0, 0, 0, FILL_UNIT, true, false, true},
        {35, 512, 2048, 0, 0, 0, FILL_UNIT, true, false, true},
        {2, 28782, 512, 0, 0, 0, FILL_UNIT, true, false, true},
        {2, 512, 28782, 0, 0, 0, FILL_UNIT, false, false, true},
        {28782, 512, 2, 0, 0, 0, FILL_UNIT, false, true, true},
        /* tutorial: 4096 wide */
        {3, 4096, 4096, 0, 0, 0, FILL_UNIT, true, false, true},
        {2, 12288, 4096, 0, 0, 0, FILL_UNIT, true, false, true},
        {4096, 4096, 3, 0, 0, 0, FILL_UNIT, false, true, true},
};

static ps__tolerance tolerance_of(const struct row *row)
{
	/* Sums of products of whole numbers up to 8 are exact in both dtypes. */
	return row->fill == FILL_WHOLE ? CONFORM_EXACT : ps__tolerance_of_sum(row->k);
}

static void product(struct conform *c, const struct row *row, bool trans_a, bool trans_b)
{
	if (row->f32_only && c->dtype == PS_F64)
		return;
	int64_t a_rows = trans_a ? row->k : row->m, a_columns = trans_a ? row->m : row->k;
	int64_t b_rows = trans_b ? row->n : row->k, b_columns = trans_b ? row->k : row->n;
	ps_args_gemm x = {.trans_a = trans_a, .trans_b = trans_b, .accumulate = row->accumulate};
	x.a = conform_in(c, "a", SHAPE(a_rows, a_columns), .pitch = a_columns + row->pad_a, .fill = row->fill);
	x.b = conform_in(c, "b", SHAPE(b_rows, b_columns), .pitch = b_columns + row->pad_b, .fill = row->fill);
	if (row->bias)
		x.bias = conform_in(c, "bias", SHAPE(row->n), .fill = row->fill);
	x.c = conform_sum(c, "c", row->accumulate, SHAPE(row->m, row->n), .pitch = row->n + row->pad_c,
	                  .fill = row->fill, .tolerance = tolerance_of(row), .terms = row->fill == FILL_UNIT);
	ps__conform_call(c, PS_OP_gemm, &x, sizeof x);
}

static void nn_body(struct conform *c, const void *data)
{
	product(c, data, false, false);
}

static void nt_body(struct conform *c, const void *data)
{
	product(c, data, false, true);
}

static void tn_body(struct conform *c, const void *data)
{
	product(c, data, true, false);
}

/* No layer needs this at full size. */
static void tt_body(struct conform *c, const void *data)
{
	const struct row *row = data;
	if (!row->f32_only)
		product(c, row, true, true);
}

struct sum_row {
	int64_t rows, columns;
	bool accumulate;
	enum conform_fill fill;
};

static const struct sum_row sum_rows[] = {
        {1, 1, false, FILL_UNIT},      {1, 7, true, FILL_UNIT},      {7, 1, false, FILL_UNIT},
        {3, 17, true, FILL_UNIT},      {17, 33, false, FILL_UNIT},   {33, 129, true, FILL_WHOLE},
        {1000, 7, false, FILL_WHOLE},  {129, 1000, true, FILL_UNIT}, {1000, 65, true, FILL_UNIT},
        {17, 100, false, FILL_LARGE},  {17, 100, true, FILL_TINY},   {75, 12288, false, FILL_UNIT},
        {500, 4096, false, FILL_UNIT}, {35, 28782, true, FILL_UNIT}, {700, 512, false, FILL_UNIT},
};

static void column_sum_body(struct conform *c, const void *data)
{
	const struct sum_row *row = data;
	ps__tolerance tolerance = ps__tolerance_of_sum(row->rows);
	if (row->fill == FILL_WHOLE)
		tolerance = CONFORM_EXACT;
	ps_tensor x = conform_in(c, "x", SHAPE(row->rows, row->columns), .fill = row->fill);
	ps_tensor y = conform_sum(c, "y", row->accumulate, SHAPE(row->columns), .fill = row->fill,
	                          .tolerance = tolerance, .terms = row->fill == FILL_UNIT);
	conform_run(c, column_sum, .x = x, .y = y, .accumulate = row->accumulate);
}

static const struct conform_set sets[] = {
        CONFORM_SET(gemm, "", rows, nn_body),
        CONFORM_SET(gemm, "trans_b", rows, nt_body),
        CONFORM_SET(gemm, "trans_a", rows, tn_body),
        CONFORM_SET(gemm, "trans_a and trans_b", rows, tt_body),
        CONFORM_SET(column_sum, "", sum_rows, column_sum_body),
};

const struct conform_family ps__conform_gemm = CONFORM_FAMILY("gemm", sets);
