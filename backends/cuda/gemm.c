/*
 * Products by cuBLASLt, with a cache of plans: descriptors, layouts and algorithm, made once for each shape.
 *
 * cuBLAS is column-major, which a row-major matrix is the transpose of. So c (m, n) = op(a) op(b) is asked for as
 * c^T (n, m) = op(b)^T op(a)^T: b comes first, and its rows of n elements are cuBLAS's columns.
 *
 * A row of c must have the same bits whatever m is. Therefore the algorithm is chosen once for everything but m, for
 * PINNED_ROWS rows, among those that do not split k; every m then uses it. Where it cannot take an m, that shape gets
 * one of its own. The conformance test of rows says on a device whether that is enough.
 *
 * A bf16 product takes its fp32 factors from copies that are rounded first, in memory of the queue. So does a bf16 c
 * with a bias, for cuBLASLt would want that in bf16 too: it is formed in fp32 and rounded at the end.
 */
#include "backends/cuda/cuda.h"

#include <stdlib.h>
#include <string.h>

/* For which m the algorithm is chosen: the middle of what pipelines of micro-batches have. */
enum { PINNED_ROWS = 128, CANDIDATES = 8 };

struct key {
	ps_dtype dtype; /* of c */
	ps_math math;   /* unless c is fp64 */
	int trans_a, trans_b, accumulate, bias;
	int64_t n, k, lda, ldb, ldc;
	uint64_t align_a, align_b, align_c;
};

struct cuda_plan {
	struct cuda_plan *next;
	struct key key;
	int64_t m;
	cublasLtMatmulDesc_t product;
	cublasLtMatrixLayout_t a, b, c;
	cublasLtMatmulAlgo_t algo;
	bool pinned;
};

static cudaDataType_t data_type(ps_dtype dtype)
{
	return dtype == PS_F64 ? CUDA_R_64F : dtype == PS_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* What a and b are multiplied as. */
static cudaDataType_t factor_type(const struct key *key)
{
	return key->dtype == PS_F64 ? CUDA_R_64F : key->math == PS_MATH_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static cublasComputeType_t compute_type(const struct key *key)
{
	if (key->dtype == PS_F64)
		return CUBLAS_COMPUTE_64F;
	return key->math == PS_MATH_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

static ps_status check(const ps_queue *queue, const char *what, cublasStatus_t status)
{
	if (status == CUBLAS_STATUS_SUCCESS)
		return PS_OK;
	return ps_fail(status == CUBLAS_STATUS_ALLOC_FAILED ? PS_ENOMEM : PS_EDEVICE, "gemm on %s: %s: %s",
	               queue->device->info.name, what, ps__cublas_error_name(status));
}

#define LT_TRY(queue, what, call) PS_TRY(check((queue), (what), (call)))

static void plan_free(struct cuda_plan *plan)
{
	if (plan->product)
		cublasLtMatmulDescDestroy(plan->product);
	if (plan->a)
		cublasLtMatrixLayoutDestroy(plan->a);
	if (plan->b)
		cublasLtMatrixLayoutDestroy(plan->b);
	if (plan->c)
		cublasLtMatrixLayoutDestroy(plan->c);
	free(plan);
}

void ps__cuda_plans_free(struct cuda_device *device)
{
	while (device->plans) {
		struct cuda_plan *plan = device->plans;
		device->plans = plan->next;
		plan_free(plan);
	}
}

/* A matrix as it is multiplied: where it lies, or a copy in another dtype in the queue's memory for copies. */
struct operand {
	void *data;
	int64_t stride; /* elements from one row to the next */
	int64_t rows, columns;
	ps_dtype dtype; /* as it is multiplied */
	bool copied;
	size_t at; /* of the copy, in bytes */
	int64_t copy_stride;
};

/* `copies` counts the bytes of the copies. */
static struct operand operand_of(ps_tensor matrix, ps_dtype dtype, size_t *copies)
{
	/* Of a single row the stride is that of the matrix that it is a view of. */
	int64_t stride = matrix.strides[0] > matrix.dims[1] ? matrix.strides[0] : matrix.dims[1];
	struct operand x = {.data = ps__cuda_data(matrix),
	                    .stride = stride,
	                    .rows = matrix.dims[0],
	                    .columns = matrix.dims[1],
	                    .dtype = dtype,
	                    .copied = matrix.dtype != dtype,
	                    .at = *copies,
	                    .copy_stride = stride};
	if (x.copied) {
		x.copy_stride = (x.columns + 7) / 8 * 8;
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
	uint64_t bits = start | (uint64_t)x->copy_stride * ps_dtype_bytes(x->dtype) | 16;
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
	bool bf16 = x->c.dtype != PS_F64 && math_of(queue, x) == PS_MATH_BF16;
	ps_dtype factors = bf16 ? PS_BF16 : x->c.dtype;
	p.a = operand_of(x->a, factors, &p.copies);
	p.b = operand_of(x->b, factors, &p.copies);
	p.c = operand_of(x->c, p.bias && bf16 ? PS_F32 : x->c.dtype, &p.copies);
	return p;
}

/* Can cuBLASLt add the bias? Not in fp64, and in fp32 not from just any address. */
static bool fuses_bias(const struct product *p)
{
	return p->bias && p->c.dtype == PS_F32 && (uintptr_t)p->bias % 16 == 0;
}

static struct key key_of(const struct product *p, ps_math math, const ps_args_gemm *x)
{
	struct key key;
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

static ps_status describe(const ps_queue *queue, struct cuda_plan *plan)
{
	const struct key *key = &plan->key;
	cudaDataType_t scale = key->dtype == PS_F64 ? CUDA_R_64F : CUDA_R_32F;
	cublasOperation_t first = key->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N,
	                  second = key->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
	cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
	LT_TRY(queue, "cublasLtMatmulDescCreate", cublasLtMatmulDescCreate(&plan->product, compute_type(key), scale));
	LT_TRY(queue, "the first transpose",
	       cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first));
	LT_TRY(queue, "the second transpose",
	       cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second));
	if (key->bias)
		LT_TRY(queue, "the bias epilogue",
		       cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
		                                      sizeof epilogue));
	return PS_OK;
}

/* The layouts of a product with m rows. */
static ps_status lay_out(const ps_queue *queue, struct cuda_plan *plan, int64_t m)
{
	const struct key *key = &plan->key;
	cudaDataType_t type = factor_type(key);
	uint64_t n = (uint64_t)key->n, k = (uint64_t)key->k, rows = (uint64_t)m;
	/* A transposed a has m elements in a row, so that its pitch may depend on m. */
	int64_t lda = key->trans_a && key->lda < m ? m : key->lda;
	LT_TRY(queue, "the layout of b",
	       cublasLtMatrixLayoutCreate(&plan->b, type, key->trans_b ? k : n, key->trans_b ? n : k, key->ldb));
	LT_TRY(queue, "the layout of a",
	       cublasLtMatrixLayoutCreate(&plan->a, type, key->trans_a ? rows : k, key->trans_a ? k : rows, lda));
	return check(queue, "the layout of c",
	             cublasLtMatrixLayoutCreate(&plan->c, data_type(key->dtype), n, rows, key->ldc));
}

static ps_status set_preference(const ps_queue *queue, cublasLtMatmulPreference_t preference, const struct key *key)
{
	const struct cuda_device *device = queue->device->impl;
	uint64_t workspace = device->workspace_bytes;
	uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE;
	const struct {
		cublasLtMatmulPreferenceAttributes_t name;
		uint32_t bytes;
	} alignments[] = {
	        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, (uint32_t)key->align_b},
	        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, (uint32_t)key->align_a},
	        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, (uint32_t)key->align_c},
	        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, (uint32_t)key->align_c},
	};
	LT_TRY(queue, "the workspace preference",
	       cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
	                                            sizeof workspace));
	LT_TRY(queue, "the reduction preference",
	       cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
	                                            sizeof schemes));
	for (size_t i = 0; i < sizeof alignments / sizeof *alignments; i++)
		LT_TRY(queue, "the alignment preference",
		       cublasLtMatmulPreferenceSetAttribute(preference, alignments[i].name, &alignments[i].bytes,
		                                            sizeof alignments[i].bytes));
	return PS_OK;
}

static bool splits_k(const cublasLtMatmulAlgo_t *algo)
{
	int32_t parts = 1;
	size_t written;
	return cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, sizeof parts,
	                                            &written) == CUBLAS_STATUS_SUCCESS &&
	       parts > 1;
}

/* Asks for algorithms for the plan's layouts and takes the first that does not split k. */
static ps_status choose(const ps_queue *queue, struct cuda_plan *plan)
{
	const struct cuda_device *device = queue->device->impl;
	cublasLtMatmulPreference_t preference;
	cublasLtMatmulHeuristicResult_t results[CANDIDATES];
	int count = 0;
	LT_TRY(queue, "cublasLtMatmulPreferenceCreate", cublasLtMatmulPreferenceCreate(&preference));
	ps_status status = set_preference(queue, preference, &plan->key);
	if (status == PS_OK)
		status = check(queue, "cublasLtMatmulAlgoGetHeuristic",
		               cublasLtMatmulAlgoGetHeuristic(device->lt, plan->product, plan->b, plan->a, plan->c,
		                                              plan->c, preference, CANDIDATES, results, &count));
	cublasLtMatmulPreferenceDestroy(preference);
	PS_TRY(status);
	for (int i = 0; i < count; i++)
		if (results[i].state == CUBLAS_STATUS_SUCCESS && !splits_k(&results[i].algo)) {
			plan->algo = results[i].algo;
			return PS_OK;
		}
	return ps_fail(PS_ENOTSUP,
	               "gemm on %s: cuBLASLt has no algorithm for n %lld, k %lld in %s that does not split k",
	               queue->device->info.name, (long long)plan->key.n, (long long)plan->key.k,
	               ps_dtype_name(plan->key.dtype));
}

static bool can_use(const struct cuda_device *device, const struct cuda_plan *plan, const cublasLtMatmulAlgo_t *algo)
{
	cublasLtMatmulHeuristicResult_t result;
	return cublasLtMatmulAlgoCheck(device->lt, plan->product, plan->b, plan->a, plan->c, plan->c, algo, &result) ==
	               CUBLAS_STATUS_SUCCESS &&
	       result.workspaceSize <= device->workspace_bytes;
}

/* The algorithm that is pinned for everything but m, from a plan that has it or from a trial with PINNED_ROWS rows. */
static ps_status pin(const ps_queue *queue, struct cuda_plan *plan)
{
	const struct cuda_device *device = queue->device->impl;
	const struct cuda_plan *other = device->plans;
	while (other && !(other->pinned && !memcmp(&other->key, &plan->key, sizeof plan->key)))
		other = other->next;
	struct cuda_plan trial = {.key = plan->key, .product = plan->product};
	ps_status status = PS_OK;
	if (other) {
		trial.algo = other->algo;
	} else {
		status = lay_out(queue, &trial, PINNED_ROWS);
		if (status == PS_OK)
			status = choose(queue, &trial);
		if (trial.a)
			cublasLtMatrixLayoutDestroy(trial.a);
		if (trial.b)
			cublasLtMatrixLayoutDestroy(trial.b);
		if (trial.c)
			cublasLtMatrixLayoutDestroy(trial.c);
	}
	if (status == PS_OK && can_use(device, plan, &trial.algo)) {
		plan->algo = trial.algo;
		plan->pinned = true;
		return PS_OK;
	}
	return status == PS_OK || status == PS_ENOTSUP ? choose(queue, plan) : status;
}

static ps_status plan_create(struct cuda_plan **out, const ps_queue *queue, const struct key *key, int64_t m)
{
	struct cuda_device *device = queue->device->impl;
	struct cuda_plan *plan = calloc(1, sizeof *plan);
	if (!plan)
		return ps_fail(PS_ENOMEM, "gemm on %s: out of memory for a plan", queue->device->info.name);
	memcpy(&plan->key, key, sizeof *key);
	plan->m = m;
	ps_status status = describe(queue, plan);
	if (status == PS_OK)
		status = lay_out(queue, plan, m);
	if (status == PS_OK)
		status = pin(queue, plan);
	if (status != PS_OK) {
		plan_free(plan);
		return status;
	}
	plan->next = device->plans;
	device->plans = plan;
	*out = plan;
	return PS_OK;
}

/* The caller holds the device's mutex. */
static ps_status find_plan(struct product *p, ps_queue *queue, const ps_args_gemm *x)
{
	struct cuda_device *device = queue->device->impl;
	struct key key = key_of(p, math_of(queue, x), x);
	int64_t m = x->c.dims[0];
	ps_status status = PS_OK;
	struct cuda_plan *plan = device->plans;
	while (plan && !(plan->m == m && !memcmp(&plan->key, &key, sizeof key)))
		plan = plan->next;
	if (!plan)
		status = plan_create(&plan, queue, &key, m);
	p->plan = plan;
	return status;
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
	cudaError_t error = (x->dtype == PS_BF16 ? ps__cuda_narrow : ps__cuda_widen)(
	        launch, data_of(q, x), x->copy_stride, x->data, x->stride, x->rows, x->columns);
	return error == cudaSuccess ? PS_OK : ps__cuda_fail(q->queue->device->info.name, "gemm", error);
}

/* The factors' copies, and what is in c before the product. */
static ps_status prepare(struct cuda_queue *q, const struct product *p, const struct ps_cuda_launch *launch)
{
	const struct key *key = &p->plan->key;
	PS_TRY(copy_in(q, launch, &p->a));
	PS_TRY(copy_in(q, launch, &p->b));
	if (p->accumulate)
		PS_TRY(copy_in(q, launch, &p->c));
	if (p->bias && !key->bias)
		CUDA_TRY(q->queue->device->info.name, ps__cuda_set_rows(launch, data_of(q, &p->c), key->ldc, p->bias,
		                                                        p->plan->m, key->n, p->accumulate));
	return PS_OK;
}

/* The caller holds the device's mutex. */
static ps_status multiply(struct cuda_queue *q, const struct product *p)
{
	const struct cuda_plan *plan = p->plan;
	const float one = 1, zero = 0;
	const double one64 = 1, zero64 = 0;
	bool wide = plan->key.dtype == PS_F64, add = plan->key.accumulate;
	const void *alpha = wide ? (const void *)&one64 : &one;
	const void *beta = wide ? (const void *)(add ? &one64 : &zero64) : add ? &one : &zero;
	const struct ps_cuda_launch launch = {.stream = q->stream, .dtype = plan->key.dtype, .stop = q->stop};
	void *c = data_of(q, &p->c);
	PS_TRY(prepare(q, p, &launch));
	/* The pointer of the bias is part of the description, which queues share. */
	if (plan->key.bias)
		LT_TRY(q->queue, "the bias",
		       cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias,
		                                      sizeof p->bias));
	LT_TRY(q->queue, "cublasLtMatmul",
	       cublasLtMatmul(q->device->lt, plan->product, alpha, data_of(q, &p->b), plan->b, data_of(q, &p->a),
	                      plan->a, beta, c, plan->c, c, plan->c, &plan->algo, q->workspace,
	                      q->device->workspace_bytes, q->stream));
	if (p->c.copied)
		CUDA_TRY(q->queue->device->info.name, ps__cuda_narrow(&launch, p->c.data, p->c.stride, c,
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

/* Memory for cuBLASLt and for copies; the caller holds the device's mutex. Only what is recorded first makes any. */
static ps_status reserve(struct cuda_queue *q, size_t copies)
{
	const char *name = q->queue->device->info.name;
	void *more;
	if (!q->workspace)
		CUDA_TRY(name, cudaMalloc(&q->workspace, q->device->workspace_bytes));
	if (q->copies_bytes >= copies)
		return PS_OK;
	CUDA_TRY(name, cudaMalloc(&more, copies));
	void *old = q->copies;
	q->copies = more;
	q->copies_bytes = copies;
	if (!old)
		return PS_OK;
	CUDA_TRY(name, cudaStreamSynchronize(q->stream));
	CUDA_TRY(name, cudaFree(old));
	return PS_OK;
}

ps_status ps__cuda_gemm(ps_queue *queue, const void *arguments)
{
	const ps_args_gemm *x = arguments;
	struct cuda_queue *q = queue->impl;
	int before;
	CUDA_TRY(queue->device->info.name, ps__cuda_enter(&before, q->device));
	struct product product = product_of(queue, x);
	pthread_mutex_lock(&q->device->mutex);
	ps_status status = reserve(q, product.copies);
	if (status == PS_OK)
		status = find_plan(&product, queue, x);
	pthread_mutex_unlock(&q->device->mutex);
	ps__cuda_leave(before);
	PS_TRY(status);
	return ps__cuda_enqueue(queue, gemm_runner, &product, sizeof product);
}
