/*
 * Links: one object for an ordered pair of devices moves tensors from one to the other.
 *
 *   view    same device: nothing moves, the consumer reads the producer's tensor;
 *   peer    a queue of either device, of the source if it can, copies directly between the two memories, once;
 *   staged  through host memory, in chunks, two of them in flight: by the devices' queues alone where both are of a
 *           backend that can, else by a thread of the link's own.
 *
 * At creation the link sends a pattern and compares it bit for bit, and measures latency and bandwidth. A peer path
 * that corrupts falls back to staging, and the info says so. Sending never blocks the caller.
 */
#ifndef PENSTOCK_LINK_H
#define PENSTOCK_LINK_H

#include <penstock/device.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ps_link ps_link;

typedef enum ps_link_kind { PS_LINK_VIEW, PS_LINK_PEER, PS_LINK_STAGED } ps_link_kind;

typedef struct ps_link_info {
	ps_link_kind kind;
	double latency_s;         /* one small transfer, from event to event */
	double bandwidth_bytes_s; /* one large transfer; 0 for a view */
	char note[256];           /* why a staged link is staged; "" of others */
} ps_link_info;

typedef struct ps_link_options {
	bool force_staged;    /* take the host path even where a direct one exists */
	uint64_t chunk_bytes; /* of the staging ring; 0: 1 MiB */
	bool skip_measure;    /* leave latency and bandwidth 0; the pattern is sent all the same */
} ps_link_options;

/*
 * options may be NULL. The caller owns *out; both devices stay alive with it. PS_ESTALL: a transfer of the test hangs;
 * it keeps its memory and the devices, and another link with force_staged may do.
 */
ps_status ps_link_create(ps_link **out, ps_device *from, ps_device *to, const char *label,
                         const ps_link_options *options) PS_WARN_UNUSED;
/* Waits until the link is idle. Nobody may wait for its points any more, as with ps_queue_destroy. Takes NULL. */
void ps_link_destroy(ps_link *link);
const ps_link_info *ps_link_get_info(const ps_link *link);
const char *ps_link_kind_name(ps_link_kind kind);

/*
 * When a transfer began and ended (ps_clock_ns); filled when it is done. Each is a timestamp of one side, and may be as
 * late as that side's are (ps_queue_timestamp), so that between two clocks `end` may come before `begin`.
 */
typedef struct ps_link_times {
	int64_t begin, end;
} ps_link_times;

/*
 * Enqueues a transfer of a contiguous tensor, to start after all `after` events; transfers of one link run in the
 * order in which they were sent. *done is the point from which `to` may be read and `from` overwritten. times may be
 * NULL, and must stay valid until then. A failure of an `after` event or of the transfer fails *done and all later
 * transfers, of which some may still be running; ps_link_reset waits for them and makes the link usable again. On a
 * view link `to` must be the very tensor `from`.
 */
ps_status ps_link_send(ps_link *link, ps_tensor to, ps_tensor from, const ps_event *after, int after_count,
                       ps_link_times *times, ps_event *done) PS_WARN_UNUSED;
void ps_link_reset(ps_link *link);
/*
 * The ends of what has been sent so far, one for each queue of the link; the second may be the zero event. When both
 * are completed, be it with a failure, nothing of it touches memory any more.
 */
void ps_link_ends(const ps_link *link, ps_event ends[2]);

#ifdef __cplusplus
}
#endif
#endif
