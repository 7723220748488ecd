/* The thread of shadow checks: takes each record when its copies have arrived, runs its op again and compares. */
#include "pipeline/shadow.h"

#include "core/backend.h"
#include "core/platform.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DRAIN_NS 100000L

/* Keeps the first thing that went wrong. */
static void conclude(struct ps__shadow *shadow, ps_status status, const char *message)
{
	pthread_mutex_lock(&shadow->mutex);
	if (shadow->verdict == PS_OK) {
		shadow->verdict = status;
		snprintf(shadow->message, sizeof shadow->message, "%s", message);
	}
	pthread_mutex_unlock(&shadow->mutex);
}

/* "step 12, stage 1 on opencl:0, F3, layer layers.7, gemm" */
static void describe(const struct record *record, char *text, size_t bytes)
{
	bool update = !strcmp(record->action, "update");
	if (record->op == PS_OP_COUNT)
		snprintf(text, bytes, "step %u, stage %d on %s, transfer of %s", record->step, record->stage,
		         record->device, record->action);
	else
		snprintf(text, bytes, "step %u, stage %d on %s, %s, %s%s, %s", record->step, record->stage,
		         record->device, record->action, update ? "" : "layer ", record->layer, ps_op_name(record->op));
}

static void tell(struct ps__shadow *shadow, const struct record *record, const char *output,
                 const ps__difference *difference)
{
	const ps_shadow_config *config = &shadow->pipeline->config.shadow;
	const char *against = shadow->against->info.name;
	bool transfer = record->op == PS_OP_COUNT;
	ps_shadow_result result = {.step = record->step,
	                           .stage = record->stage,
	                           .device = record->device,
	                           .against = against,
	                           .action = record->action,
	                           .layer = record->layer,
	                           .op = transfer ? "transfer" : ps_op_name(record->op),
	                           .output = output,
	                           .count = difference->count,
	                           .bad = difference->bad,
	                           .rank = difference->rank,
	                           .got = difference->got,
	                           .want = difference->want,
	                           .ulps = difference->ulps,
	                           .share = difference->share};
	memcpy(result.at, difference->at, sizeof result.at);
	if (config->compared)
		config->compared(config->payload, &result);
	if (!difference->bad)
		return;
	char place[512], text[256], message[1024];
	describe(record, place, sizeof place);
	ps__difference_text(difference, text, sizeof text);
	if (transfer)
		snprintf(message, sizeof message, "%s: what arrived is not what was sent: %s", place, text);
	else
		snprintf(message, sizeof message, "%s: %s is not as on %s: %s", place, output, against, text);
	conclude(shadow, PS_EDIVERGED, message);
}

/* Where two copies differ in any bit, NaNs and the signs of zeros included. */
static ps__difference compare_bits(ps_tensor as, const void *got, const void *want)
{
	size_t size = ps_dtype_bytes(as.dtype);
	ps__difference out = {.dtype = as.dtype, .rank = as.rank, .count = ps_tensor_count(as), .worst = -1};
	for (int64_t i = 0; i < out.count; i++) {
		size_t at = (size_t)i * size;
		if (!memcmp((const char *)got + at, (const char *)want + at, size))
			continue;
		if (!out.bad++)
			out.worst = i;
	}
	if (out.bad) {
		out.got = ps__element(got, as.dtype, out.worst);
		out.want = ps__element(want, as.dtype, out.worst);
		out.share = out.ulps = HUGE_VAL;
	}
	for (int64_t i = as.rank - 1, rest = out.bad ? out.worst : 0; i >= 0; i--) {
		out.at[i] = rest % as.dims[i];
		rest /= as.dims[i];
	}
	return out;
}

static ps_tensor flat(ps_tensor tensor)
{
	int64_t count = (int64_t)(ps__tensor_extent(tensor) / ps_dtype_bytes(tensor.dtype));
	return ps_tensor_make(tensor.buffer, 0, tensor.dtype, 1, &count);
}

/* Gives operand i of a record room on the other device, and points the arguments there. */
static ps_status move_operand(struct ps__shadow *shadow, const struct record *record, const ps__operand *operand, int i)
{
	ps_tensor tensor = *ps__operand_tensor(operand, record->arguments);
	uint64_t bytes = ps__tensor_extent(tensor);
	if (!bytes)
		return PS_OK;
	if (!shadow->buffers[i] || ps_buffer_bytes(shadow->buffers[i]) < bytes) {
		ps_buffer_destroy(shadow->buffers[i]);
		shadow->buffers[i] = NULL;
		PS_TRY(ps_buffer_create(&shadow->buffers[i], shadow->against, bytes));
	}
	tensor.buffer = shadow->buffers[i];
	tensor.offset = 0;
	memcpy((char *)record->arguments + operand->offset, &tensor, sizeof tensor);
	return record->before[i] ? ps_queue_write(shadow->queue, flat(tensor), record->before[i]) : PS_OK;
}

static ps_status read_output(struct ps__shadow *shadow, ps_tensor tensor, int i)
{
	uint64_t bytes = ps__tensor_extent(tensor);
	if (bytes > shadow->wanted_bytes[i]) {
		free(shadow->wanted[i]);
		shadow->wanted_bytes[i] = 0;
		shadow->wanted[i] = malloc(bytes);
		if (!shadow->wanted[i])
			return ps_fail(PS_ENOMEM, "out of memory for an output of %llu bytes",
			               (unsigned long long)bytes);
		shadow->wanted_bytes[i] = bytes;
	}
	return bytes ? ps_queue_read(shadow->queue, shadow->wanted[i], flat(tensor)) : PS_OK;
}

static ps_status run_again(struct ps__shadow *shadow, const struct record *record, const ps__operands *operands)
{
	for (int i = 0; i < operands->count; i++)
		PS_TRY(move_operand(shadow, record, &operands->list[i], i));
	PS_TRY(ps_op_run(shadow->queue, record->op, record->arguments, ps__op_bytes(record->op)));
	for (int i = 0; i < operands->outputs; i++)
		PS_TRY(read_output(shadow, *ps__operand_tensor(&operands->list[i], record->arguments), i));
	return PS_OK;
}

static void check_op(struct ps__shadow *shadow, const struct record *record)
{
	const ps__operands *operands = ps__op_operands(record->op);
	ps_status status = run_again(shadow, record, operands), end = ps_queue_finish(shadow->queue);
	if (status == PS_OK)
		status = end;
	if (status != PS_OK) {
		char place[512];
		ps_queue_reset(shadow->queue);
		describe(record, place, sizeof place);
		ps_fail_context(status, "%s: its check on %s", place, shadow->against->info.name);
		conclude(shadow, status, ps_error_message());
		return;
	}
	const void *values[PS_MAX_OPERANDS];
	for (int i = 0; i < operands->count; i++)
		values[i] = i < operands->outputs && record->after[i] ? shadow->wanted[i] : record->before[i];
	for (int i = 0; i < operands->outputs; i++) {
		if (!record->after[i])
			continue;
		ps__tolerance tolerance =
		        ps__op_tolerance(record->op, record->arguments, i, values, ps_queue_math(shadow->queue));
		ps__difference difference = ps__compare(*ps__operand_tensor(&operands->list[i], record->arguments),
		                                        record->after[i], shadow->wanted[i], &tolerance);
		tell(shadow, record, operands->list[i].name, &difference);
	}
}

static void check(struct ps__shadow *shadow, const struct record *record)
{
	bool transfer = record->op == PS_OP_COUNT;
	int64_t begin = ps_clock_ns();
	if (transfer) {
		ps__difference difference = compare_bits(record->sent, record->after[0], record->before[0]);
		tell(shadow, record, "what arrived", &difference);
	} else {
		check_op(shadow, record);
	}
	pthread_mutex_lock(&shadow->mutex);
	shadow->report.against_s += (double)(ps_clock_ns() - begin) * 1e-9;
	++*(transfer ? &shadow->report.transfers : &shadow->report.ops);
	pthread_mutex_unlock(&shadow->mutex);
}

/* Waits until nothing writes into the record any more; true when all of it has arrived. */
static bool arrive(const struct record *record)
{
	bool whole = !record->refused;
	for (int i = 0; i < 2; i++) {
		ps_event event = record->done[i];
		if (ps_event_wait(event, -1) == PS_OK)
			continue;
		whole = false;
		/* A queue that has failed says so at once; it may still be at work on what came before. */
		while (atomic_load(&event.timeline->completed) < event.value)
			nanosleep(&(const struct timespec){.tv_nsec = DRAIN_NS}, NULL);
	}
	return whole;
}

/* The next record to be looked at, or NULL at the end. */
static struct record *next_record(struct ps__shadow *shadow)
{
	pthread_mutex_lock(&shadow->mutex);
	while (!shadow->pool.first && !shadow->stop)
		ps__condition_wait(&shadow->changed, &shadow->mutex, -1);
	struct record *record = shadow->pool.first;
	pthread_mutex_unlock(&shadow->mutex);
	return record;
}

/* Says whether a record that has arrived is to be checked; from here on until its end the thread is busy. */
static bool begin_check(struct ps__shadow *shadow, const struct record *record)
{
	const ps_shadow_config *config = &shadow->pipeline->config.shadow;
	pthread_mutex_lock(&shadow->mutex);
	shadow->copy_s[record->rank] += (double)(record->times[1] - record->times[0]) * 1e-9 +
	                                (double)(record->times[3] - record->times[2]) * 1e-9;
	bool wanted = !shadow->stop && !shadow->let_go &&
	              (shadow->verdict == PS_OK || (shadow->verdict == PS_EDIVERGED && config->go_on));
	shadow->busy = wanted;
	pthread_mutex_unlock(&shadow->mutex);
	return wanted;
}

static void end_record(struct ps__shadow *shadow)
{
	pthread_mutex_lock(&shadow->mutex);
	shadow->busy = false;
	ps__pool_release_first(&shadow->pool);
	pthread_cond_broadcast(&shadow->changed);
	pthread_mutex_unlock(&shadow->mutex);
}

void *ps__shadow_main(void *argument)
{
	struct ps__shadow *shadow = argument;
	struct record *record;
	ps__thread_name("shadow");
	while ((record = next_record(shadow)) != NULL) {
		if (arrive(record) && begin_check(shadow, record))
			check(shadow, record);
		end_record(shadow);
	}
	return NULL;
}
