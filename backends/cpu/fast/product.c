/*
 * The op gemm: fp32 products as they are, bf16 ones with their factors converted first.
 *
 * Where the processor multiplies bf16 numbers, fp32 factors are rounded to them, a block at a time, and BF16 ones are
 * taken as they lie. Elsewhere both become rounded floats for an fp32 product, which computes the same but slower.
 */
#include "backends/cpu/fast/gemm.h"

#include <string.h>

/* The most elements of a block of a, b or c that are converted at a time. */
#define BLOCK_ELEMENTS ((int64_t)4 << 20)

/*
 * A product in blocks of rows and columns of c. Which blocks of columns there are does not depend on the rows, so that
 * a row's bits do not either.
 */
struct plan {
	bool convert_a, convert_b, convert_c;
	bool bf16;             /* factors are converted to, or are, BF16; else they become floats */
	int64_t rows, columns; /* of a block of c */
	size_t a_at, b_at, c_at, bytes;
};

enum { WHOLE, LAST };

struct call {
	ps_args_gemm x;
	struct plan plan;
	void *handle[2][2]; /* by whether the block is the last one of its rows, and of its columns, and smaller */
};

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* How many lines of `length` elements make a block; at least one. */
static int64_t block_lines(int64_t lines, int64_t length)
{
	int64_t fit = BLOCK_ELEMENTS / length;
	return least(lines, fit > 0 ? fit : 1);
}

static int64_t depth(const ps_args_gemm *x)
{
	return x->trans_a ? x->a.dims[0] : x->a.dims[1];
}

static struct plan plan_for(const ps_args_gemm *x, bool bf16_product, bool bf16_processor)
{
	int64_t m = x->c.dims[0], n = x->c.dims[1], k = depth(x);
	struct plan plan = {.bf16 = bf16_product && bf16_processor, .rows = m, .columns = n};
	plan.convert_a = bf16_product && !(plan.bf16 && x->a.dtype == PS_BF16);
	plan.convert_b = bf16_product && !(plan.bf16 && x->b.dtype == PS_BF16);
	plan.convert_c = x->c.dtype == PS_BF16 && !plan.bf16;
	if (plan.convert_b)
		plan.columns = block_lines(n, k);
	if (plan.convert_a)
		plan.rows = block_lines(m, k);
	if (plan.convert_c)
		plan.rows = least(plan.rows, block_lines(m, plan.columns));
	size_t factor = plan.bf16 ? sizeof(uint16_t) : sizeof(float);
	plan.b_at = plan.convert_a ? (size_t)(plan.rows * k) * factor : 0;
	plan.b_at = (plan.b_at + 63) / 64 * 64;
	plan.c_at = plan.b_at + (plan.convert_b ? (size_t)(plan.columns * k) * factor : 0);
	plan.c_at = (plan.c_at + 63) / 64 * 64;
	plan.bytes = plan.c_at + (plan.convert_c ? (size_t)(plan.rows * plan.columns) * sizeof(float) : 0);
	return plan;
}

/* The product of one block of c. */
static struct fast_product block_product(const struct call *call, int64_t rows, int64_t columns)
{
	const ps_args_gemm *x = &call->x;
	const struct plan *plan = &call->plan;
	struct fast_product p;
	/* Compared as bytes, so that padding counts. */
	memset(&p, 0, sizeof p);
	p.m = rows;
	p.n = columns;
	p.k = depth(x);
	p.a_stride = plan->convert_a ? (x->trans_a ? rows : p.k) : x->a.strides[0];
	p.b_stride = plan->convert_b ? (x->trans_b ? p.k : columns) : x->b.strides[0];
	p.c_stride = plan->convert_c ? columns : x->c.strides[0];
	p.trans_a = x->trans_a;
	p.trans_b = x->trans_b;
	p.accumulate = x->accumulate;
	p.bias = ps_tensor_present(x->bias);
	p.bf16 = plan->bf16;
	p.bf16_c = plan->bf16 && x->c.dtype == PS_BF16;
	return p;
}

static void *at(ps_tensor tensor, int64_t row, int64_t column)
{
	size_t elements = (size_t)(row * tensor.strides[0] + column);
	return (char *)ps__cpu_data(tensor) + elements * ps_dtype_bytes(tensor.dtype);
}

static void convert(const struct cpu_device *device, const struct fast_convert *x, int64_t rows)
{
	ps__fast_run(device, ((const struct fast *)device->fast)->kernels->convert, x, rows, 1, 0, 0);
}

/* Lines [first, first + count) of a factor, along c's rows or columns, to `to`; `stored` across: k is the other way. */
static void convert_factor(const struct cpu_device *device, const struct plan *plan, ps_tensor factor, bool across,
                           int64_t first, int64_t count, void *to)
{
	int64_t k = factor.dims[across ? 0 : 1], rows = across ? k : count, columns = across ? count : k;
	const struct fast_convert x = {.from = across ? at(factor, 0, first) : at(factor, first, 0),
	                               .to = to,
	                               .columns = columns,
	                               .from_stride = factor.strides[0],
	                               .to_stride = columns,
	                               .from_bf16 = factor.dtype == PS_BF16,
	                               .to_bf16 = plan->bf16};
	convert(device, &x, rows);
}

/* c of a block to or from floats. */
static void convert_c(const struct cpu_device *device, ps_tensor c, int64_t row, int64_t column, int64_t rows,
                      int64_t columns, float *wide, bool back)
{
	void *narrow = at(c, row, column), *floats = wide;
	const struct fast_convert x = {.from = back ? floats : narrow,
	                               .to = back ? narrow : floats,
	                               .columns = columns,
	                               .from_stride = back ? columns : c.strides[0],
	                               .to_stride = back ? c.strides[0] : columns,
	                               .from_bf16 = !back,
	                               .to_bf16 = back};
	convert(device, &x, rows);
}

static ps_status multiply_block(const struct cpu_device *device, const struct call *call, int64_t row, int64_t column,
                                int64_t rows, int64_t columns)
{
	const ps_args_gemm *x = &call->x;
	const struct plan *plan = &call->plan;
	char *room = ((const struct fast *)device->fast)->factors.memory;
	struct fast_product product = block_product(call, rows, columns);
	struct fast_operands o = {
	        .a = plan->convert_a ? room
	             : x->trans_a    ? at(x->a, 0, row)
	                             : at(x->a, row, 0),
	        .b = plan->convert_b ? room + plan->b_at
	             : x->trans_b    ? at(x->b, column, 0)
	                             : at(x->b, 0, column),
	        .c = plan->convert_c ? room + plan->c_at : at(x->c, row, column),
	};
	if (product.bias)
		o.bias = (const float *)ps__cpu_data(x->bias) + column;
	if (plan->convert_c && x->accumulate)
		convert_c(device, x->c, row, column, rows, columns, o.c, false);
	int last_row = rows < plan->rows ? LAST : WHOLE, last_column = columns < plan->columns ? LAST : WHOLE;
	PS_TRY(ps__fast_product_run(device, &product, call->handle[last_row][last_column], &o));
	if (plan->convert_c)
		convert_c(device, x->c, row, column, rows, columns, o.c, true);
	return PS_OK;
}

static ps_status gemm_kernel(const struct cpu_device *device, const void *arguments)
{
	const struct call *call = arguments;
	const ps_args_gemm *x = &call->x;
	const struct plan *plan = &call->plan;
	char *room = ((const struct fast *)device->fast)->factors.memory;
	int64_t m = x->c.dims[0], n = x->c.dims[1];
	for (int64_t column = 0; column < n; column += plan->columns) {
		int64_t columns = least(plan->columns, n - column);
		if (plan->convert_b)
			convert_factor(device, plan, x->b, !x->trans_b, column, columns, room + plan->b_at);
		for (int64_t row = 0; row < m; row += plan->rows) {
			int64_t rows = least(plan->rows, m - row);
			/* A single block of rows stays for all columns. */
			if (plan->convert_a && (column == 0 || rows < m))
				convert_factor(device, plan, x->a, x->trans_a, row, rows, room);
			PS_TRY(multiply_block(device, call, row, column, rows, columns));
		}
	}
	return PS_OK;
}

/* Prepares for the blocks of all sizes that there are. */
static ps_status prepare(const struct cpu_device *device, struct call *call)
{
	const ps_args_gemm *x = &call->x;
	const struct plan *plan = &call->plan;
	int64_t rows[] = {[WHOLE] = plan->rows, [LAST] = x->c.dims[0] % plan->rows};
	int64_t columns[] = {[WHOLE] = plan->columns, [LAST] = x->c.dims[1] % plan->columns};
	for (int i = WHOLE; i <= LAST; i++)
		for (int j = WHOLE; j <= LAST; j++) {
			if (rows[i] == 0 || columns[j] == 0)
				continue;
			struct fast_product product = block_product(call, rows[i], columns[j]);
			PS_TRY(ps__fast_product_prepare(device, &product, &call->handle[i][j]));
		}
	return PS_OK;
}

ps_status ps__fast_gemm(ps_queue *queue, const void *arguments)
{
	const ps_args_gemm *x = arguments;
	struct cpu_device *device = queue->device->impl;
	struct fast *fast = device->fast;
	if (x->c.dtype == PS_F64)
		return ps__op_refuse(queue, PS_OP_gemm, x->c, "it computes in fp32 only; ref takes fp64");
	struct call call = {.x = *x, .plan = plan_for(x, ps_gemm_is_bf16(x, queue->math), fast->bf16)};
	PS_TRY(ps__fast_grow(device, &fast->factors, call.plan.bytes));
	PS_TRY(prepare(device, &call));
	return ps__cpu_launch(queue, gemm_kernel, &call, sizeof call);
}
