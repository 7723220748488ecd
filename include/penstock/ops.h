/*
 * The ops: one argument struct each, and the call.
 *
 *   ps_run(queue, relu_fwd, .x = x, .y = y);
 *
 * A call is checked once for all backends (shapes, dtypes, presence), then handed to the backend's function, which
 * enqueues it or refuses it with PS_ENOTSUP before anything is enqueued, naming op, dtype, shape and device. Nothing
 * falls back to another device.
 *
 * Unless said otherwise: tensors are contiguous and on the queue's device; floating-point tensors of one call have one
 * dtype (F32, or F64 where the device can); BF16 tensors are taken only where it says so; outputs overlap no input;
 * "may alias" means exactly the same view;
 * "(+)" means that `accumulate` chooses between overwriting and adding; sums over rows run in ascending row order, so
 * that results do not depend on how rows were split; reductions over features are accumulated at least in the
 * tensors' dtype, by `ref` in double. Every op is deterministic. rows, time, E, heads, V are as in docs/random.md and
 * the model; n stands for rows * time where only the product matters.
 */
#ifndef PENSTOCK_OPS_H
#define PENSTOCK_OPS_H

#include <penstock/device.h>
#include <penstock/random.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ps_op {
#define PS_OP(name, text) PS_OP_##name,
#include <penstock/ops.def>
	PS_OP_COUNT
} ps_op;

/*
 * A dropout site. The mask is regenerated from the place wherever it is needed and never stored: element e of the
 * tensor's local sample row r is kept iff word(first_row + r, e) >= floor((double)p * 2^32), and then multiplied by
 * 1 / (1 - (double)p), which is rounded to float for F32 tensors; a dropped element is exactly 0, whatever it was.
 * p = 0 means no dropout, and the place is not read.
 */
typedef struct ps_dropout {
	float p;            /* 0 <= p < 1 */
	uint32_t first_row; /* the tensor's first sample row within the whole batch */
	ps_random_place place;
} ps_dropout;

/*
 * c (m, n) = op(a) (m, k) op(b) (k, n) + bias (n) (+). a is stored (k, m) when trans_a is set, b (n, k) when trans_b
 * is. a, b and c may be views with any row stride >= columns and unit column stride. bias is optional. For given n
 * and k, a row of c has the same bits whatever m is. Cost: 2 m n k operations.
 *
 * Beside F64 throughout, each of a, b and c is F32 or BF16, and bias is F32. Where one of them is BF16, or the queue's
 * math is PS_MATH_BF16, it is a bf16 product: elements of a and b that are F32 are rounded to bf16 first, products are
 * exact and added up in fp32 (by `ref` in double), denormal numbers may count as zero, and a BF16 c is rounded once,
 * at the end.
 */
typedef struct ps_args_gemm {
	ps_tensor a, b, c, bias;
	bool trans_a, trans_b, accumulate;
} ps_args_gemm;

/* Is it a bf16 product, on this queue? For backends. */
static inline bool ps_gemm_is_bf16(const ps_args_gemm *x, ps_math math)
{
	return x->c.dtype != PS_F64 &&
	       (math == PS_MATH_BF16 || x->a.dtype == PS_BF16 || x->b.dtype == PS_BF16 || x->c.dtype == PS_BF16);
}

/* x (n, columns), y (columns): y = the sum over the n rows, in ascending order (+). The gradient of a bias. */
typedef struct ps_args_column_sum {
	ps_tensor x, y;
	bool accumulate;
} ps_args_column_sum;

/* Same shapes; y may alias a or b. */
typedef struct ps_args_add {
	ps_tensor a, b, y;
} ps_args_add;

/* Same shapes; y may alias x. A NaN stays a NaN, so that a run that went astray is seen. */
typedef struct ps_args_relu_fwd {
	ps_tensor x, y;
} ps_args_relu_fwd;

/* y is the forward result; dx may alias dy. */
typedef struct ps_args_relu_bwd {
	ps_tensor dy, y, dx;
} ps_args_relu_bwd;

/* x, y (rows, …): forward and, applied to dy with the same place, backward. y may alias x. */
typedef struct ps_args_dropout {
	ps_tensor x, y;
	ps_dropout drop;
} ps_args_dropout;

/* x, y (rows, …); y may alias x. */
typedef struct ps_args_relu_dropout_fwd {
	ps_tensor x, y;
	ps_dropout drop;
} ps_args_relu_dropout_fwd;

/* y is the forward result, which is positive exactly where relu was active and dropout kept; dx may alias dy. */
typedef struct ps_args_relu_dropout_bwd {
	ps_tensor dy, y, dx;
	float p;
} ps_args_relu_dropout_bwd;

/*
 * tokens (rows, time) I32 in [0, V), weight (V, E), positions (>= time, E), y (rows, time, E):
 * y = dropout(weight[token] * scale + positions[t]). weight may be BF16 where y is F32. A token out of range fails the
 * queue.
 */
typedef struct ps_args_embedding_fwd {
	ps_tensor tokens, weight, positions, y;
	double scale;
	ps_dropout drop;
} ps_args_embedding_fwd;

/*
 * dy (rows, time, E), dweight (V, E): dweight[token] (+)= dropout(dy) * scale, added in ascending row and time. dweight
 * may be BF16 where dy is F32; then each sum is formed in fp32 and rounded once.
 */
typedef struct ps_args_embedding_bwd_weight {
	ps_tensor tokens, dy, dweight;
	double scale;
	bool accumulate;
	ps_dropout drop;
} ps_args_embedding_bwd_weight;

/*
 * x, y (…, E), gamma, beta (E), mean, rstd (n): mean and rstd = 1 / sqrt(variance + eps) of each row with the biased
 * variance, y = (x - mean) * rstd * gamma + beta.
 */
typedef struct ps_args_layernorm_fwd {
	ps_tensor x, gamma, beta, y, mean, rstd;
	double eps;
} ps_args_layernorm_fwd;

/* With xhat = (x - mean) * rstd, g = dy * gamma: dx = rstd * (g - avg(g) - xhat * avg(g * xhat)). dx may alias dy. */
typedef struct ps_args_layernorm_bwd_input {
	ps_tensor dy, x, mean, rstd, gamma, dx;
} ps_args_layernorm_bwd_input;

/* dgamma (+)= sum of dy * xhat, dbeta (+)= sum of dy, over the n rows in ascending order. */
typedef struct ps_args_layernorm_bwd_weight {
	ps_tensor dy, x, mean, rstd, dgamma, dbeta;
	bool accumulate;
} ps_args_layernorm_bwd_weight;

/*
 * z, residual, sum, y (rows, …, E): sum = residual + dropout(z), then layernorm as above over sum. sum may alias z.
 */
typedef struct ps_args_dropout_add_layernorm_fwd {
	ps_tensor z, residual, gamma, beta, sum, y, mean, rstd;
	double eps;
	ps_dropout drop;
} ps_args_dropout_add_layernorm_fwd;

/* dresidual = dx of layernorm over sum, dz = dropout(dresidual). dresidual may alias dy. */
typedef struct ps_args_dropout_add_layernorm_bwd_input {
	ps_tensor dy, sum, mean, rstd, gamma, dresidual, dz;
	ps_dropout drop;
} ps_args_dropout_add_layernorm_bwd_input;

/*
 * Self-attention. qkv (rows, time, 3 E) holds q, k and v side by side; head h is features [h d, (h + 1) d) of each,
 * d = E / heads. probs (rows, heads, time, time) = softmax over the last dimension of q k^T / sqrt(d), before
 * dropout; with `causal`, position i sees positions 0 to i and the others are exactly 0. out (rows, time, E) =
 * dropout(probs) v. The mask's element is (h * time + i) * time + j.
 *
 * On F32 tensors, where the queue's math is not fp32, a backend may round the factors of each product to bf16 or tf32,
 * whichever it is, in attention_bwd too: q, k, v, dropout(probs), dout and ds. Sums, softmax, dropout and probs itself
 * stay fp32. Whether it does depends on the shape alone.
 */
typedef struct ps_args_attention_fwd {
	ps_tensor qkv, probs, out;
	int heads;
	bool causal;
	ps_dropout drop;
} ps_args_attention_fwd;

/* dout (rows, time, E), dqkv (rows, time, 3 E). Forms its inner terms from qkv, probs and the regenerated mask. */
typedef struct ps_args_attention_bwd {
	ps_tensor qkv, probs, dout, dqkv;
	int heads;
	bool causal;
	ps_dropout drop;
} ps_args_attention_bwd;

/*
 * logits (…, V), targets (n elements) I32 in [0, V), losses (n elements) of the logits' dtype: losses = log(sum of
 * exp) - logit of the target, without overflow for any finite logits. dlogits, if present, = scale * (softmax -
 * onehot) and may alias logits. A target out of range fails the queue.
 */
typedef struct ps_args_cross_entropy {
	ps_tensor logits, targets, losses, dlogits;
	double scale;
} ps_args_cross_entropy;

/* x may be BF16. out (1) F64 = the sum of x^2, accumulated in double in an order that depends on the number of elements
 * only. */
typedef struct ps_args_sum_squares {
	ps_tensor x, out;
} ps_args_sum_squares;

/*
 * sums (n) F64, norm (1) F64, scale (1) F64: norm = sqrt of the sums added in ascending order; scale = 1 when
 * max_norm <= 0, else min(1, max_norm / (norm + 1e-6)), torch.nn.utils.clip_grad_norm_'s rule. Of a norm that is NaN or
 * infinite the scale is NaN.
 */
typedef struct ps_args_clip_scale {
	ps_tensor sums, norm, scale;
	double max_norm;
} ps_args_clip_scale;

/*
 * w -= lr * scale * g, with lr * scale formed in double. scale (1) F64; when it is NaN, nothing is changed. One pass
 * over both. copy, if present, is BF16 and becomes w, which is F32 then, rounded to the nearest.
 *
 * w and g may be BF16. Then lr * scale is rounded to float, w - (lr * scale) * g is formed in fp32 with one rounding (a
 * fused multiply-add), and that is rounded to bf16 at random by `place` (docs/random.md): the same bits on every
 * device.
 */
typedef struct ps_args_sgd {
	ps_tensor w, g, scale, copy;
	double lr;
	ps_random_place place; /* of a BF16 w; not read otherwise */
} ps_args_sgd;

/* "gelu_fwd", and one line on what it computes. */
const char *ps_op_name(ps_op op);
const char *ps_op_text(ps_op op);

/* Checks and enqueues op with its argument struct, whose size guards against a wrong pair. Use ps_run. */
ps_status ps_op_run(ps_queue *queue, ps_op op, const void *arguments, size_t bytes) PS_WARN_UNUSED;

#define ps_run(queue, op, ...) ps_op_run((queue), PS_OP_##op, &(const ps_args_##op){__VA_ARGS__}, sizeof(ps_args_##op))

/*
 * A command list: ops recorded once and enqueued many times. Recording checks each op and asks the backend whether it
 * would take it, so that refusals come before the first step. The only thing that varies between submissions is the
 * training step in the ops' random places.
 */
typedef struct ps_list ps_list;

ps_status ps_list_create(ps_list **out, ps_queue *queue) PS_WARN_UNUSED;
/* Before its queue is destroyed. Waits until nothing of the list is on its way. Takes NULL. */
void ps_list_destroy(ps_list *list);
/* Forgets what was recorded, and keeps the memory. Waits until nothing of the list is on its way. */
void ps_list_clear(ps_list *list);
ps_status ps_list_record(ps_list *list, ps_op op, const void *arguments, size_t bytes) PS_WARN_UNUSED;
/* Names what is recorded from now on (a layer's name) for messages; the string must outlive the list. */
void ps_list_scope(ps_list *list, const char *name);
/* Enqueues all ops on the queue that the list was made for. */
ps_status ps_list_submit(ps_list *list, uint32_t step) PS_WARN_UNUSED;
size_t ps_list_count(const ps_list *list);
/* The op and the scope of entry `index`. */
ps_op ps_list_op(const ps_list *list, size_t index, const char **scope);

#define ps_record(list, op, ...) \
	ps_list_record((list), PS_OP_##op, &(const ps_args_##op){__VA_ARGS__}, sizeof(ps_args_##op))

#ifdef __cplusplus
}
#endif
#endif
