/*
 * Tensors: plain values that describe a view into a buffer.
 *
 * A tensor owns nothing and may be copied and thrown away freely; views cost nothing. Strides count elements, the
 * offset counts bytes. A tensor whose buffer is NULL is absent, which is how optional arguments are left out.
 */
#ifndef PENSTOCK_TENSOR_H
#define PENSTOCK_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PS_MAX_RANK 5

/* X(name, bytes, text) */
#define PS_DTYPE_MAP(X)    \
	X(F32, 4, "fp32")  \
	X(F64, 8, "fp64")  \
	X(I32, 4, "int32") \
	X(BF16, 2, "bf16")

typedef enum ps_dtype {
#define PS_DTYPE_ENUM(name, bytes, text) PS_##name,
	PS_DTYPE_MAP(PS_DTYPE_ENUM)
#undef PS_DTYPE_ENUM
	        PS_DTYPE_COUNT
} ps_dtype;

typedef struct ps_buffer ps_buffer;

typedef struct ps_tensor {
	ps_buffer *buffer;
	uint64_t offset; /* bytes */
	ps_dtype dtype;
	int rank;
	int64_t dims[PS_MAX_RANK];
	int64_t strides[PS_MAX_RANK]; /* elements */
} ps_tensor;

/* Bytes of one element; 0 for a value that is no dtype. */
size_t ps_dtype_bytes(ps_dtype dtype);
/* "fp32", "fp64", "int32", "bf16". */
const char *ps_dtype_name(ps_dtype dtype);

/* A contiguous row-major tensor at `offset` bytes into `buffer`. rank is 0 to PS_MAX_RANK. */
ps_tensor ps_tensor_make(ps_buffer *buffer, uint64_t offset, ps_dtype dtype, int rank, const int64_t *dims);

/* The part [start, start + count) of dimension `dim`; the caller keeps within bounds. */
ps_tensor ps_tensor_slice(ps_tensor tensor, int dim, int64_t start, int64_t count);

/* The same contiguous elements as (dims[0] * … * dims[rank-2], dims[rank-1]): what a row-wise op sees. */
ps_tensor ps_tensor_matrix(ps_tensor tensor);

bool ps_tensor_present(ps_tensor tensor);
/* Number of elements: the product of the dims, 1 for rank 0. */
int64_t ps_tensor_count(ps_tensor tensor);
bool ps_tensor_is_contiguous(ps_tensor tensor);
bool ps_tensor_same_shape(ps_tensor a, ps_tensor b);
/* Writes "fp32 (20, 25, 4096)" and returns `text`. */
const char *ps_tensor_text(ps_tensor tensor, char *text, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
