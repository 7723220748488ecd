/* The trial of an algorithm: does a row have the same bits among few rows and among many? */
#include "backends/cuda/gemm.h"

/* What a trial has of its own, so that it disturbs no queue. */
struct trial {
	cudaStream_t stream;
	char *memory;
	/* In memory. */
	int *differ;
	char *a, *b, *bias, *few_c, *many_c, *workspace;
	int64_t a_count, b_count;
	size_t c_bytes; /* of many_c */
};

static char *carve(char *memory, size_t *used, size_t bytes)
{
	char *at = memory ? memory + *used : NULL;
	*used += (bytes + 255) / 256 * 256;
	return at;
}

/* Places everything in `memory`, or with NULL only counts the bytes. */
static size_t place(struct trial *t, const struct cuda_plan *many, ps_dtype factors, size_t workspace, char *memory)
{
	const struct cuda_gemm_key *key = &many->key;
	size_t used = 0;
	t->a_count = many->m * key->lda;
	t->b_count = (key->trans_b ? key->n : key->k) * key->ldb;
	t->c_bytes = (size_t)(many->m * key->ldc) * ps_dtype_bytes(key->dtype);
	t->differ = (void *)carve(memory, &used, sizeof *t->differ);
	t->a = carve(memory, &used, (size_t)t->a_count * ps_dtype_bytes(factors));
	t->b = carve(memory, &used, (size_t)t->b_count * ps_dtype_bytes(factors));
	t->bias = carve(memory, &used, (size_t)key->n * sizeof(float));
	t->few_c = carve(memory, &used, t->c_bytes);
	t->many_c = carve(memory, &used, t->c_bytes);
	t->workspace = carve(memory, &used, workspace);
	return used;
}

static cudaError_t prepare(const struct trial *t, ps_dtype factors, int64_t n)
{
	cudaError_t error = cudaMemsetAsync(t->differ, 0, sizeof *t->differ, t->stream);
	if (error == cudaSuccess)
		error = ps__cuda_numbers(t->stream, factors, t->a, t->a_count);
	if (error == cudaSuccess)
		error = ps__cuda_numbers(t->stream, factors, t->b, t->b_count);
	if (error == cudaSuccess)
		error = ps__cuda_numbers(t->stream, PS_F32, t->bias, n);
	/* What is added to, and what is between rows. */
	if (error == cudaSuccess)
		error = cudaMemsetAsync(t->few_c, 0, t->c_bytes, t->stream);
	if (error == cudaSuccess)
		error = cudaMemsetAsync(t->many_c, 0, t->c_bytes, t->stream);
	return error;
}

static ps_status compare(bool *same, const ps_queue *queue, const struct trial *t, const struct cuda_plan *few,
                         const struct cuda_plan *many, ps_dtype factors)
{
	const struct cuda_gemm_key *key = &many->key;
	const char *name = queue->device->info.name;
	/* The last ones of the many, so that a start at row 0 plays no part. */
	int64_t first = many->m - few->m;
	size_t row_bytes = (size_t)key->ldc * ps_dtype_bytes(key->dtype);
	const char *few_a = t->a + (size_t)(first * key->lda) * ps_dtype_bytes(factors);
	int differ = 0;
	CUDA_TRY(name, prepare(t, factors, key->n));
	ps_status status = ps__cuda_multiply(queue, few, few_a, t->b, t->few_c, t->bias, t->workspace, t->stream);
	if (status == PS_OK)
		status = ps__cuda_multiply(queue, many, t->a, t->b, t->many_c, t->bias, t->workspace, t->stream);
	/* An algorithm that cuBLASLt offers and then refuses is none to take. */
	if (status == PS_ENOTSUP)
		return PS_OK;
	/* A device that has failed says more about it than cuBLASLt does. */
	if (status != PS_OK)
		CUDA_TRY(name, cudaStreamSynchronize(t->stream));
	PS_TRY(status);
	CUDA_TRY(name, ps__cuda_differ(t->stream, t->few_c, t->many_c + (size_t)first * row_bytes,
	                               few->m * (int64_t)row_bytes, t->differ));
	CUDA_TRY(name, cudaMemcpyAsync(&differ, t->differ, sizeof differ, cudaMemcpyDeviceToHost, t->stream));
	CUDA_TRY(name, cudaStreamSynchronize(t->stream));
	*same = !differ;
	return PS_OK;
}

ps_status ps__cuda_plan_try(bool *same, const ps_queue *queue, const struct cuda_plan *few,
                            const struct cuda_plan *many)
{
	const struct cuda_device *device = queue->device->impl;
	ps_dtype factors = many->key.dtype == PS_F64 ? PS_F64 : many->key.math == PS_MATH_BF16 ? PS_BF16 : PS_F32;
	struct trial t = {0};
	size_t bytes = place(&t, many, factors, device->workspace_bytes, NULL);
	*same = false;
	CUDA_TRY(queue->device->info.name, cudaStreamCreateWithFlags(&t.stream, cudaStreamNonBlocking));
	cudaError_t error = cudaMalloc((void **)&t.memory, bytes);
	ps_status status = PS_OK;
	if (error == cudaErrorMemoryAllocation) {
		/* No room for a trial is no reason not to train. */
		(void)cudaGetLastError();
		*same = true;
	} else if (error != cudaSuccess) {
		status = ps__cuda_fail(queue->device->info.name, "cudaMalloc", error);
	} else {
		(void)place(&t, many, factors, device->workspace_bytes, t.memory);
		status = compare(same, queue, &t, few, many, factors);
		/* Whatever happened, nothing uses the memory any more. */
		if (cudaStreamSynchronize(t.stream) != cudaSuccess)
			(void)cudaGetLastError();
	}
	if (cudaFree(t.memory) != cudaSuccess)
		(void)cudaGetLastError();
	if (cudaStreamDestroy(t.stream) != cudaSuccess)
		(void)cudaGetLastError();
	return status;
}
