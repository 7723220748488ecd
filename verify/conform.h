/*
 * Conformance rows: one op, one set of shapes and fills, run on the reference device and on every other one, and
 * compared.
 *
 * A file has tables of rows and bodies. The body declares the op's tensors by name and runs the op; it is called at
 * least once for each dtype and device, and the harness sees to it that all devices get the same bytes:
 *
 *   static void add_body(struct conform *c, const void *data)
 *   {
 *           const struct row *row = data;
 *           conform_run(c, add,
 *                       .a = conform_in(c, "a", SHAPE(row->n)),
 *                       .b = conform_in(c, "b", SHAPE(row->n)),
 *                       .y = conform_out(c, "y", SHAPE(row->n)));
 *   }
 *
 * Every tensor lies between guard bytes, at an offset that is aligned to its elements and to no more. Other devices
 * than the reference run rows that are not of fp64 again with all tensors aligned to 16 bytes and, where they are
 * small, with all but one, for each of them: so a backend's wide accesses run, and one that asks too few tensors for
 * their alignment fails. The values must be the same, but for products. After the op all bytes that are no element of
 * an output must be as they were. An output that is only overwritten starts as NaNs.
 *
 * A body cannot fail: what goes wrong is kept in the harness, and what comes after it does nothing.
 */
#ifndef PS_VERIFY_CONFORM_H
#define PS_VERIFY_CONFORM_H

#include "core/compare.h"

#include <penstock/verify.h>

enum conform_role { CONFORM_IN, CONFORM_OUT, CONFORM_INOUT };

enum conform_fill {
	FILL_UNIT,     /* uniform in [-1, 1) */
	FILL_SPECIAL,  /* zeros of both signs, denormals, huge values, infinities and NaNs among ordinary values */
	FILL_LARGE,    /* uniform in [-1e18, 1e18) */
	FILL_TINY,     /* denormals and their neighbours, and zeros of both signs */
	FILL_WHOLE,    /* whole numbers from -8 to 8, whose sums are exact */
	FILL_POSITIVE, /* uniform in [0.5, 1.5) */
	FILL_INFINITE, /* infinities */
	FILL_NAN
};

#define CONFORM_EXACT ((ps__tolerance){0})
/* For a few roundings and an elementary function or two. */
#define CONFORM_CLOSE ((ps__tolerance){.f32 = 4e-6, .f64 = 1e-13})

struct conform_spec {
	const char *name;
	enum conform_role role;
	enum conform_fill fill;
	int rank;
	int64_t dims[PS_MAX_RANK];
	int64_t pitch; /* row stride of a matrix; 0: contiguous */
	bool wide;     /* F64 whatever the row's dtype */
	bool narrow;   /* BF16 in a set of bf16, whose other tensors are F32 */
	int64_t bound; /* > 0: an I32 tensor of values in [0, bound) */
	bool zero;     /* all zeros */
	bool identity; /* ones on the diagonal of the last two dimensions, zeros elsewhere */
	bool thirds;   /* the identity in the last third of the columns (v of qkv); fill in the others */
	bool causal;   /* zeros above the diagonal of the last two dimensions */
	/* Of an output: how far it may be off, by dtype, and the other two parts of ps__tolerance. */
	ps__tolerance tolerance;
	double terms;
	bool zeros;
};

#define SHAPE(...) .rank = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), .dims = {__VA_ARGS__}

struct conform {
	ps_dtype dtype;
	uint64_t seed;
	struct conform_state *state;
};

typedef void (*conform_body)(struct conform *c, const void *row);

/* For bodies: the tensor with the spec's name on the device of this call. */
ps_tensor ps__conform_tensor(struct conform *c, const struct conform_spec *spec);
#define conform_in(c, text, ...) \
	ps__conform_tensor((c), &(const struct conform_spec){.role = CONFORM_IN, .name = (text), __VA_ARGS__})
#define conform_out(c, text, ...) \
	ps__conform_tensor((c), &(const struct conform_spec){.role = CONFORM_OUT, .name = (text), __VA_ARGS__})
#define conform_inout(c, text, ...) \
	ps__conform_tensor((c), &(const struct conform_spec){.role = CONFORM_INOUT, .name = (text), __VA_ARGS__})
/* What the op overwrites or, where it accumulates, adds to. */
#define conform_sum(c, text, accumulate, ...)                                                                    \
	ps__conform_tensor((c), &(const struct conform_spec){.role = (accumulate) ? CONFORM_INOUT : CONFORM_OUT, \
	                                                     .name = (text),                                     \
	                                                     __VA_ARGS__})

/* An input and an output of one spec: two tensors, or for `alias` one, which has the input's name. */
struct conform_pair {
	ps_tensor in, out;
};
struct conform_pair ps__conform_pair(struct conform *c, bool alias, const char *out, const struct conform_spec *spec);
#define conform_pair(c, alias, in, out, ...) \
	ps__conform_pair((c), (alias), (out), &(const struct conform_spec){.name = (in), __VA_ARGS__})

/*
 * Sets how this call's queue multiplies; false, and the body returns, where the device cannot. Of tf32 a reference that
 * cannot has better numbers.
 */
bool ps__conform_math(struct conform *c, ps_math math);

/* Runs the op with the tensors declared before and checks all that can be checked. Once for each call of the body. */
void ps__conform_call(struct conform *c, ps_op op, const void *arguments, size_t bytes);
#define conform_run(c, op, ...) \
	ps__conform_call((c), PS_OP_##op, &(const ps_args_##op){__VA_ARGS__}, sizeof(ps_args_##op))

/* The dropout sites that rows go through: none, usual, half; first rows other than 0; far steps and layers. */
struct conform_drop {
	float p;
	uint32_t first_row, step, layer;
};
ps_dropout ps__conform_dropout(uint64_t seed, const struct conform_drop *drop);

/* A well-mixed 64-bit number for each counter. */
uint64_t ps__conform_mix(uint64_t counter);

/* A body and its rows. */
struct conform_set {
	ps_op op;
	const char *subject; /* the op's name, and what sets it apart in a list of results */
	const char *part;    /* what sets it apart from the subject's other sets; "" for the first */
	const void *rows;
	size_t row_bytes, count;
	conform_body body;
	ps_math math; /* F32: rows are run in F32 and F64; BF16 and TF32: once, as BF16 or F32 */
};
#define CONFORM_MATH_SET(math, op, subject, part, rows, body)                                                        \
	{                                                                                                            \
		PS_OP_##op, (subject), (part), (rows), sizeof *(rows), sizeof(rows) / sizeof *(rows), (body), (math) \
	}
#define CONFORM_SET(op, part, rows, body) CONFORM_MATH_SET(PS_MATH_F32, op, #op, part, rows, body)
#define CONFORM_BF16_SET(op, part, rows, body) CONFORM_MATH_SET(PS_MATH_BF16, op, #op, part, rows, body)
#define CONFORM_TF32_SET(op, part, rows, body) CONFORM_MATH_SET(PS_MATH_TF32, op, #op " tf32", part, rows, body)

/* The sets of a file. */
struct conform_family {
	const char *name;
	const struct conform_set *sets;
	size_t count;
};
#define CONFORM_FAMILY(name, sets)                            \
	{                                                     \
		(name), (sets), sizeof(sets) / sizeof *(sets) \
	}

/* All families; *count of them. */
const struct conform_family *const *ps__conform_families(size_t *count);

/*
 * Runs these sets in F32 and F64 on all devices, or only asks the devices about them (rows of small tensors). The ps_
 * functions do so with all sets there are.
 */
ps_status ps__conform_run(const ps_verify_config *config, const struct conform_set *sets, size_t count,
                          bool ask) PS_WARN_UNUSED;

#endif
