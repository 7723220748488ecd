/* The loss over the first batches of a split, right and as the published tutorial computes it. */
#include <penstock/train.h>

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* Sums over the batches that were read. */
typedef struct totals {
	double loss_sum;      /* over tokens */
	double published_sum; /* of batch size times the batch's mean */
} totals;

static ps_status evaluate_batch(ps_pipeline *pipeline, const ps_batches *batches, int64_t index, bool misaligned,
                                int32_t *inputs, int32_t *targets, totals *sums, int64_t *tokens)
{
	ps_batch batch = {.inputs = inputs, .targets = targets, .rows = batches->columns};
	if (misaligned)
		PS_TRY(ps_batches_get_as_published(batches, index, inputs, targets, &batch.time));
	else
		PS_TRY(ps_batches_get(batches, index, inputs, targets, &batch.time));
	double loss_sum;
	PS_TRY(ps_pipeline_evaluate(pipeline, &batch, &loss_sum));
	if (!isfinite(loss_sum))
		return ps_fail(PS_ENUMERIC, "the loss of evaluation batch %" PRId64 " is %g", index + 1, loss_sum);
	*tokens = batch.rows * batch.time;
	sums->loss_sum += loss_sum;
	sums->published_sum += (double)batch.rows * (loss_sum / (double)*tokens);
	return PS_OK;
}

ps_status ps_evaluate(ps_pipeline *pipeline, const ps_batches *batches, int64_t steps, const ps_mistakes *mistakes,
                      bool (*stop)(void *payload), void *payload, ps_evaluation *out)
{
	static const ps_mistakes none;
	mistakes = mistakes != NULL ? mistakes : &none;
	int64_t count = ps_batches_count(batches);
	if (steps > 0 && steps < count)
		count = steps;
	size_t elements = (size_t)(batches->columns * batches->bptt);
	int32_t *inputs = malloc(2 * elements * sizeof *inputs);
	if (inputs == NULL)
		return ps_fail(PS_ENOMEM, "no memory for an evaluation batch of %zu tokens", elements);
	ps_evaluation result = {0};
	totals sums = {0};
	int64_t begin = ps_clock_ns();
	ps_status status = PS_OK;
	while (status == PS_OK && result.batches < count) {
		int64_t tokens = 0;
		status = evaluate_batch(pipeline, batches, result.batches, mistakes->misaligned_targets, inputs,
		                        inputs + elements, &sums, &tokens);
		result.tokens += tokens;
		result.batches++;
		if (stop != NULL && stop(payload))
			break;
	}
	free(inputs);
	if (status != PS_OK)
		return status;
	result.seconds = (double)(ps_clock_ns() - begin) * 1e-9;
	if (mistakes->evaluation_fraction)
		result.loss = sums.published_sum / (double)(batches->length - 1);
	else
		result.loss = sums.loss_sum / (double)result.tokens;
	*out = result;
	return PS_OK;
}
