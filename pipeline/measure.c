/*
 * What layers, devices and links take here, measured before a pipeline is built: each kind of layer runs a small
 * GPipe step of its own on each device, with the ops, sizes and groups of the training to come and the memory of that
 * one layer; and two devices at a time run theirs together, which shows how far they share cores or memory.
 */
#include "pipeline/internal.h"

#include <penstock/bf16.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	MOST_MICRO_BATCHES = 8, /* in the step of one layer */
	MOST_ROUNDS = 64,
	LEAST_ROUNDS = 5,
	PAIR_ROUNDS = 4, /* of two benches together */
	SENDS = 5,
	MOST_SLOWDOWN = 3,          /* by one other device; what is above was something else */
	MOST_OTHER_BYTES = 1 << 26, /* more than caches hold */
	PATTERN = 1 << 16,          /* elements of the values that memory is filled with */
};
/*
 * Rounds go on until there are enough of them and they have taken long enough; of slow layers there are two, and of
 * those that take a second one.
 */
static const double enough_s = 0.02, slow_s = 0.15, very_slow_s = 1;

/* The parts of a round that are timed. */
enum phase { FORWARD, BACKWARD, WEIGHT, SQUARES, UPDATE, PHASES };

/* One layer on one device, with all its tensors. */
struct bench {
	const ps_pipeline *pipeline;
	int layer;
	int64_t rows, group; /* of a micro-batch, and of a weight gradient */
	int count;           /* micro-batches */
	ps_queue *queue;
	ps_buffer **buffers;
	int buffer_count;
	ps_tensor *values, *gradients, *copies, *parameters, slots[PS_MAX_SLOTS];
	ps_tensor x, y, dy, dx, targets, losses, sums, scale;
	ps_tensor
	        other; /* stands for the rest of a stage, which a step goes through between two visits; may be absent */
	ps_list *lists[2 * MOST_MICRO_BATCHES + 1]; /* forward, backward, and the weight gradient at the end */
	int64_t (*times)[PHASES][2];                /* [round] */
	double seconds[PHASES];                     /* the shortest there were */
	double round_s;
};

/* A new tensor of its own buffer, all zero. */
static ps_status make_tensor(struct bench *bench, ps_tensor *out, ps_dtype dtype, int rank, const int64_t *dims)
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

static ps_status make_rows(struct bench *bench, ps_tensor *out, const ps_shape *shape, int64_t rows)
{
	int64_t dims[PS_MAX_RANK] = {rows};
	memcpy(dims + 1, shape->dims, (size_t)shape->rank * sizeof *dims);
	return make_tensor(bench, out, shape->dtype, shape->rank + 1, dims);
}

/* Fills a tensor with small numbers of both signs; one of another type stays zero. */
static ps_status fill(struct bench *bench, ps_tensor tensor)
{
	if (!ps_tensor_present(tensor) || tensor.dtype == PS_I32)
		return PS_OK;
	void *pattern = calloc(PATTERN, ps_dtype_bytes(tensor.dtype));
	if (!pattern)
		return ps_fail(PS_ENOMEM, "no memory to measure with");
	uint64_t state = 1;
	for (int i = 0; i < PATTERN; i++) {
		state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		double value = ((double)(state >> 40) * 0x1p-24 - 0.5) * 0.1;
		if (tensor.dtype == PS_F32)
			((float *)pattern)[i] = (float)value;
		else if (tensor.dtype == PS_BF16)
			((uint16_t *)pattern)[i] = ps_bf16_round((float)value);
		else
			((double *)pattern)[i] = value;
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

static ps_status make_parameters(struct bench *bench)
{
	const ps_layer *layer = bench->pipeline->config.layers[bench->layer];
	const int64_t one = 1, count = layer->parameter_count + 1;
	const double scale = 1;
	for (int i = 0; i < layer->parameter_count; i++) {
		const ps_parameter *p = &layer->parameters[i];
		ps_dtype dtype = ps__parameter_dtype(bench->pipeline, p);
		PS_TRY(make_tensor(bench, &bench->values[i], dtype, p->rank, p->dims));
		PS_TRY(make_tensor(bench, &bench->gradients[i], dtype, p->rank, p->dims));
		bool copied = ps__parameter_has_copy(bench->pipeline, p);
		if (copied)
			PS_TRY(make_tensor(bench, &bench->copies[i], PS_BF16, p->rank, p->dims));
		PS_TRY(fill(bench, bench->values[i]));
		PS_TRY(fill(bench, bench->copies[i]));
		bench->parameters[i] = copied ? bench->copies[i] : bench->values[i];
	}
	PS_TRY(make_tensor(bench, &bench->sums, PS_F64, 1, &count));
	PS_TRY(make_tensor(bench, &bench->scale, PS_F64, 1, &one));
	PS_TRY(ps_queue_write(bench->queue, bench->scale, &scale));
	return ps_queue_finish(bench->queue);
}

static ps_status make_slots(struct bench *bench)
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

static ps_status make_activations(struct bench *bench)
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
static ps_status record(struct bench *bench, ps_list **out, ps_action_kind kind, int i)
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

static void bench_finish(struct bench *bench)
{
	ps_queue_destroy(bench->queue);
	for (size_t i = 0; i < sizeof bench->lists / sizeof *bench->lists; i++)
		ps_list_destroy(bench->lists[i]);
	for (int i = 0; i < bench->buffer_count; i++)
		ps_buffer_destroy(bench->buffers[i]);
	free(bench->buffers);
	free(bench->values);
	free(bench->copies);
	free(bench->parameters);
	free(bench->gradients);
	free(bench->times);
	*bench = (struct bench){0};
}

static ps_status build(struct bench *bench, ps_device *device)
{
	size_t parameters = (size_t)bench->pipeline->config.layers[bench->layer]->parameter_count;
	bench->buffers = calloc(3 * parameters + PS_MAX_SLOTS + 8, sizeof(ps_buffer *));
	bench->values = calloc(parameters + 1, sizeof *bench->values);
	bench->copies = calloc(parameters + 1, sizeof *bench->copies);
	bench->parameters = calloc(parameters + 1, sizeof *bench->parameters);
	bench->gradients = calloc(parameters + 1, sizeof *bench->gradients);
	bench->times = calloc(MOST_ROUNDS, sizeof *bench->times);
	if (!bench->buffers || !bench->values || !bench->copies || !bench->parameters || !bench->gradients ||
	    !bench->times)
		return ps_fail(PS_ENOMEM, "no memory to measure with");
	PS_TRY(ps_queue_create(&bench->queue, device, "measure"));
	PS_TRY(make_parameters(bench));
	PS_TRY(make_slots(bench));
	PS_TRY(make_activations(bench));
	for (int i = 0; i < bench->count; i++) {
		PS_TRY(record(bench, &bench->lists[i], PS_ACTION_F, i));
		PS_TRY(record(bench, &bench->lists[bench->count + i], PS_ACTION_B, i));
	}
	return record(bench, &bench->lists[2 * bench->count], PS_ACTION_W, 0);
}

/* Memory as large as the weights and gradients of a stage's other layers, as far as caches go. */
static ps_status make_other(struct bench *bench)
{
	const ps_pipeline *pipeline = bench->pipeline;
	uint64_t bytes = 0, most = ps_device_get_info(ps_queue_device(bench->queue))->max_buffer_bytes;
	for (int l = 0; l < pipeline->config.layer_count; l++)
		bytes += l == bench->layer ? 0 : pipeline->memory[l].bytes[0] + pipeline->memory[l].bytes[1];
	bytes /= (uint64_t)pipeline->stage_count;
	most = most && most < MOST_OTHER_BYTES ? most : MOST_OTHER_BYTES;
	int64_t count = (int64_t)((bytes < most ? bytes : most) / sizeof(float));
	return make_tensor(bench, &bench->other, PS_F32, 1, &count);
}

/* The rows of the largest micro-batch and of the largest group that training will have. */
static void set_sizes(struct bench *bench)
{
	const struct program *program = bench->pipeline->train;
	for (int i = 0; i < program->micro_batches; i++)
		bench->rows = program->sizes[i] > bench->rows ? program->sizes[i] : bench->rows;
	for (int s = 0; s < bench->pipeline->stage_count; s++) {
		for (int g = 0; g < program->group_count[s]; g++) {
			int first = program->group_first[ps__at(program, s, g)];
			int end = g + 1 < program->group_count[s] ? program->group_first[ps__at(program, s, g + 1)]
			                                          : program->micro_batches;
			int64_t rows = program->first_row[end] - program->first_row[first];
			bench->group = rows > bench->group ? rows : bench->group;
		}
	}
	bench->count = (int)(bench->group / bench->rows < MOST_MICRO_BATCHES ? bench->group / bench->rows
	                                                                     : MOST_MICRO_BATCHES);
}

static ps_status bench_init(struct bench *out, const ps_pipeline *pipeline, ps_device *device, int layer, bool cold)
{
	struct bench bench = {.pipeline = pipeline, .layer = layer, .rows = 1, .group = 1};
	set_sizes(&bench);
	ps_status status = build(&bench, device);
	if (status == PS_OK && cold)
		status = make_other(&bench);
	if (status != PS_OK)
		bench_finish(&bench);
	*out = bench;
	return status;
}

static ps_status enqueue_phase(struct bench *bench, int phase)
{
	int parameters = bench->pipeline->config.layers[bench->layer]->parameter_count;
	for (int i = 0; phase <= BACKWARD && i < bench->count; i++)
		PS_TRY(ps_list_submit(bench->lists[phase == FORWARD ? i : bench->count + i], 0));
	if (phase == WEIGHT)
		PS_TRY(ps_list_submit(bench->lists[2 * bench->count], 0));
	for (int i = 0; phase == SQUARES && i < parameters; i++)
		PS_TRY(ps_run(bench->queue, sum_squares, .x = bench->gradients[i],
		              .out = ps_tensor_slice(bench->sums, 0, i, 1)));
	for (int i = 0; phase == UPDATE && i < parameters; i++)
		PS_TRY(ps_run(bench->queue, sgd, .w = bench->values[i], .g = bench->gradients[i],
		              .copy = bench->copies[i], .scale = bench->scale, .lr = 0));
	return PS_OK;
}

/*
 * Enqueues a round: all forwards, all backwards, the weight gradient, the two passes of the optimizer. These find in no
 * cache what they read, as they come to it after the rest of the stage.
 */
static ps_status enqueue_round(struct bench *bench, int64_t times[PHASES][2])
{
	for (int phase = 0; phase < PHASES; phase++) {
		if (phase >= SQUARES && ps_tensor_present(bench->other))
			PS_TRY(ps_queue_zero(bench->queue, bench->other));
		PS_TRY(ps_queue_timestamp(bench->queue, &times[phase][0]));
		PS_TRY(enqueue_phase(bench, phase));
		PS_TRY(ps_queue_timestamp(bench->queue, &times[phase][1]));
	}
	return PS_OK;
}

/* Seconds from the begin of one phase to the end of another. */
static double seconds_of(int64_t (*times)[2], int from, int to)
{
	return (double)(times[to][1] - times[from][0]) * 1e-9;
}

/* Runs rounds until they are enough, after one that warms up; the shortest count, as what disturbs only ever adds. */
static ps_status run_alone(struct bench *bench)
{
	double sum = 0;
	PS_TRY(enqueue_round(bench, bench->times[0]));
	PS_TRY(ps_queue_finish(bench->queue));
	for (int p = 0; p < PHASES; p++)
		bench->seconds[p] = INFINITY;
	bench->round_s = INFINITY;
	for (int rounds = 0; rounds < MOST_ROUNDS && (rounds < LEAST_ROUNDS || sum < enough_s) &&
	                     (rounds < 2 || sum < slow_s) && sum < very_slow_s;
	     rounds++) {
		PS_TRY(enqueue_round(bench, bench->times[0]));
		PS_TRY(ps_queue_finish(bench->queue));
		for (int p = 0; p < PHASES; p++)
			bench->seconds[p] = fmin(bench->seconds[p], seconds_of(bench->times[0], p, p));
		double round = seconds_of(bench->times[0], 0, PHASES - 1);
		bench->round_s = fmin(bench->round_s, round);
		sum += round;
	}
	return PS_OK;
}

static ps_status explain(const ps_pipeline *pipeline, int layer, int device, ps_status status)
{
	return status == PS_OK
	               ? PS_OK
	               : ps_fail_context(status, "measuring layer %s on %s", pipeline->config.layers[layer]->name,
	                                 ps_device_get_info(pipeline->devices[device])->name);
}

static ps_status measure_layer(ps_pipeline *pipeline, int device, int layer)
{
	struct layer_cost *cost = &pipeline->measured->layers[device * pipeline->config.layer_count + layer];
	struct bench bench;
	ps_status status = bench_init(&bench, pipeline, pipeline->devices[device], layer, true);
	if (status == PS_OK)
		status = run_alone(&bench);
	double rows = (double)(bench.count * bench.rows);
	if (status == PS_OK)
		*cost = (struct layer_cost){.forward = bench.seconds[FORWARD] / rows,
		                            .backward = bench.seconds[BACKWARD] / rows,
		                            .weight = bench.seconds[WEIGHT] / (double)bench.group,
		                            .squares = bench.seconds[SQUARES],
		                            .update = bench.seconds[UPDATE]};
	bench_finish(&bench);
	return explain(pipeline, layer, device, status);
}

/* Do two layers run the same ops on the same sizes? */
static bool same_kind(const ps_pipeline *pipeline, int a, int b)
{
	const ps_layer *x = pipeline->config.layers[a], *y = pipeline->config.layers[b];
	const struct program *program = pipeline->train;
	const ps_layer_plan *p = &program->plans[a], *q = &program->plans[b];
	if (x->impl != y->impl || (a == 0) != (b == 0) || x->parameter_count != y->parameter_count ||
	    memcmp(&program->in[a], &program->in[b], sizeof *program->in) != 0 ||
	    memcmp(&p->out, &q->out, sizeof p->out) != 0 || p->forward_flops != q->forward_flops ||
	    p->backward_input_flops != q->backward_input_flops || p->backward_weight_flops != q->backward_weight_flops)
		return false;
	for (int i = 0; i < x->parameter_count; i++)
		if (x->parameters[i].rank != y->parameters[i].rank ||
		    memcmp(x->parameters[i].dims, y->parameters[i].dims, sizeof x->parameters[i].dims) != 0)
			return false;
	return true;
}

/* The first layer of the same kind. */
static int kind_of(const ps_pipeline *pipeline, int layer)
{
	int first = 0;
	while (!same_kind(pipeline, first, layer))
		first++;
	return first;
}

static ps_status measure_layers(ps_pipeline *pipeline)
{
	const ps_pipeline_config *config = &pipeline->config;
	int layers = config->layer_count, kinds = 0, done = 0;
	for (int l = 0; l < layers; l++)
		kinds += kind_of(pipeline, l) == l;
	for (int d = 0; d < pipeline->device_count; d++) {
		struct layer_cost *costs = pipeline->measured->layers + d * layers;
		for (int l = 0; l < layers; l++) {
			int first = kind_of(pipeline, l);
			if (first < l) {
				costs[l] = costs[first];
				continue;
			}
			if (config->measuring)
				config->measuring(config->measuring_payload, done, kinds * pipeline->device_count);
			PS_TRY(measure_layer(pipeline, d, l));
			done++;
		}
	}
	return PS_OK;
}

/* How many times as long its work took while the other was at work: what it did alone before or after counts as such.
 */
static double slowdown_of(const struct bench *bench, int rounds, int64_t begin, int64_t end)
{
	double together = (double)(end - begin) * 1e-9;
	double all = (double)(bench->times[rounds - 1][PHASES - 1][1] - bench->times[0][0][0]) * 1e-9;
	double work = rounds * bench->round_s - (all - together);
	return work > 0 && together > work ? fmin(together / work, MOST_SLOWDOWN) : 1;
}

/* Runs so many rounds of two benches together. */
static ps_status run_together(struct bench *const benches[2], const int rounds[2], double slowdowns[2])
{
	for (int i = 0; i < rounds[0] || i < rounds[1]; i++)
		for (int k = 0; k < 2; k++)
			if (i < rounds[k])
				PS_TRY(enqueue_round(benches[k], benches[k]->times[i]));
	PS_TRY(ps_queue_finish(benches[0]->queue));
	PS_TRY(ps_queue_finish(benches[1]->queue));
	int64_t begin = 0, end = INT64_MAX;
	for (int k = 0; k < 2; k++) {
		int64_t own_begin = benches[k]->times[0][0][0];
		int64_t own_end = benches[k]->times[rounds[k] - 1][PHASES - 1][1];
		begin = own_begin > begin ? own_begin : begin;
		end = own_end < end ? own_end : end;
	}
	for (int k = 0; k < 2; k++)
		slowdowns[k] = fmin(slowdowns[k], slowdown_of(benches[k], rounds[k], begin, end));
	return PS_OK;
}

/* Runs two benches alone and then together, for about as long on both sides. */
static ps_status run_pair(struct bench *one, struct bench *other, double *slow_one, double *slow_other)
{
	PS_TRY(run_alone(one));
	PS_TRY(run_alone(other));
	double longest = fmax(fmax(one->round_s, other->round_s), enough_s), slowdowns[] = {INFINITY, INFINITY};
	struct bench *const benches[] = {one, other};
	int rounds[2];
	for (int k = 0; k < 2; k++)
		rounds[k] = (int)fmin(fmax(longest / benches[k]->round_s, 1), MOST_ROUNDS);
	for (int i = 0; i < PAIR_ROUNDS && i * longest < 2 * slow_s; i++)
		PS_TRY(run_together(benches, rounds, slowdowns));
	*slow_one = slowdowns[0];
	*slow_other = slowdowns[1];
	return PS_OK;
}

static ps_status measure_pair(ps_pipeline *pipeline, int a, int b, int layer)
{
	double *slowdown = pipeline->measured->slowdown;
	int devices = pipeline->device_count;
	struct bench one = {0}, other = {0};
	ps_status status = bench_init(&one, pipeline, pipeline->devices[a], layer, false);
	if (status == PS_OK)
		status = bench_init(&other, pipeline, pipeline->devices[b], layer, false);
	if (status == PS_OK)
		status = run_pair(&one, &other, &slowdown[a * devices + b], &slowdown[b * devices + a]);
	bench_finish(&other);
	bench_finish(&one);
	return explain(pipeline, layer, a, status);
}

/* Every two devices, and each that several ranks share with itself, running the layer with the most work. */
static ps_status measure_sharing(ps_pipeline *pipeline)
{
	int devices = pipeline->device_count, heaviest = 0;
	for (int l = 0; l < pipeline->config.layer_count; l++) {
		const struct layer_cost *cost = &pipeline->measured->layers[l],
		                        *most = &pipeline->measured->layers[heaviest];
		if (cost->forward + cost->backward + cost->weight > most->forward + most->backward + most->weight)
			heaviest = l;
	}
	for (int i = 0; i < devices * devices; i++)
		pipeline->measured->slowdown[i] = 1;
	for (int a = 0; a < devices; a++) {
		int ranks = 0;
		for (int r = 0; r < pipeline->rank_count; r++)
			ranks += pipeline->ranks[r].device == pipeline->devices[a];
		for (int b = ranks > 1 ? a : a + 1; b < devices; b++)
			PS_TRY(measure_pair(pipeline, a, b, heaviest));
	}
	return PS_OK;
}

ps_status ps__measure_layers(ps_pipeline *pipeline)
{
	size_t devices = (size_t)pipeline->device_count;
	struct measured *measured = calloc(1, sizeof *measured);
	if (!measured)
		return ps_fail(PS_ENOMEM, "no memory to measure with");
	pipeline->measured = measured;
	measured->layers = calloc(devices * (size_t)pipeline->config.layer_count, sizeof *measured->layers);
	measured->slowdown = calloc(devices * devices, sizeof *measured->slowdown);
	measured->send = calloc(2 * (size_t)pipeline->stage_count, sizeof *measured->send);
	if (!measured->layers || !measured->slowdown || !measured->send)
		return ps_fail(PS_ENOMEM, "no memory to measure with");
	PS_TRY(measure_layers(pipeline));
	return measure_sharing(pipeline);
}

/* Sends a tensor of the program over its own link, a few times; the quickest counts, as nothing else runs. */
static ps_status measure_link(const struct instruction *instruction, double *seconds)
{
	*seconds = INFINITY;
	for (int k = 0; k < SENDS; k++) {
		ps_link_times times;
		ps_event done;
		PS_TRY(ps_link_send(instruction->link, instruction->to, instruction->from, NULL, 0, &times, &done));
		PS_TRY(ps_event_wait(done, -1));
		*seconds = fmin(*seconds, (double)(times.end - times.begin) * 1e-9);
	}
	return PS_OK;
}

ps_status ps__measure_links(ps_pipeline *pipeline)
{
	const struct program *program = pipeline->train;
	double *send = pipeline->measured->send;
	for (int i = 0; i < program->instruction_count; i++) {
		const struct instruction *instruction = &program->instructions[i];
		if (instruction->kind != INSTRUCTION_TRANSFER)
			continue;
		double *seconds = &send[ps__link_index(instruction->action)];
		if (*seconds > 0)
			continue;
		PS_TRY(measure_link(instruction, seconds));
		*seconds /= (double)program->sizes[instruction->action.micro_batch];
	}
	return PS_OK;
}

void ps__measured_free(struct measured *measured)
{
	if (!measured)
		return;
	free(measured->layers);
	free(measured->slowdown);
	free(measured->send);
	free(measured);
}
