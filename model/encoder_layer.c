/*
 * PyTorch's TransformerEncoderLayer with norm_first = False and ReLU:
 *
 *   x1 = norm1(x + dropout1(out_proj(attention(in_proj(x)))))
 *   y  = norm2(x1 + dropout2(linear2(dropout(relu(linear1(x1))))))
 */
#include <penstock/model.h>

#include "model/sizes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NORM_EPSILON 1e-5

/* In PyTorch's order, which the random numbers of the start values go by. */
enum {
	IN_WEIGHT,
	IN_BIAS,
	OUT_WEIGHT,
	OUT_BIAS,
	LINEAR1_WEIGHT,
	LINEAR1_BIAS,
	LINEAR2_WEIGHT,
	LINEAR2_BIAS,
	NORM1_WEIGHT,
	NORM1_BIAS,
	NORM2_WEIGHT,
	NORM2_BIAS,
	PARAMETERS
};

enum {
	QKV,      /* (time, 3 E) */
	PROBS,    /* (heads, time, time) */
	ATTENDED, /* (time, E): what out_proj takes */
	SUM1,     /* (time, E): what norm1 takes */
	MEAN1,    /* (time) */
	RSTD1,
	X1,     /* (time, E): what norm1 gives */
	HIDDEN, /* (time, nhid): after ReLU and dropout */
	SUM2,
	MEAN2,
	RSTD2,
	DSUM2,     /* (time, E): the gradient of linear2's output, after dropout2 */
	DHIDDEN,   /* (time, nhid): of linear1's output */
	DX1,       /* (time, E) */
	DSUM1,     /* (time, E): of out_proj's output, after dropout1 */
	DQKV,      /* (time, 3 E) */
	DATTENDED, /* (time, E) */
	SLOTS
};

enum { SITE_PROBS, SITE_ATTENTION, SITE_RELU, SITE_FEED_FORWARD };

struct encoder_layer {
	ps_layer base;
	ps_parameter parameters[PARAMETERS];
	int64_t emsize, nhid;
	int nhead;
	double dropout;
	bool causal;
};

static void plan_work(const struct encoder_layer *self, double time, ps_layer_plan *out)
{
	double width = (double)self->emsize;
	double linear = 2.0 * time * (4.0 * width * width + 2.0 * width * (double)self->nhid);
	double attention = 4.0 * time * time * width;
	out->forward_flops = linear + attention;
	out->backward_input_flops = linear + 2.0 * attention;
	out->backward_weight_flops = linear;
}

static ps_status plan(const ps_layer *layer, const ps_shape *in, ps_dtype dtype, ps_layer_plan *out)
{
	const struct encoder_layer *self = (const struct encoder_layer *)layer;
	(void)dtype;
	if (in->rank != 2 || in->dims[1] != self->emsize)
		return ps_fail(PS_EINVAL, "layer %s takes (time, %lld)", layer->name, (long long)self->emsize);
	int64_t time = in->dims[0];
	ps_shape hidden = *in, wide = {in->dtype, 2, {time, self->nhid}},
	         triple = {in->dtype, 2, {time, 3 * self->emsize}};
	ps_shape column = {in->dtype, 1, {time}}, square = {in->dtype, 3, {self->nhead, time, time}};
	const ps_slot slots[SLOTS] = {
	        [QKV] = {"qkv", PS_LIFETIME_SAVED_B, triple},
	        [PROBS] = {"probs", PS_LIFETIME_SAVED_B, square},
	        [ATTENDED] = {"attended", PS_LIFETIME_SAVED_W, hidden},
	        [SUM1] = {"sum1", PS_LIFETIME_SAVED_W, hidden},
	        [MEAN1] = {"mean1", PS_LIFETIME_SAVED_W, column},
	        [RSTD1] = {"rstd1", PS_LIFETIME_SAVED_W, column},
	        [X1] = {"x1", PS_LIFETIME_SAVED_W, hidden},
	        [HIDDEN] = {"hidden", PS_LIFETIME_SAVED_W, wide},
	        [SUM2] = {"sum2", PS_LIFETIME_SAVED_W, hidden},
	        [MEAN2] = {"mean2", PS_LIFETIME_SAVED_W, column},
	        [RSTD2] = {"rstd2", PS_LIFETIME_SAVED_W, column},
	        [DSUM2] = {"dsum2", PS_LIFETIME_CARRY, hidden},
	        [DHIDDEN] = {"dhidden", PS_LIFETIME_CARRY, wide},
	        [DX1] = {"dx1", PS_LIFETIME_CARRY, hidden},
	        [DSUM1] = {"dsum1", PS_LIFETIME_CARRY, hidden},
	        [DQKV] = {"dqkv", PS_LIFETIME_CARRY, triple},
	        [DATTENDED] = {"dattended", PS_LIFETIME_SCRATCH, hidden},
	};
	memcpy(out->slots, slots, sizeof slots);
	out->slot_count = SLOTS;
	out->out = hidden;
	out->input = PS_LIFETIME_SAVED_W;
	out->gradient = PS_LIFETIME_CARRY;
	plan_work(self, (double)time, out);
	return PS_OK;
}

/* y = x weight^T + bias */
static ps_status linear(const ps_layer_context *c, ps_tensor x, int weight, ps_tensor y)
{
	return ps_record(c->list, gemm, .a = ps_tensor_matrix(x), .b = c->parameters[weight], .trans_b = true,
	                 .bias = c->parameters[weight + 1], .c = ps_tensor_matrix(y));
}

/* dx = dy weight (+ dx) */
static ps_status linear_backward(const ps_layer_context *c, ps_tensor dy, int weight, ps_tensor dx, bool accumulate)
{
	return ps_record(c->list, gemm, .a = ps_tensor_matrix(dy), .b = c->parameters[weight],
	                 .c = ps_tensor_matrix(dx), .accumulate = accumulate);
}

/* dweight (+)= dy^T x, dbias (+)= the sum of dy's rows */
static ps_status linear_weight(const ps_layer_context *c, ps_tensor dy, ps_tensor x, int weight)
{
	PS_TRY(ps_record(c->list, gemm, .a = ps_tensor_matrix(dy), .trans_a = true, .b = ps_tensor_matrix(x),
	                 .c = c->gradients[weight], .accumulate = c->accumulate));
	return ps_record(c->list, column_sum, .x = ps_tensor_matrix(dy), .y = c->gradients[weight + 1],
	                 .accumulate = c->accumulate);
}

static ps_status forward(const ps_layer *layer, const ps_layer_context *c)
{
	const struct encoder_layer *self = (const struct encoder_layer *)layer;
	const ps_tensor *s = c->slots;
	PS_TRY(linear(c, c->x, IN_WEIGHT, s[QKV]));
	PS_TRY(ps_record(c->list, attention_fwd, .qkv = s[QKV], .probs = s[PROBS], .out = s[ATTENDED],
	                 .heads = self->nhead, .causal = self->causal,
	                 .drop = ps_layer_dropout(layer, c, SITE_PROBS, self->dropout)));
	PS_TRY(linear(c, s[ATTENDED], OUT_WEIGHT, s[SUM1]));
	PS_TRY(ps_record(c->list, dropout_add_layernorm_fwd, .z = s[SUM1], .residual = c->x, .sum = s[SUM1],
	                 .gamma = c->parameters[NORM1_WEIGHT], .beta = c->parameters[NORM1_BIAS], .y = s[X1],
	                 .mean = s[MEAN1], .rstd = s[RSTD1], .eps = NORM_EPSILON,
	                 .drop = ps_layer_dropout(layer, c, SITE_ATTENTION, self->dropout)));
	PS_TRY(linear(c, s[X1], LINEAR1_WEIGHT, s[HIDDEN]));
	PS_TRY(ps_record(c->list, relu_dropout_fwd, .x = s[HIDDEN], .y = s[HIDDEN],
	                 .drop = ps_layer_dropout(layer, c, SITE_RELU, self->dropout)));
	PS_TRY(linear(c, s[HIDDEN], LINEAR2_WEIGHT, s[SUM2]));
	return ps_record(c->list, dropout_add_layernorm_fwd, .z = s[SUM2], .residual = s[X1], .sum = s[SUM2],
	                 .gamma = c->parameters[NORM2_WEIGHT], .beta = c->parameters[NORM2_BIAS], .y = c->y,
	                 .mean = s[MEAN2], .rstd = s[RSTD2], .eps = NORM_EPSILON,
	                 .drop = ps_layer_dropout(layer, c, SITE_FEED_FORWARD, self->dropout));
}

static ps_status backward_input(const ps_layer *layer, const ps_layer_context *c)
{
	const struct encoder_layer *self = (const struct encoder_layer *)layer;
	const ps_tensor *s = c->slots;
	PS_TRY(ps_record(c->list, dropout_add_layernorm_bwd_input, .dy = c->dy, .sum = s[SUM2], .mean = s[MEAN2],
	                 .rstd = s[RSTD2], .gamma = c->parameters[NORM2_WEIGHT], .dresidual = s[DX1], .dz = s[DSUM2],
	                 .drop = ps_layer_dropout(layer, c, SITE_FEED_FORWARD, self->dropout)));
	PS_TRY(linear_backward(c, s[DSUM2], LINEAR2_WEIGHT, s[DHIDDEN], false));
	PS_TRY(ps_record(c->list, relu_dropout_bwd, .dy = s[DHIDDEN], .y = s[HIDDEN], .dx = s[DHIDDEN],
	                 .p = (float)self->dropout));
	PS_TRY(linear_backward(c, s[DHIDDEN], LINEAR1_WEIGHT, s[DX1], true));
	PS_TRY(ps_record(c->list, dropout_add_layernorm_bwd_input, .dy = s[DX1], .sum = s[SUM1], .mean = s[MEAN1],
	                 .rstd = s[RSTD1], .gamma = c->parameters[NORM1_WEIGHT], .dresidual = c->dx, .dz = s[DSUM1],
	                 .drop = ps_layer_dropout(layer, c, SITE_ATTENTION, self->dropout)));
	PS_TRY(linear_backward(c, s[DSUM1], OUT_WEIGHT, s[DATTENDED], false));
	PS_TRY(ps_record(c->list, attention_bwd, .qkv = s[QKV], .probs = s[PROBS], .dout = s[DATTENDED],
	                 .dqkv = s[DQKV], .heads = self->nhead, .causal = self->causal,
	                 .drop = ps_layer_dropout(layer, c, SITE_PROBS, self->dropout)));
	return linear_backward(c, s[DQKV], IN_WEIGHT, c->dx, true);
}

static ps_status norm_weight(const ps_layer_context *c, ps_tensor dy, ps_tensor sum, int mean, int weight)
{
	return ps_record(c->list, layernorm_bwd_weight, .dy = dy, .x = sum, .mean = c->slots[mean],
	                 .rstd = c->slots[mean + 1], .dgamma = c->gradients[weight], .dbeta = c->gradients[weight + 1],
	                 .accumulate = c->accumulate);
}

static ps_status backward_weight(const ps_layer *layer, const ps_layer_context *c)
{
	(void)layer;
	const ps_tensor *s = c->slots;
	PS_TRY(linear_weight(c, s[DQKV], c->x, IN_WEIGHT));
	PS_TRY(linear_weight(c, s[DSUM1], s[ATTENDED], OUT_WEIGHT));
	PS_TRY(linear_weight(c, s[DHIDDEN], s[X1], LINEAR1_WEIGHT));
	PS_TRY(linear_weight(c, s[DSUM2], s[HIDDEN], LINEAR2_WEIGHT));
	PS_TRY(norm_weight(c, s[DX1], s[SUM1], MEAN1, NORM1_WEIGHT));
	return norm_weight(c, c->dy, s[SUM2], MEAN2, NORM2_WEIGHT);
}

static void destroy(ps_layer *layer)
{
	free(layer);
}

static const ps_layer_impl impl = {
        .name = "encoder_layer",
        .plan = plan,
        .forward = forward,
        .backward_input = backward_input,
        .backward_weight = backward_weight,
        .destroy = destroy,
};

static void list_parameters(struct encoder_layer *self)
{
	int64_t e = self->emsize, f = self->nhid;
	double in = sqrt(6.0 / (double)(e + 3 * e)), from_e = 1.0 / sqrt((double)e), from_f = 1.0 / sqrt((double)f);
	const ps_parameter parameters[PARAMETERS] = {
	        [IN_WEIGHT] = {"self_attn.in_proj_weight", 2, {3 * e, e}, PS_INIT_UNIFORM, -in, in, true},
	        [IN_BIAS] = {"self_attn.in_proj_bias", 1, {3 * e}, PS_INIT_CONSTANT, 0, 0, false},
	        [OUT_WEIGHT] = {"self_attn.out_proj.weight", 2, {e, e}, PS_INIT_UNIFORM, -from_e, from_e, true},
	        [OUT_BIAS] = {"self_attn.out_proj.bias", 1, {e}, PS_INIT_CONSTANT, 0, 0, false},
	        [LINEAR1_WEIGHT] = {"linear1.weight", 2, {f, e}, PS_INIT_UNIFORM, -from_e, from_e, true},
	        [LINEAR1_BIAS] = {"linear1.bias", 1, {f}, PS_INIT_UNIFORM, -from_e, from_e, false},
	        [LINEAR2_WEIGHT] = {"linear2.weight", 2, {e, f}, PS_INIT_UNIFORM, -from_f, from_f, true},
	        [LINEAR2_BIAS] = {"linear2.bias", 1, {e}, PS_INIT_UNIFORM, -from_f, from_f, false},
	        [NORM1_WEIGHT] = {"norm1.weight", 1, {e}, PS_INIT_CONSTANT, 1, 1, false},
	        [NORM1_BIAS] = {"norm1.bias", 1, {e}, PS_INIT_CONSTANT, 0, 0, false},
	        [NORM2_WEIGHT] = {"norm2.weight", 1, {e}, PS_INIT_CONSTANT, 1, 1, false},
	        [NORM2_BIAS] = {"norm2.bias", 1, {e}, PS_INIT_CONSTANT, 0, 0, false},
	};
	memcpy(self->parameters, parameters, sizeof parameters);
}

ps_status ps_encoder_layer_create(ps_layer **out, uint32_t index, const char *name, int64_t emsize, int nhead,
                                  int64_t nhid, double dropout, bool causal)
{
	*out = NULL;
	PS_TRY(ps__check_emsize(emsize));
	PS_TRY(ps__check_dropout(dropout));
	if (nhead < 1 || emsize % nhead)
		return ps_fail(PS_EINVAL, "nhead %d does not divide emsize %lld", nhead, (long long)emsize);
	if (nhid < 1 || nhid > 1 << 24)
		return ps_fail(PS_EINVAL, "nhid %lld; it should be 1 to 2^24", (long long)nhid);
	if (strlen(name) >= sizeof(((ps_layer *)NULL)->name))
		return ps_fail(PS_EINVAL, "the name \"%.60s\" of a layer is too long; it may have %zu bytes", name,
		               sizeof(((ps_layer *)NULL)->name) - 1);
	struct encoder_layer *self = calloc(1, sizeof *self);
	if (!self)
		return ps_fail(PS_ENOMEM, "out of memory for a layer");
	self->emsize = emsize;
	self->nhid = nhid;
	self->nhead = nhead;
	self->dropout = dropout;
	self->causal = causal;
	list_parameters(self);
	self->base = (ps_layer){
	        .impl = &impl, .index = index, .parameters = self->parameters, .parameter_count = PARAMETERS};
	snprintf(self->base.name, sizeof self->base.name, "%s", name);
	*out = &self->base;
	return PS_OK;
}
