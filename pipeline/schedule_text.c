/*
 * Reads a schedule from a text file. docs/schedules.md has the form:
 *
 *   schedule: NAME        optional headers, before the first rank
 *   micro-batches: N
 *   F0 F1 BW0 BW1         a line a rank: [STAGE]KIND MICRO-BATCH, separated by blanks or commas; W0-3 is a range
 *   1F0,1F1,1BW0,1BW1     a point stands for no action; # starts a comment; lines without anything are passed over
 *
 * The file is read by characters, so that a foreign file of any size is refused at its first wrong byte. What a whole
 * schedule must fulfil is for ps_schedule_validate.
 */
#include "pipeline/schedule_internal.h"

#include "core/text.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Stage numbers above this are taken for typing errors: the table of stages would not be worth its memory. */
enum { MOST_STAGES = 1 << 20, MOST_MICRO_BATCHES = 1 << 20 };

/* Where the first action of a stage stands; rank < 0: nowhere yet. */
typedef struct stage_place {
	int rank, line, column;
} stage_place;

typedef struct reader {
	FILE *file;
	const char *path;
	int next;          /* the character to come, or EOF */
	int line, column;  /* of that character, from 1 */
	int micro_batches; /* 0: not known yet */
	bool has_backward;
	int64_t micro_batch_end; /* one more than the highest seen */
	char name[sizeof((ps_schedule *)0)->name];
	ps_rank_actions *rank;
	int ranks, rank_capacity;
	stage_place *stage;
	int stages, stage_capacity;
} reader;

/* Puts file, line and column in front of the message. */
static ps_status add_place(const reader *in, int line, int column, ps_status status)
{
	return ps_fail_context(status, "%.400s:%d:%d", in->path, line, column);
}

/* "the end of the line", "'x'" or "byte 0x1b". */
static const char *name_character(char out[32], int c)
{
	if (c == EOF)
		snprintf(out, 32, "the end of the file");
	else if (c == '\n' || c == '\r')
		snprintf(out, 32, "the end of the line");
	else if (c > ' ' && c < 0x7f)
		snprintf(out, 32, "'%c'", c);
	else
		snprintf(out, 32, "byte 0x%02x", (unsigned)c);
	return out;
}

static void advance(reader *in)
{
	if (in->next == '\n') {
		in->line++;
		in->column = 0;
	}
	in->column++;
	in->next = getc(in->file);
}

static bool is_blank(int c)
{
	return c == ' ' || c == '\t' || c == ',' || c == '\r';
}

static bool is_digit(int c)
{
	return c >= '0' && c <= '9';
}

static void skip_blanks(reader *in)
{
	while (is_blank(in->next))
		advance(in);
	if (in->next == '#')
		while (in->next != '\n' && in->next != EOF)
			advance(in);
}

static ps_status read_number(reader *in, int *out, const char *what)
{
	int line = in->line, column = in->column;
	char shown[32];
	if (!is_digit(in->next))
		return add_place(in, line, column,
		                 ps_fail(PS_EFORMAT, "%s where %s belongs", name_character(shown, in->next), what));
	int64_t number = 0;
	for (; is_digit(in->next); advance(in)) {
		number = number * 10 + (in->next - '0');
		/* One below the largest, so that one more is still a number. */
		if (number >= INT_MAX)
			return add_place(in, line, column, ps_fail(PS_EFORMAT, "%s is too large", what));
	}
	*out = (int)number;
	return PS_OK;
}

/* Doubles an array of items; *capacity is in items. */
static ps_status grow(const reader *in, void **items, int *capacity, size_t bytes)
{
	int wanted = *capacity ? 2 * *capacity : 16;
	void *grown = *capacity <= INT_MAX / 2 ? realloc(*items, (size_t)wanted * bytes) : NULL;
	if (!grown)
		return ps_fail(PS_ENOMEM, "no memory to read the schedule %.400s", in->path);
	*items = grown;
	*capacity = wanted;
	return PS_OK;
}

/* Notes that the stage is on the current rank; no stage is on two. */
static ps_status place_stage(reader *in, int stage, int line, int column)
{
	if (stage >= MOST_STAGES)
		return add_place(in, line, column,
		                 ps_fail(PS_EFORMAT, "stage %d: stage numbers go up to %d", stage, MOST_STAGES - 1));
	while (stage >= in->stage_capacity) {
		void *items = in->stage;
		PS_TRY(grow(in, &items, &in->stage_capacity, sizeof *in->stage));
		in->stage = items;
	}
	for (; in->stages <= stage; in->stages++)
		in->stage[in->stages] = (stage_place){.rank = -1};
	stage_place *place = &in->stage[stage];
	int rank = in->ranks - 1;
	if (place->rank < 0)
		*place = (stage_place){rank, line, column};
	if (place->rank != rank)
		return add_place(in, line, column,
		                 ps_fail(PS_EFORMAT, "stage %d is on rank %d; it is on rank %d already (line %d)",
		                         stage, rank, place->rank, place->line));
	return PS_OK;
}

static ps_status add_action(reader *in, ps_action action)
{
	ps_rank_actions *list = &in->rank[in->ranks - 1];
	if (list->count == list->capacity) {
		int64_t wanted = list->capacity ? 2 * list->capacity : 64;
		ps_action *grown = (uint64_t)wanted <= SIZE_MAX / sizeof *grown
		                           ? realloc(list->actions, (size_t)wanted * sizeof *grown)
		                           : NULL;
		if (!grown)
			return ps_fail(PS_ENOMEM, "no memory to read the schedule %.400s", in->path);
		list->actions = grown;
		list->capacity = wanted;
	}
	list->actions[list->count++] = action;
	in->has_backward |= action.kind != PS_ACTION_F;
	int64_t end = (int64_t)action.micro_batch + action.count;
	in->micro_batch_end = end > in->micro_batch_end ? end : in->micro_batch_end;
	return PS_OK;
}

static ps_status read_kind(reader *in, uint8_t *kind)
{
	enum { LONGEST = 4 };
	char letters[LONGEST + 1] = "", shown[32];
	int line = in->line, column = in->column;
	size_t length = 0;
	for (; length < LONGEST && in->next >= 'A' && in->next <= 'Z'; advance(in))
		letters[length++] = (char)in->next;
	for (int known = 0; known < PS_ACTION_COUNT; known++) {
		if (strcmp(letters, ps_action_letters(known)) == 0) {
			*kind = (uint8_t)known;
			return PS_OK;
		}
	}
	static const char *const right = "actions are F, B (input gradient), W (weight gradient), BW (both) and R";
	if (length > 0)
		return add_place(in, line, column, ps_fail(PS_EFORMAT, "'%s' is no action; %s", letters, right));
	return add_place(in, line, column,
	                 ps_fail(PS_EFORMAT, "%s where an action belongs; %s", name_character(shown, in->next), right));
}

/* The micro-batch of an action, or FIRST-LAST. */
static ps_status read_micro_batches(reader *in, ps_action *action)
{
	int line = in->line, column = in->column, first, last;
	PS_TRY(read_number(in, &first, "a micro-batch number"));
	last = first;
	if (in->next == '-') {
		advance(in);
		PS_TRY(read_number(in, &last, "the last micro-batch of a range"));
		if (last < first)
			return add_place(in, line, column,
			                 ps_fail(PS_EFORMAT, "the range %d-%d goes down", first, last));
	}
	if (in->micro_batches && last >= in->micro_batches)
		return add_place(in, line, column,
		                 ps_fail(PS_EFORMAT, "there is no micro-batch %d; there %s %d, from 0 to %d", last,
		                         ps__plural(in->micro_batches, "is", "are"), in->micro_batches,
		                         in->micro_batches - 1));
	if (last >= MOST_MICRO_BATCHES)
		return add_place(
		        in, line, column,
		        ps_fail(PS_EFORMAT, "micro-batch %d: their numbers go up to %d", last, MOST_MICRO_BATCHES - 1));
	action->micro_batch = first;
	action->count = last - first + 1;
	return PS_OK;
}

static ps_status read_action(reader *in)
{
	int line = in->line, column = in->column;
	char shown[32];
	ps_action action = {.stage = in->ranks - 1};
	if (is_digit(in->next)) {
		int stage;
		PS_TRY(read_number(in, &stage, "a stage number"));
		action.stage = stage;
	}
	PS_TRY(read_kind(in, &action.kind));
	PS_TRY(read_micro_batches(in, &action));
	PS_TRY(place_stage(in, action.stage, line, column));
	if (!is_blank(in->next) && in->next != '\n' && in->next != '#' && in->next != EOF)
		return add_place(in, in->line, in->column,
		                 ps_fail(PS_EFORMAT, "%s right behind an action; a blank or a comma separates actions",
		                         name_character(shown, in->next)));
	return add_action(in, action);
}

/* The rest of a line as the schedule's name, without blanks at its ends. */
static ps_status read_name(reader *in)
{
	int line = in->line, column = in->column;
	size_t length = 0, kept = 0;
	for (; in->next != '\n' && in->next != '#' && in->next != EOF; advance(in)) {
		char shown[32];
		if (in->next == '\r')
			continue;
		if (in->next < ' ' || in->next >= 0x7f)
			return add_place(in, in->line, in->column,
			                 ps_fail(PS_EFORMAT, "%s in the schedule's name; it is of plain characters",
			                         name_character(shown, in->next)));
		if (length + 1 >= sizeof in->name)
			return add_place(in, line, column,
			                 ps_fail(PS_EFORMAT, "the schedule's name has more than %zu characters",
			                         sizeof in->name - 1));
		in->name[length++] = (char)in->next;
		kept = in->next == ' ' ? kept : length;
	}
	in->name[kept] = '\0';
	if (kept == 0)
		return add_place(in, line, column, ps_fail(PS_EFORMAT, "the schedule's name is missing"));
	return PS_OK;
}

static ps_status read_header(reader *in)
{
	char word[32] = "", shown[32];
	int line = in->line, column = in->column;
	size_t length = 0;
	for (; length + 1 < sizeof word && ((in->next >= 'a' && in->next <= 'z') || in->next == '-'); advance(in))
		word[length++] = (char)in->next;
	bool is_name = strcmp(word, "schedule") == 0, is_count = strcmp(word, "micro-batches") == 0;
	if (!is_name && !is_count)
		return add_place(in, line, column,
		                 ps_fail(PS_EFORMAT,
		                         "'%s' is neither an action nor one of the headers schedule: and "
		                         "micro-batches:",
		                         word));
	if (in->next != ':')
		return add_place(
		        in, in->line, in->column,
		        ps_fail(PS_EFORMAT, "%s where the ':' of %s: belongs", name_character(shown, in->next), word));
	if (in->ranks > 0)
		return add_place(in, line, column,
		                 ps_fail(PS_EFORMAT, "%s: stands behind a rank; headers come first", word));
	advance(in);
	skip_blanks(in);
	if (is_name)
		return read_name(in);
	int number;
	line = in->line;
	column = in->column;
	PS_TRY(read_number(in, &number, "the number of micro-batches"));
	if (number == 0)
		return add_place(in, line, column, ps_fail(PS_EFORMAT, "0 micro-batches; at least one is needed"));
	if (in->micro_batches && number != in->micro_batches)
		return add_place(in, line, column,
		                 ps_fail(PS_EFORMAT, "the schedule is for %d %s, not for %d", number,
		                         ps__plural(number, "micro-batch", "micro-batches"), in->micro_batches));
	in->micro_batches = number;
	skip_blanks(in);
	if (in->next != '\n' && in->next != EOF)
		return add_place(
		        in, in->line, in->column,
		        ps_fail(PS_EFORMAT, "%s behind the number of micro-batches", name_character(shown, in->next)));
	return PS_OK;
}

static ps_status read_rank(reader *in)
{
	if (in->ranks == in->rank_capacity) {
		void *items = in->rank;
		PS_TRY(grow(in, &items, &in->rank_capacity, sizeof *in->rank));
		in->rank = items;
	}
	in->rank[in->ranks++] = (ps_rank_actions){0};
	while (in->next != '\n' && in->next != EOF) {
		if (in->next == '.')
			advance(in);
		else
			PS_TRY(read_action(in));
		skip_blanks(in);
	}
	return PS_OK;
}

static ps_status read_lines(reader *in)
{
	while (in->next != EOF) {
		skip_blanks(in);
		if (in->next == '\n')
			advance(in);
		else if (in->next >= 'a' && in->next <= 'z')
			PS_TRY(read_header(in));
		else if (in->next != EOF)
			PS_TRY(read_rank(in));
	}
	return PS_OK;
}

/* Stages count from 0 without a gap. */
static ps_status check_stages(const reader *in)
{
	for (int stage = 0; stage < in->stages; stage++) {
		const stage_place *last = &in->stage[in->stages - 1];
		if (in->stage[stage].rank < 0)
			return add_place(
			        in, last->line, last->column,
			        ps_fail(PS_EFORMAT,
			                "stage %d is here but stage %d is nowhere; stages count from 0 without a gap",
			                in->stages - 1, stage));
	}
	return PS_OK;
}

/* The last part of the path, in characters that may stand in a name. */
static void name_from_path(char *out, size_t bytes, const char *path)
{
	const char *slash = strrchr(path, '/');
	snprintf(out, bytes, "%s", slash && slash[1] ? slash + 1 : path);
	for (char *c = out; *c; c++)
		if (*c <= ' ' || *c >= 0x7f || *c == '#')
			*c = '_';
}

/* Hands the lists over to a schedule, once the whole file is read. */
static ps_status make_schedule(ps_schedule **out, reader *in)
{
	if (in->stages < 1)
		return add_place(
		        in, in->line, in->column,
		        ps_fail(PS_EFORMAT,
		                "there are no actions; a line for each rank is needed, such as 'F0 F1 BW0 BW1'"));
	PS_TRY(check_stages(in));
	char name[sizeof in->name];
	name_from_path(name, sizeof name, in->path);
	/* There may be more ranks than stages, which ps_schedule_create refuses: the validator names the empty rank. */
	ps_schedule *schedule = calloc(1, sizeof *schedule);
	int *rank_of_stage = calloc((size_t)in->stages, sizeof *rank_of_stage);
	if (!schedule || !rank_of_stage) {
		free(schedule);
		free(rank_of_stage);
		return ps_fail(PS_ENOMEM, "no memory to read the schedule %.400s", in->path);
	}
	for (int stage = 0; stage < in->stages; stage++)
		rank_of_stage[stage] = in->stage[stage].rank;
	snprintf(schedule->name, sizeof schedule->name, "%s", in->name[0] ? in->name : name);
	schedule->rule = in->name[0] ? ps_schedule_find_rule(in->name) : NULL;
	schedule->ranks = in->ranks;
	schedule->stages = in->stages;
	schedule->micro_batches = in->micro_batches ? in->micro_batches : (int)in->micro_batch_end;
	schedule->forward_only = !in->has_backward;
	schedule->rank_of_stage = rank_of_stage;
	schedule->rank = in->rank;
	in->rank = NULL;
	*out = schedule;
	return PS_OK;
}

static void reader_finish(reader *in)
{
	for (int rank = 0; in->rank && rank < in->ranks; rank++)
		free(in->rank[rank].actions);
	free(in->rank);
	free(in->stage);
}

static ps_status fail_open(const char *path, int number)
{
	char why[128];
	if (strerror_r(number, why, sizeof why) != 0)
		snprintf(why, sizeof why, "error %d", number);
	return ps_fail(number == ENOENT ? PS_ENOENT : PS_EINVAL, "cannot read the schedule %.400s: %s", path, why);
}

ps_status ps_schedule_read(ps_schedule **out, const char *path, int micro_batches)
{
	if (micro_batches < 0)
		return ps_fail(PS_EINVAL, "a schedule for %d micro-batches", micro_batches);
	FILE *file = fopen(path, "r");
	if (!file)
		return fail_open(path, errno);
	reader in = {.file = file, .path = path, .line = 1, .column = 1, .micro_batches = micro_batches};
	errno = 0;
	in.next = getc(file);
	ps_status status = read_lines(&in);
	if (ferror(file))
		status = fail_open(path, errno ? errno : EIO);
	if (status == PS_OK)
		status = make_schedule(out, &in);
	reader_finish(&in);
	fclose(file);
	return status;
}
