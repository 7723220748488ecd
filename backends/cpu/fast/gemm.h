/* What the GEMM driver tells its kernels: one block of a product, without dtypes and tensors. */
#ifndef PS_BACKENDS_CPU_FAST_GEMM_H
#define PS_BACKENDS_CPU_FAST_GEMM_H

#include "backends/cpu/fast/fast.h"

enum {
	GEMM_K = 1024,        /* products summed in registers before they are added to c */
	GEMM_BLOCK = 48,      /* columns of c that the transposed form does at once: a multiple of every tile's rows */
	GEMM_CACHED = 131072, /* floats that can be counted on to stay in a core's own cache */
};

/* c (rows, columns) = or += a (rows, k) b (k, columns) + bias; a element (i, k) at i * a_row + k * a_step. */
struct fast_gemm {
	const float *a, *b, *bias; /* bias may be NULL */
	float *c;
	int64_t rows, columns, k;
	int64_t a_row, a_step, b_row, c_row; /* one of a_row and a_step is 1; b_row is the stride of b as stored */
	bool transposed;                     /* b is stored (columns, k) */
	bool add;
};

#endif
