/* A queue: the ring of commands, the thread that enqueues them on the stream and the thread that completes them. */
#include "backends/cuda/cuda.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *device_name(const struct cuda_queue *q)
{
	return q->queue->device->info.name;
}

/* --- the completer ---------------------------------------------------------------------------------------------- */

static ps_status fault_status(const struct ps_cuda_fault *fault, const struct cuda_check *check)
{
	char where[64];
	if (check->time)
		snprintf(where, sizeof where, "row %" PRId64 ", position %" PRId64, fault->index / check->time,
		         fault->index % check->time);
	else
		snprintf(where, sizeof where, "row %" PRId64, fault->index);
	return ps_fail(PS_EINVAL, "%s: %s has %s %" PRId32 ", which should be at least 0 and below %" PRId64, check->op,
	               where, check->what, fault->value, check->bound);
}

/* Waits until the stream has passed the flight. */
static ps_status pass(struct cuda_queue *q, const struct cuda_flight *flight)
{
	char what[128];
	cudaError_t error = flight->error;
	if (error == cudaSuccess && flight->recorded)
		error = cudaEventSynchronize(flight->event);
	if (error == cudaSuccess)
		return PS_OK;
	/* Whatever it says, nothing of the flight runs after it. */
	if (!flight->recorded && cudaStreamSynchronize(q->stream) != cudaSuccess)
		(void)cudaGetLastError();
	uint64_t count = flight->value - flight->first + 1;
	if (count > 1)
		snprintf(what, sizeof what, "one of %" PRIu64 " commands of queue %s", count, q->queue->label);
	else
		snprintf(what, sizeof what, "a command of queue %s", q->queue->label);
	return ps__cuda_fail(device_name(q), what, error);
}

static void land(struct cuda_queue *q, struct cuda_flight *flight)
{
	ps_timeline *timeline = &q->queue->timeline;
	uint64_t at = flight->first;
	bool stopped = false;
	ps_status status = pass(q, flight);
	if (status == PS_OK && flight->after.timeline)
		status = ps_event_wait(flight->after, -1);
	if (status == PS_OK && flight->checks && flight->fault->index >= 0) {
		const struct cuda_check *check = &flight->checks[flight->fault->check];
		status = fault_status(flight->fault, check);
		at = flight->checks_from + check->at;
		stopped = true;
	}
	if (status != PS_OK)
		ps__timeline_fail(timeline, at, status);
	if (stopped) {
		/* After the failure: whoever sees the queue well again has to clear the flag. */
		pthread_mutex_lock(&q->mutex);
		q->stopped = true;
		pthread_mutex_unlock(&q->mutex);
	}
	if (ps__timeline_status(timeline) == PS_OK) {
		if (flight->bounced)
			memcpy(flight->read_to, flight->bounce, flight->read_bytes);
		if (flight->stamp)
			*flight->stamp = ps__cuda_stamp_time(q, flight);
	}
	ps__timeline_complete(timeline, flight->value);
}

static void *complete_main(void *argument)
{
	struct cuda_queue *q = argument;
	if (cudaSetDevice(q->device->ordinal) != cudaSuccess)
		(void)cudaGetLastError(); /* waiting for events does not need it */
	pthread_mutex_lock(&q->mutex);
	for (;;) {
		while (q->flight_count == 0 && !q->ended)
			pthread_cond_wait(&q->cond, &q->mutex);
		if (q->flight_count == 0)
			break;
		struct cuda_flight *flight = &q->flight[q->flight_head];
		pthread_mutex_unlock(&q->mutex);
		land(q, flight);
		pthread_mutex_lock(&q->mutex);
		q->flight_head = (q->flight_head + 1) % CUDA_FLIGHTS;
		q->flight_count--;
		pthread_cond_broadcast(&q->cond);
	}
	pthread_mutex_unlock(&q->mutex);
	return NULL;
}

/* --- the submitter ---------------------------------------------------------------------------------------------- */

struct cuda_flight *ps__cuda_flight(struct cuda_queue *q, bool alone)
{
	if (!q->open) {
		pthread_mutex_lock(&q->mutex);
		while (q->flight_count == CUDA_FLIGHTS)
			pthread_cond_wait(&q->cond, &q->mutex);
		struct cuda_flight *flight = &q->flight[(q->flight_head + q->flight_count) % CUDA_FLIGHTS];
		pthread_mutex_unlock(&q->mutex);
		*flight = (struct cuda_flight){.event = flight->event,
		                               .time = flight->time,
		                               .fault = flight->fault,
		                               .bounce = flight->bounce,
		                               .first = q->value,
		                               .value = q->value};
		flight->fault->index = -1;
		q->open = flight;
	}
	q->open->full |= alone;
	return q->open;
}

/* Hands the open flight to the completer, behind an event unless there is nothing to wait for. */
static void close_flight(struct cuda_queue *q, bool record)
{
	struct cuda_flight *flight = q->open;
	q->open = NULL;
	if (record) {
		flight->error = cudaEventRecord(flight->event, q->stream);
		flight->recorded = flight->error == cudaSuccess;
		if (!flight->recorded)
			(void)cudaGetLastError();
	}
	pthread_mutex_lock(&q->mutex);
	q->flight_count++;
	q->closed = flight->value;
	pthread_cond_broadcast(&q->cond);
	/* Without an event the completer waits for the whole stream, which must not be captured meanwhile. */
	bool lost = flight->error != cudaSuccess;
	while (lost && q->flight_count > 0)
		pthread_cond_wait(&q->cond, &q->mutex);
	pthread_mutex_unlock(&q->mutex);
}

/* The queue has failed: the command is over without having run. */
static void skip(struct cuda_queue *q)
{
	if (q->open)
		close_flight(q, true);
	ps__cuda_flight(q, true)->value = q->last;
	close_flight(q, false);
}

void ps__cuda_part(struct cuda_queue *q)
{
	if (q->open)
		close_flight(q, true);
}

/* Fails the queue at the current command, when all that came before is over, so that the first failure counts. */
static void fail(struct cuda_queue *q, ps_status status)
{
	ps_timeline *timeline = &q->queue->timeline;
	char message[sizeof timeline->message];
	snprintf(message, sizeof message, "%s", ps_error_message());
	if (q->open) {
		/* What the command asked of the host is off; what it enqueued, if anything, is waited for. */
		q->open->after = (ps_event){0};
		q->open->stamp = NULL;
		q->open->bounced = false;
		q->open->checks = NULL;
		q->open->value = q->value - 1;
		close_flight(q, true);
	}
	pthread_mutex_lock(&q->mutex);
	while (q->flight_count > 0)
		pthread_cond_wait(&q->cond, &q->mutex);
	pthread_mutex_unlock(&q->mutex);
	ps__timeline_fail(timeline, q->value, ps_fail(status, "%s", message));
	ps__timeline_complete(timeline, q->last);
	pthread_mutex_lock(&q->mutex);
	q->closed = q->last;
	pthread_cond_broadcast(&q->cond);
	pthread_mutex_unlock(&q->mutex);
}

/* Enters the device, where that is still to be done, and clears the stop flag that a failed range check has left. */
static ps_status prepare(struct cuda_queue *q)
{
	if (!q->entered)
		CUDA_TRY(device_name(q), cudaSetDevice(q->device->ordinal));
	q->entered = true;
	pthread_mutex_lock(&q->mutex);
	bool stopped = q->stopped;
	q->stopped = false;
	pthread_mutex_unlock(&q->mutex);
	if (stopped)
		CUDA_TRY(device_name(q), cudaMemsetAsync(q->stop, 0, sizeof *q->stop, q->stream));
	return PS_OK;
}

void ps__cuda_submit(struct cuda_queue *q, uint64_t first, uint64_t last, cuda_runner runner, const void *arguments)
{
	q->value = first;
	q->last = last;
	if (ps__timeline_status(&q->queue->timeline) != PS_OK) {
		skip(q);
		return;
	}
	ps_status status = prepare(q);
	if (status == PS_OK)
		status = runner(q, arguments);
	if (status != PS_OK) {
		fail(q, status);
		return;
	}
	struct cuda_flight *flight = ps__cuda_flight(q, false);
	flight->value = last;
	if (++flight->commands == CUDA_FLIGHT_COMMANDS)
		flight->full = true;
	pthread_mutex_lock(&q->mutex);
	bool idle = q->count == 0;
	pthread_mutex_unlock(&q->mutex);
	/* In a list there is more to come, and ps__cuda_part at its end. */
	if ((idle && !q->step) || flight->full)
		close_flight(q, true);
}

static bool take(struct cuda_queue *q, struct cuda_command *command)
{
	pthread_mutex_lock(&q->mutex);
	while (q->count == 0 && !q->end)
		pthread_cond_wait(&q->cond, &q->mutex);
	bool some = q->count > 0;
	if (some) {
		*command = q->ring[q->head];
		q->head = (q->head + 1) % q->capacity;
		q->count--;
	} else {
		q->ended = true;
		pthread_cond_broadcast(&q->cond);
	}
	pthread_mutex_unlock(&q->mutex);
	return some;
}

static void *submit_main(void *argument)
{
	struct cuda_queue *q = argument;
	struct cuda_command command;
	while (take(q, &command))
		if (command.list)
			ps__cuda_list_run(q, &command);
		else
			ps__cuda_submit(q, command.value, command.value, command.runner, command.arguments);
	return NULL;
}

/* --- the caller's side ------------------------------------------------------------------------------------------- */

static bool grow(struct cuda_queue *q)
{
	size_t capacity = q->capacity ? q->capacity * 2 : 64;
	struct cuda_command *ring = malloc(capacity * sizeof *ring);
	if (!ring)
		return false;
	for (size_t i = 0; i < q->count; i++)
		ring[i] = q->ring[(q->head + i) % q->capacity];
	free(q->ring);
	q->ring = ring;
	q->capacity = capacity;
	q->head = 0;
	return true;
}

/* The ring's next command, with the mutex held until `hand_over`; NULL: out of memory, and it is not. */
static struct cuda_command *next_command(struct cuda_queue *q)
{
	pthread_mutex_lock(&q->mutex);
	if (q->count == q->capacity && !grow(q)) {
		pthread_mutex_unlock(&q->mutex);
		(void)ps_fail(PS_ENOMEM, "out of memory for the commands of queue %s", q->queue->label);
		return NULL;
	}
	return &q->ring[(q->head + q->count) % q->capacity];
}

static void hand_over(struct cuda_queue *q)
{
	q->count++;
	pthread_cond_broadcast(&q->cond);
	pthread_mutex_unlock(&q->mutex);
}

ps_status ps__cuda_enqueue(ps_queue *queue, cuda_runner runner, const void *arguments, size_t bytes)
{
	struct cuda_queue *q = queue->impl;
	if (bytes > CUDA_ARGUMENT_BYTES)
		return ps_fail(PS_EINTERNAL, "%zu bytes of arguments do not fit into a command", bytes);
	if (queue->dry)
		return PS_OK;
	if (q->compiling)
		return ps__cuda_list_add(q->compiling, runner, arguments, bytes);
	struct cuda_command *command = next_command(q);
	if (!command)
		return PS_ENOMEM;
	command->runner = runner;
	command->list = NULL;
	command->value = ps__timeline_next(&queue->timeline);
	memcpy(command->arguments, arguments, bytes);
	hand_over(q);
	return PS_OK;
}

ps_status ps__cuda_list_submit(ps_queue *queue, void *compiled, uint32_t step)
{
	struct cuda_queue *q = queue->impl;
	struct cuda_command *command = next_command(q);
	if (!command)
		return PS_ENOMEM;
	command->list = compiled;
	command->step = step;
	command->value = ps__timeline_next(&queue->timeline);
	for (uint64_t i = 1; i < ps__cuda_list_values(compiled); i++)
		(void)ps__timeline_next(&queue->timeline);
	hand_over(q);
	return PS_OK;
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static ps_status create_parts(struct cuda_queue *q)
{
	const char *name = device_name(q);
	const size_t partials = (size_t)PS_CUDA_RUN * PS_CUDA_PARTIALS;
	const size_t each = CUDA_BOUNCE_BYTES + sizeof(struct ps_cuda_fault);
	CUDA_TRY(name, cudaStreamCreateWithFlags(&q->stream, cudaStreamNonBlocking));
	CUDA_TRY(name,
	         cudaMalloc((void **)&q->partials, partials * sizeof(double) + sizeof *q->turn + sizeof *q->stop));
	q->turn = (struct ps_cuda_turn *)(void *)(q->partials + partials);
	q->stop = (int *)(void *)(q->turn + 1);
	CUDA_TRY(name, cudaMemsetAsync(q->stop, 0, sizeof *q->stop, q->stream));
	CUDA_TRY(name, cudaHostAlloc((void **)&q->pinned, CUDA_FLIGHTS * each, cudaHostAllocPortable));
	unsigned char *faults = q->pinned + (size_t)CUDA_FLIGHTS * CUDA_BOUNCE_BYTES;
	for (size_t i = 0; i < CUDA_FLIGHTS; i++) {
		struct cuda_flight *flight = &q->flight[i];
		flight->bounce = q->pinned + i * CUDA_BOUNCE_BYTES;
		flight->fault = (struct ps_cuda_fault *)(void *)(faults + i * sizeof(struct ps_cuda_fault));
		CUDA_TRY(name,
		         cudaEventCreateWithFlags(&flight->event, cudaEventDisableTiming | cudaEventBlockingSync));
		CUDA_TRY(name, cudaEventCreateWithFlags(&flight->time, cudaEventDefault));
	}
	CUDA_TRY(name, cudaEventCreateWithFlags(&q->stamps.last, cudaEventDefault));
	return PS_OK;
}

/* Codes are passed over: a device that failed for good refuses all of this, and was reported. */
static void destroy_parts(struct cuda_queue *q)
{
	if (q->stream) {
		(void)cudaStreamSynchronize(q->stream);
		(void)cudaStreamDestroy(q->stream);
	}
	for (size_t i = 0; i < CUDA_FLIGHTS; i++) {
		if (q->flight[i].event)
			(void)cudaEventDestroy(q->flight[i].event);
		if (q->flight[i].time)
			(void)cudaEventDestroy(q->flight[i].time);
	}
	if (q->stamps.last)
		(void)cudaEventDestroy(q->stamps.last);
	if (q->pinned)
		(void)cudaFreeHost(q->pinned);
	if (q->workspace)
		(void)cudaFree(q->workspace);
	if (q->copies)
		(void)cudaFree(q->copies);
	while (q->outgrown) {
		struct cuda_outgrown *next = q->outgrown->next;
		(void)cudaFree(q->outgrown->memory);
		free(q->outgrown);
		q->outgrown = next;
	}
	if (q->partials)
		(void)cudaFree(q->partials);
	(void)cudaGetLastError();
}

static void stop_threads(struct cuda_queue *q)
{
	pthread_mutex_lock(&q->mutex);
	q->end = true;
	q->ended |= q->threads < 2; /* no submitter was started */
	pthread_cond_broadcast(&q->cond);
	pthread_mutex_unlock(&q->mutex);
	if (q->threads > 1)
		pthread_join(q->submitter, NULL);
	if (q->threads > 0)
		pthread_join(q->completer, NULL);
	pthread_cond_destroy(&q->cond);
	pthread_mutex_destroy(&q->mutex);
}

static ps_status start_threads(struct cuda_queue *q)
{
	const char *label = q->queue->label;
	if (pthread_mutex_init(&q->mutex, NULL))
		return ps_fail(PS_ENOMEM, "cannot create a mutex for queue %s", label);
	if (pthread_cond_init(&q->cond, NULL)) {
		pthread_mutex_destroy(&q->mutex);
		return ps_fail(PS_ENOMEM, "cannot create a condition variable for queue %s", label);
	}
	int error = pthread_create(&q->completer, NULL, complete_main, q);
	if (!error) {
		q->threads = 1;
		error = pthread_create(&q->submitter, NULL, submit_main, q);
	}
	if (!error) {
		q->threads = 2;
		return PS_OK;
	}
	stop_threads(q);
	return ps_fail(PS_ENOMEM, "cannot start a thread of queue %s: %s", label, strerror(error));
}

ps_status ps__cuda_queue_create(ps_queue *queue)
{
	int before;
	struct cuda_queue *q = calloc(1, sizeof *q);
	if (!q || !grow(q)) {
		free(q);
		return ps_fail(PS_ENOMEM, "out of memory for queue %s", queue->label);
	}
	q->queue = queue;
	q->device = queue->device->impl;
	ps_status status = ps__cuda_try_enter(&before, q->device, device_name(q));
	if (status == PS_OK)
		status = create_parts(q);
	if (status == PS_OK)
		status = start_threads(q);
	if (status != PS_OK)
		destroy_parts(q);
	ps__cuda_leave(q->device, before);
	if (status != PS_OK) {
		free(q->ring);
		free(q);
		return status;
	}
	queue->impl = q;
	return PS_OK;
}

void ps__cuda_queue_destroy(ps_queue *queue)
{
	struct cuda_queue *q = queue->impl;
	int before;
	stop_threads(q);
	(void)ps__cuda_enter(&before, q->device);
	destroy_parts(q);
	ps__cuda_leave(q->device, before);
	free(q->ring);
	free(q);
}
