/*
 * Comparing a tensor's values with those of a reference.
 *
 * An element may be off by the tolerance times the largest of the wanted value, the root mean square of all wanted
 * values, and `terms`, the size of the terms whose sum it is: small values whose terms cancel need that. What is below
 * the smallest normal number counts as zero, since devices may flush it. A NaN is right where a NaN is wanted, an
 * infinity where the same is wanted. Integers must be the same. A BF16 element may be off by what an F32 one may and,
 * unless that is zero, by a rounding to a neighbour (2^-7) besides.
 */
#ifndef PS_CORE_COMPARE_H
#define PS_CORE_COMPARE_H

#include <penstock/tensor.h>

typedef struct ps__tolerance {
	double f32, f64; /* by the tensor's dtype; 0 asks for the same value */
	double terms;
	bool zeros; /* zero exactly where the reference is zero */
} ps__tolerance;

/* For sums of `count` products of ordinary values, in any order. */
ps__tolerance ps__tolerance_of_sum(int64_t count);

/* The value of an element of a tensor's copy in host memory, `place` elements from its first. */
double ps__element(const void *from, ps_dtype dtype, int64_t place);

/* Where two tensors differ, and by how much at most. */
typedef struct ps__difference {
	ps_dtype dtype;
	int rank;
	int64_t count;     /* elements compared */
	int64_t bad;       /* elements beyond the tolerance; 0: the tensors are the same */
	int64_t misplaced; /* those of them that are zero where the reference is not, or the other way */
	int64_t worst;     /* the element with the largest share, then ULPs, in row-major order; -1: no elements */
	int64_t at[PS_MAX_RANK]; /* the same by dimension */
	double got, want;        /* its values */
	double ulps;             /* its error in units in the last place of what the tolerance is relative to */
	double share; /* its error as a multiple of what is allowed, above 1 for bad elements; may be infinite */
} ps__difference;

/* Compares two copies in host memory, each laid out by the shape and the strides of `as`, whose buffer is not used. */
ps__difference ps__compare(ps_tensor as, const void *got, const void *want, const ps__tolerance *tolerance);

/* "3 of 1000 elements differ; worst [2, 5] is 1.5, should be 1.25 (2097152 ULPs, 1e+05 times the tolerance)" */
const char *ps__difference_text(const ps__difference *difference, char *text, size_t bytes);

#endif
