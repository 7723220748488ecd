/* Reference softmax and cross entropy in one. */
#include "backends/cpu/ref/ref.h"

#include <inttypes.h>
#include <math.h>

static void cross_entropy_row(const ps_args_cross_entropy *x, int64_t r, int32_t target)
{
	int64_t columns = ref_columns(x->logits), at = r * columns;
	double most = -INFINITY, sum = 0;
	for (int64_t j = 0; j < columns; j++) {
		double logit = ref_get(x->logits, at + j);
		if (logit > most)
			most = logit;
	}
	for (int64_t j = 0; j < columns; j++)
		sum += exp(ref_get(x->logits, at + j) - most);
	ref_set(x->losses, r, log(sum) + (most - ref_get(x->logits, at + target)));
	if (!ps_tensor_present(x->dlogits))
		return;
	for (int64_t j = 0; j < columns; j++) {
		double softmax = exp(ref_get(x->logits, at + j) - most) / sum;
		ref_set(x->dlogits, at + j, (double)x->scale * (softmax - (j == target ? 1 : 0)));
	}
}

static ps_status cross_entropy_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_args_cross_entropy *x = arguments;
	const int32_t *target = ps__cpu_data(x->targets);
	int64_t columns = ref_columns(x->logits), rows = ps_tensor_count(x->targets);
	for (int64_t r = 0; r < rows; r++)
		if (target[r] < 0 || target[r] >= columns)
			return ps_fail(PS_EINVAL,
			               "cross_entropy: row %" PRId64 " has target %" PRId32
			               ", which should be at least 0 and below %" PRId64,
			               r, target[r], columns);
	for (int64_t r = 0; r < rows; r++)
		cross_entropy_row(x, r, target[r]);
	return PS_OK;
}
REF_OP(cross_entropy)
