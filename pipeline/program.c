/* Programs: the schedule of one kind of batch, where its actions stand, and the memory it needs. */
#include "pipeline/internal.h"

#include "core/text.h"

#include <stdlib.h>
#include <string.h>

static void *zeroed(size_t count, size_t size)
{
	return calloc(count ? count : 1, size);
}

static double count_bytes(const ps_shape *shape)
{
	double bytes = (double)ps_dtype_bytes(shape->dtype);
	for (int i = 0; i < shape->rank; i++)
		bytes *= (double)shape->dims[i];
	return bytes;
}

/*
 * Refuses a model whose bytes could not be counted in 64 bits: generously, every tensor for all rows twice, for scratch
 * and for units of unequal size, and its alignment for every micro-batch.
 */
static ps_status check_sizes(const ps_pipeline *pipeline, const struct program *program)
{
	double bytes = 0, rows = 4.0 * (double)program->rows;
	double padding = PS_TENSOR_ALIGNMENT * (double)program->micro_batches;
	for (int l = 0; l < pipeline->config.layer_count; l++) {
		const ps_layer *layer = pipeline->config.layers[l];
		const ps_layer_plan *plan = &program->plans[l];
		bytes += rows * (count_bytes(&program->in[l]) + count_bytes(&plan->out)) + 4 * padding;
		for (int i = 0; i < plan->slot_count; i++)
			bytes += rows * count_bytes(&plan->slots[i].shape) + padding;
		for (int i = 0; i < layer->parameter_count; i++) {
			const ps_parameter *p = &layer->parameters[i];
			bytes += 4.0 * sizeof(double) * (double)p->dims[0] * (double)(p->rank > 1 ? p->dims[1] : 1);
		}
	}
	if (bytes > 0x1p60)
		return ps_fail(PS_ETOOBIG, "a model and batch of these sizes would take %.3g GiB",
		               bytes / 1073741824.0);
	return PS_OK;
}

static ps_status plan_layers(ps_pipeline *pipeline, struct program *program)
{
	int layers = pipeline->config.layer_count;
	program->in[0] = (ps_shape){PS_I32, 1, {program->time}};
	for (int l = 0; l < layers; l++) {
		const ps_layer *layer = pipeline->config.layers[l];
		PS_TRY(layer->impl->plan(layer, &program->in[l], pipeline->config.dtype, &program->plans[l]));
		if (program->plans[l].slot_count < 0 || program->plans[l].slot_count > PS_MAX_SLOTS)
			return ps_fail(PS_EINVAL, "layer %s plans %d slots; a layer has up to %d", layer->name,
			               program->plans[l].slot_count, PS_MAX_SLOTS);
		bool ends = program->plans[l].out.rank == 0;
		if (ends != (l + 1 == layers))
			return ps_fail(PS_EINVAL,
			               ends ? "layer %s ends the pipeline but is not the last"
			                    : "layer %s is the last but has no losses",
			               layer->name);
		if (!ends)
			program->in[l + 1] = program->plans[l].out;
	}
	return PS_OK;
}

/* The program of the largest batch of a kind, which is made before all others; NULL while there is none. */
static const struct program *largest_program(const ps_pipeline *pipeline, bool training)
{
	for (int i = 0; i < pipeline->program_count; i++)
		if (pipeline->programs[i]->training == training)
			return pipeline->programs[i];
	return NULL;
}

/*
 * A smaller batch has as many micro-batches as the largest one, of which the last ones may be empty: it runs by the
 * same schedule, and needs no more memory. Empty ones have actions without ops and no transfers.
 */
static ps_status split(ps_pipeline *pipeline, struct program *program)
{
	int chunks = pipeline->config.chunks;
	program->sizes = zeroed((size_t)chunks, sizeof *program->sizes);
	program->first_row = zeroed((size_t)chunks + 1, sizeof *program->first_row);
	if (!program->sizes || !program->first_row)
		return ps_fail(PS_ENOMEM, "out of memory for a program");
	const struct program *largest = largest_program(pipeline, program->training);
	int count = ps_split_rows(pipeline->config.split, program->rows, chunks, program->sizes);
	if (largest && count > largest->micro_batches)
		count = ps_split_rows(PS_SPLIT_EVEN, program->rows, largest->micro_batches, program->sizes);
	for (int i = count; i < chunks; i++)
		program->sizes[i] = 0;
	program->micro_batches = largest ? largest->micro_batches : count;
	for (int i = 0; i < program->micro_batches; i++)
		program->first_row[i + 1] = program->first_row[i] + program->sizes[i];
	return PS_OK;
}

/* Evaluation: forward only, with the stages where training has them. */
static ps_status generate_forward(ps_pipeline *pipeline, struct program *program)
{
	return ps_schedule_generate_forward(&program->schedule, pipeline->train->schedule, program->micro_batches);
}

static ps_status generate_training(ps_pipeline *pipeline, struct program *program)
{
	const ps_pipeline_config *config = &pipeline->config;
	int m = program->micro_batches;
	if (config->schedule_file) {
		PS_TRY(ps_schedule_read(&program->schedule, config->schedule_file, 0));
		/* As it is, for the rewrites replace some of what may be wrong. */
		PS_TRY(ps_schedule_validate(program->schedule));
	} else {
		PS_TRY(ps_schedule_generate(&program->schedule, config->schedule, pipeline->rank_count,
		                            pipeline->stage_count / pipeline->rank_count, m));
	}
	ps_schedule *schedule = program->schedule;
	if (schedule->forward_only)
		return ps_fail(PS_EINVAL, "schedule %s has no backward, so that nothing can be trained with it",
		               schedule->name);
	if (schedule->ranks != pipeline->rank_count || schedule->stages != pipeline->stage_count)
		return ps_fail(PS_EINVAL, "%s is for %d %s and %d %s; here are %d and %d", config->schedule_file,
		               schedule->ranks, ps__plural(schedule->ranks, "rank", "ranks"), schedule->stages,
		               ps__plural(schedule->stages, "stage", "stages"), pipeline->rank_count,
		               pipeline->stage_count);
	if (schedule->micro_batches != m)
		return ps_fail(PS_EINVAL, "%s is for %d %s; %d %s of a batch of %lld %s %s %d", config->schedule_file,
		               schedule->micro_batches,
		               ps__plural(schedule->micro_batches, "micro-batch", "micro-batches"), config->chunks,
		               ps__plural(config->chunks, "chunk", "chunks"), (long long)program->rows,
		               ps__plural(program->rows, "row", "rows"), ps__plural(config->chunks, "is", "are"), m);
	PS_TRY(ps_schedule_add_recompute(schedule, config->checkpoint));
	if (config->weight_group >= 0)
		PS_TRY(ps_schedule_group_weight(schedule, config->weight_group ? config->weight_group : m));
	return PS_OK;
}

/* Starts the next group of a stage: the micro-batches whose weight gradient the action at `at` forms at once. */
static void locate_weight(struct program *program, ps_action action, int64_t at)
{
	int cell = ps__at(program, action.stage, action.micro_batch);
	int group = program->group_count[action.stage]++;
	program->group_first[ps__at(program, action.stage, group)] = action.micro_batch;
	for (int i = 0; i < action.count; i++) {
		program->at_weight[cell + i] = at;
		program->group_of[cell + i] = group;
	}
}

static void locate_action(struct program *program, ps_action action, int64_t at)
{
	bool forward = action.kind == PS_ACTION_F, recompute = action.kind == PS_ACTION_R;
	bool backward = action.kind == PS_ACTION_B || action.kind == PS_ACTION_BW;
	bool weight = action.kind == PS_ACTION_W || action.kind == PS_ACTION_BW;
	uint8_t together = (uint8_t)((forward ? TOGETHER_F : 0) | (recompute ? TOGETHER_R : 0) |
	                             (backward ? TOGETHER_B : 0) | (weight ? TOGETHER_W : 0));
	int cell = ps__at(program, action.stage, action.micro_batch);
	for (int i = 0; i < action.count; i++) {
		if (forward)
			program->at_forward[cell + i] = at;
		if (recompute)
			program->at_recompute[cell + i] = at;
		if (backward)
			program->at_backward[cell + i] = at;
		if (i + 1 < action.count)
			program->together[cell + i] |= together;
	}
	if (weight)
		locate_weight(program, action, at);
}

/* Writes down where each action stands, and which micro-batches are done together. */
static void locate(struct program *program)
{
	const ps_schedule *schedule = program->schedule;
	size_t cells = (size_t)schedule->stages * (size_t)program->micro_batches;
	for (size_t i = 0; i < cells; i++)
		program->at_forward[i] = program->at_backward[i] = program->at_recompute[i] = program->at_weight[i] =
		        -1;
	memset(program->together, 0, cells * sizeof *program->together);
	memset(program->group_count, 0, (size_t)schedule->stages * sizeof *program->group_count);
	for (int r = 0; r < schedule->ranks; r++)
		for (int64_t at = 0; at < schedule->rank[r].count; at++)
			locate_action(program, schedule->rank[r].actions[at], at);
	for (size_t i = 0; i < cells; i++)
		if ((program->together[i] & TOGETHER_F) && program->at_recompute[i] < 0)
			program->together[i] |= TOGETHER_KEPT_F;
}

static bool may_join(const ps_pipeline *pipeline)
{
	return pipeline->config.join && pipeline->device_count == 1;
}

/* Takes the place of the schedule and of all that tells where its actions stand. */
static ps_status make_schedule(ps_pipeline *pipeline, struct program *program, bool join)
{
	ps__program_layout_free(program);
	ps_schedule_destroy(program->schedule);
	program->schedule = NULL;
	PS_TRY(program->training ? generate_training(pipeline, program) : generate_forward(pipeline, program));
	/* Before it is joined, so that messages are about the schedule that was asked for. */
	PS_TRY(ps_schedule_validate(program->schedule));
	if (join)
		PS_TRY(ps_schedule_join(program->schedule));
	locate(program);
	return PS_OK;
}

static ps_status allocate(ps_pipeline *pipeline, struct program *program)
{
	size_t layers = (size_t)pipeline->config.layer_count, ranks = (size_t)pipeline->rank_count;
	program->in = zeroed(layers, sizeof *program->in);
	program->plans = zeroed(layers, sizeof *program->plans);
	program->slot_offset = zeroed(layers * PS_MAX_SLOTS, sizeof *program->slot_offset);
	program->x_offset = zeroed(layers, sizeof *program->x_offset);
	program->dy_offset = zeroed(layers, sizeof *program->dy_offset);
	program->rank_bytes = zeroed(ranks, sizeof *program->rank_bytes);
	program->largest = zeroed(ranks, sizeof *program->largest);
	program->scratch = zeroed(ranks, sizeof *program->scratch);
	if (!program->in || !program->plans || !program->slot_offset || !program->x_offset || !program->dy_offset ||
	    !program->rank_bytes || !program->largest || !program->scratch)
		return ps_fail(PS_ENOMEM, "out of memory for a program");
	return PS_OK;
}

static ps_status allocate_cells(ps_pipeline *pipeline, struct program *program)
{
	size_t stages = (size_t)pipeline->stage_count, cells = stages * (size_t)program->micro_batches;
	program->at_forward = zeroed(cells, sizeof *program->at_forward);
	program->at_backward = zeroed(cells, sizeof *program->at_backward);
	program->at_recompute = zeroed(cells, sizeof *program->at_recompute);
	program->at_weight = zeroed(cells, sizeof *program->at_weight);
	program->together = zeroed(cells, sizeof *program->together);
	program->group_of = zeroed(cells, sizeof *program->group_of);
	program->group_first = zeroed(cells, sizeof *program->group_first);
	program->group_count = zeroed(stages, sizeof *program->group_count);
	program->regions = zeroed(stages * REGION_COUNT, sizeof *program->regions);
	if (!program->at_forward || !program->at_backward || !program->at_recompute || !program->at_weight ||
	    !program->together || !program->group_of || !program->group_first || !program->group_count ||
	    !program->regions)
		return ps_fail(PS_ENOMEM, "out of memory for a program");
	return PS_OK;
}

/* Takes over the stages' ranks from the training schedule, which alone decides them. */
static void place_stages(ps_pipeline *pipeline, const ps_schedule *schedule)
{
	for (int s = 0; s < pipeline->stage_count; s++) {
		int r = schedule->rank_of_stage[s];
		struct rank *rank = &pipeline->ranks[r];
		pipeline->rank_of_stage[s] = r;
		pipeline->stages[s].rank = r;
		rank->stages[rank->stage_count++] = s;
	}
	pipeline->placed = true;
}

static ps_status build(ps_pipeline *pipeline, struct program *program)
{
	PS_TRY(allocate(pipeline, program));
	PS_TRY(plan_layers(pipeline, program));
	PS_TRY(split(pipeline, program));
	PS_TRY(check_sizes(pipeline, program));
	PS_TRY(allocate_cells(pipeline, program));
	PS_TRY(make_schedule(pipeline, program, may_join(pipeline)));
	if (!pipeline->placed)
		place_stages(pipeline, program->schedule);
	else if (memcmp(pipeline->rank_of_stage, program->schedule->rank_of_stage,
	                (size_t)pipeline->stage_count * sizeof *pipeline->rank_of_stage) != 0)
		return ps_fail(PS_EINVAL, "schedule %s places the stages otherwise than at the start",
		               program->schedule->name);
	return PS_OK;
}

static ps_status arrange(ps_pipeline *pipeline, struct program *program)
{
	bool stuck;
	PS_TRY(ps__program_layout(pipeline, program));
	PS_TRY(ps__program_order(pipeline, program, &stuck));
	if (!stuck)
		return PS_OK;
	/* The order in which tensors arrive does not go with shared boundary memory. */
	program->keep_boundaries = true;
	PS_TRY(ps__program_layout(pipeline, program));
	PS_TRY(ps__program_order(pipeline, program, &stuck));
	return stuck ? ps_fail(PS_EINTERNAL, "schedule %s is valid but cannot be ordered", program->schedule->name)
	             : PS_OK;
}

/* Does it take more memory anywhere than training? */
static bool exceeds_training(const ps_pipeline *pipeline, const struct program *program)
{
	for (int r = 0; r < pipeline->rank_count; r++)
		if (program->rank_bytes[r] > pipeline->train->rank_bytes[r])
			return true;
	return false;
}

ps_status ps__program_arrange(ps_pipeline *pipeline, struct program *program)
{
	PS_TRY(arrange(pipeline, program));
	if (program->training || !may_join(pipeline) || !exceeds_training(pipeline, program))
		return PS_OK;
	/* All that an evaluation takes is scratch for what it does at once: then one micro-batch at a time. */
	PS_TRY(make_schedule(pipeline, program, false));
	return arrange(pipeline, program);
}

ps_status ps__program_create(struct program **out, ps_pipeline *pipeline, bool training, int64_t rows, int64_t time)
{
	*out = NULL;
	struct program *program = calloc(1, sizeof *program);
	if (!program)
		return ps_fail(PS_ENOMEM, "out of memory for a program");
	program->training = training;
	program->rows = rows;
	program->time = time;
	ps_status status = build(pipeline, program);
	if (status != PS_OK) {
		ps__program_destroy(program);
		return status;
	}
	*out = program;
	return PS_OK;
}

void ps__program_destroy(struct program *program)
{
	if (!program)
		return;
	ps__program_layout_free(program);
	for (int i = 0; i < program->instruction_count; i++)
		ps_list_destroy(program->instructions[i].list);
	void *const blocks[] = {
	        program->sizes,       program->first_row,    program->in,          program->plans,
	        program->slot_offset, program->x_offset,     program->dy_offset,   program->at_forward,
	        program->at_backward, program->at_recompute, program->at_weight,   program->group_of,
	        program->together,    program->group_first,  program->group_count, program->regions,
	        program->rank_bytes,  program->largest,      program->scratch,     program->instructions,
	        program->waits,       program->times,        program->transfers,   program->transfer_waits,
	        program->spans,       program->predicted};
	for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
		free(blocks[i]);
	for (int r = 0; r < PS_RUNS; r++) {
		free(program->marks[r].events);
		free(program->marks[r].begun);
		free(program->marks[r].started);
	}
	ps_schedule_destroy(program->schedule);
	free(program);
}

static ps_status add(ps_pipeline *pipeline, struct program *program)
{
	if (pipeline->program_count == pipeline->program_capacity) {
		int capacity = pipeline->program_capacity ? pipeline->program_capacity * 2 : 4;
		struct program **programs = realloc(pipeline->programs, (size_t)capacity * sizeof(struct program *));
		if (!programs)
			return ps_fail(PS_ENOMEM, "out of memory for a program");
		pipeline->programs = programs;
		pipeline->program_capacity = capacity;
	}
	pipeline->programs[pipeline->program_count++] = program;
	return PS_OK;
}

ps_status ps__program_get(struct program **out, ps_pipeline *pipeline, bool training, int64_t rows, int64_t time)
{
	for (int i = 0; i < pipeline->program_count; i++) {
		struct program *program = pipeline->programs[i];
		if (program->training == training && program->rows == rows && program->time == time) {
			*out = program;
			return PS_OK;
		}
	}
	/* Recording may try products out on the devices, in memory that a run uses. */
	ps__runs_settle(pipeline);
	struct program *program;
	PS_TRY(ps__program_create(&program, pipeline, training, rows, time));
	ps_status status = pipeline->allocated ? ps__program_arrange(pipeline, program) : PS_OK;
	if (status == PS_OK && pipeline->allocated)
		status = ps__program_bind(pipeline, program);
	if (status == PS_OK && pipeline->allocated && pipeline->measured)
		status = ps__program_predict(pipeline, program);
	if (status == PS_OK)
		status = add(pipeline, program);
	if (status != PS_OK) {
		ps__program_destroy(program);
		return status;
	}
	*out = program;
	return PS_OK;
}
