/* One layer alone on a device, with a tensor for all that its plan asks for: the engine's part, in the small. */
#ifndef PS_VERIFY_LAYER_TRIAL_H
#define PS_VERIFY_LAYER_TRIAL_H

#include "verify/side.h"

#include <penstock/layer.h>

enum { TRIAL_PARAMETERS = 16 };

/* A layer of the Transformer and a micro-batch for it. */
struct layer_size {
	const char *name;
	enum { TRIAL_EMBEDDING, TRIAL_ENCODER, TRIAL_DECODER } kind;
	int64_t emsize, nhid, vocabulary;
	int nhead;
	double dropout;
	bool causal;
	int64_t rows, time;
};

struct layer_trial {
	struct side *side;
	const struct layer_size *size;
	uint64_t seed;
	ps_layer *layer;
	ps_layer_plan plan;
	ps_tensor x, y, dy, dx; /* y of the decoder is its losses; absent where there is none */
	ps_tensor targets;
	ps_tensor slots[PS_MAX_SLOTS];
	ps_tensor parameters[TRIAL_PARAMETERS], gradients[TRIAL_PARAMETERS];
};

/* Makes the layer and all tensors on the side, which frees them. Values are the same for the same seed on any side. */
ps_status ps__trial_init(struct layer_trial *trial, struct side *side, const struct layer_size *size,
                         uint64_t seed) PS_WARN_UNUSED;
/* Destroys the layer; takes a trial whose init failed. */
void ps__trial_finish(struct layer_trial *trial);
/* The factor of a loss: y counts by it in the decoder's scalar. */
double ps__trial_loss_scale(const struct layer_trial *trial);

/* Run an action and wait. Each sees the slots that live in it, and no others. */
ps_status ps__trial_forward(struct layer_trial *trial) PS_WARN_UNUSED;
ps_status ps__trial_backward(struct layer_trial *trial) PS_WARN_UNUSED;
ps_status ps__trial_weight(struct layer_trial *trial) PS_WARN_UNUSED;
/* Makes the slots of a lifetime NaNs. */
ps_status ps__trial_spoil(struct layer_trial *trial, ps_lifetime lifetime) PS_WARN_UNUSED;

#endif
