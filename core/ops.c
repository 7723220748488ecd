/* The op table and the one way to call an op. */
#include "core/backend.h"

#include <stddef.h>

struct op_row {
	const char *name, *text;
	size_t bytes;
	int place_offset;
};

static const struct op_row rows[PS_OP_COUNT] = {
#define PS_OP(name, text) {#name, text, sizeof(ps_args_##name), -1},
#define PS_OP_DROP(name, text) {#name, text, sizeof(ps_args_##name), (int)offsetof(ps_args_##name, drop.place)},
#define PS_OP_PLACE(name, text) {#name, text, sizeof(ps_args_##name), (int)offsetof(ps_args_##name, place)},
#include <penstock/ops.def>
};

static bool known(ps_op op)
{
	return (unsigned)op < PS_OP_COUNT;
}

const char *ps_op_name(ps_op op)
{
	return known(op) ? rows[op].name : "no op";
}

const char *ps_op_text(ps_op op)
{
	return known(op) ? rows[op].text : "";
}

size_t ps__op_bytes(ps_op op)
{
	return rows[op].bytes;
}

int ps__op_place_offset(ps_op op)
{
	return rows[op].place_offset;
}

ps_status ps__op_refuse(const ps_queue *queue, ps_op op, ps_tensor tensor, const char *why)
{
	char text[128];
	return ps_fail(PS_ENOTSUP, "%s cannot run %s on %s: %s", queue->device->info.name, ps_op_name(op),
	               ps_tensor_text(tensor, text, sizeof text), why);
}

ps_status ps_op_run(ps_queue *queue, ps_op op, const void *arguments, size_t bytes)
{
	if (!known(op) || bytes != rows[op].bytes)
		return ps_fail(PS_EINVAL, "op %d was called with an argument struct of %zu bytes", (int)op, bytes);
	PS_TRY(ps__op_check(queue->device, op, arguments));
	return queue->device->backend->ops[op](queue, arguments);
}
