/* The permanent tensors of the layers: parameters, gradients, copies and constants, one buffer of each for a layer. */
#include "pipeline/internal.h"

#include <penstock/bf16.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How many elements ps_pipeline_write_parameter rounds at a time. */
#define PIECE ((int64_t)1 << 20)

ps_dtype ps__parameter_dtype(const ps_pipeline *pipeline, const ps_parameter *parameter)
{
	return pipeline->config.bf16_weights && parameter->rank == 2 ? PS_BF16 : pipeline->config.dtype;
}

bool ps__parameter_has_copy(const ps_pipeline *pipeline, const ps_parameter *parameter)
{
	return pipeline->config.math == PS_MATH_BF16 && !pipeline->config.bf16_weights && parameter->gemm;
}

static uint64_t bytes_of(const ps_parameter *parameter, ps_dtype dtype)
{
	return shape_bytes(&(const ps_shape){dtype, parameter->rank, {parameter->dims[0], parameter->dims[1]}});
}

ps_status ps__parameters_plan(ps_pipeline *pipeline)
{
	int layers = pipeline->config.layer_count;
	for (int l = 0; l < layers; l++) {
		const ps_layer *layer = pipeline->config.layers[l];
		const ps_layer_plan *plan = &pipeline->train->plans[l];
		struct layer_memory *memory = &pipeline->memory[l];
		for (int i = 0; i < layer->parameter_count; i++) {
			const ps_parameter *p = &layer->parameters[i];
			memory->bytes[MEMORY_VALUES] += align_up(bytes_of(p, ps__parameter_dtype(pipeline, p)));
			if (ps__parameter_has_copy(pipeline, p))
				memory->bytes[MEMORY_COPIES] += align_up(bytes_of(p, PS_BF16));
		}
		memory->bytes[MEMORY_GRADIENTS] = memory->bytes[MEMORY_VALUES];
		for (int i = 0; i < plan->slot_count; i++)
			if (plan->slots[i].lifetime == PS_LIFETIME_CONSTANT)
				memory->bytes[MEMORY_CONSTANTS] += align_up(shape_bytes(&plan->slots[i].shape));
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
	return pipeline->stages[ps__stage_of_layer(pipeline, l)].rank;
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
		ps_tensor tensor = ps_tensor_make(pipeline->memory[l].buffers[MEMORY_CONSTANTS], at, shape->dtype,
		                                  shape->rank, shape->dims);
		at += align_up(shape_bytes(shape));
		pipeline->memory[l].constants[i] = tensor;
		PS_TRY(ps__constant_fill(layer, i, shape, tensor, queue));
	}
	return PS_OK;
}

/* The tensors of a layer's parameters in its buffers. */
static void place_tensors(const ps_pipeline *pipeline, const ps_layer *layer, struct layer_memory *memory)
{
	uint64_t at = 0, copy_at = 0;
	for (int i = 0; i < layer->parameter_count; i++) {
		const ps_parameter *p = &layer->parameters[i];
		ps_dtype dtype = ps__parameter_dtype(pipeline, p);
		memory->values[i] = ps_tensor_make(memory->buffers[MEMORY_VALUES], at, dtype, p->rank, p->dims);
		memory->gradients[i] = ps_tensor_make(memory->buffers[MEMORY_GRADIENTS], at, dtype, p->rank, p->dims);
		memory->parameters[i] = memory->values[i];
		at += align_up(bytes_of(p, dtype));
		if (!ps__parameter_has_copy(pipeline, p))
			continue;
		memory->copies[i] = ps_tensor_make(memory->buffers[MEMORY_COPIES], copy_at, PS_BF16, p->rank, p->dims);
		memory->parameters[i] = memory->copies[i];
		copy_at += align_up(bytes_of(p, PS_BF16));
	}
}

static ps_status allocate_layer(ps_pipeline *pipeline, int l)
{
	const ps_layer *layer = pipeline->config.layers[l];
	struct layer_memory *memory = &pipeline->memory[l];
	const struct rank *rank = &pipeline->ranks[rank_of_layer(pipeline, l)];
	size_t count = (size_t)layer->parameter_count + 1;
	memory->values = calloc(count, sizeof *memory->values);
	memory->gradients = calloc(count, sizeof *memory->gradients);
	memory->copies = calloc(count, sizeof *memory->copies);
	memory->parameters = calloc(count, sizeof *memory->parameters);
	if (!memory->values || !memory->gradients || !memory->copies || !memory->parameters)
		return ps_fail(PS_ENOMEM, "out of memory for layer %s", layer->name);
	for (int k = 0; k < MEMORY_COUNT; k++)
		if (memory->bytes[k])
			PS_TRY(ps_buffer_create(&memory->buffers[k], rank->device, memory->bytes[k]));
	place_tensors(pipeline, layer, memory);
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
		free(memory->values);
		free(memory->gradients);
		free(memory->copies);
		free(memory->parameters);
		for (int k = 0; k < MEMORY_COUNT; k++)
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
	                           .value = pipeline->memory[l].values[i],
	                           .gradient = pipeline->memory[l].gradients[i],
	                           .copy = pipeline->memory[l].copies[i],
	                           .rank = rank_of_layer(pipeline, l),
	                           .layer = l,
	                           .place = {.seed = pipeline->config.seed,
	                                     .step = PS_RANDOM_STEP_INIT,
	                                     .layer = layer->index,
	                                     .site = PS_RANDOM_SITE_PARAMETER + (uint32_t)i}};
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

const char *ps_pipeline_precision(const ps_pipeline *pipeline)
{
	const ps_pipeline_config *config = &pipeline->config;
	if (config->math == PS_MATH_BF16)
		return config->bf16_weights ? "bf16-pure" : "bf16";
	return config->math == PS_MATH_TF32 ? "tf32" : ps_dtype_name(config->dtype);
}

uint32_t ps_pipeline_step(const ps_pipeline *pipeline)
{
	return pipeline->step;
}

static ps_status read_tensor(const ps_pipeline *pipeline, ps_queue *queue, void *to, ps_tensor tensor)
{
	PS_TRY(ps__check_alone(pipeline));
	PS_TRY(ps_queue_read(queue, to, tensor));
	return ps_queue_finish(queue);
}

ps_status ps_pipeline_read_parameter(ps_pipeline *pipeline, int index, void *to)
{
	ps_parameter_view view;
	ps_pipeline_get_parameter(pipeline, index, &view);
	return read_tensor(pipeline, view.queue, to, view.value);
}

ps_status ps_pipeline_read_gradient(ps_pipeline *pipeline, int index, void *to)
{
	ps_parameter_view view;
	ps_pipeline_get_parameter(pipeline, index, &view);
	return read_tensor(pipeline, view.queue, to, view.gradient);
}

/* Elements [first, first + count) of a contiguous tensor. */
static ps_tensor part_of(ps_tensor whole, int64_t first, int64_t count)
{
	uint64_t offset = whole.offset + (uint64_t)first * ps_dtype_bytes(whole.dtype);
	return ps_tensor_make(whole.buffer, offset, whole.dtype, 1, &count);
}

ps_status ps__parameter_write(const ps_parameter_view *view, int64_t first, int64_t count, const void *values,
                              uint16_t *room)
{
	PS_TRY(ps_queue_write(view->queue, part_of(view->value, first, count), values));
	ps_status status = PS_OK;
	if (ps_tensor_present(view->copy)) {
		for (int64_t i = 0; room && i < count; i++)
			room[i] = ps_bf16_round(((const float *)values)[i]);
		status = ps_queue_write(view->queue, part_of(view->copy, first, count), room);
	}
	/* What was enqueued reads the caller's memory, whatever became of the rest. */
	ps_status finished = ps_queue_finish(view->queue);
	return status == PS_OK ? finished : status;
}

ps_status ps_pipeline_write_parameter(ps_pipeline *pipeline, int index, const void *from)
{
	ps_parameter_view view;
	PS_TRY(ps__check_alone(pipeline));
	ps_pipeline_get_parameter(pipeline, index, &view);
	int64_t total = ps_tensor_count(view.value);
	if (!ps_tensor_present(view.copy))
		return ps__parameter_write(&view, 0, total, from, NULL);
	uint16_t *room = malloc((size_t)PIECE * sizeof *room);
	if (!room)
		return ps_fail(PS_ENOMEM, "out of memory for the copy of %s", view.name);
	ps_status status = PS_OK;
	for (int64_t first = 0; first < total && status == PS_OK; first += PIECE)
		status = ps__parameter_write(&view, first, total - first < PIECE ? total - first : PIECE,
		                             (const float *)from + first, room);
	free(room);
	return status;
}
