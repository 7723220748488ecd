/*
 * The plans of products: descriptors, layouts and algorithm, made once for each shape.
 *
 * A row of c must have the same bits whatever m is. Therefore the algorithm is chosen once for everything but m, for
 * PINNED_ROWS rows, among those that do not split k; every m then uses it. Where it cannot take an m, that shape gets
 * one of its own. The conformance test of rows says on a device whether that is enough.
 */
#include "backends/cuda/gemm.h"

#include <stdlib.h>
#include <string.h>

/* For which m the algorithm is chosen: the middle of what pipelines of micro-batches have. */
enum { PINNED_ROWS = 128, CANDIDATES = 8 };

static cudaDataType_t data_type(ps_dtype dtype)
{
	return dtype == PS_F64 ? CUDA_R_64F : dtype == PS_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* What a and b are multiplied as. */
static cudaDataType_t factor_type(const struct cuda_gemm_key *key)
{
	return key->dtype == PS_F64 ? CUDA_R_64F : key->math == PS_MATH_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static cublasComputeType_t compute_type(const struct cuda_gemm_key *key)
{
	if (key->dtype == PS_F64)
		return CUBLAS_COMPUTE_64F;
	return key->math == PS_MATH_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

ps_status ps__cuda_gemm_check(const ps_queue *queue, const char *what, cublasStatus_t status)
{
	if (status == CUBLAS_STATUS_SUCCESS)
		return PS_OK;
	return ps_fail(status == CUBLAS_STATUS_ALLOC_FAILED ? PS_ENOMEM : PS_EDEVICE, "gemm on %s: %s: %s",
	               queue->device->info.name, what, ps__cublas_error_name(status));
}

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

static ps_status describe(const ps_queue *queue, struct cuda_plan *plan)
{
	const struct cuda_gemm_key *key = &plan->key;
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
	const struct cuda_gemm_key *key = &plan->key;
	cudaDataType_t type = factor_type(key);
	uint64_t n = (uint64_t)key->n, k = (uint64_t)key->k, rows = (uint64_t)m;
	/* A transposed a has m elements in a row, so that its pitch may depend on m. */
	int64_t lda = key->trans_a && key->lda < m ? m : key->lda;
	LT_TRY(queue, "the layout of b",
	       cublasLtMatrixLayoutCreate(&plan->b, type, key->trans_b ? k : n, key->trans_b ? n : k, key->ldb));
	LT_TRY(queue, "the layout of a",
	       cublasLtMatrixLayoutCreate(&plan->a, type, key->trans_a ? rows : k, key->trans_a ? k : rows, lda));
	return ps__cuda_gemm_check(queue, "the layout of c",
	                           cublasLtMatrixLayoutCreate(&plan->c, data_type(key->dtype), n, rows, key->ldc));
}

static ps_status set_preference(const ps_queue *queue, cublasLtMatmulPreference_t preference,
                                const struct cuda_gemm_key *key)
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
		status = ps__cuda_gemm_check(queue, "cublasLtMatmulAlgoGetHeuristic",
		                             cublasLtMatmulAlgoGetHeuristic(device->lt, plan->product, plan->b, plan->a,
		                                                            plan->c, plan->c, preference, CANDIDATES,
		                                                            results, &count));
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

static ps_status plan_create(struct cuda_plan **out, const ps_queue *queue, const struct cuda_gemm_key *key, int64_t m)
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

ps_status ps__cuda_plan_find(struct cuda_plan **out, const ps_queue *queue, const struct cuda_gemm_key *key, int64_t m)
{
	const struct cuda_device *device = queue->device->impl;
	struct cuda_plan *plan = device->plans;
	while (plan && !(plan->m == m && !memcmp(&plan->key, key, sizeof *key)))
		plan = plan->next;
	if (!plan)
		return plan_create(out, queue, key, m);
	*out = plan;
	return PS_OK;
}
