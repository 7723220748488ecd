/*
 * The proof that a schedule is right; docs/schedules.md has the rules. First each rank's list is walked once with a
 * few bits for each (stage, micro-batch): all that concerns one stage is on one rank. Then the whole is replayed
 * without costs. Only a wrong schedule is searched for what is wrong, so that the messages can be helpful.
 */
#include "pipeline/schedule_internal.h"

#include "core/text.h"

#include <stdlib.h>

enum { F_SEEN = 1, R_SEEN = 2, B_SEEN = 4, W_SEEN = 8 };

typedef struct walk {
	const ps_schedule *schedule;
	uint8_t *seen;        /* per (stage, micro-batch) */
	int32_t *next_weight; /* per stage: the micro-batch whose weight gradient comes next */
	int rank;
	int64_t position;
	int in_flight, in_flight_limit;
} walk;

/* Puts the current action in front of the message. */
static ps_status add_place(const walk *at, ps_status status)
{
	char action[PS__ACTION_BYTES];
	ps__action_describe(action, at->schedule->rank[at->rank].actions[at->position]);
	return ps_fail_context(status, "schedule %s: rank %d, position %lld (%s)", at->schedule->name, at->rank,
	                       (long long)at->position, action);
}

/* Does an action do what `bit` stands for, for this micro-batch? */
static bool does(ps_action action, int bit, int stage, int micro_batch)
{
	static const int bits[PS_ACTION_COUNT] = {
	        [PS_ACTION_F] = F_SEEN,           [PS_ACTION_B] = B_SEEN, [PS_ACTION_W] = W_SEEN,
	        [PS_ACTION_BW] = B_SEEN | W_SEEN, [PS_ACTION_R] = R_SEEN,
	};
	return (bits[action.kind] & bit) && action.stage == stage && micro_batch >= action.micro_batch &&
	       micro_batch - action.micro_batch < action.count;
}

/* The first position from `from` on of an action of the rank that does it; -1: none. */
static int64_t find(const walk *at, int64_t from, int bit, int stage, int micro_batch)
{
	const ps_rank_actions *list = &at->schedule->rank[at->rank];
	for (int64_t position = from; position < list->count; position++)
		if (does(list->actions[position], bit, stage, micro_batch))
			return position;
	return -1;
}

/* The current action needs the one that `bit` and `what` stand for before it, and it was not there. */
static ps_status fail_before(const walk *at, int bit, const char *what, int stage, int micro_batch)
{
	int64_t later = find(at, at->position, bit, stage, micro_batch);
	if (later < 0)
		return add_place(at, ps_fail(PS_EINVAL, "%s%d of stage %d is missing", what, micro_batch, stage));
	return add_place(at, ps_fail(PS_EINVAL, "%s%d of stage %d must come first; it comes only at position %lld",
	                             what, micro_batch, stage, (long long)later));
}

static ps_status fail_twice(const walk *at, int bit, const char *what, int micro_batch)
{
	int stage = at->schedule->rank[at->rank].actions[at->position].stage;
	return add_place(at, ps_fail(PS_EINVAL, "%s of micro-batch %d is done already at position %lld", what,
	                             micro_batch, (long long)find(at, 0, bit, stage, micro_batch)));
}

static ps_status visit_forward(walk *at, ps_action action, uint8_t *seen)
{
	for (int i = 0; i < action.count; i++) {
		if (seen[i] & F_SEEN)
			return fail_twice(at, F_SEEN, "the forward", action.micro_batch + i);
		seen[i] |= F_SEEN;
	}
	at->in_flight += action.count;
	if (at->in_flight > at->in_flight_limit)
		return add_place(at, ps_fail(PS_EINVAL, "%d micro-batches are in flight on the rank; %s allows %d",
		                             at->in_flight, at->schedule->rule->name, at->in_flight_limit));
	return PS_OK;
}

static ps_status visit_recompute(walk *at, ps_action action, uint8_t *seen)
{
	for (int i = 0; i < action.count; i++) {
		int micro_batch = action.micro_batch + i;
		if (!(seen[i] & F_SEEN))
			return fail_before(at, F_SEEN, "F", action.stage, micro_batch);
		if (seen[i] & R_SEEN)
			return fail_twice(at, R_SEEN, "the recomputation", micro_batch);
		if (seen[i] & B_SEEN)
			return add_place(at, ps_fail(PS_EINVAL,
			                             "it comes behind the backward at position %lld, which needs it",
			                             (long long)find(at, 0, B_SEEN, action.stage, micro_batch)));
		seen[i] |= R_SEEN;
	}
	return PS_OK;
}

static ps_status visit_backward(walk *at, ps_action action, uint8_t *seen)
{
	for (int i = 0; i < action.count; i++) {
		if (!(seen[i] & F_SEEN))
			return fail_before(at, F_SEEN, "F", action.stage, action.micro_batch + i);
		if (seen[i] & B_SEEN)
			return fail_twice(at, B_SEEN, "the input gradient", action.micro_batch + i);
		seen[i] |= B_SEEN;
	}
	at->in_flight -= action.count;
	return PS_OK;
}

static ps_status visit_weight(walk *at, ps_action action, uint8_t *seen)
{
	for (int i = 0; i < action.count; i++) {
		int micro_batch = action.micro_batch + i;
		if (!(seen[i] & B_SEEN))
			return fail_before(at, B_SEEN, "B", action.stage, micro_batch);
		if (seen[i] & W_SEEN)
			return fail_twice(at, W_SEEN, "the weight gradient", micro_batch);
		seen[i] |= W_SEEN;
	}
	int32_t *next = &at->next_weight[action.stage];
	if (action.micro_batch != *next) {
		int64_t later = find(at, at->position, W_SEEN, action.stage, *next);
		if (later < 0)
			return add_place(at, ps_fail(PS_EINVAL,
			                             "the weight gradient of micro-batch %d is missing before it",
			                             (int)*next));
		return add_place(
		        at,
		        ps_fail(PS_EINVAL,
		                "the weight gradients of a stage ascend by micro-batch, and that of %d comes only at "
		                "position %lld",
		                (int)*next, (long long)later));
	}
	*next += action.count;
	return PS_OK;
}

static ps_status visit(walk *at)
{
	const ps_schedule *schedule = at->schedule;
	ps_action action = schedule->rank[at->rank].actions[at->position];
	int rank = schedule->rank_of_stage[action.stage];
	if (rank != at->rank)
		return add_place(at, ps_fail(PS_EINVAL, "stage %d is on rank %d", (int)action.stage, rank));
	if (schedule->forward_only && action.kind != PS_ACTION_F)
		return add_place(
		        at, ps_fail(PS_EINVAL, "a forward-only schedule has no %s", ps_action_letters(action.kind)));
	uint8_t *seen = &at->seen[ps__cell(schedule, action.stage, action.micro_batch)];
	switch ((ps_action_kind)action.kind) {
	case PS_ACTION_F:
		return visit_forward(at, action, seen);
	case PS_ACTION_R:
		return visit_recompute(at, action, seen);
	case PS_ACTION_B:
		return visit_backward(at, action, seen);
	case PS_ACTION_W:
		return visit_weight(at, action, seen);
	case PS_ACTION_BW:
		PS_TRY(visit_backward(at, action, seen));
		return visit_weight(at, action, seen);
	case PS_ACTION_COUNT:
		break;
	}
	return ps_fail(PS_EINTERNAL, "an action of kind %d passed its check", action.kind);
}

static ps_status walk_ranks(walk *at)
{
	const ps_schedule *schedule = at->schedule;
	const ps_schedule_rule *rule = schedule->rule;
	for (at->rank = 0; at->rank < schedule->ranks; at->rank++) {
		at->in_flight = 0;
		at->in_flight_limit = INT32_MAX;
		if (rule && rule->in_flight_limit)
			at->in_flight_limit = rule->in_flight_limit(schedule, at->rank);
		if (schedule->rank[at->rank].count == 0)
			return ps_fail(PS_EINVAL, "schedule %s: rank %d has no actions", schedule->name, at->rank);
		for (at->position = 0; at->position < schedule->rank[at->rank].count; at->position++)
			PS_TRY(visit(at));
	}
	return PS_OK;
}

/* After the walk: a forward keeps what its backward needs of all its micro-batches, or of none. */
static ps_status check_kept(walk *at)
{
	const ps_schedule *schedule = at->schedule;
	for (at->rank = 0; at->rank < schedule->ranks; at->rank++)
		for (at->position = 0; at->position < schedule->rank[at->rank].count; at->position++) {
			ps_action action = schedule->rank[at->rank].actions[at->position];
			const uint8_t *seen = &at->seen[ps__cell(schedule, action.stage, action.micro_batch)];
			for (int i = 1; i < action.count && action.kind == PS_ACTION_F; i++)
				if ((seen[i] ^ seen[0]) & R_SEEN)
					return add_place(
					        at, ps_fail(PS_EINVAL,
					                    "of micro-batches %d and %d only one is recomputed; one "
					                    "forward keeps all or none",
					                    (int)action.micro_batch, action.micro_batch + i));
		}
	return PS_OK;
}

/* After the walk: what no list has. */
static ps_status check_complete(const walk *at)
{
	const ps_schedule *schedule = at->schedule;
	static const struct {
		int bit;
		const char *what;
	} needed[] = {{F_SEEN, "F"}, {B_SEEN, "B"}, {W_SEEN, "W"}};
	int needed_count = schedule->forward_only ? 1 : 3;
	for (int stage = 0; stage < schedule->stages; stage++)
		for (int i = 0; i < schedule->micro_batches; i++)
			for (int n = 0; n < needed_count; n++)
				if (!(at->seen[ps__cell(schedule, stage, i)] & needed[n].bit))
					return ps_fail(PS_EINVAL, "schedule %s: rank %d: %s%d of stage %d is missing",
					               schedule->name, schedule->rank_of_stage[stage], needed[n].what,
					               i, stage);
	return PS_OK;
}

/* Finds an F that is not there, knowing that the stage has fewer than m of them. */
static ps_status fail_missing_forward(const ps_schedule *schedule, int stage, int64_t forwards)
{
	const ps_rank_actions *list = &schedule->rank[schedule->rank_of_stage[stage]];
	/* One of the first forwards + 1 micro-batches has none. */
	bool *there = calloc((size_t)forwards + 1, sizeof *there);
	if (!there)
		return ps_fail(PS_ENOMEM, "no memory to validate schedule %s", schedule->name);
	for (int64_t position = 0; position < list->count; position++) {
		ps_action action = list->actions[position];
		for (int64_t i = action.micro_batch; i < (int64_t)action.micro_batch + action.count && i <= forwards;
		     i++)
			if (action.kind == PS_ACTION_F && action.stage == stage)
				there[i] = true;
	}
	int missing = 0;
	while (missing < forwards && there[missing])
		missing++;
	free(there);
	return ps_fail(PS_EINVAL, "schedule %s: rank %d: F%d of stage %d is missing", schedule->name,
	               schedule->rank_of_stage[stage], missing, stage);
}

/*
 * Refuses a schedule with too few F on some stage. It goes before the walk, whose memory is then in proportion to the
 * lists, whatever number of micro-batches a file claims.
 */
static ps_status check_forwards(const ps_schedule *schedule)
{
	int64_t *forwards = calloc((size_t)schedule->stages, sizeof *forwards);
	if (!forwards)
		return ps_fail(PS_ENOMEM, "no memory to validate schedule %s", schedule->name);
	/* Actions on a wrong rank are counted too: the walk names them. */
	for (int rank = 0; rank < schedule->ranks; rank++)
		for (int64_t position = 0; position < schedule->rank[rank].count; position++) {
			ps_action action = schedule->rank[rank].actions[position];
			forwards[action.stage] += action.kind == PS_ACTION_F ? action.count : 0;
		}
	ps_status status = PS_OK;
	for (int stage = 0; status == PS_OK && stage < schedule->stages; stage++)
		if (forwards[stage] < schedule->micro_batches)
			status = fail_missing_forward(schedule, stage, forwards[stage]);
	free(forwards);
	return status;
}

ps_status ps_schedule_validate(const ps_schedule *schedule)
{
	PS_TRY(ps__schedule_check(schedule));
	const ps_schedule_rule *rule = schedule->rule;
	int per_rank = rule ? rule->stages_per_rank : 0;
	if (per_rank && schedule->stages != (int64_t)per_rank * schedule->ranks)
		return ps_fail(PS_EINVAL, "schedule %s: %d %s on %d %s; this schedule has exactly %d a rank",
		               schedule->name, schedule->stages, ps__plural(schedule->stages, "stage", "stages"),
		               schedule->ranks, ps__plural(schedule->ranks, "rank", "ranks"), per_rank);
	PS_TRY(check_forwards(schedule));
	walk at = {.schedule = schedule};
	at.seen = calloc((size_t)schedule->stages, (size_t)schedule->micro_batches);
	at.next_weight = calloc((size_t)schedule->stages, sizeof *at.next_weight);
	ps_status status = PS_OK;
	if (!at.seen || !at.next_weight)
		status = ps_fail(PS_ENOMEM, "no memory to validate schedule %s", schedule->name);
	if (status == PS_OK)
		status = walk_ranks(&at);
	if (status == PS_OK)
		status = check_complete(&at);
	if (status == PS_OK)
		status = check_kept(&at);
	free(at.next_weight);
	free(at.seen);
	return status == PS_OK ? ps__schedule_replay(schedule, NULL, NULL, NULL, NULL) : status;
}
