/* The host memory of records that wait for their check: a ring that is filled and emptied in one order. */
#include "pipeline/shadow.h"

#include <stdlib.h>

static uint64_t place_of(const struct pool *pool, const struct record *record)
{
	return (uint64_t)((const unsigned char *)record - pool->memory);
}

struct record *ps__pool_reserve(struct pool *pool, uint64_t bytes)
{
	bytes = align_up(bytes);
	if (!pool->first)
		pool->head = 0;
	uint64_t tail = pool->first ? place_of(pool, pool->first) : pool->size, at = pool->head;
	/* Live records lie in [tail, head), or in [tail, end) and [0, head) with the last of them at the front. */
	bool wrapped = !pool->first || place_of(pool, pool->last) < tail;
	uint64_t end = wrapped ? tail : pool->size;
	if (!wrapped && pool->size - at < bytes) {
		at = 0;
		end = tail;
	}
	if (end - at < bytes)
		return NULL;
	pool->head = at + bytes;
	struct record *record = (struct record *)(void *)(pool->memory + at);
	*record = (struct record){0};
	return record;
}

bool ps__pool_is_small(const struct pool *pool, uint64_t bytes)
{
	return align_up(bytes) > pool->size;
}

ps_status ps__pool_grow(struct pool *pool, uint64_t bytes)
{
	void *memory = malloc(align_up(bytes));
	if (!memory)
		return ps_fail(PS_ENOMEM, "out of memory for the operands of an op that is to be checked");
	free(pool->memory);
	pool->memory = memory;
	pool->size = align_up(bytes);
	return PS_OK;
}

void ps__pool_publish(struct pool *pool, struct record *record)
{
	*(pool->first ? &pool->last->next : &pool->first) = record;
	pool->last = record;
}

void ps__pool_release_first(struct pool *pool)
{
	pool->first = pool->first->next;
	if (!pool->first)
		pool->last = NULL;
}
