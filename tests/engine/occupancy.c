/* The checker of memory. It knows what actions read and write; where that is, it takes from the program's layout. */
#include "tests/engine/occupancy.h"

#include "tests/support/check.h"

#include <stdlib.h>
#include <string.h>

/* Check writes every assertion down, which takes too long for as many as there are here. */
#define require(condition, ...)                    \
	do {                                       \
		if (!(condition))                  \
			ck_abort_msg(__VA_ARGS__); \
	} while (0)

enum { THREADS = 32, BLOCK = PS_TENSOR_ALIGNMENT, SCRATCH_TAG = -1, FREE_TAG = 0 };

/* One block of an arena. */
struct block {
	int tag;            /* of the unit that it belongs to now */
	int users[THREADS]; /* the last instruction of each thread that used it for this unit, + 1 */
};

struct occupancy {
	const ps_pipeline *pipeline;
	const struct program *program;
	struct block **blocks; /* [rank] */
	int *written;          /* [region * micro_batches + micro-batch]: the instruction that wrote it, + 1 */
	int (*clock)[THREADS]; /* [instruction] */
	int now;
};

static int thread_of(const struct occupancy *occupancy, int index)
{
	const struct instruction *instruction = &occupancy->program->instructions[index];
	if (instruction->kind == INSTRUCTION_ACTION)
		return instruction->rank;
	bool backward = instruction->action.kind != PS_ACTION_F;
	int boundary = instruction->action.stage - backward;
	int thread = occupancy->pipeline->rank_count + 2 * boundary + backward;
	require(thread < THREADS, "too many ranks and links");
	return thread;
}

/* Is instruction `a` sure to be over before the current one begins? */
static bool before(const struct occupancy *occupancy, int a)
{
	int thread = thread_of(occupancy, a);
	return occupancy->clock[occupancy->now][thread] >= occupancy->clock[a][thread];
}

static void tick(struct occupancy *occupancy, int *last_of_thread)
{
	const struct instruction *instruction = &occupancy->program->instructions[occupancy->now];
	int *clock = occupancy->clock[occupancy->now], thread = thread_of(occupancy, occupancy->now);
	int sources[64], count = 0;
	if (last_of_thread[thread])
		sources[count++] = last_of_thread[thread] - 1;
	for (int i = 0; i < instruction->wait_count; i++) {
		int on = occupancy->program->waits[instruction->wait_first + i];
		require(on < occupancy->now, "instruction %d waits for %d, which is enqueued later", occupancy->now,
		        on);
		require(count < 64, "too many waits");
		sources[count++] = on;
	}
	for (int i = 0; i < count; i++)
		for (int t = 0; t < THREADS; t++)
			if (occupancy->clock[sources[i]][t] > clock[t])
				clock[t] = occupancy->clock[sources[i]][t];
	clock[thread]++;
	last_of_thread[thread] = occupancy->now + 1;
}

/* The current instruction uses blocks for the unit `tag`; a new tag takes them over. */
static void use(struct occupancy *occupancy, int rank, uint64_t at, uint64_t bytes, int tag, bool write)
{
	require(at + bytes <= occupancy->pipeline->ranks[rank].arena.bytes, "unit %d ends behind the arena", tag);
	require(at % BLOCK == 0, "unit %d is not aligned", tag);
	for (uint64_t b = at / BLOCK; b < (at + bytes + BLOCK - 1) / BLOCK; b++) {
		struct block *block = &occupancy->blocks[rank][b];
		if (block->tag != tag) {
			require(write, "instruction %d reads unit %d at %llu of rank %d, where unit %d is",
			        occupancy->now, tag, (unsigned long long)b * BLOCK, rank, block->tag);
			/* Scratch has its place to itself, so that nothing else may ever be there. */
			require(block->tag == FREE_TAG || (tag != SCRATCH_TAG && block->tag != SCRATCH_TAG),
			        "scratch of rank %d overlaps unit %d", rank, tag);
			for (int t = 0; t < THREADS; t++)
				require(!block->users[t] || before(occupancy, block->users[t] - 1),
				        "instruction %d writes unit %d over unit %d, which instruction %d may "
				        "still use",
				        occupancy->now, tag, block->tag, block->users[t] - 1);
			*block = (struct block){.tag = tag};
		}
		block->users[thread_of(occupancy, occupancy->now)] = occupancy->now + 1;
	}
}

static void touch(struct occupancy *occupancy, int s, enum region_kind kind, int i, bool write)
{
	const struct program *program = occupancy->program;
	int number = s * REGION_COUNT + (int)kind;
	const struct region *region = &program->regions[number];
	if (!region->slot_bytes)
		return;
	int unit = ps__region_unit(program, s, kind, i);
	use(occupancy, occupancy->pipeline->stages[s].rank, region->slot_at[region->units[unit].slot],
	    region->slot_bytes, 1 + number * program->micro_batches + unit, write);
	int *written = &occupancy->written[number * program->micro_batches + i];
	if (write)
		*written = occupancy->now + 1;
	require(*written > 0 && (write || before(occupancy, *written - 1)),
	        "instruction %d reads region %d of stage %d, micro-batch %d, which is not sure to be written",
	        occupancy->now, (int)kind, s, i);
}

/* The output of F, or of B, of a stage: where it makes it or, over a direct boundary, where the next stage reads it. */
static void touch_output(struct occupancy *occupancy, int s, int i, bool backward, bool write)
{
	int to = backward ? s - 1 : s + 1;
	if (to < 0 || to >= occupancy->pipeline->stage_count)
		return;
	if (ps__boundary_direct(occupancy->pipeline, backward ? to : s))
		touch(occupancy, to, backward ? REGION_DY : REGION_X, i, write);
	else
		touch(occupancy, s, backward ? REGION_DX : REGION_Y, i, write);
}

static void play_forward(struct occupancy *occupancy, int s, int i, bool recompute)
{
	bool unsaved = !occupancy->program->training ||
	               (!recompute && occupancy->program->at_recompute[ps__at(occupancy->program, s, i)] >= 0);
	if (s > 0)
		touch(occupancy, s, REGION_X, i, false);
	if (!unsaved) {
		touch(occupancy, s, REGION_SAVED_B, i, true);
		touch(occupancy, s, REGION_SAVED_W, i, true);
	}
	if (!recompute)
		touch_output(occupancy, s, i, false, true);
}

static void play_backward(struct occupancy *occupancy, int s, int i)
{
	const struct stage *stage = &occupancy->pipeline->stages[s];
	touch(occupancy, s, REGION_SAVED_B, i, false);
	touch(occupancy, s, REGION_SAVED_W, i, false);
	if (s > 0 && occupancy->program->plans[stage->first].input != PS_LIFETIME_SCRATCH)
		touch(occupancy, s, REGION_X, i, false);
	touch(occupancy, s, REGION_DY, i, false);
	touch(occupancy, s, REGION_CARRY, i, true);
	touch_output(occupancy, s, i, true, true);
}

static void play_weight(struct occupancy *occupancy, int s, int i)
{
	const struct stage *stage = &occupancy->pipeline->stages[s];
	const ps_layer_plan *plans = occupancy->program->plans;
	touch(occupancy, s, REGION_SAVED_W, i, false);
	touch(occupancy, s, REGION_CARRY, i, false);
	if (s > 0 && plans[stage->first].input == PS_LIFETIME_SAVED_W)
		touch(occupancy, s, REGION_X, i, false);
	if (plans[stage->first + stage->count - 1].gradient == PS_LIFETIME_CARRY)
		touch(occupancy, s, REGION_DY, i, false);
}

static void play(struct occupancy *occupancy)
{
	const struct program *program = occupancy->program;
	const struct instruction *instruction = &program->instructions[occupancy->now];
	ps_action action = instruction->action;
	bool backward = action.kind == PS_ACTION_B || action.kind == PS_ACTION_BW;
	if (instruction->kind == INSTRUCTION_TRANSFER) {
		touch_output(occupancy, action.stage, action.micro_batch, backward, false);
		touch(occupancy, backward ? action.stage - 1 : action.stage + 1, backward ? REGION_DY : REGION_X,
		      action.micro_batch, true);
		return;
	}
	uint64_t scratch = program->scratch[instruction->rank].at;
	if (program->scratch[instruction->rank].slots || scratch)
		use(occupancy, instruction->rank, scratch, program->rank_bytes[instruction->rank] - scratch,
		    SCRATCH_TAG, true);
	for (int i = action.micro_batch; i < action.micro_batch + action.count; i++) {
		if (action.kind == PS_ACTION_F || action.kind == PS_ACTION_R)
			play_forward(occupancy, action.stage, i, action.kind == PS_ACTION_R);
		if (backward)
			play_backward(occupancy, action.stage, i);
		if (action.kind == PS_ACTION_W || action.kind == PS_ACTION_BW)
			play_weight(occupancy, action.stage, i);
	}
}

void occupancy_check(const ps_pipeline *pipeline, const struct program *program)
{
	struct occupancy occupancy = {.pipeline = pipeline, .program = program};
	size_t ranks = (size_t)pipeline->rank_count;
	int last_of_thread[THREADS] = {0};
	occupancy.blocks = calloc(ranks, sizeof *occupancy.blocks);
	occupancy.written = calloc((size_t)(pipeline->stage_count * REGION_COUNT * program->micro_batches),
	                           sizeof *occupancy.written);
	occupancy.clock = calloc((size_t)program->instruction_count, sizeof *occupancy.clock);
	ck_assert(occupancy.blocks && occupancy.written && occupancy.clock);
	for (size_t r = 0; r < ranks; r++) {
		occupancy.blocks[r] = calloc(pipeline->ranks[r].arena.bytes / BLOCK + 1, sizeof **occupancy.blocks);
		ck_assert_ptr_nonnull(occupancy.blocks[r]);
	}
	for (occupancy.now = 0; occupancy.now < program->instruction_count; occupancy.now++) {
		tick(&occupancy, last_of_thread);
		play(&occupancy);
	}
	for (size_t r = 0; r < ranks; r++)
		free(occupancy.blocks[r]);
	free(occupancy.blocks);
	free(occupancy.written);
	free(occupancy.clock);
}
