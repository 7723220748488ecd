/* The reference device's table of ops, which has no gaps: an op without a reference does not link. */
#include "backends/cpu/ref/ref.h"

const ps_op_fn ps__ref_ops[PS_OP_COUNT] = {
#define PS_OP(name, text) [PS_OP_##name] = ps__ref_##name,
#include <penstock/ops.def>
};
