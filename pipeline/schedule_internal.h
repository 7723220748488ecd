/* What the files of the schedule module share. Not for other folders. */
#ifndef PENSTOCK_SCHEDULE_INTERNAL_H
#define PENSTOCK_SCHEDULE_INTERNAL_H

#include <penstock/schedule.h>

/* Bytes for "BW2147483647 of stage 2147483647" and for every other action. */
enum { PS__ACTION_BYTES = 64 };

/* Writes an action as messages name it: "F2 of stage 1", "W0-3 of stage 1". */
void ps__action_describe(char out[PS__ACTION_BYTES], ps_action action);

static inline ps_action ps__action(ps_action_kind kind, int stage, int micro_batch)
{
	return (ps_action){.kind = (uint8_t)kind, .stage = stage, .micro_batch = micro_batch, .count = 1};
}

static inline bool ps__is_backward(int kind)
{
	return kind == PS_ACTION_B || kind == PS_ACTION_BW;
}

/* The place of (stage, micro-batch) in an array over all of them. */
static inline size_t ps__cell(const ps_schedule *schedule, int stage, int micro_batch)
{
	return (size_t)stage * (size_t)schedule->micro_batches + (size_t)micro_batch;
}

/* PS_EINVAL unless kind, stage, micro-batch and count are in range for the schedule; says what would be right. */
ps_status ps__action_check(const ps_schedule *schedule, ps_action action) PS_WARN_UNUSED;

/* PS_EINVAL unless sizes, placement and pointers are sound and every action passes ps__action_check. */
ps_status ps__schedule_check(const ps_schedule *schedule) PS_WARN_UNUSED;

/* Room for `capacity` actions in all on a rank, so that adding them cannot fail. */
ps_status ps__schedule_reserve(ps_schedule *schedule, int rank, int64_t capacity) PS_WARN_UNUSED;

/* Lists that take the place of a schedule's when all of them are made. */
typedef struct ps__rewrite {
	ps_schedule *schedule;
	ps_schedule fresh; /* the schedule with new lists, empty at first */
} ps__rewrite;

ps_status ps__rewrite_begin(ps__rewrite *work, ps_schedule *schedule) PS_WARN_UNUSED;
/* Swaps the lists when all went well, and frees those that are left over. Returns `status`. */
ps_status ps__rewrite_end(ps__rewrite *work, ps_status status);

/* Duration of each action of a stage for a micro-batch of size 1, and of its transfers to its neighbours. */
typedef struct ps__stage_cost {
	double forward, backward_input, backward_weight, send_forward, send_backward;
} ps__stage_cost;

/* Called for each action in an order in which the schedule can run. */
typedef void (*ps__replay_visit)(void *context, int rank, int64_t position, double begin, double end);

/*
 * Runs a schedule that passed ps__schedule_check: each rank does its list in order, and an action waits for what
 * ps_schedule_dependency names. costs (one a stage) and scale (one a micro-batch) may be NULL: all 0, all 1. PS_EINVAL
 * when some rank waits for ever; the message follows the chain of waiting actions.
 */
ps_status ps__schedule_replay(const ps_schedule *schedule, const ps__stage_cost *costs, const double *scale,
                              ps__replay_visit visit, void *context) PS_WARN_UNUSED;

#endif
