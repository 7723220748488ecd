/*
 * The matrix product: for each one the choice between CLBlast and our own kernels, and what goes around it.
 *
 * The choice depends on the dtype and the transposes, never on sizes, so that a row's bits do not depend on m where
 * CLBlast's own choices do not.
 */
#include "backends/opencl/gemm.h"

static struct cl_product product_of(const ps_args_gemm *x)
{
	return (struct cl_product){.dtype = x->c.dtype,
	                           .a = x->a,
	                           .b = x->b,
	                           .c = x->c,
	                           .m = x->c.dims[0],
	                           .n = x->c.dims[1],
	                           .k = x->trans_a ? x->a.dims[0] : x->a.dims[1],
	                           .trans_a = x->trans_a,
	                           .trans_b = x->trans_b,
	                           .accumulate = x->accumulate};
}

static double ratio(int64_t a, int64_t b)
{
	return a < b ? (double)b / (double)a : (double)a / (double)b;
}

/* The plan of the tuned row that is most like the product. */
static void nearest_plan(const struct cl_tuned *tuned, const struct cl_product *p, struct cl_gemm_plan *plan)
{
	double least = 0;
	for (int i = 0; i < tuned->count; i++) {
		const struct cl_tuned_row *row = &tuned->rows[i];
		double distance = ratio(row->m, p->m) * ratio(row->n, p->n) * ratio(row->k, p->k);
		if (row->transposes != cl_transposes(p->trans_a, p->trans_b))
			distance *= 1000;
		if (i == 0 || distance < least) {
			least = distance;
			*plan = row->plan;
		}
	}
}

ps_status ps__cl_gemm_choose(struct cl_queue *q, const struct cl_product *p, struct cl_gemm_choice *choice)
{
	*choice = (struct cl_gemm_choice){.plan = ps__cl_own_plan(q->device)};
	pthread_mutex_lock(&ps__cl_gemm_mutex);
	struct cl_gemm_known *known = ps__cl_gemm_known(q->device, p->dtype);
	ps_status status = known ? ps__cl_clblast_chosen(q, p, known, &choice->clblast)
	                         : ps_fail(PS_ENOMEM, "out of memory for what is known of products");
	if (status == PS_OK && known->tuning == CL_CACHE_GOOD)
		nearest_plan(&known->tuned, p, &choice->plan);
	pthread_mutex_unlock(&ps__cl_gemm_mutex);
	return status;
}

static ps_status gemm_runner(struct cl_queue *q, const void *arguments)
{
	const ps_args_gemm *x = arguments;
	struct cl_product p = product_of(x);
	/* A matrix of one row may have any stride; CLBlast wants one that holds a row. */
	ps_tensor *all[] = {&p.a, &p.b, &p.c};
	for (int i = 0; i < 3; i++)
		if (all[i]->strides[0] < all[i]->dims[1])
			all[i]->strides[0] = all[i]->dims[1];
	struct cl_gemm_choice choice;
	struct cl_product added = p;
	added.accumulate |= ps_tensor_present(x->bias);
	PS_TRY(ps__cl_gemm_choose(q, &added, &choice));
	if (!choice.clblast)
		return ps__cl_own_gemm(q, &p, x->bias, &choice.plan);
	if (ps_tensor_present(x->bias)) {
		struct cl_launch l = ps__cl_launch(q, CL_bias_rows, p.dtype);
		ps__cl_arg_tensor(&l, p.c);
		ps__cl_arg_tensor(&l, x->bias);
		ps__cl_arg_long(&l, p.n);
		ps__cl_arg_long(&l, p.c.strides[0]);
		ps__cl_arg_int(&l, p.accumulate);
		PS_TRY(ps__cl_run_elements(&l, cl_ceil(p.n, cl_vector(q, p.dtype)), p.m, 1));
	}
	return ps__cl_clblast_gemm(q, &added);
}
CL_OP(gemm, c, false)
