/* Layer normalisation as a layer of its own: y = (x - mean) / sqrt(variance + eps) * weight + bias. */
#include "tests/model/norm_layer.h"

#include <stdlib.h>

#define EPSILON 1e-5

enum { WEIGHT, BIAS, PARAMETERS };
enum { MEAN, RSTD, SLOTS };

struct norm {
	ps_layer base;
	ps_parameter parameters[PARAMETERS];
	int64_t width;
};

static ps_status plan(const ps_layer *layer, const ps_shape *in, ps_dtype dtype, ps_layer_plan *out)
{
	const struct norm *self = (const struct norm *)layer;
	(void)dtype;
	if (in->rank != 2 || in->dims[1] != self->width)
		return ps_fail(PS_EINVAL, "layer %s takes (time, %lld)", layer->name, (long long)self->width);
	ps_shape column = {in->dtype, 1, {in->dims[0]}};
	out->out = *in;
	out->slots[MEAN] = (ps_slot){"mean", PS_LIFETIME_SAVED_W, column};
	out->slots[RSTD] = (ps_slot){"rstd", PS_LIFETIME_SAVED_W, column};
	out->slot_count = SLOTS;
	out->input = PS_LIFETIME_SAVED_W;
	out->gradient = PS_LIFETIME_CARRY;
	out->forward_flops = 8.0 * (double)in->dims[0] * (double)self->width;
	out->backward_input_flops = out->backward_weight_flops = out->forward_flops;
	return PS_OK;
}

static ps_status forward(const ps_layer *layer, const ps_layer_context *c)
{
	(void)layer;
	return ps_record(c->list, layernorm_fwd, .x = c->x, .gamma = c->parameters[WEIGHT], .beta = c->parameters[BIAS],
	                 .y = c->y, .mean = c->slots[MEAN], .rstd = c->slots[RSTD], .eps = EPSILON);
}

static ps_status backward_input(const ps_layer *layer, const ps_layer_context *c)
{
	(void)layer;
	return ps_record(c->list, layernorm_bwd_input, .dy = c->dy, .x = c->x, .mean = c->slots[MEAN],
	                 .rstd = c->slots[RSTD], .gamma = c->parameters[WEIGHT], .dx = c->dx);
}

static ps_status backward_weight(const ps_layer *layer, const ps_layer_context *c)
{
	(void)layer;
	return ps_record(c->list, layernorm_bwd_weight, .dy = c->dy, .x = c->x, .mean = c->slots[MEAN],
	                 .rstd = c->slots[RSTD], .dgamma = c->gradients[WEIGHT], .dbeta = c->gradients[BIAS],
	                 .accumulate = c->accumulate);
}

static void destroy(ps_layer *layer)
{
	free(layer);
}

static const ps_layer_impl impl = {
        .name = "norm",
        .plan = plan,
        .forward = forward,
        .backward_input = backward_input,
        .backward_weight = backward_weight,
        .destroy = destroy,
};

ps_status norm_layer_create(ps_layer **out, uint32_t index, int64_t width)
{
	*out = NULL;
	struct norm *self = calloc(1, sizeof *self);
	if (!self)
		return ps_fail(PS_ENOMEM, "out of memory for a layer");
	self->width = width;
	self->parameters[WEIGHT] = (ps_parameter){"weight", 1, {width}, PS_INIT_CONSTANT, 1, 1, false};
	self->parameters[BIAS] = (ps_parameter){"bias", 1, {width}, PS_INIT_CONSTANT, 0, 0, false};
	self->base = (ps_layer){.impl = &impl,
	                        .name = "norm",
	                        .index = index,
	                        .parameters = self->parameters,
	                        .parameter_count = PARAMETERS};
	*out = &self->base;
	return PS_OK;
}
