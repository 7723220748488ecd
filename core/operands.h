/*
 * The tensors of each op: what they are called, where they stand in the argument struct, whether the op reads or writes
 * them, which may share memory, and how far results may be off.
 *
 * The alias check, shadow runs and comparisons go by this; a new op has one row in operands.c.
 */
#ifndef PS_CORE_OPERANDS_H
#define PS_CORE_OPERANDS_H

#include "core/compare.h"

#include <penstock/ops.h>

enum { PS_MAX_OPERANDS = 8 };

typedef enum ps__operand_use {
	PS__OPERAND_IN,
	PS__OPERAND_OUT,    /* overwritten */
	PS__OPERAND_SUM,    /* overwritten, or added to where the arguments say `accumulate` */
	PS__OPERAND_UPDATE, /* read and overwritten */
} ps__operand_use;

typedef struct ps__operand {
	const char *name;
	size_t offset; /* of the ps_tensor in the argument struct */
	ps__operand_use use;
	size_t accumulate; /* of a sum: offset of the bool in the argument struct */
	unsigned same;     /* bit i: may be the very view that operand i is */
} ps__operand;

/* Outputs first. */
typedef struct ps__operands {
	ps__operand list[PS_MAX_OPERANDS];
	int count, outputs;
} ps__operands;

/* NULL for a number that is no op. */
const ps__operands *ps__op_operands(ps_op op);

/* The tensor of an operand, which may be absent. */
static inline const ps_tensor *ps__operand_tensor(const ps__operand *operand, const void *arguments)
{
	return (const void *)((const unsigned char *)arguments + operand->offset);
}

/* Does the op, called like this, read what the operand held before? */
bool ps__operand_is_read(const ps__operand *operand, const void *arguments);

/* Bytes from a tensor's first element to the end of its last, gaps between rows included; 0 for an absent one. */
uint64_t ps__tensor_extent(ps_tensor tensor);

/*
 * How far output `output` of a call may be off on a queue with this math, in any order of its sums, by the sizes of the
 * terms that it is made of.
 * values[i] holds operand i in host memory as its tensor is laid out: inputs as they were before the call, outputs as
 * the reference left them. An operand whose tensor is absent has NULL.
 */
ps__tolerance ps__op_tolerance(ps_op op, const void *arguments, int output, const void *const *values, ps_math math);

#endif
