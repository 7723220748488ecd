/*
 * The engine's own structures.
 *
 * A program is all that one kind of batch (training or evaluation, so many rows, so much time) needs: its schedule,
 * its memory layout and its recorded command lists. Programs of one pipeline share the ranks' arenas, as only one
 * runs at a time.
 */
#ifndef PS_PIPELINE_INTERNAL_H
#define PS_PIPELINE_INTERNAL_H

#include <penstock/backend.h>
#include <penstock/pipeline.h>

#define PS_TENSOR_ALIGNMENT 256

/* Memory of one rank for tensors that live within a step: a row of buffers no larger than the device allows. */
struct arena {
	uint64_t segment_bytes; /* no tensor crosses a multiple of it; a multiple of the alignment, 0: no limit */
	uint64_t bytes;         /* needed by the largest program */
	ps_buffer **segments;
	int segment_count;
};

enum memory_kind { MEMORY_VALUES, MEMORY_GRADIENTS, MEMORY_COPIES, MEMORY_CONSTANTS, MEMORY_COUNT };

/* The permanent tensors of one layer. */
struct layer_memory {
	ps_tensor *values, *gradients, *copies; /* as the layer lists its parameters; some copies, or all, are absent */
	ps_tensor *parameters;                  /* what the layer is handed: the copy, or else the value */
	ps_tensor constants[PS_MAX_SLOTS];      /* by slot; absent for slots of other lifetimes */
	ps_buffer *buffers[MEMORY_COUNT];
	uint64_t bytes[MEMORY_COUNT];
};

struct rank {
	ps_device *device; /* shared by ranks that name the same device */
	ps_queue *queue;
	int *stages, stage_count;
	struct arena arena;
};

struct stage {
	int rank, first, count; /* layers [first, first + count) */
};

/* The two directions of the boundary between a stage and the next. */
struct boundary {
	ps_link *forward, *backward; /* NULL: both stages are on one device */
};

/* The kinds of memory a stage has within a program, by what is kept in them. */
enum region_kind {
	REGION_X,       /* the stage's input */
	REGION_DY,      /* the gradient of its output */
	REGION_Y,       /* its output, until it is sent */
	REGION_DX,      /* the gradient of its input, until it is sent */
	REGION_SAVED_B, /* what its layers save for B */
	REGION_SAVED_W, /* what they save for W */
	REGION_CARRY,   /* what B leaves for W */
	REGION_COUNT
};

/* Micro-batches [first, end) whose rows are side by side, as some action takes them as one tensor. */
struct unit {
	int first, end;
	int64_t begin, over; /* when it occupies memory: positions in its rank's action list */
	int slot;
	int before; /* the unit that had the slot before, or -1 */
};

/* One kind of memory of one stage: as many equal slots as units overlap in time. */
struct region {
	int64_t rows; /* the most that a unit has */
	uint64_t slot_bytes;
	int slots;
	uint64_t *slot_at; /* arena offsets */
	struct unit *units;
	int unit_count;
	int *unit_of; /* [micro-batch] */
};

/* Bits of a cell: its micro-batch and the next are in one action of the stage, F (that keeps its results), R, B or W.
 */
enum { TOGETHER_F = 1, TOGETHER_KEPT_F = 2, TOGETHER_R = 4, TOGETHER_B = 8, TOGETHER_W = 16 };

enum instruction_kind { INSTRUCTION_ACTION, INSTRUCTION_TRANSFER };

struct instruction {
	enum instruction_kind kind;
	int rank;         /* whose queue runs the action; for a transfer the source's */
	ps_action action; /* for a transfer: what made the tensor that is sent */
	ps_list *list;
	ps_link *link;
	ps_tensor to, from;
	int wait_first, wait_count; /* into program.waits: the instructions whose events come first */
};

/* What one action of a rank uses and leaves: places from `at` on in the rank's arena. */
struct scratch {
	uint64_t at;
	uint64_t between[2]; /* two buffers between layers, taken in turn */
	uint64_t slots;      /* where a layer's slots begin */
};

/* Steps that may be on their way at once. */
enum { PS_RUNS = 2 };

/* What the instructions of a program have put on the queues, by instruction. */
struct marks {
	ps_event *events;
	uint64_t *begun;   /* timeline value before the action's waits */
	uint64_t *started; /* and before its first op */
};

struct program {
	bool training;
	int64_t rows, time;
	int micro_batches;
	int64_t *sizes, *first_row; /* micro_batches, the last ones may be 0; first_row has one more, the total */
	ps_schedule *schedule;
	bool keep_boundaries; /* boundary tensors share no memory: the fallback for unusual orders */

	ps_shape *in;          /* what each layer takes */
	ps_layer_plan *plans;  /* of each layer */
	uint64_t *slot_offset; /* [layer * PS_MAX_SLOTS + slot], within its region's slot or the scratch */
	uint64_t *x_offset,
	        *dy_offset; /* [layer], within the region that holds it; unused for a stage's own X and DY */

	/* Where each action stands in its rank's list, by [stage * micro_batches + micro_batch]; -1: nowhere. */
	int64_t *at_forward, *at_backward, *at_recompute, *at_weight;
	uint8_t *together; /* by the same index */
	int *group_of;     /* likewise: the group of micro-batches of one W, within the stage */
	int *group_first;  /* [stage * micro_batches + group]: its first micro-batch; group_count groups */
	int *group_count;  /* [stage] */

	struct region *regions;  /* [stage * REGION_COUNT + kind] */
	uint64_t *rank_bytes;    /* arena bytes for each rank */
	uint64_t *largest;       /* [rank]: bytes of its largest tensor */
	struct scratch *scratch; /* [rank] */

	struct instruction *instructions;
	int instruction_count;
	int *waits, wait_count, wait_capacity;
	int most_waits; /* of one instruction */
	struct marks marks[PS_RUNS];
	int64_t *times;           /* [2 * instruction]: begin and end, when tracing */
	ps_link_times *transfers; /* [instruction] */
	ps_event *transfer_waits; /* room for one transfer's events */
	ps_trace_span *spans;
	double *predicted; /* [2 * instruction]: begin and end, seconds from the step's beginning; NULL: not measured */
};

/* What is copied between the host and the devices in a step. */
enum edge { EDGE_TOKENS, EDGE_TARGETS, EDGE_LOSSES, EDGE_COUNT };

/* One submission of a program. */
struct run {
	struct program *program;
	ps_batch batch; /* its tokens are in `edges` */
	struct marks *marks;
	ps_pinned edges[EDGE_COUNT];     /* host memory */
	uint64_t edge_begun[EDGE_COUNT]; /* timeline value before the copy's command */
	ps_event edge_done[EDGE_COUNT];  /* and the event after it; zero before it is enqueued */
	ps_event *ends;                  /* [rank] */
	int64_t begin_ns;
};

/* What one layer takes on one device: seconds for a sample row, and for a pass of the optimizer over its parameters. */
struct layer_cost {
	double forward, backward, weight;
	double squares, update;
};

struct measured {
	struct layer_cost *layers; /* [device * layer_count + layer] */
	/*
	 * [device * device_count + other]: how many times as long work on a device takes while the other works too;
	 * with itself, while another of its ranks does.
	 */
	double *slowdown;
	double *send; /* [ps__link_index]: seconds for a sample row */
};

struct ps_pipeline {
	ps_pipeline_config config;
	struct rank *ranks;
	int rank_count;
	ps_device **devices; /* the distinct ones */
	const char **device_names;
	int device_count;
	struct stage *stages;
	int stage_count;
	struct boundary *boundaries; /* stage_count - 1 */
	struct layer_memory *memory; /* by layer */
	int *parameter_layer, *parameter_index, parameter_count;
	int *rank_of_stage; /* by the training schedule */
	int *stage_room;    /* memory of the ranks' lists of stages */

	ps_buffer *token_buffer, *target_buffer, *loss_buffer;
	ps_tensor tokens, targets, losses; /* of the largest batch, one-dimensional */

	struct run runs[PS_RUNS]; /* run_count of them are on their way, from run_first on, in a ring */
	int run_first, run_count;
	ps_event *gathered; /* [2 * rank]: room of gather.c */
	bool joined;        /* since the last was submitted, all ranks have been made to wait for each other */
	struct program **programs;
	int program_count, program_capacity;
	struct measured *measured; /* NULL: nothing was */
	struct program *train;
	struct run *last; /* that was submitted */
	uint32_t step;    /* of the last batch to train on */
	int64_t failures; /* of steps, after which the pipeline could be used again */
	bool placed;      /* the stages know their ranks */
	bool allocated;   /* the arenas exist, and all programs are bound */
	bool stalled;
	struct ps__shadow *shadow; /* NULL: nothing is checked */
};

static inline uint64_t align_up(uint64_t bytes)
{
	return (bytes + PS_TENSOR_ALIGNMENT - 1) / PS_TENSOR_ALIGNMENT * PS_TENSOR_ALIGNMENT;
}

static inline uint64_t shape_bytes(const ps_shape *shape)
{
	uint64_t bytes = ps_dtype_bytes(shape->dtype);
	for (int i = 0; i < shape->rank; i++)
		bytes *= (uint64_t)shape->dims[i];
	return bytes;
}

/* A tensor of `rows` sample rows at an arena offset. */
ps_tensor ps__arena_tensor(const struct arena *arena, uint64_t at, const ps_shape *shape, int64_t rows);
/*
 * Finds room for `bytes` after *used that does not cross a segment, or starts on one if it is larger; raises *used past
 * it and returns where it is.
 */
uint64_t ps__arena_place(const struct arena *arena, uint64_t *used, uint64_t bytes);

/* cut.c: decides the stages' layers: as told, or by counted work. */
ps_status ps__cut(ps_pipeline *pipeline);
/* Decides again, by counted work or measured time, for the memory that the programs there are would take. */
ps_status ps__cut_within_memory(ps_pipeline *pipeline, bool by_time);
/*
 * How many times as long a rank's work takes while others are at work; NULL: all are.
 */
double ps__rank_slowdown(const ps_pipeline *pipeline, int rank, const bool *busy);

/* measure.c: needs the training program. */
ps_status ps__measure_layers(ps_pipeline *pipeline);
/* Needs it bound; its tensors are overwritten. */
ps_status ps__measure_links(ps_pipeline *pipeline);
void ps__measured_free(struct measured *measured);
static inline int ps__stage_of_layer(const ps_pipeline *pipeline, int layer)
{
	int stage = 0;
	while (layer >= pipeline->stages[stage].first + pipeline->stages[stage].count)
		stage++;
	return stage;
}
/* The place of the link that takes what an action makes. */
static inline int ps__link_index(ps_action action)
{
	return action.kind == PS_ACTION_F ? 2 * action.stage : 2 * (action.stage - 1) + 1;
}
static inline int ps__device_of_rank(const ps_pipeline *pipeline, int rank)
{
	int d = 0;
	while (pipeline->devices[d] != pipeline->ranks[rank].device)
		d++;
	return d;
}
static inline const struct layer_cost *ps__layer_cost(const ps_pipeline *pipeline, int rank, int layer)
{
	return &pipeline->measured->layers[ps__device_of_rank(pipeline, rank) * pipeline->config.layer_count + layer];
}

/* predict.c */
ps_status ps__program_predict(const ps_pipeline *pipeline, struct program *program);

/* pipeline.c: the first of the devices whose memory is the same, and how many bytes of it there are now. */
int ps__memory_pool(const ps_pipeline *pipeline, int device);
uint64_t ps__device_memory(const ps_pipeline *pipeline, int device, const char **name);
/* A queue of a rank, or one to measure with. *out is for the caller to destroy on failure, too. */
ps_status ps__queue_create_as_configured(ps_queue **out, const ps_pipeline_config *config, ps_device *device,
                                         const char *label);
/* Bytes of the step's input and output that are with a stage. */
uint64_t ps__edge_bytes(const ps_pipeline *pipeline, int stage);

/* program.c: plans all but memory and order. */
ps_status ps__program_create(struct program **out, ps_pipeline *pipeline, bool training, int64_t rows, int64_t time);
void ps__program_destroy(struct program *program);
/* Lays it out and orders it, for the cut as it is now. */
ps_status ps__program_arrange(ps_pipeline *pipeline, struct program *program);
/* The program for a batch, made when it is the first of its kind; arranged and bound once the arenas exist. */
ps_status ps__program_get(struct program **out, ps_pipeline *pipeline, bool training, int64_t rows, int64_t time);
static inline int ps__at(const struct program *program, int stage, int micro_batch)
{
	return stage * program->micro_batches + micro_batch;
}

/* region.c: finds the units of one, before tensors are added to it, and places its slots in the rank's arena after. */
ps_status ps__region_open(const ps_pipeline *pipeline, const struct program *program, int stage, enum region_kind kind);
ps_status ps__region_place(const ps_pipeline *pipeline, const struct program *program, int stage, enum region_kind kind,
                           uint64_t *used);
/* The unit of a region that a micro-batch belongs to, and the first row of one. */
int ps__region_unit(const struct program *program, int stage, enum region_kind kind, int micro_batch);
int64_t ps__unit_first_row(const struct program *program, int stage, enum region_kind kind, int unit);

/* layout.c: fills regions, offsets and rank_bytes. */
ps_status ps__program_layout(ps_pipeline *pipeline, struct program *program);
void ps__program_layout_free(struct program *program);
/* Arena bytes of a stage as it is now, if it were alone on its rank; what was laid out before is gone. */
ps_status ps__stage_layout_bytes(ps_pipeline *pipeline, struct program *program, int stage, uint64_t *bytes);
/*
 * True for a stage whose B and W are always one action. It forms the weight gradient of a layer right after its input
 * gradient, so that what B leaves for W is scratch.
 */
bool ps__backward_whole(const struct program *program, int stage);
/* Is a slot of this lifetime in the rank's scratch? `unsaved`: what is saved otherwise is, too. */
bool ps__slot_is_scratch(const struct program *program, int stage, ps_lifetime lifetime, bool unsaved);

/* record.c: records one action into a list. */
ps_status ps__record_action(ps_pipeline *pipeline, struct program *program, ps_action action, ps_list *list);
/* Where the output of F (or the input gradient of B) of a stage is written. */
ps_tensor ps__output_tensor(ps_pipeline *pipeline, const struct program *program, int stage, int micro_batch,
                            bool backward);
/* Where a stage finds its input (or the gradient of its output). */
ps_tensor ps__input_tensor(ps_pipeline *pipeline, const struct program *program, int stage, int micro_batch,
                           bool backward);
/* Records the forward of one layer alone; *output is the tensor that it writes, the losses of the last layer. */
ps_status ps__record_forward(ps_pipeline *pipeline, struct program *program, int stage, int l, int micro_batch,
                             ps_list *list, ps_tensor *output);
/* True when the boundary after `stage` needs no transfer: the producer writes where the consumer reads. */
bool ps__boundary_direct(const ps_pipeline *pipeline, int stage);

/*
 * order.c: puts all actions and the transfers between them into one order in which everything is enqueued after what
 * it waits for. *stuck: there is none, since two tensors that share boundary memory wait for each other.
 */
ps_status ps__program_order(ps_pipeline *pipeline, struct program *program, bool *stuck);
/* bind.c: records all command lists into the arenas; after a failure the program can only be destroyed. */
ps_status ps__program_bind(ps_pipeline *pipeline, struct program *program);

/* How long nothing has moved. `last` begins as the time now. */
struct ps__patience {
	double limit_s; /* 0: the stall time */
	int64_t last;
	double still; /* ns */
	uint64_t seen;
};

/*
 * execute.c: enqueues a run on all ranks, or one of its edges again. Nothing here waits. `before`, unless NULL, is a
 * run that may be on its way still: no rank begins before all ranks are through with that, since they share memory.
 */
ps_status ps__run_enqueue(ps_pipeline *pipeline, struct run *run, const struct run *before);
ps_status ps__run_enqueue_edge(ps_pipeline *pipeline, struct run *run, enum edge edge);
/* Gives transfer `index` to its link. */
ps_status ps__send(ps_pipeline *pipeline, const struct program *program, int index, ps_event *done) PS_WARN_UNUSED;

/* step.c: the life of runs. */
ps_status ps__runs_allocate(ps_pipeline *pipeline);
void ps__runs_free(ps_pipeline *pipeline);
/* The pipeline can be used, and no step is on its way. */
ps_status ps__check_alone(const ps_pipeline *pipeline);
/* Waits until no run is on its way any more, or one has failed. */
void ps__runs_settle(ps_pipeline *pipeline);
/* A look: is the limit over since anything moved? `busy`: something else does. */
bool ps__patience_ends(const ps_pipeline *pipeline, struct ps__patience *patience, bool busy);
/*
 * Stops all ranks after a failure, waits until they have skipped what is left, and makes everything usable again; where
 * nothing moves for a minute, or the stall time if that is less, the pipeline has stalled. All runs are gone.
 */
void ps__recover(ps_pipeline *pipeline, ps_status status);

/* diagnose.c: put stage, device, action, layer and op in front of what went wrong, and return its status. */
ps_status ps__explain_failure(const ps_pipeline *pipeline, const struct run *run, ps_status status);
ps_status ps__explain_stall(const ps_pipeline *pipeline, const struct run *run, double seconds);
/* Of what is between runs, such as an update: which ranks are not done. */
ps_status ps__explain_stall_between(const ps_pipeline *pipeline);
/* Of what could not be enqueued: an instruction, the batch or its losses. */
ps_status ps__explain_refusal(const ps_pipeline *pipeline, const struct program *program, int index, ps_status status);
ps_status ps__explain_edge(const ps_pipeline *pipeline, enum edge edge, ps_status status);

/*
 * nonfinite.c: after a step whose losses are not finite, runs the forward again, a layer at a time, and names the first
 * parameter or output that is not; PS_ENUMERIC.
 */
ps_status ps__explain_nonfinite(ps_pipeline *pipeline, struct run *run, double loss);

/* Makes a layer's constant on the host in double, converts it to its dtype, uploads it and waits. */
ps_status ps__constant_fill(const ps_layer *layer, int slot, const ps_shape *shape, ps_tensor to, ps_queue *queue);
/* plan sets the bytes of each layer's buffers; all are freed with ps__parameters_free. */
ps_status ps__parameters_plan(ps_pipeline *pipeline);
ps_status ps__parameters_allocate(ps_pipeline *pipeline);
void ps__parameters_free(ps_pipeline *pipeline);
/* What a parameter and its gradient are kept in, and whether it has a BF16 copy. */
ps_dtype ps__parameter_dtype(const ps_pipeline *pipeline, const ps_parameter *parameter);
bool ps__parameter_has_copy(const ps_pipeline *pipeline, const ps_parameter *parameter);
/*
 * Writes elements [first, first + count) of a parameter and of its copy, and waits. `room` is for as many uint16_t, and
 * may be NULL where there is no copy.
 */
ps_status ps__parameter_write(const ps_parameter_view *view, int64_t first, int64_t count, const void *values,
                              uint16_t *room);

#endif
