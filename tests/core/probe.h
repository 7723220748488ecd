/*
 * A probe that only looks at the ops that it is given: the reference device with other functions in its table.
 */
#ifndef PS_TESTS_CORE_PROBE_H
#define PS_TESTS_CORE_PROBE_H

#include "tests/core/contract.h"

#include <stddef.h>

extern struct probe {
	ps_device *device, *far; /* the probe, and another device */
	ps_queue *queue;
	ps_buffer *buffer, *far_buffer;
	uint64_t used; /* bytes of `buffer` */
	/* What it saw last. */
	struct {
		ps_op op;
		int calls, dry_calls;
		union {
			max_align_t align;
			unsigned char bytes[2048];
		} arguments;
		ps_status refusal; /* what it says to each op */
	} seen;
} probe;

void probe_set_up(void);
void probe_tear_down(void);
/* A fresh tensor with some room behind it. */
ps_tensor probe_tensor(ps_dtype dtype, int rank, const int64_t *dims);

#define VECTOR(n) probe_tensor(PS_F32, 1, (int64_t[]){n})
#define MATRIX(m, n) probe_tensor(PS_F32, 2, (int64_t[]){m, n})
#define CUBE(a, b, c) probe_tensor(PS_F32, 3, (int64_t[]){a, b, c})
#define DOUBLE(n) probe_tensor(PS_F64, 1, (int64_t[]){n})

#endif
