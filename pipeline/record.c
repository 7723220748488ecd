/* Records one action of one stage: finds its tensors in the layout and lets its layers add their ops. */
#include "pipeline/internal.h"

bool ps__boundary_direct(const ps_pipeline *pipeline, int stage)
{
	const struct rank *from = &pipeline->ranks[pipeline->stages[stage].rank];
	const struct rank *to = &pipeline->ranks[pipeline->stages[stage + 1].rank];
	return from->device == to->device;
}

static const struct arena *arena_of(const ps_pipeline *pipeline, int stage)
{
	return &pipeline->ranks[pipeline->stages[stage].rank].arena;
}

/* Rows of one recording: those of a micro-batch, or of several. */
struct span {
	int64_t first, count;
};

static struct span micro_batch_rows(const struct program *program, int i)
{
	return (struct span){program->first_row[i], program->sizes[i]};
}

/* The tensor at `offset` within a region, for the given rows of the unit that micro-batch i belongs to. */
static ps_tensor region_tensor(const ps_pipeline *pipeline, const struct program *program, int s, enum region_kind kind,
                               int i, uint64_t offset, const ps_shape *shape, struct span rows)
{
	const struct region *region = &program->regions[s * REGION_COUNT + (int)kind];
	int unit = ps__region_unit(program, s, kind, i);
	int64_t skipped = rows.first - ps__unit_first_row(program, s, kind, unit);
	uint64_t at = region->slot_at[region->units[unit].slot] + offset + (uint64_t)skipped * shape_bytes(shape);
	return ps__arena_tensor(arena_of(pipeline, s), at, shape, rows.count);
}

/* The pipeline's own input, which lives on the first stage's device for the whole step. */
static ps_tensor rows_of(ps_tensor flat, int64_t time, struct span rows)
{
	return ps_tensor_make(flat.buffer, flat.offset + (uint64_t)(rows.first * time) * ps_dtype_bytes(flat.dtype),
	                      flat.dtype, 2, (int64_t[]){rows.count, time});
}

static ps_tensor stage_input(const ps_pipeline *pipeline, const struct program *program, int s, int i, struct span rows)
{
	const ps_shape *shape = &program->in[pipeline->stages[s].first];
	if (s == 0)
		return rows_of(pipeline->tokens, program->time, rows);
	return region_tensor(pipeline, program, s, REGION_X, i, 0, shape, rows);
}

static const ps_shape *stage_output_shape(const ps_pipeline *pipeline, const struct program *program, int s)
{
	const struct stage *stage = &pipeline->stages[s];
	return &program->plans[stage->first + stage->count - 1].out;
}

static ps_tensor stage_gradient(const ps_pipeline *pipeline, const struct program *program, int s, int i,
                                struct span rows)
{
	if (s + 1 == pipeline->stage_count)
		return (ps_tensor){0};
	return region_tensor(pipeline, program, s, REGION_DY, i, 0, stage_output_shape(pipeline, program, s), rows);
}

ps_tensor ps__input_tensor(ps_pipeline *pipeline, const struct program *program, int stage, int micro_batch,
                           bool backward)
{
	struct span rows = micro_batch_rows(program, micro_batch);
	return backward ? stage_gradient(pipeline, program, stage, micro_batch, rows)
	                : stage_input(pipeline, program, stage, micro_batch, rows);
}

/* Where some rows of a stage's output (or input gradient) are written, from micro-batch i on. */
static ps_tensor stage_output(const ps_pipeline *pipeline, const struct program *program, int s, int i, bool backward,
                              struct span rows)
{
	int other = backward ? s - 1 : s + 1;
	if (other < 0 || other >= pipeline->stage_count)
		return (ps_tensor){0};
	if (ps__boundary_direct(pipeline, backward ? other : s))
		return backward ? stage_gradient(pipeline, program, other, i, rows)
		                : stage_input(pipeline, program, other, i, rows);
	const ps_shape *shape =
	        backward ? &program->in[pipeline->stages[s].first] : stage_output_shape(pipeline, program, s);
	return region_tensor(pipeline, program, s, backward ? REGION_DX : REGION_Y, i, 0, shape, rows);
}

ps_tensor ps__output_tensor(ps_pipeline *pipeline, const struct program *program, int stage, int micro_batch,
                            bool backward)
{
	return stage_output(pipeline, program, stage, micro_batch, backward, micro_batch_rows(program, micro_batch));
}

/* What one action's recording has to know. */
struct recording {
	ps_pipeline *pipeline;
	struct program *program;
	int stage, micro_batch;
	struct span rows;
	/* Nothing is kept: all slots are scratch, as in evaluation and before a recomputation. */
	bool unsaved;
	ps_list *list;
};

/* A tensor `at` bytes into the rank's scratch. */
static ps_tensor scratch(const struct recording *r, uint64_t at, const ps_shape *shape)
{
	uint64_t begin = r->program->scratch[r->pipeline->stages[r->stage].rank].at;
	return ps__arena_tensor(arena_of(r->pipeline, r->stage), begin + at, shape, r->rows.count);
}

/* One of the two buffers between layers. */
static ps_tensor between(const struct recording *r, int layer, const ps_shape *shape)
{
	const struct scratch *place = &r->program->scratch[r->pipeline->stages[r->stage].rank];
	return scratch(r, place->between[layer % 2], shape);
}

/* The input of layer l, within the stage: wherever its plan wants it kept. */
static ps_tensor layer_input(const struct recording *r, int l)
{
	const ps_pipeline *pipeline = r->pipeline;
	const struct program *program = r->program;
	if (l == pipeline->stages[r->stage].first)
		return stage_input(pipeline, program, r->stage, r->micro_batch, r->rows);
	ps_lifetime lifetime = program->plans[l].input;
	if (r->unsaved || lifetime == PS_LIFETIME_SCRATCH)
		return between(r, l, &program->in[l]);
	enum region_kind kind = lifetime == PS_LIFETIME_SAVED_W ? REGION_SAVED_W : REGION_SAVED_B;
	return region_tensor(pipeline, program, r->stage, kind, r->micro_batch, program->x_offset[l], &program->in[l],
	                     r->rows);
}

static ps_tensor layer_gradient(const struct recording *r, int l)
{
	const ps_pipeline *pipeline = r->pipeline;
	const struct program *program = r->program;
	const struct stage *stage = &pipeline->stages[r->stage];
	if (l == stage->first + stage->count - 1)
		return stage_gradient(pipeline, program, r->stage, r->micro_batch, r->rows);
	const ps_layer_plan *plan = &program->plans[l];
	if (plan->gradient != PS_LIFETIME_CARRY || ps__backward_whole(program, r->stage))
		return between(r, l, &plan->out);
	return region_tensor(pipeline, program, r->stage, REGION_CARRY, r->micro_batch, program->dy_offset[l],
	                     &plan->out, r->rows);
}

/* Is a slot of this lifetime there in an action of this kind? */
static bool slot_lives(ps_lifetime lifetime, ps_action_kind kind)
{
	if (kind == PS_ACTION_B)
		return true;
	if (kind == PS_ACTION_W)
		return lifetime == PS_LIFETIME_SAVED_W || lifetime == PS_LIFETIME_CARRY;
	return lifetime != PS_LIFETIME_CARRY;
}

/* Fills the table of a layer's slots. */
static void find_slots(const struct recording *r, int l, ps_action_kind kind, ps_tensor *slots)
{
	const struct program *program = r->program;
	const ps_layer_plan *plan = &program->plans[l];
	uint64_t used = program->scratch[r->pipeline->stages[r->stage].rank].slots;
	for (int i = 0; i < plan->slot_count; i++) {
		const ps_slot *slot = &plan->slots[i];
		slots[i] = (ps_tensor){0};
		bool lives = slot_lives(slot->lifetime, kind);
		if (slot->lifetime == PS_LIFETIME_CONSTANT) {
			slots[i] = r->pipeline->memory[l].constants[i];
		} else if (ps__slot_is_scratch(program, r->stage, slot->lifetime, r->unsaved)) {
			/* At one place in B and in W, whichever of them has it. */
			uint64_t bytes = align_up(shape_bytes(&slot->shape) * (uint64_t)r->rows.count);
			uint64_t at = ps__arena_place(arena_of(r->pipeline, r->stage), &used, bytes);
			if (lives)
				slots[i] = scratch(r, at, &slot->shape);
		} else if (lives) {
			enum region_kind region = slot->lifetime == PS_LIFETIME_SAVED_B   ? REGION_SAVED_B
			                          : slot->lifetime == PS_LIFETIME_SAVED_W ? REGION_SAVED_W
			                                                                  : REGION_CARRY;
			slots[i] = region_tensor(r->pipeline, program, r->stage, region, r->micro_batch,
			                         program->slot_offset[l * PS_MAX_SLOTS + i], &slot->shape, r->rows);
		}
	}
}

static ps_status in_layer(const ps_layer *layer, ps_status status)
{
	return status == PS_OK ? PS_OK : ps_fail_context(status, "layer %s", layer->name);
}

static ps_status record_layer(const struct recording *r, int l, ps_action_kind kind)
{
	ps_pipeline *pipeline = r->pipeline;
	const struct program *program = r->program;
	const struct stage *stage = &pipeline->stages[r->stage];
	const ps_layer *layer = pipeline->config.layers[l];
	const ps_layer_plan *plan = &program->plans[l];
	ps_tensor slots[PS_MAX_SLOTS] = {{0}};
	find_slots(r, l, kind, slots);
	ps_layer_context context = {
	        .list = r->list,
	        .training = program->training,
	        .rows = r->rows.count,
	        .first_row = (uint32_t)r->rows.first,
	        .seed = pipeline->config.seed,
	        .parameters = pipeline->memory[l].parameters,
	        .gradients = pipeline->memory[l].gradients,
	        .slots = slots,
	        .loss_scale = 1.0 / (double)(program->rows * program->time),
	        .accumulate = program->group_of[ps__at(program, r->stage, r->micro_batch)] > 0,
	};
	ps_list_scope(r->list, layer->name);
	bool last = l == stage->first + stage->count - 1;
	if (kind == PS_ACTION_F || kind == PS_ACTION_R) {
		context.x = layer_input(r, l);
		if (!last)
			context.y = layer_input(r, l + 1);
		else if (kind == PS_ACTION_F)
			context.y = stage_output(pipeline, program, r->stage, r->micro_batch, false, r->rows);
		else if (plan->out.rank)
			context.y = between(r, l + 1, &plan->out);
		if (l + 1 == pipeline->config.layer_count) {
			context.targets = rows_of(pipeline->targets, program->time, r->rows);
			context.losses = rows_of(pipeline->losses, program->time, r->rows);
		}
		return in_layer(layer, layer->impl->forward(layer, &context));
	}
	if (plan->input == PS_LIFETIME_SAVED_W || (plan->input == PS_LIFETIME_SAVED_B && kind == PS_ACTION_B))
		context.x = layer_input(r, l);
	if (kind == PS_ACTION_B || plan->gradient == PS_LIFETIME_CARRY)
		context.dy = layer_gradient(r, l);
	if (kind == PS_ACTION_W)
		return layer->impl->backward_weight ? in_layer(layer, layer->impl->backward_weight(layer, &context))
		                                    : PS_OK;
	context.dx = l > stage->first ? layer_gradient(r, l - 1)
	                              : stage_output(pipeline, program, r->stage, r->micro_batch, true, r->rows);
	return in_layer(layer, layer->impl->backward_input(layer, &context));
}

ps_status ps__record_action(ps_pipeline *pipeline, struct program *program, ps_action action, ps_list *list)
{
	const struct stage *stage = &pipeline->stages[action.stage];
	struct recording r = {pipeline, program, action.stage, action.micro_batch, {0, 0}, false, list};
	ps_action_kind kind = (ps_action_kind)action.kind;
	r.rows = (struct span){program->first_row[action.micro_batch],
	                       program->first_row[action.micro_batch + action.count] -
	                               program->first_row[action.micro_batch]};
	if (r.rows.count == 0)
		return PS_OK;
	bool recomputed =
	        program->training && program->at_recompute[ps__at(program, action.stage, action.micro_batch)] >= 0;
	r.unsaved = !program->training || (kind == PS_ACTION_F && recomputed);
	if (kind == PS_ACTION_F || kind == PS_ACTION_R) {
		for (int l = stage->first; l < stage->first + stage->count; l++)
			PS_TRY(record_layer(&r, l, kind));
		return PS_OK;
	}
	bool whole = kind == PS_ACTION_BW && ps__backward_whole(program, action.stage);
	for (int l = stage->first + stage->count - 1; whole && l >= stage->first; l--) {
		PS_TRY(record_layer(&r, l, PS_ACTION_B));
		PS_TRY(record_layer(&r, l, PS_ACTION_W));
	}
	if (whole)
		return PS_OK;
	for (int l = stage->first + stage->count - 1; kind != PS_ACTION_W && l >= stage->first; l--)
		PS_TRY(record_layer(&r, l, PS_ACTION_B));
	for (int l = stage->first + stage->count - 1; kind != PS_ACTION_B && l >= stage->first; l--)
		PS_TRY(record_layer(&r, l, PS_ACTION_W));
	return PS_OK;
}

ps_status ps__record_forward(ps_pipeline *pipeline, struct program *program, int stage, int l, int micro_batch,
                             ps_list *list, ps_tensor *output)
{
	bool recomputed = program->training && program->at_recompute[ps__at(program, stage, micro_batch)] >= 0;
	const struct recording r = {.pipeline = pipeline,
	                            .program = program,
	                            .stage = stage,
	                            .micro_batch = micro_batch,
	                            .rows = micro_batch_rows(program, micro_batch),
	                            .unsaved = !program->training || recomputed,
	                            .list = list};
	if (l + 1 == pipeline->config.layer_count)
		*output = rows_of(pipeline->losses, program->time, r.rows);
	else if (l + 1 == pipeline->stages[stage].first + pipeline->stages[stage].count)
		*output = ps__output_tensor(pipeline, program, stage, micro_batch, false);
	else
		*output = layer_input(&r, l + 1);
	return record_layer(&r, l, PS_ACTION_F);
}
