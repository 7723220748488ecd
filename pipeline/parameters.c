/* The permanent tensors of the layers: parameters, gradients and constants, one buffer of each for a layer. */
#include "pipeline/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PARAMETERS, GRADIENTS, CONSTANTS };

static uint64_t parameter_bytes(const ps_pipeline *pipeline, const ps_parameter *parameter)
{
	uint64_t bytes = ps_dtype_bytes(pipeline->config.dtype);
	for (int i = 0; i < parameter->rank; i++)
		bytes *= (uint64_t)parameter->dims[i];
	return bytes;
}

ps_status ps__parameters_plan(ps_pipeline *pipeline)
{
	int layers = pipeline->config.layer_count;
	for (int l = 0; l < layers; l++) {
		const ps_layer *layer = pipeline->config.layers[l];
		const ps_layer_plan *plan = &pipeline->train->plans[l];
		struct layer_memory *memory = &pipeline->memory[l];
		for (int i = 0; i < layer->parameter_count; i++)
			memory->bytes[PARAMETERS] += align_up(parameter_bytes(pipeline, &layer->parameters[i]));
		memory->bytes[GRADIENTS] = memory->bytes[PARAMETERS];
		for (int i = 0; i < plan->slot_count; i++)
			if (plan->slots[i].lifetime == PS_LIFETIME_CONSTANT)
				memory->bytes[CONSTANTS] += align_up(shape_bytes(&plan->slots[i].shape));
		pipeline->parameter_count += layer->parameter_count;
	}
	size_t count = (size_t)pipeline->parameter_count;
	pipeline->parameter_layer = calloc(count + 1, sizeof *pipeline->parameter_layer);
	pipeline->parameter_index = calloc(count + 1, sizeof *pipeline->parameter_index);
	if (!pipeline->parameter_layer || !pipeline->parameter_index)
		return ps_fail(PS_ENOMEM, "out of memory for the list of parameters");
	int next = 0;
	for (int l = 0; l < layers; l++) {
		for (int i = 0; i < pipeline->config.layers[l]->parameter_count; i++) {
			pipeline->parameter_layer[next] = l;
			pipeline->parameter_index[next++] = i;
		}
	}
	return PS_OK;
}

static int rank_of_layer(const ps_pipeline *pipeline, int l)
{
	int s = 0;
	while (l >= pipeline->stages[s].first + pipeline->stages[s].count)
		s++;
	return pipeline->stages[s].rank;
}

ps_status ps__constant_fill(const ps_layer *layer, int slot, const ps_shape *shape, ps_tensor to, ps_queue *queue)
{
	size_t count = (size_t)ps_tensor_count(to);
	double *values = malloc(count * sizeof *values);
	if (!values)
		return ps_fail(PS_ENOMEM, "out of memory for the constants of layer %s", layer->name);
	ps_status status = layer->impl->fill_constant(layer, slot, shape, values);
	if (status == PS_OK && shape->dtype == PS_F32)
		for (size_t k = 0; k < count; k++)
			((float *)values)[k] = (float)values[k];
	if (status == PS_OK)
		status = ps_queue_write(queue, to, values);
	if (status == PS_OK)
		status = ps_queue_finish(queue);
	free(values);
	return status;
}

static ps_status fill_constants(ps_pipeline *pipeline, int l, ps_queue *queue)
{
	const ps_layer *layer = pipeline->config.layers[l];
	const ps_layer_plan *plan = &pipeline->train->plans[l];
	uint64_t at = 0;
	for (int i = 0; i < plan->slot_count; i++) {
		const ps_shape *shape = &plan->slots[i].shape;
		if (plan->slots[i].lifetime != PS_LIFETIME_CONSTANT)
			continue;
		ps_tensor tensor = ps_tensor_make(pipeline->memory[l].buffers[CONSTANTS], at, shape->dtype, shape->rank,
		                                  shape->dims);
		at += align_up(shape_bytes(shape));
		pipeline->memory[l].constants[i] = tensor;
		PS_TRY(ps__constant_fill(layer, i, shape, tensor, queue));
	}
	return PS_OK;
}

static ps_status allocate_layer(ps_pipeline *pipeline, int l)
{
	const ps_layer *layer = pipeline->config.layers[l];
	struct layer_memory *memory = &pipeline->memory[l];
	const struct rank *rank = &pipeline->ranks[rank_of_layer(pipeline, l)];
	size_t count = (size_t)layer->parameter_count + 1;
	memory->parameters = calloc(count, sizeof *memory->parameters);
	memory->gradients = calloc(count, sizeof *memory->gradients);
	if (!memory->parameters || !memory->gradients)
		return ps_fail(PS_ENOMEM, "out of memory for layer %s", layer->name);
	for (int k = 0; k < 3; k++)
		if (memory->bytes[k])
			PS_TRY(ps_buffer_create(&memory->buffers[k], rank->device, memory->bytes[k]));
	uint64_t at = 0;
	for (int i = 0; i < layer->parameter_count; i++) {
		const ps_parameter *p = &layer->parameters[i];
		memory->parameters[i] =
		        ps_tensor_make(memory->buffers[PARAMETERS], at, pipeline->config.dtype, p->rank, p->dims);
		memory->gradients[i] =
		        ps_tensor_make(memory->buffers[GRADIENTS], at, pipeline->config.dtype, p->rank, p->dims);
		at += align_up(parameter_bytes(pipeline, p));
	}
	return fill_constants(pipeline, l, rank->queue);
}

ps_status ps__parameters_allocate(ps_pipeline *pipeline)
{
	for (int l = 0; l < pipeline->config.layer_count; l++)
		PS_TRY(allocate_layer(pipeline, l));
	return PS_OK;
}

void ps__parameters_free(ps_pipeline *pipeline)
{
	for (int l = 0; l < pipeline->config.layer_count && pipeline->memory; l++) {
		struct layer_memory *memory = &pipeline->memory[l];
		free(memory->parameters);
		free(memory->gradients);
		for (int k = 0; k < 3; k++)
			ps_buffer_destroy(memory->buffers[k]);
	}
	free(pipeline->memory);
	free(pipeline->parameter_layer);
	free(pipeline->parameter_index);
}

int ps_pipeline_parameter_count(const ps_pipeline *pipeline)
{
	return pipeline->parameter_count;
}

void ps_pipeline_get_parameter(const ps_pipeline *pipeline, int index, ps_parameter_view *out)
{
	int l = pipeline->parameter_layer[index], i = pipeline->parameter_index[index];
	const ps_layer *layer = pipeline->config.layers[l];
	*out = (ps_parameter_view){.declaration = &layer->parameters[i],
	                           .value = pipeline->memory[l].parameters[i],
	                           .gradient = pipeline->memory[l].gradients[i],
	                           .rank = rank_of_layer(pipeline, l),
	                           .layer = l};
	out->queue = pipeline->ranks[out->rank].queue;
	snprintf(out->name, sizeof out->name, "%s.%s", layer->name, layer->parameters[i].name);
}

int64_t ps_pipeline_parameter_elements(const ps_pipeline *pipeline)
{
	int64_t sum = 0;
	for (int i = 0; i < pipeline->parameter_count; i++) {
		ps_parameter_view view;
		ps_pipeline_get_parameter(pipeline, i, &view);
		sum += ps_tensor_count(view.value);
	}
	return sum;
}

ps_dtype ps_pipeline_dtype(const ps_pipeline *pipeline)
{
	return pipeline->config.dtype;
}

static ps_status move(ps_pipeline *pipeline, int index, bool gradient, void *to, const void *from)
{
	ps_parameter_view view;
	ps_pipeline_get_parameter(pipeline, index, &view);
	ps_tensor tensor = gradient ? view.gradient : view.value;
	PS_TRY(to ? ps_queue_read(view.queue, to, tensor) : ps_queue_write(view.queue, tensor, from));
	return ps_queue_finish(view.queue);
}

ps_status ps_pipeline_read_parameter(ps_pipeline *pipeline, int index, void *to)
{
	return move(pipeline, index, false, to, NULL);
}

ps_status ps_pipeline_write_parameter(ps_pipeline *pipeline, int index, const void *from)
{
	return move(pipeline, index, false, NULL, from);
}

ps_status ps_pipeline_read_gradient(ps_pipeline *pipeline, int index, void *to)
{
	return move(pipeline, index, true, to, NULL);
}
