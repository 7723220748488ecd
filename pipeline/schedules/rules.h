/*
 * The list of the named schedules. A new one is a file beside this one and a row here; docs/add-a-schedule.md walks
 * through it.
 */
#ifndef PENSTOCK_SCHEDULES_RULES_H
#define PENSTOCK_SCHEDULES_RULES_H

#include <penstock/schedule.h>

/*
 * X(id, name, stages per rank or 0 for any, in-flight limit or NULL, text for --help)
 * The file of a row defines ps__generate_ID and, unless NULL, ps__in_flight_ID.
 */
#define PS__SCHEDULE_RULES(X)                                                                                        \
	X(gpipe, "gpipe", 0, NULL, "all forwards, then all backwards: the most memory, the least waiting for links") \
	X(one_f_one_b, "1f1b", 1, ps__in_flight_one_f_one_b, "one forward, one backward in turn: the least memory")  \
	X(forward_only, "forward-only", 0, NULL, "forwards alone: evaluation")

#define PS__SCHEDULE_RULE_DECLARE(id, name, stages_per_rank, limit, text)  \
	ps_status ps__generate_##id(ps_schedule *schedule) PS_WARN_UNUSED; \
	int ps__in_flight_##id(const ps_schedule *schedule, int rank);
PS__SCHEDULE_RULES(PS__SCHEDULE_RULE_DECLARE)
#undef PS__SCHEDULE_RULE_DECLARE

/*
 * For rules: appends one action of `kind` for every stage and micro-batch as a wave. F runs from the first stage to
 * the last, B and BW from the last to the first, micro-batches ascending. At each tick a rank takes, of its stages
 * with an input at hand, the one furthest along the wave. Works for any placement.
 */
ps_status ps__schedule_add_wave(ps_schedule *schedule, ps_action_kind kind) PS_WARN_UNUSED;

#endif
