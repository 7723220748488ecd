/*
 * Products of plain matrices in memory: what product.c asks of onednn.c or of gemm.c, whichever is built, and what the
 * driver in gemm.c tells its kernels.
 */
#ifndef PS_BACKENDS_CPU_FAST_GEMM_H
#define PS_BACKENDS_CPU_FAST_GEMM_H

#include "backends/cpu/fast/fast.h"

/* c (m, n) = or += op(a) op(b) + bias, as in ps_args_gemm, with the row strides of the matrices as stored. */
struct fast_product {
	int64_t m, n, k, a_stride, b_stride, c_stride;
	bool trans_a, trans_b, accumulate, bias;
	bool bf16;   /* a and b are BF16, else F32; only where the device's `bf16` is set */
	bool bf16_c; /* c is BF16, else F32; only with bf16 */
};

struct fast_operands {
	const void *a, *b;
	void *c;
	const float *bias;
};

/*
 * When an op is enqueued or recorded: prepares for products of this shape. *handle stays with the device and may be
 * NULL. When a kernel runs: multiplies.
 */
ps_status ps__fast_product_prepare(const struct cpu_device *device, const struct fast_product *product, void **handle);
ps_status ps__fast_product_run(const struct cpu_device *device, const struct fast_product *product, void *handle,
                               const struct fast_operands *operands);

/* A unit is a row: copies a matrix, changing its dtype and rounding. */
struct fast_convert {
	const void *from;
	void *to;
	int64_t columns, from_stride, to_stride; /* elements */
	bool from_bf16, to_bf16;                 /* else F32; F32 to F32 is rounded to bf16 numbers too */
};

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
