/* Records a program's command lists against the arenas, and makes what its runs need. */
#include "pipeline/internal.h"

#include <stdlib.h>

static ps_status bind_action(ps_pipeline *pipeline, struct program *program, struct instruction *instruction)
{
	const struct rank *rank = &pipeline->ranks[instruction->rank];
	char label[48];
	PS_TRY(ps_list_create(&instruction->list, rank->queue));
	ps_status status = ps__record_action(pipeline, program, instruction->action, instruction->list);
	if (status == PS_OK)
		return PS_OK;
	ps_action_label(label, sizeof label, instruction->action);
	return ps_fail_context(status, "stage %d on %s, %s", instruction->action.stage,
	                       ps_device_get_info(rank->device)->name, label);
}

static void bind_transfer(ps_pipeline *pipeline, const struct program *program, struct instruction *instruction)
{
	ps_action action = instruction->action;
	bool backward = action.kind != PS_ACTION_F;
	int to = backward ? action.stage - 1 : action.stage + 1;
	const struct boundary *boundary = &pipeline->boundaries[backward ? to : action.stage];
	instruction->link = backward ? boundary->backward : boundary->forward;
	instruction->from = ps__output_tensor(pipeline, program, action.stage, action.micro_batch, backward);
	instruction->to = ps__input_tensor(pipeline, program, to, action.micro_batch, backward);
}

static ps_status allocate(struct program *program)
{
	size_t count = (size_t)program->instruction_count;
	bool marked = true;
	for (int r = 0; r < PS_RUNS; r++) {
		struct marks *marks = &program->marks[r];
		marks->events = calloc(count, sizeof *marks->events);
		marks->begun = calloc(count, sizeof *marks->begun);
		marks->started = calloc(count, sizeof *marks->started);
		marked = marked && marks->events && marks->begun && marks->started;
	}
	program->times = calloc(2 * count, sizeof *program->times);
	program->transfers = calloc(count, sizeof *program->transfers);
	program->transfer_waits = calloc((size_t)program->most_waits + 1, sizeof *program->transfer_waits);
	program->spans = calloc(count, sizeof *program->spans);
	if (!marked || !program->times || !program->transfers || !program->transfer_waits || !program->spans)
		return ps_fail(PS_ENOMEM, "out of memory for a program");
	return PS_OK;
}

ps_status ps__program_bind(ps_pipeline *pipeline, struct program *program)
{
	for (int r = 0; r < pipeline->rank_count; r++)
		if (program->rank_bytes[r] > pipeline->ranks[r].arena.bytes)
			return ps_fail(PS_ETOOBIG,
			               "a batch of %lld rows and %lld time steps does not fit into the memory that was "
			               "planned for rank %d",
			               (long long)program->rows, (long long)program->time, r);
	PS_TRY(allocate(program));
	for (int i = 0; i < program->instruction_count; i++) {
		if (program->instructions[i].kind == INSTRUCTION_ACTION)
			PS_TRY(bind_action(pipeline, program, &program->instructions[i]));
		else
			bind_transfer(pipeline, program, &program->instructions[i]);
	}
	return PS_OK;
}
