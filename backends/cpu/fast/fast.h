/*
 * The inside of the fast CPU backend. Most ops are range kernels: a function that does units [begin, end) of an op
 * (elements, rows, columns, heads, …), so that a call is split over the device's threads by cutting its units. What a
 * unit comes out as depends on neither the cut nor the number of threads.
 *
 * Range kernels are plain loops that the compiler vectorises. For that, a loop loads what it needs under no condition
 * and chooses among values, and has its constants in locals rather than behind a pointer. kernels.c holds all kernels
 * and is compiled once for each instruction set that CMakeLists.txt names; ps__fast_kernels_choose takes the best that
 * this processor has.
 */
#ifndef PS_BACKENDS_CPU_FAST_FAST_H
#define PS_BACKENDS_CPU_FAST_FAST_H

#include "backends/cpu/cpu.h"

struct fast_range {
	const void *arguments;
	int64_t begin, end;
	float *scratch; /* the calling thread's own, as many floats as the op asks for */
	float *shared;  /* all threads' */
};

typedef void (*fast_kernel)(const struct fast_range *range);

/* How many rows and columns the GEMM kernel's tile has, which the driver's blocks are multiples of. */
struct fast_tile {
	int rows, columns;
};

struct fast_kernels {
	const char *name; /* of the instruction set */
	struct fast_tile tile;
	fast_kernel op[PS_OP_COUNT];
	fast_kernel gemm_pack, convert;
};

/*
 * The best set of kernels for this processor, or the one that the environment asks for (choose.c). *bf16: the processor
 * multiplies bf16 numbers itself, and the set is the one for such processors.
 */
ps_status ps__fast_kernels_choose(const struct fast_kernels **out, bool *bf16);

/* onednn.c, present in builds with oneDNN. */
struct ps__onednn;
ps_status ps__onednn_create(struct ps__onednn **out);
void ps__onednn_destroy(struct ps__onednn *self);

/* Memory that kernels use, under the device's `busy`, for as long as they run. */
struct fast_room {
	void *memory;
	size_t bytes;
};

/* What the device has of this backend: cpu_device's `fast`. */
struct fast {
	const struct fast_kernels *kernels;
	bool bf16;                 /* bf16 factors are multiplied as they are, else as rounded floats */
	pthread_mutex_t mutex;     /* guards growth */
	struct fast_room scratch;  /* of range kernels, in floats */
	struct fast_room factors;  /* converted for bf16 products (product.c) */
	pthread_mutex_t *busy;     /* the device's */
	struct ps__onednn *onednn; /* GEMM's primitives; NULL when built without oneDNN */
};

/*
 * Runs a range kernel over `units`, cut at multiples of `grain` into one piece for each thread, or on the calling
 * thread alone when there is less than `threads` grains to do. Each thread has `floats` of scratch, after the first
 * `shared` ones, which all share.
 */
void ps__fast_run(const struct cpu_device *device, fast_kernel kernel, const void *arguments, int64_t units,
                  int64_t grain, size_t shared, size_t floats);

/* Queries that attention takes at a time. */
#define FAST_QUERIES ((int64_t)48)
/* Elements that sum_squares adds up at a time; the partial sums are added in order. */
#define FAST_SUM_CHUNK ((int64_t)65536)

/* Called when an op is enqueued or recorded: makes a room of the device's at least that large. */
ps_status ps__fast_grow(const struct cpu_device *device, struct fast_room *room, size_t bytes);
/* The same for the scratch that ps__fast_run hands out. */
ps_status ps__fast_reserve(const struct cpu_device *device, size_t shared, size_t floats);

/* product.c */
ps_status ps__fast_gemm(ps_queue *queue, const void *arguments);

#endif
