/* What all layers share. */
#include <penstock/layer.h>

ps_dropout ps_layer_dropout(const ps_layer *layer, const ps_layer_context *context, uint32_t site, double p)
{
	if (!context->training)
		return (ps_dropout){0};
	return (ps_dropout){.p = (float)p,
	                    .first_row = context->first_row,
	                    .place = {.seed = context->seed, .layer = layer->index, .site = site}};
}

void ps_layer_destroy(ps_layer *layer)
{
	if (layer)
		layer->impl->destroy(layer);
}
