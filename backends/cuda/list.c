/*
 * Command lists: compiled into the launches of their ops, and kept as CUDA graphs.
 *
 * Submissions launch one by one until one of them has launched all, so that whatever CUDA or cuBLASLt does once is
 * done. The next one captures the same launches into a graph, which it and all later ones launch. Where that does not
 * work, the list stays as it is.
 *
 * What differs between submissions is no argument of a graph's kernels, but in the queue's turn, which a kernel in
 * front of the graph sets: the step, and where a range check leaves what it finds.
 */
#include "backends/cuda/cuda.h"

#include <stdlib.h>
#include <string.h>

/* One op or several, ready to be launched. */
struct entry {
	cuda_runner runner;
	size_t at; /* of the arguments, in `arguments` */
	uint64_t ops;
};

struct cuda_list {
	struct entry *entries;
	size_t count, capacity;
	unsigned char *arguments;
	size_t used, room;
	uint64_t ops; /* of all entries */
	ps_graphs graphs;

	/* The submitter's. */
	bool warm;             /* a submission has launched all of it */
	bool plain;            /* it does not become a graph */
	cudaGraphExec_t graph; /* or NULL */
	struct cuda_check *checks;
	int check_count;
	uint64_t captured; /* ops before the entry that is being captured */
};

/* --- compiling, by the enqueuing thread -----------------------------------------------------------------------------
 */

ps_status ps__cuda_list_add(struct cuda_list *list, cuda_runner runner, const void *arguments, size_t bytes)
{
	/* As aligned as a command's. */
	size_t padded = (bytes + 15) / 16 * 16;
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 16;
		struct entry *entries = realloc(list->entries, capacity * sizeof *entries);
		if (!entries)
			return ps_fail(PS_ENOMEM, "out of memory for a command list");
		list->entries = entries;
		list->capacity = capacity;
	}
	if (list->room - list->used < padded) {
		size_t room = list->room * 2 > list->used + padded ? list->room * 2 : list->used + padded;
		unsigned char *more = realloc(list->arguments, room);
		if (!more)
			return ps_fail(PS_ENOMEM, "out of memory for a command list");
		list->arguments = more;
		list->room = room;
	}
	memcpy(list->arguments + list->used, arguments, bytes);
	list->entries[list->count++] = (struct entry){runner, list->used, 1};
	list->used += padded;
	return PS_OK;
}

uint64_t ps__cuda_list_values(const struct cuda_list *list)
{
	return list->ops;
}

static ps_status compile(struct cuda_list *own, ps_queue *queue, ps_list *list)
{
	while (own->ops < ps_list_count(list)) {
		const char *scope;
		size_t at = (size_t)own->ops, before = own->count, ops;
		PS_TRY(ps__cuda_list_run_of(own, list, at, &ops));
		if (ops == 1)
			PS_TRY(ps__cuda_ops[ps_list_op(list, at, &scope)](queue, ps__list_arguments(list, at, 0)));
		if (own->count != before + 1)
			return ps_fail(PS_EINTERNAL, "an op of a command list is %zu commands", own->count - before);
		own->entries[before].ops = ops;
		own->ops += ops;
	}
	own->plain = own->graphs == PS_GRAPHS_OFF || (own->graphs == PS_GRAPHS_AUTO && own->count < 2);
	return PS_OK;
}

static void list_free(struct cuda_list *list)
{
	if (list->graph && cudaGraphExecDestroy(list->graph) != cudaSuccess)
		(void)cudaGetLastError();
	free(list->checks);
	free(list->arguments);
	free(list->entries);
	free(list);
}

ps_status ps__cuda_list_compile(void **out, ps_queue *queue, ps_list *list)
{
	struct cuda_queue *q = queue->impl;
	struct cuda_list *own = calloc(1, sizeof *own);
	if (!own)
		return ps_fail(PS_ENOMEM, "out of memory for a command list");
	own->graphs = queue->graphs;
	q->compiling = own;
	ps_status status = compile(own, queue, list);
	q->compiling = NULL;
	if (status != PS_OK) {
		list_free(own);
		return status;
	}
	*out = own;
	return PS_OK;
}

void ps__cuda_list_release(ps_queue *queue, void *compiled)
{
	int before;
	(void)ps__cuda_enter(&before, queue->device->impl);
	list_free(compiled);
	ps__cuda_leave(queue->device->impl, before);
}

/* --- running, by the submitter --------------------------------------------------------------------------------------
 */

bool ps__cuda_list_check(struct cuda_queue *q, const struct cuda_check *check, struct ps_cuda_range *range)
{
	struct cuda_list *list = q->capturing;
	if (!list) {
		struct cuda_flight *flight = ps__cuda_flight(q, true);
		flight->check = *check;
		flight->checks = &flight->check;
		flight->checks_from = q->value;
		range->fault = flight->fault;
		return true;
	}
	struct cuda_check *checks = realloc(list->checks, ((size_t)list->check_count + 1) * sizeof *checks);
	if (!checks)
		return false;
	list->checks = checks;
	checks[list->check_count] = *check;
	checks[list->check_count].at = list->captured;
	range->turn = q->turn;
	range->check = list->check_count++;
	return true;
}

/* Captures the launches of the list; ends the capture whatever becomes of it. */
static ps_status capture(struct cuda_queue *q, struct cuda_list *list, cudaGraph_t *graph)
{
	const char *name = q->queue->device->info.name;
	ps_status status = PS_OK;
	/* Other threads may go on as they like: what they enqueue is on other streams. */
	CUDA_TRY(name, cudaStreamBeginCapture(q->stream, cudaStreamCaptureModeThreadLocal));
	q->capturing = list;
	list->check_count = 0;
	list->captured = 0;
	for (size_t i = 0; i < list->count && status == PS_OK; i++) {
		status = list->entries[i].runner(q, list->arguments + list->entries[i].at);
		list->captured += list->entries[i].ops;
	}
	q->capturing = NULL;
	cudaError_t error = cudaStreamEndCapture(q->stream, graph);
	if (status != PS_OK) {
		(void)cudaGetLastError();
		return status;
	}
	return error == cudaSuccess ? PS_OK : ps__cuda_fail(name, "cudaStreamEndCapture", error);
}

static ps_status make_graph(struct cuda_queue *q, struct cuda_list *list)
{
	cudaGraph_t graph = NULL;
	ps_status status = capture(q, list, &graph);
	if (status == PS_OK) {
		cudaError_t error = cudaGraphInstantiate(&list->graph, graph, 0);
		if (error != cudaSuccess) {
			list->graph = NULL;
			status = ps__cuda_fail(q->queue->device->info.name, "cudaGraphInstantiate", error);
		}
	}
	if (graph && cudaGraphDestroy(graph) != cudaSuccess)
		(void)cudaGetLastError();
	return status;
}

static ps_status launch_graph(struct cuda_queue *q, const void *arguments)
{
	const struct cuda_list *list = *(struct cuda_list *const *)arguments;
	const char *name = q->queue->device->info.name;
	bool checks = list->check_count > 0;
	struct cuda_flight *flight = ps__cuda_flight(q, checks);
	if (checks) {
		flight->checks = list->checks;
		flight->checks_from = q->value;
	}
	if (checks || !q->turn_set || q->turn_step != *q->step) {
		const struct ps_cuda_launch by = {.stream = q->stream};
		CUDA_TRY(name, ps__cuda_set_turn(&by, q->turn, (struct ps_cuda_turn){*q->step, flight->fault}));
		q->turn_step = *q->step;
		q->turn_set = true;
	}
	CUDA_TRY(name, cudaGraphLaunch(list->graph, q->stream));
	return PS_OK;
}

/* An entry that is launched by itself. */
struct single {
	struct cuda_list *list;
	size_t index;
};

/* The entries before it were launched, or the queue would have failed and skipped this one. */
static ps_status launch_single(struct cuda_queue *q, const void *arguments)
{
	const struct single *single = arguments;
	struct cuda_list *list = single->list;
	const struct entry *entry = &list->entries[single->index];
	PS_TRY(entry->runner(q, list->arguments + entry->at));
	list->warm |= single->index + 1 == list->count;
	return PS_OK;
}

/* Fails with the status, and the message that is there. */
static ps_status give_up(struct cuda_queue *q, const void *arguments)
{
	(void)q;
	return *(const ps_status *)arguments;
}

/* Once the last value of a list is completed, it may be gone: nothing looks at it behind its last command. */
static void run(struct cuda_queue *q, struct cuda_list *list, uint64_t first)
{
	size_t count = list->count;
	uint64_t last = first + list->ops - 1;
	bool failed = ps__timeline_status(&q->queue->timeline) != PS_OK;
	ps_status status = PS_OK;
	if (!failed && list->warm && !list->plain && !list->graph) {
		q->value = first;
		q->last = last;
		status = make_graph(q, list);
		if (status != PS_OK && list->graphs == PS_GRAPHS_AUTO) {
			ps__queue_note(q->queue, "a command list is enqueued op by op, for it became no graph: %s",
			               ps_error_message());
			list->plain = true;
			status = PS_OK;
		}
	}
	if (status != PS_OK)
		ps__cuda_submit(q, first, last, give_up, &status);
	else if (list->graph || failed)
		ps__cuda_submit(q, first, last, launch_graph, &list);
	else
		for (size_t i = 0; i < count; i++) {
			const struct single single = {list, i};
			uint64_t ops = list->entries[i].ops;
			ps__cuda_submit(q, first, first + ops - 1, launch_single, &single);
			first += ops;
		}
}

void ps__cuda_list_run(struct cuda_queue *q, const struct cuda_command *command)
{
	/* Whoever waits for the list does not wait for what comes before or after it. */
	ps__cuda_part(q);
	q->step = &command->step;
	run(q, command->list, command->value);
	q->step = NULL;
	ps__cuda_part(q);
}
