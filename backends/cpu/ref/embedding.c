/* Reference embedding with positions. */
#include "backends/cpu/ref/ref.h"

#include <inttypes.h>
#include <stdlib.h>

/* Fails unless all tokens (rows, time) are in [0, V); nothing has been written when it does. */
static ps_status check_tokens(const char *op, ps_tensor tokens, int64_t vocabulary)
{
	const int32_t *token = ps__cpu_data(tokens);
	int64_t time = tokens.dims[1], count = ps_tensor_count(tokens);
	for (int64_t i = 0; i < count; i++)
		if (token[i] < 0 || token[i] >= vocabulary)
			return ps_fail(PS_EINVAL,
			               "%s: row %" PRId64 ", position %" PRId64 " has token %" PRId32
			               ", which should be at least 0 and below %" PRId64,
			               op, i / time, i % time, token[i], vocabulary);
	return PS_OK;
}

static ps_status embedding_fwd_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_args_embedding_fwd *x = arguments;
	PS_TRY(check_tokens("embedding_fwd", x->tokens, x->weight.dims[0]));
	const int32_t *token = ps__cpu_data(x->tokens);
	struct ref_mask mask = ref_mask_start(&x->drop, x->y.dtype);
	int64_t rows = x->y.dims[0], time = x->y.dims[1], width = x->y.dims[2];
	for (int64_t r = 0; r < rows; r++)
		for (int64_t t = 0; t < time; t++)
			for (int64_t e = 0; e < width; e++) {
				int64_t at = token[r * time + t] * x->weight.strides[0] + e;
				double value = ref_get(x->weight, at) * (double)x->scale +
				               ref_get(x->positions, t * x->positions.strides[0] + e);
				ref_set(x->y, (r * time + t) * width + e,
				        ref_mask_apply(&mask, r, t * width + e, value));
			}
	return PS_OK;
}
REF_OP(embedding_fwd)

struct occurrence {
	int32_t token;
	int64_t at; /* row * time + position */
};

static int by_token_then_place(const void *left, const void *right)
{
	const struct occurrence *a = left, *b = right;
	if (a->token != b->token)
		return a->token < b->token ? -1 : 1;
	return a->at < b->at ? -1 : a->at > b->at;
}

/* Adds up the gradients of `count` occurrences of one token, which come in ascending order. */
static void add_token(const ps_args_embedding_bwd_weight *x, struct ref_mask *mask, const struct occurrence *one,
                      size_t count)
{
	int64_t time = x->dy.dims[1], width = x->dy.dims[2];
	for (int64_t e = 0; e < width; e++) {
		double sum = x->accumulate ? ref_get(x->dweight, one->token * width + e) : 0;
		for (size_t i = 0; i < count; i++) {
			int64_t row = one[i].at / time, element = one[i].at % time * width + e;
			sum += ref_mask_apply(mask, row, element, ref_get(x->dy, one[i].at * width + e)) *
			       (double)x->scale;
		}
		ref_set(x->dweight, one->token * width + e, sum);
	}
}

static ps_status embedding_bwd_weight_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_args_embedding_bwd_weight *x = arguments;
	PS_TRY(check_tokens("embedding_bwd_weight", x->tokens, x->dweight.dims[0]));
	size_t count = (size_t)ps_tensor_count(x->tokens);
	struct occurrence *all = malloc(count * sizeof *all);
	if (!all)
		return ps_fail(PS_ENOMEM, "embedding_bwd_weight: out of memory for the order of %zu tokens", count);
	const int32_t *token = ps__cpu_data(x->tokens);
	for (size_t i = 0; i < count; i++)
		all[i] = (struct occurrence){token[i], (int64_t)i};
	qsort(all, count, sizeof *all, by_token_then_place);
	if (!x->accumulate) {
		int64_t weights = ps_tensor_count(x->dweight);
		for (int64_t i = 0; i < weights; i++)
			ref_set(x->dweight, i, 0);
	}
	struct ref_mask mask = ref_mask_start(&x->drop, x->dy.dtype);
	for (size_t i = 0, next; i < count; i = next) {
		for (next = i + 1; next < count && all[next].token == all[i].token; next++)
			;
		add_token(x, &mask, all + i, next - i);
	}
	free(all);
	return PS_OK;
}
REF_OP(embedding_bwd_weight)
