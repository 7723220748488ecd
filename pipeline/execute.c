/*
 * Runs a program: enqueues every instruction in order and waits for the end. Nothing here depends on the schedule,
 * and nothing blocks before everything has been enqueued.
 */
#include "pipeline/internal.h"
#include "pipeline/shadow.h"

#include "core/backend.h"

#include <math.h>
#include <string.h>
#include <time.h>

/* How often the host looks for progress. */
#define WATCH_NS INT64_C(20000000)
/* And how often, after a failure, whether all have stopped. */
#define DRAIN_NS 100000L
/* A look that comes later than this counts as no later: the whole process was kept from running, not a device. */
#define LONGEST_LOOK_NS INT64_C(1000000000)

static ps_status enqueue_action(ps_pipeline *pipeline, struct program *program, int index, uint32_t step)
{
	const struct instruction *instruction = &program->instructions[index];
	ps_queue *queue = pipeline->ranks[instruction->rank].queue;
	program->begun[index] = ps_queue_record(queue).value;
	for (int i = 0; i < instruction->wait_count; i++)
		PS_TRY(ps_queue_wait(queue, program->events[program->waits[instruction->wait_first + i]]));
	bool trace = pipeline->config.trace;
	if (trace)
		PS_TRY(ps_queue_timestamp(queue, &program->times[2 * index]));
	program->started[index] = ps_queue_record(queue).value;
	ps_status status = ps__shadow_checks(pipeline, instruction->action.stage)
	                           ? ps__shadow_submit(pipeline, program, index, step)
	                           : ps_list_submit(instruction->list, step);
	/* Also of an action that was not enqueued to its end, for what is said of a stall in it. */
	program->events[index] = ps_queue_record(queue);
	PS_TRY(status);
	if (trace)
		PS_TRY(ps_queue_timestamp(queue, &program->times[2 * index + 1]));
	program->events[index] = ps_queue_record(queue);
	return PS_OK;
}

ps_status ps__send(ps_pipeline *pipeline, const struct program *program, int index, ps_event *done)
{
	const struct instruction *instruction = &program->instructions[index];
	return ps_link_send(instruction->link, instruction->to, instruction->from, program->transfer_waits,
	                    instruction->wait_count, pipeline->config.trace ? &program->transfers[index] : NULL, done);
}

static ps_status enqueue_transfer(ps_pipeline *pipeline, struct program *program, int index)
{
	const struct instruction *instruction = &program->instructions[index];
	for (int i = 0; i < instruction->wait_count; i++)
		program->transfer_waits[i] = program->events[program->waits[instruction->wait_first + i]];
	/* The first wait is for the action that made the tensor; of an empty one, that is all there is to wait for. */
	if (program->sizes[instruction->action.micro_batch] == 0) {
		program->events[index] = program->transfer_waits[0];
		return PS_OK;
	}
	int to = instruction->action.stage + (instruction->action.kind == PS_ACTION_F ? 1 : -1);
	return ps__shadow_checks(pipeline, to) ? ps__shadow_send(pipeline, program, index, &program->events[index])
	                                       : ps__send(pipeline, program, index, &program->events[index]);
}

static ps_status enqueue_instruction(ps_pipeline *pipeline, struct program *program, int index, uint32_t step)
{
	ps_status status = program->instructions[index].kind == INSTRUCTION_ACTION
	                           ? enqueue_action(pipeline, program, index, step)
	                           : enqueue_transfer(pipeline, program, index);
	/* A shadow whose step does not get on is no refusal. */
	return status == PS_OK || status == PS_ESTALL ? status : ps__explain_refusal(pipeline, program, index, status);
}

static ps_queue *queue_of_stage(const ps_pipeline *pipeline, int stage)
{
	return pipeline->ranks[pipeline->stages[stage].rank].queue;
}

static ps_tensor flat(ps_tensor whole, int64_t count)
{
	return ps_tensor_slice(whole, 0, 0, count);
}

/* Copies the batch to the devices, or its losses from them. */
static ps_status enqueue_edge(ps_pipeline *pipeline, enum edge edge, const ps_batch *batch)
{
	int stage = edge == EDGE_TOKENS ? 0 : pipeline->stage_count - 1;
	int64_t count = batch->rows * batch->time;
	ps_queue *queue = queue_of_stage(pipeline, stage);
	ps_status status;
	pipeline->edge_begun[edge] = ps_queue_record(queue).value;
	if (edge == EDGE_TOKENS)
		status = ps_queue_write(queue, flat(pipeline->tokens, count), batch->inputs);
	else if (edge == EDGE_TARGETS)
		status = ps_queue_write(queue, flat(pipeline->targets, count), batch->targets);
	else
		status = ps_queue_read(queue, pipeline->host_losses, flat(pipeline->losses, count));
	pipeline->edge_done[edge] = ps_queue_record(queue);
	return status == PS_OK ? PS_OK : ps__explain_edge(pipeline, edge, status);
}

static ps_status enqueue(ps_pipeline *pipeline, struct program *program, const ps_batch *batch)
{
	size_t count = (size_t)program->instruction_count;
	memset(program->events, 0, count * sizeof *program->events);
	memset(pipeline->edge_done, 0, sizeof pipeline->edge_done);
	if (pipeline->config.trace) {
		memset(program->times, 0, 2 * count * sizeof *program->times);
		memset(program->transfers, 0, count * sizeof *program->transfers);
	}
	PS_TRY(enqueue_edge(pipeline, EDGE_TOKENS, batch));
	PS_TRY(enqueue_edge(pipeline, EDGE_TARGETS, batch));
	for (int i = 0; i < program->instruction_count; i++)
		PS_TRY(enqueue_instruction(pipeline, program, i, batch->step));
	return enqueue_edge(pipeline, EDGE_LOSSES, batch);
}

/* A number that grows as long as anything gets done. */
static uint64_t progress(const ps_pipeline *pipeline, const struct program *program)
{
	uint64_t sum = 0;
	for (int r = 0; r < pipeline->rank_count; r++)
		sum += atomic_load(&ps_queue_record(pipeline->ranks[r].queue).timeline->completed);
	for (int i = 0; i < program->instruction_count; i++)
		if (program->instructions[i].kind == INSTRUCTION_TRANSFER)
			sum += ps_event_done(program->events[i]);
	return sum;
}

/* Time since *last, which becomes now, as far as it counts as waiting. */
static int64_t waited(int64_t *last)
{
	int64_t now = ps_clock_ns(), passed = now - *last;
	*last = now;
	return passed < LONGEST_LOOK_NS ? passed : LONGEST_LOOK_NS;
}

bool ps__patience_ends(const ps_pipeline *pipeline, const struct program *program, struct ps__patience *patience,
                       bool busy)
{
	uint64_t now = progress(pipeline, program);
	bool moved = busy || now != patience->seen;
	int64_t passed = waited(&patience->last);
	patience->still = moved ? 0 : patience->still + (double)passed;
	patience->seen = now;
	return patience->still > pipeline->config.stall_timeout_s * 1e9;
}

/* Waits until every rank is done or one has failed. PS_ESTALL when nothing moves for too long. */
static ps_status watch(ps_pipeline *pipeline, const struct program *program)
{
	struct ps__patience patience = {.last = ps_clock_ns()};
	for (int r = 0; r < pipeline->rank_count; r++) {
		ps_event end = ps_queue_record(pipeline->ranks[r].queue);
		for (;;) {
			ps_status status = ps_event_wait(end, WATCH_NS);
			if (status == PS_OK)
				break;
			for (int other = 0; other < pipeline->rank_count; other++) {
				ps_event event = ps_queue_record(pipeline->ranks[other].queue);
				if (ps__timeline_status(event.timeline) != PS_OK)
					return ps__timeline_status(event.timeline);
			}
			if (ps__patience_ends(pipeline, program, &patience, false))
				return PS_ESTALL;
		}
	}
	return PS_OK;
}

/* Has everything that was enqueued come to its end, one way or the other? */
static bool idle(const ps_pipeline *pipeline, const struct program *program)
{
	for (int r = 0; r < pipeline->rank_count; r++) {
		ps_event end = ps_queue_record(pipeline->ranks[r].queue);
		if (atomic_load(&end.timeline->completed) < end.value)
			return false;
	}
	for (int i = 0; i < program->instruction_count; i++) {
		ps_event event = program->events[i];
		if (program->instructions[i].kind == INSTRUCTION_TRANSFER && event.timeline &&
		    atomic_load(&event.timeline->completed) < event.value)
			return false;
	}
	return true;
}

void ps__recover(ps_pipeline *pipeline, const struct program *program, ps_status status)
{
	for (int r = 0; r < pipeline->rank_count; r++) {
		ps_timeline *timeline = ps_queue_record(pipeline->ranks[r].queue).timeline;
		ps__timeline_fail(timeline, atomic_load(&timeline->completed) + 1, status);
	}
	double limit = pipeline->config.stall_timeout_s * 1e9, still = 0;
	int64_t last = ps_clock_ns();
	while (!idle(pipeline, program)) {
		still += (double)waited(&last);
		if (still > limit) {
			pipeline->stalled = true;
			return;
		}
		nanosleep(&(const struct timespec){.tv_nsec = DRAIN_NS}, NULL);
	}
	if (pipeline->shadow)
		ps__shadow_settle(pipeline);
	for (int r = 0; r < pipeline->rank_count; r++)
		ps_queue_reset(pipeline->ranks[r].queue);
	for (int s = 0; s + 1 < pipeline->stage_count; s++) {
		const struct boundary *boundary = &pipeline->boundaries[s];
		if (boundary->forward)
			ps_link_reset(boundary->forward);
		if (boundary->backward)
			ps_link_reset(boundary->backward);
	}
}

static ps_status run(ps_pipeline *pipeline, struct program *program, const ps_batch *batch)
{
	pipeline->last = program;
	ps_status status = enqueue(pipeline, program, batch);
	bool enqueued = status == PS_OK;
	if (enqueued)
		status = watch(pipeline, program);
	if (status == PS_OK)
		return PS_OK;
	if (status == PS_ESTALL) {
		pipeline->stalled = true;
		return ps__explain_stall(pipeline, program, pipeline->config.stall_timeout_s);
	}
	if (enqueued)
		status = ps__explain_failure(pipeline, program, status);
	ps__recover(pipeline, program, status);
	return status;
}

ps_status ps__program_run(ps_pipeline *pipeline, struct program *program, const ps_batch *batch)
{
	if (pipeline->stalled)
		return ps_fail(PS_ESTALL, "the pipeline has stalled before and cannot be used any more");
	if (!pipeline->shadow)
		return run(pipeline, program, batch);
	if (!program->training) {
		ps__shadow_rest(pipeline);
		return run(pipeline, program, batch);
	}
	int64_t begin = ps_clock_ns();
	PS_TRY(ps__shadow_begin(pipeline, batch->step));
	PS_TRY(run(pipeline, program, batch));
	return ps__shadow_end(pipeline, (double)(ps_clock_ns() - begin) * 1e-9);
}

static ps_status check_batch(const ps_pipeline *pipeline, const ps_batch *batch, int64_t rows)
{
	if (!rows)
		return ps_fail(PS_EINVAL, "this pipeline was made without evaluation");
	if (batch->rows < 1 || batch->rows > rows || batch->time < 1 || batch->time > pipeline->config.time)
		return ps_fail(PS_EINVAL,
		               "a batch of %lld rows and %lld time steps; this pipeline takes 1 to %lld and 1 to %lld",
		               (long long)batch->rows, (long long)batch->time, (long long)rows,
		               (long long)pipeline->config.time);
	return PS_OK;
}

/* The sum of the batch's losses in the order of its rows, whatever the micro-batches were. */
static double sum_losses(const ps_pipeline *pipeline, int64_t count)
{
	double sum = 0;
	for (int64_t i = 0; i < count; i++)
		sum += pipeline->config.dtype == PS_F64 ? ((const double *)pipeline->host_losses)[i]
		                                        : (double)((const float *)pipeline->host_losses)[i];
	return sum;
}

static ps_status run_batch(ps_pipeline *pipeline, bool training, const ps_batch *batch, double *sum)
{
	struct program *program;
	PS_TRY(check_batch(pipeline, batch, training ? pipeline->config.rows : pipeline->config.eval_rows));
	PS_TRY(ps__program_get(&program, pipeline, training, batch->rows, batch->time));
	PS_TRY(ps__program_run(pipeline, program, batch));
	if (training)
		pipeline->step = batch->step;
	*sum = sum_losses(pipeline, batch->rows * batch->time);
	if (isfinite(*sum))
		return PS_OK;
	/* An op that differs from the reference explains more than the first value that is not finite. */
	PS_TRY(ps_pipeline_shadow_finish(pipeline));
	return ps__explain_nonfinite(pipeline, program, batch, *sum);
}

ps_status ps_pipeline_train(ps_pipeline *pipeline, const ps_batch *batch, double *loss)
{
	double sum;
	PS_TRY(run_batch(pipeline, true, batch, &sum));
	*loss = sum / (double)(batch->rows * batch->time);
	return PS_OK;
}

ps_status ps_pipeline_evaluate(ps_pipeline *pipeline, const ps_batch *batch, double *loss_sum)
{
	return run_batch(pipeline, false, batch, loss_sum);
}

const ps_trace_span *ps_pipeline_spans(const ps_pipeline *pipeline, size_t *count)
{
	struct program *program = pipeline->last;
	*count = 0;
	/* Where something still runs, times may be written at any moment. */
	if (!program || !pipeline->config.trace || pipeline->stalled)
		return NULL;
	for (int i = 0; i < program->instruction_count; i++) {
		const struct instruction *instruction = &program->instructions[i];
		bool transfer = instruction->kind == INSTRUCTION_TRANSFER;
		ps_trace_span span = {
		        .transfer = transfer,
		        .rank = instruction->rank,
		        .action = instruction->action,
		        .begin_ns = transfer ? program->transfers[i].begin : program->times[2 * i],
		        .end_ns = transfer ? program->transfers[i].end : program->times[2 * i + 1],
		};
		if (program->predicted) {
			span.predicted_begin_s = program->predicted[2 * i];
			span.predicted_end_s = program->predicted[2 * i + 1];
		}
		/* After a failure there are some that did not end. */
		if (span.end_ns)
			program->spans[(*count)++] = span;
	}
	return program->spans;
}
