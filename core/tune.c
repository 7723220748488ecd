/* Tuning: the checks, and a queue for the backend to search on. */
#include "core/registry.h"

#include <penstock/tune.h>

#include <inttypes.h>

ps_status ps_tune(ps_device *device, ps_tuning *tuning)
{
	if (tuning->dtype != PS_F32 && tuning->dtype != PS_F64)
		return ps_fail(PS_EINVAL, "products of %s are not tuned", ps_dtype_name(tuning->dtype));
	if (tuning->count == 0 || !(tuning->seconds > 0))
		return ps_fail(PS_EINVAL, "tuning takes some products and some time");
	for (size_t i = 0; i < tuning->count; i++)
		if (tuning->rows[i].m < 1 || tuning->rows[i].n < 1 || tuning->rows[i].k < 1)
			return ps_fail(PS_EINVAL, "product %zu is empty: m, n and k should be at least 1", i);
	tuning->tried = tuning->wrong = 0;
	tuning->file[0] = '\0';
	ps_queue *queue;
	PS_TRY(ps_queue_create(&queue, device, "tune"));
	ps_status status = device->backend->tune(queue, tuning);
	ps_queue_destroy(queue);
	return status;
}
