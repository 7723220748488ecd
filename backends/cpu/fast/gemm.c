/* GEMM: cuts a product into blocks of rows and of k for the kernels in kernels/gemm.h. */
#include "backends/cpu/fast/gemm.h"

/* Packed rows of a take up to BLOCK_FLOATS; at most BLOCK_K of k are packed at once. */
#define BLOCK_K ((int64_t)4096)
#define BLOCK_FLOATS ((int64_t)2 << 20)

struct plan {
	int64_t k, rows;        /* of a block */
	int64_t pack_grain;     /* rows of a group or panel */
	int64_t product_grain;  /* columns */
	size_t shared, scratch; /* floats */
};

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t round_up(int64_t value, int64_t multiple)
{
	return (value + multiple - 1) / multiple * multiple;
}

static struct fast_gemm describe(const struct fast_product *x)
{
	return (struct fast_gemm){
	        .rows = x->m,
	        .columns = x->n,
	        .k = x->k,
	        .a_row = x->trans_a ? 1 : x->a_stride,
	        .a_step = x->trans_a ? x->a_stride : 1,
	        .b_row = x->b_stride,
	        .c_row = x->c_stride,
	        .transposed = x->trans_b,
	        .add = x->accumulate,
	};
}

/* Block sizes do not show in the results but for BLOCK_K, which goes by k alone. */
static struct plan plan_for(const struct fast_kernels *kernels, const struct fast_gemm *g)
{
	struct plan plan = {.k = least(g->k, BLOCK_K)};
	plan.pack_grain = g->transposed ? kernels->tile.columns : kernels->tile.rows;
	plan.product_grain = g->transposed ? kernels->tile.rows : kernels->tile.columns;
	int64_t most = BLOCK_FLOATS / plan.k / plan.pack_grain * plan.pack_grain;
	plan.rows = least(g->rows, most > 0 ? most : plan.pack_grain);
	int64_t padded = round_up(plan.rows, plan.pack_grain);
	plan.shared = (size_t)(padded * plan.k);
	plan.scratch = (size_t)(g->transposed ? padded * GEMM_BLOCK : GEMM_K * kernels->tile.columns);
	return plan;
}

ps_status ps__fast_product_prepare(const struct cpu_device *device, const struct fast_product *product, void **handle)
{
	*handle = NULL;
	const struct fast_gemm whole = describe(product);
	struct plan plan = plan_for(((const struct fast *)device->fast)->kernels, &whole);
	return ps__fast_reserve(device, plan.shared, plan.scratch);
}

ps_status ps__fast_product_run(const struct cpu_device *device, const struct fast_product *product, void *handle,
                               const struct fast_operands *operands)
{
	(void)handle;
	const struct fast_kernels *kernels = ((const struct fast *)device->fast)->kernels;
	const struct fast_gemm whole = describe(product);
	struct plan plan = plan_for(kernels, &whole);
	const float *a = operands->a, *b = operands->b;
	float *c = operands->c;
	for (int64_t k = 0; k < whole.k; k += plan.k)
		for (int64_t row = 0; row < whole.rows; row += plan.rows) {
			struct fast_gemm block = whole;
			block.a = a + row * whole.a_row + k * whole.a_step;
			block.b = b + k * (whole.transposed ? 1 : whole.b_row);
			block.c = c + row * whole.c_row;
			block.bias = k == 0 ? operands->bias : NULL;
			block.rows = least(plan.rows, whole.rows - row);
			block.k = least(plan.k, whole.k - k);
			block.add = whole.add || k > 0;
			ps__fast_run(device, kernels->gemm_pack, &block, block.rows, plan.pack_grain, plan.shared, 0);
			ps__fast_run(device, kernels->op[PS_OP_gemm], &block, block.columns, plan.product_grain,
			             plan.shared, plan.scratch);
		}
	return PS_OK;
}
