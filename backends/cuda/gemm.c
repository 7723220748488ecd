/*
 * Products by cuBLASLt.
 *
 * A bf16 product takes its fp32 factors from copies that are rounded first, in memory of the queue. So does a bf16 c
 * with a bias, for cuBLASLt would want that in bf16 too: it is formed in fp32 and rounded at the end.
 *
 * Tensor cores are fed 16 bytes at a time. So a factor in bf16 or for tf32 whose rows do not all start at a multiple of
 * that is copied too, with its rows so far apart, and so is a bf16 c: a copy costs two passes over one factor, where
 * cuBLASLt would fall back to its slowest kernels or have none. An fp32 c stays where it is, for only its store
 * suffers.
 */
#include "backends/cuda/gemm.h"

#include <stdlib.h>
#include <string.h>

/* A matrix as it is multiplied: where it lies, or a copy in another dtype in the queue's memory for copies. */
struct operand {
	void *data;
	int64_t stride; /* elements from one row to the next */
	int64_t rows, columns;
	ps_dtype stored, dtype; /* as it lies there, and as it is multiplied */
	bool copied;
	size_t at; /* of the copy, in bytes */
	int64_t copy_stride;
};

/* Does every row of the matrix start at a multiple of CUDA_GEMM_ALIGNMENT? */
static bool is_aligned(ps_tensor matrix, int64_t stride)
{
	return ((uintptr_t)ps__cuda_data(matrix) | (uint64_t)stride * ps_dtype_bytes(matrix.dtype)) %
	               CUDA_GEMM_ALIGNMENT ==
	       0;
}

/* The matrix to be multiplied as `dtype`; `align`: from aligned rows. `copies` counts the bytes of the copies. */
static struct operand operand_of(ps_tensor matrix, ps_dtype dtype, bool align, size_t *copies)
{
	/* Of a single row the stride is that of the matrix that it is a view of. */
	int64_t stride = matrix.strides[0] > matrix.dims[1] ? matrix.strides[0] : matrix.dims[1];
	const int64_t unit = CUDA_GEMM_ALIGNMENT / (int64_t)ps_dtype_bytes(dtype);
	struct operand x = {.data = ps__cuda_data(matrix),
	                    .stride = stride,
	                    .rows = matrix.dims[0],
	                    .columns = matrix.dims[1],
	                    .stored = matrix.dtype,
	                    .dtype = dtype,
	                    .copied = matrix.dtype != dtype || (align && !is_aligned(matrix, stride)),
	                    .at = *copies,
	                    .copy_stride = stride};
	if (x.copied) {
		x.copy_stride = (x.columns + unit - 1) / unit * unit;
		*copies += ((size_t)(x.rows * x.copy_stride) * ps_dtype_bytes(dtype) + 255) / 256 * 256;
	}
	return x;
}

/*
 * What the start of every row is aligned to, at most 16 bytes: it does not change with the row that a view starts at,
 * as long as the whole is aligned no worse.
 */
static uint64_t alignment(const struct operand *x)
{
	uint64_t start = x->copied ? 0 : (uint64_t)(uintptr_t)x->data;
	uint64_t bits = start | (uint64_t)x->copy_stride * ps_dtype_bytes(x->dtype) | CUDA_GEMM_ALIGNMENT;
	return bits & (~bits + 1);
}

struct product {
	const struct cuda_plan *plan;
	struct operand a, b, c;
	size_t copies; /* bytes */
	const void *bias;
	bool accumulate;
};

static ps_math math_of(const ps_queue *queue, const ps_args_gemm *x)
{
	return ps_gemm_is_bf16(x, queue->math) ? PS_MATH_BF16 : queue->math;
}

static struct product product_of(const ps_queue *queue, const ps_args_gemm *x)
{
	struct product p = {.bias = ps__cuda_data(x->bias), .accumulate = x->accumulate};
	ps_math math = x->c.dtype == PS_F64 ? PS_MATH_F32 : math_of(queue, x);
	ps_dtype factors = math == PS_MATH_BF16 ? PS_BF16 : x->c.dtype;
	bool tensor_cores = math != PS_MATH_F32, wide_c = math == PS_MATH_BF16 && p.bias;
	p.a = operand_of(x->a, factors, tensor_cores, &p.copies);
	p.b = operand_of(x->b, factors, tensor_cores, &p.copies);
	p.c = operand_of(x->c, wide_c ? PS_F32 : x->c.dtype, x->c.dtype == PS_BF16, &p.copies);
	return p;
}

/* Can cuBLASLt add the bias? Not in fp64, and in fp32 not from just any address. */
static bool fuses_bias(const struct product *p)
{
	return p->bias && p->c.dtype == PS_F32 && (uintptr_t)p->bias % CUDA_GEMM_ALIGNMENT == 0;
}

static struct cuda_gemm_key key_of(const struct product *p, ps_math math, const ps_args_gemm *x)
{
	struct cuda_gemm_key key;
	memset(&key, 0, sizeof key); /* padding too: keys are compared as bytes */
	key.dtype = p->c.dtype;
	key.math = key.dtype == PS_F64 ? PS_MATH_F32 : math;
	key.trans_a = x->trans_a;
	key.trans_b = x->trans_b;
	key.bias = fuses_bias(p);
	/* A bias that is not fused is in c before the product. */
	key.accumulate = x->accumulate || (p->bias && !key.bias);
	key.n = x->c.dims[1];
	key.k = x->trans_a ? x->a.dims[0] : x->a.dims[1];
	key.lda = p->a.copy_stride;
	key.ldb = p->b.copy_stride;
	key.ldc = p->c.copy_stride;
	key.align_a = alignment(&p->a);
	key.align_b = alignment(&p->b);
	key.align_c = alignment(&p->c);
	return key;
}

/* --- running --------------------------------------------------------------------------------------------------------
 */

static void *data_of(const struct cuda_queue *q, const struct operand *x)
{
	return x->copied ? (char *)q->copies + x->at : x->data;
}

static ps_status copy_in(struct cuda_queue *q, const struct ps_cuda_launch *launch, const struct operand *x)
{
	if (!x->copied)
		return PS_OK;
	cudaError_t error = ps__cuda_convert(launch, x->dtype, data_of(q, x), x->copy_stride, true, x->stored, x->data,
	                                     x->stride, x->rows, x->columns);
	return error == cudaSuccess ? PS_OK : ps__cuda_fail(q->queue->device->info.name, "gemm", error);
}

/* The factors' copies, and what is in c before the product. */
static ps_status prepare(struct cuda_queue *q, const struct product *p, const struct ps_cuda_launch *launch)
{
	const struct cuda_gemm_key *key = &p->plan->key;
	PS_TRY(copy_in(q, launch, &p->a));
	PS_TRY(copy_in(q, launch, &p->b));
	if (p->accumulate)
		PS_TRY(copy_in(q, launch, &p->c));
	if (p->bias && !key->bias)
		CUDA_TRY(q->queue->device->info.name, ps__cuda_set_rows(launch, data_of(q, &p->c), key->ldc, p->bias,
		                                                        p->plan->m, key->n, p->accumulate));
	return PS_OK;
}

ps_status ps__cuda_multiply(const ps_queue *queue, const struct cuda_plan *plan, const void *a, const void *b, void *c,
                            const void *bias, void *workspace, cudaStream_t stream)
{
	const struct cuda_device *device = queue->device->impl;
	const float one = 1, zero = 0;
	const double one64 = 1, zero64 = 0;
	bool wide = plan->key.dtype == PS_F64, add = plan->key.accumulate;
	const void *alpha = wide ? (const void *)&one64 : &one;
	const void *beta = wide ? (const void *)(add ? &one64 : &zero64) : add ? &one : &zero;
	/* The pointer of the bias is part of the description, which queues share. */
	if (plan->key.bias)
		LT_TRY(queue, "the bias",
		       cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
		                                      sizeof bias));
	return ps__cuda_gemm_check(queue, "cublasLtMatmul",
	                           cublasLtMatmul(device->lt, plan->product, alpha, b, plan->b, a, plan->a, beta, c,
	                                          plan->c, c, plan->c, &plan->algo, workspace, device->workspace_bytes,
	                                          stream));
}

/* The caller holds the device's mutex. */
static ps_status multiply(struct cuda_queue *q, const struct product *p)
{
	const struct ps_cuda_launch launch = {.stream = q->stream, .dtype = p->plan->key.dtype, .stop = q->stop};
	void *c = data_of(q, &p->c);
	PS_TRY(prepare(q, p, &launch));
	PS_TRY(ps__cuda_multiply(q->queue, p->plan, data_of(q, &p->a), data_of(q, &p->b), c, p->bias, q->workspace,
	                         q->stream));
	if (p->c.copied)
		CUDA_TRY(q->queue->device->info.name,
		         ps__cuda_convert(&launch, p->c.stored, p->c.data, p->c.stride, false, p->c.dtype, c,
		                          p->c.copy_stride, p->c.rows, p->c.columns));
	return PS_OK;
}

static ps_status gemm_runner(struct cuda_queue *q, const void *arguments)
{
	(void)ps__cuda_flight(q, false);
	pthread_mutex_lock(&q->device->mutex);
	ps_status status = multiply(q, arguments);
	pthread_mutex_unlock(&q->device->mutex);
	return status;
}

/* --- asking for a product -------------------------------------------------------------------------------------------
 */

/*
 * Memory for cuBLASLt and for copies; the caller holds the device's mutex. Only what is recorded first makes any. What
 * is outgrown stays for what was recorded before.
 */
static ps_status reserve(struct cuda_queue *q, size_t copies)
{
	const char *name = q->queue->device->info.name;
	void *more;
	if (!q->workspace)
		CUDA_TRY(name, cudaMalloc(&q->workspace, q->device->workspace_bytes));
	if (q->copies_bytes >= copies)
		return PS_OK;
	struct cuda_outgrown *old = q->copies ? malloc(sizeof *old) : NULL;
	if (q->copies && !old)
		return ps_fail(PS_ENOMEM, "gemm on %s: out of memory", name);
	cudaError_t error = cudaMalloc(&more, copies);
	if (error != cudaSuccess) {
		free(old);
		return ps__cuda_fail(name, "cudaMalloc", error);
	}
	if (old) {
		*old = (struct cuda_outgrown){q->outgrown, q->copies};
		q->outgrown = old;
	}
	q->copies = more;
	q->copies_bytes = copies;
	return PS_OK;
}

ps_status ps__cuda_gemm(ps_queue *queue, const void *arguments)
{
	const ps_args_gemm *x = arguments;
	struct cuda_queue *q = queue->impl;
	int before;
	PS_TRY(ps__cuda_try_enter(&before, q->device, queue->device->info.name));
	struct product product = product_of(queue, x);
	const struct cuda_gemm_key key = key_of(&product, math_of(queue, x), x);
	struct cuda_plan *plan = NULL;
	pthread_mutex_lock(&q->device->mutex);
	ps_status status = reserve(q, product.copies);
	if (status == PS_OK)
		status = ps__cuda_plan_find(&plan, queue, &key, x->c.dims[0]);
	pthread_mutex_unlock(&q->device->mutex);
	ps__cuda_leave(q->device, before);
	PS_TRY(status);
	product.plan = plan;
	return ps__cuda_enqueue(queue, gemm_runner, &product, sizeof product);
}
