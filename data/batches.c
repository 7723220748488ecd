/* batchify() and get_batch() of PyTorch's pipeline tutorial, batch-first. */
#include <penstock/data.h>

#include "core/text.h"

#include <string.h>

ps_status ps_batches_init(ps_batches *out, const int32_t *tokens, size_t count, int64_t batch_size, int64_t bptt)
{
	if (batch_size < 1)
		return ps_fail(PS_EINVAL, "the batch size is %lld; it must be at least 1", (long long)batch_size);
	if (bptt < 1)
		return ps_fail(PS_EINVAL, "bptt is %lld; it must be at least 1", (long long)bptt);
	if (count / 2 < (uint64_t)batch_size)
		return ps_fail(PS_EINVAL,
		               "%zu %s too few for a batch size of %lld; each row needs a token and its successor, "
		               "so that the most is %zu",
		               count, ps__plural((int64_t)count, "token is", "tokens are"), (long long)batch_size,
		               count / 2);
	*out = (ps_batches){
	        .tokens = tokens, .columns = batch_size, .length = (int64_t)count / batch_size, .bptt = bptt};
	return PS_OK;
}

int64_t ps_batches_count(const ps_batches *batches)
{
	/* Written so that a huge bptt does not overflow. */
	return (batches->length - 2) / batches->bptt + 1;
}

/* Sets the first row and the number of rows of a batch. */
static ps_status locate(const ps_batches *batches, int64_t index, int64_t *row, int64_t *time)
{
	int64_t count = ps_batches_count(batches);
	if (index < 0 || index >= count)
		return ps_fail(PS_EINVAL, "batch %lld of %lld was asked for", (long long)index, (long long)count);
	*row = index * batches->bptt;
	int64_t left = batches->length - 1 - *row;
	*time = left < batches->bptt ? left : batches->bptt;
	return PS_OK;
}

ps_status ps_batches_get(const ps_batches *batches, int64_t index, int32_t *inputs, int32_t *targets, int64_t *time)
{
	int64_t row = 0;
	PS_TRY(locate(batches, index, &row, time));
	size_t count = (size_t)*time;
	for (int64_t c = 0; c < batches->columns; c++) {
		const int32_t *from = batches->tokens + c * batches->length + row;
		memcpy(inputs + (size_t)c * count, from, count * sizeof *inputs);
		memcpy(targets + (size_t)c * count, from + 1, count * sizeof *targets);
	}
	return PS_OK;
}

ps_status ps_batches_get_as_published(const ps_batches *batches, int64_t index, int32_t *inputs, int32_t *targets,
                                      int64_t *time)
{
	int64_t row = 0;
	PS_TRY(locate(batches, index, &row, time));
	size_t count = (size_t)*time;
	for (int64_t c = 0; c < batches->columns; c++) {
		const int32_t *from = batches->tokens + c * batches->length + row;
		memcpy(inputs + (size_t)c * count, from, count * sizeof *inputs);
		for (size_t t = 0; t < count; t++)
			targets[t * (size_t)batches->columns + (size_t)c] = from[t + 1];
	}
	return PS_OK;
}
