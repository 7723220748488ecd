/* Reference self-attention, one head and one query position at a time. */
#include "backends/cpu/ref/ref.h"

#include <math.h>
#include <stdlib.h>

/* What the loops of one head need: where its q, k and v start in qkv, and its row of out. */
struct head {
	int64_t time, width, features; /* features: of one head */
	int64_t row, index;            /* sample row and head */
	double scale;                  /* 1 / sqrt(features) */
};

static struct head head_of(ps_tensor out, int heads)
{
	int64_t features = out.dims[2] / heads;
	return (struct head){
	        .time = out.dims[1], .width = out.dims[2], .features = features, .scale = 1 / sqrt((double)features)};
}

/* Where q (part 0), k (1) or v (2) of a position starts in qkv. */
static int64_t part(const struct head *h, int which, int64_t position)
{
	return (h->row * h->time + position) * 3 * h->width + which * h->width + h->index * h->features;
}

/* Where the head's features of a position start in out. */
static int64_t features_of(const struct head *h, int64_t position)
{
	return (h->row * h->time + position) * h->width + h->index * h->features;
}

/* The index of probability (i, j) within a sample row, which is also the mask's element. */
static int64_t pair(const struct head *h, int64_t i, int64_t j)
{
	return (h->index * h->time + i) * h->time + j;
}

/* The index of probability (i, j) in the whole of probs. */
static int64_t probability_at(const struct head *h, int heads, int64_t i, int64_t j)
{
	return h->row * heads * h->time * h->time + pair(h, i, j);
}

/* Softmax of the scores of position i over the `seen` first positions. */
static void softmax(const struct head *h, ps_tensor qkv, int64_t i, int64_t seen, double *probs)
{
	double most = -INFINITY, sum = 0;
	for (int64_t j = 0; j < seen; j++) {
		double score = 0;
		for (int64_t f = 0; f < h->features; f++)
			score += ref_get(qkv, part(h, 0, i) + f) * ref_get(qkv, part(h, 1, j) + f);
		probs[j] = score * h->scale;
		if (probs[j] > most)
			most = probs[j];
	}
	for (int64_t j = 0; j < seen; j++) {
		probs[j] = exp(probs[j] - most);
		sum += probs[j];
	}
	for (int64_t j = 0; j < seen; j++)
		probs[j] /= sum;
}

static void forward_head(const ps_args_attention_fwd *x, const struct head *h, struct ref_mask *mask, double *probs,
                         double *out)
{
	for (int64_t i = 0; i < h->time; i++) {
		int64_t seen = x->causal ? i + 1 : h->time;
		softmax(h, x->qkv, i, seen, probs);
		for (int64_t f = 0; f < h->features; f++)
			out[f] = 0;
		for (int64_t j = 0; j < h->time; j++) {
			ref_set(x->probs, probability_at(h, x->heads, i, j), j < seen ? probs[j] : 0);
			if (j >= seen)
				continue;
			double weight = ref_mask_apply(mask, h->row, pair(h, i, j), probs[j]);
			for (int64_t f = 0; f < h->features; f++)
				out[f] += weight * ref_get(x->qkv, part(h, 2, j) + f);
		}
		for (int64_t f = 0; f < h->features; f++)
			ref_set(x->out, features_of(h, i) + f, out[f]);
	}
}

static ps_status attention_fwd_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_args_attention_fwd *x = arguments;
	struct head h = head_of(x->out, x->heads);
	struct ref_mask mask = ref_mask_start(&x->drop, x->out.dtype);
	double *scratch = malloc((size_t)(h.time + h.features) * sizeof *scratch);
	if (!scratch)
		return ps_fail(PS_ENOMEM, "attention_fwd: out of memory for a row of probabilities");
	for (h.row = 0; h.row < x->out.dims[0]; h.row++)
		for (h.index = 0; h.index < x->heads; h.index++)
			forward_head(x, &h, &mask, scratch, scratch + h.time);
	free(scratch);
	return PS_OK;
}
REF_OP(attention_fwd)

/* Accumulators of one head: dk and dv (time, features), dq (features), and a row over the positions. */
struct gradients {
	double *dk, *dv, *dq, *dprobs;
};

/*
 * With m the mask's factors, P = probs, D = P m: dv = D^T dout, dP = m (dout v^T), dS = P (dP - sum of P dP over j),
 * dq = dS k / sqrt(d), dk = dS^T q / sqrt(d).
 */
static void backward_position(const ps_args_attention_bwd *x, const struct head *h, struct ref_mask *mask, int64_t i,
                              const struct gradients *g)
{
	int64_t seen = x->causal ? i + 1 : h->time;
	double inner = 0;
	for (int64_t j = 0; j < seen; j++) {
		double prob = ref_get(x->probs, probability_at(h, x->heads, i, j)), dot = 0;
		double weight = ref_mask_apply(mask, h->row, pair(h, i, j), prob);
		for (int64_t f = 0; f < h->features; f++) {
			double dout = ref_get(x->dout, features_of(h, i) + f);
			dot += dout * ref_get(x->qkv, part(h, 2, j) + f);
			g->dv[j * h->features + f] += weight * dout;
		}
		g->dprobs[j] = ref_mask_apply(mask, h->row, pair(h, i, j), dot);
		inner += prob * g->dprobs[j];
	}
	for (int64_t f = 0; f < h->features; f++)
		g->dq[f] = 0;
	for (int64_t j = 0; j < seen; j++) {
		double prob = ref_get(x->probs, probability_at(h, x->heads, i, j));
		double dscore = prob * (g->dprobs[j] - inner) * h->scale;
		for (int64_t f = 0; f < h->features; f++) {
			g->dq[f] += dscore * ref_get(x->qkv, part(h, 1, j) + f);
			g->dk[j * h->features + f] += dscore * ref_get(x->qkv, part(h, 0, i) + f);
		}
	}
	for (int64_t f = 0; f < h->features; f++)
		ref_set(x->dqkv, part(h, 0, i) + f, g->dq[f]);
}

static void backward_head(const ps_args_attention_bwd *x, const struct head *h, struct ref_mask *mask,
                          const struct gradients *g)
{
	for (int64_t i = 0; i < h->time * h->features; i++)
		g->dk[i] = g->dv[i] = 0;
	for (int64_t i = 0; i < h->time; i++)
		backward_position(x, h, mask, i, g);
	for (int64_t j = 0; j < h->time; j++)
		for (int64_t f = 0; f < h->features; f++) {
			ref_set(x->dqkv, part(h, 1, j) + f, g->dk[j * h->features + f]);
			ref_set(x->dqkv, part(h, 2, j) + f, g->dv[j * h->features + f]);
		}
}

static ps_status attention_bwd_kernel(const struct cpu_device *device, const void *arguments)
{
	(void)device;
	const ps_args_attention_bwd *x = arguments;
	struct head h = head_of(x->dout, x->heads);
	struct ref_mask mask = ref_mask_start(&x->drop, x->dout.dtype);
	size_t plane = (size_t)(h.time * h.features);
	double *scratch = malloc((2 * plane + (size_t)(h.features + h.time)) * sizeof *scratch);
	if (!scratch)
		return ps_fail(PS_ENOMEM, "attention_bwd: out of memory for a head's gradients");
	struct gradients g = {.dk = scratch,
	                      .dv = scratch + plane,
	                      .dq = scratch + 2 * plane,
	                      .dprobs = scratch + 2 * plane + h.features};
	for (h.row = 0; h.row < x->dout.dims[0]; h.row++)
		for (h.index = 0; h.index < x->heads; h.index++)
			backward_head(x, &h, &mask, &g);
	free(scratch);
	return PS_OK;
}
REF_OP(attention_bwd)
