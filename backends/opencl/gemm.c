/* The matrix product: CLBlast where its results are right and it is not much slower, else our own. */
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

static ps_status own(struct cl_queue *q, const struct cl_product *p, ps_tensor bias)
{
	struct cl_gemm_plan plan = ps__cl_own_plan(q->device);
	return ps__cl_own_gemm(q, p, bias, &plan);
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
	bool trusted = false;
	struct cl_product added = p;
	added.accumulate |= ps_tensor_present(x->bias);
	PS_TRY(ps__cl_clblast_trusted(q, &added, &trusted));
	if (!trusted)
		return own(q, &p, x->bias);
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
