/* What an optimizer does after a step: a command list for each rank, whose entries know their parameters. */
#include "pipeline/internal.h"
#include "pipeline/shadow.h"

#include "core/backend.h"

#include <stdlib.h>

struct rank_updates {
	ps_list *list;
	int *parameters; /* of the list's entries */
	size_t capacity;
};

struct ps_updates {
	ps_pipeline *pipeline;
	struct rank_updates *ranks;
};

ps_status ps_updates_create(ps_updates **out, ps_pipeline *pipeline)
{
	*out = NULL;
	ps_updates *updates = calloc(1, sizeof *updates);
	struct rank_updates *ranks = calloc((size_t)pipeline->rank_count, sizeof *ranks);
	if (!updates || !ranks) {
		free(updates);
		free(ranks);
		return ps_fail(PS_ENOMEM, "out of memory for an optimizer's ops");
	}
	*updates = (ps_updates){pipeline, ranks};
	for (int r = 0; r < pipeline->rank_count; r++) {
		ps_status status = ps_list_create(&ranks[r].list, pipeline->ranks[r].queue);
		if (status != PS_OK) {
			ps_updates_destroy(updates);
			return status;
		}
	}
	*out = updates;
	return PS_OK;
}

void ps_updates_destroy(ps_updates *updates)
{
	if (!updates)
		return;
	for (int r = 0; r < updates->pipeline->rank_count; r++) {
		ps_list_destroy(updates->ranks[r].list);
		free(updates->ranks[r].parameters);
	}
	free(updates->ranks);
	free(updates);
}

void ps_updates_clear(ps_updates *updates)
{
	for (int r = 0; r < updates->pipeline->rank_count; r++)
		ps_list_clear(updates->ranks[r].list);
}

static int stage_of(const ps_pipeline *pipeline, int parameter)
{
	return ps__stage_of_layer(pipeline, pipeline->parameter_layer[parameter]);
}

ps_status ps_updates_record(ps_updates *updates, int parameter, ps_op op, const void *arguments, size_t bytes)
{
	const ps_pipeline *pipeline = updates->pipeline;
	struct rank_updates *rank = &updates->ranks[pipeline->stages[stage_of(pipeline, parameter)].rank];
	size_t count = ps_list_count(rank->list);
	if (count == rank->capacity) {
		size_t capacity = rank->capacity ? rank->capacity * 2 : 64;
		int *parameters = realloc(rank->parameters, capacity * sizeof *parameters);
		if (!parameters)
			return ps_fail(PS_ENOMEM, "out of memory for an optimizer's ops");
		rank->parameters = parameters;
		rank->capacity = capacity;
	}
	PS_TRY(ps_list_record(rank->list, op, arguments, bytes));
	rank->parameters[count] = parameter;
	return PS_OK;
}

static bool is_checked(const ps_pipeline *pipeline, int rank)
{
	for (int k = 0; k < pipeline->ranks[rank].stage_count; k++)
		if (ps__shadow_checks(pipeline, pipeline->ranks[rank].stages[k]))
			return true;
	return false;
}

/* One by one, with checks of those whose stage is checked. */
static ps_status submit_checked(ps_pipeline *pipeline, const struct rank_updates *rank, ps_queue *queue)
{
	for (size_t i = 0; i < ps_list_count(rank->list); i++) {
		const char *scope;
		int parameter = rank->parameters[i], stage = stage_of(pipeline, parameter);
		ps_op op = ps_list_op(rank->list, i, &scope);
		const void *arguments = ps__list_arguments(rank->list, i, pipeline->step);
		ps_status status = ps__shadow_checks(pipeline, stage)
		                           ? ps__shadow_update(pipeline, parameter, stage, op, arguments)
		                           : ps_queue_device(queue)->backend->ops[op](queue, arguments);
		ps__list_mark(rank->list, i, status == PS_OK);
		PS_TRY(status);
	}
	return PS_OK;
}

ps_status ps_updates_submit(ps_updates *updates)
{
	ps_pipeline *pipeline = updates->pipeline;
	for (int r = 0; r < pipeline->rank_count; r++)
		PS_TRY(is_checked(pipeline, r) ? submit_checked(pipeline, &updates->ranks[r], pipeline->ranks[r].queue)
		                               : ps_list_submit(updates->ranks[r].list, pipeline->step));
	return PS_OK;
}
