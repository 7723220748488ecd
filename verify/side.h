/* One of the two sides of a comparison: a queue, with tensors of doubles in and out of it. */
#ifndef PS_VERIFY_SIDE_H
#define PS_VERIFY_SIDE_H

#include <penstock/verify.h>

enum { SIDE_BUFFERS = 96 };

struct side {
	ps_queue *queue; /* borrowed */
	ps_dtype dtype;  /* of its floating-point tensors */
	ps_buffer *buffers[SIDE_BUFFERS];
	int count;
};

/* Frees the tensors, and makes a failed queue usable again. */
void ps__side_finish(struct side *side);
/* A contiguous tensor in a buffer of its own, all NaNs. */
ps_status ps__side_tensor(struct side *side, ps_tensor *out, ps_dtype dtype, int rank,
                          const int64_t *dims) PS_WARN_UNUSED;
/* Copy all elements of a contiguous tensor, as doubles. */
ps_status ps__side_set(struct side *side, ps_tensor tensor, const double *values) PS_WARN_UNUSED;
ps_status ps__side_get(struct side *side, ps_tensor tensor, double *values) PS_WARN_UNUSED;
/* Its bytes, which the caller frees; and all bytes set, 0xFF being NaN. */
ps_status ps__side_bytes(struct side *side, ps_tensor tensor, void **out) PS_WARN_UNUSED;
ps_status ps__side_fill(struct side *side, ps_tensor tensor, unsigned char byte) PS_WARN_UNUSED;
/*
 * 4096 evenly spaced values between low and high, without these and the middle, rounded to F32; the same for the same
 * stream. Of I32, whole numbers.
 */
ps_status ps__side_random(struct side *side, ps_tensor tensor, uint64_t stream, double low, double high) PS_WARN_UNUSED;

/* A queue on each device of the configuration, against's first. */
ps_status ps__queues_open(ps_queue ***out, const ps_verify_config *config) PS_WARN_UNUSED;
void ps__queues_close(ps_queue **queues, const ps_verify_config *config);
/* The name of `against` with its default. */
const char *ps__against(const ps_verify_config *config);

#endif
