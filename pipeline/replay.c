/*
 * Runs a schedule without devices: each rank does its list in order and an action waits for its neighbour stage. The
 * proof that a schedule ends and the simulation are the same run, with and without costs. Each action is looked at
 * a bounded number of times: a rank that waits is woken by the actions that it waits for.
 */
#include "pipeline/schedule_internal.h"

#include <stdio.h>
#include <stdlib.h>

enum { F_DONE = 1, B_DONE = 2 };

typedef struct replay {
	const ps_schedule *schedule;
	const ps__stage_cost *costs;
	const double *scale;
	ps__replay_visit visit;
	void *context;
	uint8_t *done; /* a cell's F_DONE and B_DONE */
	/*
	 * When a cell's result is at its neighbour: its F until its B is done. One array is enough, since F of the
	 * next stage reads it before B of that stage, which comes before B of this one.
	 */
	double *arrival;
	int64_t *next;   /* per rank: the position of its first action not done */
	double *free_at; /* per rank */
	int *queue;      /* ranks that may go on, each at most once: a ring of `ranks` places */
	bool *waiting;   /* per rank: not in the queue */
	int queue_begin, queued;
} replay;

static void queue_push(replay *run, int rank)
{
	run->queue[(run->queue_begin + (int64_t)run->queued) % run->schedule->ranks] = rank;
	run->queued++;
	run->waiting[rank] = false;
}

static int queue_pop(replay *run)
{
	int rank = run->queue[run->queue_begin];
	run->queue_begin = (run->queue_begin + 1) % run->schedule->ranks;
	run->queued--;
	return rank;
}

static double duration(const replay *run, ps_action action)
{
	if (!run->costs)
		return 0;
	const ps__stage_cost *cost = &run->costs[action.stage];
	double size = 0;
	for (int32_t i = 0; i < action.count; i++)
		size += run->scale ? run->scale[action.micro_batch + i] : 1;
	switch ((ps_action_kind)action.kind) {
	case PS_ACTION_F:
	case PS_ACTION_R:
		return size * cost->forward;
	case PS_ACTION_B:
		return size * cost->backward_input;
	case PS_ACTION_W:
		return size * cost->backward_weight;
	case PS_ACTION_BW:
		return size * (cost->backward_input + cost->backward_weight);
	case PS_ACTION_COUNT:
		break;
	}
	return 0;
}

/*
 * What an action still waits for: the first micro-batch that is not done where it is needed. rank < 0: nothing; then
 * *at is raised to when the last of them arrives.
 */
static ps_action_key find_missing(const replay *run, ps_action action, double *at)
{
	ps_action_key key = ps_schedule_dependency(run->schedule, action);
	int bit = key.kind == PS_ACTION_F ? F_DONE : B_DONE;
	for (int32_t i = 0; key.rank >= 0 && i < action.count; i++, key.micro_batch++) {
		size_t cell = ps__cell(run->schedule, key.stage, key.micro_batch);
		if (!(run->done[cell] & bit))
			return key;
		*at = run->arrival[cell] > *at ? run->arrival[cell] : *at;
	}
	return (ps_action_key){.rank = -1};
}

/* Marks an action that is done at `end` and wakes the rank whose next action waited for it. */
static void finish_action(replay *run, int rank, ps_action action, double end)
{
	const ps_schedule *schedule = run->schedule;
	bool forward = action.kind == PS_ACTION_F;
	if (!forward && !ps__is_backward(action.kind))
		return;
	size_t cell = ps__cell(schedule, action.stage, action.micro_batch);
	for (int32_t i = 0; i < action.count; i++)
		run->done[cell + (size_t)i] |= forward ? F_DONE : B_DONE;
	int consumer = forward ? action.stage + 1 : action.stage - 1;
	if (consumer < 0 || consumer >= schedule->stages)
		return;
	int other = schedule->rank_of_stage[consumer];
	double transfer = 0;
	if (run->costs && other != rank)
		transfer = forward ? run->costs[action.stage].send_forward : run->costs[action.stage].send_backward;
	for (int32_t i = 0; i < action.count; i++)
		run->arrival[cell + (size_t)i] = end + transfer;
	if (!run->waiting[other])
		return;
	ps_action head = schedule->rank[other].actions[run->next[other]];
	bool same_way = forward ? head.kind == PS_ACTION_F : ps__is_backward(head.kind);
	if (same_way && head.stage == consumer && head.micro_batch < action.micro_batch + action.count &&
	    action.micro_batch < head.micro_batch + head.count)
		queue_push(run, other);
}

/* Does the actions of a rank until one must wait or the list ends; returns how many. */
static int64_t run_rank(replay *run, int rank)
{
	const ps_rank_actions *list = &run->schedule->rank[rank];
	int64_t first = run->next[rank];
	for (; run->next[rank] < list->count; run->next[rank]++) {
		int64_t position = run->next[rank];
		ps_action action = list->actions[position];
		double begin = run->free_at[rank];
		if (find_missing(run, action, &begin).rank >= 0) {
			run->waiting[rank] = true;
			break;
		}
		double end = begin + duration(run, action);
		run->free_at[rank] = end;
		if (run->visit)
			run->visit(run->context, rank, position, begin, end);
		finish_action(run, rank, action, end);
	}
	return run->next[rank] - first;
}

/* The rank that the next action of a waiting rank waits for. */
static int blocker(const replay *run, int rank)
{
	ps_action head = run->schedule->rank[rank].actions[run->next[rank]];
	return ps_schedule_dependency(run->schedule, head).rank;
}

/* Where to start the story: the lowest rank of a cycle of waiting ranks, or one that leads to a rank at its end. */
static int find_first_blocked(const replay *run)
{
	int rank = 0;
	while (!run->waiting[rank])
		rank++;
	/* After as many steps as there are ranks the walk is on the cycle, if it leads to one. */
	int on_cycle = rank;
	for (int step = 0; step < run->schedule->ranks; step++) {
		on_cycle = blocker(run, on_cycle);
		if (!run->waiting[on_cycle])
			return rank;
	}
	int lowest = on_cycle;
	for (int other = blocker(run, on_cycle); other != on_cycle; other = blocker(run, other))
		lowest = other < lowest ? other : lowest;
	return lowest;
}

static ps_status fail_blocked(const replay *run)
{
	enum { LINKS = 5 };
	const ps_schedule *schedule = run->schedule;
	char chain[LINKS * 256] = "";
	size_t used = 0;
	int first = find_first_blocked(run), rank = first;
	for (int link = 0; link < LINKS; link++) {
		ps_action head = schedule->rank[rank].actions[run->next[rank]];
		ps_action_key key = find_missing(run, head, &(double){0});
		const char *how = "has not reached";
		if (key.rank == rank)
			how = "reaches only later";
		else if (!run->waiting[key.rank])
			how = "never does";
		char waits[PS__ACTION_BYTES], needs[PS__ACTION_BYTES];
		ps__action_describe(waits, head);
		ps__action_describe(needs, ps__action(key.kind, key.stage, key.micro_batch));
		int length = link == 0 ? snprintf(chain, sizeof chain, "rank %d", rank)
		                       : snprintf(chain + used, sizeof chain - used, ": it");
		used += length > 0 ? (size_t)length : 0;
		length = snprintf(chain + used, sizeof chain - used,
		                  " waits at position %lld (%s) for %s, which rank %d %s", (long long)run->next[rank],
		                  waits, needs, key.rank, how);
		used += length > 0 ? (size_t)length : 0;
		rank = key.rank;
		if (rank == first || !run->waiting[rank])
			break;
		if (link == LINKS - 1)
			snprintf(chain + used, sizeof chain - used, ", and so on");
	}
	return ps_fail(PS_EINVAL, "schedule %s cannot run to its end: %s", schedule->name, chain);
}

static void replay_finish(replay *run)
{
	free(run->done);
	free(run->arrival);
	free(run->next);
	free(run->free_at);
	free(run->queue);
	free(run->waiting);
}

static ps_status replay_init(replay *run)
{
	size_t ranks = (size_t)run->schedule->ranks, stages = (size_t)run->schedule->stages;
	size_t m = (size_t)run->schedule->micro_batches;
	bool fits = m <= SIZE_MAX / sizeof *run->arrival / stages;
	run->done = fits ? calloc(stages * m, sizeof *run->done) : NULL;
	run->arrival = fits ? malloc(stages * m * sizeof *run->arrival) : NULL;
	run->next = calloc(ranks, sizeof *run->next);
	run->free_at = calloc(ranks, sizeof *run->free_at);
	run->queue = calloc(ranks, sizeof *run->queue);
	run->waiting = calloc(ranks, sizeof *run->waiting);
	if (run->done && run->arrival && run->next && run->free_at && run->queue && run->waiting)
		return PS_OK;
	return ps_fail(PS_ENOMEM, "no memory to replay schedule %s of %d stages and %d micro-batches",
	               run->schedule->name, run->schedule->stages, run->schedule->micro_batches);
}

ps_status ps__schedule_replay(const ps_schedule *schedule, const ps__stage_cost *costs, const double *scale,
                              ps__replay_visit visit, void *context)
{
	replay run = {.schedule = schedule, .costs = costs, .scale = scale, .visit = visit, .context = context};
	ps_status status = replay_init(&run);
	if (status == PS_OK) {
		int64_t left = 0;
		for (int rank = 0; rank < schedule->ranks; rank++) {
			left += schedule->rank[rank].count;
			queue_push(&run, rank);
		}
		while (run.queued > 0)
			left -= run_rank(&run, queue_pop(&run));
		if (left > 0)
			status = fail_blocked(&run);
	}
	replay_finish(&run);
	return status;
}
