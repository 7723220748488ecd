/* What the parts of a link share: link.c (life, choice of path, view and peer), link_staged.c, link_test.c. */
#ifndef PS_CORE_LINK_H
#define PS_CORE_LINK_H

#include "core/backend.h"

#include <penstock/link.h>

struct staging;

struct ps_link {
	ps_device *from, *to;
	ps_link_info info;
	char label[64];
	uint64_t chunk_bytes;
	ps_queue *queue; /* of a peer, on the side that reaches the other; of a view that has to join events */
	ps_event last;   /* of a view: the point of the last transfer */
	struct staging *staging;
};

/*
 * The staged path: a ring of two chunks of host memory, a queue on either device, and, unless the devices relay, a
 * thread that feeds both and has a timeline of its own for the points.
 */
ps_status ps__staging_create(struct staging **out, ps_device *from, ps_device *to, const char *label,
                             uint64_t chunk_bytes) PS_WARN_UNUSED;
void ps__staging_destroy(struct staging *staging);
ps_status ps__staging_send(struct staging *staging, ps_tensor to, ps_tensor from, const ps_event *after,
                           int after_count, ps_link_times *times, ps_event *done) PS_WARN_UNUSED;
void ps__staging_reset(struct staging *staging);
/* As ps_link_ends. */
void ps__staging_ends(struct staging *staging, ps_event ends[2]);

/* What is enqueued from now on starts after all the events. */
ps_status ps__link_wait(ps_queue *queue, const ps_event *after, int count) PS_WARN_UNUSED;

/*
 * Sends a pattern in several sizes and compares what arrives, and what must not change around it, bit for bit; then,
 * unless `measure` is false, fills in latency and bandwidth. PS_EDEVICE when a byte differs.
 */
ps_status ps__link_test(ps_link *link, bool measure) PS_WARN_UNUSED;

#endif
