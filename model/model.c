/* The Transformer language model as a list of layers. */
#include <penstock/model.h>

#include "model/sizes.h"

#include <stdio.h>
#include <stdlib.h>

ps_status ps__check_vocabulary(int64_t vocabulary)
{
	if (vocabulary < 2 || vocabulary > INT32_MAX)
		return ps_fail(PS_EINVAL, "a vocabulary of %lld; it should be 2 to 2^31 - 1", (long long)vocabulary);
	return PS_OK;
}

ps_status ps__check_emsize(int64_t emsize)
{
	if (emsize < 2 || emsize % 2 || emsize > 1 << 20)
		return ps_fail(PS_EINVAL, "emsize %lld; it should be an even number from 2 to 2^20", (long long)emsize);
	return PS_OK;
}

ps_status ps__check_dropout(double dropout)
{
	if (!(dropout >= 0 && dropout < 1))
		return ps_fail(PS_EINVAL, "dropout %g; it should be at least 0 and below 1", dropout);
	return PS_OK;
}

static ps_status build(ps_model *model, const ps_transformer_config *c)
{
	model->layers = calloc((size_t)c->nlayers + 2, sizeof *model->layers);
	if (!model->layers)
		return ps_fail(PS_ENOMEM, "out of memory for a model");
	PS_TRY(ps_embedding_create(&model->layers[0], 0, c->vocabulary, c->emsize, c->max_time, c->dropout));
	model->layer_count = 1;
	for (int i = 0; i < c->nlayers; i++) {
		char name[32];
		snprintf(name, sizeof name, "layers.%d", i);
		PS_TRY(ps_encoder_layer_create(&model->layers[model->layer_count], (uint32_t)i + 1, name, c->emsize,
		                               c->nhead, c->nhid, c->dropout, c->causal));
		model->layer_count++;
	}
	PS_TRY(ps_decoder_create(&model->layers[model->layer_count], (uint32_t)c->nlayers + 1, c->vocabulary,
	                         c->emsize));
	model->layer_count++;
	return PS_OK;
}

ps_status ps_transformer_create(ps_model *out, const ps_transformer_config *config)
{
	*out = (ps_model){0};
	if (config->nlayers < 1 || config->nlayers > 100000)
		return ps_fail(PS_EINVAL, "nlayers %d; it should be 1 to 100000", config->nlayers);
	ps_status status = build(out, config);
	if (status != PS_OK)
		ps_model_finish(out);
	return status;
}

void ps_model_finish(ps_model *model)
{
	for (int l = 0; l < model->layer_count; l++)
		ps_layer_destroy(model->layers[l]);
	free(model->layers);
	*model = (ps_model){0};
}

int64_t ps_model_parameter_elements(const ps_model *model)
{
	int64_t sum = 0;
	for (int l = 0; l < model->layer_count; l++) {
		for (int i = 0; i < model->layers[l]->parameter_count; i++) {
			const ps_parameter *p = &model->layers[l]->parameters[i];
			sum += p->rank == 2 ? p->dims[0] * p->dims[1] : p->dims[0];
		}
	}
	return sum;
}
