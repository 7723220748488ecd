/*
 * What shadow checks do to a step: the ops of a checked stage are enqueued one by one, with copies of their operands to
 * the host before and after them. A copy is a command of the same queue, so that it sees what the op sees, and leaves.
 */
#include "pipeline/shadow.h"

#include "core/backend.h"
#include "core/platform.h"

#include <stdio.h>
#include <string.h>

/* How often a step that waits for room looks whether anything moves. */
#define LOOK_NS INT64_C(20000000)

/* Room for a record, which is waited for as long as anything moves. */
static ps_status reserve(struct ps__shadow *shadow, uint64_t bytes, struct record **out)
{
	ps_status status = PS_OK;
	struct ps__patience patience = {.last = ps_clock_ns()};
	int64_t begin = patience.last;
	pthread_mutex_lock(&shadow->mutex);
	for (;;) {
		if (!ps__pool_is_small(&shadow->pool, bytes))
			*out = ps__pool_reserve(&shadow->pool, bytes);
		else if (!shadow->pool.first)
			status = ps__pool_grow(&shadow->pool, bytes);
		if (*out || status != PS_OK)
			break;
		if (shadow->pool.first)
			ps__condition_wait(&shadow->changed, &shadow->mutex, ps_clock_ns() + LOOK_NS);
		if (ps__patience_ends(shadow->pipeline, &patience, shadow->busy)) {
			status = ps_fail(PS_ESTALL, "no progress for %g s while checks wait for their operands",
			                 shadow->pipeline->config.stall_timeout_s);
			break;
		}
	}
	shadow->report.wait_s += (double)(ps_clock_ns() - begin) * 1e-9;
	pthread_mutex_unlock(&shadow->mutex);
	return status;
}

/* Hands a record to the thread; what is enqueued so far on its queues ends with it. */
static void publish(struct ps__shadow *shadow, struct record *record, uint64_t bytes)
{
	pthread_mutex_lock(&shadow->mutex);
	ps__pool_publish(&shadow->pool, record);
	shadow->report.bytes += bytes;
	pthread_cond_broadcast(&shadow->changed);
	pthread_mutex_unlock(&shadow->mutex);
}

/* All bytes of a tensor, and of the gaps in it. */
static ps_tensor all_of(ps_tensor tensor)
{
	int64_t count = (int64_t)(ps__tensor_extent(tensor) / ps_dtype_bytes(tensor.dtype));
	return ps_tensor_make(tensor.buffer, tensor.offset, tensor.dtype, 1, &count);
}

static struct unchanging *find_unchanging(struct shadowed_stage *stage, const ps__operand *operand, ps_tensor tensor)
{
	for (int i = 0; stage && operand->use == PS__OPERAND_IN && i < stage->unchanging_count; i++) {
		struct unchanging *own = &stage->unchanging[i];
		if (own->tensor.buffer == tensor.buffer && own->tensor.offset == tensor.offset &&
		    ps__tensor_extent(own->tensor) >= ps__tensor_extent(tensor))
			return own;
	}
	return NULL;
}

/* One op on its way: where it runs, and what its copies take. */
struct passage {
	struct ps__shadow *shadow;
	struct shadowed_stage *stage; /* whose weights do not change meanwhile; NULL: they do */
	ps_queue *queue;
	ps_op op;
	const void *arguments;
	struct record *record;
	unsigned char *room; /* behind the record */
	uint64_t bytes;      /* copied */
};

static uint64_t bytes_needed(const struct passage *p)
{
	const ps__operands *operands = ps__op_operands(p->op);
	uint64_t bytes = align_up(sizeof(struct record)) + align_up(ps__op_bytes(p->op));
	for (int i = 0; i < operands->count; i++) {
		const ps__operand *operand = &operands->list[i];
		ps_tensor tensor = *ps__operand_tensor(operand, p->arguments);
		uint64_t own = align_up(ps__tensor_extent(tensor));
		if (ps__operand_is_read(operand, p->arguments) && !find_unchanging(p->stage, operand, tensor))
			bytes += own;
		if (i < operands->outputs)
			bytes += own;
	}
	return bytes;
}

static void *carve(struct passage *p, uint64_t bytes)
{
	void *room = p->room;
	p->room += align_up(bytes);
	return room;
}

/* Copies a tensor behind the record, or to where the step's copy of it is. */
static ps_status copy(struct passage *p, const ps__operand *operand, struct shadowed_stage *stage, const void **to)
{
	ps_tensor tensor = *ps__operand_tensor(operand, p->arguments);
	uint64_t bytes = ps__tensor_extent(tensor);
	if (!bytes)
		return PS_OK;
	struct unchanging *own = find_unchanging(stage, operand, tensor);
	if (own && own->copied) {
		*to = own->values;
		return PS_OK;
	}
	void *room = own ? own->values : carve(p, bytes);
	*to = room;
	p->bytes += bytes;
	PS_TRY(ps_queue_read(p->queue, room, all_of(tensor)));
	if (own)
		own->copied = true;
	return PS_OK;
}

static ps_status enqueue(struct passage *p)
{
	const ps__operands *operands = ps__op_operands(p->op);
	struct record *record = p->record;
	PS_TRY(ps_queue_timestamp(p->queue, &record->times[0]));
	for (int i = 0; i < operands->count; i++)
		if (ps__operand_is_read(&operands->list[i], p->arguments))
			PS_TRY(copy(p, &operands->list[i], p->stage, &record->before[i]));
	PS_TRY(ps_queue_timestamp(p->queue, &record->times[1]));
	PS_TRY(ps_queue_device(p->queue)->backend->ops[p->op](p->queue, p->arguments));
	PS_TRY(ps_queue_timestamp(p->queue, &record->times[2]));
	for (int i = 0; i < operands->outputs; i++)
		PS_TRY(copy(p, &operands->list[i], NULL, &record->after[i]));
	return ps_queue_timestamp(p->queue, &record->times[3]);
}

static void describe(const struct ps__shadow *shadow, struct record *record, int stage, const char *action,
                     const char *layer)
{
	record->step = shadow->step;
	record->stage = stage;
	record->rank = shadow->pipeline->stages[stage].rank;
	snprintf(record->device, sizeof record->device, "%s",
	         ps_device_get_info(shadow->pipeline->ranks[record->rank].device)->name);
	snprintf(record->action, sizeof record->action, "%s", action);
	snprintf(record->layer, sizeof record->layer, "%s", layer);
}

/* Enqueues one op, whose arguments are checked, with its copies. */
static ps_status pass(struct passage *p, int stage, const char *action, const char *layer)
{
	PS_TRY(reserve(p->shadow, bytes_needed(p), &p->record));
	struct record *record = p->record;
	describe(p->shadow, record, stage, action, layer);
	record->op = p->op;
	p->room = (unsigned char *)record;
	carve(p, sizeof *record);
	record->arguments = carve(p, ps__op_bytes(p->op));
	memcpy(record->arguments, p->arguments, ps__op_bytes(p->op));
	ps_status status = enqueue(p);
	/* Whatever was enqueued writes into the record, which lives until that is over. */
	record->refused = status != PS_OK;
	record->done[0] = ps_queue_record(p->queue);
	publish(p->shadow, record, p->bytes);
	return status;
}

ps_status ps__shadow_submit(ps_pipeline *pipeline, const struct program *program, int index, uint32_t step)
{
	const struct instruction *instruction = &program->instructions[index];
	ps_list *list = instruction->list;
	int stage = instruction->action.stage;
	char label[48];
	ps_action_label(label, sizeof label, instruction->action);
	for (size_t i = 0; i < ps_list_count(list); i++) {
		const char *layer;
		struct passage p = {.shadow = pipeline->shadow,
		                    .stage = &pipeline->shadow->stages[stage],
		                    .queue = pipeline->ranks[instruction->rank].queue,
		                    .op = ps_list_op(list, i, &layer),
		                    .arguments = ps__list_arguments(list, i, step)};
		ps_status status = pass(&p, stage, label, layer);
		ps__list_mark(list, i, status == PS_OK);
		PS_TRY(status);
	}
	return PS_OK;
}

static ps_status send(ps_pipeline *pipeline, const struct program *program, int index, int to, struct record *record,
                      unsigned char *room, ps_event *done)
{
	const struct instruction *instruction = &program->instructions[index];
	ps_queue *source = pipeline->ranks[instruction->rank].queue;
	ps_queue *target = pipeline->ranks[pipeline->stages[to].rank].queue;
	uint64_t bytes = ps__tensor_extent(instruction->from);
	record->before[0] = room;
	record->after[0] = room + align_up(bytes);
	/* Behind the action that made the tensor; no action before the transfer's end writes there. */
	PS_TRY(ps_queue_timestamp(source, &record->times[0]));
	PS_TRY(ps_queue_read(source, room, all_of(instruction->from)));
	PS_TRY(ps_queue_timestamp(source, &record->times[1]));
	PS_TRY(ps__send(pipeline, program, index, done));
	PS_TRY(ps_queue_wait(target, *done));
	PS_TRY(ps_queue_timestamp(target, &record->times[2]));
	PS_TRY(ps_queue_read(target, room + align_up(bytes), all_of(instruction->to)));
	return ps_queue_timestamp(target, &record->times[3]);
}

ps_status ps__shadow_send(ps_pipeline *pipeline, const struct program *program, int index, ps_event *done)
{
	const struct instruction *instruction = &program->instructions[index];
	ps_action action = instruction->action;
	int to = action.kind == PS_ACTION_F ? action.stage + 1 : action.stage - 1;
	uint64_t bytes = ps__tensor_extent(instruction->from);
	struct record *record = NULL;
	char label[48];
	PS_TRY(reserve(pipeline->shadow, align_up(sizeof *record) + 2 * align_up(bytes), &record));
	ps_action_label(label, sizeof label, action);
	describe(pipeline->shadow, record, to, label, "");
	record->op = PS_OP_COUNT;
	record->sent = instruction->from;
	ps_status status =
	        send(pipeline, program, index, to, record, (unsigned char *)record + align_up(sizeof *record), done);
	record->refused = status != PS_OK;
	record->done[0] = ps_queue_record(pipeline->ranks[instruction->rank].queue);
	record->done[1] = ps_queue_record(pipeline->ranks[pipeline->stages[to].rank].queue);
	publish(pipeline->shadow, record, 2 * bytes);
	return status;
}

ps_status ps__shadow_update(ps_pipeline *pipeline, int parameter, int stage, ps_op op, const void *arguments)
{
	ps_parameter_view view;
	ps_pipeline_get_parameter(pipeline, parameter, &view);
	struct passage p = {.shadow = pipeline->shadow, .queue = view.queue, .op = op, .arguments = arguments};
	int64_t begin = ps_clock_ns();
	ps_status status = pass(&p, stage, "update", view.name);
	/* What updates wait for is part of the step, too. */
	pthread_mutex_lock(&pipeline->shadow->mutex);
	pipeline->shadow->report.checked_s += (double)(ps_clock_ns() - begin) * 1e-9;
	pthread_mutex_unlock(&pipeline->shadow->mutex);
	return status;
}
