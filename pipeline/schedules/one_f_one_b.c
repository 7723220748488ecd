/*
 * 1F1B: a rank runs ahead by as many forwards as there are ranks after it, then does a forward and a backward in turn,
 * then the remaining backwards. The makespan is GPipe's, but rank r of p keeps only min(m, p - r) micro-batches.
 */
#include "pipeline/schedule_internal.h"
#include "pipeline/schedules/rules.h"

static int min_int(int a, int b)
{
	return a < b ? a : b;
}

ps_status ps__generate_one_f_one_b(ps_schedule *schedule)
{
	int m = schedule->micro_batches;
	for (int rank = 0; rank < schedule->ranks; rank++) {
		PS_TRY(ps__schedule_reserve(schedule, rank, 2 * (int64_t)m));
		int warm_up = min_int(m, schedule->ranks - 1 - rank);
		int forwards = 0;
		while (forwards < warm_up)
			PS_TRY(ps_schedule_add(schedule, rank, ps__action(PS_ACTION_F, rank, forwards++)));
		for (int backward = 0; backward < m; backward++) {
			if (forwards < m)
				PS_TRY(ps_schedule_add(schedule, rank, ps__action(PS_ACTION_F, rank, forwards++)));
			PS_TRY(ps_schedule_add(schedule, rank, ps__action(PS_ACTION_BW, rank, backward)));
		}
	}
	return PS_OK;
}

int ps__in_flight_one_f_one_b(const ps_schedule *schedule, int rank)
{
	return min_int(schedule->micro_batches, schedule->ranks - rank);
}
