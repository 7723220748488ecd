#include "tests/core/probe.h"

struct probe probe;

static ps_status look(ps_queue *of, ps_op op, const void *arguments)
{
	probe.seen.op = op;
	probe.seen.calls += !of->dry;
	probe.seen.dry_calls += of->dry;
	memcpy(probe.seen.arguments.bytes, arguments, ps__op_bytes(op));
	if (probe.seen.refusal != PS_OK)
		return ps__op_refuse(of, op, *(const ps_tensor *)arguments, "the probe is told to");
	return PS_OK;
}

#define PS_OP(op, text)                                                 \
	static ps_status look_##op(ps_queue *of, const void *arguments) \
	{                                                               \
		return look(of, PS_OP_##op, arguments);                 \
	}
#include <penstock/ops.def>

static const ps_op_fn looks[PS_OP_COUNT] = {
#define PS_OP(op, text) [PS_OP_##op] = look_##op,
#include <penstock/ops.def>
};

void probe_set_up(void)
{
	const ps_backend *reference;
	check_ok(ps__backend_find(&reference, "ref", 3));
	ps_backend table = *reference;
	table.ops = looks;
	check_ok(ps__device_open_on(&probe.device, &table, ""));
	check_ok(ps_device_open(&probe.far, "ref"));
	check_ok(ps_queue_create(&probe.queue, probe.device, "q"));
	check_ok(ps_buffer_create(&probe.buffer, probe.device, 1 << 16));
	check_ok(ps_buffer_create(&probe.far_buffer, probe.far, 1 << 16));
	memset(&probe.seen, 0, sizeof probe.seen);
	probe.used = 0;
}

void probe_tear_down(void)
{
	ps_buffer_destroy(probe.buffer);
	ps_buffer_destroy(probe.far_buffer);
	ps_queue_destroy(probe.queue);
	ps_device_close(probe.device);
	ps_device_close(probe.far);
}

ps_tensor probe_tensor(ps_dtype dtype, int rank, const int64_t *dims)
{
	ps_tensor tensor = ps_tensor_make(probe.buffer, probe.used, dtype, rank, dims);
	probe.used += ((uint64_t)ps_tensor_count(tensor) * 8 + 511) / 256 * 256;
	return tensor;
}
