/* The checker of memory. It knows what actions read and write; where that is, it takes from the program's layout. */
#include "tests/engine/shadow.h"

#include "tests/support/check.h"

#include <stdlib.h>
#include <string.h>

enum { THREADS = 32, BLOCK = PS_TENSOR_ALIGNMENT, SCRATCH_TAG = -1, FREE_TAG = 0 };

/* One block of an arena. */
struct block {
	int tag;            /* of the unit that it belongs to now */
	int users[THREADS]; /* the last instruction of each thread that used it for this unit, + 1 */
};

struct shadow {
	const ps_pipeline *pipeline;
	const struct program *program;
	struct block **blocks; /* [rank] */
	int *written;          /* [region * micro_batches + micro-batch]: the instruction that wrote it, + 1 */
	int (*clock)[THREADS]; /* [instruction] */
	int now;
};

static int thread_of(const struct shadow *shadow, int index)
{
	const struct instruction *instruction = &shadow->program->instructions[index];
	if (instruction->kind == INSTRUCTION_ACTION)
		return instruction->rank;
	bool backward = instruction->action.kind != PS_ACTION_F;
	int boundary = instruction->action.stage - backward;
	int thread = shadow->pipeline->rank_count + 2 * boundary + backward;
	ck_assert_int_lt(thread, THREADS);
	return thread;
}

/* Is instruction `a` sure to be over before the current one begins? */
static bool before(const struct shadow *shadow, int a)
{
	int thread = thread_of(shadow, a);
	return shadow->clock[shadow->now][thread] >= shadow->clock[a][thread];
}

static void tick(struct shadow *shadow, int *last_of_thread)
{
	const struct instruction *instruction = &shadow->program->instructions[shadow->now];
	int *clock = shadow->clock[shadow->now], thread = thread_of(shadow, shadow->now);
	int sources[64], count = 0;
	if (last_of_thread[thread])
		sources[count++] = last_of_thread[thread] - 1;
	for (int i = 0; i < instruction->wait_count; i++) {
		int on = shadow->program->waits[instruction->wait_first + i];
		ck_assert_msg(on < shadow->now, "instruction %d waits for %d, which is enqueued later", shadow->now,
		              on);
		ck_assert_int_lt(count, 64);
		sources[count++] = on;
	}
	for (int i = 0; i < count; i++)
		for (int t = 0; t < THREADS; t++)
			if (shadow->clock[sources[i]][t] > clock[t])
				clock[t] = shadow->clock[sources[i]][t];
	clock[thread]++;
	last_of_thread[thread] = shadow->now + 1;
}

/* The current instruction uses blocks for the unit `tag`; a new tag takes them over. */
static void use(struct shadow *shadow, int rank, uint64_t at, uint64_t bytes, int tag, bool write)
{
	ck_assert_uint_le(at + bytes, shadow->pipeline->ranks[rank].arena.bytes);
	ck_assert_uint_eq(at % BLOCK, 0);
	for (uint64_t b = at / BLOCK; b < (at + bytes + BLOCK - 1) / BLOCK; b++) {
		struct block *block = &shadow->blocks[rank][b];
		if (block->tag != tag) {
			ck_assert_msg(write, "instruction %d reads unit %d at %llu of rank %d, where unit %d is",
			              shadow->now, tag, (unsigned long long)b * BLOCK, rank, block->tag);
			/* Scratch has its place to itself, so that nothing else may ever be there. */
			ck_assert_msg(block->tag == FREE_TAG || (tag != SCRATCH_TAG && block->tag != SCRATCH_TAG),
			              "scratch of rank %d overlaps unit %d", rank, tag);
			for (int t = 0; t < THREADS; t++)
				ck_assert_msg(!block->users[t] || before(shadow, block->users[t] - 1),
				              "instruction %d writes unit %d over unit %d, which instruction %d may "
				              "still use",
				              shadow->now, tag, block->tag, block->users[t] - 1);
			*block = (struct block){.tag = tag};
		}
		block->users[thread_of(shadow, shadow->now)] = shadow->now + 1;
	}
}

static void touch(struct shadow *shadow, int s, enum region_kind kind, int i, bool write)
{
	const struct program *program = shadow->program;
	int number = s * REGION_COUNT + (int)kind;
	const struct region *region = &program->regions[number];
	if (!region->slot_bytes)
		return;
	int unit = ps__region_unit(program, s, kind, i);
	use(shadow, shadow->pipeline->stages[s].rank, region->slot_at[region->units[unit].slot], region->slot_bytes,
	    1 + number * program->micro_batches + unit, write);
	int *written = &shadow->written[number * program->micro_batches + i];
	if (write)
		*written = shadow->now + 1;
	ck_assert_msg(*written > 0 && (write || before(shadow, *written - 1)),
	              "instruction %d reads region %d of stage %d, micro-batch %d, which is not sure to be written",
	              shadow->now, (int)kind, s, i);
}

/* The output of F, or of B, of a stage: where it makes it or, over a direct boundary, where the next stage reads it. */
static void touch_output(struct shadow *shadow, int s, int i, bool backward, bool write)
{
	int to = backward ? s - 1 : s + 1;
	if (to < 0 || to >= shadow->pipeline->stage_count)
		return;
	if (ps__boundary_direct(shadow->pipeline, backward ? to : s))
		touch(shadow, to, backward ? REGION_DY : REGION_X, i, write);
	else
		touch(shadow, s, backward ? REGION_DX : REGION_Y, i, write);
}

static void play_forward(struct shadow *shadow, ps_action action, bool recompute)
{
	int s = action.stage, i = action.micro_batch;
	bool unsaved = !shadow->program->training ||
	               (!recompute && shadow->program->at_recompute[ps__at(shadow->program, s, i)] >= 0);
	if (s > 0)
		touch(shadow, s, REGION_X, i, false);
	if (!unsaved) {
		touch(shadow, s, REGION_SAVED_B, i, true);
		touch(shadow, s, REGION_SAVED_W, i, true);
	}
	if (!recompute)
		touch_output(shadow, s, i, false, true);
}

static void play_backward(struct shadow *shadow, int s, int i)
{
	const struct stage *stage = &shadow->pipeline->stages[s];
	touch(shadow, s, REGION_SAVED_B, i, false);
	touch(shadow, s, REGION_SAVED_W, i, false);
	if (s > 0 && shadow->program->plans[stage->first].input != PS_LIFETIME_SCRATCH)
		touch(shadow, s, REGION_X, i, false);
	touch(shadow, s, REGION_DY, i, false);
	touch(shadow, s, REGION_CARRY, i, true);
	touch_output(shadow, s, i, true, true);
}

static void play_weight(struct shadow *shadow, int s, int i)
{
	const struct stage *stage = &shadow->pipeline->stages[s];
	const ps_layer_plan *plans = shadow->program->plans;
	touch(shadow, s, REGION_SAVED_W, i, false);
	touch(shadow, s, REGION_CARRY, i, false);
	if (s > 0 && plans[stage->first].input == PS_LIFETIME_SAVED_W)
		touch(shadow, s, REGION_X, i, false);
	if (plans[stage->first + stage->count - 1].gradient == PS_LIFETIME_CARRY)
		touch(shadow, s, REGION_DY, i, false);
}

static void play(struct shadow *shadow)
{
	const struct program *program = shadow->program;
	const struct instruction *instruction = &program->instructions[shadow->now];
	ps_action action = instruction->action;
	bool backward = action.kind == PS_ACTION_B || action.kind == PS_ACTION_BW;
	if (instruction->kind == INSTRUCTION_TRANSFER) {
		touch_output(shadow, action.stage, action.micro_batch, backward, false);
		touch(shadow, backward ? action.stage - 1 : action.stage + 1, backward ? REGION_DY : REGION_X,
		      action.micro_batch, true);
		return;
	}
	uint64_t scratch = program->scratch[instruction->rank].at;
	if (program->scratch[instruction->rank].slots || scratch)
		use(shadow, instruction->rank, scratch, program->rank_bytes[instruction->rank] - scratch, SCRATCH_TAG,
		    true);
	if (action.kind == PS_ACTION_F || action.kind == PS_ACTION_R)
		play_forward(shadow, action, action.kind == PS_ACTION_R);
	if (backward)
		play_backward(shadow, action.stage, action.micro_batch);
	for (int i = 0; i < action.count && (action.kind == PS_ACTION_W || action.kind == PS_ACTION_BW); i++)
		play_weight(shadow, action.stage, action.micro_batch + i);
}

void shadow_check(const ps_pipeline *pipeline, const struct program *program)
{
	struct shadow shadow = {.pipeline = pipeline, .program = program};
	size_t ranks = (size_t)pipeline->rank_count;
	int last_of_thread[THREADS] = {0};
	shadow.blocks = calloc(ranks, sizeof *shadow.blocks);
	shadow.written =
	        calloc((size_t)(pipeline->stage_count * REGION_COUNT * program->micro_batches), sizeof *shadow.written);
	shadow.clock = calloc((size_t)program->instruction_count, sizeof *shadow.clock);
	ck_assert(shadow.blocks && shadow.written && shadow.clock);
	for (size_t r = 0; r < ranks; r++) {
		shadow.blocks[r] = calloc(pipeline->ranks[r].arena.bytes / BLOCK + 1, sizeof **shadow.blocks);
		ck_assert_ptr_nonnull(shadow.blocks[r]);
	}
	for (shadow.now = 0; shadow.now < program->instruction_count; shadow.now++) {
		tick(&shadow, last_of_thread);
		play(&shadow);
	}
	for (size_t r = 0; r < ranks; r++)
		free(shadow.blocks[r]);
	free(shadow.blocks);
	free(shadow.written);
	free(shadow.clock);
}
