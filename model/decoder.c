/*
 * The decoder, linear (V, E) with bias, and the loss: cross entropy against the targets. The logits' gradient is made
 * in the forward, in the place of the logits, since the softmax is at hand there.
 */
#include <penstock/model.h>

#include "model/sizes.h"

#include <stdlib.h>

enum { WEIGHT, BIAS, PARAMETERS };
enum { LOGITS, SLOTS };

struct decoder {
	ps_layer base;
	ps_parameter parameters[PARAMETERS];
	int64_t vocabulary, emsize;
};

static ps_status plan(const ps_layer *layer, const ps_shape *in, ps_dtype dtype, ps_layer_plan *out)
{
	const struct decoder *self = (const struct decoder *)layer;
	(void)dtype;
	if (in->rank != 2 || in->dims[1] != self->emsize)
		return ps_fail(PS_EINVAL, "layer %s takes (time, %lld)", layer->name, (long long)self->emsize);
	out->out = (ps_shape){0};
	out->slots[LOGITS] = (ps_slot){"logits", PS_LIFETIME_SAVED_W, {in->dtype, 2, {in->dims[0], self->vocabulary}}};
	out->slot_count = SLOTS;
	out->input = PS_LIFETIME_SAVED_W;
	out->gradient = PS_LIFETIME_SCRATCH;
	out->forward_flops = 2.0 * (double)in->dims[0] * (double)self->emsize * (double)self->vocabulary;
	out->backward_input_flops = out->backward_weight_flops = out->forward_flops;
	return PS_OK;
}

static ps_status forward(const ps_layer *layer, const ps_layer_context *c)
{
	(void)layer;
	ps_tensor logits = ps_tensor_matrix(c->slots[LOGITS]);
	PS_TRY(ps_record(c->list, gemm, .a = ps_tensor_matrix(c->x), .b = c->parameters[WEIGHT], .trans_b = true,
	                 .bias = c->parameters[BIAS], .c = logits));
	return ps_record(c->list, cross_entropy, .logits = logits, .targets = c->targets, .losses = c->losses,
	                 .dlogits = c->training ? logits : (ps_tensor){0}, .scale = c->loss_scale);
}

static ps_status backward_input(const ps_layer *layer, const ps_layer_context *c)
{
	(void)layer;
	return ps_record(c->list, gemm, .a = ps_tensor_matrix(c->slots[LOGITS]), .b = c->parameters[WEIGHT],
	                 .c = ps_tensor_matrix(c->dx));
}

static ps_status backward_weight(const ps_layer *layer, const ps_layer_context *c)
{
	(void)layer;
	ps_tensor dlogits = ps_tensor_matrix(c->slots[LOGITS]);
	PS_TRY(ps_record(c->list, gemm, .a = dlogits, .trans_a = true, .b = ps_tensor_matrix(c->x),
	                 .c = c->gradients[WEIGHT], .accumulate = c->accumulate));
	return ps_record(c->list, column_sum, .x = dlogits, .y = c->gradients[BIAS], .accumulate = c->accumulate);
}

static void destroy(ps_layer *layer)
{
	free(layer);
}

static const ps_layer_impl impl = {
        .name = "decoder",
        .plan = plan,
        .forward = forward,
        .backward_input = backward_input,
        .backward_weight = backward_weight,
        .destroy = destroy,
};

ps_status ps_decoder_create(ps_layer **out, uint32_t index, int64_t vocabulary, int64_t emsize)
{
	*out = NULL;
	PS_TRY(ps__check_vocabulary(vocabulary));
	PS_TRY(ps__check_emsize(emsize));
	struct decoder *self = calloc(1, sizeof *self);
	if (!self)
		return ps_fail(PS_ENOMEM, "out of memory for a layer");
	self->vocabulary = vocabulary;
	self->emsize = emsize;
	self->parameters[WEIGHT] = (ps_parameter){"weight", 2, {vocabulary, emsize}, PS_INIT_UNIFORM, -0.1, 0.1, true};
	self->parameters[BIAS] = (ps_parameter){"bias", 1, {vocabulary}, PS_INIT_CONSTANT, 0, 0, false};
	self->base = (ps_layer){.impl = &impl,
	                        .name = "decoder",
	                        .index = index,
	                        .parameters = self->parameters,
	                        .parameter_count = PARAMETERS};
	*out = &self->base;
	return PS_OK;
}
