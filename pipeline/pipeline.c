/* Building a pipeline: configuration, devices, cut, plan, memory check, allocation; and what can be asked of it. */
#include "pipeline/internal.h"
#include "pipeline/shadow.h"

#include "core/backend.h"
#include "core/platform.h"
#include "core/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_STALL_TIMEOUT_S 600.0

/* Counts of cells (stage, micro-batch) and of what belongs to them stay well within an int. */
#define MOST_CELLS (INT32_MAX / 16)

static ps_status check_batch_sizes(const ps_pipeline_config *config)
{
	if (config->chunks < 1)
		return ps_fail(PS_EINVAL, "%d chunks; at least 1 is needed", config->chunks);
	if (config->rows < 1 || config->time < 1 || config->eval_rows < 0)
		return ps_fail(PS_EINVAL, "a batch needs at least one row and one time step");
	if (config->rows > INT32_MAX / config->time || config->eval_rows > INT32_MAX / config->time)
		return ps_fail(PS_EINVAL, "a batch of more than 2^31 - 1 tokens is too large");
	if (config->chunks > MOST_CELLS / config->stage_count)
		return ps_fail(PS_EINVAL, "%d chunks for %d %s are too many; their product can be %d at most",
		               config->chunks, config->stage_count, ps__plural(config->stage_count, "stage", "stages"),
		               MOST_CELLS);
	return PS_OK;
}

static ps_status check_balance(const ps_pipeline_config *config)
{
	int64_t sum = 0;
	for (int s = 0; s < config->stage_count; s++) {
		if (config->balance[s] < 1)
			return ps_fail(PS_EINVAL, "the balance gives stage %d %d units; each stage needs at least 1", s,
			               config->balance[s]);
		sum += config->balance[s];
	}
	if (sum != config->layer_count)
		return ps_fail(PS_EINVAL, "the balance adds up to %lld units; the model has %d", (long long)sum,
		               config->layer_count);
	return PS_OK;
}

static ps_status check_config(const ps_pipeline_config *config)
{
	if (config->layer_count < 1 || config->rank_count < 1)
		return ps_fail(PS_EINVAL, "a pipeline needs at least one layer and one device");
	for (int r = 0; r < config->rank_count; r++)
		if (!config->devices || !config->devices[r])
			return ps_fail(PS_EINVAL, "rank %d has no device", r);
	if (config->stage_count < config->rank_count)
		return ps_fail(PS_EINVAL, "%d stages on %d devices; each device needs at least one",
		               config->stage_count, config->rank_count);
	if (config->stage_count > config->layer_count)
		return ps_fail(PS_EINVAL, "%d stages need at least as many layers; the model has %d %s",
		               config->stage_count, config->layer_count,
		               ps__plural(config->layer_count, "unit", "units"));
	if (!config->schedule_file && config->stage_count % config->rank_count)
		return ps_fail(PS_EINVAL, "%d stages cannot be spread evenly over %d devices", config->stage_count,
		               config->rank_count);
	if (config->dtype != PS_F32 && config->dtype != PS_F64)
		return ps_fail(PS_EINVAL, "a pipeline computes in fp32 or fp64, not in %s",
		               ps_dtype_name(config->dtype));
	if (config->math != PS_MATH_F32 && config->dtype != PS_F32)
		return ps_fail(PS_EINVAL, "a pipeline in %s multiplies in it", ps_dtype_name(config->dtype));
	if (config->bf16_weights && config->math != PS_MATH_BF16)
		return ps_fail(PS_EINVAL, "bf16 weights need bf16 products");
	PS_TRY(check_batch_sizes(config));
	return config->balance ? check_balance(config) : PS_OK;
}

/* How many stages a schedule file is for. */
static ps_status read_stage_count(const char *path, int *count)
{
	ps_schedule *schedule;
	PS_TRY(ps_schedule_read(&schedule, path, 0));
	*count = schedule->stages;
	ps_schedule_destroy(schedule);
	return PS_OK;
}

static ps_status set_config(ps_pipeline *pipeline, const ps_pipeline_config *config)
{
	pipeline->config = *config;
	ps_pipeline_config *own = &pipeline->config;
	if (!own->stage_count && own->schedule_file)
		PS_TRY(read_stage_count(own->schedule_file, &own->stage_count));
	if (!own->stage_count)
		own->stage_count = own->rank_count;
	if (!own->schedule && !own->schedule_file)
		own->schedule = "1f1b";
	if (!own->chunks)
		own->chunks = 2 * own->rank_count;
	if (own->chunks > own->rows && own->rows > 0)
		own->chunks = (int)own->rows;
	if (!(own->stall_timeout_s > 0))
		own->stall_timeout_s = DEFAULT_STALL_TIMEOUT_S;
	PS_TRY(check_config(own));
	size_t ranks = (size_t)own->rank_count, stages = (size_t)own->stage_count;
	pipeline->rank_count = own->rank_count;
	pipeline->stage_count = own->stage_count;
	pipeline->ranks = calloc(ranks, sizeof *pipeline->ranks);
	pipeline->devices = calloc(ranks, sizeof *pipeline->devices);
	pipeline->device_names = calloc(ranks, sizeof *pipeline->device_names);
	pipeline->stages = calloc(stages, sizeof *pipeline->stages);
	pipeline->rank_of_stage = calloc(stages, sizeof *pipeline->rank_of_stage);
	pipeline->stage_room = calloc(ranks * stages, sizeof *pipeline->stage_room);
	pipeline->boundaries = calloc(stages, sizeof *pipeline->boundaries);
	pipeline->memory = calloc((size_t)own->layer_count, sizeof *pipeline->memory);
	if (!pipeline->ranks || !pipeline->devices || !pipeline->device_names || !pipeline->stages ||
	    !pipeline->rank_of_stage || !pipeline->stage_room || !pipeline->boundaries || !pipeline->memory)
		return ps_fail(PS_ENOMEM, "out of memory for a pipeline");
	for (int r = 0; r < pipeline->rank_count; r++)
		pipeline->ranks[r].stages = pipeline->stage_room + (size_t)r * stages;
	return PS_OK;
}

/* Opens each named device once, however many ranks name it. */
static ps_status open_devices(ps_pipeline *pipeline)
{
	const ps_pipeline_config *config = &pipeline->config;
	for (int r = 0; r < pipeline->rank_count; r++) {
		int d = 0;
		/* The names up to device_count are set. NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker) */
		while (d < pipeline->device_count && strcmp(pipeline->device_names[d], config->devices[r]))
			d++;
		if (d == pipeline->device_count) {
			PS_TRY(config->open_device ? config->open_device(config->open_device_payload,
			                                                 &pipeline->devices[d], config->devices[r])
			                           : ps_device_open(&pipeline->devices[d], config->devices[r]));
			pipeline->device_names[d] = config->devices[r];
			pipeline->device_count++;
		}
		pipeline->ranks[r].device = pipeline->devices[d];
		pipeline->ranks[r].arena.segment_bytes = ps_device_get_info(pipeline->devices[d])->max_buffer_bytes /
		                                         PS_TENSOR_ALIGNMENT * PS_TENSOR_ALIGNMENT;
	}
	return PS_OK;
}

static ps_status check_graphs(const ps_pipeline *pipeline)
{
	bool any = false;
	for (int d = 0; d < pipeline->device_count; d++)
		any |= ps__device_has_graphs(pipeline->devices[d]);
	if (pipeline->config.graphs != PS_GRAPHS_ON || any)
		return PS_OK;
	return ps_fail(PS_ENOTSUP, "graphs are on, and none of the devices has them; GPUs by cuda have");
}

ps_status ps__queue_create_as_configured(ps_queue **out, const ps_pipeline_config *config, ps_device *device,
                                         const char *label)
{
	PS_TRY(ps_queue_create(out, device, label));
	PS_TRY(ps_queue_set_math(*out, config->math));
	return ps__device_has_graphs(device) ? ps_queue_set_graphs(*out, config->graphs) : PS_OK;
}

/* Cuts again, by time, after a look whether any cut fits: measuring takes memory and time. */
static ps_status balance_time(ps_pipeline *pipeline)
{
	PS_TRY(ps__cut_within_memory(pipeline, false));
	PS_TRY(ps__measure_layers(pipeline));
	return ps__cut_within_memory(pipeline, true);
}

/* Makes the programs of the largest batches, which decide how much memory a step takes. */
static ps_status plan_programs(ps_pipeline *pipeline)
{
	const ps_pipeline_config *config = &pipeline->config;
	struct program *evaluation = NULL;
	PS_TRY(ps__program_get(&pipeline->train, pipeline, true, config->rows, config->time));
	if (config->eval_rows)
		PS_TRY(ps__program_get(&evaluation, pipeline, false, config->eval_rows, config->time));
	PS_TRY(ps__parameters_plan(pipeline));
	if (config->balance_time && !config->balance)
		PS_TRY(balance_time(pipeline));
	for (int i = 0; i < pipeline->program_count; i++)
		PS_TRY(ps__program_arrange(pipeline, pipeline->programs[i]));
	for (int r = 0; r < pipeline->rank_count; r++) {
		struct arena *arena = &pipeline->ranks[r].arena;
		arena->bytes = pipeline->train->rank_bytes[r];
		if (evaluation && evaluation->rank_bytes[r] > arena->bytes)
			arena->bytes = evaluation->rank_bytes[r];
	}
	return PS_OK;
}

static int64_t largest_batch(const ps_pipeline_config *config)
{
	return (config->rows > config->eval_rows ? config->rows : config->eval_rows) * config->time;
}

/* Tokens are with the first stage, targets and losses with the last. */
uint64_t ps__edge_bytes(const ps_pipeline *pipeline, int stage)
{
	uint64_t count = (uint64_t)largest_batch(&pipeline->config), bytes = 0;
	if (stage == 0)
		bytes += count * ps_dtype_bytes(PS_I32);
	if (stage == pipeline->stage_count - 1)
		bytes += count * (ps_dtype_bytes(PS_I32) + ps_dtype_bytes(pipeline->config.dtype));
	return bytes;
}

static int64_t count_elements(const ps_layer *layer)
{
	int64_t sum = 0;
	for (int i = 0; i < layer->parameter_count; i++) {
		const ps_parameter *p = &layer->parameters[i];
		sum += p->rank == 2 ? p->dims[0] * p->dims[1] : p->dims[0];
	}
	return sum;
}

void ps_pipeline_get_rank(const ps_pipeline *pipeline, int r, ps_rank_info *out)
{
	const struct rank *rank = &pipeline->ranks[r];
	*out = (ps_rank_info){.device = rank->device,
	                      .device_name = ps_device_get_info(rank->device)->name,
	                      .stage_count = rank->stage_count,
	                      .stages = rank->stages,
	                      .activation_bytes = rank->arena.bytes};
	if (rank->queue)
		(void)ps_queue_note(rank->queue, out->note, sizeof out->note);
	for (int k = 0; k < rank->stage_count; k++) {
		const struct stage *stage = &pipeline->stages[rank->stages[k]];
		out->units += stage->count;
		out->activation_bytes += ps__edge_bytes(pipeline, rank->stages[k]);
		for (int l = stage->first; l < stage->first + stage->count; l++) {
			const ps_layer_plan *plan = &pipeline->train->plans[l];
			const struct layer_memory *memory = &pipeline->memory[l];
			out->parameter_bytes += memory->bytes[MEMORY_VALUES] + memory->bytes[MEMORY_COPIES];
			out->gradient_bytes += memory->bytes[MEMORY_GRADIENTS];
			out->constant_bytes += memory->bytes[MEMORY_CONSTANTS];
			out->parameters += count_elements(pipeline->config.layers[l]);
			out->flops += (double)pipeline->config.rows *
			              (plan->forward_flops + plan->backward_input_flops + plan->backward_weight_flops);
		}
	}
	out->peak_bytes = out->parameter_bytes + out->gradient_bytes + out->constant_bytes + out->activation_bytes;
}

static double gibibytes(uint64_t bytes)
{
	return (double)bytes / 1073741824.0;
}

/* Devices in host memory share it. */
int ps__memory_pool(const ps_pipeline *pipeline, int device)
{
	int first = 0;
	if (!ps_device_get_info(pipeline->devices[device])->host_addressable)
		return device;
	while (!ps_device_get_info(pipeline->devices[first])->host_addressable)
		first++;
	return first;
}

/* UINT64_MAX when unknown; of host memory what other processes leave. */
uint64_t ps__device_memory(const ps_pipeline *pipeline, int device, const char **name)
{
	const ps_device_info *info = ps_device_get_info(pipeline->devices[device]);
	uint64_t bytes = info->memory_bytes ? info->memory_bytes : UINT64_MAX;
	uint64_t available = info->host_addressable ? ps__memory_available() : 0;
	*name = info->name;
	return available && available < bytes ? available : bytes;
}

/* Compares the plan with what the devices have. */
static ps_status check_memory(const ps_pipeline *pipeline)
{
	for (int d = 0; d < pipeline->device_count; d++) {
		const ps_device_info *info = ps_device_get_info(pipeline->devices[d]);
		const char *name;
		uint64_t need = 0, has = ps__device_memory(pipeline, d, &name);
		for (int r = 0; r < pipeline->rank_count; r++) {
			ps_rank_info rank;
			ps_pipeline_get_rank(pipeline, r, &rank);
			if (ps__memory_pool(pipeline, ps__device_of_rank(pipeline, r)) == ps__memory_pool(pipeline, d))
				need += rank.peak_bytes;
		}
		if (need <= has)
			continue;
		if (info->memory_bytes && need > info->memory_bytes)
			return ps_fail(PS_ETOOBIG,
			               "the plan needs %.2f GiB on %s, which has %.2f GiB; take a smaller model or "
			               "batch, or more devices",
			               gibibytes(need), name, gibibytes(info->memory_bytes));
		return ps_fail(PS_ETOOBIG,
		               "the plan needs %.2f GiB on %s, where %.2f GiB are free; take a smaller model or "
		               "batch, or end other programs",
		               gibibytes(need), name, gibibytes(has));
	}
	return PS_OK;
}

/* Refuses parameters of a layer that a device cannot hold in one buffer. */
static ps_status check_buffers(const ps_pipeline *pipeline)
{
	for (int s = 0; s < pipeline->stage_count; s++) {
		const struct stage *stage = &pipeline->stages[s];
		const ps_device_info *info = ps_device_get_info(pipeline->ranks[stage->rank].device);
		for (int l = stage->first; l < stage->first + stage->count; l++) {
			uint64_t bytes = pipeline->memory[l].bytes[MEMORY_VALUES];
			if (info->max_buffer_bytes && bytes > info->max_buffer_bytes)
				return ps_fail(PS_ETOOBIG,
				               "the parameters of layer %s take %.2f GiB, and a buffer on %s can have "
				               "%.2f GiB; take a smaller model or another device",
				               pipeline->config.layers[l]->name, gibibytes(bytes), info->name,
				               gibibytes(info->max_buffer_bytes));
		}
	}
	return PS_OK;
}

static ps_status allocate_arena(struct rank *rank)
{
	struct arena *arena = &rank->arena;
	if (!arena->bytes)
		return PS_OK;
	uint64_t segment = arena->segment_bytes ? arena->segment_bytes : align_up(arena->bytes);
	uint64_t count = (arena->bytes + segment - 1) / segment;
	arena->segments = calloc(count, sizeof *arena->segments);
	if (!arena->segments)
		return ps_fail(PS_ENOMEM, "out of memory for a pipeline");
	for (uint64_t i = 0; i < count; i++) {
		uint64_t bytes = arena->bytes - i * segment < segment ? arena->bytes - i * segment : segment;
		PS_TRY(ps_buffer_create(&arena->segments[i], rank->device, bytes));
		arena->segment_count++;
	}
	return PS_OK;
}

static ps_status allocate_edges(ps_pipeline *pipeline)
{
	int64_t count = largest_batch(&pipeline->config);
	ps_dtype dtype = pipeline->config.dtype;
	ps_device *first = pipeline->ranks[pipeline->stages[0].rank].device;
	ps_device *last = pipeline->ranks[pipeline->stages[pipeline->stage_count - 1].rank].device;
	uint64_t integers = (uint64_t)count * ps_dtype_bytes(PS_I32);
	PS_TRY(ps_buffer_create(&pipeline->token_buffer, first, integers));
	PS_TRY(ps_buffer_create(&pipeline->target_buffer, last, integers));
	PS_TRY(ps_buffer_create(&pipeline->loss_buffer, last, (uint64_t)count * ps_dtype_bytes(dtype)));
	pipeline->tokens = ps_tensor_make(pipeline->token_buffer, 0, PS_I32, 1, &count);
	pipeline->targets = ps_tensor_make(pipeline->target_buffer, 0, PS_I32, 1, &count);
	pipeline->losses = ps_tensor_make(pipeline->loss_buffer, 0, dtype, 1, &count);
	return ps__runs_allocate(pipeline);
}

static ps_status create_links(ps_pipeline *pipeline)
{
	for (int s = 0; s + 1 < pipeline->stage_count; s++) {
		if (ps__boundary_direct(pipeline, s))
			continue;
		ps_device *a = pipeline->ranks[pipeline->stages[s].rank].device;
		ps_device *b = pipeline->ranks[pipeline->stages[s + 1].rank].device;
		char label[48];
		snprintf(label, sizeof label, "link %d>%d", s, s + 1);
		PS_TRY(ps_link_create(&pipeline->boundaries[s].forward, a, b, label, &pipeline->config.links));
		snprintf(label, sizeof label, "link %d>%d", s + 1, s);
		PS_TRY(ps_link_create(&pipeline->boundaries[s].backward, b, a, label, &pipeline->config.links));
	}
	return PS_OK;
}

static ps_status build(ps_pipeline *pipeline, const ps_pipeline_config *config)
{
	PS_TRY(set_config(pipeline, config));
	PS_TRY(open_devices(pipeline));
	PS_TRY(check_graphs(pipeline));
	PS_TRY(ps__cut(pipeline));
	PS_TRY(plan_programs(pipeline));
	PS_TRY(check_buffers(pipeline));
	PS_TRY(check_memory(pipeline));
	if ((config->measure || config->balance_time) && !pipeline->measured)
		PS_TRY(ps__measure_layers(pipeline));
	/* Links first: the buffers of their start-up test are gone before the plan's are made. */
	PS_TRY(create_links(pipeline));
	for (int r = 0; r < pipeline->rank_count; r++) {
		char label[48];
		snprintf(label, sizeof label, "rank %d", r);
		PS_TRY(ps__queue_create_as_configured(&pipeline->ranks[r].queue, config, pipeline->ranks[r].device,
		                                      label));
		PS_TRY(allocate_arena(&pipeline->ranks[r]));
	}
	PS_TRY(ps__parameters_allocate(pipeline));
	PS_TRY(allocate_edges(pipeline));
	for (int i = 0; i < pipeline->program_count; i++)
		PS_TRY(ps__program_bind(pipeline, pipeline->programs[i]));
	pipeline->allocated = true;
	PS_TRY(ps__shadow_create(pipeline));
	if (!pipeline->measured)
		return PS_OK;
	PS_TRY(ps__measure_links(pipeline));
	for (int i = 0; i < pipeline->program_count; i++)
		PS_TRY(ps__program_predict(pipeline, pipeline->programs[i]));
	return PS_OK;
}

ps_status ps_pipeline_create(ps_pipeline **out, const ps_pipeline_config *config)
{
	*out = NULL;
	ps_pipeline *pipeline = calloc(1, sizeof *pipeline);
	if (!pipeline)
		return ps_fail(PS_ENOMEM, "out of memory for a pipeline");
	ps_status status = build(pipeline, config);
	if (status != PS_OK) {
		ps_pipeline_destroy(pipeline);
		return status;
	}
	*out = pipeline;
	return PS_OK;
}

void ps_pipeline_destroy(ps_pipeline *pipeline)
{
	if (!pipeline)
		return;
	/*
	 * Whatever still runs ends first, as it uses all of the rest. Queues and links wait for each other's points, so
	 * that none of them goes before all are idle.
	 */
	if (pipeline->ranks && pipeline->boundaries && !ps_pipeline_drain(pipeline))
		return;
	ps__shadow_destroy(pipeline->shadow);
	for (int s = 0; s + 1 < pipeline->stage_count && pipeline->boundaries; s++) {
		ps_link_destroy(pipeline->boundaries[s].forward);
		ps_link_destroy(pipeline->boundaries[s].backward);
	}
	for (int i = 0; i < pipeline->program_count; i++)
		ps__program_destroy(pipeline->programs[i]);
	for (int r = 0; r < pipeline->rank_count && pipeline->ranks; r++)
		ps_queue_destroy(pipeline->ranks[r].queue);
	for (int r = 0; r < pipeline->rank_count && pipeline->ranks; r++) {
		struct arena *arena = &pipeline->ranks[r].arena;
		for (int i = 0; i < arena->segment_count; i++)
			ps_buffer_destroy(arena->segments[i]);
		free(arena->segments);
	}
	ps__parameters_free(pipeline);
	ps__measured_free(pipeline->measured);
	ps_buffer_destroy(pipeline->token_buffer);
	ps_buffer_destroy(pipeline->target_buffer);
	ps_buffer_destroy(pipeline->loss_buffer);
	ps__runs_free(pipeline);
	for (int d = 0; d < pipeline->device_count; d++)
		ps_device_close(pipeline->devices[d]);
	void *const blocks[] = {pipeline->programs,      pipeline->boundaries, pipeline->stage_room,
	                        pipeline->rank_of_stage, pipeline->stages,     pipeline->device_names,
	                        pipeline->devices,       pipeline->ranks};
	for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
		free(blocks[i]);
	free(pipeline);
}

int ps_pipeline_rank_count(const ps_pipeline *pipeline)
{
	return pipeline->rank_count;
}

int ps_pipeline_stage_count(const ps_pipeline *pipeline)
{
	return pipeline->stage_count;
}

ps_queue *ps_pipeline_get_queue(const ps_pipeline *pipeline, int rank)
{
	return pipeline->ranks[rank].queue;
}

void ps_pipeline_get_stage(const ps_pipeline *pipeline, int stage, int *rank, int *first, int *count)
{
	*rank = pipeline->stages[stage].rank;
	*first = pipeline->stages[stage].first;
	*count = pipeline->stages[stage].count;
}

const ps_schedule *ps_pipeline_get_schedule(const ps_pipeline *pipeline)
{
	return pipeline->train->schedule;
}

int ps_pipeline_micro_batches(const ps_pipeline *pipeline, const int64_t **sizes)
{
	if (sizes)
		*sizes = pipeline->train->sizes;
	return pipeline->train->micro_batches;
}

const ps_link *ps_pipeline_get_link(const ps_pipeline *pipeline, int stage, bool backward)
{
	return backward ? pipeline->boundaries[stage].backward : pipeline->boundaries[stage].forward;
}
