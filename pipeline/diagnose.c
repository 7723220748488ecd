/* What to say when a step fails or stalls: stage, device, action, layer and op. */
#include "pipeline/internal.h"

#include "core/backend.h"

#include <stdio.h>

enum { TEXT = 512 };

/* What a command of a rank's queue belongs to. */
struct place {
	const struct instruction *instruction; /* NULL: none */
	int op;                                /* in the action's list; -1: its waits or times */
	int edge;                              /* enum edge; -1: none */
};

static const char *device_name(const ps_pipeline *pipeline, int rank)
{
	return ps_device_get_info(pipeline->ranks[rank].device)->name;
}

static void describe_edge(const ps_pipeline *pipeline, enum edge edge, char text[TEXT])
{
	static const char *const copies[] = {"copying the tokens in", "copying the targets in",
	                                     "copying the losses out"};
	int stage = edge == EDGE_TOKENS ? 0 : pipeline->stage_count - 1;
	snprintf(text, TEXT, "stage %d on %s, %s", stage, device_name(pipeline, pipeline->stages[stage].rank),
	         copies[edge]);
}

static void describe_transfer(const ps_pipeline *pipeline, const struct instruction *instruction, char text[TEXT])
{
	ps_action action = instruction->action;
	int to = action.kind == PS_ACTION_F ? action.stage + 1 : action.stage - 1;
	char label[48];
	ps_action_label(label, sizeof label, action);
	snprintf(text, TEXT, "transfer of %s from stage %d on %s to stage %d on %s", label, action.stage,
	         device_name(pipeline, instruction->rank), to, device_name(pipeline, pipeline->stages[to].rank));
}

/* "stage 1 on cpu:1, F3" and, with the op's place in the list, ", layer layers.7, gelu_fwd". */
static void describe_action(const ps_pipeline *pipeline, const struct instruction *instruction, int op, char text[TEXT])
{
	char label[48];
	const char *device = device_name(pipeline, instruction->rank);
	ps_action_label(label, sizeof label, instruction->action);
	if (op < 0) {
		snprintf(text, TEXT, "stage %d on %s, %s", instruction->action.stage, device, label);
		return;
	}
	const char *layer;
	ps_op id = ps_list_op(instruction->list, (size_t)op, &layer);
	snprintf(text, TEXT, "stage %d on %s, %s, layer %s, %s", instruction->action.stage, device, label, layer,
	         ps_op_name(id));
}

static void describe(const ps_pipeline *pipeline, const struct place *place, char text[TEXT])
{
	if (place->edge >= 0)
		describe_edge(pipeline, (enum edge)place->edge, text);
	else
		describe_action(pipeline, place->instruction, place->op, text);
}

/* Finds what the command with `value` on a rank's timeline is part of; false when it is nothing of the step. */
static bool find_place(const struct run *run, const ps_timeline *timeline, uint64_t value, struct place *out)
{
	const struct program *program = run->program;
	*out = (struct place){.op = -1, .edge = -1};
	for (int e = 0; e < EDGE_COUNT; e++) {
		ps_event done = run->edge_done[e];
		if (done.timeline == timeline && value > run->edge_begun[e] && value <= done.value)
			out->edge = e;
	}
	if (out->edge >= 0)
		return true;
	for (int i = 0; i < program->instruction_count; i++) {
		const struct instruction *instruction = &program->instructions[i];
		if (instruction->kind == INSTRUCTION_TRANSFER || run->marks->events[i].timeline != timeline ||
		    value <= run->marks->begun[i] || value > run->marks->events[i].value)
			continue;
		out->instruction = instruction;
		if (value > run->marks->started[i]) {
			size_t op = ps__list_find(instruction->list, value);
			out->op = op < ps_list_count(instruction->list) ? (int)op : -1;
		}
		return true;
	}
	return false;
}

static const ps_timeline *timeline_of(const ps_pipeline *pipeline, int rank)
{
	return ps_queue_record(pipeline->ranks[rank].queue).timeline;
}

static ps_status fail_at(const char *text, const ps_timeline *timeline)
{
	return ps_fail(ps__timeline_status(timeline), "%s: %s", text, timeline->message);
}

static bool failed(ps_event event)
{
	const ps_timeline *timeline = event.timeline;
	return timeline && ps__timeline_status(timeline) != PS_OK && timeline->failed_from <= event.value;
}

/* Did something that the instruction waits for fail? */
static bool passed_on(const struct run *run, const struct instruction *instruction)
{
	for (int i = 0; i < instruction->wait_count; i++)
		if (failed(run->marks->events[run->program->waits[instruction->wait_first + i]]))
			return true;
	return false;
}

/* The failed rank that is the origin, or with `any` the first one: it did not fail for waiting for somebody else. */
static ps_status explain_ranks(const ps_pipeline *pipeline, const struct run *run, bool any)
{
	char text[TEXT];
	for (int r = 0; r < pipeline->rank_count; r++) {
		const ps_timeline *timeline = timeline_of(pipeline, r);
		struct place place;
		if (ps__timeline_status(timeline) == PS_OK)
			continue;
		bool found = find_place(run, timeline, timeline->failed_from, &place);
		bool passed = found && place.edge < 0 && place.op < 0 && passed_on(run, place.instruction);
		/* Behind its part of the run a rank waits for others before the next one. */
		passed = passed || timeline->failed_from > run->ends[r].value;
		if (passed && !any)
			continue;
		if (found)
			describe(pipeline, &place, text);
		else
			snprintf(text, TEXT, "rank %d on %s", r, device_name(pipeline, r));
		return fail_at(text, timeline);
	}
	return PS_OK;
}

static ps_status explain_transfers(const ps_pipeline *pipeline, const struct run *run)
{
	const struct program *program = run->program;
	char text[TEXT];
	for (int i = 0; i < program->instruction_count; i++) {
		const struct instruction *instruction = &program->instructions[i];
		if (instruction->kind != INSTRUCTION_TRANSFER || !failed(run->marks->events[i]) ||
		    passed_on(run, instruction))
			continue;
		describe_transfer(pipeline, instruction, text);
		return fail_at(text, run->marks->events[i].timeline);
	}
	return PS_OK;
}

ps_status ps__explain_failure(const ps_pipeline *pipeline, const struct run *run, ps_status status)
{
	ps_status found = explain_ranks(pipeline, run, false);
	if (found == PS_OK)
		found = explain_transfers(pipeline, run);
	if (found == PS_OK)
		found = explain_ranks(pipeline, run, true);
	return found == PS_OK ? status : found;
}

ps_status ps__explain_refusal(const ps_pipeline *pipeline, const struct program *program, int index, ps_status status)
{
	const struct instruction *instruction = &program->instructions[index];
	char text[TEXT];
	if (instruction->kind == INSTRUCTION_TRANSFER) {
		describe_transfer(pipeline, instruction, text);
		return ps_fail_context(status, "%s", text);
	}
	size_t op =
	        ps__list_find(instruction->list, ps_queue_record(pipeline->ranks[instruction->rank].queue).value + 1);
	describe_action(pipeline, instruction, op < ps_list_count(instruction->list) ? (int)op : -1, text);
	return ps_fail_context(status, "%s", text);
}

ps_status ps__explain_edge(const ps_pipeline *pipeline, enum edge edge, ps_status status)
{
	char text[TEXT];
	describe_edge(pipeline, edge, text);
	return ps_fail_context(status, "%s", text);
}

ps_status ps__explain_stall_between(const ps_pipeline *pipeline)
{
	char text[TEXT] = "";
	size_t used = 0;
	for (int r = 0; r < pipeline->rank_count && used < TEXT; r++) {
		ps_event end = ps_queue_record(pipeline->ranks[r].queue);
		if (atomic_load(&end.timeline->completed) < end.value)
			used += (size_t)snprintf(text + used, TEXT - used, "%s rank %d on %s",
			                         used ? "," : "; not done:", r, device_name(pipeline, r));
	}
	return ps_fail(PS_ESTALL, "no progress for %g s%s", pipeline->config.stall_timeout_s, text);
}

ps_status ps__explain_stall(const ps_pipeline *pipeline, const struct run *run, double seconds)
{
	const struct program *program = run->program;
	char text[TEXT];
	for (int r = 0; r < pipeline->rank_count; r++) {
		ps_event end = ps_queue_record(pipeline->ranks[r].queue);
		uint64_t completed = atomic_load(&end.timeline->completed);
		struct place place;
		/* A rank at a wait is where it is because of another one. */
		if (completed >= end.value || !find_place(run, end.timeline, completed + 1, &place) ||
		    (place.op < 0 && place.edge < 0))
			continue;
		describe(pipeline, &place, text);
		return ps_fail(PS_ESTALL, "no progress for %g s; %s is not done", seconds, text);
	}
	for (int i = 0; i < program->instruction_count; i++) {
		if (program->instructions[i].kind != INSTRUCTION_TRANSFER || ps_event_done(run->marks->events[i]))
			continue;
		describe_transfer(pipeline, &program->instructions[i], text);
		return ps_fail(PS_ESTALL, "no progress for %g s; the %s is not done", seconds, text);
	}
	return ps_fail(PS_ESTALL, "no progress for %g s", seconds);
}
