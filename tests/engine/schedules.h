/* Schedules that no rule makes: random ones, and given placements in the order of a rule. As text, for files. */
#ifndef PS_TESTS_ENGINE_SCHEDULES_H
#define PS_TESTS_ENGINE_SCHEDULES_H

#include <penstock/schedule.h>

/* What a random schedule may have. */
struct random_schedule {
	int ranks, stages, micro_batches;
	const int *rank_of_stage; /* NULL: random, every rank with a stage */
	bool recompute;           /* some R */
	bool split_weight;        /* B and W apart, W in random groups */
	bool any_order;           /* micro-batches in any order where weight gradients allow it */
	bool joined;              /* several micro-batches in one action, where they happen to stand in a row */
};

/* Any order of work that can run to its end is as likely as not; the caller destroys *out. */
void schedule_random(ps_schedule **out, const struct random_schedule *wanted, uint64_t *state);
/* The same, written to a temporary file whose name goes to `path` (256 bytes). */
void schedule_random_file(char *path, const struct random_schedule *wanted, uint64_t *state);

#endif
