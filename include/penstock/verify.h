/*
 * Checking devices: their results against those of another device, the reference unless told otherwise.
 *
 *   ps_verify_ops        the conformance rows: every op on shapes of the model and odd ones, with special values,
 *                        views and every alias that an op allows, between guard bytes
 *   ps_verify_gradients  every backward op against finite differences of its forward op in F64: on the device itself
 *                        for F64, for F32 on the device that it is checked against
 *   ps_verify_layers     every kind of layer, alone: F, B and W against the other device; W long after B against BW,
 *                        and R against F, both bit for bit
 *   ps_verify_step       a training step of a small Transformer, forward, backward, clipping and update: every op of
 *                        it from identical inputs, in the order in which they ran; then loss, gradient norm and
 *                        updated parameters against those of the same step on the other device
 *   ps_verify_support    whether a device would take the ops on these, by its own answer: nothing is run. SAME: it
 *                        would; SKIPPED: it would not
 *
 * A check tells each row's outcome through `report` and goes on: a difference is a result, not an error. The status
 * says that the check itself could not go on (a device that does not open, no memory on the host).
 */
#ifndef PENSTOCK_VERIFY_H
#define PENSTOCK_VERIFY_H

#include <penstock/ops.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ps_verify_outcome {
	PS_VERIFY_SAME,
	PS_VERIFY_DIFFERS, /* a value beyond the tolerance, bytes that were overwritten, or an op that failed */
	PS_VERIFY_SKIPPED  /* not run; the message says why */
} ps_verify_outcome;

/* What one row gave on one device. Strings are valid during the call of `report`. */
typedef struct ps_verify_result {
	const char *device;
	const char *subject; /* "gemm" */
	const char *part;    /* which of the subject's rows: "trans_b", or "" */
	size_t row;          /* among those */
	ps_dtype dtype;
	ps_verify_outcome outcome;
	/* SKIPPED: PS_ENOTSUP when the device does not take it, PS_ETOOBIG or PS_ENOMEM when a tensor is too large. */
	ps_status status;
	const char *shapes;  /* "a fp32 (3, 4), b fp32 (4, 5), c fp32 (3, 5)" */
	const char *message; /* what differs or why it was skipped; "" for SAME */
	/* The worst element of all outputs; `tensor` is NULL when none was compared. */
	const char *tensor;
	int rank;
	int64_t index[PS_MAX_RANK];
	double got, want;
	double ulps;        /* its error, in units in the last place of the element or of its output's mean square */
	double share;       /* its error as a multiple of the tolerance */
	size_t done, total; /* results so far, this one included, and at most */
} ps_verify_result;

/* The sizes of what ps_verify_step trains. */
typedef struct ps_verify_model {
	int64_t vocabulary, emsize, nhid, rows, time;
	int nhead, nlayers, chunks;
	double dropout;
	bool causal;
	double lr, clip;
} ps_verify_model;

typedef struct ps_verify_config {
	const char *const *devices; /* names, as ps_device_open takes them */
	int device_count;
	const char *against;          /* NULL: "ref" */
	uint64_t seed;                /* of all values */
	const ps_verify_model *model; /* of ps_verify_step; NULL: two layers of 64 */
	int64_t elements;             /* rows with a larger tensor are skipped; 0: none is */
	void (*report)(void *payload, const ps_verify_result *result);
	void *payload;
} ps_verify_config;

ps_status ps_verify_ops(const ps_verify_config *config) PS_WARN_UNUSED;
ps_status ps_verify_gradients(const ps_verify_config *config) PS_WARN_UNUSED;
ps_status ps_verify_layers(const ps_verify_config *config) PS_WARN_UNUSED;
ps_status ps_verify_step(const ps_verify_config *config) PS_WARN_UNUSED;
ps_status ps_verify_support(const ps_verify_config *config) PS_WARN_UNUSED;

#ifdef __cplusplus
}
#endif
#endif
