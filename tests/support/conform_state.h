/* What the parts of the conformance harness know of a row at work. */
#ifndef PS_TESTS_SUPPORT_CONFORM_STATE_H
#define PS_TESTS_SUPPORT_CONFORM_STATE_H

#include "support/conform.h"

enum { CONFORM_SLOTS = 16, CONFORM_GUARD = 1024 };

/* One tensor of the row: its bytes before the op on every device, and the reference's after it. */
struct conform_slot {
	struct conform_spec spec;
	ps_tensor tensor; /* on the device of this pass; its buffer is NULL before the body has declared it */
	size_t bytes;     /* of the buffer, guards included */
	unsigned char *image, *want;
};

struct conform_state {
	ps_op op;
	size_t row;
	const char *device_name;
	ps_device *device;
	ps_queue *queue;
	bool reference; /* this pass is the reference's */
	bool done;      /* the body ran the op in this pass */
	bool large;     /* a tensor has more elements than PS_TEST_ELEMENTS: the row is left out */
	bool skip;      /* the device lacks the op: nothing was run, and nothing is wrong */
	size_t slots;
	struct conform_slot slot[CONFORM_SLOTS];
	int failures, compared;
};

/* Fills the image of a slot from the seed, the op, the row and the tensor's name. */
void conform_image(const struct conform_state *state, struct conform_slot *slot, ps_dtype dtype);

/* Compares what a device left of a slot with the image and, on other devices than the reference, with its result. */
void conform_compare(struct conform *c, const struct conform_slot *slot, const unsigned char *got);

/* Counts a failure and prints the first few, naming op, dtype, row, device and seed. */
void conform_fail(struct conform *c, const char *format, ...) PS_PRINTF(2, 3);

#endif
