/* Our own matrix product: its forms, what they are built with, and how a product is cut into work-items. */
#include "backends/opencl/gemm.h"

#define PANELS(r, c)                                                                             \
	{                                                                                        \
#r " rows x " #c " vectors", "-DPANELS -DROWS=" #r " -DCOLUMNS=" #c, true, r, c, \
		{                                                                                \
			1, 1                                                                     \
		}                                                                                \
	}
#define TILES(x, y, r, c)                                                                                     \
	{                                                                                                     \
		"groups of " #x " x " #y ", " #r " x " #c " each",                                            \
		        "-DTILES -DGROUP_X=" #x " -DGROUP_Y=" #y " -DROWS=" #r " -DCOLUMNS=" #c, false, r, c, \
		{                                                                                             \
			x, y                                                                                  \
		}                                                                                             \
	}

/* What a CPU and what another device start with, then what tuning may choose. */
const struct cl_gemm_form ps__cl_forms[CL_GEMM_FORMS] = {
        PANELS(12, 2),      TILES(16, 16, 4, 4), PANELS(8, 1),      PANELS(6, 2),
        PANELS(8, 2),       PANELS(14, 2),       PANELS(8, 3),      PANELS(5, 5),
        TILES(16, 8, 4, 4), TILES(8, 8, 4, 4),   TILES(8, 8, 8, 8), TILES(16, 16, 8, 8),
};
enum { CPU_FORM, OTHER_FORM };

/* Of kernels/gemm.cl: STEPS of the tiles; what the steps of panels are a multiple of. */
enum { TILE_STEPS = 16, PANEL_STEPS = 16 };

/* The kernels of a form belong to the device; their arguments are set by one thread at a time. */
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

static int width_of(const struct cl_device *d, const struct cl_gemm_form *form, ps_dtype dtype)
{
	return form->columns * d->vector[dtype == PS_F64];
}

bool ps__cl_form_fits(const struct cl_device *d, int index, ps_dtype dtype)
{
	const struct cl_gemm_form *form = &ps__cl_forms[index];
	uint64_t element = ps_dtype_bytes(dtype), rows = (uint64_t)(form->group[1] * form->rows);
	if (form->panels)
		return (uint64_t)(PANEL_STEPS * width_of(d, form, dtype)) * element <= d->local_bytes;
	uint64_t columns = (uint64_t)(form->group[0] * form->columns);
	return form->group[0] * form->group[1] <= d->group_limit &&
	       TILE_STEPS * (rows + columns) * element <= d->local_bytes;
}

struct cl_gemm_plan ps__cl_own_plan(const struct cl_device *d)
{
	return (struct cl_gemm_plan){.form = d->cpu ? CPU_FORM : OTHER_FORM, .depth = 256, .rows = 480, .columns = 256};
}

/* How a product is cut: steps along k at once, and the tiles and panels of a work-item. */
struct cut {
	int64_t depth, tiles, panels;
};

static uint64_t local_bytes(const struct cut *cut, int width, ps_dtype dtype)
{
	return (uint64_t)(cut->depth * cut->panels * width) * ps_dtype_bytes(dtype);
}

/* As the plan wishes, but with enough work-items to keep all units busy until nearly the end, and in local memory. */
static struct cut cut_of(const struct cl_device *d, const struct cl_product *p, const struct cl_gemm_plan *plan)
{
	const struct cl_gemm_form *form = &ps__cl_forms[plan->form];
	int width = width_of(d, form, p->dtype);
	int64_t tiles = cl_ceil(p->m, form->rows), panels = cl_ceil(p->n, width);
	int64_t enough = 4 * (int64_t)(d->compute_units > 0 ? d->compute_units : 1);
	struct cut cut = {.tiles = cl_ceil(plan->rows, form->rows), .panels = cl_ceil(plan->columns, width)};
	cut.depth = cl_ceil(cl_ceil(p->k, cl_ceil(p->k, plan->depth)), PANEL_STEPS) * PANEL_STEPS;
	if (cut.tiles > tiles)
		cut.tiles = tiles;
	if (cut.panels > panels)
		cut.panels = panels;
	while (cl_ceil(tiles, cut.tiles) * cl_ceil(panels, cut.panels) < enough && cut.tiles * cut.panels > 1)
		if (cut.tiles == 1 || (cut.panels > 1 && 2 * cut.panels * width >= cut.tiles * form->rows))
			cut.panels = (cut.panels + 1) / 2;
		else
			cut.tiles = (cut.tiles + 1) / 2;
	while (local_bytes(&cut, width, p->dtype) > d->local_bytes && cut.panels > 1)
		cut.panels = (cut.panels + 1) / 2;
	while (local_bytes(&cut, width, p->dtype) > d->local_bytes && cut.depth > PANEL_STEPS)
		cut.depth = cl_ceil(cut.depth / 2, PANEL_STEPS) * PANEL_STEPS;
	return cut;
}

static ps_status pack(struct cl_queue *q, const struct cl_product *p, int form, int64_t depth, cl_mem packed)
{
	struct cl_launch l = launch(q, p->dtype, form, PACK);
	ps__cl_arg_tensor(&l, p->a);
	ps__cl_arg_memory(&l, packed);
	ps__cl_arg_long(&l, p->m);
	ps__cl_arg_long(&l, p->k);
	ps__cl_arg_long(&l, p->a.strides[0]);
	ps__cl_arg_int(&l, p->trans_a);
	ps__cl_arg_int(&l, depth);
	const int64_t groups[] = {cl_ceil(p->k, depth), cl_ceil(p->m, ps__cl_forms[form].rows)};
	return ps__cl_run_groups(&l, groups, ps__cl_forms[form].group);
}

static ps_status by_panels(struct cl_queue *q, const struct cl_product *p, ps_tensor bias,
                           const struct cl_gemm_plan *plan)
{
	const struct cl_gemm_form *form = &ps__cl_forms[plan->form];
	struct cut cut = cut_of(q->device, p, plan);
	int64_t tiles = cl_ceil(p->m, form->rows), width = width_of(q->device, form, p->dtype);
	cl_mem packed;
	PS_TRY(ps__cl_scratch(q, 0, (size_t)(tiles * form->rows * p->k) * ps_dtype_bytes(p->dtype), &packed));
	PS_TRY(pack(q, p, plan->form, cut.depth, packed));
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
	ps__cl_arg_int(&l, cut.depth);
	ps__cl_arg_int(&l, cut.panels * width);
	ps__cl_arg_int(&l, cut.tiles);
	ps__cl_arg_local(&l, local_bytes(&cut, (int)width, p->dtype));
	const int64_t groups[] = {cl_ceil(p->n, cut.panels * width), cl_ceil(tiles, cut.tiles)};
	return ps__cl_run_groups(&l, groups, form->group);
}

static ps_status by_tiles(struct cl_queue *q, const struct cl_product *p, ps_tensor bias,
                          const struct cl_gemm_plan *plan)
{
	const struct cl_gemm_form *form = &ps__cl_forms[plan->form];
	struct cl_launch l = launch(q, p->dtype, plan->form, MULTIPLY);
	ps__cl_arg_tensor(&l, p->a);
	ps__cl_arg_tensor(&l, p->b);
	ps__cl_arg_tensor(&l, p->c);
	ps__cl_arg_tensor(&l, bias);
	ps__cl_arg_long(&l, p->m);
	ps__cl_arg_long(&l, p->n);
	ps__cl_arg_long(&l, p->k);
	ps__cl_arg_long(&l, p->a.strides[0]);
	ps__cl_arg_long(&l, p->b.strides[0]);
	ps__cl_arg_long(&l, p->c.strides[0]);
	ps__cl_arg_int(&l, p->trans_a);
	ps__cl_arg_int(&l, p->trans_b);
	ps__cl_arg_int(&l, p->accumulate);
	ps__cl_arg_int(&l, ps_tensor_present(bias));
	const int64_t groups[] = {cl_ceil(p->n, form->group[0] * form->columns),
	                          cl_ceil(p->m, form->group[1] * form->rows)};
	return ps__cl_run_groups(&l, groups, form->group);
}

ps_status ps__cl_own_gemm(struct cl_queue *q, const struct cl_product *p, ps_tensor bias,
                          const struct cl_gemm_plan *plan)
{
	pthread_mutex_lock(&kernels);
	ps_status status = ps__cl_forms[plan->form].panels ? by_panels(q, p, bias, plan) : by_tiles(q, p, bias, plan);
	pthread_mutex_unlock(&kernels);
	return status;
}
