/*
 * GPipe: the forwards of all micro-batches, then their backwards. Backwards ascend by micro-batch as the forwards do,
 * so that weight gradients are summed in ascending order. Every rank keeps all micro-batches; the makespan of p equal
 * stages and m micro-batches is (m + p - 1)(F + B).
 */
#include "pipeline/schedules/rules.h"

ps_status ps__generate_gpipe(ps_schedule *schedule)
{
	PS_TRY(ps__schedule_add_wave(schedule, PS_ACTION_F));
	return ps__schedule_add_wave(schedule, PS_ACTION_BW);
}
