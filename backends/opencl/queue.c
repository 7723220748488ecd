/* A queue: the ring of commands, the thread that submits them and the thread that completes them. */
#include "backends/opencl/opencl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a command ends with when it is over: the message stands for the calling thread. */
static ps_status fault_status(const struct cl_fault *fault)
{
	if (fault->found[0] == CL_NO_FAULT)
		return PS_OK;
	char where[64] = "";
	int64_t at = fault->found[0];
	if (fault->time)
		snprintf(where, sizeof where, "row %" PRId64 ", position %" PRId64, at / fault->time, at % fault->time);
	else
		snprintf(where, sizeof where, "row %" PRId64, at);
	return ps_fail(PS_EINVAL, "%s: %s has %s %d, which should be at least 0 and below %" PRId64, fault->op, where,
	               fault->what, (int)fault->found[1], fault->bound);
}

/* Waits for the end of one command that OpenCL was given; what became of it. */
static ps_status await(const struct cl_queue *q, struct cl_flight *item)
{
	/* What went wrong elsewhere has its message there; here OpenCL knows that something did. */
	ps_status status = ps_event_wait(item->after, -1);
	if (item->event) {
		cl_int error = clWaitForEvents(1, &item->event), end = CL_COMPLETE;
		if (error == CL_SUCCESS)
			error = clGetEventInfo(item->event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof end, &end, NULL);
		/* A wait that was refused says nothing of the command: it may run, and its memory is in use. */
		if (error != CL_SUCCESS)
			clFinish(q->cl);
		if (error == CL_SUCCESS && end < 0)
			error = end;
		if (error != CL_SUCCESS && status == PS_OK)
			status = ps_fail(ps__cl_status(error), "%s: a command of queue %s failed: %s",
			                 q->queue->device->info.name, q->queue->label, ps__cl_error_name(error));
	}
	if (item->fault && status == PS_OK)
		status = fault_status(item->fault);
	free(item->fault);
	return status;
}

/* The command is over and out of the flight, where other queues might take hold of its event. */
static void complete(struct cl_queue *q, struct cl_flight *item)
{
	ps_timeline *timeline = &q->queue->timeline;
	if (item->event)
		clReleaseEvent(item->event);
	if (item->stamp && ps__timeline_status(timeline) == PS_OK)
		*item->stamp = ps_clock_ns();
	ps__timeline_complete(timeline, item->value);
}

static void *complete_main(void *argument)
{
	struct cl_queue *q = argument;
	for (;;) {
		pthread_mutex_lock(&q->mutex);
		while (q->flight_count == 0 && !q->ended)
			pthread_cond_wait(&q->departed, &q->mutex);
		bool some = q->flight_count > 0;
		struct cl_flight item = q->flight[q->flight_head];
		pthread_mutex_unlock(&q->mutex);
		if (!some)
			return NULL;
		ps_status status = await(q, &item);
		if (status != PS_OK)
			ps__timeline_fail(&q->queue->timeline, item.value, status);
		pthread_mutex_lock(&q->mutex);
		q->flight_head = (q->flight_head + 1) % CL_FLIGHT;
		q->flight_count--;
		pthread_cond_signal(&q->landed);
		pthread_mutex_unlock(&q->mutex);
		complete(q, &item);
	}
}

/* Hands what the runner left to the completer, waiting for room. */
static void take_off(struct cl_queue *q, uint64_t value)
{
	struct cl_flight item = {q->event, value, q->stamp, q->fault, q->after};
	q->event = NULL;
	q->stamp = NULL;
	q->fault = NULL;
	q->after = (ps_event){0};
	pthread_mutex_lock(&q->mutex);
	while (q->flight_count == CL_FLIGHT)
		pthread_cond_wait(&q->landed, &q->mutex);
	q->flight[(q->flight_head + q->flight_count++) % CL_FLIGHT] = item;
	q->submitted = value;
	pthread_cond_broadcast(&q->departed);
	pthread_mutex_unlock(&q->mutex);
}

static void wait_landed(struct cl_queue *q)
{
	pthread_mutex_lock(&q->mutex);
	while (q->flight_count > 0)
		pthread_cond_wait(&q->landed, &q->mutex);
	pthread_mutex_unlock(&q->mutex);
}

ps_status ps__cl_settle(struct cl_queue *q)
{
	cl_int error = clFinish(q->cl);
	return error == CL_SUCCESS ? PS_OK : ps__cl_fail(q->queue->device->info.name, "clFinish", error);
}

/* The queue of an event, if OpenCL can wait for it on the same context; else NULL. */
static struct cl_queue *neighbour(const struct cl_queue *q, ps_event event)
{
	const ps_queue *other = event.timeline->queue;
	if (q->device->serial || !other || other->device->backend->queue_wait != ps__cl_queue_wait)
		return NULL;
	struct cl_queue *o = other->impl;
	return o->device == q->device ? o : NULL;
}

/*
 * The OpenCL event that ends with the point `value`, once OpenCL was given the commands up to there; NULL when nothing
 * of them is left to wait for. The caller releases it.
 */
static cl_event event_at(struct cl_queue *q, uint64_t value)
{
	cl_event event = NULL;
	pthread_mutex_lock(&q->mutex);
	while (q->submitted < value)
		pthread_cond_wait(&q->departed, &q->mutex);
	for (size_t i = q->flight_count; i > 0 && !event; i--) {
		const struct cl_flight *item = &q->flight[(q->flight_head + i - 1) % CL_FLIGHT];
		if (item->value <= value)
			event = item->event;
	}
	if (event && clRetainEvent(event) != CL_SUCCESS)
		event = NULL;
	pthread_mutex_unlock(&q->mutex);
	return event;
}

/* A failed flush shows in the events. */
static ps_status wait_runner(struct cl_queue *q, const void *arguments)
{
	const ps_event *after = arguments;
	struct cl_queue *other = neighbour(q, *after);
	cl_event event = other ? event_at(other, after->value) : NULL, end;
	if (!event) {
		clFlush(q->cl);
		return ps_event_wait(*after, -1);
	}
	clFlush(other->cl);
	cl_int error = clEnqueueBarrierWithWaitList(q->cl, 1, &event, &end);
	clReleaseEvent(event);
	PS_TRY(ps__cl_enqueued(q, "wait", error, end));
	q->after = *after;
	return PS_OK;
}

struct run {
	struct cl_queue *q;
	const struct cl_command *command;
};

/* An implementation for one thread finishes here, so that the completer has nothing to ask of it. */
static ps_status run(void *argument)
{
	const struct run *r = argument;
	struct cl_queue *q = r->q;
	ps_status status = r->command->runner(q, r->command->arguments);
	if (!q->device->serial || !q->event)
		return status;
	ps_status end = ps__cl_settle(q);
	clReleaseEvent(q->event);
	q->event = NULL;
	return status == PS_OK ? end : status;
}

/* Runs one command; a failure is recorded when all that came before is over, so that the first one counts. */
static void submit(struct cl_queue *q, const struct cl_command *command)
{
	ps_timeline *timeline = &q->queue->timeline;
	if (ps__timeline_status(timeline) == PS_OK) {
		ps_status status;
		if (command->runner == wait_runner)
			status = wait_runner(q, command->arguments);
		else
			status = ps__cl_call(q->device, run, &(struct run){q, command});
		if (status != PS_OK) {
			wait_landed(q);
			ps__timeline_fail(timeline, command->value, status);
		}
	}
	take_off(q, command->value);
}

static bool take(struct cl_queue *q, struct cl_command *command)
{
	pthread_mutex_lock(&q->mutex);
	while (q->count == 0 && !q->stop)
		pthread_cond_wait(&q->arrived, &q->mutex);
	bool some = q->count > 0;
	if (some) {
		*command = q->ring[q->head];
		q->head = (q->head + 1) % q->capacity;
		q->count--;
	} else {
		q->ended = true;
		pthread_cond_broadcast(&q->departed);
	}
	pthread_mutex_unlock(&q->mutex);
	return some;
}

static void *submit_main(void *argument)
{
	struct cl_queue *q = argument;
	struct cl_command command;
	while (take(q, &command))
		submit(q, &command);
	return NULL;
}

static bool grow(struct cl_queue *q)
{
	size_t capacity = q->capacity ? q->capacity * 2 : 64;
	struct cl_command *ring = malloc(capacity * sizeof *ring);
	if (!ring)
		return false;
	for (size_t i = 0; i < q->count; i++)                   /* There are commands only where there is a ring. */
		ring[i] = q->ring[(q->head + i) % q->capacity]; /* NOLINT(clang-analyzer-core.DivideZero) */
	free(q->ring);
	q->ring = ring;
	q->capacity = capacity;
	q->head = 0;
	return true;
}

ps_status ps__cl_submit(ps_queue *queue, cl_runner runner, const void *arguments, size_t bytes)
{
	if (bytes > CL_ARGUMENT_BYTES)
		return ps_fail(PS_EINTERNAL, "%zu bytes of arguments do not fit into a command", bytes);
	if (queue->dry)
		return PS_OK;
	struct cl_queue *q = queue->impl;
	pthread_mutex_lock(&q->mutex);
	if (q->count == q->capacity && !grow(q)) {
		pthread_mutex_unlock(&q->mutex);
		return ps_fail(PS_ENOMEM, "out of memory for the commands of queue %s", queue->label);
	}
	struct cl_command *command = &q->ring[(q->head + q->count++) % q->capacity];
	command->runner = runner;
	command->value = ps__timeline_next(&queue->timeline);
	memcpy(command->arguments, arguments, bytes);
	pthread_cond_signal(&q->arrived);
	pthread_mutex_unlock(&q->mutex);
	return PS_OK;
}

ps_status ps__cl_queue_wait(ps_queue *queue, ps_event event)
{
	return ps__cl_submit(queue, wait_runner, &event, sizeof event);
}

ps_status ps__cl_enqueued(struct cl_queue *q, const char *what, cl_int error, cl_event event)
{
	if (error != CL_SUCCESS)
		return ps__cl_fail(q->queue->device->info.name, what, error);
	if (q->event)
		clReleaseEvent(q->event);
	q->event = event;
	return PS_OK;
}

ps_status ps__cl_scratch(struct cl_queue *q, int which, size_t bytes, cl_mem *out)
{
	if (bytes > q->scratch_bytes[which]) {
		cl_int error;
		cl_mem memory = clCreateBuffer(q->device->context, CL_MEM_READ_WRITE, bytes, NULL, &error);
		if (error != CL_SUCCESS)
			return ps_fail(ps__cl_status(error), "%s has no room for %zu bytes of working memory: %s",
			               q->queue->device->info.name, bytes, ps__cl_error_name(error));
		/* OpenCL keeps the old piece until the commands that use it are done. */
		if (q->scratch[which])
			ps__cl_release(q->device, q->scratch[which]);
		q->scratch[which] = memory;
		q->scratch_bytes[which] = bytes;
	}
	*out = q->scratch[which];
	return PS_OK;
}

static ps_status release_parts(void *argument)
{
	struct cl_queue *q = argument;
	for (int wide = 0; wide < 2; wide++)
		for (int k = 0; k < CL_KERNEL_COUNT; k++)
			if (q->kernels[wide][k])
				clReleaseKernel(q->kernels[wide][k]);
	for (int i = 0; i < CL_SCRATCH; i++)
		if (q->scratch[i])
			ps__cl_release(q->device, q->scratch[i]);
	if (q->range)
		ps__cl_release(q->device, q->range);
	if (q->cl)
		clReleaseCommandQueue(q->cl);
	return PS_OK;
}

/* What was made so far of a queue without threads. */
static void free_parts(struct cl_queue *q)
{
	/* Only a thread that cannot be started makes this fail, and then there are no parts. */
	(void)ps__cl_call(q->device, release_parts, q);
	free(q->ring);
	free(q);
}

static ps_status make_parts(void *argument)
{
	struct cl_queue *q = argument;
	cl_int error;
	if (!grow(q))
		return ps_fail(PS_ENOMEM, "out of memory for queue %s", q->queue->label);
	q->cl = clCreateCommandQueue(q->device->context, q->device->id, 0, &error);
	if (error == CL_SUCCESS)
		q->range = clCreateBuffer(q->device->context, CL_MEM_READ_WRITE, 2 * sizeof(cl_int), NULL, &error);
	return error == CL_SUCCESS ? PS_OK : ps__cl_fail(q->queue->device->info.name, "no command queue", error);
}

static void stop(struct cl_queue *q)
{
	pthread_mutex_lock(&q->mutex);
	q->stop = true;
	pthread_cond_signal(&q->arrived);
	pthread_mutex_unlock(&q->mutex);
	pthread_join(q->submitter, NULL);
}

static int start_threads(struct cl_queue *q)
{
	int error = pthread_create(&q->submitter, NULL, submit_main, q);
	if (error)
		return error;
	error = pthread_create(&q->completer, NULL, complete_main, q);
	if (error)
		stop(q);
	return error;
}

static int start(struct cl_queue *q)
{
	pthread_cond_t *const conditions[] = {&q->arrived, &q->departed, &q->landed};
	int made = 0, error = pthread_mutex_init(&q->mutex, NULL);
	if (error)
		return error;
	while (made < 3 && !error) {
		error = pthread_cond_init(conditions[made], NULL);
		made += !error;
	}
	if (!error)
		error = start_threads(q);
	if (!error)
		return 0;
	while (made > 0)
		pthread_cond_destroy(conditions[--made]);
	pthread_mutex_destroy(&q->mutex);
	return error;
}

ps_status ps__cl_queue_create(ps_queue *queue)
{
	struct cl_queue *q = calloc(1, sizeof *q);
	if (!q)
		return ps_fail(PS_ENOMEM, "out of memory for queue %s", queue->label);
	q->queue = queue;
	q->device = queue->device->impl;
	ps_status status = ps__cl_call(q->device, make_parts, q);
	if (status == PS_OK) {
		int error = start(q);
		if (error)
			status = ps_fail(PS_ENOMEM, "cannot start the threads of queue %s: %s", queue->label,
			                 strerror(error));
	}
	if (status != PS_OK) {
		free_parts(q);
		return status;
	}
	queue->impl = q;
	return PS_OK;
}

void ps__cl_queue_destroy(ps_queue *queue)
{
	struct cl_queue *q = queue->impl;
	stop(q);
	pthread_join(q->completer, NULL);
	pthread_cond_destroy(&q->arrived);
	pthread_cond_destroy(&q->departed);
	pthread_cond_destroy(&q->landed);
	pthread_mutex_destroy(&q->mutex);
	free_parts(q);
}
