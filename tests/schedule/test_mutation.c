/*
 * Every small change of valid schedules: an action dropped, doubled, changed, moved within its list or to another
 * rank. An oracle, written from the rules of docs/schedules.md without regard to speed, says for each whether it is
 * still valid, and the validator must agree.
 */
#include "helpers.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_ACTIONS = 512 };

/* One flat row for every (action, micro-batch). */
typedef struct event {
	int rank, position, kind, stage, micro_batch;
} event;

typedef struct facts {
	event events[MOST_ACTIONS];
	int count;
} facts;

static bool is(const event *e, char what)
{
	switch (what) {
	case 'F':
		return e->kind == PS_ACTION_F;
	case 'B':
		return e->kind == PS_ACTION_B || e->kind == PS_ACTION_BW;
	case 'W':
		return e->kind == PS_ACTION_W || e->kind == PS_ACTION_BW;
	default:
		return e->kind == PS_ACTION_R;
	}
}

/* The only event of a kind; NULL when there are none or several, with their number in *count. */
static const event *only(const facts *all, char what, int stage, int micro_batch, int *count)
{
	const event *found = NULL;
	*count = 0;
	for (int i = 0; i < all->count; i++) {
		const event *e = &all->events[i];
		if (is(e, what) && e->stage == stage && e->micro_batch == micro_batch) {
			found = e;
			++*count;
		}
	}
	return *count == 1 ? found : NULL;
}

static bool collect(facts *all, const ps_schedule *schedule)
{
	all->count = 0;
	for (int rank = 0; rank < schedule->ranks; rank++) {
		for (int position = 0; position < schedule->rank[rank].count; position++) {
			ps_action action = schedule->rank[rank].actions[position];
			if (action.stage < 0 || action.stage >= schedule->stages || action.micro_batch < 0 ||
			    action.micro_batch + action.count > schedule->micro_batches || action.count < 1 ||
			    schedule->rank_of_stage[action.stage] != rank)
				return false;
			for (int i = 0; i < action.count; i++) {
				ck_assert_int_lt(all->count, MOST_ACTIONS);
				all->events[all->count++] =
				        (event){rank, position, action.kind, action.stage, action.micro_batch + i};
			}
		}
	}
	return true;
}

static bool order_is_right(const facts *all, const ps_schedule *schedule)
{
	for (int stage = 0; stage < schedule->stages; stage++) {
		int weight_before = -1;
		for (int i = 0; i < schedule->micro_batches; i++) {
			int count;
			const event *f = only(all, 'F', stage, i, &count), *b = only(all, 'B', stage, i, &count);
			const event *w = only(all, 'W', stage, i, &count), *r = only(all, 'R', stage, i, &count);
			if (!f || !b || !w || count > 1)
				return false;
			bool fused = b == w;
			if (f->position > b->position || (!fused && b->position > w->position))
				return false;
			if (r && (r->position < f->position || r->position > b->position))
				return false;
			if (w->position < weight_before)
				return false;
			weight_before = w->position;
		}
	}
	return true;
}

/* Of two micro-batches of one forward both are recomputed, or neither. */
static bool forwards_agree(const facts *all)
{
	for (int i = 0; i < all->count; i++) {
		for (int k = 0; k < i; k++) {
			const event *a = &all->events[i], *b = &all->events[k];
			int of_a, of_b;
			if (!is(a, 'F') || !is(b, 'F') || a->rank != b->rank || a->position != b->position)
				continue;
			only(all, 'R', a->stage, a->micro_batch, &of_a);
			only(all, 'R', b->stage, b->micro_batch, &of_b);
			if (of_a != of_b)
				return false;
		}
	}
	return true;
}

/* Repeats over all ranks until nothing moves: the plainest way to run. */
static bool runs_to_its_end(const ps_schedule *schedule)
{
	int next[16] = {0};
	bool done[2][16][16] = {{{0}}};
	bool moved = true;
	while (moved) {
		moved = false;
		for (int rank = 0; rank < schedule->ranks; rank++) {
			if (next[rank] == schedule->rank[rank].count)
				continue;
			ps_action a = schedule->rank[rank].actions[next[rank]];
			bool forward = a.kind == PS_ACTION_F,
			     backward = a.kind == PS_ACTION_B || a.kind == PS_ACTION_BW;
			bool waits = false;
			for (int i = a.micro_batch; i < a.micro_batch + a.count; i++) {
				waits |= forward && a.stage > 0 && !done[0][a.stage - 1][i];
				waits |= backward && a.stage + 1 < schedule->stages && !done[1][a.stage + 1][i];
			}
			if (waits)
				continue;
			for (int i = a.micro_batch; i < a.micro_batch + a.count && (forward || backward); i++)
				done[backward][a.stage][i] = true;
			next[rank]++;
			moved = true;
		}
	}
	for (int rank = 0; rank < schedule->ranks; rank++)
		if (next[rank] < schedule->rank[rank].count)
			return false;
	return true;
}

static bool memory_is_bounded(const ps_schedule *schedule)
{
	if (!schedule->rule || strcmp(schedule->rule->name, "1f1b") != 0)
		return true;
	for (int rank = 0; rank < schedule->ranks; rank++) {
		int limit = schedule->ranks - rank;
		if (ps_schedule_in_flight(schedule, rank) > limit)
			return false;
	}
	return true;
}

static bool is_valid(const ps_schedule *schedule)
{
	facts all;
	for (int rank = 0; rank < schedule->ranks; rank++)
		if (schedule->rank[rank].count == 0)
			return false;
	return collect(&all, schedule) && order_is_right(&all, schedule) && forwards_agree(&all) &&
	       memory_is_bounded(schedule) && runs_to_its_end(schedule);
}

typedef struct tally {
	int valid, refused;
} tally;

static void compare(const ps_schedule *schedule, tally *counts)
{
	bool expected = is_valid(schedule);
	ps_status status = ps_schedule_validate(schedule);
	if ((status == PS_OK) != expected) {
		char *text = NULL;
		assert_ok(ps_schedule_write(&text, schedule));
		ck_abort_msg("the oracle says %s, the validator '%s':\n%s", expected ? "valid" : "wrong",
		             status == PS_OK ? "valid" : ps_error_message(), text);
	}
	ck_assert(status == PS_OK || status == PS_EINVAL);
	if (status != PS_OK)
		ck_assert_ptr_nonnull(strstr(ps_error_message(), "rank "));
	*(expected ? &counts->valid : &counts->refused) += 1;
}

static void remove_at(ps_schedule *schedule, int rank, int64_t position)
{
	ps_rank_actions *list = &schedule->rank[rank];
	memmove(list->actions + position, list->actions + position + 1,
	        (size_t)(list->count - position - 1) * sizeof *list->actions);
	list->count--;
}

static void insert_at(ps_schedule *schedule, int rank, int64_t position, ps_action action)
{
	assert_ok(ps_schedule_add(schedule, rank, action));
	ps_rank_actions *list = &schedule->rank[rank];
	memmove(list->actions + position + 1, list->actions + position,
	        (size_t)(list->count - position - 1) * sizeof *list->actions);
	list->actions[position] = action;
}

/* Every change of one action, on a copy. */
static void change_one(const ps_schedule *schedule, int rank, int64_t position, tally *counts)
{
	ps_action action = schedule->rank[rank].actions[position];
	ps_schedule *changed = copy_schedule(schedule);
	ps_action *at = &changed->rank[rank].actions[position];
	tally none = {0};
	/* Changed in place. */
	for (int kind = 0; kind < PS_ACTION_COUNT; kind++) {
		at->kind = (uint8_t)kind;
		compare(changed, counts);
	}
	*at = action;
	for (int stage = 0; stage < schedule->stages; stage++) {
		at->stage = stage;
		compare(changed, counts);
	}
	*at = action;
	for (int i = 0; i + action.count <= schedule->micro_batches; i++) {
		at->micro_batch = i;
		compare(changed, counts);
	}
	*at = action;
	for (int count = 1; action.micro_batch + count <= schedule->micro_batches; count++) {
		at->count = count;
		compare(changed, counts);
	}
	*at = action;
	/* Moved to every other place of every rank, and doubled there. */
	for (int other = 0; other < schedule->ranks; other++) {
		for (int64_t place = 0; place <= schedule->rank[other].count; place++) {
			insert_at(changed, other, place, action);
			compare(changed, &none);
			remove_at(changed, other, place);
		}
	}
	ck_assert_int_eq(none.valid, 0);
	remove_at(changed, rank, position);
	compare(changed, action.kind == PS_ACTION_R ? counts : &none);
	ck_assert_int_eq(none.valid, 0);
	for (int other = 0; other < schedule->ranks; other++) {
		for (int64_t place = 0; place <= changed->rank[other].count; place++) {
			insert_at(changed, other, place, action);
			compare(changed, counts);
			remove_at(changed, other, place);
		}
	}
	ps_schedule_destroy(changed);
}

static void change_everything(ps_schedule *schedule, tally *counts)
{
	assert_ok(ps_schedule_validate(schedule));
	ck_assert(is_valid(schedule));
	for (int rank = 0; rank < schedule->ranks; rank++)
		for (int64_t position = 0; position < schedule->rank[rank].count; position++)
			change_one(schedule, rank, position, counts);
	ps_schedule_destroy(schedule);
}

static const struct {
	const char *name;
	int ranks, stages_per_rank, micro_batches, group;
	ps_checkpoint checkpoint;
} bases[] = {
        {"gpipe", 1, 1, 4, 0, PS_CHECKPOINT_NEVER}, {"gpipe", 3, 1, 4, 2, PS_CHECKPOINT_EXCEPT_LAST},
        {"gpipe", 2, 2, 3, 2, PS_CHECKPOINT_NEVER}, {"gpipe", 2, 2, 3, 0, PS_CHECKPOINT_ALWAYS},
        {"1f1b", 3, 1, 4, 0, PS_CHECKPOINT_NEVER},  {"1f1b", 3, 1, 4, 3, PS_CHECKPOINT_EXCEPT_LAST},
        {"1f1b", 4, 1, 3, 1, PS_CHECKPOINT_ALWAYS}, {"1f1b", 2, 1, 5, 5, PS_CHECKPOINT_NEVER},
};

START_TEST(single_changes)
{
	ps_schedule *schedule =
	        generate(bases[_i].name, bases[_i].ranks, bases[_i].stages_per_rank, bases[_i].micro_batches);
	assert_ok(ps_schedule_add_recompute(schedule, bases[_i].checkpoint));
	if (bases[_i].group)
		assert_ok(ps_schedule_group_weight(schedule, bases[_i].group));
	tally counts = {0};
	change_everything(schedule, &counts);
	/* The unchanged ones among them at least are valid. */
	ck_assert_int_gt(counts.valid, 20);
	ck_assert_int_gt(counts.refused, 80);
}
END_TEST

/* Two stages a rank in a V, B and W apart, by no rule. */
START_TEST(single_changes_of_a_file)
{
	tally counts = {0};
	change_everything(schedule_of("0F0 0F1 3F0 3B0 3F1 3B1 3W0-1 0R0 0BW0 0B1 0W1\n"
	                              "1F0 2F0 1F1 2F1 2BW0 1B0 2B1 1B1 1W0 2W1 1W1\n"),
	                  &counts);
	ck_assert_int_gt(counts.valid, 50);
	ck_assert_int_gt(counts.refused, 500);
}
END_TEST

/* Actions over several micro-batches, on two ranks that do not join the same ones. */
START_TEST(single_changes_of_ranges)
{
	tally counts = {0};
	change_everything(schedule_of("F0 F1-2 B1-2 R0 B0 W0-2\n"
	                              "F0-1 F2 BW0 R2 B2 BW1 W2\n"),
	                  &counts);
	ck_assert_int_gt(counts.valid, 20);
	ck_assert_int_gt(counts.refused, 200);
}
END_TEST

/* Lists shuffled by several exchanges, from nearly right to wild. */
START_TEST(random_exchanges)
{
	srand(99 + (unsigned)_i);
	tally counts = {0};
	for (int round = 0; round < 3000; round++) {
		ps_schedule *schedule =
		        generate(bases[_i].name, bases[_i].ranks, bases[_i].stages_per_rank, bases[_i].micro_batches);
		assert_ok(ps_schedule_add_recompute(schedule, bases[_i].checkpoint));
		if (round % 2)
			assert_ok(ps_schedule_group_weight(schedule, 1 + rand() % bases[_i].micro_batches));
		if (round % 3 == 0)
			schedule->rule = NULL;
		if (round % 5 == 0)
			assert_ok(ps_schedule_join(schedule));
		for (int times = 1 + rand() % 4; times > 0; times--) {
			ps_rank_actions *list = &schedule->rank[rand() % schedule->ranks];
			int64_t first = rand() % list->count, second = rand() % list->count;
			if (rand() % 2)
				second = first + 1 < list->count ? first + 1 : first;
			ps_action action = list->actions[first];
			list->actions[first] = list->actions[second];
			list->actions[second] = action;
		}
		compare(schedule, &counts);
		ps_schedule_destroy(schedule);
	}
	ck_assert_int_gt(counts.valid, 20);
	ck_assert_int_gt(counts.refused, 500);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("schedule mutations");
	TCase *tests = tcase_create("mutations");
	tcase_set_timeout(tests, 100);
	suite_add_tcase(suite, tests);
	tcase_add_loop_test(tests, single_changes, 0, (int)(sizeof bases / sizeof *bases));
	tcase_add_test(tests, single_changes_of_a_file);
	tcase_add_test(tests, single_changes_of_ranges);
	tcase_add_loop_test(tests, random_exchanges, 0, (int)(sizeof bases / sizeof *bases));
	return run_suite(suite);
}
