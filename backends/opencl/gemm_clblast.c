/*
 * CLBlast's matrix product, and whether it is to be used.
 *
 * Before CLBlast is trusted with a class of products (transposes, accumulation, size) it makes one of that class from
 * whole numbers, whose sums are exact, and must give what our own product gives. Where ours is much faster it runs
 * instead; on CPUs, for which CLBlast was not made, that is taken for granted unless tuning found otherwise. Calls into
 * CLBlast are serialised: its caches are not safe before 1.6.1.
 */
#include "backends/opencl/gemm.h"

#include <clblast_c.h>

static pthread_mutex_t clblast = PTHREAD_MUTEX_INITIALIZER;

static size_t first_of(ps_tensor tensor)
{
	return (size_t)(tensor.offset / ps_dtype_bytes(tensor.dtype));
}

ps_status ps__cl_clblast_gemm(struct cl_queue *q, const struct cl_product *p)
{
	CLBlastTranspose ta = p->trans_a ? CLBlastTransposeYes : CLBlastTransposeNo;
	CLBlastTranspose tb = p->trans_b ? CLBlastTransposeYes : CLBlastTransposeNo;
	size_t m = (size_t)p->m, n = (size_t)p->n, k = (size_t)p->k;
	size_t lda = (size_t)p->a.strides[0], ldb = (size_t)p->b.strides[0], ldc = (size_t)p->c.strides[0];
	size_t bytes = 0;
	CLBlastStatusCode code;
	cl_mem temporary = NULL;
	cl_event event = NULL;
	pthread_mutex_lock(&clblast);
	code = (p->dtype == PS_F64 ? CLBlastDGemmTempBufferSize : CLBlastSGemmTempBufferSize)(
	        CLBlastLayoutRowMajor, ta, tb, m, n, k, first_of(p->a), lda, first_of(p->b), ldb, first_of(p->c), ldc,
	        &q->cl, &bytes);
	ps_status status = PS_OK;
	if (code == CLBlastSuccess && bytes > 0)
		status = ps__cl_scratch(q, 0, bytes, &temporary);
	if (code == CLBlastSuccess && status == PS_OK && p->dtype == PS_F64)
		code = CLBlastDgemmWithTempBuffer(CLBlastLayoutRowMajor, ta, tb, m, n, k, 1, cl_memory(p->a),
		                                  first_of(p->a), lda, cl_memory(p->b), first_of(p->b), ldb,
		                                  p->accumulate ? 1 : 0, cl_memory(p->c), first_of(p->c), ldc, &q->cl,
		                                  &event, temporary);
	else if (code == CLBlastSuccess && status == PS_OK)
		code = CLBlastSgemmWithTempBuffer(CLBlastLayoutRowMajor, ta, tb, m, n, k, 1, cl_memory(p->a),
		                                  first_of(p->a), lda, cl_memory(p->b), first_of(p->b), ldb,
		                                  p->accumulate ? 1 : 0, cl_memory(p->c), first_of(p->c), ldc, &q->cl,
		                                  &event, temporary);
	pthread_mutex_unlock(&clblast);
	PS_TRY(status);
	/* CLBlast passes OpenCL's codes on and has its own below. */
	return ps__cl_enqueued(q, "CLBlast's gemm", (cl_int)code, event);
}

/* The class of a product, and the side of the cube that stands for its size. */
static int class_of(const struct cl_device *d, const struct cl_product *p, int64_t *side)
{
	double volume = (double)p->m * (double)p->n * (double)p->k;
	int size = 0, largest = d->cpu ? 5 : CL_GEMM_SIZES - 1; /* larger ones take long on a CPU */
	double edge = 32;
	while (size < largest && edge * edge * edge < volume) {
		edge *= 2;
		size++;
	}
	*side = (int64_t)edge * 3 / 4 + 1;
	return (size * 2 + p->accumulate) * CL_TRANSPOSES + cl_transposes(p->trans_a, p->trans_b);
}

static const struct cl_gemm_choice by_clblast = {.clblast = true};

/* Is CLBlast right for products of this class? */
static ps_status check_class(struct cl_queue *q, const struct cl_product *p, struct cl_gemm_known *known, bool *right)
{
	int64_t side, ns;
	unsigned char *verdict = &known->verdicts.classes[class_of(q->device, p, &side)];
	if (*verdict == CL_UNKNOWN) {
		struct cl_trial trial = {0};
		/* Sizes that no tile divides. */
		ps_status status = ps__cl_trial_init(&trial, q, p, side, side + 2, side + 4);
		if (status == PS_OK)
			status = ps__cl_trial_run(&trial, q, &by_clblast, &ns, right);
		ps_status end = ps__cl_trial_finish(&trial, q);
		PS_TRY(status);
		PS_TRY(end);
		*verdict = *right ? CL_RIGHT : CL_WRONG;
		ps__cl_keep_verdicts(q->device, p->dtype, known);
	}
	*right = *verdict == CL_RIGHT;
	return PS_OK;
}

/* Compares the speeds at one product, whose result may be wrong as well. */
static ps_status measure(struct cl_queue *q, const struct cl_product *like, struct cl_gemm_known *known)
{
	enum { SIDE = 1024 };
	struct cl_product p = *like;
	const struct cl_gemm_choice own = {.plan = ps__cl_own_plan(q->device)};
	struct cl_trial trial = {0};
	int64_t own_ns = 0, ns = 0;
	bool right;
	p.trans_a = p.accumulate = false;
	p.trans_b = true;
	ps_status status = ps__cl_trial_init(&trial, q, &p, SIDE, SIDE, SIDE);
	for (int i = 0; i < 2 && status == PS_OK; i++) { /* the first time compiles */
		status = ps__cl_trial_run(&trial, q, &own, &own_ns, &right);
		if (status == PS_OK)
			status = ps__cl_trial_run(&trial, q, &by_clblast, &ns, &right);
	}
	ps_status end = ps__cl_trial_finish(&trial, q);
	PS_TRY(status);
	PS_TRY(end);
	known->verdicts.own_share = (double)own_ns / (double)ns;
	ps__cl_keep_verdicts(q->device, p.dtype, known);
	return PS_OK;
}

ps_status ps__cl_clblast_apply(const struct cl_device *d, ps_dtype dtype, int kernel,
                               const struct cl_clblast_values *values)
{
	pthread_mutex_lock(&clblast);
	ps_status status = ps__cl_clblast_set(d, dtype, kernel, values);
	pthread_mutex_unlock(&clblast);
	return status;
}

ps_status ps__cl_clblast_chosen(struct cl_queue *q, const struct cl_product *p, struct cl_gemm_known *known,
                                bool *chosen)
{
	const struct cl_tuned *tuned = known->tuning == CL_CACHE_GOOD ? &known->tuned : NULL;
	*chosen = false;
	if (tuned ? !tuned->clblast[cl_transposes(p->trans_a, p->trans_b)] : q->device->cpu)
		return PS_OK;
	for (int i = 0; tuned && tuned->has_values && !known->applied && i < CL_CLBLAST_KERNELS; i++)
		PS_TRY(ps__cl_clblast_apply(q->device, p->dtype, i, &tuned->values));
	known->applied = true;
	if (!tuned && known->verdicts.own_share <= 0)
		PS_TRY(measure(q, p, known));
	if (!tuned && ps__cl_own_is_faster(&known->verdicts))
		return PS_OK;
	return check_class(q, p, known, chosen);
}
