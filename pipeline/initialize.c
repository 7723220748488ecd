/* The start values of all parameters, made by several threads, a piece at a time. */
#include "pipeline/internal.h"

#include "core/platform.h"

#include <penstock/bf16.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How many values are made and moved at a time. */
#define PIECE ((int64_t)1 << 20)

enum { MOST_THREADS = 16 };

struct initialization {
	const ps_pipeline *pipeline;
	pthread_mutex_t mutex; /* guards what follows */
	int index;             /* the parameter at work */
	int64_t first;         /* its next element */
	ps_status status;
	char message[512];
	pthread_mutex_t *queues; /* [rank]: held while a piece is written, as a queue is for one thread at a time */
};

/* Part of one parameter. */
struct piece {
	ps_parameter_view view;
	int64_t first, count;
};

/* Takes the next piece; false when there is none, or something has failed. */
static bool take(struct initialization *all, struct piece *piece)
{
	const ps_pipeline *pipeline = all->pipeline;
	pthread_mutex_lock(&all->mutex);
	bool some = all->status == PS_OK && all->index < pipeline->parameter_count;
	if (some) {
		ps_pipeline_get_parameter(pipeline, all->index, &piece->view);
		int64_t left = ps_tensor_count(piece->view.value) - all->first;
		piece->first = all->first;
		piece->count = left < PIECE ? left : PIECE;
		all->first += piece->count;
		if (piece->count == left) {
			all->index++;
			all->first = 0;
		}
	}
	pthread_mutex_unlock(&all->mutex);
	return some;
}

/* Makes the piece's values in the tensor's dtype; `room` is for as many floats. */
static void make_values(const struct piece *piece, float *room, void *values)
{
	const ps_parameter *parameter = piece->view.declaration;
	if (parameter->init == PS_INIT_UNIFORM)
		ps_random_uniform(&piece->view.place, parameter->low, parameter->high, (uint64_t)piece->first,
		                  (size_t)piece->count, room);
	else
		for (int64_t i = 0; i < piece->count; i++)
			room[i] = (float)parameter->low;
	if (piece->view.value.dtype == PS_BF16)
		for (int64_t i = 0; i < piece->count; i++)
			((uint16_t *)values)[i] = ps_bf16_round(room[i]);
	else if (piece->view.value.dtype == PS_F64)
		for (int64_t i = 0; i < piece->count; i++)
			((double *)values)[i] = (double)room[i];
	else
		memcpy(values, room, (size_t)piece->count * sizeof *room);
}

static ps_status write_values(struct initialization *all, const struct piece *piece, const void *values, uint16_t *copy)
{
	pthread_mutex_lock(&all->queues[piece->view.rank]);
	ps_status status = ps__parameter_write(&piece->view, piece->first, piece->count, values, copy);
	pthread_mutex_unlock(&all->queues[piece->view.rank]);
	return status;
}

static void *work(void *argument)
{
	struct initialization *all = argument;
	struct piece piece;
	float *room = malloc(PIECE * sizeof *room);
	void *values = malloc(PIECE * ps_dtype_bytes(all->pipeline->config.dtype));
	uint16_t *copy = malloc(PIECE * sizeof *copy);
	ps_status status = room && values && copy ? PS_OK : ps_fail(PS_ENOMEM, "out of memory for initial values");
	while (status == PS_OK && take(all, &piece)) {
		make_values(&piece, room, values);
		status = write_values(all, &piece, values, copy);
	}
	free(copy);
	free(values);
	free(room);
	pthread_mutex_lock(&all->mutex);
	if (status != PS_OK && all->status == PS_OK) {
		all->status = status;
		snprintf(all->message, sizeof all->message, "%s", ps_error_message());
	}
	pthread_mutex_unlock(&all->mutex);
	return NULL;
}

/* How many threads are worth having, this one included. */
static int count_threads(const ps_pipeline *pipeline)
{
	int64_t pieces = ps_pipeline_parameter_elements(pipeline) / PIECE + 1;
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	int quota = ps__cpu_quota();
	if (quota > 0 && quota < cores)
		cores = quota;
	if (cores > MOST_THREADS)
		cores = MOST_THREADS;
	if (cores > pieces)
		cores = (long)pieces;
	return cores > 1 ? (int)cores : 1;
}

static void run(struct initialization *all)
{
	pthread_t threads[MOST_THREADS];
	int wanted = count_threads(all->pipeline) - 1, started = 0;
	/* One thread is enough where others cannot be had. */
	while (started < wanted && !pthread_create(&threads[started], NULL, work, all))
		started++;
	work(all);
	while (started > 0)
		pthread_join(threads[--started], NULL);
}

ps_status ps_pipeline_initialize(ps_pipeline *pipeline)
{
	struct initialization all = {.pipeline = pipeline};
	int made = 0;
	PS_TRY(ps__check_alone(pipeline));
	all.queues = calloc((size_t)pipeline->rank_count, sizeof(pthread_mutex_t));
	if (!all.queues)
		return ps_fail(PS_ENOMEM, "out of memory for initial values");
	if (pthread_mutex_init(&all.mutex, NULL)) {
		free(all.queues);
		return ps_fail(PS_ENOMEM, "cannot create a mutex");
	}
	while (made < pipeline->rank_count && !pthread_mutex_init(&all.queues[made], NULL))
		made++;
	if (made == pipeline->rank_count)
		run(&all);
	else
		all.status = ps_fail(PS_ENOMEM, "cannot create a mutex");
	while (made > 0)
		pthread_mutex_destroy(&all.queues[--made]);
	pthread_mutex_destroy(&all.mutex);
	free(all.queues);
	return all.status == PS_OK || !all.message[0] ? all.status : ps_fail(all.status, "%s", all.message);
}
