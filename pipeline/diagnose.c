/* What to say when a step fails, stalls or loses its numbers: stage, device, action, layer and op. */
#include "pipeline/internal.h"

#include "core/backend.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const action_letters[] = {
#define LETTERS(name, letters, text) letters,
        PS_ACTION_MAP(LETTERS)
#undef LETTERS
};

static const char *device_name(const ps_pipeline *pipeline, int rank)
{
	return ps_device_get_info(pipeline->ranks[rank].device)->name;
}

/* "stage 1 on cpu:1, F3" or, with the command's place in the list, ", layer layers.7, gelu_fwd". */
static void describe(const ps_pipeline *pipeline, const struct instruction *instruction, int64_t op, char *text,
                     size_t bytes)
{
	ps_action action = instruction->action;
	const char *letters = action_letters[action.kind];
	if (instruction->kind == INSTRUCTION_TRANSFER) {
		int to = action.kind == PS_ACTION_F ? action.stage + 1 : action.stage - 1;
		snprintf(text, bytes, "transfer of %s%d from stage %d on %s to stage %d on %s", letters,
		         action.micro_batch, action.stage, device_name(pipeline, instruction->rank), to,
		         device_name(pipeline, pipeline->stages[to].rank));
		return;
	}
	int length = snprintf(text, bytes, "stage %d on %s, %s%d", action.stage,
	                      device_name(pipeline, instruction->rank), letters, action.micro_batch);
	if (length < 0 || (size_t)length >= bytes || op < 0 || op >= (int64_t)ps_list_count(instruction->list))
		return;
	const char *scope;
	ps_op id = ps_list_op(instruction->list, (size_t)op, &scope);
	snprintf(text + length, bytes - (size_t)length, ", layer %s, %s", scope, ps_op_name(id));
}

/* The action of a rank whose ops span timeline value `value`; *op is the op's place in its list. */
static const struct instruction *find_command(const struct program *program, const ps_timeline *timeline,
                                              uint64_t value, int64_t *op)
{
	for (int i = 0; i < program->instruction_count; i++) {
		const struct instruction *instruction = &program->instructions[i];
		if (instruction->kind == INSTRUCTION_TRANSFER || program->events[i].timeline != timeline)
			continue;
		if (value > program->started[i] && value <= program->events[i].value) {
			*op = (int64_t)(value - program->started[i]) - 1;
			return *op < (int64_t)ps_list_count(instruction->list) ? instruction : NULL;
		}
	}
	return NULL;
}

ps_status ps__program_explain(ps_pipeline *pipeline, struct program *program, ps_status status)
{
	char text[256];
	/* The rank whose own op failed is the origin; the others only waited for it. */
	for (int r = 0; r < pipeline->rank_count; r++) {
		const ps_timeline *timeline = ps_queue_record(pipeline->ranks[r].queue).timeline;
		int64_t op = -1;
		if (ps__timeline_status(timeline) == PS_OK)
			continue;
		const struct instruction *origin = find_command(program, timeline, timeline->failed_from, &op);
		if (origin) {
			describe(pipeline, origin, op, text, sizeof text);
			return ps_fail(ps__timeline_status(timeline), "%s: %s", text, timeline->message);
		}
	}
	for (int i = 0; i < program->instruction_count; i++) {
		const struct instruction *instruction = &program->instructions[i];
		if (instruction->kind != INSTRUCTION_TRANSFER || !program->events[i].timeline)
			continue;
		const ps_timeline *timeline = program->events[i].timeline;
		if (ps__timeline_status(timeline) != PS_OK && timeline->failed_from <= program->events[i].value) {
			describe(pipeline, instruction, -1, text, sizeof text);
			return ps_fail(ps__timeline_status(timeline), "%s: %s", text, timeline->message);
		}
	}
	for (int r = 0; r < pipeline->rank_count; r++) {
		const ps_timeline *timeline = ps_queue_record(pipeline->ranks[r].queue).timeline;
		if (ps__timeline_status(timeline) != PS_OK)
			return ps_fail(ps__timeline_status(timeline), "rank %d on %s: %s", r, device_name(pipeline, r),
			               timeline->message);
	}
	return status;
}

ps_status ps__program_explain_stall(ps_pipeline *pipeline, struct program *program, double seconds)
{
	char text[256];
	for (int r = 0; r < pipeline->rank_count; r++) {
		ps_event end = ps_queue_record(pipeline->ranks[r].queue);
		uint64_t completed = atomic_load(&end.timeline->completed);
		int64_t op = -1;
		const struct instruction *at = find_command(program, end.timeline, completed + 1, &op);
		if (completed < end.value && at) {
			describe(pipeline, at, op, text, sizeof text);
			return ps_fail(PS_ESTALL, "no progress for %g s; %s is not done", seconds, text);
		}
	}
	for (int i = 0; i < program->instruction_count; i++) {
		if (program->instructions[i].kind == INSTRUCTION_TRANSFER && !ps_event_done(program->events[i])) {
			describe(pipeline, &program->instructions[i], -1, text, sizeof text);
			return ps_fail(PS_ESTALL, "no progress for %g s; the %s is not done", seconds, text);
		}
	}
	return ps_fail(PS_ESTALL, "no progress for %g s", seconds);
}

/* True when all elements of a floating-point tensor, read back, are finite. */
static ps_status all_finite(ps_queue *queue, ps_tensor tensor, bool *finite)
{
	int64_t count = ps_tensor_count(tensor);
	*finite = true;
	void *values = malloc((size_t)count * ps_dtype_bytes(tensor.dtype));
	if (!values)
		return ps_fail(PS_ENOMEM, "out of memory to look for values that are not finite");
	ps_status status = ps_queue_read(queue, values, tensor);
	if (status == PS_OK)
		status = ps_queue_finish(queue);
	for (int64_t i = 0; i < count && status == PS_OK && *finite; i++)
		*finite = tensor.dtype == PS_F64 ? isfinite(((double *)values)[i]) : isfinite(((float *)values)[i]);
	free(values);
	return status;
}

/* Is some parameter of layer l not finite? *name is its name, or NULL. */
static ps_status bad_parameter(ps_pipeline *pipeline, int l, ps_queue *queue, const char **name)
{
	const ps_layer *layer = pipeline->config.layers[l];
	*name = NULL;
	for (int i = 0; i < layer->parameter_count && !*name; i++) {
		bool finite;
		PS_TRY(all_finite(queue, pipeline->memory[l].parameters[i], &finite));
		if (!finite)
			*name = layer->parameters[i].name;
	}
	return PS_OK;
}

/* Is the output of layer l, which is the input of layer l + 1, finite in all micro-batches that were kept? */
static ps_status output_finite(ps_pipeline *pipeline, int stage, int l, bool *finite)
{
	struct program *program = pipeline->last;
	*finite = true;
	for (int i = 0; i < program->micro_batches && *finite; i++) {
		ps_tensor tensor = ps__kept_input(pipeline, program, stage, l + 1, i);
		if (ps_tensor_present(tensor))
			PS_TRY(all_finite(pipeline->ranks[pipeline->stages[stage].rank].queue, tensor, finite));
	}
	return PS_OK;
}

ps_status ps__explain_nonfinite(ps_pipeline *pipeline, const ps_batch *batch, double loss)
{
	for (int s = 0; s < pipeline->stage_count; s++) {
		const struct stage *stage = &pipeline->stages[s];
		for (int l = stage->first; l < stage->first + stage->count; l++) {
			const ps_layer *layer = pipeline->config.layers[l];
			const char *device = device_name(pipeline, stage->rank), *parameter;
			PS_TRY(bad_parameter(pipeline, l, pipeline->ranks[stage->rank].queue, &parameter));
			if (parameter)
				return ps_fail(
				        PS_ENUMERIC,
				        "the loss of step %u is %g: parameter %s.%s of stage %d on %s is not finite",
				        batch->step, loss, layer->name, parameter, s, device);
			int reader = l + 1 < stage->first + stage->count ? s : s + 1;
			bool finite = false;
			if (reader < pipeline->stage_count)
				PS_TRY(output_finite(pipeline, reader, l, &finite));
			if (!finite)
				return ps_fail(
				        PS_ENUMERIC,
				        "the loss of step %u is %g: the output of layer %s, stage %d on %s, is the "
				        "first that is not finite",
				        batch->step, loss, layer->name, s, device);
		}
	}
	return ps_fail(PS_ENUMERIC, "the loss of step %u is %g", batch->step, loss);
}
