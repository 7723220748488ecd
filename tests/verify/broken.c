/*
 * A backend module for tests of `penstock verify` and of shadow checks: the reference, with one fault that the device's
 * name chooses.
 *
 *   broken        one element of the sum that dropout_add_layernorm_fwd leaves is wrong, and only in a large tensor
 *   broken:small  the same in a tensor of some size
 *   broken:grad   relu_dropout_bwd is off by a thousandth in its first element
 *   broken:bits   every third dropout_add_layernorm_fwd has another last bit in y's first element
 *   broken:guard  add writes in front of its output
 *   broken:late   add fails when the queue comes to it
 */
#include <penstock/backend.h>

#include <stdio.h>
#include <string.h>

extern const ps_backend ps__ref_backend;

static const struct fault {
	const char *device;
	int64_t large, element;
} wrong_sums[] = {{"broken", 100000, 77777}, {"broken:small", 20, 13}};

static bool has_fault(const ps_queue *queue, const char *name)
{
	return !queue->dry && strcmp(queue->device->info.name, name) == 0;
}

/* The memory of a tensor of floats, once the queue has come to rest. */
static ps_status floats(ps_queue *queue, ps_tensor tensor, float **out)
{
	PS_TRY(ps_queue_finish(queue));
	*out = (float *)(void *)((char *)tensor.buffer->impl + tensor.offset);
	return PS_OK;
}

static ps_status broken_norm(ps_queue *queue, const void *arguments)
{
	static int calls;
	const ps_args_dropout_add_layernorm_fwd *x = arguments;
	float *values;
	PS_TRY(ps__ref_backend.ops[PS_OP_dropout_add_layernorm_fwd](queue, arguments));
	for (size_t i = 0; i < sizeof wrong_sums / sizeof *wrong_sums; i++) {
		if (!has_fault(queue, wrong_sums[i].device) || x->sum.dtype != PS_F32 ||
		    ps_tensor_count(x->sum) < wrong_sums[i].large)
			continue;
		PS_TRY(floats(queue, x->sum, &values));
		values[wrong_sums[i].element] += 0.0009765625F;
	}
	if (has_fault(queue, "broken:bits") && x->y.dtype == PS_F32 && calls++ % 3 == 0) {
		uint32_t bits;
		PS_TRY(floats(queue, x->y, &values));
		memcpy(&bits, values, sizeof bits);
		bits ^= 1;
		memcpy(values, &bits, sizeof bits);
	}
	return PS_OK;
}

static ps_status broken_relu_dropout_bwd(ps_queue *queue, const void *arguments)
{
	const ps_args_relu_dropout_bwd *x = arguments;
	float *values;
	PS_TRY(ps__ref_backend.ops[PS_OP_relu_dropout_bwd](queue, arguments));
	if (has_fault(queue, "broken:grad") && x->dx.dtype == PS_F32) {
		PS_TRY(floats(queue, x->dx, &values));
		*values += 0.0009765625F;
	}
	return PS_OK;
}

static ps_status broken_add(ps_queue *queue, const void *arguments)
{
	const ps_args_add *x = arguments;
	float *values;
	PS_TRY(ps__ref_backend.ops[PS_OP_add](queue, arguments));
	if (has_fault(queue, "broken:guard") && x->y.dtype == PS_F32) {
		PS_TRY(floats(queue, x->y, &values));
		values[-1] = 0;
	}
	if (has_fault(queue, "broken:late")) {
		PS_TRY(ps_queue_finish(queue));
		uint64_t value = ps__timeline_next(&queue->timeline);
		ps__timeline_fail(&queue->timeline, value, ps_fail(PS_EDEVICE, "the device has a fault"));
		ps__timeline_complete(&queue->timeline, value);
	}
	return PS_OK;
}

static ps_status open_broken(ps_device *device, const char *spec)
{
	PS_TRY(ps__ref_backend.device_open(device, ""));
	snprintf(device->info.name, sizeof device->info.name, "broken%s%s", *spec ? ":" : "", spec);
	return PS_OK;
}

static ps_status enumerate_broken(ps_device_visit visit, void *payload)
{
	ps_device_info info = {.name = "broken", .description = "the reference with a fault"};
	return visit(payload, &info);
}

const ps_backend *ps_backend_entry(void);

const ps_backend *ps_backend_entry(void)
{
	static ps_backend table;
	static ps_op_fn ops[PS_OP_COUNT];
	table = ps__ref_backend;
	for (int op = 0; op < PS_OP_COUNT; op++)
		ops[op] = ps__ref_backend.ops[op];
	ops[PS_OP_dropout_add_layernorm_fwd] = broken_norm;
	ops[PS_OP_relu_dropout_bwd] = broken_relu_dropout_bwd;
	ops[PS_OP_add] = broken_add;
	table.name = "broken";
	table.enumerate = enumerate_broken;
	table.device_open = open_broken;
	table.ops = ops;
	return &table;
}
