/* Schedules as data: the table of rules, making and filling a schedule, and who waits for whom. */
#include "pipeline/schedule_internal.h"
#include "pipeline/schedules/rules.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const ps_schedule_rule rules[] = {
#define RULE_ROW(id, rule_name, per_rank, limit, help) \
	{                                              \
	        .name = rule_name,                     \
	        .text = help,                          \
	        .stages_per_rank = per_rank,           \
	        .generate = ps__generate_##id,         \
	        .in_flight_limit = limit,              \
	},
        PS__SCHEDULE_RULES(RULE_ROW)
#undef RULE_ROW
                {.name = NULL},
};

const ps_schedule_rule *ps_schedule_rules(void)
{
	return rules;
}

const ps_schedule_rule *ps_schedule_find_rule(const char *name)
{
	for (const ps_schedule_rule *rule = rules; name && rule->name; rule++)
		if (strcmp(rule->name, name) == 0)
			return rule;
	return NULL;
}

/* Writes "gpipe, 1f1b, forward-only". */
static void list_rules(char *out, size_t bytes)
{
	size_t used = 0;
	out[0] = '\0';
	for (const ps_schedule_rule *rule = rules; rule->name && used < bytes; rule++) {
		int length = snprintf(out + used, bytes - used, "%s%s", rule == rules ? "" : ", ", rule->name);
		used += length > 0 ? (size_t)length : 0;
	}
}

const char *ps_action_letters(int kind)
{
	static const char *const letters[] = {
#define LETTERS(name, text_letters, text) [PS_ACTION_##name] = text_letters,
	        PS_ACTION_MAP(LETTERS)
#undef LETTERS
	};
	return kind >= 0 && kind < PS_ACTION_COUNT ? letters[kind] : "?";
}

void ps_action_label(char *out, size_t bytes, ps_action action)
{
	const char *letters = ps_action_letters(action.kind);
	if (action.count == 1)
		snprintf(out, bytes, "%s%d", letters, (int)action.micro_batch);
	else
		snprintf(out, bytes, "%s%d-%lld", letters, (int)action.micro_batch,
		         (long long)action.micro_batch + action.count - 1);
}

void ps__action_describe(char out[PS__ACTION_BYTES], ps_action action)
{
	char label[PS__ACTION_BYTES / 2];
	ps_action_label(label, sizeof label, action);
	snprintf(out, PS__ACTION_BYTES, "%s of stage %d", label, (int)action.stage);
}

ps_status ps_schedule_create(ps_schedule **out, const char *name, int ranks, int stages, int micro_batches)
{
	if (ranks < 1 || stages < ranks || micro_batches < 1)
		return ps_fail(PS_EINVAL,
		               "a schedule of %d ranks, %d stages and %d micro-batches: at least one of each and a "
		               "stage for every rank are needed",
		               ranks, stages, micro_batches);
	ps_schedule *schedule = calloc(1, sizeof *schedule);
	if (schedule) {
		schedule->rank_of_stage = calloc((size_t)stages, sizeof *schedule->rank_of_stage);
		schedule->rank = calloc((size_t)ranks, sizeof *schedule->rank);
	}
	if (!schedule || !schedule->rank_of_stage || !schedule->rank) {
		ps_schedule_destroy(schedule);
		return ps_fail(PS_ENOMEM, "no memory for a schedule of %d ranks and %d stages", ranks, stages);
	}
	snprintf(schedule->name, sizeof schedule->name, "%s", name);
	schedule->ranks = ranks;
	schedule->stages = stages;
	schedule->micro_batches = micro_batches;
	for (int stage = 0; stage < stages; stage++)
		schedule->rank_of_stage[stage] = stage % ranks;
	*out = schedule;
	return PS_OK;
}

void ps_schedule_destroy(ps_schedule *schedule)
{
	if (!schedule)
		return;
	for (int rank = 0; rank < schedule->ranks && schedule->rank; rank++)
		free(schedule->rank[rank].actions);
	free(schedule->rank);
	free(schedule->rank_of_stage);
	free(schedule);
}

ps_status ps_schedule_generate(ps_schedule **out, const char *name, int ranks, int stages_per_rank, int micro_batches)
{
	const ps_schedule_rule *rule = ps_schedule_find_rule(name);
	if (!rule) {
		char names[256];
		list_rules(names, sizeof names);
		return ps_fail(PS_EINVAL, "there is no schedule '%.64s'; there are %s", name ? name : "", names);
	}
	if (ranks < 1 || stages_per_rank < 1 || micro_batches < 1)
		return ps_fail(PS_EINVAL,
		               "schedule %s: %d ranks, %d stages a rank, %d micro-batches: each must be positive", name,
		               ranks, stages_per_rank, micro_batches);
	if (rule->stages_per_rank && rule->stages_per_rank != stages_per_rank)
		return ps_fail(PS_EINVAL, "schedule %s: %d stages a rank; this schedule places exactly %d", name,
		               stages_per_rank, rule->stages_per_rank);
	if (stages_per_rank > INT_MAX / ranks)
		return ps_fail(PS_EINVAL, "schedule %s: %d ranks with %d stages each are too many", name, ranks,
		               stages_per_rank);
	ps_schedule *schedule;
	PS_TRY(ps_schedule_create(&schedule, name, ranks, ranks * stages_per_rank, micro_batches));
	schedule->rule = rule;
	ps_status status = rule->generate(schedule);
	if (status != PS_OK) {
		ps_schedule_destroy(schedule);
		return status;
	}
	*out = schedule;
	return PS_OK;
}

ps_status ps_schedule_generate_forward(ps_schedule **out, const ps_schedule *placement, int micro_batches)
{
	const ps_schedule_rule *rule = ps_schedule_find_rule("forward-only");
	ps_schedule *schedule;
	PS_TRY(ps_schedule_create(&schedule, rule->name, placement->ranks, placement->stages, micro_batches));
	schedule->rule = rule;
	memcpy(schedule->rank_of_stage, placement->rank_of_stage,
	       (size_t)placement->stages * sizeof *placement->rank_of_stage);
	ps_status status = rule->generate(schedule);
	if (status != PS_OK) {
		ps_schedule_destroy(schedule);
		return status;
	}
	*out = schedule;
	return PS_OK;
}

ps_status ps__schedule_reserve(ps_schedule *schedule, int rank, int64_t capacity)
{
	ps_rank_actions *list = &schedule->rank[rank];
	if (capacity <= list->capacity)
		return PS_OK;
	ps_action *actions = NULL;
	if ((uint64_t)capacity <= SIZE_MAX / sizeof *actions)
		actions = realloc(list->actions, (size_t)capacity * sizeof *actions);
	if (!actions)
		return ps_fail(PS_ENOMEM, "no memory for the %lld actions of rank %d", (long long)capacity, rank);
	list->actions = actions;
	list->capacity = capacity;
	return PS_OK;
}

ps_status ps_schedule_add(ps_schedule *schedule, int rank, ps_action action)
{
	if (rank < 0 || rank >= schedule->ranks)
		return ps_fail(PS_EINVAL, "schedule %s: rank %d is not one of 0 to %d", schedule->name, rank,
		               schedule->ranks - 1);
	ps_status status = ps__action_check(schedule, action);
	ps_rank_actions *list = &schedule->rank[rank];
	if (status != PS_OK)
		return ps_fail_context(status, "schedule %s: rank %d, position %lld", schedule->name, rank,
		                       (long long)list->count);
	if (list->count == list->capacity)
		PS_TRY(ps__schedule_reserve(schedule, rank, list->capacity ? 2 * list->capacity : 16));
	list->actions[list->count++] = action;
	return PS_OK;
}

ps_status ps__action_check(const ps_schedule *schedule, ps_action action)
{
	if (action.kind >= PS_ACTION_COUNT)
		return ps_fail(PS_EINVAL, "kind %d is no action", action.kind);
	char text[PS__ACTION_BYTES];
	if (action.stage < 0 || action.stage >= schedule->stages) {
		ps__action_describe(text, action);
		return ps_fail(PS_EINVAL, "%s: there are stages 0 to %d", text, schedule->stages - 1);
	}
	if (action.count < 1) {
		ps__action_describe(text, action);
		return ps_fail(PS_EINVAL, "%s: count is %d; it must be positive", text, (int)action.count);
	}
	if (action.micro_batch < 0 || (int64_t)action.micro_batch + action.count > schedule->micro_batches) {
		ps__action_describe(text, action);
		return ps_fail(PS_EINVAL, "%s: there are micro-batches 0 to %d", text, schedule->micro_batches - 1);
	}
	return PS_OK;
}

ps_status ps__schedule_check(const ps_schedule *schedule)
{
	const char *name = schedule->name;
	if (schedule->ranks < 1 || schedule->stages < 1 || schedule->micro_batches < 1)
		return ps_fail(PS_EINVAL, "schedule %s: %d ranks, %d stages, %d micro-batches: each must be positive",
		               name, schedule->ranks, schedule->stages, schedule->micro_batches);
	if (!schedule->rank_of_stage || !schedule->rank)
		return ps_fail(PS_EINVAL, "schedule %s: it has no lists", name);
	for (int stage = 0; stage < schedule->stages; stage++) {
		int rank = schedule->rank_of_stage[stage];
		if (rank < 0 || rank >= schedule->ranks)
			return ps_fail(PS_EINVAL, "schedule %s: stage %d is on rank %d; there are ranks 0 to %d", name,
			               stage, rank, schedule->ranks - 1);
	}
	for (int rank = 0; rank < schedule->ranks; rank++) {
		const ps_rank_actions *list = &schedule->rank[rank];
		for (int64_t position = 0; position < list->count; position++) {
			ps_status status = ps__action_check(schedule, list->actions[position]);
			if (status != PS_OK)
				return ps_fail_context(status, "schedule %s: rank %d, position %lld", name, rank,
				                       (long long)position);
		}
	}
	return PS_OK;
}

ps_action_key ps_schedule_dependency(const ps_schedule *schedule, ps_action action)
{
	int needed = -1;
	ps_action_kind kind = PS_ACTION_F;
	if (action.kind == PS_ACTION_F && action.stage > 0) {
		needed = action.stage - 1;
	} else if (ps__is_backward(action.kind) && action.stage < schedule->stages - 1) {
		needed = action.stage + 1;
		kind = PS_ACTION_B;
	}
	if (needed < 0)
		return (ps_action_key){.rank = -1};
	return (ps_action_key){
	        .rank = schedule->rank_of_stage[needed],
	        .kind = kind,
	        .stage = needed,
	        .micro_batch = action.micro_batch,
	};
}

int ps_schedule_in_flight(const ps_schedule *schedule, int rank)
{
	if (rank < 0 || rank >= schedule->ranks)
		return 0;
	const ps_rank_actions *list = &schedule->rank[rank];
	if (schedule->forward_only)
		return list->count > 0;
	int now = 0, most = 0;
	for (int64_t position = 0; position < list->count; position++) {
		ps_action action = list->actions[position];
		now += action.count * ((action.kind == PS_ACTION_F) - ps__is_backward(action.kind));
		most = now > most ? now : most;
	}
	return most;
}

bool ps_checkpoint_applies(ps_checkpoint mode, int micro_batch, int micro_batches)
{
	return mode == PS_CHECKPOINT_ALWAYS || (mode == PS_CHECKPOINT_EXCEPT_LAST && micro_batch < micro_batches - 1);
}
