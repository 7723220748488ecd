/*
 * Shadow checks: what the engine and the parts of the shadow itself share.
 *
 * shadow_enqueue.c enqueues ops with copies of their operands around them; each op is a record in shadow_pool.c's host
 * memory; shadow_check.c's thread takes the records in their order, runs the op on the other device and compares.
 */
#ifndef PS_PIPELINE_SHADOW_H
#define PS_PIPELINE_SHADOW_H

#include "pipeline/internal.h"

#include "core/operands.h"

#include <pthread.h>

/* One op, or one transfer, that waits for its check. Its bytes lie behind it in the pool. */
struct record {
	struct record *next;
	ps_event done[2]; /* what it copies has arrived */
	bool refused;     /* the op was not enqueued: there is nothing to check */
	uint32_t step;
	int stage, rank;
	char device[64], action[64], layer[128];
	ps_op op;         /* PS_OP_COUNT: a transfer */
	ps_tensor sent;   /* of a transfer, for its shape */
	int64_t times[4]; /* before the inputs' copies, the op, the outputs' copies, and after them */
	void *arguments;  /* of the op */
	const void *before[PS_MAX_OPERANDS], *after[PS_MAX_OPERANDS]; /* operands; NULL: not copied */
};

/* Records in the order in which they were enqueued, in a ring of host memory. */
struct pool {
	unsigned char *memory;
	uint64_t size, head;         /* head: where the next record goes */
	struct record *first, *last; /* those that wait, and the one that is being checked */
};

/* The host's copy of a tensor that does not change within a step: a weight or a constant. */
struct unchanging {
	ps_tensor tensor;
	void *values;
	bool copied; /* in this step */
};

struct shadowed_stage {
	int every;   /* 0: not shadowed */
	bool active; /* in this step */
	struct unchanging *unchanging;
	int unchanging_count;
};

struct ps__shadow {
	ps_pipeline *pipeline;
	struct shadowed_stage *stages; /* of the whole pipeline */
	ps_device *against;
	ps_queue *queue; /* on it, for the thread alone */
	ps_buffer *buffers[PS_MAX_OPERANDS];
	void *wanted[PS_MAX_OPERANDS]; /* the other device's outputs */
	uint64_t wanted_bytes[PS_MAX_OPERANDS];
	uint32_t step;
	bool active; /* some stage is checked in this step */
	pthread_t thread;

	pthread_mutex_t mutex; /* guards what follows */
	pthread_cond_t changed;
	struct pool pool;
	bool busy; /* the thread checks, rather than waits for a record's copies */
	bool stop;
	bool let_go;       /* records are dropped unchecked */
	ps_status verdict; /* of the first difference, or of a check that could not be made */
	char message[1024];
	double *copy_s; /* by rank */
	ps_shadow_report report;
};

/* shadow.c. A pipeline whose configuration names no stages has none. */
ps_status ps__shadow_create(ps_pipeline *pipeline);
void ps__shadow_destroy(struct ps__shadow *shadow);
/* A training step begins; fails with what was found in earlier ones. */
ps_status ps__shadow_begin(ps_pipeline *pipeline, uint32_t step) PS_WARN_UNUSED;
/* It is over, `seconds` after it began; fails with what was found so far. */
ps_status ps__shadow_end(ps_pipeline *pipeline, double seconds) PS_WARN_UNUSED;
/* Nothing is checked until the next training step. */
void ps__shadow_rest(ps_pipeline *pipeline);
/* After a failure, once nothing runs any more: lets go of all records. */
void ps__shadow_settle(ps_pipeline *pipeline);
bool ps__shadow_checks(const ps_pipeline *pipeline, int stage);

/* shadow_enqueue.c. Enqueues an action's ops, or a transfer, with the copies that its check needs. PS_ESTALL: nothing
 * moves any more. */
ps_status ps__shadow_submit(ps_pipeline *pipeline, const struct program *program, int index,
                            uint32_t step) PS_WARN_UNUSED;
ps_status ps__shadow_send(ps_pipeline *pipeline, const struct program *program, int index,
                          ps_event *done) PS_WARN_UNUSED;
/* Enqueues an op of an optimizer, whose arguments are checked, likewise. */
ps_status ps__shadow_update(ps_pipeline *pipeline, int parameter, int stage, ps_op op,
                            const void *arguments) PS_WARN_UNUSED;
/* shadow_pool.c; the caller holds the mutex. Room for a record of `bytes`, or NULL: there is none now. */
struct record *ps__pool_reserve(struct pool *pool, uint64_t bytes);
/* Has a record of `bytes` no place even in an empty pool? */
bool ps__pool_is_small(const struct pool *pool, uint64_t bytes);
ps_status ps__pool_grow(struct pool *pool, uint64_t bytes) PS_WARN_UNUSED;
void ps__pool_publish(struct pool *pool, struct record *record);
void ps__pool_release_first(struct pool *pool);

/* shadow_check.c */
void *ps__shadow_main(void *argument);

#endif
