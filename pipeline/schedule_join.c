/* The rewrite that joins what a rank does in a row on one stage, for ranks that have nobody to keep waiting. */
#include "pipeline/schedule_internal.h"

#include <stdlib.h>
#include <string.h>

/* What is known of each (stage, micro-batch) of a schedule. */
typedef struct facts {
	int64_t *backward; /* where its B or BW stands in its rank's list; -1: nowhere */
	bool *recomputed;
	int32_t *kept; /* the first micro-batch of its F, now that it is joined; -1: it keeps nothing */
} facts;

static ps_status facts_init(facts *all, const ps_schedule *schedule)
{
	size_t cells = (size_t)schedule->stages * (size_t)schedule->micro_batches;
	*all = (facts){malloc(cells * sizeof *all->backward), calloc(cells, sizeof *all->recomputed),
	               malloc(cells * sizeof *all->kept)};
	if (!all->backward || !all->recomputed || !all->kept)
		return ps_fail(PS_ENOMEM, "no memory to join the actions of schedule %s", schedule->name);
	for (size_t i = 0; i < cells; i++)
		all->backward[i] = all->kept[i] = -1;
	for (int rank = 0; rank < schedule->ranks; rank++) {
		const ps_rank_actions *list = &schedule->rank[rank];
		for (int64_t position = 0; position < list->count; position++) {
			ps_action action = list->actions[position];
			size_t cell = ps__cell(schedule, action.stage, action.micro_batch);
			for (int32_t i = 0; i < action.count; i++) {
				if (ps__is_backward(action.kind))
					all->backward[cell + (size_t)i] = position;
				all->recomputed[cell + (size_t)i] |= action.kind == PS_ACTION_R;
			}
		}
	}
	return PS_OK;
}

static void facts_finish(facts *all)
{
	free(all->backward);
	free(all->recomputed);
	free(all->kept);
}

/* Adds the micro-batches of an action that stand before or behind those of another; false when they do not. */
static bool extend(ps_action *action, ps_action next)
{
	if (next.kind != action->kind || next.stage != action->stage)
		return false;
	bool behind = next.micro_batch == action->micro_batch + action->count;
	if (!behind && next.micro_batch + next.count != action->micro_batch)
		return false;
	if (!behind)
		action->micro_batch = next.micro_batch;
	action->count += next.count;
	return true;
}

/*
 * Does a stage have an F between the first and the last backward of a joined one? The memory of the first would be
 * taken by then, were they not joined.
 */
static bool forward_between(const ps_schedule *schedule, const facts *all, int rank, ps_action joined)
{
	const ps_action *actions = schedule->rank[rank].actions;
	size_t cell = ps__cell(schedule, joined.stage, joined.micro_batch);
	int64_t first = INT64_MAX, last = -1;
	for (int32_t i = 0; i < joined.count; i++) {
		int64_t backward = all->backward[cell + (size_t)i];
		first = backward < first ? backward : first;
		last = backward > last ? backward : last;
	}
	for (int64_t position = first; position < last; position++)
		if (actions[position].kind == PS_ACTION_F && actions[position].stage == joined.stage)
			return true;
	return false;
}

/* The most actions from `first` on that may be joined, as *joined; returns how many they are. */
static int64_t find_run(const ps_schedule *schedule, const facts *all, int rank, int64_t first, ps_action *joined)
{
	const ps_rank_actions *list = &schedule->rank[rank];
	*joined = list->actions[first];
	size_t cell = ps__cell(schedule, joined->stage, joined->micro_batch);
	bool forward = joined->kind == PS_ACTION_F;
	if (forward ? all->recomputed[cell] : joined->kind != PS_ACTION_B || all->kept[cell] < 0)
		return 1;
	int64_t end = first + 1;
	for (; end < list->count; end++) {
		ps_action next = list->actions[end];
		size_t other = ps__cell(schedule, next.stage, next.micro_batch);
		if (forward ? all->recomputed[other] : all->kept[other] != all->kept[cell])
			break;
		if (!extend(joined, next))
			break;
	}
	if (forward && forward_between(schedule, all, rank, *joined)) {
		*joined = list->actions[first];
		return 1;
	}
	return end - first;
}

/* A weight gradient right behind the input gradient of the same micro-batches: the two become one. */
static bool join_weight(ps_action *before, ps_action action)
{
	if (action.kind != PS_ACTION_W || before->kind != PS_ACTION_B || before->stage != action.stage ||
	    before->micro_batch != action.micro_batch || before->count != action.count)
		return false;
	before->kind = PS_ACTION_BW;
	return true;
}

static ps_status join_on(ps__rewrite *work, facts *all, int rank)
{
	const ps_rank_actions *list = &work->schedule->rank[rank];
	ps_rank_actions *fresh = &work->fresh.rank[rank];
	PS_TRY(ps__schedule_reserve(&work->fresh, rank, list->count));
	for (int64_t position = 0; position < list->count;) {
		ps_action action;
		position += find_run(work->schedule, all, rank, position, &action);
		size_t cell = ps__cell(work->schedule, action.stage, action.micro_batch);
		for (int32_t i = 0; i < action.count && action.kind == PS_ACTION_F; i++)
			all->kept[cell + (size_t)i] = all->recomputed[cell] ? -1 : action.micro_batch;
		if (fresh->count == 0 || !join_weight(&fresh->actions[fresh->count - 1], action))
			PS_TRY(ps_schedule_add(&work->fresh, rank, action));
	}
	return PS_OK;
}

ps_status ps_schedule_join(ps_schedule *schedule)
{
	facts all = {0};
	ps__rewrite work;
	PS_TRY(ps__rewrite_begin(&work, schedule));
	ps_status status = facts_init(&all, schedule);
	for (int rank = 0; status == PS_OK && rank < schedule->ranks; rank++)
		status = join_on(&work, &all, rank);
	facts_finish(&all);
	ps_status runs = status == PS_OK ? ps__schedule_replay(&work.fresh, NULL, NULL, NULL, NULL) : status;
	ps__rewrite_end(&work, runs);
	/* What waits for ever when it is joined stays apart. */
	return status == PS_OK && runs == PS_EINVAL ? PS_OK : runs;
}
