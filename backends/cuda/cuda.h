/*
 * What the files of the CUDA backend share.
 *
 * A queue is a CUDA stream and two threads. The submitter takes commands out of a ring and enqueues them on the stream;
 * the completer waits for the stream's events and completes the timeline in order. So the caller of an op never blocks.
 * Commands are grouped into flights, each with one event at its end.
 *
 * Waits: for a point of another queue of this backend the stream waits for that queue's event, and no host thread is in
 * the loop on the GPU's side; the submitter only sees to it that the event was recorded. For any other point the
 * submitter waits on the host, and what comes after goes to the stream when the point is reached.
 *
 * A command list is compiled (list.c): its ops are a run of launches, of which some stand for several ops, and from its
 * second submission on it is a CUDA graph, unless the queue has those turned off. It is one command with many values.
 *
 * Failures: what a call of CUDA refuses fails the queue at its command. A range check that fails sets the queue's stop
 * flag on the device, so that the kernels behind it on the stream do nothing; products and copies that were already
 * enqueued behind it still run. A point that another queue of this backend fails to reach fails the waiting queue, but
 * what had been enqueued behind the wait by then has run: its results count as failed.
 */
#ifndef PS_BACKENDS_CUDA_CUDA_H
#define PS_BACKENDS_CUDA_CUDA_H

#include "backends/cuda/kernels/kernels.h"

#include <penstock/backend.h>

#include <cublasLt.h>
#include <cuda.h>
#include <cuda_runtime_api.h>

/* The backend's name; tests build the same sources under another one. */
#ifndef PS_CUDA_NAME
#define PS_CUDA_NAME "cuda"
#endif

struct cuda_plan;

enum { CUDA_PEERS = 64 };

/* cuDevicePrimaryCtxGetState of the driver. */
typedef CUresult(CUDAAPI *cuda_context_state)(CUdevice device, unsigned *flags, int *active);

struct cuda_device {
	int ordinal;
	int major, minor;                 /* compute capability */
	cuda_context_state context_state; /* NULL: the driver has none */
	cublasLtHandle_t lt;
	size_t workspace_bytes; /* of a queue, for products */
	pthread_mutex_t mutex;  /* guards what follows */
	struct cuda_plan *plans;
	unsigned char peer[CUDA_PEERS]; /* by ordinal: 0: not asked yet, 1: can be reached, 2: cannot */
};

/* Memory that a queue has no more use for, but its graphs may have. */
struct cuda_outgrown {
	struct cuda_outgrown *next;
	void *memory;
};

struct cuda_queue;
typedef ps_status (*cuda_runner)(struct cuda_queue *q, const void *arguments);

enum {
	CUDA_ARGUMENT_BYTES = 1024,
	CUDA_FLIGHTS = 64,
	CUDA_FLIGHT_COMMANDS = 16, /* a flight that is this long is closed */
	CUDA_BOUNCE_BYTES = 4096   /* transfers up to this size go through pinned memory of the queue */
};

struct cuda_list;

struct cuda_command {
	cuda_runner runner;
	struct cuda_list *list; /* not NULL: it is the command, and `step` its step */
	uint32_t step;
	uint64_t value; /* of a list the first */
	_Alignas(16) unsigned char arguments[CUDA_ARGUMENT_BYTES];
};

/* A range check that may have left a fault, for the message. */
struct cuda_check {
	const char *op;
	const char *what;    /* "token" */
	int64_t time, bound; /* positions of a row (0: rows have none), and what is too large */
	uint64_t at;         /* ops of the list before it */
};

/* Commands on the stream up to `value`, and what the host does when they are done. */
struct cuda_flight {
	cudaEvent_t event; /* made once, */
	cudaEvent_t time;  /* and this one, of a stamp */
	bool recorded;     /* false: nothing to wait for */
	cudaError_t error; /* of recording */
	uint64_t first, value;
	int commands;
	bool full;      /* to be closed after the command */
	ps_event after; /* whose failure is this queue's */
	int64_t *stamp; /* gets the time */
	void *read_to;  /* host memory that gets read_bytes, */
	size_t read_bytes;
	bool bounced;                    /* from bounce */
	const struct cuda_check *checks; /* those that may leave `fault`, or NULL */
	uint64_t checks_from;            /* the value of the list's first op */
	struct cuda_check check;         /* of an op that is by itself */
	/* Pinned memory, made once. */
	struct ps_cuda_fault *fault;
	unsigned char *bounce;
};

/* The timestamps so far: the last one, and the first one that was not taken from the one before. */
struct cuda_stamps {
	cudaEvent_t last; /* made once */
	int64_t last_ns, first_ns;
};

struct cuda_queue {
	ps_queue *queue;
	struct cuda_device *device;
	cudaStream_t stream;
	int *stop;                 /* device memory */
	double *partials;          /* device memory, (PS_CUDA_RUN, PS_CUDA_PARTIALS) */
	struct ps_cuda_turn *turn; /* device memory */
	void *workspace;           /* device memory, made when the first product is asked for */
	/* Device memory for matrices in another dtype; this and the next two by the device's mutex. */
	void *copies;
	size_t copies_bytes;
	struct cuda_outgrown *outgrown;
	unsigned char *pinned;

	pthread_t submitter, completer;
	int threads;           /* how many were started */
	pthread_mutex_t mutex; /* guards what follows, less the submitter's */
	pthread_cond_t cond;   /* signalled whenever something changes */
	struct cuda_command *ring;
	size_t capacity, head, count;
	bool end, ended; /* no more commands will come; the submitter is through */
	struct cuda_flight flight[CUDA_FLIGHTS];
	size_t flight_head, flight_count; /* those that were closed and have not landed */
	uint64_t closed;                  /* the last value of a closed flight */
	bool stopped;                     /* the stop flag may be set */

	struct cuda_stamps stamps; /* the completer's */

	struct cuda_list *compiling; /* the enqueuing thread's: takes what is enqueued */

	/* The submitter's. */
	bool entered;                /* its thread is on the device */
	struct cuda_flight *open;    /* the flight being filled */
	uint64_t value, last;        /* of the command being submitted, the first and the last */
	const uint32_t *step;        /* of the list being submitted, or NULL */
	struct cuda_list *capturing; /* the list that is becoming a graph, or NULL */
	uint32_t turn_step;          /* what `turn` has on the stream, */
	bool turn_set;               /* if anything */
	uint64_t waited;             /* the last command that made the stream wait for another queue */
};

/* error.c: fails with "where: what: name (text)". Out of memory is PS_ENOMEM, all else PS_EDEVICE. */
ps_status ps__cuda_fail(const char *where, const char *what, cudaError_t error);
#define CUDA_TRY(where, call)                                                  \
	do {                                                                   \
		cudaError_t cuda_try_error_ = (call);                          \
		if (cuda_try_error_ != cudaSuccess)                            \
			return ps__cuda_fail((where), #call, cuda_try_error_); \
	} while (0)
const char *ps__cublas_error_name(cublasStatus_t status);

/*
 * device.c. ps__cuda_enter makes a device current for the calling thread, and ps__cuda_leave ends that, whether it
 * succeeded or not. Every call of CUDA by a thread that is not a queue's own stands between the two, also those that
 * free: CUDA would start the thread's device for it, which may be one that nobody uses, or may use.
 */
cudaError_t ps__cuda_enter(int *before, const struct cuda_device *device);
void ps__cuda_leave(const struct cuda_device *device, int before);
/* Enters, or fails with "where: …". */
ps_status ps__cuda_try_enter(int *before, const struct cuda_device *device, const char *where);
bool ps__cuda_is_ours(const ps_device *device);
ps_status ps__cuda_enumerate(ps_device_visit visit, void *payload);
ps_status ps__cuda_device_open(ps_device *out, const char *spec);
void ps__cuda_device_close(ps_device *out);
ps_status ps__cuda_buffer_create(ps_buffer *buffer);
void ps__cuda_buffer_destroy(ps_buffer *buffer);
/* Can copies by the one device reach the other one's memory, to read or to write it? */
bool ps__cuda_reaches(const ps_device *device, const ps_device *other);
bool ps__cuda_can_relay(const ps_device *from, const ps_device *to);
bool ps__cuda_has_math(const ps_device *device, ps_math math);
ps_status ps__cuda_pinned_create(ps_pinned *pinned);
void ps__cuda_pinned_destroy(ps_pinned *pinned);

/* queue.c. */
ps_status ps__cuda_queue_create(ps_queue *queue);
void ps__cuda_queue_destroy(ps_queue *queue);
/* Enqueues a command; a dry queue takes it and does nothing. */
ps_status ps__cuda_enqueue(ps_queue *queue, cuda_runner runner, const void *arguments, size_t bytes);
/* Enqueues a compiled list as one command. */
ps_status ps__cuda_list_submit(ps_queue *queue, void *compiled, uint32_t step);
/*
 * For runners: the flight that the command belongs to. `alone` asks for one whose host side nobody uses yet; it is
 * closed after the command.
 */
struct cuda_flight *ps__cuda_flight(struct cuda_queue *q, bool alone);

/* For the submitter: runs a command with values from first to last, or skips it when the queue has failed. */
void ps__cuda_submit(struct cuda_queue *q, uint64_t first, uint64_t last, cuda_runner runner, const void *arguments);
/* For the submitter: what comes next is in another flight, so that nobody waits for it who waits for what was before.
 */
void ps__cuda_part(struct cuda_queue *q);

/* wait.c. */
ps_status ps__cuda_queue_wait(ps_queue *queue, ps_event event);
/*
 * For runners that are about to read host memory: waits until what may still write it, before this command, is over.
 * The stream's own order is of no help there, since memory that is not pinned is read when a copy is enqueued.
 */
ps_status ps__cuda_settle(struct cuda_queue *q, const void *from, size_t bytes);

/* list.c. */
ps_status ps__cuda_list_compile(void **out, ps_queue *queue, ps_list *list);
void ps__cuda_list_release(ps_queue *queue, void *compiled);
/* What ps__cuda_enqueue does while a list is compiled. */
ps_status ps__cuda_list_add(struct cuda_list *list, cuda_runner runner, const void *arguments, size_t bytes);
/* How many values a submission has. */
uint64_t ps__cuda_list_values(const struct cuda_list *list);
/* For the submitter: runs the list of a command. */
void ps__cuda_list_run(struct cuda_queue *q, const struct cuda_command *command);
/* For runners: notes a check, and fills in where it leaves its fault and as which one; false: out of memory. */
bool ps__cuda_list_check(struct cuda_queue *q, const struct cuda_check *check, struct ps_cuda_range *range);

/* transfer.c. */
ps_status ps__cuda_queue_write(ps_queue *queue, ps_tensor to, const void *from);
ps_status ps__cuda_queue_read(ps_queue *queue, void *to, ps_tensor from);
ps_status ps__cuda_queue_copy(ps_queue *queue, ps_tensor to, ps_tensor from);
ps_status ps__cuda_queue_zero(ps_queue *queue, ps_tensor tensor);

/* stamp.c. */
ps_status ps__cuda_queue_timestamp(ps_queue *queue, int64_t *ns);
/* For the completer: the time of a flight's stamp, which was reached. */
int64_t ps__cuda_stamp_time(struct cuda_queue *q, struct cuda_flight *flight);

/* gemm.c and gemm_plan.c. */
ps_status ps__cuda_gemm(ps_queue *queue, const void *arguments);
void ps__cuda_plans_free(struct cuda_device *device);

/* optimizer.c. */
ps_status ps__cuda_enqueue_squares(ps_queue *queue, const ps_args_sum_squares *x);
ps_status ps__cuda_enqueue_sgd(ps_queue *queue, const ps_args_sgd *x);
/*
 * How many entries of a list from `first` on one launch can do; when there are several, it is added to `own`.
 */
ps_status ps__cuda_list_run_of(struct cuda_list *own, ps_list *list, size_t first, size_t *count);

/* ops.c. */
extern const ps_op_fn ps__cuda_ops[PS_OP_COUNT];

/* The tensor's first element in device memory. */
static inline void *ps__cuda_data(ps_tensor tensor)
{
	return tensor.buffer ? (char *)tensor.buffer->impl + tensor.offset : NULL;
}

#endif
