/*
 * What the files of the matrix product share.
 *
 *   gemm.c                     the op: decides for each product, and makes it
 *   gemm_own.c                 our own kernels, in several forms
 *   gemm_clblast.c             CLBlast's product, and whether it may be trusted
 *   gemm_parameters.c          the parameters of CLBlast's kernels
 *   gemm_state.c               what is known of a device: checks, measurements, tuning; kept in the user's cache
 *   gemm_trial.c               products of whole numbers, to check and to time a way of making them
 *   gemm_tune.c                the search for the fastest way
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

/* Which of the four pairs of transposes. */
static inline int cl_transposes(bool trans_a, bool trans_b)
{
	return trans_a * 2 + trans_b;
}

enum { CL_TRANSPOSES = 4 };

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

/* gemm_parameters.c: the kernels of CLBlast that products use. */
enum { CL_CLBLAST_KERNELS = 7, CL_CLBLAST_PARAMETERS = 16 };
/* Which of them are names of those that stand here alone. */
enum { CL_XGEMM, CL_XGEMM_DIRECT, CL_GEMM_ROUTINE = CL_CLBLAST_KERNELS - 1 };

struct cl_clblast_values {
	int of[CL_CLBLAST_KERNELS][CL_CLBLAST_PARAMETERS];
};

/* Something that works everywhere, if slowly. */
extern const struct cl_clblast_values ps__cl_clblast_start;
/* May CLBlast be given these values for one of its kernels? */
bool ps__cl_clblast_allowed(const struct cl_device *d, ps_dtype dtype, int kernel, const struct cl_clblast_values *v);
/* Changes one parameter of a kernel at random, or all of them. */
void ps__cl_clblast_change(struct cl_clblast_values *v, int kernel, bool all, uint64_t *random);
const char *ps__cl_clblast_kernel_name(int kernel);
/* Hands the values of one kernel to CLBlast. The caller holds CLBlast's mutex; others use ps__cl_clblast_apply. */
ps_status ps__cl_clblast_set(const struct cl_device *d, ps_dtype dtype, int kernel, const struct cl_clblast_values *v);

/* gemm_state.c */
enum { CL_TUNED_ROWS = 96 };

struct cl_tuned_row {
	int64_t m, n, k;
	int transposes;
	struct cl_gemm_plan plan;
};

/* What tuning found for a dtype. Kept as it is. */
struct cl_tuned {
	int64_t when;               /* seconds since 1970 */
	double rate;                /* operations per second over all rows */
	int clblast[CL_TRANSPOSES]; /* does CLBlast make products with these transposes? */
	int has_values;             /* are there values for CLBlast? else its own hold */
	struct cl_clblast_values values;
	int count;
	struct cl_tuned_row rows[CL_TUNED_ROWS];
};

/* Classes of products, each of which is checked once: transposes, accumulation, size (by powers of two). */
enum { CL_GEMM_SIZES = 8, CL_GEMM_CLASSES = 2 * CL_TRANSPOSES * CL_GEMM_SIZES };
enum cl_verdict { CL_UNKNOWN, CL_RIGHT, CL_WRONG };

/* What was found of CLBlast as it is set on a device. Kept as it is. */
struct cl_verdicts {
	unsigned char classes[CL_GEMM_CLASSES];
	double own_share; /* the time of our own product in CLBlast's; 0: not measured yet */
};

/* Is our own product so much faster that CLBlast is passed over? */
static inline bool ps__cl_own_is_faster(const struct cl_verdicts *verdicts)
{
	return verdicts->own_share > 0 && verdicts->own_share < 2.0 / 3;
}

/* What is known for one dtype. */
struct cl_gemm_known {
	bool loaded, applied;  /* applied: CLBlast has the tuned values */
	enum cl_cached tuning; /* what became of the file; `tuned` counts when it is good */
	struct cl_tuned tuned;
	struct cl_verdicts verdicts;
};

/* The caller of all these holds the mutex. NULL: out of memory. */
extern pthread_mutex_t ps__cl_gemm_mutex;
struct cl_gemm_known *ps__cl_gemm_known(struct cl_device *d, ps_dtype dtype);
void ps__cl_keep_verdicts(const struct cl_device *d, ps_dtype dtype, const struct cl_gemm_known *known);
/* Uses and keeps what tuning found; writes where it is kept, "" for nowhere. */
void ps__cl_keep_tuned(const struct cl_device *d, ps_dtype dtype, struct cl_gemm_known *known,
                       const struct cl_tuned *tuned, char *file, size_t bytes);

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
/* From now on CLBlast uses these values for one of its kernels. */
ps_status ps__cl_clblast_apply(const struct cl_device *d, ps_dtype dtype, int kernel,
                               const struct cl_clblast_values *values);
/*
 * Does CLBlast make this product on this device? Checks and measures where that is not known. The caller holds the
 * mutex.
 */
ps_status ps__cl_clblast_chosen(struct cl_queue *q, const struct cl_product *p, struct cl_gemm_known *known,
                                bool *chosen);

/* gemm.c: what makes a product now. */
struct cl_gemm_choice {
	bool clblast;
	struct cl_gemm_plan plan;
};

ps_status ps__cl_gemm_choose(struct cl_queue *q, const struct cl_product *p, struct cl_gemm_choice *choice);

/* gemm_trial.c: a product of whole numbers, and what it should give. */
struct cl_trial {
	struct cl_product product;
	ps_buffer a, b, c, expected;
};

/* `like` gives dtype, transposes and accumulation. What was made is given up by finish, also after a failure. */
ps_status ps__cl_trial_init(struct cl_trial *trial, struct cl_queue *q, const struct cl_product *like, int64_t m,
                            int64_t n, int64_t k);
ps_status ps__cl_trial_finish(struct cl_trial *trial, struct cl_queue *q);
/* Makes the product once: its time, and whether it is right. A failure to make it counts as being wrong. */
ps_status ps__cl_trial_run(const struct cl_trial *trial, struct cl_queue *q, const struct cl_gemm_choice *how,
                           int64_t *ns, bool *right);

#endif
