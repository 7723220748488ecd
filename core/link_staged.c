/*
 * The staged path of a link: through two chunks of host memory. For each chunk there is a read on the source's queue
 * and a write on the destination's, each after the other's last use of the chunk, so that one chunk is written while
 * the next is read.
 *
 * Where the devices relay, a send enqueues all of that, and its point is the writing queue's. Otherwise it puts its
 * waits and its transfer into a ring, from which the link's thread takes them to do the same. The thread waits for the
 * end on the host and completes the point; a failure on either side empties both queues first, so that nobody touches
 * the tensors once the point has failed.
 */
#include "core/link.h"

#include "core/platform.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 2, FIRST_CAPACITY = 64, PAGE = 4096 };

/* Something to do: wait for an event, or move a tensor. */
struct item {
	bool is_wait;
	ps_event event; /* to wait for */
	ps_tensor to, from;
	ps_link_times *times;
	uint64_t value; /* the transfer's point on the timeline */
};

struct staging {
	ps_queue *reader, *writer; /* on the source and on the destination */
	ps_pinned chunks;          /* one after the other */
	ps_event written[SLOTS];   /* when the chunk was last emptied */
	uint64_t chunk_bytes;
	char label[64];
	bool relayed; /* what follows is not there then */

	ps_timeline timeline;
	pthread_t thread;
	pthread_mutex_t mutex; /* guards what follows */
	pthread_cond_t cond;
	struct item *ring;
	size_t capacity, head, count;
	bool stop;
};

/* The elements [first, first + count) of a contiguous tensor. */
static ps_tensor part(ps_tensor tensor, int64_t first, int64_t count)
{
	uint64_t offset = tensor.offset + (uint64_t)first * ps_dtype_bytes(tensor.dtype);
	return ps_tensor_make(tensor.buffer, offset, tensor.dtype, 1, &count);
}

static ps_status enqueue_chunks(struct staging *s, const struct item *item)
{
	int64_t total = ps_tensor_count(item->from);
	int64_t most = (int64_t)(s->chunk_bytes / ps_dtype_bytes(item->from.dtype));
	/* Pieces of one size keep both sides busy for longer than full chunks and a rest. */
	int64_t pieces = total / most + (total % most != 0), step = pieces ? (total + pieces - 1) / pieces : 1;
	int slot = 0;
	for (int64_t at = 0; at < total; at += step, slot = (slot + 1) % SLOTS) {
		int64_t count = total - at < step ? total - at : step;
		PS_TRY(ps_queue_wait(s->reader, s->written[slot]));
		void *chunk = (unsigned char *)s->chunks.address + (uint64_t)slot * s->chunk_bytes;
		PS_TRY(ps_queue_read(s->reader, chunk, part(item->from, at, count)));
		PS_TRY(ps_queue_wait(s->writer, ps_queue_record(s->reader)));
		PS_TRY(ps_queue_write(s->writer, part(item->to, at, count), chunk));
		s->written[slot] = ps_queue_record(s->writer);
	}
	/* An empty tensor moves nothing, and is through when its events are. */
	return ps_queue_wait(s->writer, ps_queue_record(s->reader));
}

static ps_status enqueue(struct staging *s, const struct item *item)
{
	if (item->times)
		PS_TRY(ps_queue_timestamp(s->reader, &item->times->begin));
	PS_TRY(enqueue_chunks(s, item));
	return item->times ? ps_queue_timestamp(s->writer, &item->times->end) : PS_OK;
}

/* --- devices that relay ------------------------------------------------------------------------------------------ */

static ps_status relay(struct staging *s, const struct item *item, const ps_event *after, int after_count,
                       ps_event *done)
{
	ps_status status = ps__link_wait(s->reader, after, after_count);
	if (status == PS_OK)
		status = enqueue(s, item);
	if (status == PS_OK) {
		*done = ps_queue_record(s->writer);
		return PS_OK;
	}
	/* What was refused half way must not touch the caller's tensors and times later on. */
	ps__timeline_drain(&s->reader->timeline);
	ps__timeline_drain(&s->writer->timeline);
	return status;
}

/* --- all others: the thread --------------------------------------------------------------------------------------- */

static ps_status move(struct staging *s, const struct item *item)
{
	PS_TRY(enqueue(s, item));
	return ps_queue_finish(s->writer);
}

static void reset_queues(struct staging *s)
{
	ps_queue_reset(s->reader);
	ps_queue_reset(s->writer);
	memset(s->written, 0, sizeof s->written);
}

/* Ends a transfer, or what led to one: waits until neither queue has anything left, then passes the status on. */
static void end(struct staging *s, uint64_t value, ps_status status)
{
	if (status != PS_OK) {
		reset_queues(s);
		ps__timeline_fail(&s->timeline, value, status);
	}
	ps__timeline_complete(&s->timeline, value);
}

static bool take(struct staging *s, struct item *item)
{
	pthread_mutex_lock(&s->mutex);
	while (s->count == 0 && !s->stop)
		pthread_cond_wait(&s->cond, &s->mutex);
	bool some = s->count > 0;
	if (some) {
		*item = s->ring[s->head];
		s->head = (s->head + 1) % s->capacity;
		s->count--;
	}
	pthread_mutex_unlock(&s->mutex);
	return some;
}

static void *thread_main(void *argument)
{
	struct staging *s = argument;
	ps_status status = PS_OK; /* of the waits that were enqueued for the coming transfer */
	struct item item;
	ps__thread_name(s->label);
	while (take(s, &item)) {
		bool failed = ps__timeline_status(&s->timeline) != PS_OK;
		if (item.is_wait) {
			if (!failed && status == PS_OK)
				status = ps_queue_wait(s->reader, item.event);
			continue;
		}
		if (!failed && status == PS_OK)
			status = move(s, &item);
		end(s, item.value, failed ? PS_OK : status);
		status = PS_OK;
	}
	return NULL;
}

static ps_status reserve(struct staging *s, size_t more)
{
	size_t capacity = s->capacity ? s->capacity : FIRST_CAPACITY;
	while (capacity - s->count < more)
		capacity *= 2;
	if (capacity == s->capacity)
		return PS_OK;
	struct item *ring = malloc(capacity * sizeof *ring);
	if (!ring)
		return ps_fail(PS_ENOMEM, "out of memory for the transfers of link %s", s->label);
	for (size_t i = 0; i < s->count && s->capacity; i++)
		ring[i] = s->ring[(s->head + i) % s->capacity];
	free(s->ring);
	s->ring = ring;
	s->capacity = capacity;
	s->head = 0;
	return PS_OK;
}

static ps_status hand_over(struct staging *s, const struct item *item, const ps_event *after, int after_count,
                           ps_event *done)
{
	pthread_mutex_lock(&s->mutex);
	ps_status status = reserve(s, (size_t)after_count + 1);
	if (status == PS_OK) {
		for (int i = 0; i < after_count; i++)
			s->ring[(s->head + s->count++) % s->capacity] =
			        (struct item){.is_wait = true, .event = after[i]};
		uint64_t value = ps__timeline_next(&s->timeline);
		struct item *last = &s->ring[(s->head + s->count++) % s->capacity];
		*last = *item;
		last->value = value;
		*done = (ps_event){&s->timeline, value};
		pthread_cond_signal(&s->cond);
	}
	pthread_mutex_unlock(&s->mutex);
	return status;
}

/* --- both --------------------------------------------------------------------------------------------------------- */

ps_status ps__staging_send(struct staging *s, ps_tensor to, ps_tensor from, const ps_event *after, int after_count,
                           ps_link_times *times, ps_event *done)
{
	const struct item item = {.to = to, .from = from, .times = times};
	return s->relayed ? relay(s, &item, after, after_count, done) : hand_over(s, &item, after, after_count, done);
}

void ps__staging_reset(struct staging *s)
{
	if (s->relayed)
		reset_queues(s);
	else
		ps__timeline_reset(&s->timeline);
}

void ps__staging_ends(struct staging *s, ps_event ends[2])
{
	ends[0] = s->relayed ? ps_queue_record(s->reader) : (ps_event){&s->timeline, s->timeline.submitted};
	ends[1] = s->relayed ? ps_queue_record(s->writer) : (ps_event){0};
}

/* Everything but the thread and what it needs to be woken. */
static ps_status create_parts(struct staging *s, ps_device *from, ps_device *to)
{
	ps_device *const sides[] = {from, to};
	PS_TRY(ps__host_memory_create(&s->chunks, sides, 2, SLOTS * s->chunk_bytes));
	/* Plain memory, which is what is left where no more can be pinned, is transferred with the host's help. */
	s->relayed = s->chunks.device && from->backend->can_relay(from, to);
	if (!s->relayed)
		PS_TRY(reserve(s, 1));
	PS_TRY(ps_queue_create(&s->reader, from, s->label));
	return ps_queue_create(&s->writer, to, s->label);
}

static void destroy_parts(struct staging *s)
{
	ps_queue_destroy(s->writer);
	ps_queue_destroy(s->reader);
	free(s->ring);
	ps__host_memory_destroy(&s->chunks);
	free(s);
}

static ps_status start(struct staging *s)
{
	if (s->relayed)
		return PS_OK;
	PS_TRY(ps__timeline_init(&s->timeline, NULL, s->label));
	int error = pthread_mutex_init(&s->mutex, NULL);
	if (error)
		goto no_mutex;
	error = pthread_cond_init(&s->cond, NULL);
	if (error)
		goto no_cond;
	error = pthread_create(&s->thread, NULL, thread_main, s);
	if (!error)
		return PS_OK;
	pthread_cond_destroy(&s->cond);
no_cond:
	pthread_mutex_destroy(&s->mutex);
no_mutex:
	ps__timeline_finish(&s->timeline);
	return ps_fail(PS_ENOMEM, "cannot start the thread of link %s: %s", s->label, strerror(error));
}

ps_status ps__staging_create(struct staging **out, ps_device *from, ps_device *to, const char *label,
                             uint64_t chunk_bytes)
{
	struct staging *s = calloc(1, sizeof *s);
	if (!s)
		return ps_fail(PS_ENOMEM, "out of memory for link %s", label);
	/* Whole pages, which hold whole elements of any dtype. */
	s->chunk_bytes = (chunk_bytes + PAGE - 1) / PAGE * PAGE;
	snprintf(s->label, sizeof s->label, "%s", label);
	ps_status status = create_parts(s, from, to);
	if (status == PS_OK)
		status = start(s);
	if (status != PS_OK) {
		destroy_parts(s);
		return status;
	}
	*out = s;
	return PS_OK;
}

static void stop(struct staging *s)
{
	pthread_mutex_lock(&s->mutex);
	s->stop = true;
	pthread_cond_signal(&s->cond);
	pthread_mutex_unlock(&s->mutex);
	pthread_join(s->thread, NULL);
	pthread_cond_destroy(&s->cond);
	pthread_mutex_destroy(&s->mutex);
	ps__timeline_finish(&s->timeline);
}

void ps__staging_destroy(struct staging *s)
{
	if (!s)
		return;
	if (!s->relayed)
		stop(s);
	destroy_parts(s);
}
