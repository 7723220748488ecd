/*
 * The ring's chunks form a circle, which only the enqueuing thread changes. It has a chunk more than the backlog fills,
 * so that the chunk after the one being written is never the one being read, wherever in a chunk the backlog begins.
 */
#include "core/ring.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES ((size_t)1 << 16)

struct ps__ring_chunk {
	struct ps__ring_chunk *next;
	_Alignas(max_align_t) unsigned char bytes[CHUNK_BYTES];
};

/* What stands before each item: its size with this header, or 0 where the next item is in the next chunk. */
struct header {
	_Alignas(max_align_t) size_t size;
};

/* What a chunk holds at least: its end stays empty when the next item does not fit. */
#define CHUNK_FILL (CHUNK_BYTES - PS__RING_ITEM - 2 * sizeof(struct header))

static struct header *header_at(struct ps__ring_chunk *chunk, size_t at)
{
	return (struct header *)(void *)&chunk->bytes[at];
}

/* Puts a chunk behind the one being written. */
static bool add_chunk(struct ps__ring *ring)
{
	struct ps__ring_chunk *chunk = malloc(sizeof *chunk);
	if (!chunk)
		return false;
	chunk->next = ring->tail ? ring->tail->next : chunk;
	if (ring->tail)
		ring->tail->next = chunk;
	else
		ring->tail = chunk;
	ring->chunks++;
	return true;
}

ps_status ps__ring_init(struct ps__ring *ring)
{
	memset(ring, 0, sizeof *ring);
	if (!add_chunk(ring))
		return ps_fail(PS_ENOMEM, "out of memory for a queue's commands");
	ring->head = ring->tail;
	return PS_OK;
}

void ps__ring_finish(struct ps__ring *ring)
{
	struct ps__ring_chunk *chunk = ring->tail->next;
	ring->tail->next = NULL;
	while (chunk) {
		struct ps__ring_chunk *next = chunk->next;
		free(chunk);
		chunk = next;
	}
}

void *ps__ring_reserve(struct ps__ring *ring, size_t bytes)
{
	size_t unit = sizeof(struct header), size = unit + (bytes + unit - 1) / unit * unit;
	uint64_t backlog = ring->pushed_bytes + size - atomic_load_explicit(&ring->popped_bytes, memory_order_acquire);
	while (ring->chunks < 2 + backlog / CHUNK_FILL)
		if (!add_chunk(ring))
			return NULL;
	/* There is always room for the header that ends a chunk. */
	if (ring->tail_used + size + unit > CHUNK_BYTES) {
		header_at(ring->tail, ring->tail_used)->size = 0;
		ring->tail = ring->tail->next;
		ring->tail_used = 0;
	}
	struct header *header = header_at(ring->tail, ring->tail_used);
	header->size = ring->reserved = size;
	return header + 1;
}

void ps__ring_push(struct ps__ring *ring)
{
	ring->tail_used += ring->reserved;
	ring->pushed_bytes += ring->reserved;
	atomic_fetch_add(&ring->pushed, 1);
}

const void *ps__ring_front(struct ps__ring *ring)
{
	if (atomic_load(&ring->pushed) == ring->popped)
		return NULL;
	struct header *header = header_at(ring->head, ring->head_used);
	if (header->size == 0) {
		ring->head = ring->head->next;
		ring->head_used = 0;
		header = header_at(ring->head, 0);
	}
	return header + 1;
}

void ps__ring_pop(struct ps__ring *ring)
{
	size_t size = header_at(ring->head, ring->head_used)->size;
	ring->head_used += size;
	ring->popped++;
	uint64_t popped = atomic_load_explicit(&ring->popped_bytes, memory_order_relaxed);
	atomic_store_explicit(&ring->popped_bytes, popped + size, memory_order_release);
}
