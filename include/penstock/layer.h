/*
 * The layer contract: what the pipeline engine knows of a layer.
 *
 * A layer is a table of functions and a list of parameters. It states the memory that it needs by lifetime, and
 * records ops for its forward and for the two halves of its backward:
 *
 *   forward          x → y, and fills the saved slots;
 *   backward_input   dy → dx, overwrites dx, fills the carry slots, touches no parameter gradient;
 *   backward_weight  adds to the parameter gradients from saved and carry slots only, so that it may run later, and
 *                    for several micro-batches at once, whose rows then lie side by side.
 *
 * Recomputation is forward again. All functions only record: they run once when a program is compiled, never in a
 * step. The first dimension of every slot, of x and of y is sample rows; the engine adds it. docs/add-a-layer.md
 * walks through one.
 */
#ifndef PENSTOCK_LAYER_H
#define PENSTOCK_LAYER_H

#include <penstock/ops.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PS_MAX_SLOTS 24
#define PS_MAX_ROW_RANK (PS_MAX_RANK - 1)

/* What a tensor looks like for one sample row: int32 (time) for tokens, fp32 (time, E) for hidden states. */
typedef struct ps_shape {
	ps_dtype dtype;
	int rank;
	int64_t dims[PS_MAX_ROW_RANK];
} ps_shape;

typedef enum ps_lifetime {
	PS_LIFETIME_SCRATCH,  /* within one action */
	PS_LIFETIME_SAVED_B,  /* from F (or R) to B */
	PS_LIFETIME_SAVED_W,  /* from F (or R) to W, and readable in B */
	PS_LIFETIME_CARRY,    /* from B to W */
	PS_LIFETIME_CONSTANT, /* filled once, before training; its shape is the whole tensor, without sample rows */
} ps_lifetime;

typedef struct ps_slot {
	const char *name;
	ps_lifetime lifetime;
	ps_shape shape;
} ps_slot;

typedef struct ps_layer_plan {
	ps_shape out; /* rank 0: the layer has no output, it ends the pipeline with its losses */
	ps_slot slots[PS_MAX_SLOTS];
	int slot_count;
	/* How long x is needed: SCRATCH (F alone), SAVED_B or SAVED_W. */
	ps_lifetime input;
	/* How long dy is needed: SCRATCH (B alone) or CARRY (W too). */
	ps_lifetime gradient;
	/* Operations for one sample row, for balancing and for reports. */
	double forward_flops, backward_input_flops, backward_weight_flops;
} ps_layer_plan;

typedef enum ps_init_rule {
	PS_INIT_CONSTANT, /* all elements are `low` */
	PS_INIT_UNIFORM,  /* U(low, high), by docs/random.md */
} ps_init_rule;

typedef struct ps_parameter {
	const char *name; /* without the layer's: "linear1.weight" */
	int rank;
	int64_t dims[2];
	ps_init_rule init;
	double low, high;
	bool gemm; /* a matrix that nothing but gemm takes: the engine may hand out a BF16 copy of it, or keep it as
	              BF16 */
} ps_parameter;

typedef struct ps_layer ps_layer;

/* What one recording gets. Tensors that do not apply are absent. */
typedef struct ps_layer_context {
	ps_list *list;
	bool training;      /* false: no dropout, no gradients will be asked for */
	int64_t rows;       /* sample rows in this micro-batch, or in W in this group of them */
	uint32_t first_row; /* the first of them within the whole batch */
	uint64_t seed;
	/* As the layer lists its parameters; BF16 where the pipeline multiplies in bf16 and gemm takes BF16. */
	const ps_tensor *parameters, *gradients;
	const ps_tensor *slots;    /* as its plan lists them */
	ps_tensor x;               /* F and R; B and W as far as the plan's `input` reaches */
	ps_tensor y;               /* F and R */
	ps_tensor dy;              /* B; W if the plan's `gradient` is CARRY */
	ps_tensor dx;              /* B; absent where nobody needs it */
	ps_tensor targets, losses; /* F and R of the last layer: int32 (rows, time), and one loss a token */
	double loss_scale;         /* of the gradient of the sum of losses: 1 / tokens of the whole batch */
	bool accumulate;           /* W: add to the gradients, which otherwise are overwritten */
} ps_layer_context;

typedef struct ps_layer_impl {
	const char *name;
	/* States shapes, memory and work for an input; `dtype` is what the pipeline computes in. *out is zeroed. */
	ps_status (*plan)(const ps_layer *layer, const ps_shape *in, ps_dtype dtype, ps_layer_plan *out);
	ps_status (*forward)(const ps_layer *layer, const ps_layer_context *context);
	ps_status (*backward_input)(const ps_layer *layer, const ps_layer_context *context);
	/* NULL for a layer without parameters. */
	ps_status (*backward_weight)(const ps_layer *layer, const ps_layer_context *context);
	/* Fills the host copy of CONSTANT slot `slot`; NULL for a layer without any. */
	ps_status (*fill_constant)(const ps_layer *layer, int slot, const ps_shape *shape, double *values);
	void (*destroy)(ps_layer *layer);
} ps_layer_impl;

/* Embed this first in a layer's own struct. */
struct ps_layer {
	const ps_layer_impl *impl;
	char name[48];  /* the front of its parameters' names: "layers.0", "decoder" */
	uint32_t index; /* its number in the whole model, which places its random numbers */
	const ps_parameter *parameters;
	int parameter_count;
};

/* The dropout argument of a site in this layer; p = 0 when not training. */
ps_dropout ps_layer_dropout(const ps_layer *layer, const ps_layer_context *context, uint32_t site, double p);
/* Takes NULL. */
void ps_layer_destroy(ps_layer *layer);

#ifdef __cplusplus
}
#endif
#endif
