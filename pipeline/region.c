/*
 * Regions: which micro-batches of a stage lie side by side in memory, from when to when, and where.
 */
#include "pipeline/internal.h"

#include <stdlib.h>

static struct region *region_of(const struct program *program, int stage, enum region_kind kind)
{
	return &program->regions[stage * REGION_COUNT + (int)kind];
}

int ps__region_unit(const struct program *program, int stage, enum region_kind kind, int micro_batch)
{
	return region_of(program, stage, kind)->unit_of[micro_batch];
}

int64_t ps__unit_first_row(const struct program *program, int stage, enum region_kind kind, int unit)
{
	return program->first_row[region_of(program, stage, kind)->units[unit].first];
}

/*
 * The actions that use a region's tensors, as bits of program.together. A direct boundary's tensors are also those of
 * the neighbour, which writes them.
 */
static unsigned users(const ps_pipeline *pipeline, const struct program *program, int s, enum region_kind kind)
{
	const struct stage *stage = &pipeline->stages[s];
	ps_lifetime input = program->plans[stage->first].input;
	switch (kind) {
	case REGION_X:
		return TOGETHER_F | TOGETHER_R | (input == PS_LIFETIME_SCRATCH ? 0 : TOGETHER_B) |
		       (input == PS_LIFETIME_SAVED_W ? TOGETHER_W : 0);
	case REGION_DY:
		return TOGETHER_B |
		       (program->plans[stage->first + stage->count - 1].gradient == PS_LIFETIME_CARRY ? TOGETHER_W : 0);
	case REGION_Y:
		return TOGETHER_F;
	case REGION_DX:
		return TOGETHER_B;
	case REGION_SAVED_B:
		return TOGETHER_KEPT_F | TOGETHER_R | TOGETHER_B;
	case REGION_SAVED_W:
		return TOGETHER_KEPT_F | TOGETHER_R | TOGETHER_B | TOGETHER_W;
	case REGION_CARRY:
		return TOGETHER_B | TOGETHER_W;
	case REGION_COUNT:
		break;
	}
	return 0;
}

/* Are the rows of micro-batches i and i + 1 side by side, because some action takes them as one tensor? */
static bool side_by_side(const ps_pipeline *pipeline, const struct program *program, int s, enum region_kind kind,
                         int i)
{
	if (program->together[ps__at(program, s, i)] & users(pipeline, program, s, kind))
		return true;
	if (kind == REGION_X && s > 0 && ps__boundary_direct(pipeline, s - 1))
		return program->together[ps__at(program, s - 1, i)] & TOGETHER_F;
	if (kind == REGION_DY && s + 1 < pipeline->stage_count && ps__boundary_direct(pipeline, s))
		return program->together[ps__at(program, s + 1, i)] & TOGETHER_B;
	return false;
}

ps_status ps__region_open(const ps_pipeline *pipeline, const struct program *program, int s, enum region_kind kind)
{
	struct region *region = region_of(program, s, kind);
	size_t count = (size_t)program->micro_batches;
	region->units = calloc(count, sizeof *region->units);
	region->unit_of = calloc(count, sizeof *region->unit_of);
	if (!region->units || !region->unit_of)
		return ps_fail(PS_ENOMEM, "out of memory for the memory plan");
	for (int i = 0; i < program->micro_batches; i++) {
		if (i == 0 || !side_by_side(pipeline, program, s, kind, i - 1))
			region->units[region->unit_count++].first = i;
		struct unit *unit = &region->units[region->unit_count - 1];
		region->unit_of[i] = region->unit_count - 1;
		unit->end = i + 1;
		int64_t rows = program->first_row[unit->end] - program->first_row[unit->first];
		region->rows = rows > region->rows ? rows : region->rows;
	}
	return PS_OK;
}

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/*
 * When a tensor that another stage makes begins to occupy memory: at its maker's action if that is in the same list,
 * else one action early, so that it may arrive while the action before is running.
 */
static int64_t arrival(const ps_pipeline *pipeline, int s, int maker, int64_t made, int64_t used)
{
	if (maker < 0 || maker >= pipeline->stage_count || pipeline->stages[maker].rank != pipeline->stages[s].rank)
		return used > 0 ? used - 1 : 0;
	return made;
}

/* The position up to which the input of a stage is needed: where it is filled in from, its B, or its W. */
static int64_t last_use(ps_lifetime lifetime, int64_t filled, int64_t backward, int64_t weight)
{
	if (lifetime == PS_LIFETIME_SAVED_W)
		return weight;
	return lifetime == PS_LIFETIME_SAVED_B ? backward : filled;
}

/* When micro-batch i of stage s occupies a region: from *begin to *end, positions in the rank's list. */
static void occupation(const ps_pipeline *pipeline, const struct program *program, int s, enum region_kind kind, int i,
                       int64_t *begin, int64_t *end)
{
	int at = ps__at(program, s, i);
	int64_t forward = program->at_forward[at], backward = program->at_backward[at];
	int64_t recompute = program->at_recompute[at], weight = program->at_weight[at];
	int64_t filled = recompute >= 0 ? recompute : forward;
	*begin = *end = forward;
	switch (kind) {
	case REGION_X:
		*begin = arrival(pipeline, s, s - 1, s > 0 ? program->at_forward[ps__at(program, s - 1, i)] : 0,
		                 forward);
		if (program->training)
			*end = last_use(program->plans[pipeline->stages[s].first].input, filled, backward, weight);
		break;
	case REGION_DY:
		*begin = arrival(pipeline, s, s + 1, program->at_backward[ps__at(program, s + 1, i)], backward);
		*end = users(pipeline, program, s, REGION_DY) & TOGETHER_W ? weight : backward;
		break;
	case REGION_Y:
		*end = forward + 1;
		break;
	case REGION_DX:
		*begin = backward;
		*end = backward + 1;
		break;
	case REGION_SAVED_B:
		*begin = filled;
		*end = backward;
		break;
	case REGION_SAVED_W:
		*begin = filled;
		*end = weight;
		break;
	case REGION_CARRY:
		*begin = backward;
		*end = weight;
		break;
	case REGION_COUNT:
		break;
	}
}

struct order {
	int64_t begin;
	int unit;
};

static int by_begin(const void *a, const void *b)
{
	const struct order *x = a, *y = b;
	return x->begin != y->begin ? (x->begin > y->begin) - (x->begin < y->begin) : x->unit - y->unit;
}

/* Gives each unit the first slot that is free when it begins: the fewest slots for intervals taken in order. */
static ps_status assign_slots(const ps_pipeline *pipeline, const struct program *program, int s, enum region_kind kind)
{
	struct region *region = region_of(program, s, kind);
	size_t count = (size_t)region->unit_count;
	struct order *order = calloc(count, sizeof *order);
	int *owner = calloc(count, sizeof *owner);
	ps_status status = PS_OK;
	if (!order || !owner) {
		status = ps_fail(PS_ENOMEM, "out of memory for the memory plan");
		goto out;
	}
	bool apart = program->keep_boundaries && kind <= REGION_DX;
	for (int u = 0; u < region->unit_count; u++) {
		struct unit *unit = &region->units[u];
		unit->begin = INT64_MAX;
		for (int i = unit->first; i < unit->end; i++) {
			int64_t begin, end;
			occupation(pipeline, program, s, kind, i, &begin, &end);
			unit->begin = least(unit->begin, begin);
			unit->over = end > unit->over ? end : unit->over;
		}
		if (apart) {
			unit->begin = 0;
			unit->over = INT64_MAX;
		}
		order[u] = (struct order){unit->begin, u};
	}
	qsort(order, count, sizeof *order, by_begin);
	for (int k = 0; k < region->unit_count; k++) {
		struct unit *unit = &region->units[order[k].unit];
		int slot = 0;
		while (slot < region->slots && region->units[owner[slot]].over >= unit->begin)
			slot++;
		unit->before = slot < region->slots ? owner[slot] : -1;
		if (slot == region->slots)
			region->slots++;
		owner[slot] = order[k].unit;
		unit->slot = slot;
	}
out:
	free(owner);
	free(order);
	return status;
}

ps_status ps__region_place(const ps_pipeline *pipeline, const struct program *program, int s, enum region_kind kind,
                           uint64_t *used)
{
	struct region *region = region_of(program, s, kind);
	if (!region->slot_bytes)
		return PS_OK;
	PS_TRY(assign_slots(pipeline, program, s, kind));
	region->slot_at = calloc((size_t)region->slots, sizeof *region->slot_at);
	if (!region->slot_at)
		return ps_fail(PS_ENOMEM, "out of memory for the memory plan");
	for (int i = 0; i < region->slots; i++)
		region->slot_at[i] =
		        ps__arena_place(&pipeline->ranks[pipeline->stages[s].rank].arena, used, region->slot_bytes);
	return PS_OK;
}
