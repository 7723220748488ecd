/* Rewrites of a schedule: recomputation, and weight gradients as actions of their own. */
#include "pipeline/schedule_internal.h"

#include <stdlib.h>

ps_status ps__rewrite_begin(ps__rewrite *work, ps_schedule *schedule)
{
	PS_TRY(ps__schedule_check(schedule));
	work->schedule = schedule;
	work->fresh = *schedule;
	work->fresh.rank = calloc((size_t)schedule->ranks, sizeof *work->fresh.rank);
	if (!work->fresh.rank)
		return ps_fail(PS_ENOMEM, "no memory to rewrite schedule %s", schedule->name);
	return PS_OK;
}

ps_status ps__rewrite_end(ps__rewrite *work, ps_status status)
{
	ps_rank_actions *unused = work->fresh.rank;
	if (status == PS_OK) {
		unused = work->schedule->rank;
		work->schedule->rank = work->fresh.rank;
	}
	for (int rank = 0; rank < work->schedule->ranks; rank++)
		free(unused[rank].actions);
	free(unused);
	return status;
}

/* Adds the R that a backward still needs: one for each run of micro-batches. */
static ps_status add_recompute_before(ps__rewrite *work, int rank, ps_action backward, ps_checkpoint mode,
                                      const bool *has_recompute)
{
	ps_action recompute = ps__action(PS_ACTION_R, backward.stage, 0);
	int end = backward.micro_batch + backward.count;
	recompute.count = 0;
	for (int i = backward.micro_batch; i <= end; i++) {
		bool wanted = i < end && ps_checkpoint_applies(mode, i, work->schedule->micro_batches) &&
		              !has_recompute[ps__cell(work->schedule, backward.stage, i)];
		if (!wanted && recompute.count)
			PS_TRY(ps_schedule_add(&work->fresh, rank, recompute));
		if (!wanted)
			recompute.count = 0;
		else if (recompute.count++ == 0)
			recompute.micro_batch = i;
	}
	return PS_OK;
}

static ps_status add_recompute_on(ps__rewrite *work, int rank, ps_checkpoint mode, bool *has_recompute)
{
	const ps_rank_actions *list = &work->schedule->rank[rank];
	int64_t added = 0;
	for (int64_t position = 0; position < list->count; position++) {
		ps_action action = list->actions[position];
		for (int i = 0; i < action.count && action.kind == PS_ACTION_R; i++)
			has_recompute[ps__cell(work->schedule, action.stage, action.micro_batch + i)] = true;
		added += ps__is_backward(action.kind);
	}
	PS_TRY(ps__schedule_reserve(&work->fresh, rank, list->count + added));
	for (int64_t position = 0; position < list->count; position++) {
		ps_action action = list->actions[position];
		if (ps__is_backward(action.kind))
			PS_TRY(add_recompute_before(work, rank, action, mode, has_recompute));
		PS_TRY(ps_schedule_add(&work->fresh, rank, action));
	}
	return PS_OK;
}

ps_status ps_schedule_add_recompute(ps_schedule *schedule, ps_checkpoint mode)
{
	if (mode == PS_CHECKPOINT_NEVER)
		return PS_OK;
	ps__rewrite work;
	PS_TRY(ps__rewrite_begin(&work, schedule));
	ps_status status = PS_OK;
	bool *has_recompute = calloc((size_t)schedule->stages, (size_t)schedule->micro_batches);
	if (!has_recompute)
		status = ps_fail(PS_ENOMEM, "no memory to add recomputation to schedule %s", schedule->name);
	for (int rank = 0; status == PS_OK && rank < schedule->ranks; rank++)
		status = add_recompute_on(&work, rank, mode, has_recompute);
	free(has_recompute);
	return ps__rewrite_end(&work, status);
}

/* How far the weight gradients are. */
typedef struct grouping {
	int group, groups_a_stage;
	int *missing; /* [stage][group]: its B that did not run yet */
	int *next;    /* [stage]: the group whose W comes next */
} grouping;

static ps_status grouping_init(grouping *groups, const ps_schedule *schedule, int group)
{
	size_t stages = (size_t)schedule->stages;
	int m = schedule->micro_batches;
	*groups = (grouping){.group = group, .groups_a_stage = m / group + (m % group != 0)};
	size_t a_stage = (size_t)groups->groups_a_stage;
	if (a_stage <= SIZE_MAX / sizeof *groups->missing / stages)
		groups->missing = calloc(stages * a_stage, sizeof *groups->missing);
	groups->next = calloc(stages, sizeof *groups->next);
	if (!groups->missing || !groups->next)
		return ps_fail(PS_ENOMEM, "no memory to group the weight gradients of %d stages", schedule->stages);
	for (size_t stage = 0; stage < stages; stage++)
		for (int i = 0; i < groups->groups_a_stage; i++)
			groups->missing[stage * a_stage + (size_t)i] = m - i * group < group ? m - i * group : group;
	return PS_OK;
}

static void grouping_finish(grouping *groups)
{
	free(groups->missing);
	free(groups->next);
}

/* Adds the W of the groups of a stage that are complete, in ascending order. */
static ps_status add_complete_groups(ps__rewrite *work, int rank, int stage, grouping *groups)
{
	int m = work->schedule->micro_batches, group = groups->group;
	const int *missing = &groups->missing[(size_t)stage * (size_t)groups->groups_a_stage];
	int *next = &groups->next[stage];
	while (*next < groups->groups_a_stage && missing[*next] == 0) {
		ps_action weight = ps__action(PS_ACTION_W, stage, *next * group);
		int left = m - weight.micro_batch;
		weight.count = left < group ? left : group;
		PS_TRY(ps_schedule_add(&work->fresh, rank, weight));
		++*next;
	}
	return PS_OK;
}

/*
 * True when a B may stay one with its W: it is a group of its own, whose turn it is, and no stage waits for its input
 * gradient alone. The two in one need less memory.
 */
static bool stays_whole(const ps_schedule *schedule, const grouping *groups, ps_action backward)
{
	int number = backward.micro_batch / groups->group;
	int left = schedule->micro_batches - number * groups->group;
	return backward.kind == PS_ACTION_BW && backward.stage == 0 && groups->next[0] == number &&
	       backward.micro_batch == number * groups->group &&
	       backward.count == (left < groups->group ? left : groups->group);
}

static ps_status group_weight_on(ps__rewrite *work, int rank, grouping *groups)
{
	const ps_rank_actions *list = &work->schedule->rank[rank];
	int64_t gone = 0, backwards = 0;
	for (int64_t position = 0; position < list->count; position++) {
		gone += list->actions[position].kind == PS_ACTION_W;
		backwards += ps__is_backward(list->actions[position].kind);
	}
	/* Exact for one stage a rank and backwards of one micro-batch. */
	PS_TRY(ps__schedule_reserve(&work->fresh, rank, list->count - gone + backwards / groups->group + 1));
	for (int64_t position = 0; position < list->count; position++) {
		ps_action action = list->actions[position];
		if (action.kind == PS_ACTION_W)
			continue;
		if (!ps__is_backward(action.kind)) {
			PS_TRY(ps_schedule_add(&work->fresh, rank, action));
			continue;
		}
		bool whole = stays_whole(work->schedule, groups, action);
		if (!whole)
			action.kind = PS_ACTION_B;
		PS_TRY(ps_schedule_add(&work->fresh, rank, action));
		int *missing = &groups->missing[(size_t)action.stage * (size_t)groups->groups_a_stage];
		for (int i = 0; i < action.count; i++)
			missing[(action.micro_batch + i) / groups->group]--;
		groups->next[action.stage] += whole;
		PS_TRY(add_complete_groups(work, rank, action.stage, groups));
	}
	return PS_OK;
}

ps_status ps_schedule_group_weight(ps_schedule *schedule, int group)
{
	if (group < 1)
		return ps_fail(PS_EINVAL, "weight gradients in groups of %d micro-batches: a group has at least one",
		               group);
	if (schedule->forward_only)
		return PS_OK;
	if (group > schedule->micro_batches)
		group = schedule->micro_batches;
	ps__rewrite work;
	PS_TRY(ps__rewrite_begin(&work, schedule));
	grouping groups;
	ps_status status = grouping_init(&groups, schedule, group);
	for (int rank = 0; status == PS_OK && rank < schedule->ranks; rank++)
		status = group_weight_on(&work, rank, &groups);
	grouping_finish(&groups);
	return ps__rewrite_end(&work, status);
}
