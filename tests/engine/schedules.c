/* Random schedules: at each moment one action whose needs are met is given to its rank. */
#include "tests/engine/schedules.h"

#include "tests/engine/trial.h"

#include <stdlib.h>
#include <string.h>

/* How far each (stage, micro-batch) is. */
struct cell {
	bool forward, recompute, backward, weight;
};

struct maker {
	const struct random_schedule *wanted;
	ps_schedule *schedule;
	struct cell *cells;
	int *next_weight; /* by stage */
};

static struct cell *cell_of(const struct maker *maker, int stage, int micro_batch)
{
	return &maker->cells[stage * maker->wanted->micro_batches + micro_batch];
}

/* Could the forward or the backward of a cell run now? */
static bool ready(const struct maker *maker, int stage, int i, bool backward)
{
	const struct cell *cell = cell_of(maker, stage, i);
	int last = maker->wanted->stages - 1;
	if (backward)
		return cell->forward && !cell->backward && (stage == last || cell_of(maker, stage + 1, i)->backward);
	bool in_turn = maker->wanted->any_order || i == 0 || cell_of(maker, stage, i - 1)->forward;
	return !cell->forward && in_turn && (stage == 0 || cell_of(maker, stage - 1, i)->forward);
}

static void add(const struct maker *maker, ps_action_kind kind, int stage, int i, int count)
{
	ps_action action = {.kind = (uint8_t)kind, .stage = stage, .micro_batch = i, .count = count};
	check_ok(ps_schedule_add(maker->schedule, maker->schedule->rank_of_stage[stage], action));
}

/* One random step at a stage; false when what was drawn cannot be done now. */
static bool try_step(const struct maker *maker, uint64_t *state)
{
	const struct random_schedule *wanted = maker->wanted;
	int stage = (int)trial_random(state, (uint32_t)wanted->stages);
	int i = (int)trial_random(state, (uint32_t)wanted->micro_batches);
	struct cell *cell = cell_of(maker, stage, i);
	switch (trial_random(state, 4)) {
	case 0:
		if (!ready(maker, stage, i, false))
			return false;
		add(maker, PS_ACTION_F, stage, i, 1);
		return cell->forward = true;
	case 1:
		if (!wanted->recompute || !cell->forward || cell->recompute || cell->backward)
			return false;
		add(maker, PS_ACTION_R, stage, i, 1);
		return cell->recompute = true;
	case 2: {
		bool both = !wanted->split_weight || trial_random(state, 2);
		if (!ready(maker, stage, i, true) || (both && maker->next_weight[stage] != i && !wanted->split_weight))
			return false;
		both = both && maker->next_weight[stage] == i;
		add(maker, both ? PS_ACTION_BW : PS_ACTION_B, stage, i, 1);
		maker->next_weight[stage] += both;
		return cell->backward = true;
	}
	default: {
		int first = maker->next_weight[stage], done = first;
		while (done < wanted->micro_batches && cell_of(maker, stage, done)->backward)
			done++;
		if (!wanted->split_weight || done == first)
			return false;
		int count = 1 + (int)trial_random(state, (uint32_t)(done - first));
		add(maker, PS_ACTION_W, stage, first, count);
		maker->next_weight[stage] += count;
		return true;
	}
	}
}

static bool finished(const struct maker *maker)
{
	for (int s = 0; s < maker->wanted->stages; s++)
		if (maker->next_weight[s] < maker->wanted->micro_batches)
			return false;
	return true;
}

/* Joins actions that stand in a row, at random, as far as the schedule stays valid. */
static void join_some(ps_schedule *schedule, uint64_t *state)
{
	for (int r = 0; r < schedule->ranks; r++) {
		ps_rank_actions *list = &schedule->rank[r];
		for (int64_t at = 0; at + 1 < list->count; at++) {
			ps_action first = list->actions[at], second = list->actions[at + 1], one = first;
			bool behind = second.micro_batch == first.micro_batch + first.count;
			if (first.kind != second.kind || first.stage != second.stage || first.kind == PS_ACTION_W ||
			    first.kind == PS_ACTION_BW || trial_random(state, 4) == 0 ||
			    (!behind && second.micro_batch + second.count != first.micro_batch))
				continue;
			one.micro_batch = behind ? first.micro_batch : second.micro_batch;
			one.count = first.count + second.count;
			list->actions[at] = one;
			size_t rest = (size_t)(list->count - at - 2) * sizeof one;
			memmove(&list->actions[at + 1], &list->actions[at + 2], rest);
			list->count--;
			if (ps_schedule_validate(schedule) == PS_OK) {
				at--;
				continue;
			}
			memmove(&list->actions[at + 2], &list->actions[at + 1], rest);
			list->count++;
			list->actions[at] = first;
			list->actions[at + 1] = second;
		}
	}
}

void schedule_random(ps_schedule **out, const struct random_schedule *wanted, uint64_t *state)
{
	check_ok(ps_schedule_create(out, "random", wanted->ranks, wanted->stages, wanted->micro_batches));
	struct maker maker = {.wanted = wanted, .schedule = *out};
	for (int s = 0; s < wanted->stages; s++)
		(*out)->rank_of_stage[s] = wanted->rank_of_stage ? wanted->rank_of_stage[s]
		                           : s < wanted->ranks   ? s
		                                                 : (int)trial_random(state, (uint32_t)wanted->ranks);
	/* Every rank has a stage, but not always stage s on rank s. */
	for (int s = wanted->stages - 1; s > 0 && !wanted->rank_of_stage; s--) {
		int other = (int)trial_random(state, (uint32_t)s + 1), held = (*out)->rank_of_stage[s];
		(*out)->rank_of_stage[s] = (*out)->rank_of_stage[other];
		(*out)->rank_of_stage[other] = held;
	}
	maker.cells = calloc((size_t)(wanted->stages * wanted->micro_batches), sizeof *maker.cells);
	maker.next_weight = calloc((size_t)wanted->stages, sizeof *maker.next_weight);
	ck_assert(maker.cells && maker.next_weight);
	while (!finished(&maker))
		try_step(&maker, state);
	free(maker.cells);
	free(maker.next_weight);
	if (wanted->joined)
		join_some(*out, state);
	check_ok(ps_schedule_validate(*out));
}

void schedule_random_file(char *path, const struct random_schedule *wanted, uint64_t *state)
{
	ps_schedule *schedule;
	char *text;
	schedule_random(&schedule, wanted, state);
	check_ok(ps_schedule_write(&text, schedule));
	trial_write_file(path, text);
	free(text);
	ps_schedule_destroy(schedule);
}
