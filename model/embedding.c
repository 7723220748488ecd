/*
 * Embedding with sinusoidal positions (Vaswani et al., 2017, section 3.5):
 * y = dropout(weight[token] * sqrt(E) + positions[t]), positions[t][2i] = sin(t / 10000^(2i / E)), [2i + 1] the cosine.
 */
#include <penstock/model.h>

#include "model/sizes.h"

#include <math.h>
#include <stdlib.h>

enum { WEIGHT, PARAMETERS };
enum { POSITIONS, SLOTS };
enum { SITE_OUTPUT };

struct embedding {
	ps_layer base;
	ps_parameter parameters[PARAMETERS];
	int64_t vocabulary, emsize, max_time;
	double dropout;
};

static ps_status plan(const ps_layer *layer, const ps_shape *in, ps_dtype dtype, ps_layer_plan *out)
{
	const struct embedding *self = (const struct embedding *)layer;
	if (in->dtype != PS_I32 || in->rank != 1 || in->dims[0] > self->max_time)
		return ps_fail(PS_EINVAL, "layer %s takes int32 (time) with time up to %lld", layer->name,
		               (long long)self->max_time);
	out->out = (ps_shape){dtype, 2, {in->dims[0], self->emsize}};
	out->slots[POSITIONS] =
	        (ps_slot){"positions", PS_LIFETIME_CONSTANT, {dtype, 2, {self->max_time, self->emsize}}};
	out->slot_count = SLOTS;
	out->input = PS_LIFETIME_SAVED_W;
	out->gradient = PS_LIFETIME_CARRY;
	/* A row is read, scaled and shifted: next to nothing beside a GEMM. */
	out->forward_flops = 2.0 * (double)in->dims[0] * (double)self->emsize;
	out->backward_weight_flops = out->forward_flops;
	return PS_OK;
}

static ps_status fill_constant(const ps_layer *layer, int slot, const ps_shape *shape, double *values)
{
	(void)layer;
	(void)slot;
	int64_t width = shape->dims[1];
	for (int64_t t = 0; t < shape->dims[0]; t++) {
		for (int64_t i = 0; i < width; i++) {
			int64_t even = i - i % 2;
			double rate = exp((double)even * (-log(10000.0) / (double)width));
			values[t * width + i] = i % 2 ? cos((double)t * rate) : sin((double)t * rate);
		}
	}
	return PS_OK;
}

static ps_status forward(const ps_layer *layer, const ps_layer_context *c)
{
	const struct embedding *self = (const struct embedding *)layer;
	return ps_record(c->list, embedding_fwd, .tokens = c->x, .weight = c->parameters[WEIGHT],
	                 .positions = c->slots[POSITIONS], .y = c->y, .scale = sqrt((double)self->emsize),
	                 .drop = ps_layer_dropout(layer, c, SITE_OUTPUT, self->dropout));
}

/* Tokens have no gradient. */
static ps_status backward_input(const ps_layer *layer, const ps_layer_context *c)
{
	(void)layer;
	(void)c;
	return PS_OK;
}

static ps_status backward_weight(const ps_layer *layer, const ps_layer_context *c)
{
	const struct embedding *self = (const struct embedding *)layer;
	return ps_record(c->list, embedding_bwd_weight, .tokens = c->x, .dy = c->dy, .dweight = c->gradients[WEIGHT],
	                 .scale = sqrt((double)self->emsize), .accumulate = c->accumulate,
	                 .drop = ps_layer_dropout(layer, c, SITE_OUTPUT, self->dropout));
}

static void destroy(ps_layer *layer)
{
	free(layer);
}

static const ps_layer_impl impl = {
        .name = "embedding",
        .plan = plan,
        .forward = forward,
        .backward_input = backward_input,
        .backward_weight = backward_weight,
        .fill_constant = fill_constant,
        .destroy = destroy,
};

ps_status ps_embedding_create(ps_layer **out, uint32_t index, int64_t vocabulary, int64_t emsize, int64_t max_time,
                              double dropout)
{
	*out = NULL;
	PS_TRY(ps__check_vocabulary(vocabulary));
	PS_TRY(ps__check_emsize(emsize));
	PS_TRY(ps__check_dropout(dropout));
	if (max_time < 1 || max_time > 1 << 20)
		return ps_fail(PS_EINVAL, "%lld time steps; there should be 1 to 2^20", (long long)max_time);
	struct embedding *self = calloc(1, sizeof *self);
	if (!self)
		return ps_fail(PS_ENOMEM, "out of memory for a layer");
	self->vocabulary = vocabulary;
	self->emsize = emsize;
	self->max_time = max_time;
	self->dropout = dropout;
	self->parameters[WEIGHT] = (ps_parameter){"weight", 2, {vocabulary, emsize}, PS_INIT_UNIFORM, -0.1, 0.1, false};
	self->base = (ps_layer){.impl = &impl,
	                        .name = "encoder",
	                        .index = index,
	                        .parameters = self->parameters,
	                        .parameter_count = PARAMETERS};
	*out = &self->base;
	return PS_OK;
}
