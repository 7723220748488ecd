/*
 * Between gemm.c, gemm_plan.c and gemm_trial.c: what cuBLASLt needs to know for products of a shape.
 *
 * cuBLAS is column-major, which a row-major matrix is the transpose of. So c (m, n) = op(a) op(b) is asked for as
 * c^T (n, m) = op(b)^T op(a)^T: b comes first, and its rows of n elements are cuBLAS's columns.
 */
#ifndef PS_BACKENDS_CUDA_GEMM_H
#define PS_BACKENDS_CUDA_GEMM_H

#include "backends/cuda/cuda.h"

/* To how many bytes a fused bias is aligned, and all matrices that tensor cores multiply. */
enum { CUDA_GEMM_ALIGNMENT = 16 };

/* All that an algorithm is chosen by. Keys are compared as bytes: zero them first. */
struct cuda_gemm_key {
	ps_dtype dtype; /* of c */
	ps_math math;   /* unless c is fp64 */
	int trans_a, trans_b, accumulate, bias;
	int64_t n, k, lda, ldb, ldc;
	uint64_t align_a, align_b, align_c;
};

struct cuda_plan {
	struct cuda_plan *next;
	struct cuda_gemm_key key;
	int64_t m;
	cublasLtMatmulDesc_t product;
	cublasLtMatrixLayout_t a, b, c;
	cublasLtMatmulAlgo_t algo;
	bool pinned;
};

/*
 * The plan for m rows, borrowed until ps__cuda_plans_free; made when there is none yet. The caller holds the device's
 * mutex.
 */
ps_status ps__cuda_plan_find(struct cuda_plan **out, ps_queue *queue, const struct cuda_gemm_key *key, int64_t m);

/* What trials of a key's algorithms have of their own, so that they disturb no queue. */
struct cuda_trial {
	const ps_queue *queue;
	const struct cuda_gemm_key *key;
	int64_t rows; /* the most of a product */
	ps_dtype factors;
	cudaStream_t stream;
	char *memory; /* NULL: there was no room */
	/* In memory. */
	int *differ;
	char *a, *b, *bias, *base_c, *other_c, *workspace;
	int64_t a_count, b_count;
	size_t c_bytes; /* of each */
};

/*
 * Trials of products with the key, in which a is not transposed, and with up to so many rows. There is one to end even
 * when it fails. Where the device has no memory for it, whatever is tried then agrees.
 */
ps_status ps__cuda_trial_begin(struct cuda_trial *t, const ps_queue *queue, const struct cuda_gemm_key *key,
                               int64_t rows);
void ps__cuda_trial_end(struct cuda_trial *t);
/* The product that others are compared with from now on. *done: cuBLASLt takes its algorithm. */
ps_status ps__cuda_trial_base(bool *done, const struct cuda_trial *t, const struct cuda_plan *base);
/* Have the rows that the product shares with the base the same bits? */
ps_status ps__cuda_trial_other(bool *same, const struct cuda_trial *t, const struct cuda_plan *base,
                               const struct cuda_plan *other);

/* Enqueues the plan's product on a stream. The caller holds the device's mutex. */
ps_status ps__cuda_multiply(const ps_queue *queue, const struct cuda_plan *plan, const void *a, const void *b, void *c,
                            const void *bias, void *workspace, cudaStream_t stream);

/* PS_OK, or a failure that says what cuBLAS refused. */
ps_status ps__cuda_gemm_check(const ps_queue *queue, const char *what, cublasStatus_t status);
#define LT_TRY(queue, what, call) PS_TRY(ps__cuda_gemm_check((queue), (what), (call)))

#endif
