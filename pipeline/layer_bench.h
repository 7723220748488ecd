/* One layer on one device, with all its tensors and the commands of a step of its own. Not for other folders. */
#ifndef PS_PIPELINE_LAYER_BENCH_H
#define PS_PIPELINE_LAYER_BENCH_H

#include "pipeline/internal.h"

enum {
	PS__BENCH_MICRO_BATCHES = 8, /* at most */
	PS__BENCH_ROUNDS = 64,       /* whose times are kept */
};

/* The parts of a round that are timed. */
enum phase { FORWARD, BACKWARD, WEIGHT, SQUARES, UPDATE, PHASES };

/* When each phase of a round began and ended. */
struct round_times {
	int64_t begin[PHASES], end[PHASES];
};

struct layer_bench {
	const ps_pipeline *pipeline;
	int layer;
	int64_t rows, group; /* of a micro-batch, and of a weight gradient */
	int count;           /* micro-batches */
	ps_queue *queue;
	ps_buffer **buffers;
	int buffer_count;
	/* By parameter: values, their gradients and BF16 copies, and what the layer is handed. */
	ps_tensor *values, *gradients, *copies, *parameters;
	ps_tensor slots[PS_MAX_SLOTS];
	ps_tensor x, y, dy, dx, targets, losses, sums, scale;
	/* Stands for the rest of a stage, which a step goes through between two visits; may be absent. */
	ps_tensor other;
	/* Forward, backward, and at the end the weight gradient, the sums of squares and the update. */
	ps_list *lists[2 * PS__BENCH_MICRO_BATCHES + 3];
	struct round_times *times; /* of PS__BENCH_ROUNDS */
	double seconds[PHASES];    /* of each phase, by ps__layer_bench_run */
	double round_s;            /* of a whole round */
};

/*
 * With `cold`, the optimizer's passes find nothing that they read in a cache. The caller ends *out with
 * ps__layer_bench_finish, also on failure.
 */
ps_status ps__layer_bench_init(struct layer_bench *out, const ps_pipeline *pipeline, ps_device *device, int layer,
                               bool cold);
void ps__layer_bench_finish(struct layer_bench *bench);
/*
 * Enqueues round `index`: all forwards, all backwards, the weight gradient, the two passes of the optimizer.
 */
ps_status ps__layer_bench_enqueue(struct layer_bench *bench, int index);
/* Runs rounds until they are enough, after one that warms up; the shortest count, as what disturbs only ever adds. */
ps_status ps__layer_bench_run(struct layer_bench *bench);

#endif
