/*
 * What optimizers do to every parameter: sums of squares and updates. A run of either in a command list, whose tensors
 * have nothing to do with each other, becomes one launch.
 */
#include "backends/cuda/cuda.h"

#include <stddef.h>

/* Arguments of the runners; `tensors` has `count` of them. */
struct squares_run {
	int count;
	struct ps_cuda_squares tensors[PS_CUDA_RUN];
};

struct sgd_run {
	double lr;
	const double *scale;
	ps_random_place place; /* its seed and step are everyone's */
	int count;
	struct ps_cuda_update tensors[PS_CUDA_RUN];
};

#define RUN_SIZE(kind, run) (offsetof(struct kind, tensors) + (size_t)(run)->count * sizeof *(run)->tensors)

static ps_status launched(const struct cuda_queue *q, ps_op op, cudaError_t error)
{
	return error == cudaSuccess ? PS_OK : ps__cuda_fail(q->queue->device->info.name, ps_op_name(op), error);
}

static ps_status squares_runner(struct cuda_queue *q, const void *arguments)
{
	const struct squares_run *run = arguments;
	(void)ps__cuda_flight(q, false);
	const struct ps_cuda_launch launch = {.stream = q->stream, .stop = q->stop};
	return launched(q, PS_OP_sum_squares, ps__cuda_sum_squares(&launch, run->tensors, run->count, q->partials));
}

static ps_status sgd_runner(struct cuda_queue *q, const void *arguments)
{
	const struct sgd_run *run = arguments;
	(void)ps__cuda_flight(q, false);
	const struct ps_cuda_launch launch = {.stream = q->stream, .stop = q->stop};
	const struct ps_cuda_dropout random = {.step = q->step ? *q->step : run->place.step,
	                                       .turn = q->capturing ? q->turn : NULL,
	                                       .key = {(uint32_t)run->place.seed, (uint32_t)(run->place.seed >> 32)}};
	return launched(q, PS_OP_sgd, ps__cuda_sgd(&launch, run->tensors, run->count, run->lr, run->scale, &random));
}

static void add_squares(struct squares_run *run, const ps_args_sum_squares *x)
{
	run->tensors[run->count++] = (struct ps_cuda_squares){.x = ps__cuda_data(x->x),
	                                                      .out = ps__cuda_data(x->out),
	                                                      .count = ps_tensor_count(x->x),
	                                                      .dtype = x->x.dtype};
}

static void add_sgd(struct sgd_run *run, const ps_args_sgd *x)
{
	run->lr = x->lr;
	run->scale = ps__cuda_data(x->scale);
	run->place = x->place;
	run->tensors[run->count++] = (struct ps_cuda_update){.w = ps__cuda_data(x->w),
	                                                     .g = ps__cuda_data(x->g),
	                                                     .copy = ps__cuda_data(x->copy),
	                                                     .count = ps_tensor_count(x->w),
	                                                     .place = x->place.layer << 8 | x->place.site,
	                                                     .dtype = x->w.dtype};
}

ps_status ps__cuda_enqueue_squares(ps_queue *queue, const ps_args_sum_squares *x)
{
	struct squares_run run = {.count = 0};
	add_squares(&run, x);
	return ps__cuda_enqueue(queue, squares_runner, &run, RUN_SIZE(squares_run, &run));
}

ps_status ps__cuda_enqueue_sgd(ps_queue *queue, const ps_args_sgd *x)
{
	struct sgd_run run = {.count = 0};
	add_sgd(&run, x);
	return ps__cuda_enqueue(queue, sgd_runner, &run, RUN_SIZE(sgd_run, &run));
}

/* --- runs -----------------------------------------------------------------------------------------------------------
 */

/* Can one launch do the op with that one? */
static bool alike(ps_op op, const void *first, const void *next)
{
	if (op == PS_OP_sum_squares)
		return true;
	const ps_args_sgd *a = first, *b = next;
	return a->lr == b->lr && ps__cuda_data(a->scale) == ps__cuda_data(b->scale) && a->place.seed == b->place.seed;
}

/* Does entry `next` of the list belong to the run that begins at `first`? */
static bool belongs(ps_list *list, size_t first, size_t next)
{
	const char *scope;
	ps_op op = ps_list_op(list, first, &scope);
	if (next >= ps_list_count(list) || next - first >= PS_CUDA_RUN || ps_list_op(list, next, &scope) != op)
		return false;
	const void *arguments = ps__list_arguments(list, next, 0);
	if (!alike(op, ps__list_arguments(list, first, 0), arguments))
		return false;
	for (size_t i = first; i < next; i++)
		if (!ps__ops_independent(op, arguments, op, ps__list_arguments(list, i, 0)))
			return false;
	return true;
}

ps_status ps__cuda_list_run_of(struct cuda_list *own, ps_list *list, size_t first, size_t *count)
{
	const char *scope;
	ps_op op = ps_list_op(list, first, &scope);
	*count = 1;
	if (op != PS_OP_sum_squares && op != PS_OP_sgd)
		return PS_OK;
	while (belongs(list, first, first + *count))
		++*count;
	if (*count == 1)
		return PS_OK;
	if (op == PS_OP_sum_squares) {
		struct squares_run run = {.count = 0};
		for (size_t i = 0; i < *count; i++)
			add_squares(&run, ps__list_arguments(list, first + i, 0));
		return ps__cuda_list_add(own, squares_runner, &run, sizeof run);
	}
	struct sgd_run run = {.count = 0};
	for (size_t i = 0; i < *count; i++)
		add_sgd(&run, ps__list_arguments(list, first + i, 0));
	return ps__cuda_list_add(own, sgd_runner, &run, sizeof run);
}
