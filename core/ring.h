/*
 * A ring of commands between one thread that enqueues and one that runs them, in order and without a lock.
 *
 * It grows with the backlog, by chunks, and never shrinks: once the worst backlog has occurred nothing is allocated any
 * more. An item stays where it was written until it is popped, so it can be run in place.
 */
#ifndef PS_CORE_RING_H
#define PS_CORE_RING_H

#include <penstock/status.h>

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct ps__ring_chunk;

/* The padding keeps what the two threads write on cache lines of their own. */
struct ps__ring {
	struct ps__ring_chunk *tail; /* where the enqueuing thread writes, and the bytes used there */
	size_t tail_used, reserved;
	uint64_t pushed_bytes, chunks;
	char pad_writer[64];
	struct ps__ring_chunk *head; /* where the other thread reads */
	size_t head_used;
	uint64_t popped;
	char pad_reader[64];
	_Atomic(uint64_t) pushed;       /* items */
	_Atomic(uint64_t) popped_bytes; /* what the enqueuing thread may write over */
};

/* PS_ENOMEM when there is no memory for the first chunk. */
ps_status ps__ring_init(struct ps__ring *ring) PS_WARN_UNUSED;
/* For a ring that neither thread uses any more. */
void ps__ring_finish(struct ps__ring *ring);

/* Room for an item of `bytes`, at most PS__RING_ITEM, aligned for anything; NULL: no memory. */
void *ps__ring_reserve(struct ps__ring *ring, size_t bytes);
/* Hands over the item reserved last; a bell may be rung for it then (core/bell.h). */
void ps__ring_push(struct ps__ring *ring);

/* The oldest item; NULL: there is none. */
const void *ps__ring_front(struct ps__ring *ring);
/* Gives up the oldest item. */
void ps__ring_pop(struct ps__ring *ring);

/* The most bytes of one item. */
#define PS__RING_ITEM ((size_t)2048)

#endif
