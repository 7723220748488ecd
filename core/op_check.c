/* The shared check of every op's arguments: one function an op, by the semantics that stand in ops.h. */
#include "core/backend.h"

#include <inttypes.h>

/* Names the op being checked and its device in messages. */
struct check {
	const ps_device *device;
	ps_op op;
};

#define ANY (-1)

static ps_status bad(const struct check *check, const char *name, ps_tensor tensor, const char *want)
{
	char text[128];
	return ps_fail(PS_EINVAL, "%s on %s: %s is %s, which should be %s", ps_op_name(check->op),
	               check->device->info.name, name, ps_tensor_text(tensor, text, sizeof text), want);
}

/* Present, on the device, within its buffer. */
static ps_status placed(const struct check *check, const char *name, ps_tensor t)
{
	if (!ps_tensor_present(t))
		return bad(check, name, t, "present");
	if (t.buffer->device != check->device)
		return ps_fail(PS_EINVAL, "%s on %s: %s is on %s", ps_op_name(check->op), check->device->info.name,
		               name, t.buffer->device->info.name);
	if (!ps__tensor_is_sound(t))
		return bad(check, name, t, "within its buffer and aligned");
	for (int i = 0; i < t.rank; i++)
		if (t.dims[i] == 0)
			return bad(check, name, t, "without empty dimensions");
	return PS_OK;
}

static ps_status dense(const struct check *check, const char *name, ps_tensor t, ps_dtype dtype)
{
	PS_TRY(placed(check, name, t));
	if (t.dtype != dtype)
		return bad(check, name, t, ps_dtype_name(dtype));
	if (!ps_tensor_is_contiguous(t))
		return bad(check, name, t, "contiguous");
	return PS_OK;
}

static ps_status floating(const struct check *check, const char *name, ps_tensor t)
{
	PS_TRY(placed(check, name, t));
	if (t.dtype != PS_F32 && t.dtype != PS_F64)
		return bad(check, name, t, "of a floating-point dtype");
	return PS_OK;
}

/* A tensor that may be BF16, on a device that has it; `other` is its dtype otherwise. */
static ps_status maybe_bf16(const struct check *check, ps_tensor t, ps_dtype other, ps_dtype *dtype)
{
	*dtype = other;
	if (t.dtype != PS_BF16 || other == PS_F64)
		return PS_OK;
	char text[128];
	if (!check->device->backend->has_math(check->device, PS_MATH_BF16))
		return ps_fail(PS_ENOTSUP, "%s cannot run %s on %s: it has no bf16; cpu and ref do",
		               check->device->info.name, ps_op_name(check->op), ps_tensor_text(t, text, sizeof text));
	*dtype = PS_BF16;
	return PS_OK;
}

/* Contiguous with `count` elements of a dtype. */
static ps_status vector(const struct check *check, const char *name, ps_tensor t, ps_dtype dtype, int64_t count)
{
	PS_TRY(dense(check, name, t, dtype));
	if (ps_tensor_count(t) != count) {
		char text[128];
		return ps_fail(PS_EINVAL, "%s on %s: %s is %s, which should have %" PRId64 " elements",
		               ps_op_name(check->op), check->device->info.name, name,
		               ps_tensor_text(t, text, sizeof text), count);
	}
	return PS_OK;
}

static ps_status same(const struct check *check, const char *name, ps_tensor t, ps_tensor like)
{
	PS_TRY(dense(check, name, t, like.dtype));
	if (!ps_tensor_same_shape(t, like)) {
		char a[128], b[128];
		return ps_fail(PS_EINVAL, "%s on %s: %s is %s, which should be %s", ps_op_name(check->op),
		               check->device->info.name, name, ps_tensor_text(t, a, sizeof a),
		               ps_tensor_text(like, b, sizeof b));
	}
	return PS_OK;
}

static int64_t last_dim(ps_tensor t)
{
	return t.rank ? t.dims[t.rank - 1] : 1;
}

static ps_status probability(const struct check *check, float p)
{
	if (!(p >= 0 && p < 1))
		return ps_fail(PS_EINVAL, "%s on %s: dropout is %g, which should be at least 0 and below 1",
		               ps_op_name(check->op), check->device->info.name, (double)p);
	return PS_OK;
}

static ps_status matrix(const struct check *check, const char *name, ps_tensor t, ps_dtype dtype, int64_t rows,
                        int64_t columns)
{
	PS_TRY(placed(check, name, t));
	if (t.dtype != dtype || t.rank != 2 || (t.dims[1] > 1 && t.strides[1] != 1) ||
	    (t.dims[0] > 1 && t.strides[0] < t.dims[1]))
		return bad(check, name, t, "a matrix of the op's dtype with unit column stride");
	if ((rows != ANY && t.dims[0] != rows) || (columns != ANY && t.dims[1] != columns)) {
		char text[128];
		return ps_fail(PS_EINVAL, "%s on %s: %s is %s, which should be (%" PRId64 ", %" PRId64 ")",
		               ps_op_name(check->op), check->device->info.name, name,
		               ps_tensor_text(t, text, sizeof text), rows, columns);
	}
	return PS_OK;
}

static ps_status check_gemm(const struct check *check, const ps_args_gemm *x)
{
	ps_dtype a, b, c, other = x->c.dtype == PS_F64 ? PS_F64 : PS_F32;
	PS_TRY(maybe_bf16(check, x->a, other, &a));
	PS_TRY(maybe_bf16(check, x->b, other, &b));
	PS_TRY(maybe_bf16(check, x->c, other, &c));
	PS_TRY(matrix(check, "c", x->c, c, ANY, ANY));
	int64_t m = x->c.dims[0], n = x->c.dims[1];
	PS_TRY(x->trans_a ? matrix(check, "a", x->a, a, ANY, m) : matrix(check, "a", x->a, a, m, ANY));
	int64_t k = x->trans_a ? x->a.dims[0] : x->a.dims[1];
	PS_TRY(x->trans_b ? matrix(check, "b", x->b, b, n, k) : matrix(check, "b", x->b, b, k, n));
	return ps_tensor_present(x->bias) ? vector(check, "bias", x->bias, other, n) : PS_OK;
}

static ps_status check_column_sum(const struct check *check, const ps_args_column_sum *x)
{
	PS_TRY(floating(check, "x", x->x));
	PS_TRY(dense(check, "x", x->x, x->x.dtype));
	return vector(check, "y", x->y, x->x.dtype, last_dim(x->x));
}

static ps_status check_add(const struct check *check, const ps_args_add *x)
{
	PS_TRY(floating(check, "y", x->y));
	PS_TRY(dense(check, "y", x->y, x->y.dtype));
	PS_TRY(same(check, "a", x->a, x->y));
	return same(check, "b", x->b, x->y);
}

static ps_status check_pair(const struct check *check, ps_tensor x, ps_tensor y)
{
	PS_TRY(floating(check, "y", y));
	PS_TRY(dense(check, "y", y, y.dtype));
	return same(check, "x", x, y);
}

static ps_status check_relu_fwd(const struct check *check, const ps_args_relu_fwd *x)
{
	return check_pair(check, x->x, x->y);
}

static ps_status check_relu_bwd(const struct check *check, const ps_args_relu_bwd *x)
{
	PS_TRY(floating(check, "dx", x->dx));
	PS_TRY(dense(check, "dx", x->dx, x->dx.dtype));
	PS_TRY(same(check, "dy", x->dy, x->dx));
	return same(check, "y", x->y, x->dx);
}

static ps_status check_dropout(const struct check *check, const ps_args_dropout *x)
{
	PS_TRY(check_pair(check, x->x, x->y));
	return probability(check, x->drop.p);
}

static ps_status check_relu_dropout_fwd(const struct check *check, const ps_args_relu_dropout_fwd *x)
{
	PS_TRY(check_pair(check, x->x, x->y));
	return probability(check, x->drop.p);
}

static ps_status check_relu_dropout_bwd(const struct check *check, const ps_args_relu_dropout_bwd *x)
{
	PS_TRY(check_relu_bwd(check, &(ps_args_relu_bwd){x->dy, x->y, x->dx}));
	return probability(check, x->p);
}

/* tokens (rows, time) and y (rows, time, E). */
static ps_status check_tokens(const struct check *check, ps_tensor tokens, const char *name, ps_tensor y)
{
	PS_TRY(floating(check, name, y));
	PS_TRY(dense(check, name, y, y.dtype));
	PS_TRY(dense(check, "tokens", tokens, PS_I32));
	if (tokens.rank != 2 || y.rank != 3 || tokens.dims[0] != y.dims[0] || tokens.dims[1] != y.dims[1])
		return bad(check, "tokens", tokens, "(rows, time) beside (rows, time, E)");
	return PS_OK;
}

static ps_status check_embedding_fwd(const struct check *check, const ps_args_embedding_fwd *x)
{
	ps_dtype weight;
	PS_TRY(check_tokens(check, x->tokens, "y", x->y));
	PS_TRY(maybe_bf16(check, x->weight, x->y.dtype, &weight));
	PS_TRY(matrix(check, "weight", x->weight, weight, ANY, x->y.dims[2]));
	PS_TRY(matrix(check, "positions", x->positions, x->y.dtype, ANY, x->y.dims[2]));
	if (x->positions.dims[0] < x->y.dims[1])
		return bad(check, "positions", x->positions, "at least as long as time");
	return probability(check, x->drop.p);
}

static ps_status check_embedding_bwd_weight(const struct check *check, const ps_args_embedding_bwd_weight *x)
{
	ps_dtype dweight;
	PS_TRY(check_tokens(check, x->tokens, "dy", x->dy));
	PS_TRY(maybe_bf16(check, x->dweight, x->dy.dtype, &dweight));
	PS_TRY(dense(check, "dweight", x->dweight, dweight));
	PS_TRY(matrix(check, "dweight", x->dweight, dweight, ANY, x->dy.dims[2]));
	return probability(check, x->drop.p);
}

/* The tensors that all forms of layernorm share: what is normalized (…, E), and what goes with its rows. */
static ps_status check_norm(const struct check *check, const char *name, ps_tensor x, ps_tensor mean, ps_tensor rstd)
{
	PS_TRY(floating(check, name, x));
	PS_TRY(dense(check, name, x, x.dtype));
	int64_t n = ps_tensor_count(x) / last_dim(x);
	PS_TRY(vector(check, "mean", mean, x.dtype, n));
	return vector(check, "rstd", rstd, x.dtype, n);
}

/* `name` is what the op calls its x. */
static ps_status check_norm_fwd(const struct check *check, const char *name, const ps_args_layernorm_fwd *x)
{
	PS_TRY(check_norm(check, name, x->x, x->mean, x->rstd));
	PS_TRY(vector(check, "gamma", x->gamma, x->x.dtype, last_dim(x->x)));
	PS_TRY(vector(check, "beta", x->beta, x->x.dtype, last_dim(x->x)));
	return same(check, "y", x->y, x->x);
}

static ps_status check_layernorm_fwd(const struct check *check, const ps_args_layernorm_fwd *x)
{
	return check_norm_fwd(check, "x", x);
}

/* `name` and `gradient` are what the op calls its x and its dx. */
static ps_status check_norm_bwd(const struct check *check, const char *name, const char *gradient,
                                const ps_args_layernorm_bwd_input *x)
{
	PS_TRY(check_norm(check, name, x->x, x->mean, x->rstd));
	PS_TRY(vector(check, "gamma", x->gamma, x->x.dtype, last_dim(x->x)));
	PS_TRY(same(check, "dy", x->dy, x->x));
	return same(check, gradient, x->dx, x->x);
}

static ps_status check_layernorm_bwd_input(const struct check *check, const ps_args_layernorm_bwd_input *x)
{
	return check_norm_bwd(check, "x", "dx", x);
}

static ps_status check_layernorm_bwd_weight(const struct check *check, const ps_args_layernorm_bwd_weight *x)
{
	PS_TRY(check_norm(check, "x", x->x, x->mean, x->rstd));
	PS_TRY(same(check, "dy", x->dy, x->x));
	PS_TRY(vector(check, "dgamma", x->dgamma, x->x.dtype, last_dim(x->x)));
	return vector(check, "dbeta", x->dbeta, x->x.dtype, last_dim(x->x));
}

static ps_status check_dropout_add_layernorm_fwd(const struct check *check, const ps_args_dropout_add_layernorm_fwd *x)
{
	PS_TRY(check_norm_fwd(check, "sum",
	                      &(ps_args_layernorm_fwd){x->sum, x->gamma, x->beta, x->y, x->mean, x->rstd, 0}));
	PS_TRY(same(check, "z", x->z, x->sum));
	PS_TRY(same(check, "residual", x->residual, x->sum));
	return probability(check, x->drop.p);
}

static ps_status check_dropout_add_layernorm_bwd_input(const struct check *check,
                                                       const ps_args_dropout_add_layernorm_bwd_input *x)
{
	PS_TRY(check_norm_bwd(check, "sum", "dresidual",
	                      &(ps_args_layernorm_bwd_input){x->dy, x->sum, x->mean, x->rstd, x->gamma, x->dresidual}));
	PS_TRY(same(check, "dz", x->dz, x->sum));
	return probability(check, x->drop.p);
}

/* `name` is what the op calls its out (rows, time, E). */
static ps_status check_attention(const struct check *check, ps_tensor qkv, ps_tensor probs, const char *name,
                                 ps_tensor out, int heads, float p)
{
	PS_TRY(floating(check, name, out));
	PS_TRY(dense(check, name, out, out.dtype));
	PS_TRY(dense(check, "qkv", qkv, out.dtype));
	PS_TRY(dense(check, "probs", probs, out.dtype));
	if (out.rank != 3)
		return bad(check, name, out, "(rows, time, E)");
	int64_t rows = out.dims[0], time = out.dims[1], width = out.dims[2];
	if (heads <= 0 || width % heads)
		return ps_fail(PS_EINVAL, "%s on %s: %d heads do not divide the width %" PRId64, ps_op_name(check->op),
		               check->device->info.name, heads, width);
	if (qkv.rank != 3 || qkv.dims[0] != rows || qkv.dims[1] != time || qkv.dims[2] != 3 * width)
		return bad(check, "qkv", qkv, "(rows, time, 3 E)");
	if (probs.rank != 4 || probs.dims[0] != rows || probs.dims[1] != heads || probs.dims[2] != time ||
	    probs.dims[3] != time)
		return bad(check, "probs", probs, "(rows, heads, time, time)");
	return probability(check, p);
}

static ps_status check_attention_fwd(const struct check *check, const ps_args_attention_fwd *x)
{
	return check_attention(check, x->qkv, x->probs, "out", x->out, x->heads, x->drop.p);
}

static ps_status check_attention_bwd(const struct check *check, const ps_args_attention_bwd *x)
{
	PS_TRY(check_attention(check, x->qkv, x->probs, "dout", x->dout, x->heads, x->drop.p));
	return same(check, "dqkv", x->dqkv, x->qkv);
}

static ps_status check_cross_entropy(const struct check *check, const ps_args_cross_entropy *x)
{
	PS_TRY(floating(check, "logits", x->logits));
	PS_TRY(dense(check, "logits", x->logits, x->logits.dtype));
	int64_t n = ps_tensor_count(x->logits) / last_dim(x->logits);
	PS_TRY(vector(check, "targets", x->targets, PS_I32, n));
	PS_TRY(vector(check, "losses", x->losses, x->logits.dtype, n));
	return ps_tensor_present(x->dlogits) ? same(check, "dlogits", x->dlogits, x->logits) : PS_OK;
}

static ps_status check_sum_squares(const struct check *check, const ps_args_sum_squares *x)
{
	ps_dtype dtype = x->x.dtype;
	PS_TRY(maybe_bf16(check, x->x, dtype, &dtype));
	if (dtype != PS_BF16)
		PS_TRY(floating(check, "x", x->x));
	PS_TRY(dense(check, "x", x->x, dtype));
	return vector(check, "out", x->out, PS_F64, 1);
}

static ps_status check_clip_scale(const struct check *check, const ps_args_clip_scale *x)
{
	PS_TRY(dense(check, "sums", x->sums, PS_F64));
	PS_TRY(vector(check, "norm", x->norm, PS_F64, 1));
	return vector(check, "scale", x->scale, PS_F64, 1);
}

static ps_status check_sgd(const struct check *check, const ps_args_sgd *x)
{
	ps_dtype dtype = x->w.dtype;
	PS_TRY(maybe_bf16(check, x->w, dtype, &dtype));
	if (dtype != PS_BF16)
		PS_TRY(floating(check, "w", x->w));
	PS_TRY(dense(check, "w", x->w, dtype));
	PS_TRY(same(check, "g", x->g, x->w));
	PS_TRY(vector(check, "scale", x->scale, PS_F64, 1));
	if (!ps_tensor_present(x->copy))
		return PS_OK;
	PS_TRY(maybe_bf16(check, x->copy, PS_F32, &dtype));
	if (x->w.dtype != PS_F32)
		return bad(check, "w", x->w, "fp32 beside a copy");
	ps_tensor like = x->w;
	like.dtype = PS_BF16;
	return same(check, "copy", x->copy, like);
}

static ps_status check_one(const struct check *check, ps_op op, const void *arguments)
{
	switch (op) {
#define PS_OP(name, text)  \
	case PS_OP_##name: \
		return check_##name(check, arguments);
#include <penstock/ops.def>
	case PS_OP_COUNT:
		break;
	}
	return ps_fail(PS_EINVAL, "no op has the number %d", (int)op);
}

ps_status ps__op_check(const ps_device *device, ps_op op, const void *arguments)
{
	PS_TRY(check_one(&(const struct check){device, op}, op, arguments));
	return ps__op_check_aliases(device, op, arguments);
}
