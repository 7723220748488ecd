/* The search of gemm_tune.c, whose part for CLBlast is gemm_tune_clblast.c. */
#ifndef PS_BACKENDS_OPENCL_GEMM_TUNE_H
#define PS_BACKENDS_OPENCL_GEMM_TUNE_H

#include "backends/opencl/gemm.h"

/* Shares of the time, from the beginning, at which the phases end. */
#define FORMS_END 0.08
#define OWN_END 0.45
#define CLBLAST_END 0.8

struct cl_search {
	struct cl_queue *q;
	ps_tuning *tuning;
	int64_t begin;
	bool stopped, hopeless;             /* hopeless: of CLBlast's kernels only Xgemm was tried */
	double form_ns[CL_GEMM_FORMS];      /* for the first product; 0: out of the race */
	struct cl_tuned earlier, found;     /* earlier: by a search before this one; all 0 when there was none */
	double library_s[CL_TUNED_ROWS][2]; /* by Xgemm and by XgemmDirect */
	double own_s[CL_TUNED_ROWS], by_clblast_s[CL_TUNED_ROWS]; /* the second as it was before, where it was used */
};

static inline double cl_volume(const ps_tune_row *row)
{
	return (double)row->m * (double)row->n * (double)row->k;
}

/* gemm_tune.c */
/* Is the time up to this share of the whole used up, or is the search to end? */
bool ps__cl_is_over(const struct cl_search *s, double share);
/* The share of the time that is used up. */
double ps__cl_elapsed(const struct cl_search *s);
/* Tells the caller of the search what is tried next. */
void ps__cl_report(struct cl_search *s, const char *what);
struct cl_product ps__cl_row_product(const struct cl_search *s, const ps_tune_row *row);
/* Least time of a few runs, of which the first compiles and is not counted; 0 when the product is not right. */
ps_status ps__cl_time_once(struct cl_search *s, const struct cl_trial *trial, const struct cl_gemm_choice *how,
                           double *ns);
/* The same for a candidate, which is counted. */
ps_status ps__cl_try_one(struct cl_search *s, const struct cl_trial *trial, const struct cl_gemm_choice *how,
                         double *ns);
/* Side of the cube that stands for all products in the first rounds. */
int64_t ps__cl_probe_side(const struct cl_search *s);

/* gemm_tune_clblast.c */
/* Finds values for CLBlast's kernels. */
ps_status ps__cl_tune_clblast(struct cl_search *s);
/* A row by CLBlast: by Xgemm, and where there is hope by XgemmDirect too. */
ps_status ps__cl_time_library(struct cl_search *s, int row);
/* Chooses the size of products from which on Xgemm makes them, and notes the times that go with it. */
void ps__cl_choose_route(struct cl_search *s);
/* The parameters that CLBlast had stay where it was used with them and was faster. */
void ps__cl_keep_values_if_better(struct cl_search *s);

#endif
