/*
 * Orders a program: one list of instructions, actions and the transfers between them, in which each stands behind all
 * that it waits for. The executor enqueues them in this order and never has to wait itself.
 */
#include "pipeline/internal.h"

#include <stdlib.h>

/* A transfer that waits for room at its destination. */
struct pending {
	int producer; /* instruction */
	int stage, micro_batch;
	bool backward;
};

struct orderer {
	ps_pipeline *pipeline;
	struct program *program;
	int64_t *cursor;    /* [rank] */
	int **done;         /* [rank][position]: the action's instruction, -1 before it has one */
	int *forward_here;  /* [cell]: the instruction after which a stage's input is there, -1 before */
	int *backward_here; /* [cell]: likewise for the gradient of its output */
	int *forward_sent;  /* [cell]: the transfer of a stage's output, -1 before */
	int *backward_sent;
	struct pending *pending;
	int pending_count;
	int capacity;
};

/*
 * Has an instruction wait for another one, which *ready needs to be there: on < 0 has not been ordered yet. A queue
 * runs in order, so that an action needs no wait for one before it on the same rank.
 */
static ps_status add_wait(struct orderer *o, struct instruction *instruction, int on, bool *ready)
{
	struct program *program = o->program;
	*ready = *ready && on >= 0;
	if (!*ready)
		return PS_OK;
	const struct instruction *other = &program->instructions[on];
	if (instruction->kind == INSTRUCTION_ACTION && other->kind == INSTRUCTION_ACTION &&
	    other->rank == instruction->rank)
		return PS_OK;
	for (int i = 0; i < instruction->wait_count; i++)
		if (program->waits[instruction->wait_first + i] == on)
			return PS_OK;
	if (program->wait_count == program->wait_capacity) {
		int capacity = program->wait_capacity ? program->wait_capacity * 2 : 64;
		int *waits = realloc(program->waits, (size_t)capacity * sizeof *waits);
		if (!waits)
			return ps_fail(PS_ENOMEM, "out of memory for a program");
		program->waits = waits;
		program->wait_capacity = capacity;
	}
	program->waits[program->wait_count++] = on;
	instruction->wait_count++;
	if (instruction->wait_count > program->most_waits)
		program->most_waits = instruction->wait_count;
	return PS_OK;
}

/*
 * Adds waits for what must be over before a unit of a region may be written, that of `micro_batch`: the last action of
 * the unit that had the slot before or, of an output, its transfers. *ready becomes false when one is not ordered yet.
 */
static ps_status wait_for_room(struct orderer *o, struct instruction *instruction, int stage, enum region_kind kind,
                               int micro_batch, bool *ready)
{
	const struct program *program = o->program;
	const struct region *region = &program->regions[stage * REGION_COUNT + (int)kind];
	int unit = region->slot_bytes ? region->units[region->unit_of[micro_batch]].before : -1;
	if (unit < 0)
		return PS_OK;
	const struct unit *before = &region->units[unit];
	if (kind != REGION_Y && kind != REGION_DX)
		return add_wait(o, instruction, o->done[o->pipeline->stages[stage].rank][before->over], ready);
	const int *sent = kind == REGION_Y ? o->forward_sent : o->backward_sent;
	for (int i = before->first; i < before->end; i++)
		PS_TRY(add_wait(o, instruction, sent[ps__at(program, stage, i)], ready));
	return PS_OK;
}

static bool is_backward(ps_action action)
{
	return action.kind == PS_ACTION_B || action.kind == PS_ACTION_BW;
}

/* The stage that takes what an action makes, or -1. */
static int consumer(const struct orderer *o, ps_action action)
{
	if (action.kind == PS_ACTION_F)
		return action.stage + 1 < o->pipeline->stage_count ? action.stage + 1 : -1;
	return is_backward(action) ? action.stage - 1 : -1;
}

static bool direct(const struct orderer *o, int a, int b)
{
	return ps__boundary_direct(o->pipeline, a < b ? a : b);
}

/* Adds the waits of an action to its instruction: for its input, and for room. */
static ps_status action_waits(struct orderer *o, struct instruction *instruction, bool *ready)
{
	ps_action action = instruction->action;
	bool backward = is_backward(action);
	int to = consumer(o, action);
	const int *here = action.kind == PS_ACTION_F && action.stage > 0            ? o->forward_here
	                  : backward && action.stage + 1 < o->pipeline->stage_count ? o->backward_here
	                                                                            : NULL;
	for (int i = action.micro_batch; here && i < action.micro_batch + action.count; i++)
		PS_TRY(add_wait(o, instruction, here[ps__at(o->program, action.stage, i)], ready));
	if (to < 0)
		return PS_OK;
	if (direct(o, action.stage, to))
		return wait_for_room(o, instruction, to, backward ? REGION_DY : REGION_X, action.micro_batch, ready);
	return wait_for_room(o, instruction, action.stage, backward ? REGION_DX : REGION_Y, action.micro_batch, ready);
}

/* Takes a new instruction, that did not find all that it waits for, back. */
static void take_back(struct program *program, const struct instruction *instruction)
{
	program->wait_count = instruction->wait_first;
}

static ps_status order_transfer(struct orderer *o, struct pending transfer, bool *ready)
{
	struct program *program = o->program;
	int to = transfer.backward ? transfer.stage - 1 : transfer.stage + 1;
	int index = program->instruction_count;
	struct instruction *instruction = &program->instructions[index];
	*instruction = (struct instruction){.kind = INSTRUCTION_TRANSFER,
	                                    .rank = o->pipeline->stages[transfer.stage].rank,
	                                    .action = program->instructions[transfer.producer].action,
	                                    .wait_first = program->wait_count};
	instruction->action.micro_batch = transfer.micro_batch;
	instruction->action.count = 1;
	*ready = true;
	PS_TRY(add_wait(o, instruction, transfer.producer, ready));
	PS_TRY(wait_for_room(o, instruction, to, transfer.backward ? REGION_DY : REGION_X, transfer.micro_batch,
	                     ready));
	if (!*ready) {
		take_back(program, instruction);
		return PS_OK;
	}
	program->instruction_count++;
	int here = ps__at(program, to, transfer.micro_batch);
	int sent = ps__at(program, transfer.stage, transfer.micro_batch);
	(transfer.backward ? o->backward_here : o->forward_here)[here] = index;
	(transfer.backward ? o->backward_sent : o->forward_sent)[sent] = index;
	return PS_OK;
}

static ps_status order_action(struct orderer *o, int rank, bool *ready)
{
	struct program *program = o->program;
	ps_action action = program->schedule->rank[rank].actions[o->cursor[rank]];
	int index = program->instruction_count;
	struct instruction *instruction = &program->instructions[index];
	*instruction = (struct instruction){
	        .kind = INSTRUCTION_ACTION, .rank = rank, .action = action, .wait_first = program->wait_count};
	*ready = true;
	PS_TRY(action_waits(o, instruction, ready));
	if (!*ready) {
		take_back(program, instruction);
		return PS_OK;
	}
	program->instruction_count++;
	/* prepare() has made all rows. NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
	o->done[rank][o->cursor[rank]++] = index;
	int to = consumer(o, action);
	if (to < 0)
		return PS_OK;
	bool backward = is_backward(action);
	for (int i = action.micro_batch; i < action.micro_batch + action.count; i++) {
		if (direct(o, action.stage, to))
			(backward ? o->backward_here : o->forward_here)[ps__at(program, to, i)] = index;
		else
			o->pending[o->pending_count++] = (struct pending){index, action.stage, i, backward};
	}
	return PS_OK;
}

/* One pass over what waits: every transfer that has room, and one action of each rank. */
static ps_status order_round(struct orderer *o, bool *progress)
{
	int kept = 0;
	*progress = false;
	for (int i = 0; i < o->pending_count; i++) {
		bool ready;
		PS_TRY(order_transfer(o, o->pending[i], &ready));
		if (ready)
			*progress = true;
		else
			o->pending[kept++] = o->pending[i];
	}
	o->pending_count = kept;
	for (int r = 0; r < o->pipeline->rank_count; r++) {
		bool ready = false;
		if (o->cursor[r] < o->program->schedule->rank[r].count)
			PS_TRY(order_action(o, r, &ready));
		*progress = *progress || ready;
	}
	return PS_OK;
}

static ps_status prepare(struct orderer *o)
{
	struct program *program = o->program;
	const ps_schedule *schedule = program->schedule;
	size_t cells = (size_t)schedule->stages * (size_t)program->micro_batches, actions = 0;
	o->cursor = calloc((size_t)schedule->ranks, sizeof *o->cursor);
	o->done = calloc((size_t)schedule->ranks, sizeof *o->done);
	int *cell_room = malloc(4 * cells * sizeof *cell_room);
	o->forward_here = cell_room;
	for (int r = 0; r < schedule->ranks; r++)
		actions += (size_t)schedule->rank[r].count;
	o->pending = calloc(2 * cells, sizeof *o->pending);
	free(program->instructions);
	free(program->waits);
	program->waits = NULL;
	program->wait_count = program->wait_capacity = program->most_waits = program->instruction_count = 0;
	program->instructions = calloc(actions + 2 * cells, sizeof *program->instructions);
	if (!o->cursor || !o->done || !cell_room || !o->pending || !program->instructions)
		return ps_fail(PS_ENOMEM, "out of memory for a program");
	for (size_t i = 0; i < 4 * cells; i++)
		cell_room[i] = -1;
	o->backward_here = cell_room + cells;
	o->forward_sent = cell_room + 2 * cells;
	o->backward_sent = cell_room + 3 * cells;
	for (int r = 0; r < schedule->ranks; r++) {
		o->done[r] = malloc((size_t)(schedule->rank[r].count + 1) * sizeof **o->done);
		if (!o->done[r])
			return ps_fail(PS_ENOMEM, "out of memory for a program");
		for (int64_t i = 0; i < schedule->rank[r].count; i++)
			o->done[r][i] = -1;
	}
	return PS_OK;
}

ps_status ps__program_order(ps_pipeline *pipeline, struct program *program, bool *stuck)
{
	struct orderer o = {.pipeline = pipeline, .program = program};
	ps_status status = prepare(&o);
	bool progress = status == PS_OK;
	while (progress && status == PS_OK)
		status = order_round(&o, &progress);
	*stuck = o.pending_count > 0;
	for (int r = 0; r < program->schedule->ranks && o.done; r++) {
		*stuck = *stuck || (o.cursor && o.cursor[r] < program->schedule->rank[r].count);
		free(o.done[r]);
	}
	free(o.done);
	free(o.cursor);
	free(o.forward_here);
	free(o.pending);
	return status;
}
