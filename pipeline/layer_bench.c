/*
 * A small GPipe step of a single layer, with the ops, sizes and groups of the training to come and the memory of that
 * one layer, and its time.
 */
#include "pipeline/layer_bench.h"

#include <penstock/bf16.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	LEAST_ROUNDS = 5,
	PATTERN = 1 << 16,          /* elements of the values that memory is filled with */
	MOST_OTHER_BYTES = 1 << 26, /* more than caches hold */
};
/*
 * Rounds go on until there are enough of them and they have taken long enough; of slow layers there are two, and of
 * those that take a second one.
 */
static const double enough_s = 0.02, slow_s = 0.15, very_slow_s = 1;

/* A new tensor of its own buffer, all zero. */
static ps_status make_tensor(struct layer_bench *bench, ps_tensor *out, ps_dtype dtype, int rank, const int64_t *dims)
{
	uint64_t bytes = ps_dtype_bytes(dtype);
	for (int i = 0; i < rank; i++)
		bytes *= (uint64_t)dims[i];
	if (!bytes)
		return PS_OK;
	ps_buffer *buffer;
	PS_TRY(ps_buffer_create(&buffer, ps_queue_device(bench->queue), bytes));
	bench->buffers[bench->buffer_count++] = buffer;
	*out = ps_tensor_make(buffer, 0, dtype, rank, dims);
	return ps_queue_zero(bench->queue, *out);
}

static ps_status make_rows(struct layer_bench *bench, ps_tensor *out, const ps_shape *shape, int64_t rows)
{
	int64_t dims[PS_MAX_RANK] = {rows};
	memcpy(dims + 1, shape->dims, (size_t)shape->rank * sizeof *dims);
	return make_tensor(bench, out, shape->dtype, shape->rank + 1, dims);
}

/* Fills a tensor with small numbers of both signs; one of another type stays zero. */
static ps_status fill(struct layer_bench *bench, ps_tensor tensor)
{
	if (tensor.dtype == PS_I32)
		return PS_OK;
	void *pattern = calloc(PATTERN, ps_dtype_bytes(tensor.dtype));
	if (!pattern)
		return ps_fail(PS_ENOMEM, "no memory to measure with");
	uint64_t state = 1;
	for (int i = 0; i < PATTERN; i++) {
		state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		double value = ((double)(state >> 40) * 0x1p-24 - 0.5) * 0.1;
		if (tensor.dtype == PS_F64)
			((double *)pattern)[i] = value;
		else if (tensor.dtype == PS_F32)
			((float *)pattern)[i] = (float)value;
		else
			((uint16_t *)pattern)[i] = ps_bf16_round((float)value);
	}
	int64_t count = ps_tensor_count(tensor);
	ps_tensor flat = ps_tensor_make(tensor.buffer, tensor.offset, tensor.dtype, 1, &count);
	ps_status status = PS_OK;
	for (int64_t at = 0; at < count && status == PS_OK; at += PATTERN)
		status = ps_queue_write(bench->queue,
		                        ps_tensor_slice(flat, 0, at, count - at < PATTERN ? count - at : PATTERN),
		                        pattern);
	/* The queue reads the pattern until it is done, also after a refusal. */
	ps_status end = ps_queue_finish(bench->queue);
	free(pattern);
	return status == PS_OK ? end : status;
}

static ps_status make_parameters(struct layer_bench *bench)
{
	const ps_layer *layer = bench->pipeline->config.layers[bench->layer];
	const int64_t one = 1, count = layer->parameter_count + 1;
	const double scale = 1;
	for (int i = 0; i < layer->parameter_count; i++) {
		const ps_parameter *p = &layer->parameters[i];
		ps_dtype dtype = ps__parameter_dtype(bench->pipeline, p);
		PS_TRY(make_tensor(bench, &bench->values[i], dtype, p->rank, p->dims));
		PS_TRY(make_tensor(bench, &bench->gradients[i], dtype, p->rank, p->dims));
		PS_TRY(fill(bench, bench->values[i]));
		bench->parameters[i] = bench->values[i];
		if (!ps__parameter_has_copy(bench->pipeline, p))
			continue;
		PS_TRY(make_tensor(bench, &bench->copies[i], PS_BF16, p->rank, p->dims));
		PS_TRY(fill(bench, bench->copies[i]));
		bench->parameters[i] = bench->copies[i];
	}
	PS_TRY(make_tensor(bench, &bench->sums, PS_F64, 1, &count));
	PS_TRY(make_tensor(bench, &bench->scale, PS_F64, 1, &one));
	PS_TRY(ps_queue_write(bench->queue, bench->scale, &scale));
	return ps_queue_finish(bench->queue);
}

static ps_status make_slots(struct layer_bench *bench)
{
	const ps_pipeline *pipeline = bench->pipeline;
	const ps_layer_plan *plan = &pipeline->train->plans[bench->layer];
	for (int i = 0; i < plan->slot_count; i++) {
		const ps_slot *slot = &plan->slots[i];
		if (slot->lifetime == PS_LIFETIME_CONSTANT) {
			PS_TRY(make_tensor(bench, &bench->slots[i], slot->shape.dtype, slot->shape.rank,
			                   slot->shape.dims));
			PS_TRY(ps__constant_fill(pipeline->config.layers[bench->layer], i, &slot->shape,
			                         bench->slots[i], bench->queue));
		} else {
			PS_TRY(make_rows(bench, &bench->slots[i], &slot->shape,
			                 slot->lifetime == PS_LIFETIME_SCRATCH ? bench->rows : bench->group));
		}
	}
	return PS_OK;
}

static ps_status make_activations(struct layer_bench *bench)
{
	const struct program *program = bench->pipeline->train;
	const ps_shape *in = &program->in[bench->layer], *out = &program->plans[bench->layer].out;
	PS_TRY(make_rows(bench, &bench->x, in, bench->group));
	PS_TRY(fill(bench, bench->x));
	if (bench->layer > 0)
		PS_TRY(make_rows(bench, &bench->dx, in, bench->rows));
	if (out->rank) {
		PS_TRY(make_rows(bench, &bench->y, out, bench->rows));
		PS_TRY(make_rows(bench, &bench->dy, out, bench->group));
		return fill(bench, bench->dy);
	}
	const int64_t dims[] = {bench->rows, program->time};
	PS_TRY(make_tensor(bench, &bench->targets, PS_I32, 2, dims));
	return make_tensor(bench, &bench->losses, bench->pipeline->config.dtype, 2, dims);
}

/* Some rows of a tensor; of an absent one, the absent one. */
static ps_tensor rows_of(ps_tensor tensor, int64_t first, int64_t count)
{
	return ps_tensor_present(tensor) ? ps_tensor_slice(tensor, 0, first, count) : tensor;
}

/* Records one action of the layer: micro-batch i, or for W all of them. */
static ps_status record(struct layer_bench *bench, ps_list **out, ps_action_kind kind, int i)
{
	const ps_pipeline *pipeline = bench->pipeline;
	const ps_layer *layer = pipeline->config.layers[bench->layer];
	const ps_layer_plan *plan = &pipeline->train->plans[bench->layer];
	bool weight = kind == PS_ACTION_W, forward = kind == PS_ACTION_F;
	int64_t first = weight ? 0 : i * bench->rows, count = weight ? bench->group : bench->rows;
	ps_tensor slots[PS_MAX_SLOTS] = {{0}};
	for (int k = 0; k < plan->slot_count; k++) {
		ps_lifetime lifetime = plan->slots[k].lifetime;
		if (lifetime == PS_LIFETIME_CONSTANT)
			slots[k] = bench->slots[k];
		else if (!weight || lifetime != PS_LIFETIME_SCRATCH)
			slots[k] = rows_of(bench->slots[k], lifetime == PS_LIFETIME_SCRATCH ? 0 : first, count);
	}
	ps_layer_context context = {
	        .training = true,
	        .rows = count,
	        .first_row = (uint32_t)first,
	        .seed = pipeline->config.seed,
	        .parameters = bench->parameters,
	        .gradients = bench->gradients,
	        .slots = slots,
	        .loss_scale = 1.0 / (double)(pipeline->train->rows * pipeline->train->time),
	        .x = rows_of(bench->x, first, count),
	        .dy = forward ? (ps_tensor){0} : rows_of(bench->dy, first, count),
	};
	PS_TRY(ps_list_create(out, bench->queue));
	context.list = *out;
	if (forward) {
		context.y = bench->y;
		context.targets = bench->targets;
		context.losses = bench->losses;
		return layer->impl->forward(layer, &context);
	}
	if (weight)
		return layer->impl->backward_weight ? layer->impl->backward_weight(layer, &context) : PS_OK;
	context.dx = bench->dx;
	return layer->impl->backward_input(layer, &context);
}

static ps_status record_optimizer(struct layer_bench *bench)
{
	ps_list **lists = &bench->lists[2 * bench->count + 1];
	PS_TRY(ps_list_create(&lists[0], bench->queue));
	PS_TRY(ps_list_create(&lists[1], bench->queue));
	for (int i = 0; i < bench->pipeline->config.layers[bench->layer]->parameter_count; i++) {
		PS_TRY(ps_record(lists[0], sum_squares, .x = bench->gradients[i],
		                 .out = ps_tensor_slice(bench->sums, 0, i, 1)));
		PS_TRY(ps_record(lists[1], sgd, .w = bench->values[i], .g = bench->gradients[i],
		                 .copy = bench->copies[i], .scale = bench->scale, .lr = 0));
	}
	return PS_OK;
}

void ps__layer_bench_finish(struct layer_bench *bench)
{
	for (size_t i = 0; i < sizeof bench->lists / sizeof *bench->lists; i++)
		ps_list_destroy(bench->lists[i]);
	ps_queue_destroy(bench->queue);
	for (int i = 0; i < bench->buffer_count; i++)
		ps_buffer_destroy(bench->buffers[i]);
	void *const blocks[] = {bench->buffers, bench->values,     bench->gradients,
	                        bench->copies,  bench->parameters, bench->times};
	for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
		free(blocks[i]);
	*bench = (struct layer_bench){0};
}

static ps_status build(struct layer_bench *bench, ps_device *device)
{
	size_t parameters = (size_t)bench->pipeline->config.layers[bench->layer]->parameter_count;
	bench->buffers = calloc(3 * parameters + PS_MAX_SLOTS + 8, sizeof(ps_buffer *));
	bench->parameters = calloc(parameters + 1, sizeof *bench->parameters);
	bench->gradients = calloc(parameters + 1, sizeof *bench->gradients);
	bench->values = calloc(parameters + 1, sizeof *bench->values);
	bench->copies = calloc(parameters + 1, sizeof *bench->copies);
	bench->times = calloc(PS__BENCH_ROUNDS, sizeof *bench->times);
	if (!bench->buffers || !bench->parameters || !bench->gradients || !bench->values || !bench->copies ||
	    !bench->times)
		return ps_fail(PS_ENOMEM, "no memory to measure with");
	PS_TRY(ps__queue_create_as_configured(&bench->queue, &bench->pipeline->config, device, "measure"));
	PS_TRY(make_parameters(bench));
	PS_TRY(make_slots(bench));
	PS_TRY(make_activations(bench));
	for (int i = 0; i < bench->count; i++) {
		PS_TRY(record(bench, &bench->lists[i], PS_ACTION_F, i));
		PS_TRY(record(bench, &bench->lists[bench->count + i], PS_ACTION_B, i));
	}
	PS_TRY(record(bench, &bench->lists[2 * bench->count], PS_ACTION_W, 0));
	return record_optimizer(bench);
}

/* Memory as large as the weights and gradients of a stage's other layers, as far as caches go. */
static ps_status make_other(struct layer_bench *bench)
{
	const ps_pipeline *pipeline = bench->pipeline;
	uint64_t bytes = 0, most = ps_device_get_info(ps_queue_device(bench->queue))->max_buffer_bytes;
	for (int l = 0; l < pipeline->config.layer_count; l++)
		for (int k = MEMORY_VALUES; k <= MEMORY_COPIES && l != bench->layer; k++)
			bytes += pipeline->memory[l].bytes[k];
	bytes /= (uint64_t)pipeline->stage_count;
	most = most && most < MOST_OTHER_BYTES ? most : MOST_OTHER_BYTES;
	int64_t count = (int64_t)((bytes < most ? bytes : most) / sizeof(float));
	return make_tensor(bench, &bench->other, PS_F32, 1, &count);
}

/* The rows of the largest backward and of the largest group that training will have. */
static void set_sizes(struct layer_bench *bench)
{
	const struct program *program = bench->pipeline->train;
	for (int r = 0; r < program->schedule->ranks; r++)
		for (int64_t at = 0; at < program->schedule->rank[r].count; at++) {
			ps_action action = program->schedule->rank[r].actions[at];
			int64_t rows = program->first_row[action.micro_batch + action.count] -
			               program->first_row[action.micro_batch];
			if ((action.kind == PS_ACTION_B || action.kind == PS_ACTION_BW) && rows > bench->rows)
				bench->rows = rows;
		}
	for (int s = 0; s < bench->pipeline->stage_count; s++) {
		for (int g = 0; g < program->group_count[s]; g++) {
			int first = program->group_first[ps__at(program, s, g)];
			int end = g + 1 < program->group_count[s] ? program->group_first[ps__at(program, s, g + 1)]
			                                          : program->micro_batches;
			int64_t rows = program->first_row[end] - program->first_row[first];
			bench->group = rows > bench->group ? rows : bench->group;
		}
	}
	bench->count = (int)(bench->group / bench->rows < PS__BENCH_MICRO_BATCHES ? bench->group / bench->rows
	                                                                          : PS__BENCH_MICRO_BATCHES);
}

ps_status ps__layer_bench_init(struct layer_bench *out, const ps_pipeline *pipeline, ps_device *device, int layer,
                               bool cold)
{
	struct layer_bench bench = {.pipeline = pipeline, .layer = layer, .rows = 1, .group = 1};
	set_sizes(&bench);
	ps_status status = build(&bench, device);
	if (status == PS_OK && cold)
		status = make_other(&bench);
	if (status != PS_OK)
		ps__layer_bench_finish(&bench);
	*out = bench;
	return status;
}

static ps_status enqueue_phase(struct layer_bench *bench, int phase)
{
	for (int i = 0; phase <= BACKWARD && i < bench->count; i++)
		PS_TRY(ps_list_submit(bench->lists[phase == FORWARD ? i : bench->count + i], 0));
	if (phase >= WEIGHT)
		PS_TRY(ps_list_submit(bench->lists[2 * bench->count + phase - WEIGHT], 0));
	return PS_OK;
}

ps_status ps__layer_bench_enqueue(struct layer_bench *bench, int index)
{
	struct round_times *times = &bench->times[index];
	for (int phase = 0; phase < PHASES; phase++) {
		/* The optimizer comes to a layer after the rest of the stage. */
		if (phase >= SQUARES && ps_tensor_present(bench->other))
			PS_TRY(ps_queue_zero(bench->queue, bench->other));
		PS_TRY(ps_queue_timestamp(bench->queue, &times->begin[phase]));
		PS_TRY(enqueue_phase(bench, phase));
		PS_TRY(ps_queue_timestamp(bench->queue, &times->end[phase]));
	}
	return PS_OK;
}

ps_status ps__layer_bench_run(struct layer_bench *bench)
{
	double sum = 0;
	const struct round_times *times = bench->times;
	PS_TRY(ps__layer_bench_enqueue(bench, 0));
	PS_TRY(ps_queue_finish(bench->queue));
	for (int p = 0; p < PHASES; p++)
		bench->seconds[p] = INFINITY;
	bench->round_s = INFINITY;
	for (int rounds = 0; rounds < PS__BENCH_ROUNDS && (rounds < LEAST_ROUNDS || sum < enough_s) &&
	                     (rounds < 2 || sum < slow_s) && sum < very_slow_s;
	     rounds++) {
		PS_TRY(ps__layer_bench_enqueue(bench, 0));
		PS_TRY(ps_queue_finish(bench->queue));
		for (int p = 0; p < PHASES; p++)
			bench->seconds[p] = fmin(bench->seconds[p], (double)(times->end[p] - times->begin[p]) * 1e-9);
		double round = (double)(times->end[PHASES - 1] - times->begin[0]) * 1e-9;
		bench->round_s = fmin(bench->round_s, round);
		sum += round;
	}
	return PS_OK;
}
