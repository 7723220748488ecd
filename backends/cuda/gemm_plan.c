/*
 * The plans of products: descriptors, layouts and algorithm, made once for each shape.
 *
 * A row of c must have the same bits whatever m is. Therefore the algorithm is chosen once for everything but m, for
 * PINNED_ROWS rows, among those that do not split k; every m then uses it. An algorithm may still add up a row in
 * another order among other numbers of rows. So each is tried, on numbers made for it: FEW_ROWS rows, and as
 * many as are asked for, must have the bits that they have among PINNED_ROWS. The first candidate for which that holds
 * is taken; where it holds for none, or not for an m that comes later, the queue's note says so.
 *
 * A product whose a is transposed is the gradient of weights, whose m is a layer's width and never varies: it gets the
 * algorithm for its own m.
 */
#include "backends/cuda/gemm.h"

#include <stdlib.h>
#include <string.h>

/* For which m the algorithm is chosen: the middle of what pipelines of micro-batches have. */
enum { PINNED_ROWS = 128, FEW_ROWS = 25, CANDIDATES = 8 };

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
	return ps_fail(status == CUBLAS_STATUS_ALLOC_FAILED    ? PS_ENOMEM
	               : status == CUBLAS_STATUS_NOT_SUPPORTED ? PS_ENOTSUP
	                                                       : PS_EDEVICE,
	               "gemm on %s: %s: %s", queue->device->info.name, what, ps__cublas_error_name(status));
}

static void layouts_free(struct cuda_plan *plan)
{
	if (plan->a)
		cublasLtMatrixLayoutDestroy(plan->a);
	if (plan->b)
		cublasLtMatrixLayoutDestroy(plan->b);
	if (plan->c)
		cublasLtMatrixLayoutDestroy(plan->c);
}

static void plan_free(struct cuda_plan *plan)
{
	if (plan->product)
		cublasLtMatmulDescDestroy(plan->product);
	layouts_free(plan);
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

/* The layouts of a product with plan->m rows. */
static ps_status lay_out(const ps_queue *queue, struct cuda_plan *plan)
{
	const struct cuda_gemm_key *key = &plan->key;
	cudaDataType_t type = factor_type(key);
	uint64_t n = (uint64_t)key->n, k = (uint64_t)key->k, rows = (uint64_t)plan->m;
	LT_TRY(queue, "the layout of b",
	       cublasLtMatrixLayoutCreate(&plan->b, type, key->trans_b ? k : n, key->trans_b ? n : k, key->ldb));
	LT_TRY(queue, "the layout of a",
	       cublasLtMatrixLayoutCreate(&plan->a, type, key->trans_a ? rows : k, key->trans_a ? k : rows, key->lda));
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

/* Algorithms for the plan's layouts that do not split k, those that cuBLASLt thinks best first. */
static ps_status find_candidates(const ps_queue *queue, const struct cuda_plan *plan,
                                 cublasLtMatmulAlgo_t candidates[CANDIDATES], int *count)
{
	const struct cuda_device *device = queue->device->impl;
	cublasLtMatmulPreference_t preference;
	cublasLtMatmulHeuristicResult_t results[CANDIDATES];
	/* The pointer of a bias counts here as one as aligned as any will be, and is not followed. */
	static const _Alignas(256) char aligned[2 * CUDA_GEMM_ALIGNMENT];
	const void *bias = aligned + CUDA_GEMM_ALIGNMENT;
	int found = 0;
	*count = 0;
	if (plan->key.bias)
		LT_TRY(queue, "the bias",
		       cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
		                                      sizeof bias));
	LT_TRY(queue, "cublasLtMatmulPreferenceCreate", cublasLtMatmulPreferenceCreate(&preference));
	ps_status status = set_preference(queue, preference, &plan->key);
	if (status == PS_OK)
		status = ps__cuda_gemm_check(queue, "cublasLtMatmulAlgoGetHeuristic",
		                             cublasLtMatmulAlgoGetHeuristic(device->lt, plan->product, plan->b, plan->a,
		                                                            plan->c, plan->c, preference, CANDIDATES,
		                                                            results, &found));
	cublasLtMatmulPreferenceDestroy(preference);
	PS_TRY(status);
	for (int i = 0; i < found; i++)
		if (results[i].state == CUBLAS_STATUS_SUCCESS && !splits_k(&results[i].algo))
			candidates[(*count)++] = results[i].algo;
	if (*count > 0)
		return PS_OK;
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

/* The algorithm that is best for the plan alone: the first that cuBLASLt takes back. */
static ps_status choose(const ps_queue *queue, struct cuda_plan *plan)
{
	cublasLtMatmulAlgo_t candidates[CANDIDATES];
	int count, i = 0;
	PS_TRY(find_candidates(queue, plan, candidates, &count));
	while (i + 1 < count && !can_use(queue->device->impl, plan, &candidates[i]))
		i++;
	plan->algo = candidates[i];
	return PS_OK;
}

/* Do m rows have the bits that they have among those of `base`, which was multiplied by its algorithm? */
static ps_status agrees(bool *same, const struct cuda_trial *trial, const struct cuda_plan *base, int64_t m)
{
	const struct cuda_device *device = trial->queue->device->impl;
	struct cuda_plan other = {.key = base->key, .m = m, .product = base->product, .algo = base->algo};
	*same = m == base->m;
	if (*same)
		return PS_OK;
	ps_status status = lay_out(trial->queue, &other);
	if (status == PS_OK && can_use(device, &other, &other.algo))
		status = ps__cuda_trial_other(same, trial, base, &other);
	layouts_free(&other);
	return status;
}

static void tell(ps_queue *queue, const struct cuda_plan *plan)
{
	ps__queue_note(
	        queue,
	        "cuBLASLt has no algorithm for products with n %lld, k %lld that gives a row the same bits among "
	        "%lld rows as among %d: results depend on the micro-batches",
	        (long long)plan->key.n, (long long)plan->key.k, (long long)plan->m, PINNED_ROWS);
}

/* Gives base the first candidate that also holds for m rows, or the first that multiplies at all; then *same is false.
 */
static ps_status choose_for_all(bool *same, const struct cuda_trial *trial, struct cuda_plan *base, int64_t m)
{
	cublasLtMatmulAlgo_t candidates[CANDIDATES];
	int count, otherwise = -1;
	PS_TRY(find_candidates(trial->queue, base, candidates, &count));
	for (int i = 0; i < count; i++) {
		base->algo = candidates[i];
		PS_TRY(ps__cuda_trial_base(same, trial, base));
		if (*same && otherwise < 0)
			otherwise = i;
		if (*same)
			PS_TRY(agrees(same, trial, base, m));
		if (*same && m != FEW_ROWS)
			PS_TRY(agrees(same, trial, base, FEW_ROWS));
		if (*same)
			return PS_OK;
	}
	base->algo = candidates[otherwise < 0 ? 0 : otherwise];
	return PS_OK;
}

/* Gives base the algorithm of the plans with its key, or where there are none one that is good for all m. */
static ps_status pin_base(bool *same, const ps_queue *queue, struct cuda_plan *base, int64_t m)
{
	const struct cuda_device *device = queue->device->impl;
	const struct cuda_plan *known = device->plans;
	struct cuda_trial trial;
	while (known && !(known->pinned && !memcmp(&known->key, &base->key, sizeof base->key)))
		known = known->next;
	*same = known && m == base->m;
	if (known)
		base->algo = known->algo;
	if (*same)
		return PS_OK;
	ps_status status = ps__cuda_trial_begin(&trial, queue, &base->key, m > base->m ? m : base->m);
	if (status == PS_OK && known) {
		status = ps__cuda_trial_base(same, &trial, base);
		if (status == PS_OK && *same)
			status = agrees(same, &trial, base, m);
	} else if (status == PS_OK) {
		status = choose_for_all(same, &trial, base, m);
	}
	ps__cuda_trial_end(&trial);
	return status;
}

/* Gives the plan the algorithm of all m, and says so where its rows have other bits by it. */
static ps_status pin(ps_queue *queue, struct cuda_plan *plan, struct cuda_plan *base)
{
	bool same = false;
	ps_status status = lay_out(queue, base);
	if (status == PS_OK)
		status = pin_base(&same, queue, base, plan->m);
	if (status == PS_OK && !same)
		tell(queue, plan);
	if (status == PS_OK && can_use(queue->device->impl, plan, &base->algo)) {
		plan->algo = base->algo;
		plan->pinned = true;
		return PS_OK;
	}
	return status == PS_OK || status == PS_ENOTSUP ? choose(queue, plan) : status;
}

static ps_status find_algorithm(ps_queue *queue, struct cuda_plan *plan)
{
	if (plan->key.trans_a)
		return choose(queue, plan);
	struct cuda_plan base = {.key = plan->key, .m = PINNED_ROWS, .product = plan->product};
	ps_status status = pin(queue, plan, &base);
	layouts_free(&base);
	return status;
}

static ps_status plan_create(struct cuda_plan **out, ps_queue *queue, const struct cuda_gemm_key *key, int64_t m)
{
	struct cuda_device *device = queue->device->impl;
	struct cuda_plan *plan = calloc(1, sizeof *plan);
	if (!plan)
		return ps_fail(PS_ENOMEM, "gemm on %s: out of memory for a plan", queue->device->info.name);
	memcpy(&plan->key, key, sizeof *key);
	plan->m = m;
	ps_status status = describe(queue, plan);
	if (status == PS_OK)
		status = lay_out(queue, plan);
	if (status == PS_OK)
		status = find_algorithm(queue, plan);
	if (status != PS_OK) {
		plan_free(plan);
		return status;
	}
	plan->next = device->plans;
	device->plans = plan;
	*out = plan;
	return PS_OK;
}

ps_status ps__cuda_plan_find(struct cuda_plan **out, ps_queue *queue, const struct cuda_gemm_key *key, int64_t m)
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
