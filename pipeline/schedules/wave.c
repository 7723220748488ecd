/* The wave that gpipe and forward-only are made of: one action for every stage and micro-batch, for any placement. */
#include "pipeline/schedule_internal.h"
#include "pipeline/schedules/rules.h"

#include <stdlib.h>

/* The ticks of a wave. Depth counts stages in the direction of the wave. */
static ps_status run_wave(ps_schedule *schedule, ps_action_kind kind, int *done_at_depth, int64_t *busy_tick)
{
	int stages = schedule->stages, m = schedule->micro_batches;
	for (int64_t tick = 1; done_at_depth[stages - 1] < m; tick++) {
		/* From the deepest up, so that a stage does not see what its predecessor does in this tick. */
		for (int depth = stages - 1; depth >= 0; depth--) {
			int stage = kind == PS_ACTION_F ? depth : stages - 1 - depth;
			int rank = schedule->rank_of_stage[stage];
			int at_hand = depth > 0 ? done_at_depth[depth - 1] : m;
			if (busy_tick[rank] == tick || done_at_depth[depth] == at_hand)
				continue;
			PS_TRY(ps_schedule_add(schedule, rank, ps__action(kind, stage, done_at_depth[depth])));
			done_at_depth[depth]++;
			busy_tick[rank] = tick;
		}
	}
	return PS_OK;
}

ps_status ps__schedule_add_wave(ps_schedule *schedule, ps_action_kind kind)
{
	int *done_at_depth = calloc((size_t)schedule->stages, sizeof *done_at_depth);
	int64_t *busy_tick = calloc((size_t)schedule->ranks, sizeof *busy_tick);
	ps_status status = done_at_depth && busy_tick ? PS_OK : ps_fail(PS_ENOMEM, "no memory to generate a schedule");
	if (status == PS_OK)
		status = run_wave(schedule, kind, done_at_depth, busy_tick);
	free(busy_tick);
	free(done_at_depth);
	return status;
}
