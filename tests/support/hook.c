/*
 * The hook device: another device with a hook in every entry. Its device, buffers and queues are the inner backend's
 * own, so that the hook needs no copies of them: what the hook knows of a device is found by its address. What happens
 * at an entry is for the rules to say (hook_rules.c).
 */
#include "tests/support/hook_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All ones is a NaN as fp32 and as fp64, and a token or target that is out of range as int32. */
enum { POISON = 0xFF, GUARD = 64 };
#define QUARANTINE_BYTES ((uint64_t)64 << 20)

static pthread_mutex_t states_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct hook_state *states;
static _Thread_local struct hook_state *opening;

static struct hook_state *state_of(const ps_device *device)
{
	pthread_mutex_lock(&states_mutex);
	struct hook_state *s = states;
	while (s && s->device != device)
		s = s->next;
	pthread_mutex_unlock(&states_mutex);
	return s;
}

static ps_status hooked_device_open(ps_device *device, const char *spec)
{
	struct hook_state *s = opening;
	PS_TRY(s->inner->device_open(device, spec));
	char name[sizeof device->info.name];
	snprintf(name, sizeof name, "hook:%.50s", device->info.name);
	memcpy(device->info.name, name, sizeof name);
	s->device = device;
	s->host = device->info.host_addressable;
	if (s->hook->opaque)
		device->info.host_addressable = false;
	pthread_mutex_lock(&states_mutex);
	s->next = states;
	states = s;
	pthread_mutex_unlock(&states_mutex);
	return PS_OK;
}

static bool all_poison(const unsigned char *bytes, uint64_t count)
{
	uint64_t i = 0;
	while (i < count && bytes[i] == POISON)
		i++;
	return i == count;
}

/* The end of a freed buffer's quarantine. */
static void let_go(struct hook_state *s, struct held *held)
{
	if (!all_poison(held->buffer.impl, held->buffer.bytes))
		atomic_fetch_add(&s->hook->touched, 1);
	s->inner->buffer_destroy(&held->buffer);
	free(held);
}

static void free_state(struct hook_state *s)
{
	hook__rules_finish(s);
	ps__timeline_finish(&s->hang);
	pthread_mutex_destroy(&s->mutex);
	free(s);
}

static void hooked_device_close(ps_device *device)
{
	struct hook_state *s = state_of(device);
	pthread_mutex_lock(&states_mutex);
	struct hook_state **at = &states;
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	pthread_mutex_unlock(&states_mutex);
	hook__clock_stop(s);
	while (s->held) {
		struct held *held = s->held;
		s->held = held->next;
		let_go(s, held);
	}
	s->inner->device_close(device);
	s->hook->state = NULL;
	free_state(s);
}

static ps_status fill_by_queue(ps_buffer *buffer)
{
	/* Host memory for the pattern in one piece: only small test buffers come this way. */
	void *pattern = malloc(buffer->bytes);
	ps_queue *queue = NULL;
	if (!pattern)
		return ps_fail(PS_ENOMEM, "out of memory for the hook's pattern");
	memset(pattern, POISON, buffer->bytes);
	hook__inside = true;
	ps_status status = ps_queue_create(&queue, buffer->device, "hook");
	ps_tensor all = ps_tensor_make(buffer, 0, PS_I32, 1, (int64_t[]){(int64_t)(buffer->bytes / 4)});
	if (status == PS_OK)
		status = ps_queue_write(queue, all, pattern);
	if (status == PS_OK)
		status = ps_queue_finish(queue);
	ps_queue_destroy(queue);
	hook__inside = false;
	free(pattern);
	return status;
}

static ps_status hooked_buffer_create(ps_buffer *buffer)
{
	struct hook_state *s = state_of(buffer->device);
	PS_TRY(hook__before(s, HOOK_BUFFER_CREATE, NULL));
	bool guarded = s->hook->poison && s->host;
	buffer->bytes += guarded ? GUARD : 0;
	ps_status status = s->inner->buffer_create(buffer);
	if (status == PS_OK && guarded)
		memset(buffer->impl, POISON, buffer->bytes);
	buffer->bytes -= guarded ? GUARD : 0;
	if (status == PS_OK && s->hook->poison && !guarded) {
		status = fill_by_queue(buffer);
		if (status != PS_OK)
			s->inner->buffer_destroy(buffer);
	}
	if (status == PS_OK)
		atomic_fetch_add(&s->hook->buffers, 1);
	return status;
}

static void hooked_buffer_destroy(ps_buffer *buffer)
{
	struct hook_state *s = state_of(buffer->device);
	atomic_fetch_sub(&s->hook->buffers, 1);
	if (!(s->hook->poison && s->host)) {
		s->inner->buffer_destroy(buffer);
		return;
	}
	if (!all_poison((unsigned char *)buffer->impl + buffer->bytes, GUARD))
		atomic_fetch_add(&s->hook->overruns, 1);
	struct held *held = malloc(sizeof *held);
	memset(buffer->impl, POISON, buffer->bytes + GUARD);
	pthread_mutex_lock(&s->mutex);
	bool keep = held && s->held_bytes + buffer->bytes <= QUARANTINE_BYTES;
	if (keep) {
		*held = (struct held){s->held, *buffer};
		held->buffer.bytes += GUARD;
		s->held = held;
		s->held_bytes += buffer->bytes;
	}
	pthread_mutex_unlock(&s->mutex);
	if (!keep) {
		free(held);
		buffer->bytes += GUARD;
		s->inner->buffer_destroy(buffer);
		buffer->bytes -= GUARD;
	}
}

static ps_status hooked_queue_create(ps_queue *queue)
{
	struct hook_state *s = state_of(queue->device);
	PS_TRY(hook__before(s, HOOK_QUEUE_CREATE, NULL));
	PS_TRY(s->inner->queue_create(queue));
	atomic_fetch_add(&s->hook->queues, 1);
	return PS_OK;
}

static void hooked_queue_destroy(ps_queue *queue)
{
	struct hook_state *s = state_of(queue->device);
	atomic_fetch_sub(&s->hook->queues, 1);
	s->inner->queue_destroy(queue);
}

static ps_status hooked_queue_wait(ps_queue *queue, ps_event event)
{
	struct hook_state *s = state_of(queue->device);
	PS_TRY(hook__before(s, HOOK_WAIT, queue));
	return s->inner->queue_wait(queue, event);
}

static ps_status hooked_queue_write(ps_queue *queue, ps_tensor to, const void *from)
{
	struct hook_state *s = state_of(queue->device);
	PS_TRY(hook__before(s, HOOK_WRITE, queue));
	return s->inner->queue_write(queue, to, from);
}

static ps_status hooked_queue_read(ps_queue *queue, void *to, ps_tensor from)
{
	struct hook_state *s = state_of(queue->device);
	PS_TRY(hook__before(s, HOOK_READ, queue));
	return s->inner->queue_read(queue, to, from);
}

static ps_status hooked_queue_copy(ps_queue *queue, ps_tensor to, ps_tensor from)
{
	static const unsigned char wrong[8] = {0xA5, 0x5A, 0xA5, 0x5A, 0xA5, 0x5A, 0xA5, 0x5A};
	struct hook_state *s = state_of(queue->device);
	bool peer = from.buffer->device != to.buffer->device;
	PS_TRY(hook__before(s, peer ? HOOK_PEER_COPY : HOOK_COPY, queue));
	PS_TRY(s->inner->queue_copy(queue, to, from));
	uint64_t size = ps_dtype_bytes(to.dtype), bytes = (uint64_t)ps_tensor_count(to) * size;
	if (!peer || !s->hook->corrupt_peer_from || bytes < s->hook->corrupt_peer_from)
		return PS_OK;
	ps_tensor last = ps_tensor_make(to.buffer, to.offset + bytes - size, to.dtype, 1, (int64_t[]){1});
	return s->inner->queue_write(queue, last, wrong);
}

static ps_status hooked_queue_zero(ps_queue *queue, ps_tensor tensor)
{
	struct hook_state *s = state_of(queue->device);
	PS_TRY(hook__before(s, HOOK_ZERO, queue));
	return s->inner->queue_zero(queue, tensor);
}

static ps_status hooked_queue_timestamp(ps_queue *queue, int64_t *ns)
{
	struct hook_state *s = state_of(queue->device);
	PS_TRY(hook__before(s, HOOK_TIMESTAMP, queue));
	return s->inner->queue_timestamp(queue, ns);
}

static bool hooked_can_copy_from(const ps_device *to, const ps_device *from)
{
	struct hook_state *s = state_of(to);
	return !s->hook->deny_peer && s->inner->can_copy_from(to, from);
}

/* Of devices on the host, so that the inner one's copy is all it takes. */
static bool hooked_can_copy_to(const ps_device *from, const ps_device *to)
{
	struct hook_state *s = state_of(from);
	return s->hook->copies_to && to->info.host_addressable;
}

static bool hooked_can_relay(const ps_device *from, const ps_device *to)
{
	(void)to;
	return state_of(from)->hook->relays;
}

static ps_status hooked_pinned_create(ps_pinned *pinned)
{
	struct hook_state *s = state_of(pinned->device);
	PS_TRY(hook__before(s, HOOK_PINNED_CREATE, NULL));
	if (!s->hook->pins)
		return ps_fail(PS_ENOTSUP, "this hook pins nothing");
	pinned->address = malloc((size_t)pinned->bytes);
	if (!pinned->address)
		return ps_fail(PS_ENOMEM, "out of memory for what passes as pinned");
	atomic_fetch_add(&s->hook->pinned, 1);
	return PS_OK;
}

static void hooked_pinned_destroy(ps_pinned *pinned)
{
	atomic_fetch_sub(&state_of(pinned->device)->hook->pinned, 1);
	free(pinned->address);
}

static bool hooked_has_math(const ps_device *device, ps_math math)
{
	const struct hook_state *s = state_of(device);
	return math == PS_MATH_F32 || (!s->hook->deny_math && s->inner->has_math(device, math));
}

static ps_status run_op(ps_queue *queue, ps_op op, const void *arguments)
{
	struct hook_state *s = state_of(queue->device);
	const struct hook_rule *spoils;
	PS_TRY(hook__before_op(s, (queue->dry ? HOOK_ASK : HOOK_OP) + 1 + (int)op, queue, &spoils));
	PS_TRY(s->inner->ops[op](queue, arguments));
	return spoils ? hook__spoil(s, spoils, queue, op, arguments) : PS_OK;
}

#define PS_OP(name, text)                                                      \
	static ps_status hooked_##name(ps_queue *queue, const void *arguments) \
	{                                                                      \
		return run_op(queue, PS_OP_##name, arguments);                 \
	}
#include <penstock/ops.def>

static const ps_op_fn hooked_ops[PS_OP_COUNT] = {
#define PS_OP(name, text) [PS_OP_##name] = hooked_##name,
#include <penstock/ops.def>
};

static ps_status hooked_enumerate(ps_device_visit visit, void *payload)
{
	(void)visit;
	(void)payload;
	return PS_OK;
}

static const ps_backend table = {
        .abi = PS_BACKEND_ABI,
        .size = sizeof(ps_backend),
        .name = "hook",
        .description = "another device with a hook in every entry",
        .enumerate = hooked_enumerate,
        .device_open = hooked_device_open,
        .device_close = hooked_device_close,
        .buffer_create = hooked_buffer_create,
        .buffer_destroy = hooked_buffer_destroy,
        .queue_create = hooked_queue_create,
        .queue_destroy = hooked_queue_destroy,
        .queue_wait = hooked_queue_wait,
        .queue_write = hooked_queue_write,
        .queue_read = hooked_queue_read,
        .queue_copy = hooked_queue_copy,
        .queue_zero = hooked_queue_zero,
        .queue_timestamp = hooked_queue_timestamp,
        .can_copy_from = hooked_can_copy_from,
        .can_copy_to = hooked_can_copy_to,
        .can_relay = hooked_can_relay,
        .pinned_create = hooked_pinned_create,
        .pinned_destroy = hooked_pinned_destroy,
        .has_math = hooked_has_math,
        .ops = hooked_ops,
};

ps_status hook_device_open(ps_device **out, const char *inner_name, struct hook *hook)
{
	*out = NULL;
	const ps_backend *inner;
	const char *colon = strchr(inner_name, ':');
	size_t length = colon ? (size_t)(colon - inner_name) : strlen(inner_name);
	PS_TRY(ps__backend_find(&inner, inner_name, length));
	struct hook_state *s = calloc(1, sizeof *s);
	if (!s)
		return ps_fail(PS_ENOMEM, "out of memory for a hook");
	s->hook = hook;
	s->inner = inner;
	ps_status status = ps__timeline_init(&s->hang, NULL, "a hang of the hook");
	if (status != PS_OK) {
		free(s);
		return status;
	}
	if (pthread_mutex_init(&s->mutex, NULL)) {
		ps__timeline_finish(&s->hang);
		free(s);
		return ps_fail(PS_ENOMEM, "cannot create a mutex");
	}
	for (int i = 0; i < HOOK_CALLS; i++)
		atomic_store(&hook->calls[i], 0);
	atomic_store(&hook->fired, 0);
	atomic_store(&hook->overruns, 0);
	atomic_store(&hook->touched, 0);
	hook->state = opening = s;
	status = ps__device_open_on(out, &table, colon ? colon + 1 : "");
	opening = NULL;
	if (status != PS_OK) {
		hook->state = NULL;
		free_state(s);
	}
	return status;
}

uint64_t hook_faults(const struct hook *hook)
{
	return atomic_load(&hook->overruns) + atomic_load(&hook->touched);
}

uint64_t hook_calls(const struct hook *hook, int call)
{
	return atomic_load(&hook->calls[call]);
}
