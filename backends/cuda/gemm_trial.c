/* Trials of algorithms: does a row have the same bits among one number of rows as among another? */
#include "backends/cuda/gemm.h"

static char *carve(char *memory, size_t *used, size_t bytes)
{
	char *at = memory ? memory + *used : NULL;
	*used += (bytes + 255) / 256 * 256;
	return at;
}

/* Places everything in `memory`, or with NULL only counts the bytes. */
static size_t place(struct cuda_trial *t, char *memory)
{
	const struct cuda_gemm_key *key = t->key;
	const struct cuda_device *device = t->queue->device->impl;
	size_t used = 0;
	t->factors = key->dtype == PS_F64 ? PS_F64 : key->math == PS_MATH_BF16 ? PS_BF16 : PS_F32;
	t->a_count = t->rows * key->lda;
	t->b_count = (key->trans_b ? key->n : key->k) * key->ldb;
	t->c_bytes = (size_t)(t->rows * key->ldc) * ps_dtype_bytes(key->dtype);
	t->differ = (void *)carve(memory, &used, sizeof *t->differ);
	t->a = carve(memory, &used, (size_t)t->a_count * ps_dtype_bytes(t->factors));
	t->b = carve(memory, &used, (size_t)t->b_count * ps_dtype_bytes(t->factors));
	t->bias = carve(memory, &used, (size_t)key->n * sizeof(float));
	t->base_c = carve(memory, &used, t->c_bytes);
	t->other_c = carve(memory, &used, t->c_bytes);
	t->workspace = carve(memory, &used, device->workspace_bytes);
	return used;
}

static cudaError_t fill(const struct cuda_trial *t)
{
	cudaError_t error = ps__cuda_numbers(t->stream, t->factors, t->a, t->a_count);
	if (error == cudaSuccess)
		error = ps__cuda_numbers(t->stream, t->factors, t->b, t->b_count);
	if (error == cudaSuccess)
		error = ps__cuda_numbers(t->stream, PS_F32, t->bias, t->key->n);
	return error;
}

ps_status ps__cuda_trial_begin(struct cuda_trial *t, const ps_queue *queue, const struct cuda_gemm_key *key,
                               int64_t rows)
{
	const char *name = queue->device->info.name;
	*t = (struct cuda_trial){.queue = queue, .key = key, .rows = rows};
	CUDA_TRY(name, cudaStreamCreateWithFlags(&t->stream, cudaStreamNonBlocking));
	cudaError_t error = cudaMalloc((void **)&t->memory, place(t, NULL));
	if (error != cudaSuccess)
		t->memory = NULL;
	if (error == cudaErrorMemoryAllocation) {
		/* No room for a trial is no reason not to train. */
		(void)cudaGetLastError();
		return PS_OK;
	}
	if (error != cudaSuccess)
		return ps__cuda_fail(name, "cudaMalloc", error);
	(void)place(t, t->memory);
	error = fill(t);
	return error == cudaSuccess ? PS_OK : ps__cuda_fail(name, "gemm", error);
}

void ps__cuda_trial_end(struct cuda_trial *t)
{
	if (!t->stream)
		return;
	/* Whatever happened, nothing uses the memory any more. */
	if (cudaStreamSynchronize(t->stream) != cudaSuccess)
		(void)cudaGetLastError();
	if (cudaFree(t->memory) != cudaSuccess)
		(void)cudaGetLastError();
	if (cudaStreamDestroy(t->stream) != cudaSuccess)
		(void)cudaGetLastError();
}

/* The plan's product of the last rows, so that a start at row 0 plays no part. *done: cuBLASLt did not refuse it. */
static ps_status multiply(bool *done, const struct cuda_trial *t, const struct cuda_plan *plan, char *c)
{
	const char *name = t->queue->device->info.name;
	int64_t first = t->rows - plan->m;
	const char *a = t->a + (size_t)(first * t->key->lda) * ps_dtype_bytes(t->factors);
	/* What is added to, and what is between rows. */
	CUDA_TRY(name, cudaMemsetAsync(c, 0, t->c_bytes, t->stream));
	ps_status status = ps__cuda_multiply(t->queue, plan, a, t->b, c, t->bias, t->workspace, t->stream);
	*done = status == PS_OK;
	/* An algorithm that cuBLASLt offers and then refuses is none to take. */
	if (status == PS_ENOTSUP)
		return PS_OK;
	/* A device that has failed says more about it than cuBLASLt does. */
	if (status != PS_OK)
		CUDA_TRY(name, cudaStreamSynchronize(t->stream));
	return status;
}

ps_status ps__cuda_trial_base(bool *done, const struct cuda_trial *t, const struct cuda_plan *base)
{
	*done = true;
	return t->memory ? multiply(done, t, base, t->base_c) : PS_OK;
}

ps_status ps__cuda_trial_other(bool *same, const struct cuda_trial *t, const struct cuda_plan *base,
                               const struct cuda_plan *other)
{
	const char *name = t->queue->device->info.name;
	size_t row_bytes = (size_t)t->key->ldc * ps_dtype_bytes(t->key->dtype);
	int64_t rows = base->m < other->m ? base->m : other->m;
	int differ = 0;
	bool done = false;
	*same = !t->memory;
	if (*same)
		return PS_OK;
	PS_TRY(multiply(&done, t, other, t->other_c));
	if (!done)
		return PS_OK;
	CUDA_TRY(name, cudaMemsetAsync(t->differ, 0, sizeof *t->differ, t->stream));
	CUDA_TRY(name, ps__cuda_differ(t->stream, t->base_c + (size_t)(base->m - rows) * row_bytes,
	                               t->other_c + (size_t)(other->m - rows) * row_bytes, rows * (int64_t)row_bytes,
	                               t->differ));
	CUDA_TRY(name, cudaMemcpyAsync(&differ, t->differ, sizeof differ, cudaMemcpyDeviceToHost, t->stream));
	CUDA_TRY(name, cudaStreamSynchronize(t->stream));
	*same = !differ;
	return PS_OK;
}
