/*
 * Products of whole numbers: their sums are exact, so that every right way of making one gives the same bits. What is
 * right comes from our own kernels in their first form, which the conformance tests check.
 */
#include "backends/opencl/gemm.h"

static ps_status matrix(struct cl_queue *q, ps_buffer *buffer, ps_tensor *out, ps_dtype dtype, int64_t rows,
                        int64_t columns)
{
	cl_int error;
	size_t bytes = (size_t)(rows * columns) * ps_dtype_bytes(dtype);
	*out = ps_tensor_make(buffer, 0, dtype, 2, (int64_t[]){rows, columns});
	cl_mem memory = clCreateBuffer(q->device->context, CL_MEM_READ_WRITE, bytes, NULL, &error);
	if (error != CL_SUCCESS)
		return ps_fail(ps__cl_status(error), "%s has no room for a trial of %zu bytes: %s",
		               q->queue->device->info.name, bytes, ps__cl_error_name(error));
	*buffer = (ps_buffer){.device = q->queue->device, .bytes = bytes, .impl = memory};
	return PS_OK;
}

static ps_status fill(struct cl_queue *q, ps_tensor tensor, uint32_t seed)
{
	struct cl_launch l = ps__cl_launch(q, CL_fill_whole, tensor.dtype);
	ps__cl_arg_memory(&l, cl_memory(tensor));
	ps__cl_arg_long(&l, ps_tensor_count(tensor));
	ps__cl_arg_uint(&l, seed);
	return ps__cl_run_elements(&l, ps_tensor_count(tensor), 1, 1);
}

enum { SEED_A = 1, SEED_B, SEED_C };

ps_status ps__cl_trial_init(struct cl_trial *trial, struct cl_queue *q, const struct cl_product *like, int64_t m,
                            int64_t n, int64_t k)
{
	*trial = (struct cl_trial){.product = *like};
	struct cl_product *p = &trial->product;
	ps_tensor expected;
	p->m = m;
	p->n = n;
	p->k = k;
	PS_TRY(matrix(q, &trial->a, &p->a, p->dtype, p->trans_a ? k : m, p->trans_a ? m : k));
	PS_TRY(matrix(q, &trial->b, &p->b, p->dtype, p->trans_b ? n : k, p->trans_b ? k : n));
	PS_TRY(matrix(q, &trial->c, &p->c, p->dtype, m, n));
	PS_TRY(matrix(q, &trial->expected, &expected, p->dtype, m, n));
	PS_TRY(fill(q, p->a, SEED_A));
	PS_TRY(fill(q, p->b, SEED_B));
	PS_TRY(fill(q, expected, SEED_C));
	struct cl_product first = *p;
	struct cl_gemm_plan plan = ps__cl_own_plan(q->device);
	first.c = expected;
	PS_TRY(ps__cl_own_gemm(q, &first, (ps_tensor){0}, &plan));
	return ps__cl_settle(q);
}

ps_status ps__cl_trial_finish(struct cl_trial *trial, struct cl_queue *q)
{
	ps_status status = ps__cl_settle(q);
	const ps_buffer *all[] = {&trial->a, &trial->b, &trial->c, &trial->expected};
	for (int i = 0; i < 4; i++)
		if (all[i]->impl)
			ps__cl_release(q->device, all[i]->impl);
	return status;
}

static ps_status compare(const struct cl_trial *trial, struct cl_queue *q, bool *right)
{
	const cl_int none = 0;
	cl_int wrong = 1;
	cl_event event;
	cl_int error = clEnqueueFillBuffer(q->cl, q->range, &none, sizeof none, 0, sizeof none, 0, NULL, &event);
	PS_TRY(ps__cl_enqueued(q, "a trial's count", error, event));
	struct cl_launch l = ps__cl_launch(q, CL_compare, trial->product.dtype);
	ps__cl_arg_memory(&l, trial->c.impl);
	ps__cl_arg_memory(&l, trial->expected.impl);
	ps__cl_arg_long(&l, trial->product.m * trial->product.n);
	ps__cl_arg_memory(&l, q->range);
	PS_TRY(ps__cl_run_elements(&l, (int64_t)CL_LANES * 64, 1, 1));
	error = clEnqueueReadBuffer(q->cl, q->range, CL_TRUE, 0, sizeof wrong, &wrong, 0, NULL, &event);
	PS_TRY(ps__cl_enqueued(q, "a trial's count", error, event));
	*right = wrong == 0;
	return PS_OK;
}

ps_status ps__cl_trial_run(const struct cl_trial *trial, struct cl_queue *q, const struct cl_gemm_choice *how,
                           int64_t *ns, bool *right)
{
	*right = false;
	*ns = INT64_MAX;
	PS_TRY(fill(q, trial->product.c, SEED_C));
	PS_TRY(ps__cl_settle(q));
	int64_t start = ps_clock_ns();
	ps_status status = how->clblast ? ps__cl_clblast_gemm(q, &trial->product)
	                                : ps__cl_own_gemm(q, &trial->product, (ps_tensor){0}, &how->plan);
	PS_TRY(ps__cl_settle(q));
	if (status != PS_OK)
		return PS_OK;
	*ns = ps_clock_ns() - start;
	return compare(trial, q, right);
}
