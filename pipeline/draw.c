/* The picture of a simulation as rows of text. */
#include "pipeline/schedule_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A picture wider than this is refused: it is for people. */
enum { MOST_COLUMNS = 10000, LABEL_BYTES = 64 };

typedef struct picture {
	const ps_schedule *schedule;
	const ps_simulation *simulation;
	double unit;
	bool stage_shown;  /* stages are named in labels unless rank r has exactly stage r */
	int columns, cell; /* columns of one unit, and characters a column */
} picture;

static void make_label(char label[LABEL_BYTES], const picture *drawn, ps_action action)
{
	char text[LABEL_BYTES / 2];
	ps_action_label(text, sizeof text, action);
	if (drawn->stage_shown)
		snprintf(label, LABEL_BYTES, "%d%s", (int)action.stage, text);
	else
		snprintf(label, LABEL_BYTES, "%s", text);
}

/* The column whose begin is nearest to a time. */
static int column_of(const picture *drawn, double time)
{
	return (int)floor(time / drawn->unit + 0.5);
}

/* Characters a column so that each label fits into its action with a blank behind. */
static int find_cell(const picture *drawn)
{
	int cell = 2;
	for (int rank = 0; rank < drawn->schedule->ranks; rank++) {
		const ps_rank_actions *list = &drawn->schedule->rank[rank];
		for (int64_t position = 0; position < list->count; position++) {
			ps_span span = drawn->simulation->spans[rank][position];
			int columns = column_of(drawn, span.end) - column_of(drawn, span.begin);
			char label[LABEL_BYTES];
			make_label(label, drawn, list->actions[position]);
			int needed = (int)strlen(label) + 1;
			if (columns > 0 && (needed + columns - 1) / columns > cell)
				cell = (needed + columns - 1) / columns;
		}
	}
	return cell;
}

static void draw_rank(char *row, const picture *drawn, int rank)
{
	size_t width = (size_t)drawn->columns * (size_t)drawn->cell;
	memset(row, ' ', width);
	for (int column = 0; column < drawn->columns; column++)
		row[(size_t)column * (size_t)drawn->cell] = '.';
	const ps_rank_actions *list = &drawn->schedule->rank[rank];
	for (int64_t position = 0; position < list->count; position++) {
		ps_span span = drawn->simulation->spans[rank][position];
		size_t begin = (size_t)column_of(drawn, span.begin) * (size_t)drawn->cell;
		size_t end = (size_t)column_of(drawn, span.end) * (size_t)drawn->cell;
		if (end <= begin)
			continue;
		char label[LABEL_BYTES];
		make_label(label, drawn, list->actions[position]);
		memset(row + begin, '-', end - begin - 1);
		row[end - 1] = ' ';
		memcpy(row + begin, label, strlen(label));
	}
	while (width > 0 && row[width - 1] == ' ')
		width--;
	row[width] = '\0';
}

static bool one_stage_a_rank(const ps_schedule *schedule)
{
	for (int stage = 0; stage < schedule->stages; stage++)
		if (schedule->rank_of_stage[stage] != stage)
			return false;
	return true;
}

static ps_status draw_rows(FILE *file, const picture *drawn)
{
	char *row = malloc((size_t)drawn->columns * (size_t)drawn->cell + 1);
	if (!row)
		return ps_fail(PS_ENOMEM, "no memory for a picture of %d columns", drawn->columns);
	int digits = snprintf(NULL, 0, "%d", drawn->schedule->ranks - 1);
	for (int rank = 0; rank < drawn->schedule->ranks; rank++) {
		draw_rank(row, drawn, rank);
		fprintf(file, "rank %*d%s%s\n", digits, rank, *row ? "  " : "", row);
	}
	free(row);
	return PS_OK;
}

ps_status ps_simulation_draw(char **out, const ps_schedule *schedule, const ps_simulation *simulation, double unit)
{
	if (!simulation->spans)
		return ps_fail(PS_EINVAL, "a simulation without spans cannot be drawn");
	if (!isfinite(unit) || unit <= 0)
		return ps_fail(PS_EINVAL, "a column of %g units of time: it must be positive", unit);
	double columns = ceil(simulation->makespan / unit - 0.5);
	if (columns > MOST_COLUMNS)
		return ps_fail(PS_EINVAL, "the picture would have %.0f columns; with a unit above %g it has at most %d",
		               columns, simulation->makespan / MOST_COLUMNS, MOST_COLUMNS);
	picture drawn = {
	        .schedule = schedule,
	        .simulation = simulation,
	        .unit = unit,
	        .stage_shown = !one_stage_a_rank(schedule),
	};
	drawn.columns = column_of(&drawn, simulation->makespan);
	drawn.cell = find_cell(&drawn);
	char *text = NULL;
	size_t length = 0;
	FILE *file = open_memstream(&text, &length);
	if (!file)
		return ps_fail(PS_ENOMEM, "no memory for a picture");
	ps_status status = draw_rows(file, &drawn);
	bool failed = ferror(file) != 0;
	failed |= fclose(file) != 0;
	if (status == PS_OK && failed)
		status = ps_fail(PS_ENOMEM, "no memory for a picture of %d columns", drawn.columns);
	if (status != PS_OK) {
		free(text);
		return status;
	}
	*out = text;
	return PS_OK;
}
