/* A schedule as the text that ps_schedule_read reads. */
#include "pipeline/schedule_internal.h"

#include <stdio.h>
#include <stdlib.h>

static void write_rank(FILE *file, const ps_schedule *schedule, int rank)
{
	const ps_rank_actions *list = &schedule->rank[rank];
	for (int64_t position = 0; position < list->count; position++) {
		ps_action action = list->actions[position];
		if (position > 0)
			putc(' ', file);
		/* Without a number the stage is the rank's own. */
		if (action.stage != rank)
			fprintf(file, "%d", (int)action.stage);
		char label[PS__ACTION_BYTES];
		ps_action_label(label, sizeof label, action);
		fputs(label, file);
	}
	fputs(list->count ? "\n" : ".\n", file);
}

ps_status ps_schedule_write(char **out, const ps_schedule *schedule)
{
	char *text = NULL;
	size_t length = 0;
	FILE *file = open_memstream(&text, &length);
	if (!file)
		return ps_fail(PS_ENOMEM, "no memory to write schedule %s", schedule->name);
	fprintf(file, "schedule: %s\nmicro-batches: %d\n", schedule->name, schedule->micro_batches);
	for (int rank = 0; rank < schedule->ranks; rank++)
		write_rank(file, schedule, rank);
	bool failed = ferror(file) != 0;
	failed |= fclose(file) != 0;
	if (failed) {
		free(text);
		return ps_fail(PS_ENOMEM, "no memory to write schedule %s", schedule->name);
	}
	*out = text;
	return PS_OK;
}
