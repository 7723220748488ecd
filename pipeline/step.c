/*
 * The life of runs: a batch is submitted, its losses are collected when it is through. Two may be on their way, so that
 * the devices have the next step's work before the host has looked at the last one's numbers.
 */
#include "pipeline/internal.h"
#include "pipeline/shadow.h"

#include "core/backend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* How often the host looks for progress. */
#define WATCH_NS INT64_C(20000000)
/* And how often, after a failure, whether all have stopped. */
#define DRAIN_NS 100000L
/* How long, after a failure, nothing may move before that is told. */
#define STOP_S 60.0
/* How long what has stalled may go on when it is to be destroyed: it may just have been slow. */
#define GRACE_S 5.0
/* A look that comes later than this counts as no later: the whole process was kept from running, not a device. */
#define LONGEST_LOOK_NS INT64_C(1000000000)

ps_status ps__runs_allocate(ps_pipeline *pipeline)
{
	const ps_tensor *const edges[EDGE_COUNT] = {&pipeline->tokens, &pipeline->targets, &pipeline->losses};
	pipeline->gathered = calloc(2 * (size_t)pipeline->rank_count, sizeof *pipeline->gathered);
	if (!pipeline->gathered)
		return ps_fail(PS_ENOMEM, "out of memory for a pipeline");
	for (int i = 0; i < PS_RUNS; i++) {
		struct run *run = &pipeline->runs[i];
		run->ends = calloc((size_t)pipeline->rank_count, sizeof *run->ends);
		if (!run->ends)
			return ps_fail(PS_ENOMEM, "out of memory for a pipeline");
		for (int e = 0; e < EDGE_COUNT; e++) {
			uint64_t bytes = (uint64_t)ps_tensor_count(*edges[e]) * ps_dtype_bytes(edges[e]->dtype);
			ps_device *device = ps_buffer_device(edges[e]->buffer);
			PS_TRY(ps__host_memory_create(&run->edges[e], &device, 1, bytes));
		}
	}
	return PS_OK;
}

void ps__runs_free(ps_pipeline *pipeline)
{
	for (int i = 0; i < PS_RUNS; i++) {
		for (int e = 0; e < EDGE_COUNT; e++)
			ps__host_memory_destroy(&pipeline->runs[i].edges[e]);
		free(pipeline->runs[i].ends);
	}
	free(pipeline->gathered);
}

static struct run *run_at(ps_pipeline *pipeline, int index)
{
	return &pipeline->runs[(pipeline->run_first + index) % PS_RUNS];
}

/* Queues of the ranks, and of the boundaries two for each direction. */
static int place_count(const ps_pipeline *pipeline)
{
	return pipeline->rank_count + 4 * (pipeline->stage_count - 1);
}

/* The end of all that was enqueued at one of them; the zero event where a link has one queue, or none is needed. */
static ps_event end_at(const ps_pipeline *pipeline, int place)
{
	if (place < pipeline->rank_count)
		return pipeline->ranks[place].queue ? ps_queue_record(pipeline->ranks[place].queue) : (ps_event){0};
	int at = place - pipeline->rank_count;
	const struct boundary *boundary = &pipeline->boundaries[at / 4];
	const ps_link *link = at / 2 % 2 ? boundary->backward : boundary->forward;
	ps_event ends[2] = {{0}};
	if (link)
		ps_link_ends(link, ends);
	return ends[at % 2];
}

/* A number that grows as long as anything gets done. */
static uint64_t progress(const ps_pipeline *pipeline)
{
	uint64_t sum = 0;
	for (int i = 0; i < place_count(pipeline); i++) {
		const ps_timeline *timeline = end_at(pipeline, i).timeline;
		sum += timeline ? atomic_load(&timeline->completed) : 0;
	}
	return sum;
}

/* Time since *last, which becomes now, as far as it counts as waiting. */
static int64_t waited(int64_t *last)
{
	int64_t now = ps_clock_ns(), passed = now - *last;
	*last = now;
	return passed < LONGEST_LOOK_NS ? passed : LONGEST_LOOK_NS;
}

bool ps__patience_ends(const ps_pipeline *pipeline, struct ps__patience *patience, bool busy)
{
	uint64_t now = progress(pipeline);
	bool moved = busy || now != patience->seen;
	int64_t passed = waited(&patience->last);
	patience->still = moved ? 0 : patience->still + (double)passed;
	patience->seen = now;
	double limit = patience->limit_s > 0 ? patience->limit_s : pipeline->config.stall_timeout_s;
	return patience->still > limit * 1e9;
}

/*
 * The status of a rank that has failed. It is this run's failure, as long as this run is not through on all ranks: no
 * rank begins the next one before.
 */
static ps_status first_failure(const ps_pipeline *pipeline, const struct run *run)
{
	for (int r = 0; r < pipeline->rank_count; r++)
		PS_TRY(ps__timeline_status(run->ends[r].timeline));
	return PS_OK;
}

/* Waits until every rank is done or one has failed. PS_ESTALL when nothing moves for too long. */
static ps_status watch(const ps_pipeline *pipeline, const struct run *run)
{
	struct ps__patience patience = {.last = ps_clock_ns()};
	for (int r = 0; r < pipeline->rank_count; r++) {
		while (ps_event_wait(run->ends[r], WATCH_NS) != PS_OK) {
			PS_TRY(first_failure(pipeline, run));
			if (ps__patience_ends(pipeline, &patience, false))
				return PS_ESTALL;
		}
	}
	return PS_OK;
}

/* Has everything that was enqueued come to its end, one way or the other? */
static bool idle(const ps_pipeline *pipeline)
{
	for (int i = 0; i < place_count(pipeline); i++) {
		ps_event end = end_at(pipeline, i);
		if (end.timeline && atomic_load(&end.timeline->completed) < end.value)
			return false;
	}
	return true;
}

/* Waits until all have stopped; where nothing moves for limit_s, or for 0 the stall time, the pipeline has stalled. */
static bool drain(ps_pipeline *pipeline, double limit_s)
{
	struct ps__patience patience = {.limit_s = limit_s, .last = ps_clock_ns()};
	while (!idle(pipeline)) {
		if (ps__patience_ends(pipeline, &patience, false)) {
			pipeline->stalled = true;
			return false;
		}
		nanosleep(&(const struct timespec){.tv_nsec = DRAIN_NS}, NULL);
	}
	return true;
}

bool ps_pipeline_drain(ps_pipeline *pipeline)
{
	return drain(pipeline, pipeline->stalled ? GRACE_S : 0);
}

void ps__recover(ps_pipeline *pipeline, ps_status status)
{
	for (int r = 0; r < pipeline->rank_count; r++) {
		ps_timeline *timeline = ps_queue_record(pipeline->ranks[r].queue).timeline;
		ps__timeline_fail(timeline, atomic_load(&timeline->completed) + 1, status);
	}
	if (!drain(pipeline, fmin(pipeline->config.stall_timeout_s, STOP_S)))
		return;
	pipeline->run_count = 0;
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

void ps__runs_settle(ps_pipeline *pipeline)
{
	/* What goes wrong is told to whoever collects the run. */
	if (pipeline->run_count > 0)
		(void)watch(pipeline, pipeline->last);
}

int64_t ps_pipeline_failures(const ps_pipeline *pipeline)
{
	return pipeline->failures;
}

int ps_pipeline_most_in_flight(const ps_pipeline *pipeline)
{
	/* Checks and times belong to one step at a time. */
	return pipeline->shadow || pipeline->config.trace ? 1 : PS_RUNS;
}

static ps_status check_usable(const ps_pipeline *pipeline)
{
	return pipeline->stalled ? ps_fail(PS_ESTALL, "the pipeline has stalled before and cannot be used any more")
	                         : PS_OK;
}

ps_status ps_pipeline_wait(ps_pipeline *pipeline, ps_event event)
{
	PS_TRY(check_usable(pipeline));
	struct ps__patience patience = {.last = ps_clock_ns()};
	while (!ps_event_done(event)) {
		if (ps_event_wait(event, WATCH_NS) != PS_OK && ps__patience_ends(pipeline, &patience, false)) {
			pipeline->stalled = true;
			return ps__explain_stall_between(pipeline);
		}
	}
	return ps_event_wait(event, 0);
}

static ps_status check_batch(const ps_pipeline *pipeline, bool training, const ps_batch *batch)
{
	int64_t rows = training ? pipeline->config.rows : pipeline->config.eval_rows;
	PS_TRY(check_usable(pipeline));
	if (!rows)
		return ps_fail(PS_EINVAL, "this pipeline was made without evaluation");
	if (batch->rows < 1 || batch->rows > rows || batch->time < 1 || batch->time > pipeline->config.time)
		return ps_fail(PS_EINVAL,
		               "a batch of %lld rows and %lld time steps; this pipeline takes 1 to %lld and 1 to %lld",
		               (long long)batch->rows, (long long)batch->time, (long long)rows,
		               (long long)pipeline->config.time);
	if (pipeline->run_count >= ps_pipeline_most_in_flight(pipeline))
		return ps_fail(PS_EINVAL, "%d %s on the way; collect the oldest one first", pipeline->run_count,
		               pipeline->run_count == 1 ? "step is" : "steps are");
	return PS_OK;
}

ps_status ps__check_alone(const ps_pipeline *pipeline)
{
	PS_TRY(check_usable(pipeline));
	if (pipeline->run_count > 0)
		return ps_fail(PS_EINVAL, "a step is on its way; collect it first");
	return PS_OK;
}

/* The run's own copy of the batch, which nobody changes while it is on its way. */
static void take_batch(struct run *run, const ps_batch *batch)
{
	size_t bytes = (size_t)(batch->rows * batch->time) * sizeof(int32_t);
	run->batch = *batch;
	run->batch.inputs = memcpy(run->edges[EDGE_TOKENS].address, batch->inputs, bytes);
	run->batch.targets = memcpy(run->edges[EDGE_TARGETS].address, batch->targets, bytes);
}

/* What a run that failed leaves: a message, and a pipeline that can be used again or has stalled. */
static ps_status give_up(ps_pipeline *pipeline, const struct run *run, ps_status status, bool enqueued)
{
	if (status == PS_ESTALL) {
		pipeline->stalled = true;
		return ps__explain_stall(pipeline, run, pipeline->config.stall_timeout_s);
	}
	if (enqueued)
		status = ps__explain_failure(pipeline, run, status);
	ps__recover(pipeline, status);
	return status;
}

static ps_status count_failure(ps_pipeline *pipeline, ps_status status)
{
	if (status != PS_OK && !pipeline->stalled)
		pipeline->failures++;
	return status;
}

static ps_status submit(ps_pipeline *pipeline, bool training, const ps_batch *batch)
{
	struct program *program;
	PS_TRY(check_batch(pipeline, training, batch));
	PS_TRY(ps__program_get(&program, pipeline, training, batch->rows, batch->time));
	int slot = (pipeline->run_first + pipeline->run_count) % PS_RUNS;
	struct run *run = &pipeline->runs[slot];
	run->program = program;
	run->marks = &program->marks[slot];
	run->begin_ns = ps_clock_ns();
	take_batch(run, batch);
	if (pipeline->shadow && training)
		PS_TRY(ps__shadow_begin(pipeline, batch->step));
	else if (pipeline->shadow)
		ps__shadow_rest(pipeline);
	pipeline->run_count++;
	const struct run *before = pipeline->run_count > 1 && !pipeline->joined ? pipeline->last : NULL;
	pipeline->last = run;
	pipeline->joined = false;
	ps_status status = ps__run_enqueue(pipeline, run, before);
	if (training)
		pipeline->step = batch->step;
	return status == PS_OK ? PS_OK : count_failure(pipeline, give_up(pipeline, run, status, false));
}

/* The sum of the batch's losses in the order of its rows, whatever the micro-batches were. */
static double sum_losses(const ps_pipeline *pipeline, const struct run *run)
{
	const void *losses = run->edges[EDGE_LOSSES].address;
	double sum = 0;
	for (int64_t i = 0; i < run->batch.rows * run->batch.time; i++)
		sum += pipeline->config.dtype == PS_F64 ? ((const double *)losses)[i]
		                                        : (double)((const float *)losses)[i];
	return sum;
}

static ps_status collect_oldest(ps_pipeline *pipeline, double *sum)
{
	struct run *run = run_at(pipeline, 0);
	ps_status status = watch(pipeline, run);
	if (status != PS_OK)
		return give_up(pipeline, run, status, true);
	pipeline->run_first = (pipeline->run_first + 1) % PS_RUNS;
	pipeline->run_count--;
	if (pipeline->shadow && run->program->training)
		PS_TRY(ps__shadow_end(pipeline, (double)(ps_clock_ns() - run->begin_ns) * 1e-9));
	*sum = sum_losses(pipeline, run);
	if (isfinite(*sum))
		return PS_OK;
	/* An op that differs from the reference explains more than the first value that is not finite. */
	PS_TRY(ps_pipeline_shadow_finish(pipeline));
	status = ps__explain_nonfinite(pipeline, run, *sum);
	/* A step behind it has learnt from the same weights; there is nothing to go on from. */
	pipeline->run_count = 0;
	return status;
}

static ps_status collect(ps_pipeline *pipeline, double *sum)
{
	return count_failure(pipeline, collect_oldest(pipeline, sum));
}

ps_status ps_pipeline_submit(ps_pipeline *pipeline, const ps_batch *batch)
{
	return submit(pipeline, true, batch);
}

ps_status ps_pipeline_collect(ps_pipeline *pipeline, double *loss)
{
	PS_TRY(check_usable(pipeline));
	if (pipeline->run_count == 0)
		return ps_fail(PS_EINVAL, "no step is on its way; submit one first");
	const struct run *run = run_at(pipeline, 0);
	double sum = 0, elements = (double)(run->batch.rows * run->batch.time);
	PS_TRY(collect(pipeline, &sum));
	*loss = sum / elements;
	return PS_OK;
}

ps_status ps_pipeline_train(ps_pipeline *pipeline, const ps_batch *batch, double *loss)
{
	PS_TRY(ps__check_alone(pipeline));
	PS_TRY(submit(pipeline, true, batch));
	return ps_pipeline_collect(pipeline, loss);
}

ps_status ps_pipeline_evaluate(ps_pipeline *pipeline, const ps_batch *batch, double *loss_sum)
{
	PS_TRY(ps__check_alone(pipeline));
	PS_TRY(submit(pipeline, false, batch));
	return collect(pipeline, loss_sum);
}

const ps_trace_span *ps_pipeline_spans(const ps_pipeline *pipeline, size_t *count)
{
	*count = 0;
	/* Where something still runs, times may be written at any moment. */
	if (!pipeline->last || pipeline->run_count > 0 || !pipeline->config.trace || pipeline->stalled)
		return NULL;
	struct program *program = pipeline->last->program;
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
