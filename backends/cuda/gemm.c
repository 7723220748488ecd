/*
 * Products by cuBLASLt, with a cache of plans: descriptors, layouts and algorithm, made once for each shape.
 *
 * cuBLAS is column-major, which a row-major matrix is the transpose of. So c (m, n) = op(a) op(b) is asked for as
 * c^T (n, m) = op(b)^T op(a)^T: b comes first, and its rows of n elements are cuBLAS's columns.
 *
 * A row of c must have the same bits whatever m is. Therefore the algorithm is chosen once for everything but m, for
 * PINNED_ROWS rows, among those that do not split k; every m then uses it. Where it cannot take an m, that shape gets
 * one of its own. The conformance test of rows says on a device whether that is enough.
 */
#include "backends/cuda/cuda.h"

#include <stdlib.h>
#include <string.h>

/* For which m the algorithm is chosen: the middle of what pipelines of micro-batches have. */
enum { PINNED_ROWS = 128, CANDIDATES = 8 };

struct key {
	ps_dtype dtype;
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
	return dtype == PS_F64 ? CUDA_R_64F : CUDA_R_32F;
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

/* The elements from one row to the next; of a single row, those of the matrix that it is a view of. */
static int64_t pitch(ps_tensor matrix)
{
	return matrix.strides[0] > matrix.dims[1] ? matrix.strides[0] : matrix.dims[1];
}

/*
 * What the start of every row is aligned to, at most 16 bytes: it does not change with the row that a view starts at,
 * as long as the whole is aligned no worse.
 */
static uint64_t alignment(ps_tensor matrix)
{
	uint64_t bits = (uint64_t)(uintptr_t)ps__cuda_data(matrix) |
	                (uint64_t)pitch(matrix) * ps_dtype_bytes(matrix.dtype) | 16;
	return bits & (~bits + 1);
}

/* Can cuBLASLt add the bias? Not in fp64, and in fp32 not from just any address. */
static bool fuses_bias(const ps_args_gemm *x)
{
	return ps_tensor_present(x->bias) && x->c.dtype == PS_F32 && (uintptr_t)ps__cuda_data(x->bias) % 16 == 0;
}

static struct key key_of(const ps_args_gemm *x)
{
	struct key key;
	memset(&key, 0, sizeof key); /* padding too: keys are compared as bytes */
	key.dtype = x->c.dtype;
	key.trans_a = x->trans_a;
	key.trans_b = x->trans_b;
	key.bias = fuses_bias(x);
	/* A bias that is not fused is in c before the product. */
	key.accumulate = x->accumulate || (ps_tensor_present(x->bias) && !key.bias);
	key.n = x->c.dims[1];
	key.k = x->trans_a ? x->a.dims[0] : x->a.dims[1];
	key.lda = pitch(x->a);
	key.ldb = pitch(x->b);
	key.ldc = pitch(x->c);
	key.align_a = alignment(x->a);
	key.align_b = alignment(x->b);
	key.align_c = alignment(x->c);
	return key;
}

static ps_status describe(const ps_queue *queue, struct cuda_plan *plan)
{
	const struct key *key = &plan->key;
	cudaDataType_t type = data_type(key->dtype);
	cublasComputeType_t compute = key->dtype == PS_F64 ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F;
	cublasOperation_t first = key->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N,
	                  second = key->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
	cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
	LT_TRY(queue, "cublasLtMatmulDescCreate", cublasLtMatmulDescCreate(&plan->product, compute, type));
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
	cudaDataType_t type = data_type(key->dtype);
	uint64_t n = (uint64_t)key->n, k = (uint64_t)key->k, rows = (uint64_t)m;
	/* A transposed a has m elements in a row, so that its pitch may depend on m. */
	int64_t lda = key->trans_a && key->lda < m ? m : key->lda;
	LT_TRY(queue, "the layout of b",
	       cublasLtMatrixLayoutCreate(&plan->b, type, key->trans_b ? k : n, key->trans_b ? n : k, key->ldb));
	LT_TRY(queue, "the layout of a",
	       cublasLtMatrixLayoutCreate(&plan->a, type, key->trans_a ? rows : k, key->trans_a ? k : rows, lda));
	return check(queue, "the layout of c", cublasLtMatrixLayoutCreate(&plan->c, type, n, rows, key->ldc));
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

static ps_status find_plan(struct cuda_plan **out, ps_queue *queue, const ps_args_gemm *x)
{
	struct cuda_device *device = queue->device->impl;
	struct key key = key_of(x);
	int64_t m = x->c.dims[0];
	ps_status status = PS_OK;
	pthread_mutex_lock(&device->mutex);
	struct cuda_plan *plan = device->plans;
	while (plan && !(plan->m == m && !memcmp(&plan->key, &key, sizeof key)))
		plan = plan->next;
	if (!plan)
		status = plan_create(&plan, queue, &key, m);
	pthread_mutex_unlock(&device->mutex);
	*out = plan;
	return status;
}

struct product {
	const struct cuda_plan *plan;
	const void *a, *b, *bias;
	void *c;
	bool accumulate;
};

/* Writes the bias into c, or adds it there. */
static ps_status set_rows(struct cuda_queue *q, const struct product *x)
{
	const struct key *key = &x->plan->key;
	struct ps_cuda_launch launch = {.stream = q->stream, .dtype = key->dtype, .stop = q->stop};
	CUDA_TRY(q->queue->device->info.name,
	         ps__cuda_set_rows(&launch, x->c, key->ldc, x->bias, x->plan->m, key->n, x->accumulate));
	return PS_OK;
}

static ps_status gemm_runner(struct cuda_queue *q, const void *arguments)
{
	const struct product *x = arguments;
	const struct cuda_plan *plan = x->plan;
	const float one = 1, zero = 0;
	const double one64 = 1, zero64 = 0;
	bool wide = plan->key.dtype == PS_F64, add = plan->key.accumulate;
	const void *alpha = wide ? (const void *)&one64 : &one;
	const void *beta = wide ? (const void *)(add ? &one64 : &zero64) : add ? &one : &zero;
	(void)ps__cuda_flight(q, false);
	if (x->bias && !plan->key.bias)
		PS_TRY(set_rows(q, x));
	/* The pointer of the bias is part of the description; plans are shared by queues, so that it is locked. */
	pthread_mutex_lock(&q->device->mutex);
	cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
	if (plan->key.bias)
		status = cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &x->bias,
		                                        sizeof x->bias);
	if (status == CUBLAS_STATUS_SUCCESS)
		status = cublasLtMatmul(q->device->lt, plan->product, alpha, x->b, plan->b, x->a, plan->a, beta, x->c,
		                        plan->c, x->c, plan->c, &plan->algo, q->workspace, q->device->workspace_bytes,
		                        q->stream);
	pthread_mutex_unlock(&q->device->mutex);
	return check(q->queue, "cublasLtMatmul", status);
}

static ps_status make_workspace(ps_queue *queue)
{
	struct cuda_queue *q = queue->impl;
	if (q->workspace)
		return PS_OK;
	CUDA_TRY(queue->device->info.name, cudaMalloc(&q->workspace, q->device->workspace_bytes));
	return PS_OK;
}

ps_status ps__cuda_gemm(ps_queue *queue, const void *arguments)
{
	const ps_args_gemm *x = arguments;
	struct cuda_plan *plan;
	int before;
	CUDA_TRY(queue->device->info.name, ps__cuda_enter(&before, queue->device->impl));
	ps_status status = make_workspace(queue);
	if (status == PS_OK)
		status = find_plan(&plan, queue, x);
	ps__cuda_leave(before);
	PS_TRY(status);
	struct product product = {.plan = plan,
	                          .a = ps__cuda_data(x->a),
	                          .b = ps__cuda_data(x->b),
	                          .bias = ps__cuda_data(x->bias),
	                          .c = ps__cuda_data(x->c),
	                          .accumulate = x->accumulate};
	return ps__cuda_enqueue(queue, gemm_runner, &product, sizeof product);
}
