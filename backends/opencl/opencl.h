/*
 * What the files of the OpenCL backend share.
 *
 * A ps_device's impl is the struct cl_device of its OpenCL device, of which there is one for the whole process: its
 * context and programs are made once and stay, since CLBlast keeps compiled kernels by the context's address.
 *
 * A queue has two threads. The submitter takes commands out of a ring and enqueues them on an in-order OpenCL queue;
 * where a command waits for another queue's event, OpenCL waits if both are in one context, else the submitter does.
 * The completer waits for their OpenCL events and completes the timeline in order. So the caller of an op never blocks,
 * and a failure is found in its place.
 *
 * An op's function, called by the enqueuing thread, refuses what the device cannot do and otherwise hands a runner
 * with a copy of its arguments to ps__cl_submit. The runner is called by the submitter and launches kernels.
 */
#ifndef PS_BACKENDS_OPENCL_OPENCL_H
#define PS_BACKENDS_OPENCL_OPENCL_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <penstock/backend.h>

/* Kernels by name: ps_NAME in kernels/. */
#define CL_KERNELS(X)                      \
	X(add)                             \
	X(relu_fwd)                        \
	X(relu_bwd)                        \
	X(dropout)                         \
	X(check_range)                     \
	X(embedding_fwd)                   \
	X(embedding_chain)                 \
	X(embedding_bwd_weight)            \
	X(layernorm_fwd)                   \
	X(dropout_add_layernorm_fwd)       \
	X(layernorm_bwd_input)             \
	X(dropout_add_layernorm_bwd_input) \
	X(layernorm_bwd_weight)            \
	X(column_sum)                      \
	X(attention_probs)                 \
	X(attention_rows)                  \
	X(attention_columns)               \
	X(attention_dscores)               \
	X(cross_entropy)                   \
	X(sum_squares)                     \
	X(sum_partial)                     \
	X(clip_scale)                      \
	X(sgd)                             \
	X(bias_rows)                       \
	X(fill_whole)                      \
	X(compare)

enum cl_kernel_id {
#define CL_KERNEL_ENUM(name) CL_##name,
	CL_KERNELS(CL_KERNEL_ENUM)
#undef CL_KERNEL_ENUM
	        CL_KERNEL_COUNT
};

/* Of kernels/common.cl. */
enum { CL_LANES = 64, CL_NO_FAULT = 0x7fffffff };

/* Forms of our own product, see gemm.h, and the kernels that each may have. */
enum { CL_GEMM_FORMS = 12, CL_GEMM_KERNELS = 2 };

struct cl_device {
	struct cl_device *next;
	cl_platform_id platform;
	cl_device_id id;
	int index;      /* in the order of ps__cl_enumerate */
	char name[128]; /* the device's own */
	char platform_name[128];
	char identity[1024]; /* platform, device and driver with their versions: what a binary is good for */
	uint64_t memory_bytes, max_buffer_bytes, local_bytes;
	int compute_units;
	bool cpu, fp64, serial;
	bool unified;    /* its memory is the host's */
	int span;        /* vectors side by side that a work-item sums up */
	int group;       /* work-items that share a row */
	int group_limit; /* work-items that a group may have */
	int vector[2];   /* elements of a vector, by PS_F32 and PS_F64 */
	/* The rest is made when the device is first opened. */
	cl_context context;
	pthread_mutex_t mutex; /* guards the programs */
	cl_program program[2]; /* by PS_F32 and PS_F64 */
	PS_ATOMIC(int) built[2];
	cl_program gemm_program[2][CL_GEMM_FORMS];                /* likewise; each is built when it is first used */
	cl_kernel gemm_kernel[2][CL_GEMM_FORMS][CL_GEMM_KERNELS]; /* guarded by the mutex of gemm_own.c */
	struct cl_gemm_state *gemm;                               /* of gemm_state.c; made when it is first asked for */
};

/* error.c: OpenCL's name for a code, and the status that goes with it. */
const char *ps__cl_error_name(cl_int error);
ps_status ps__cl_status(cl_int error);
/* Fails with "where: what: CL_NAME". */
ps_status ps__cl_fail(const char *where, const char *what, cl_int error);

/*
 * serial.c: calls a function in which OpenCL is used. Some implementations (Oclgrind) may be used by one thread only;
 * for these the function runs in a thread of its own. A function must not call this again.
 */
ps_status ps__cl_call(const struct cl_device *device, ps_status (*function)(void *argument), void *argument);

/* vendors.c: appends a remark to a text, after "; " where it is not the first. */
void ps__cl_note(char *text, size_t bytes, const char *format, ...) PS_PRINTF(3, 4);
/* Appends why the loader's vendors are not there whose libraries cannot be opened. */
void ps__cl_note_vendors(char *text, size_t bytes);

/* platform.c: the devices here, in a fixed order; made once. PS_ENODEV with the reason when there are none. */
ps_status ps__cl_devices(struct cl_device **first);
ps_status ps__cl_enumerate(ps_device_visit visit, void *payload);
ps_status ps__cl_device_open(ps_device *device, const char *spec);
void ps__cl_device_close(ps_device *device);
ps_status ps__cl_buffer_create(ps_buffer *buffer);
void ps__cl_buffer_destroy(ps_buffer *buffer);
/* Gives memory of the device up. */
void ps__cl_release(const struct cl_device *device, cl_mem memory);
/* Are both the same OpenCL device, and so have one context? */
bool ps__cl_is_same(const ps_device *one, const ps_device *other);
bool ps__cl_can_copy_from(const ps_device *to, const ps_device *from);
bool ps__cl_can_copy_to(const ps_device *from, const ps_device *to);
ps_status ps__cl_pinned_create(ps_pinned *pinned);
void ps__cl_pinned_destroy(ps_pinned *pinned);

/* cache.c: small files in the user's cache folder. What became of looking for one: */
enum cl_cached { CL_CACHE_NONE, CL_CACHE_GOOD, CL_CACHE_DAMAGED, CL_CACHE_STALE };
/* Finds the file of `name`, which was saved with a key; with another one it is stale. The caller frees *data. */
enum cl_cached ps__cl_cache_load(const char *name, const char *key, const char *suffix, unsigned char **data,
                                 size_t *bytes);
/* Written under a temporary name and renamed; false, and no file, whatever goes wrong. */
bool ps__cl_cache_save(const char *name, const char *key, const char *suffix, const void *data, size_t bytes);
/* The path of a name's file; false without a cache folder. Makes the folder when it is not there. */
bool ps__cl_cache_path(char *path, size_t bytes, const char *name, const char *suffix);

/* gemm_state.c: what makes the products of a device, for its user. */
void ps__cl_gemm_note(struct cl_device *device, char *text, size_t bytes);
/* gemm_tune.c: ps_backend's tune. */
ps_status ps__cl_tune(ps_queue *queue, ps_tuning *tuning);

/* program.c: makes sure that the kernels for a dtype are built. */
ps_status ps__cl_build(struct cl_device *device, ps_dtype dtype);
/* For runners: makes sure that a form of our own product is built, with its options. */
ps_status ps__cl_build_gemm(struct cl_device *device, ps_dtype dtype, int form, const char *options);

/* What a range check leaves: see ps_check_range in kernels/embedding.cl. */
struct cl_fault {
	cl_int found[2];
	const char *op, *what; /* "embedding_fwd", "token" */
	int64_t time, bound;   /* positions of a row, 0 where rows have none */
};

struct cl_queue;
typedef ps_status (*cl_runner)(struct cl_queue *q, const void *arguments);
enum { CL_ARGUMENT_BYTES = 1024, CL_FLIGHT = 64, CL_SCRATCH = 2 };

struct cl_command {
	cl_runner runner;
	uint64_t value;
	_Alignas(16) unsigned char arguments[CL_ARGUMENT_BYTES];
};

/* A command that was given to OpenCL. */
struct cl_flight {
	cl_event event; /* NULL: there is nothing to wait for */
	uint64_t value;
	int64_t *stamp;
	struct cl_fault *fault;
	ps_event after; /* what OpenCL waited for: its failure is this command's too */
};

struct cl_queue {
	ps_queue *queue;
	struct cl_device *device;
	cl_command_queue cl;
	pthread_t submitter, completer;
	pthread_mutex_t mutex;                    /* guards the ring and the flight */
	pthread_cond_t arrived, departed, landed; /* the ring has grown, the flight has grown, the flight has shrunk */
	struct cl_command *ring;
	size_t capacity, head, count;
	struct cl_flight flight[CL_FLIGHT];
	size_t flight_head, flight_count;
	uint64_t submitted; /* the value that departed last */
	bool stop, ended;   /* ended: the submitter has */
	/* The rest is the submitter's. */
	cl_kernel kernels[2][CL_KERNEL_COUNT];
	cl_event event; /* of the command enqueued last */
	int64_t *stamp;
	struct cl_fault *fault;
	ps_event after;
	cl_mem range; /* two ints: what the range check found */
	cl_mem scratch[CL_SCRATCH];
	size_t scratch_bytes[CL_SCRATCH];
};

/* queue.c */
ps_status ps__cl_queue_create(ps_queue *queue);
void ps__cl_queue_destroy(ps_queue *queue);
ps_status ps__cl_queue_wait(ps_queue *queue, ps_event event);
/* Hands a command to the submitter; a dry queue takes it and does nothing. */
ps_status ps__cl_submit(ps_queue *queue, cl_runner runner, const void *arguments, size_t bytes);
/* For runners: remembers `event`, or the failure to get one, as what the command ends with. */
ps_status ps__cl_enqueued(struct cl_queue *q, const char *what, cl_int error, cl_event event);
/* Waits until OpenCL has done all that was enqueued. */
ps_status ps__cl_settle(struct cl_queue *q);
/* The queue's own memory, one of CL_SCRATCH pieces, of at least `bytes`; what is in it is lost when it grows. */
ps_status ps__cl_scratch(struct cl_queue *q, int which, size_t bytes, cl_mem *out);

/* transfer.c */
ps_status ps__cl_queue_write(ps_queue *queue, ps_tensor to, const void *from);
ps_status ps__cl_queue_read(ps_queue *queue, void *to, ps_tensor from);
ps_status ps__cl_queue_copy(ps_queue *queue, ps_tensor to, ps_tensor from);
ps_status ps__cl_queue_zero(ps_queue *queue, ps_tensor tensor);
ps_status ps__cl_queue_timestamp(ps_queue *queue, int64_t *ns);
/* For runners. */
ps_status ps__cl_zero(struct cl_queue *q, ps_tensor tensor);

/* launch.c: one kernel launch in the making. Errors are kept until cl_launch_run, which reports the first. */
struct cl_launch {
	struct cl_queue *q;
	cl_kernel kernel;
	const char *name;
	cl_uint next;
	cl_int error;
	ps_status status;
	ps_dtype dtype;
};

struct cl_launch ps__cl_launch(struct cl_queue *q, enum cl_kernel_id kernel, ps_dtype dtype);
/* A parameter made by IN or OUT; an absent tensor is passed as NULL. */
void ps__cl_arg_tensor(struct cl_launch *l, ps_tensor tensor);
void ps__cl_arg_memory(struct cl_launch *l, cl_mem memory);
void ps__cl_arg_long(struct cl_launch *l, int64_t value);
void ps__cl_arg_int(struct cl_launch *l, int64_t value);
void ps__cl_arg_uint(struct cl_launch *l, uint32_t value);
/* `real`, by the launch's dtype. */
void ps__cl_arg_real(struct cl_launch *l, double value);
void ps__cl_arg_double(struct cl_launch *l, double value);
/* Local memory of so many bytes. */
void ps__cl_arg_local(struct cl_launch *l, uint64_t bytes);
/* The parameters DROP. */
void ps__cl_arg_drop(struct cl_launch *l, const ps_dropout *drop);
/* `x` work-items of single elements (rounded up to whole groups), times y times z. */
ps_status ps__cl_run_elements(struct cl_launch *l, int64_t x, int64_t y, int64_t z);
/* x times y times z groups that have a row each. */
ps_status ps__cl_run_rows(struct cl_launch *l, int64_t x, int64_t y, int64_t z);
/* groups[0] times groups[1] groups of local[0] times local[1] work-items. */
ps_status ps__cl_run_groups(struct cl_launch *l, const int64_t *groups, const int *local);
ps_status ps__cl_run_single(struct cl_launch *l);

static inline int64_t cl_ceil(int64_t a, int64_t b)
{
	return (a + b - 1) / b;
}

static inline cl_mem cl_memory(ps_tensor tensor)
{
	return tensor.buffer->impl;
}

/* Size of the last dimension. */
static inline int64_t cl_columns(ps_tensor tensor)
{
	return tensor.rank ? tensor.dims[tensor.rank - 1] : 1;
}

/* Size of the first dimension: sample rows. */
static inline int64_t cl_samples(ps_tensor tensor)
{
	return tensor.rank ? tensor.dims[0] : 1;
}

/* Elements of a vector for the dtype. */
static inline int cl_vector(const struct cl_queue *q, ps_dtype dtype)
{
	return q->device->vector[dtype == PS_F64];
}

/* Elements whose random words are made at once: CHUNK of kernels/common.cl. */
static inline int cl_chunk(const struct cl_queue *q, ps_dtype dtype)
{
	return 4 * cl_vector(q, dtype);
}

/* Checks numbers against [0, bound) before a kernel that reads what was found; the queue fails if one is outside. */
ps_status ps__cl_check_range(struct cl_queue *q, ps_tensor numbers, int64_t bound, const char *op, const char *what,
                             int64_t time, ps_dtype dtype);

/*
 * Refuses a dtype that the device lacks, or doubles that an op needs besides; then makes sure that the kernels are
 * built. Every op's function starts with it.
 */
ps_status ps__cl_ready(ps_queue *queue, ps_op op, ps_tensor tensor, bool needs_double);

/* Defines ps__cl_NAME, which hands NAME_runner to the submitter, for an op whose dtype is that of its argument `main`.
 */
#define CL_OP(name, main, needs_double)                                                        \
	ps_status ps__cl_##name(ps_queue *queue, const void *arguments)                        \
	{                                                                                      \
		const ps_args_##name *x = arguments;                                           \
		PS_TRY(ps__cl_ready(queue, PS_OP_##name, x->main, needs_double));              \
		return ps__cl_submit(queue, name##_runner, arguments, sizeof(ps_args_##name)); \
	}

#define PS_OP(name, text) ps_status ps__cl_##name(ps_queue *queue, const void *arguments);
#include <penstock/ops.def>

#endif
