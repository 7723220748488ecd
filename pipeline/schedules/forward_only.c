/* Forward only: each rank does the forwards of all micro-batches in order. For evaluation. */
#include "pipeline/schedules/rules.h"

ps_status ps__generate_forward_only(ps_schedule *schedule)
{
	schedule->forward_only = true;
	return ps__schedule_add_wave(schedule, PS_ACTION_F);
}
