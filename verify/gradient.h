/*
 * Gradients against finite differences.
 *
 * A case's body declares tensors, runs a forward op, the backward ops that belong to it, and names the gradients:
 *
 *   static void relu(struct gradient *g)
 *   {
 *           ps_tensor x = gradient_real(g, 3, 11), y = …, dy = …, dx = …;
 *           gradient_forward(g, relu_fwd, y, dy, .x = x, .y = y);
 *           gradient_backward(g, relu_bwd, .dy = dy, .y = y, .dx = dx);
 *           ps__gradient_check(g, "dx", x, dx);
 *   }
 *
 * It is called twice. First in F64, where each gradient is formed by central differences of the sum of dy y in every
 * element of x, and backward ops do nothing; then in the dtype that is checked, where the backward ops make it. The
 * first is on the device itself when F64 is checked, else on the one that it is checked against.
 */
#ifndef PS_VERIFY_GRADIENT_H
#define PS_VERIFY_GRADIENT_H

#include "verify/conform.h"
#include "verify/outcome.h"
#include "verify/side.h"

#include <stddef.h>

enum { GRADIENTS = 16 };

struct gradient {
	struct side side;
	bool differences; /* the first call */
	ps_status status; /* of this call, after which nothing is done any more */
	uint64_t seed, stream;
	struct conform_drop drop; /* of this variant of the case */
	bool causal;
	/* The forward op, or in its place a function, and what its scalar is made of. */
	ps_op op;
	union {
		max_align_t align;
		unsigned char bytes[2048];
	} arguments;
	size_t bytes;
	ps_status (*forward)(void *payload);
	void *payload;
	ps_tensor y, dy;
	/* What the first call found, in the order of the checks. */
	double *want[GRADIENTS];
	int checks;
	struct outcome *outcome;
};

/* A tensor of uniform values in [-1, 1); the same on both sides. */
ps_tensor ps__gradient_real(struct gradient *g, int rank, const int64_t *dims);
#define gradient_real(g, ...)                                                             \
	ps__gradient_real((g), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), \
	                  (const int64_t[]){__VA_ARGS__})
/* Tokens or targets, as (rows, columns); and a vector of one value. */
ps_tensor ps__gradient_whole(struct gradient *g, int64_t rows, int64_t columns, const double *values);
ps_tensor ps__gradient_constant(struct gradient *g, int64_t count, double value);

void ps__gradient_forward(struct gradient *g, ps_op op, ps_tensor y, ps_tensor dy, const void *arguments, size_t bytes);
#define gradient_forward(g, op, y, dy, ...) \
	ps__gradient_forward((g), PS_OP_##op, (y), (dy), &(const ps_args_##op){__VA_ARGS__}, sizeof(ps_args_##op))
void ps__gradient_backward(struct gradient *g, ps_op op, const void *arguments, size_t bytes);
#define gradient_backward(g, op, ...) \
	ps__gradient_backward((g), PS_OP_##op, &(const ps_args_##op){__VA_ARGS__}, sizeof(ps_args_##op))
/* dx is the gradient in x. */
void ps__gradient_check(struct gradient *g, const char *name, ps_tensor x, ps_tensor dx);

/*
 * Both calls of a body: the first on `differences`, the second on `queue` in `dtype`. g->outcome is complete
 * afterwards, and *g is used up.
 */
void ps__gradient_run(struct gradient *g, void (*body)(struct gradient *g), ps_queue *differences, ps_queue *queue,
                      ps_dtype dtype);

struct gradient_case {
	const char *name;
	void (*body)(struct gradient *g);
	int sites;  /* how many of the dropout sites it goes through: none, usual, half */
	bool masks; /* and with each through both masks */
};

/* The cases of the ops and of the layers; *count of them. */
const struct gradient_case *ps__gradient_op_cases(size_t *count);
const struct gradient_case *ps__gradient_layer_cases(size_t *count);

#endif
