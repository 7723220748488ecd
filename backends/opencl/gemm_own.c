/* Our own matrix product: its forms, what they are built with, and how a product is cut into work-items. */
#include "backends/opencl/gemm.h"

#include <stdio.h>

const struct cl_gemm_form ps__cl_forms[CL_GEMM_FORMS] = {
        {"8 x 1 vector", "-DPANELS -DROWS=8 -DCOLUMNS=1", true, 8, 1, {1, 1}},
        {"6 x 2 vectors", "-DPANELS -DROWS=6 -DCOLUMNS=2", true, 6, 2, {1, 1}},
        {"8 x 2 vectors", "-DPANELS -DROWS=8 -DCOLUMNS=2", true, 8, 2, {1, 1}},
        {"12 x 2 vectors", "-DPANELS -DROWS=12 -DCOLUMNS=2", true, 12, 2, {1, 1}},
        {"14 x 2 vectors", "-DPANELS -DROWS=14 -DCOLUMNS=2", true, 14, 2, {1, 1}},
        {"8 x 3 vectors", "-DPANELS -DROWS=8 -DCOLUMNS=3", true, 8, 3, {1, 1}},
        {"5 x 5 vectors", "-DPANELS -DROWS=5 -DCOLUMNS=5", true, 5, 5, {1, 1}},
};

/* The two kernels of a form belong to the device; their arguments are set by one thread at a time. */
static pthread_mutex_t kernels = PTHREAD_MUTEX_INITIALIZER;

enum { MULTIPLY, PACK };

/* A launch of one of a form's kernels. The caller holds the mutex. */
static struct cl_launch launch(struct cl_queue *q, ps_dtype dtype, int form, int which)
{
	static const char *const names[] = {[MULTIPLY] = "ps_gemm", [PACK] = "ps_gemm_pack"};
	struct cl_device *d = q->device;
	cl_kernel *kernel = &d->gemm_kernel[dtype == PS_F64][form][which];
	struct cl_launch l = {.q = q, .name = names[which], .dtype = dtype};
	l.status = ps__cl_build_gemm(d, dtype, form, ps__cl_forms[form].options);
	if (l.status == PS_OK && !*kernel)
		*kernel = clCreateKernel(d->gemm_program[dtype == PS_F64][form], names[which], &l.error);
	l.kernel = *kernel;
	return l;
}

/* Work-items that there should be at least, so that all units are busy until nearly the end. */
static int64_t enough(const struct cl_device *d)
{
	return 4 * (int64_t)(d->compute_units > 0 ? d->compute_units : 1);
}

enum { DEPTH = 256, BLOCK_ROWS = 480, BLOCK_COLUMNS = 256 };

/* Bytes of local memory that a work-item needs for its block of b. */
static uint64_t local_bytes(const struct cl_gemm_plan *plan, int width, ps_dtype dtype)
{
	return (uint64_t)plan->depth * (uint64_t)(plan->block_columns * width) * ps_dtype_bytes(dtype);
}

static int width_of(const struct cl_device *d, int form, ps_dtype dtype)
{
	return ps__cl_forms[form].columns * d->vector[dtype == PS_F64];
}

struct cl_gemm_plan ps__cl_own_plan(const struct cl_device *d, const struct cl_product *p)
{
	struct cl_gemm_plan plan = {.form = 3};
	const struct cl_gemm_form *form = &ps__cl_forms[plan.form];
	int width = width_of(d, plan.form, p->dtype);
	int64_t tiles = cl_ceil(p->m, form->rows), panels = cl_ceil(p->n, width);
	int64_t blocks = cl_ceil(p->k, DEPTH), rows = BLOCK_ROWS / form->rows, columns = BLOCK_COLUMNS / width;
	plan.depth = (int)(cl_ceil(cl_ceil(p->k, blocks), 16) * 16);
	if (columns < 1)
		columns = 1;
	if (columns > panels)
		columns = panels;
	if (rows > tiles)
		rows = tiles;
	/* Blocks are halved along the longer side until there are enough. */
	while (cl_ceil(tiles, rows) * cl_ceil(panels, columns) < enough(d) && rows * columns > 1)
		if (columns > 1 && columns * width >= rows * form->rows / 2)
			columns = (columns + 1) / 2;
		else if (rows > 1)
			rows = (rows + 1) / 2;
		else
			columns = (columns + 1) / 2;
	plan.block_columns = (int)columns;
	plan.block_rows = (int)rows;
	while (local_bytes(&plan, width, p->dtype) > d->local_bytes && plan.block_columns > 1)
		plan.block_columns = (plan.block_columns + 1) / 2;
	while (local_bytes(&plan, width, p->dtype) > d->local_bytes && plan.depth > 16)
		plan.depth /= 2;
	return plan;
}

static ps_status pack(struct cl_queue *q, const struct cl_product *p, const struct cl_gemm_plan *plan, cl_mem packed)
{
	struct cl_launch l = launch(q, p->dtype, plan->form, PACK);
	ps__cl_arg_tensor(&l, p->a);
	ps__cl_arg_memory(&l, packed);
	ps__cl_arg_long(&l, p->m);
	ps__cl_arg_long(&l, p->k);
	ps__cl_arg_long(&l, p->a.strides[0]);
	ps__cl_arg_int(&l, p->trans_a);
	ps__cl_arg_int(&l, plan->depth);
	int64_t global[] = {cl_ceil(p->k, plan->depth), cl_ceil(p->m, ps__cl_forms[plan->form].rows)};
	return ps__cl_run_groups(&l, global, (const int[]){1, 1});
}

static ps_status by_panels(struct cl_queue *q, const struct cl_product *p, ps_tensor bias,
                           const struct cl_gemm_plan *plan, cl_mem packed)
{
	const struct cl_gemm_form *form = &ps__cl_forms[plan->form];
	int width = width_of(q->device, plan->form, p->dtype);
	PS_TRY(pack(q, p, plan, packed));
	struct cl_launch l = launch(q, p->dtype, plan->form, MULTIPLY);
	ps__cl_arg_memory(&l, packed);
	ps__cl_arg_tensor(&l, p->b);
	ps__cl_arg_tensor(&l, p->c);
	ps__cl_arg_tensor(&l, bias);
	ps__cl_arg_long(&l, p->m);
	ps__cl_arg_long(&l, p->n);
	ps__cl_arg_long(&l, p->k);
	ps__cl_arg_long(&l, p->b.strides[0]);
	ps__cl_arg_long(&l, p->c.strides[0]);
	ps__cl_arg_int(&l, p->trans_b);
	ps__cl_arg_int(&l, p->accumulate);
	ps__cl_arg_int(&l, ps_tensor_present(bias));
	ps__cl_arg_int(&l, plan->depth);
	ps__cl_arg_int(&l, plan->block_columns * width);
	ps__cl_arg_int(&l, plan->block_rows);
	ps__cl_arg_local(&l, local_bytes(plan, width, p->dtype));
	int64_t global[] = {cl_ceil(p->n, plan->block_columns * width),
	                    cl_ceil(cl_ceil(p->m, form->rows), plan->block_rows)};
	return ps__cl_run_groups(&l, global, (const int[]){1, 1});
}

ps_status ps__cl_own_gemm(struct cl_queue *q, const struct cl_product *p, ps_tensor bias,
                          const struct cl_gemm_plan *plan)
{
	int64_t rows = ps__cl_forms[plan->form].rows, packed_rows = cl_ceil(p->m, rows) * rows;
	cl_mem packed;
	PS_TRY(ps__cl_scratch(q, 0, (size_t)(packed_rows * p->k) * ps_dtype_bytes(p->dtype), &packed));
	pthread_mutex_lock(&kernels);
	ps_status status = by_panels(q, p, bias, plan, packed);
	pthread_mutex_unlock(&kernels);
	return status;
}
