/* Layers whose plans differ from those of the Transformer: inputs and gradients that need not be kept. */
#include "tests/engine/trial.h"

#include <stdio.h>
#include <stdlib.h>

static ps_status plan_doubling(const ps_layer *layer, const ps_shape *in, ps_dtype dtype, ps_layer_plan *out)
{
	(void)layer;
	(void)dtype;
	out->out = *in;
	out->slots[0] = (ps_slot){"kept", PS_LIFETIME_SAVED_B, *in};
	out->slots[1] = (ps_slot){"half", PS_LIFETIME_SCRATCH, *in};
	out->slot_count = 2;
	out->input = PS_LIFETIME_SCRATCH;
	out->gradient = PS_LIFETIME_SCRATCH;
	out->forward_flops = out->backward_input_flops = 2;
	return PS_OK;
}

/* y = 2 relu(x) */
static ps_status double_forward(const ps_layer *layer, const ps_layer_context *c)
{
	(void)layer;
	PS_TRY(ps_record(c->list, relu_fwd, .x = c->x, .y = c->slots[0]));
	return ps_record(c->list, add, .a = c->slots[0], .b = c->slots[0], .y = c->y);
}

static ps_status double_backward(const ps_layer *layer, const ps_layer_context *c)
{
	(void)layer;
	PS_TRY(ps_record(c->list, relu_bwd, .dy = c->dy, .y = c->slots[0], .dx = c->slots[1]));
	return ps_record(c->list, add, .a = c->slots[1], .b = c->slots[1], .y = c->dx);
}

static ps_status plan_relu(const ps_layer *layer, const ps_shape *in, ps_dtype dtype, ps_layer_plan *out)
{
	(void)layer;
	(void)dtype;
	out->out = *in;
	out->input = PS_LIFETIME_SAVED_B;
	out->gradient = PS_LIFETIME_SCRATCH;
	out->forward_flops = out->backward_input_flops = 1;
	return PS_OK;
}

static ps_status relu_forward(const ps_layer *layer, const ps_layer_context *c)
{
	(void)layer;
	return ps_record(c->list, relu_fwd, .x = c->x, .y = c->y);
}

/* x is positive where y is. */
static ps_status relu_backward(const ps_layer *layer, const ps_layer_context *c)
{
	(void)layer;
	return ps_record(c->list, relu_bwd, .dy = c->dy, .y = c->x, .dx = c->dx);
}

static void destroy(ps_layer *layer)
{
	free(layer);
}

static const ps_layer_impl doubling = {.name = "doubling",
                                       .plan = plan_doubling,
                                       .forward = double_forward,
                                       .backward_input = double_backward,
                                       .destroy = destroy};
static const ps_layer_impl relu = {.name = "relu",
                                   .plan = plan_relu,
                                   .forward = relu_forward,
                                   .backward_input = relu_backward,
                                   .destroy = destroy};

static ps_layer *create(const ps_layer_impl *impl, uint32_t index)
{
	ps_layer *layer = calloc(1, sizeof *layer);
	ck_assert_ptr_nonnull(layer);
	*layer = (ps_layer){.impl = impl, .index = index};
	snprintf(layer->name, sizeof layer->name, "%s.%u", impl->name, index);
	return layer;
}

void trial_mixed_model(ps_model *out, int64_t emsize, int64_t time)
{
	enum { LAYERS = 6 };
	out->layers = calloc(LAYERS, sizeof(ps_layer *));
	ck_assert_ptr_nonnull(out->layers);
	out->layer_count = LAYERS;
	check_ok(ps_embedding_create(&out->layers[0], 0, TRIAL_VOCABULARY, emsize, time > 0 ? time : 1, 0.1));
	out->layers[1] = create(&doubling, 1);
	check_ok(ps_encoder_layer_create(&out->layers[2], 2, "layers.0", emsize, 2, 12, 0.1, true));
	out->layers[3] = create(&relu, 3);
	out->layers[4] = create(&doubling, 4);
	check_ok(ps_decoder_create(&out->layers[5], 5, TRIAL_VOCABULARY, emsize));
}
