/* Enqueues a run: every instruction of its program, in order. Nothing here depends on the schedule, and nothing waits.
 */
#include "pipeline/internal.h"
#include "pipeline/shadow.h"

#include "core/backend.h"

#include <string.h>

static ps_status enqueue_action(ps_pipeline *pipeline, struct run *run, int index)
{
	struct program *program = run->program;
	struct marks *marks = run->marks;
	uint32_t step = run->batch.step;
	const struct instruction *instruction = &program->instructions[index];
	ps_queue *queue = pipeline->ranks[instruction->rank].queue;
	marks->begun[index] = ps_queue_record(queue).value;
	for (int i = 0; i < instruction->wait_count; i++)
		PS_TRY(ps_queue_wait(queue, marks->events[program->waits[instruction->wait_first + i]]));
	bool trace = pipeline->config.trace;
	if (trace)
		PS_TRY(ps_queue_timestamp(queue, &program->times[2 * index]));
	marks->started[index] = ps_queue_record(queue).value;
	ps_status status = ps__shadow_checks(pipeline, instruction->action.stage)
	                           ? ps__shadow_submit(pipeline, program, index, step)
	                           : ps_list_submit(instruction->list, step);
	/* Also of an action that was not enqueued to its end, for what is said of a stall in it. */
	marks->events[index] = ps_queue_record(queue);
	PS_TRY(status);
	if (trace)
		PS_TRY(ps_queue_timestamp(queue, &program->times[2 * index + 1]));
	marks->events[index] = ps_queue_record(queue);
	return PS_OK;
}

ps_status ps__send(ps_pipeline *pipeline, const struct program *program, int index, ps_event *done)
{
	const struct instruction *instruction = &program->instructions[index];
	return ps_link_send(instruction->link, instruction->to, instruction->from, program->transfer_waits,
	                    instruction->wait_count, pipeline->config.trace ? &program->transfers[index] : NULL, done);
}

static ps_status enqueue_transfer(ps_pipeline *pipeline, struct run *run, int index)
{
	struct program *program = run->program;
	struct marks *marks = run->marks;
	const struct instruction *instruction = &program->instructions[index];
	for (int i = 0; i < instruction->wait_count; i++)
		program->transfer_waits[i] = marks->events[program->waits[instruction->wait_first + i]];
	/* The first wait is for the action that made the tensor; of an empty one, that is all there is to wait for. */
	if (program->sizes[instruction->action.micro_batch] == 0) {
		marks->events[index] = program->transfer_waits[0];
		return PS_OK;
	}
	int to = instruction->action.stage + (instruction->action.kind == PS_ACTION_F ? 1 : -1);
	return ps__shadow_checks(pipeline, to) ? ps__shadow_send(pipeline, program, index, &marks->events[index])
	                                       : ps__send(pipeline, program, index, &marks->events[index]);
}

static ps_status enqueue_instruction(ps_pipeline *pipeline, struct run *run, int index)
{
	ps_status status = run->program->instructions[index].kind == INSTRUCTION_ACTION
	                           ? enqueue_action(pipeline, run, index)
	                           : enqueue_transfer(pipeline, run, index);
	/* A shadow whose step does not get on is no refusal. */
	return status == PS_OK || status == PS_ESTALL ? status
	                                              : ps__explain_refusal(pipeline, run->program, index, status);
}

static ps_queue *queue_of_stage(const ps_pipeline *pipeline, int stage)
{
	return pipeline->ranks[pipeline->stages[stage].rank].queue;
}

static ps_tensor flat(ps_tensor whole, int64_t count)
{
	return ps_tensor_slice(whole, 0, 0, count);
}

ps_status ps__run_enqueue_edge(ps_pipeline *pipeline, struct run *run, enum edge edge)
{
	int stage = edge == EDGE_TOKENS ? 0 : pipeline->stage_count - 1;
	int64_t count = run->batch.rows * run->batch.time;
	ps_queue *queue = queue_of_stage(pipeline, stage);
	void *host = run->edges[edge].address;
	ps_status status;
	run->edge_begun[edge] = ps_queue_record(queue).value;
	if (edge == EDGE_TOKENS)
		status = ps_queue_write(queue, flat(pipeline->tokens, count), host);
	else if (edge == EDGE_TARGETS)
		status = ps_queue_write(queue, flat(pipeline->targets, count), host);
	else
		status = ps_queue_read(queue, host, flat(pipeline->losses, count));
	run->edge_done[edge] = ps_queue_record(queue);
	return status == PS_OK ? PS_OK : ps__explain_edge(pipeline, edge, status);
}

static ps_status wait_for_run(ps_pipeline *pipeline, const struct run *before)
{
	for (int r = 0; r < pipeline->rank_count; r++)
		for (int other = 0; other < pipeline->rank_count; other++)
			if (other != r)
				PS_TRY(ps_queue_wait(pipeline->ranks[r].queue, before->ends[other]));
	return PS_OK;
}

ps_status ps__run_enqueue(ps_pipeline *pipeline, struct run *run, const struct run *before)
{
	struct program *program = run->program;
	size_t count = (size_t)program->instruction_count;
	memset(run->marks->events, 0, count * sizeof *run->marks->events);
	memset(run->edge_done, 0, sizeof run->edge_done);
	if (pipeline->config.trace) {
		memset(program->times, 0, 2 * count * sizeof *program->times);
		memset(program->transfers, 0, count * sizeof *program->transfers);
	}
	if (before)
		PS_TRY(wait_for_run(pipeline, before));
	PS_TRY(ps__run_enqueue_edge(pipeline, run, EDGE_TOKENS));
	PS_TRY(ps__run_enqueue_edge(pipeline, run, EDGE_TARGETS));
	for (int i = 0; i < program->instruction_count; i++)
		PS_TRY(enqueue_instruction(pipeline, run, i));
	PS_TRY(ps__run_enqueue_edge(pipeline, run, EDGE_LOSSES));
	for (int r = 0; r < pipeline->rank_count; r++)
		run->ends[r] = ps_queue_record(pipeline->ranks[r].queue);
	return PS_OK;
}
