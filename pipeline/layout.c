/*
 * The memory layout of a program, made from its validated schedule alone.
 *
 * Each stage has a handful of regions. A region has units (a micro-batch, or several that some action takes as one)
 * that occupy memory from one position of the rank's action list to another; units that do not overlap share
 * a slot. A tensor's place within a slot is fixed by the most rows that a unit can have.
 *
 * Where a device limits the size of a buffer, the arena is a row of segments of that size. What is larger than a
 * segment (a slot with many tensors) starts on one, so that places within it tell where segments end.
 */
#include "pipeline/internal.h"

#include <stdlib.h>

static struct region *region_of(const struct program *program, int stage, enum region_kind kind)
{
	return &program->regions[stage * REGION_COUNT + (int)kind];
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Bytes of a tensor of `rows` sample rows. */
static uint64_t tensor_bytes(const ps_shape *shape, int64_t rows)
{
	return align_up(shape_bytes(shape) * (uint64_t)rows);
}

/* Adds a tensor to a region of stage s and returns its place within the region's slots. */
static uint64_t region_add(const ps_pipeline *pipeline, struct program *program, int s, enum region_kind kind,
                           const ps_shape *shape)
{
	struct region *region = region_of(program, s, kind);
	int r = pipeline->stages[s].rank;
	uint64_t bytes = tensor_bytes(shape, region->rows);
	program->largest[r] = most(program->largest[r], bytes);
	return ps__arena_place(&pipeline->ranks[r].arena, &region->slot_bytes, bytes);
}

bool ps__backward_whole(const struct program *program, int stage)
{
	for (int i = 0; i < program->micro_batches; i++)
		if (program->at_backward[ps__at(program, stage, i)] != program->at_weight[ps__at(program, stage, i)])
			return false;
	return program->training;
}

/* The region of a tensor of a stage; REGION_COUNT: none. */
static enum region_kind region_for(const struct program *program, int stage, ps_lifetime lifetime)
{
	switch (lifetime) {
	case PS_LIFETIME_SAVED_B:
		return REGION_SAVED_B;
	case PS_LIFETIME_SAVED_W:
		return REGION_SAVED_W;
	case PS_LIFETIME_CARRY:
		return ps__backward_whole(program, stage) ? REGION_COUNT : REGION_CARRY;
	case PS_LIFETIME_SCRATCH:
	case PS_LIFETIME_CONSTANT:
		break;
	}
	return REGION_COUNT;
}

/* Gives every tensor of a stage its region and its place there; scratch tensors are placed by scratch_bytes. */
static void place_tensors(const ps_pipeline *pipeline, struct program *program, int s)
{
	const struct stage *stage = &pipeline->stages[s];
	int last = stage->first + stage->count - 1;
	bool training = program->training;
	if (s > 0)
		region_add(pipeline, program, s, REGION_X, &program->in[stage->first]);
	bool to_next = s + 1 < pipeline->stage_count;
	if (to_next && training)
		region_add(pipeline, program, s, REGION_DY, &program->plans[last].out);
	if (to_next && !ps__boundary_direct(pipeline, s))
		region_add(pipeline, program, s, REGION_Y, &program->plans[last].out);
	if (s > 0 && training && !ps__boundary_direct(pipeline, s - 1))
		region_add(pipeline, program, s, REGION_DX, &program->in[stage->first]);
	if (!training)
		return;
	for (int l = stage->first; l <= last; l++) {
		const ps_layer_plan *plan = &program->plans[l];
		for (int i = 0; i < plan->slot_count; i++) {
			enum region_kind kind = region_for(program, s, plan->slots[i].lifetime);
			if (kind != REGION_COUNT)
				program->slot_offset[l * PS_MAX_SLOTS + i] =
				        region_add(pipeline, program, s, kind, &plan->slots[i].shape);
		}
		enum region_kind input = region_for(program, s, plan->input);
		if (l > stage->first && input != REGION_COUNT)
			program->x_offset[l] = region_add(pipeline, program, s, input, &program->in[l]);
		if (l < last && region_for(program, s, plan->gradient) == REGION_CARRY)
			program->dy_offset[l] = region_add(pipeline, program, s, REGION_CARRY, &plan->out);
	}
}

/* The most rows that an action of a stage has which uses scratch. */
static int64_t most_rows(const struct program *program, int s)
{
	static const unsigned kinds[] = {TOGETHER_F, TOGETHER_R, TOGETHER_B};
	int64_t most = 0;
	for (int k = 0; k < 3; k++) {
		int64_t rows = 0;
		for (int i = 0; i < program->micro_batches; i++) {
			rows += program->sizes[i];
			most = rows > most ? rows : most;
			if (!(program->together[ps__at(program, s, i)] & kinds[k]))
				rows = 0;
		}
	}
	return most;
}

/* Does a stage run a forward that keeps nothing: in evaluation, or before a recomputation? */
static bool runs_unsaved(const struct program *program, int s)
{
	bool unsaved = !program->training;
	for (int i = 0; i < program->micro_batches; i++)
		unsaved = unsaved || program->at_recompute[ps__at(program, s, i)] >= 0;
	return unsaved;
}

/* Bytes of each of the two buffers between a stage's layers, for what no region keeps; 0 when all is kept. */
static uint64_t between_bytes(const ps_pipeline *pipeline, const struct program *program, int s)
{
	const struct stage *stage = &pipeline->stages[s];
	int64_t rows = most_rows(program, s);
	bool unsaved = runs_unsaved(program, s);
	uint64_t bytes = 0;
	for (int l = stage->first + 1; l < stage->first + stage->count; l++) {
		bool input = unsaved || program->plans[l].input == PS_LIFETIME_SCRATCH;
		bool gradient =
		        program->training && region_for(program, s, program->plans[l - 1].gradient) != REGION_CARRY;
		if (input || gradient)
			bytes = most(bytes, tensor_bytes(&program->in[l], rows));
	}
	/* A recomputation has no use for the stage's output and leaves it here. */
	const ps_layer_plan *last = &program->plans[stage->first + stage->count - 1];
	if (program->training && unsaved && last->out.rank)
		bytes = most(bytes, tensor_bytes(&last->out, rows));
	return bytes;
}

bool ps__slot_is_scratch(const struct program *program, int stage, ps_lifetime lifetime, bool unsaved)
{
	if (lifetime == PS_LIFETIME_CARRY)
		return ps__backward_whole(program, stage);
	bool saved = lifetime == PS_LIFETIME_SAVED_B || lifetime == PS_LIFETIME_SAVED_W;
	return lifetime == PS_LIFETIME_SCRATCH || (saved && unsaved);
}

/*
 * Raises *end to where the scratch slots of the neediest layer of a stage end that begin at `begin`, and with them,
 * where nothing is saved, the slots that are saved otherwise.
 */
static void place_scratch(const ps_pipeline *pipeline, struct program *program, int s, uint64_t begin, uint64_t *end)
{
	const struct stage *stage = &pipeline->stages[s];
	bool unsaved = runs_unsaved(program, s);
	int64_t rows = most_rows(program, s);
	for (int l = stage->first; l < stage->first + stage->count; l++) {
		const ps_layer_plan *plan = &program->plans[l];
		/* A forward has the saved slots here and a backward has not, but neither needs more than all. */
		uint64_t used = begin;
		for (int i = 0; i < plan->slot_count; i++) {
			if (!ps__slot_is_scratch(program, s, plan->slots[i].lifetime, unsaved))
				continue;
			uint64_t bytes = tensor_bytes(&plan->slots[i].shape, rows);
			program->largest[stage->rank] = most(program->largest[stage->rank], bytes);
			ps__arena_place(&pipeline->ranks[stage->rank].arena, &used, bytes);
		}
		*end = most(*end, used);
	}
}

/* Scratch of a rank, which all its stages share as one action runs at a time: two buffers between layers, then slots.
 */
static void layout_scratch(const ps_pipeline *pipeline, struct program *program, int r, const int *stages, int count,
                           uint64_t *used)
{
	const struct rank *rank = &pipeline->ranks[r];
	struct scratch *scratch = &program->scratch[r];
	uint64_t pair = 0, end = 0;
	for (int k = 0; k < count; k++)
		pair = most(pair, between_bytes(pipeline, program, stages[k]));
	program->largest[r] = most(program->largest[r], pair);
	for (int i = 0; i < 2 && pair; i++)
		scratch->between[i] = ps__arena_place(&rank->arena, &end, pair);
	scratch->slots = end;
	for (int k = 0; k < count; k++)
		place_scratch(pipeline, program, stages[k], scratch->slots, &end);
	if (end)
		scratch->at = ps__arena_place(&rank->arena, used, end);
}

/* Lays out some or all of a rank's stages. */
static ps_status layout_rank(ps_pipeline *pipeline, struct program *program, int r, const int *stages, int count)
{
	const struct rank *rank = &pipeline->ranks[r];
	uint64_t used = 0;
	program->largest[r] = 0;
	program->scratch[r] = (struct scratch){0};
	for (int k = 0; k < count; k++) {
		for (int kind = 0; kind < REGION_COUNT; kind++)
			PS_TRY(ps__region_open(pipeline, program, stages[k], (enum region_kind)kind));
		place_tensors(pipeline, program, stages[k]);
		for (int kind = 0; kind < REGION_COUNT; kind++)
			PS_TRY(ps__region_place(pipeline, program, stages[k], (enum region_kind)kind, &used));
	}
	layout_scratch(pipeline, program, r, stages, count, &used);
	program->rank_bytes[r] = used;
	if (rank->arena.segment_bytes && program->largest[r] > rank->arena.segment_bytes)
		return ps_fail(PS_ETOOBIG,
		               "a tensor of %.3f GiB on %s is over the device's limit of %.3f GiB for one buffer; take "
		               "a smaller batch or model",
		               (double)program->largest[r] / 1073741824.0, ps_device_get_info(rank->device)->name,
		               (double)rank->arena.segment_bytes / 1073741824.0);
	return PS_OK;
}

void ps__program_layout_free(struct program *program)
{
	int regions = program->regions && program->schedule ? program->schedule->stages * REGION_COUNT : 0;
	for (int i = 0; i < regions; i++) {
		free(program->regions[i].slot_at);
		free(program->regions[i].units);
		free(program->regions[i].unit_of);
		program->regions[i] = (struct region){0};
	}
}

ps_status ps__program_layout(ps_pipeline *pipeline, struct program *program)
{
	ps__program_layout_free(program);
	for (int r = 0; r < pipeline->rank_count; r++)
		PS_TRY(layout_rank(pipeline, program, r, pipeline->ranks[r].stages, pipeline->ranks[r].stage_count));
	return PS_OK;
}

ps_status ps__stage_layout_bytes(ps_pipeline *pipeline, struct program *program, int stage, uint64_t *bytes)
{
	int r = pipeline->stages[stage].rank;
	ps__program_layout_free(program);
	PS_TRY(layout_rank(pipeline, program, r, &stage, 1));
	*bytes = program->rank_bytes[r];
	return PS_OK;
}

uint64_t ps__arena_place(const struct arena *arena, uint64_t *used, uint64_t bytes)
{
	uint64_t at = align_up(*used), segment = arena->segment_bytes;
	if (segment && at % segment && at % segment + bytes > segment)
		at = (at / segment + 1) * segment;
	*used = at + bytes;
	return at;
}

ps_tensor ps__arena_tensor(const struct arena *arena, uint64_t at, const ps_shape *shape, int64_t rows)
{
	int64_t dims[PS_MAX_RANK] = {rows};
	for (int i = 0; i < shape->rank; i++)
		dims[i + 1] = shape->dims[i];
	uint64_t segment = arena->segment_bytes ? at / arena->segment_bytes : 0;
	uint64_t offset = arena->segment_bytes ? at % arena->segment_bytes : at;
	ps_buffer *buffer = arena->segments[segment];
	return ps_tensor_make(buffer, offset, shape->dtype, shape->rank + 1, dims);
}
