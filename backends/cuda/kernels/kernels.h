/*
 * The kernels as the C side sees them: functions that launch on a stream and return what the launch said. Pointers are
 * device memory of `dtype` (PS_F32 or PS_F64) unless they say otherwise; shapes are checked and not empty. Each file
 * says how many bytes and operations its kernels need.
 */
#ifndef PS_BACKENDS_CUDA_KERNELS_KERNELS_H
#define PS_BACKENDS_CUDA_KERNELS_KERNELS_H

#include <penstock/device.h>

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What all kernels of a queue are launched with. */
struct ps_cuda_launch {
	cudaStream_t stream;
	ps_dtype dtype;
	const int *stop; /* device memory: not 0 when the queue has failed */
};

/* What a range check leaves in pinned host memory: the first bad element, -1 when all are good. */
struct ps_cuda_fault {
	int64_t index;
	int32_t value;
	int32_t check; /* which one it was, of those that leave it here */
};

/*
 * What differs from one submission of a command list to the next, in device memory: the kernels of a graph are launched
 * with the same arguments each time, and read this.
 */
struct ps_cuda_turn {
	uint32_t step;
	struct ps_cuda_fault *fault;
};
cudaError_t ps__cuda_set_turn(const struct ps_cuda_launch *launch, struct ps_cuda_turn *turn,
                              struct ps_cuda_turn value);

/* Are all elements of tokens (count) in [0, bound)? If not, *stop is set, and the fault filled. */
struct ps_cuda_range {
	const int32_t *tokens;
	int64_t count, bound;
	int32_t check;
	struct ps_cuda_fault *fault;
	const struct ps_cuda_turn *turn; /* not NULL: has the fault */
	int *stop;
};
cudaError_t ps__cuda_check_range(const struct ps_cuda_launch *launch, const struct ps_cuda_range *range);

/* A dropout site. factor is 1 / (1 - p) in the precision in which tensors of the dtype are multiplied. */
struct ps_cuda_dropout {
	int active; /* 0: p is 0 and the rest is not read */
	uint32_t threshold, first_row, step, place, key[2];
	double factor;
	const struct ps_cuda_turn *turn; /* not NULL: has the step */
};

enum ps_cuda_elementwise {
	PS_CUDA_ADD,              /* y = a + b */
	PS_CUDA_RELU_FWD,         /* y = max(a, 0) */
	PS_CUDA_RELU_BWD,         /* y = a where b > 0 */
	PS_CUDA_DROPOUT,          /* y = dropout(a) */
	PS_CUDA_RELU_DROPOUT_FWD, /* y = dropout(max(a, 0)) */
	PS_CUDA_RELU_DROPOUT_BWD  /* y = a * factor where b > 0 */
};
/* count elements, `elements` in each sample row. b may be NULL where it is not read. */
cudaError_t ps__cuda_elementwise(const struct ps_cuda_launch *launch, enum ps_cuda_elementwise kind, const void *a,
                                 const void *b, void *y, int64_t count, int64_t elements,
                                 const struct ps_cuda_dropout *drop);

/* (rows, columns) from fp32 or bf16 to fp32 or bf16, with rows so many elements apart. padded: what is between the rows
 * of `to` may be written too. */
cudaError_t ps__cuda_convert(const struct ps_cuda_launch *launch, ps_dtype to_dtype, void *to, int64_t to_stride,
                             bool padded, ps_dtype from_dtype, const void *from, int64_t from_stride, int64_t rows,
                             int64_t columns);

/* Fills memory of fp32, fp64 or bf16 with numbers in [-1, 1), always the same, whose sums round. */
cudaError_t ps__cuda_numbers(cudaStream_t stream, ps_dtype dtype, void *to, int64_t count);
/* Sets *differ to 1 where so many bytes, an even number, are not the same. */
cudaError_t ps__cuda_differ(cudaStream_t stream, const void *a, const void *b, int64_t bytes, int *differ);

/* c (rows, columns), rows `stride` apart: each row = bias (+ the row). */
cudaError_t ps__cuda_set_rows(const struct ps_cuda_launch *launch, void *c, int64_t stride, const void *bias,
                              int64_t rows, int64_t columns, bool accumulate);

/* y (columns) = sum of the rows of x (rows, columns) in ascending order (+ y). */
cudaError_t ps__cuda_column_sum(const struct ps_cuda_launch *launch, const void *x, void *y, int64_t rows,
                                int64_t columns, bool accumulate);
cudaError_t ps__cuda_layernorm_bwd_weight(const struct ps_cuda_launch *launch, const void *dy, const void *x,
                                          const void *mean, const void *rstd, void *dgamma, void *dbeta, int64_t rows,
                                          int64_t columns, bool accumulate);

struct ps_cuda_norm {
	const void *z, *residual; /* NULL: x is read as it is */
	const void *x;            /* not read when z is given */
	void *sum;                /* written when z is given */
	const void *gamma, *beta;
	void *y, *mean, *rstd;
	int64_t rows, columns; /* rows of the matrix that x is */
	int64_t elements;      /* in each sample row */
	double eps;
	struct ps_cuda_dropout drop;
};
cudaError_t ps__cuda_layernorm_fwd(const struct ps_cuda_launch *launch, const struct ps_cuda_norm *norm);

struct ps_cuda_norm_bwd {
	const void *dy, *x, *mean, *rstd, *gamma;
	void *dx, *dz; /* dz may be NULL */
	int64_t rows, columns, elements;
	struct ps_cuda_dropout drop;
};
cudaError_t ps__cuda_layernorm_bwd_input(const struct ps_cuda_launch *launch, const struct ps_cuda_norm_bwd *norm);

struct ps_cuda_embedding {
	const int32_t *tokens; /* (rows, time) */
	const void *weight, *positions;
	void *y; /* (rows, time, width): the output, or dy to be read */
	void *dweight;
	int64_t rows, time, width, vocabulary, weight_stride, position_stride;
	double scale;
	bool accumulate;
	bool narrow; /* weight or dweight is bf16 */
	struct ps_cuda_dropout drop;
};
cudaError_t ps__cuda_embedding_fwd(const struct ps_cuda_launch *launch, const struct ps_cuda_embedding *embedding);
cudaError_t ps__cuda_embedding_bwd_weight(const struct ps_cuda_launch *launch,
                                          const struct ps_cuda_embedding *embedding);

struct ps_cuda_attention {
	const void *qkv, *dout;
	void *probs; /* written by forward, read by backward */
	void *out, *dqkv;
	int64_t rows, time, width;
	int heads;
	bool causal;
	ps_math math; /* of fp32 tensors */
	struct ps_cuda_dropout drop;
};
cudaError_t ps__cuda_attention_fwd(const struct ps_cuda_launch *launch, const struct ps_cuda_attention *attention);
cudaError_t ps__cuda_attention_bwd(const struct ps_cuda_launch *launch, const struct ps_cuda_attention *attention);

/* dlogits may be NULL or logits. */
cudaError_t ps__cuda_cross_entropy(const struct ps_cuda_launch *launch, const void *logits, const int32_t *targets,
                                   void *losses, void *dlogits, int64_t rows, int64_t columns, double scale);

/*
 * The most tensors that one launch takes, since a kernel's arguments have 4 KiB at most, and the partial sums of each.
 */
enum { PS_CUDA_RUN = 64, PS_CUDA_PARTIALS = 1024 };

struct ps_cuda_squares {
	const void *x;
	double *out;
	int64_t count;
	ps_dtype dtype; /* bf16 too */
};
/* partials has PS_CUDA_PARTIALS doubles for each tensor. */
cudaError_t ps__cuda_sum_squares(const struct ps_cuda_launch *launch, const struct ps_cuda_squares *tensors, int count,
                                 double *partials);
cudaError_t ps__cuda_clip_scale(const struct ps_cuda_launch *launch, const double *sums, int64_t count, double *norm,
                                double *scale, double max_norm);

struct ps_cuda_update {
	void *w;
	const void *g;
	void *copy; /* bf16, or NULL */
	int64_t count;
	uint32_t place; /* of the random words, where w and g are bf16 */
	ps_dtype dtype;
};
/* All by one rate; `random` has seed and step of the random words. */
cudaError_t ps__cuda_sgd(const struct ps_cuda_launch *launch, const struct ps_cuda_update *tensors, int count,
                         double lr, const double *scale, const struct ps_cuda_dropout *random);

#ifdef __cplusplus
}
#endif
#endif
