/*
 * What the files of the matrix product share.
 *
 * gemm.c chooses, for each product, between CLBlast (gemm_clblast.c) and our own kernels (gemm_own.c).
 */
#ifndef PS_BACKENDS_OPENCL_GEMM_H
#define PS_BACKENDS_OPENCL_GEMM_H

#include "backends/opencl/opencl.h"

/* One product as all sides see it: c (m, n) (+)= op(a) op(b). */
struct cl_product {
	ps_dtype dtype;
	ps_tensor a, b, c;
	int64_t m, n, k;
	bool trans_a, trans_b, accumulate;
};

/* How our own product is made: a form, which is compiled, and how it is cut at run time. */
struct cl_gemm_plan {
	int form;          /* of ps__cl_forms */
	int depth;         /* steps along k at once, and */
	int block_columns; /* panels and */
	int block_rows;    /* tiles of a work-item; all three for PANELS only */
};

struct cl_gemm_form {
	const char *name;    /* for the user: "12x32" */
	const char *options; /* of the compiler */
	bool panels;         /* else tiles in local memory */
	int rows, columns;   /* of c in registers; columns in vectors for panels */
	int group[2];        /* work-items of a group; for tiles */
};

extern const struct cl_gemm_form ps__cl_forms[CL_GEMM_FORMS];

/* gemm_own.c */
/* The plan for a product on a device for which nothing was tuned. */
struct cl_gemm_plan ps__cl_own_plan(const struct cl_device *d, const struct cl_product *p);
/* c (+)= op(a) op(b) + bias; `bias` may be absent. */
ps_status ps__cl_own_gemm(struct cl_queue *q, const struct cl_product *p, ps_tensor bias,
                          const struct cl_gemm_plan *plan);

/* gemm_clblast.c */
ps_status ps__cl_clblast_gemm(struct cl_queue *q, const struct cl_product *p);
/* May CLBlast make this product on this device? Checks and measures where that is not known. */
ps_status ps__cl_clblast_trusted(struct cl_queue *q, const struct cl_product *p, bool *trusted);

#endif
