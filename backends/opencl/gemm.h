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

/* A form of our own product: a way of building kernels/gemm.cl. */
struct cl_gemm_form {
	const char *name;    /* for the user */
	const char *options; /* of the compiler */
	bool panels;         /* else tiles */
	int rows, columns;   /* of c that a work-item has in registers; for panels, columns counts vectors */
	int group[2];        /* work-items of a group */
};

extern const struct cl_gemm_form ps__cl_forms[CL_GEMM_FORMS];

/* How our own product is made. Nothing of it changes a bit of the result. */
struct cl_gemm_plan {
	int form;                 /* of ps__cl_forms; the rest is for panels: */
	int depth, rows, columns; /* steps along k at once, rows and columns of a work-item, about */
};

/* gemm_own.c */
/* What a device starts with. */
struct cl_gemm_plan ps__cl_own_plan(const struct cl_device *d);
/* Has the device the local memory and the groups that a form takes? */
bool ps__cl_form_fits(const struct cl_device *d, int form, ps_dtype dtype);
/* c (+)= op(a) op(b) + bias; `bias` may be absent. */
ps_status ps__cl_own_gemm(struct cl_queue *q, const struct cl_product *p, ps_tensor bias,
                          const struct cl_gemm_plan *plan);

/* gemm_clblast.c */
ps_status ps__cl_clblast_gemm(struct cl_queue *q, const struct cl_product *p);
/* May CLBlast make this product on this device? Checks and measures where that is not known. */
ps_status ps__cl_clblast_trusted(struct cl_queue *q, const struct cl_product *p, bool *trusted);

#endif
