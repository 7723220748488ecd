/*
 * Which arguments of an op may share memory: outputs overlap nothing, but for what ops.h allows, where an output may be
 * exactly the view that an input is. A kernel that reads what it has already overwritten gives wrong numbers without
 * any sign, so that this is checked with everything else.
 */
#include "core/backend.h"

#include <stddef.h>

enum { PARTS = 8 };

struct part {
	const char *name;
	size_t offset;
};

/* The tensors of one op, outputs first; bit i of same[o]: output o may be the same view as part i. */
struct row {
	int outputs;
	unsigned same[PARTS];
	struct part parts[PARTS];
};

#define BIT(i) (1U << (i))
#define PART(op, field)                               \
	{                                             \
#field, offsetof(ps_args_##op, field) \
	}

static const struct row rows[PS_OP_COUNT] = {
        [PS_OP_gemm] = {1, {0}, {PART(gemm, c), PART(gemm, a), PART(gemm, b), PART(gemm, bias)}},
        [PS_OP_column_sum] = {1, {0}, {PART(column_sum, y), PART(column_sum, x)}},
        [PS_OP_add] = {1, {BIT(1) | BIT(2)}, {PART(add, y), PART(add, a), PART(add, b)}},
        [PS_OP_relu_fwd] = {1, {BIT(1)}, {PART(relu_fwd, y), PART(relu_fwd, x)}},
        [PS_OP_relu_bwd] = {1, {BIT(1)}, {PART(relu_bwd, dx), PART(relu_bwd, dy), PART(relu_bwd, y)}},
        [PS_OP_dropout] = {1, {BIT(1)}, {PART(dropout, y), PART(dropout, x)}},
        [PS_OP_relu_dropout_fwd] = {1, {BIT(1)}, {PART(relu_dropout_fwd, y), PART(relu_dropout_fwd, x)}},
        [PS_OP_relu_dropout_bwd] =
                {1, {BIT(1)}, {PART(relu_dropout_bwd, dx), PART(relu_dropout_bwd, dy), PART(relu_dropout_bwd, y)}},
        [PS_OP_embedding_fwd] = {1,
                                 {0},
                                 {PART(embedding_fwd, y), PART(embedding_fwd, tokens), PART(embedding_fwd, weight),
                                  PART(embedding_fwd, positions)}},
        [PS_OP_embedding_bwd_weight] = {1,
                                        {0},
                                        {PART(embedding_bwd_weight, dweight), PART(embedding_bwd_weight, tokens),
                                         PART(embedding_bwd_weight, dy)}},
        [PS_OP_layernorm_fwd] = {3,
                                 {0},
                                 {PART(layernorm_fwd, y), PART(layernorm_fwd, mean), PART(layernorm_fwd, rstd),
                                  PART(layernorm_fwd, x), PART(layernorm_fwd, gamma), PART(layernorm_fwd, beta)}},
        [PS_OP_layernorm_bwd_input] = {1,
                                       {BIT(1)},
                                       {PART(layernorm_bwd_input, dx), PART(layernorm_bwd_input, dy),
                                        PART(layernorm_bwd_input, x), PART(layernorm_bwd_input, mean),
                                        PART(layernorm_bwd_input, rstd), PART(layernorm_bwd_input, gamma)}},
        [PS_OP_layernorm_bwd_weight] = {2,
                                        {0},
                                        {PART(layernorm_bwd_weight, dgamma), PART(layernorm_bwd_weight, dbeta),
                                         PART(layernorm_bwd_weight, dy), PART(layernorm_bwd_weight, x),
                                         PART(layernorm_bwd_weight, mean), PART(layernorm_bwd_weight, rstd)}},
        [PS_OP_dropout_add_layernorm_fwd] = {4,
                                             {BIT(4)},
                                             {PART(dropout_add_layernorm_fwd, sum), PART(dropout_add_layernorm_fwd, y),
                                              PART(dropout_add_layernorm_fwd, mean),
                                              PART(dropout_add_layernorm_fwd, rstd), PART(dropout_add_layernorm_fwd, z),
                                              PART(dropout_add_layernorm_fwd, residual),
                                              PART(dropout_add_layernorm_fwd, gamma),
                                              PART(dropout_add_layernorm_fwd, beta)}},
        [PS_OP_dropout_add_layernorm_bwd_input] =
                {2,
                 {BIT(2)},
                 {PART(dropout_add_layernorm_bwd_input, dresidual), PART(dropout_add_layernorm_bwd_input, dz),
                  PART(dropout_add_layernorm_bwd_input, dy), PART(dropout_add_layernorm_bwd_input, sum),
                  PART(dropout_add_layernorm_bwd_input, mean), PART(dropout_add_layernorm_bwd_input, rstd),
                  PART(dropout_add_layernorm_bwd_input, gamma)}},
        [PS_OP_attention_fwd] = {2,
                                 {0},
                                 {PART(attention_fwd, probs), PART(attention_fwd, out), PART(attention_fwd, qkv)}},
        [PS_OP_attention_bwd] = {1,
                                 {0},
                                 {PART(attention_bwd, dqkv), PART(attention_bwd, qkv), PART(attention_bwd, probs),
                                  PART(attention_bwd, dout)}},
        [PS_OP_cross_entropy] = {2,
                                 {0, BIT(2)},
                                 {PART(cross_entropy, losses), PART(cross_entropy, dlogits),
                                  PART(cross_entropy, logits), PART(cross_entropy, targets)}},
        [PS_OP_sum_squares] = {1, {0}, {PART(sum_squares, out), PART(sum_squares, x)}},
        [PS_OP_clip_scale] = {2, {0}, {PART(clip_scale, norm), PART(clip_scale, scale), PART(clip_scale, sums)}},
        [PS_OP_sgd] = {2, {0}, {PART(sgd, w), PART(sgd, copy), PART(sgd, g), PART(sgd, scale)}},
};

static bool same_view(ps_tensor a, ps_tensor b)
{
	return a.offset == b.offset && a.dtype == b.dtype && ps_tensor_same_shape(a, b);
}

/* Bytes from the first element to the end of the last. */
static uint64_t extent(ps_tensor t)
{
	int64_t last = 0;
	for (int i = 0; i < t.rank; i++)
		last += (t.dims[i] - 1) * t.strides[i];
	return (uint64_t)(last + 1) * ps_dtype_bytes(t.dtype);
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
	return a.offset < b.offset + extent(b) && b.offset < a.offset + extent(a) && !are_beside(a, b);
}

ps_status ps__op_check_aliases(const ps_device *device, ps_op op, const void *arguments)
{
	const struct row *row = &rows[op];
	const unsigned char *bytes = arguments;
	for (int o = 0; o < row->outputs; o++) {
		const ps_tensor *output = (const void *)(bytes + row->parts[o].offset);
		for (int i = 0; i < PARTS && row->parts[i].name; i++) {
			/* Two outputs are compared once. */
			if (i == o || (i < row->outputs && i < o))
				continue;
			const ps_tensor *other = (const void *)(bytes + row->parts[i].offset);
			if (!overlap(*output, *other) || ((row->same[o] & BIT(i)) && same_view(*output, *other)))
				continue;
			char a[128], b[128];
			return ps_fail(PS_EINVAL, "%s on %s: %s, %s, overlaps %s, %s, which %s", ps_op_name(op),
			               device->info.name, row->parts[o].name, ps_tensor_text(*output, a, sizeof a),
			               row->parts[i].name, ps_tensor_text(*other, b, sizeof b),
			               row->same[o] & BIT(i) ? "it may only be the same view as" : "it may not");
		}
	}
	return PS_OK;
}
