/* The table of operands. What may share memory is said at the argument structs in ops.h. */
#include "core/operands.h"

#include <stddef.h>
#include <string.h>

#define IN(field)                                                                           \
	{                                                                                   \
		.name = #field, .offset = offsetof(arguments, field), .use = PS__OPERAND_IN \
	}
#define OUT(field, ...)                                                                                           \
	{                                                                                                         \
		.name = #field, .offset = offsetof(arguments, field), .use = PS__OPERAND_OUT, .same = __VA_ARGS__ \
	}
#define SUM(field)                                                                            \
	{                                                                                     \
		.name = #field, .offset = offsetof(arguments, field), .use = PS__OPERAND_SUM, \
		.accumulate = offsetof(arguments, accumulate)                                 \
	}
#define UPDATE(field)                                                                           \
	{                                                                                       \
		.name = #field, .offset = offsetof(arguments, field), .use = PS__OPERAND_UPDATE \
	}
/* What an output may be the same view as: nothing, or operand i of the row. */
#define APART 0
#define AS(i) (1U << (i))

/* One op: its outputs, and after them its inputs. */
#define OPERANDS(op, output_count, ...)                                                                         \
	case PS_OP_##op: {                                                                                      \
		typedef ps_args_##op arguments;                                                                 \
		static const ps__operand list[] = {__VA_ARGS__};                                                \
		_Static_assert(sizeof list / sizeof *list <= PS_MAX_OPERANDS, #op " has too many operands");    \
		static const ps__operands row = {                                                               \
		        .list = {__VA_ARGS__}, .count = sizeof list / sizeof *list, .outputs = (output_count)}; \
		return &row;                                                                                    \
	}

const ps__operands *ps__op_operands(ps_op op)
{
	switch (op) {
		OPERANDS(gemm, 1, SUM(c), IN(a), IN(b), IN(bias))
		OPERANDS(column_sum, 1, SUM(y), IN(x))
		OPERANDS(add, 1, OUT(y, AS(1) | AS(2)), IN(a), IN(b))
		OPERANDS(relu_fwd, 1, OUT(y, AS(1)), IN(x))
		OPERANDS(relu_bwd, 1, OUT(dx, AS(1)), IN(dy), IN(y))
		OPERANDS(dropout, 1, OUT(y, AS(1)), IN(x))
		OPERANDS(relu_dropout_fwd, 1, OUT(y, AS(1)), IN(x))
		OPERANDS(relu_dropout_bwd, 1, OUT(dx, AS(1)), IN(dy), IN(y))
		OPERANDS(embedding_fwd, 1, OUT(y, APART), IN(tokens), IN(weight), IN(positions))
		OPERANDS(embedding_bwd_weight, 1, SUM(dweight), IN(tokens), IN(dy))
		OPERANDS(layernorm_fwd, 3, OUT(y, APART), OUT(mean, APART), OUT(rstd, APART), IN(x), IN(gamma),
		         IN(beta))
		OPERANDS(layernorm_bwd_input, 1, OUT(dx, AS(1)), IN(dy), IN(x), IN(mean), IN(rstd), IN(gamma))
		OPERANDS(layernorm_bwd_weight, 2, SUM(dgamma), SUM(dbeta), IN(dy), IN(x), IN(mean), IN(rstd))
		OPERANDS(dropout_add_layernorm_fwd, 4, OUT(sum, AS(4)), OUT(y, APART), OUT(mean, APART),
		         OUT(rstd, APART), IN(z), IN(residual), IN(gamma), IN(beta))
		OPERANDS(dropout_add_layernorm_bwd_input, 2, OUT(dresidual, AS(2)), OUT(dz, APART), IN(dy), IN(sum),
		         IN(mean), IN(rstd), IN(gamma))
		OPERANDS(attention_fwd, 2, OUT(probs, APART), OUT(out, APART), IN(qkv))
		OPERANDS(attention_bwd, 1, OUT(dqkv, APART), IN(qkv), IN(probs), IN(dout))
		OPERANDS(cross_entropy, 2, OUT(losses, APART), OUT(dlogits, AS(2)), IN(logits), IN(targets))
		OPERANDS(sum_squares, 1, OUT(out, APART), IN(x))
		OPERANDS(clip_scale, 2, OUT(norm, APART), OUT(scale, APART), IN(sums))
		OPERANDS(sgd, 2, UPDATE(w), OUT(copy, APART), IN(g), IN(scale))
	case PS_OP_COUNT:
		break;
	}
	return NULL;
}

bool ps__operand_is_read(const ps__operand *operand, const void *arguments)
{
	bool adds;
	switch (operand->use) {
	case PS__OPERAND_OUT:
		return false;
	case PS__OPERAND_SUM:
		memcpy(&adds, (const unsigned char *)arguments + operand->accumulate, sizeof adds);
		return adds;
	case PS__OPERAND_IN:
	case PS__OPERAND_UPDATE:
		break;
	}
	return true;
}

uint64_t ps__tensor_extent(ps_tensor tensor)
{
	int64_t last = 0;
	if (!ps_tensor_present(tensor))
		return 0;
	for (int i = 0; i < tensor.rank; i++)
		last += (tensor.dims[i] - 1) * tensor.strides[i];
	return (uint64_t)(last + 1) * ps_dtype_bytes(tensor.dtype);
}
