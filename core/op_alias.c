/*
 * Which arguments of an op may share memory: outputs overlap nothing, but for what ops.h allows, where an output may be
 * exactly the view that an input is. A kernel that reads what it has already overwritten gives wrong numbers without
 * any sign, so that this is checked with everything else. Of two ops the same tells whether their order matters.
 */
#include "core/backend.h"
#include "core/operands.h"

static bool same_view(ps_tensor a, ps_tensor b)
{
	return a.offset == b.offset && a.dtype == b.dtype && ps_tensor_same_shape(a, b);
}

/* Two matrices that are different columns of the same rows: their bytes interleave, but none is shared. */
static bool are_beside(ps_tensor a, ps_tensor b)
{
	if (a.rank != 2 || b.rank != 2)
		return false;
	uint64_t row = (uint64_t)a.strides[0] * ps_dtype_bytes(a.dtype);
	if (row == 0 || row != (uint64_t)b.strides[0] * ps_dtype_bytes(b.dtype))
		return false;
	uint64_t left = a.offset % row, right = b.offset % row;
	uint64_t left_end = left + (uint64_t)a.dims[1] * ps_dtype_bytes(a.dtype);
	uint64_t right_end = right + (uint64_t)b.dims[1] * ps_dtype_bytes(b.dtype);
	return left_end <= row && right_end <= row && (left_end <= right || right_end <= left);
}

static bool overlap(ps_tensor a, ps_tensor b)
{
	if (a.buffer != b.buffer || !a.buffer)
		return false;
	return a.offset < b.offset + ps__tensor_extent(b) && b.offset < a.offset + ps__tensor_extent(a) &&
	       !are_beside(a, b);
}

ps_status ps__op_check_aliases(const ps_device *device, ps_op op, const void *arguments)
{
	const ps__operands *operands = ps__op_operands(op);
	for (int o = 0; o < operands->outputs; o++) {
		const ps__operand *output = &operands->list[o];
		ps_tensor written = *ps__operand_tensor(output, arguments);
		/* Two outputs are compared once. */
		for (int i = o + 1; i < operands->count; i++) {
			const ps__operand *other = &operands->list[i];
			ps_tensor tensor = *ps__operand_tensor(other, arguments);
			bool may_be_same = output->same >> i & 1;
			if (!overlap(written, tensor) || (may_be_same && same_view(written, tensor)))
				continue;
			char a[128], b[128];
			return ps_fail(PS_EINVAL, "%s on %s: %s, %s, overlaps %s, %s, which %s", ps_op_name(op),
			               device->info.name, output->name, ps_tensor_text(written, a, sizeof a),
			               other->name, ps_tensor_text(tensor, b, sizeof b),
			               may_be_same ? "it may only be the same view as" : "it may not");
		}
	}
	return PS_OK;
}

bool ps__ops_independent(ps_op a, const void *a_arguments, ps_op b, const void *b_arguments)
{
	const ps__operands *of_a = ps__op_operands(a), *of_b = ps__op_operands(b);
	for (int i = 0; i < of_a->count; i++)
		for (int j = 0; j < of_b->count; j++)
			if ((i < of_a->outputs || j < of_b->outputs) &&
			    overlap(*ps__operand_tensor(&of_a->list[i], a_arguments),
			            *ps__operand_tensor(&of_b->list[j], b_arguments)))
				return false;
	return true;
}
