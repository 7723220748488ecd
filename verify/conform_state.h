/* What the parts of the conformance harness know of a row at work. */
#ifndef PS_VERIFY_CONFORM_STATE_H
#define PS_VERIFY_CONFORM_STATE_H

#include "verify/conform.h"
#include "verify/outcome.h"

enum { CONFORM_SLOTS = 16, CONFORM_GUARD = 1024, CONFORM_ALIGNED = 16 };

/* One tensor of the row: its bytes before the op on every device, and the reference's after it. */
struct conform_slot {
	struct conform_spec spec;
	ps_tensor tensor;      /* on the device of this pass; its buffer is NULL before the body has declared it */
	size_t bytes;          /* of the image, guards included */
	size_t at;             /* of the tensor's first element in the image */
	unsigned char *memory; /* has the image after CONFORM_ALIGNED zeros */
	unsigned char *image, *want;
	unsigned char *first; /* what the device left of an output before its tensors were aligned otherwise */
};

struct conform_state {
	const ps_verify_config *config;
	const struct conform_set *set;
	ps_queue *queue;
	bool ask;         /* nothing is run: the device is only asked whether it would */
	bool reference;   /* this pass is the reference's */
	bool aligned;     /* this pass has the tensors aligned to CONFORM_ALIGNED bytes, */
	size_t odd;       /* but for this slot's */
	bool done;        /* the body ran the op in this pass */
	ps_status status; /* a fault of the host, which ends the run */
	size_t slots;
	struct conform_slot slot[CONFORM_SLOTS];
	struct outcome outcome; /* of this pass */
};

/* Fills the image of a slot from the seed, the op, the row and the tensor's name. */
void ps__conform_image(const struct conform_state *state, struct conform_slot *slot, ps_dtype dtype);

/* Compares what a device left of a slot with the image and, on other devices than the reference, with its result. */
void ps__conform_compare(struct conform_state *state, const struct conform_slot *slot, const unsigned char *got);

#endif
