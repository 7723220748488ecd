/*
 * A backend module for tests of `penstock verify`: the reference, but one element of the sums that
 * dropout_add_layernorm_fwd leaves is wrong, and only in a large tensor.
 */
#include <penstock/backend.h>

#include <stdio.h>

extern const ps_backend ps__ref_backend;

enum { LARGE = 100000, WRONG_ELEMENT = 77777 };

static ps_status open_broken(ps_device *device, const char *spec)
{
	PS_TRY(ps__ref_backend.device_open(device, spec));
	snprintf(device->info.name, sizeof device->info.name, "broken");
	return PS_OK;
}

static ps_status enumerate_broken(ps_device_visit visit, void *payload)
{
	ps_device_info info = {.name = "broken", .description = "the reference with a fault"};
	return visit(payload, &info);
}

static ps_status broken_op(ps_queue *queue, const void *arguments)
{
	const ps_args_dropout_add_layernorm_fwd *x = arguments;
	PS_TRY(ps__ref_backend.ops[PS_OP_dropout_add_layernorm_fwd](queue, arguments));
	if (queue->dry || x->sum.dtype != PS_F32 || ps_tensor_count(x->sum) < LARGE)
		return PS_OK;
	PS_TRY(ps_queue_finish(queue));
	float *sum = (float *)(void *)((char *)x->sum.buffer->impl + x->sum.offset);
	sum[WRONG_ELEMENT] += 0.0009765625F;
	return PS_OK;
}

const ps_backend *ps_backend_entry(void);

const ps_backend *ps_backend_entry(void)
{
	static ps_backend table;
	static ps_op_fn ops[PS_OP_COUNT];
	table = ps__ref_backend;
	for (int op = 0; op < PS_OP_COUNT; op++)
		ops[op] = ps__ref_backend.ops[op];
	ops[PS_OP_dropout_add_layernorm_fwd] = broken_op;
	table.name = "broken";
	table.enumerate = enumerate_broken;
	table.device_open = open_broken;
	table.ops = ops;
	return &table;
}
