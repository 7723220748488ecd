/*
 * Command lists: recorded ops in one growing block of memory, replayed in order, by the backend's own means where it
 * has any.
 */
#include "core/backend.h"

#include <stdlib.h>
#include <string.h>

struct entry {
	ps_op op;
	size_t at; /* of the arguments, in `arguments` */
	const char *scope;
	uint64_t end; /* the queue's timeline after the op in the last submission */
};

struct ps_list {
	ps_queue *queue;
	struct entry *entries;
	size_t count, capacity;
	unsigned char *arguments;
	size_t used, room;
	const char *scope;
	int64_t *marks; /* [count + 1], or NULL: see ps__list_time */
	/* The queue's timeline before the last submission and before the one before it. */
	uint64_t begin, begin_before;
	void *compiled; /* the backend's, of the first compiled_count entries; NULL: they are enqueued one by one */
	size_t compiled_count;
};

ps_status ps_list_create(ps_list **out, ps_queue *queue)
{
	*out = calloc(1, sizeof **out);
	if (!*out)
		return ps_fail(PS_ENOMEM, "out of memory for a command list");
	(*out)->queue = queue;
	(*out)->scope = "";
	return PS_OK;
}

/* Takes back what the backend made of the list, once none of it is on its way. */
static void release(ps_list *list)
{
	if (list->compiled) {
		ps__timeline_drain(&list->queue->timeline);
		list->queue->device->backend->list_release(list->queue, list->compiled);
	}
	list->compiled = NULL;
	list->compiled_count = 0;
}

void ps_list_destroy(ps_list *list)
{
	if (!list)
		return;
	release(list);
	free(list->entries);
	free(list->arguments);
	free(list);
}

void ps_list_clear(ps_list *list)
{
	release(list);
	list->count = 0;
	list->used = 0;
}

void ps_list_scope(ps_list *list, const char *name)
{
	list->scope = name;
}

static ps_status reserve(ps_list *list, size_t bytes)
{
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 16;
		struct entry *entries = realloc(list->entries, capacity * sizeof *entries);
		if (!entries)
			return ps_fail(PS_ENOMEM, "out of memory for a command list");
		list->entries = entries;
		list->capacity = capacity;
	}
	if (list->room - list->used < bytes) {
		size_t room = list->room ? list->room * 2 : 4096;
		unsigned char *arguments = realloc(list->arguments, room);
		if (!arguments)
			return ps_fail(PS_ENOMEM, "out of memory for a command list");
		list->arguments = arguments;
		list->room = room;
	}
	return PS_OK;
}

ps_status ps_list_record(ps_list *list, ps_op op, const void *arguments, size_t bytes)
{
	list->queue->dry = true;
	ps_status status = ps_op_run(list->queue, op, arguments, bytes);
	list->queue->dry = false;
	if (status != PS_OK)
		return status;
	/* Argument structs start on the strictest alignment that any of them has. */
	size_t padded = (bytes + 15) / 16 * 16;
	PS_TRY(reserve(list, padded));
	memcpy(list->arguments + list->used, arguments, bytes);
	list->entries[list->count++] = (struct entry){.op = op, .at = list->used, .scope = list->scope};
	list->used += padded;
	return PS_OK;
}

const void *ps__list_arguments(ps_list *list, size_t index, uint32_t step)
{
	unsigned char *arguments = list->arguments + list->entries[index].at;
	int offset = ps__op_place_offset(list->entries[index].op);
	if (offset >= 0)
		((ps_random_place *)(void *)(arguments + offset))->step = step;
	return arguments;
}

void ps__list_mark(ps_list *list, size_t index, bool enqueued)
{
	list->entries[index].end = enqueued ? list->queue->timeline.submitted : UINT64_MAX;
}

/* Gives the backend the list as it is now, unless it has that. */
static ps_status compile(ps_list *list)
{
	if (list->compiled_count == list->count)
		return PS_OK;
	release(list);
	PS_TRY(list->queue->device->backend->list_compile(&list->compiled, list->queue, list));
	list->compiled_count = list->count;
	return PS_OK;
}

/* One value of the timeline for each op, whichever way the backend runs them. */
static ps_status submit_compiled(ps_list *list, uint32_t step)
{
	ps_status status = list->queue->device->backend->list_submit(list->queue, list->compiled, step);
	for (size_t i = 0; i < list->count; i++)
		list->entries[i].end = status == PS_OK ? list->begin + i + 1 : 0;
	return status;
}

ps_status ps_list_submit(ps_list *list, uint32_t step)
{
	PS_TRY(compile(list));
	list->begin_before = list->begin;
	list->begin = list->queue->timeline.submitted;
	if (list->compiled && !list->marks)
		return submit_compiled(list, step);
	const ps_op_fn *ops = list->queue->device->backend->ops;
	for (size_t i = 0; i < list->count; i++) {
		if (list->marks)
			PS_TRY(ps_queue_timestamp(list->queue, &list->marks[i]));
		ps_status status = ops[list->entries[i].op](list->queue, ps__list_arguments(list, i, step));
		ps__list_mark(list, i, status == PS_OK);
		PS_TRY(status);
	}
	return list->marks ? ps_queue_timestamp(list->queue, &list->marks[list->count]) : PS_OK;
}

void ps__list_time(ps_list *list, int64_t *marks)
{
	list->marks = marks;
}

size_t ps__list_find(const ps_list *list, uint64_t value)
{
	size_t i = 0;
	/* Each submission has as many commands as the one before. */
	if (value <= list->begin)
		value += list->begin - list->begin_before;
	while (i < list->count && list->entries[i].end < value)
		i++;
	return i;
}

size_t ps_list_count(const ps_list *list)
{
	return list->count;
}

ps_op ps_list_op(const ps_list *list, size_t index, const char **scope)
{
	*scope = list->entries[index].scope;
	return list->entries[index].op;
}
