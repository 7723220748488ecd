/*
 * Conformance rows: one op, one set of shapes and fills, run on the reference device and on every other device here,
 * and compared.
 *
 * A test file has a table of rows and a body. The body declares the op's tensors by name and runs the op; it is called
 * once for each dtype and device, and the harness sees to it that all devices get the same bytes:
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
 * Every tensor lies between guard bytes, at an offset that is aligned to its elements and to no more. After the op
 * all bytes that are no element of an output must be as they were. An output that is only overwritten starts as NaNs.
 *
 * The environment: PS_TEST_SEED is the seed of all fills, PS_TEST_DEVICES a comma-separated list of devices (default:
 * those that ps_device_list knows; of the CPU's the whole and its first core). PS_TEST_ELEMENTS is the most elements of
 * a tensor; rows with larger ones are left out, for devices that are slow, such as simulators.
 */
#ifndef PS_TESTS_SUPPORT_CONFORM_H
#define PS_TESTS_SUPPORT_CONFORM_H

#include <penstock/ops.h>

#include <check.h>

enum conform_role { CONFORM_IN, CONFORM_OUT, CONFORM_INOUT };

enum conform_fill {
	FILL_UNIT,    /* uniform in [-1, 1) */
	FILL_SPECIAL, /* zeros of both signs, denormals, huge values, infinities and NaNs among ordinary values */
	FILL_LARGE,   /* uniform in [-1e18, 1e18) */
	FILL_TINY,    /* denormals and their neighbours, and zeros of both signs */
	FILL_WHOLE,   /* whole numbers from -8 to 8, whose sums are exact */
	FILL_POSITIVE /* uniform in [0.5, 1.5) */
};

/*
 * How far an output may be off, by dtype, relative to the largest of the value, the output's root mean square and the
 * spec's `terms`, the size of the terms whose sum it is: small outputs whose terms cancel need that. Zero asks for the
 * same value. A BF16 output may be off by what an F32 one may and, unless that is zero, by a rounding to a neighbour
 * (2^-7) besides. What is below the smallest normal number counts as zero, since devices may flush it.
 */
struct conform_tolerance {
	double f32, f64;
};

/* For sums of `count` products of ordinary values, in any order. */
struct conform_tolerance conform_sum_tolerance(int64_t count);
/* For a few roundings and an elementary function or two. */
#define CONFORM_CLOSE ((struct conform_tolerance){4e-6, 1e-13})

struct conform_spec {
	const char *name;
	enum conform_role role;
	enum conform_fill fill;
	int rank;
	int64_t dims[PS_MAX_RANK];
	int64_t pitch; /* row stride of a matrix; 0: contiguous */
	bool wide;     /* F64 whatever the row's dtype */
	bool narrow;   /* BF16 likewise; the device that lacks it skips the row */
	int64_t bound; /* > 0: an I32 tensor of values in [0, bound) */
	bool zero;     /* all zeros */
	bool identity; /* ones on the diagonal of the last two dimensions, zeros elsewhere */
	bool thirds;   /* the identity in the last third of the columns (v of qkv); fill in the others */
	bool causal;   /* zeros above the diagonal of the last two dimensions */
	bool zeros;    /* an output that must be exactly zero exactly where the reference's is */
	struct conform_tolerance tolerance;
	double terms;
};

#define SHAPE(...) .rank = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), .dims = {__VA_ARGS__}

struct conform {
	ps_dtype dtype;
	struct conform_state *state;
};

typedef void (*conform_body)(struct conform *c, const void *row);

/* Runs all rows of an op in F32 and F64 (bodies return early from those that they leave out) on all devices; fails the
 * calling test after the last row if any failed. */
void conform_rows(ps_op op, const void *rows, size_t row_bytes, size_t count, conform_body body);
#define CONFORM_ROWS(op, rows, body) \
	conform_rows(PS_OP_##op, (rows), sizeof *(rows), sizeof(rows) / sizeof *(rows), (body))

/* For bodies: the tensor with the spec's name on the device of this call. */
ps_tensor conform_tensor(struct conform *c, const struct conform_spec *spec);
#define conform_in(c, text, ...) \
	conform_tensor((c), &(const struct conform_spec){.role = CONFORM_IN, .name = (text), __VA_ARGS__})
#define conform_out(c, text, ...) \
	conform_tensor((c), &(const struct conform_spec){.role = CONFORM_OUT, .name = (text), __VA_ARGS__})
#define conform_inout(c, text, ...) \
	conform_tensor((c), &(const struct conform_spec){.role = CONFORM_INOUT, .name = (text), __VA_ARGS__})

/* Sets how this call's queue multiplies; false, and the body returns, where the device cannot. */
bool conform_math(struct conform *c, ps_math math);

/* Runs the op with the tensors declared before and checks all that can be checked. Once for each call of the body. */
void conform_call(struct conform *c, ps_op op, const void *arguments, size_t bytes);
#define conform_run(c, op, ...) conform_call((c), PS_OP_##op, &(const ps_args_##op){__VA_ARGS__}, sizeof(ps_args_##op))

/* The dropout sites that rows go through: none, usual, half; first rows other than 0; far steps and layers. */
struct conform_drop {
	float p;
	uint32_t first_row, step, layer;
};
ps_dropout conform_dropout(const struct conform_drop *drop);

/* The seed of this run, and a well-mixed 64-bit number for each counter. */
uint64_t conform_seed(void);
uint64_t conform_mix(uint64_t counter);

/* The devices under test, the reference left out; *count of them. The strings live as long as the program. */
const char *const *conform_devices(size_t *count);

/* Runs a suite without forking. Returns main's value: 77 when rows were there to be compared and none was. */
int conform_suite_run(Suite *suite);

#endif
