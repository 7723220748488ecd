/*
 * The rules of the hook device: which calls fail, come later, hang or leave a wrong element. Effects at run time are
 * waits that are enqueued in front of the command: for an event that has failed, that comes later, or that comes with
 * hook_release.
 */
#include "tests/support/hook_state.h"

#include "core/operands.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TICK_NS = 20000 };

/* A point that commands wait for, completed or failed by the hook. */
struct gate {
	struct gate *next;
	ps_timeline timeline;
	ps_event before; /* the delay runs from here on */
	int64_t delay_ns, due;
	bool pending;
};

_Thread_local bool hook__inside;
static _Thread_local const struct hook_rule *spoiling; /* the op that is being enqueued */

static const char *call_name(int call)
{
	static const char *const names[] = {"buffer_create", "queue_create", "wait", "write",     "read",
	                                    "copy",          "peer copy",    "zero", "timestamp", "pinned_create"};
	if (call < HOOK_OP)
		return names[call];
	if (call == HOOK_OP || call == HOOK_ASK)
		return "any op";
	return ps_op_name((ps_op)(call - (call < HOOK_ASK ? HOOK_OP : HOOK_ASK) - 1));
}

/* Completes delays whose time has come. */
static void *clock_main(void *argument)
{
	struct hook_state *s = argument;
	pthread_mutex_lock(&s->mutex);
	while (!s->stop) {
		for (struct gate *gate = s->gates; gate; gate = gate->next) {
			if (!gate->pending)
				continue;
			if (!gate->due && ps_event_done(gate->before))
				gate->due = ps_clock_ns() + gate->delay_ns;
			if (gate->due && ps_clock_ns() >= gate->due) {
				gate->pending = false;
				ps__timeline_complete(&gate->timeline, 1);
			}
		}
		pthread_mutex_unlock(&s->mutex);
		nanosleep(&(const struct timespec){.tv_nsec = TICK_NS}, NULL);
		pthread_mutex_lock(&s->mutex);
	}
	pthread_mutex_unlock(&s->mutex);
	return NULL;
}

/* A new gate, not yet open; NULL with a message when there is no memory for one. */
static struct gate *add_gate(struct hook_state *s)
{
	struct gate *gate = calloc(1, sizeof *gate);
	if (!gate || ps__timeline_init(&gate->timeline, NULL, "a gate of the hook") != PS_OK) {
		(void)ps_fail(PS_ENOMEM, "out of memory for a gate of the hook");
		free(gate);
		return NULL;
	}
	gate->next = s->gates;
	s->gates = gate;
	return gate;
}

static ps_status inject(const struct hook_state *s, const struct hook_rule *rule, const char *message, int call,
                        uint64_t number, const ps_queue *queue)
{
	ps_status status = rule->status == PS_OK ? PS_EDEVICE : rule->status;
	if (message)
		return ps_fail(status, "%s", message);
	return ps_fail(status, "injected: %s, call %llu of queue %s on %s", call_name(call), (unsigned long long)number,
	               queue ? queue->label : "none", s->device->info.name);
}

/* Does to the queue what one rule says; `message` is the rule's own text or NULL. The caller holds the mutex. */
static ps_status apply(struct hook_state *s, const struct hook_rule *rule, const char *message, int call,
                       uint64_t number, ps_queue *queue)
{
	struct gate *gate;
	switch (queue && !queue->dry ? rule->effect : HOOK_REFUSE) {
	case HOOK_REFUSE:
		break;
	case HOOK_FAIL:
		gate = add_gate(s);
		if (!gate)
			return PS_ENOMEM;
		ps__timeline_fail(&gate->timeline, 1, inject(s, rule, message, call, number, queue));
		return s->inner->queue_wait(queue, (ps_event){&gate->timeline, 1});
	case HOOK_DELAY:
		gate = add_gate(s);
		if (!gate)
			return PS_ENOMEM;
		gate->before = ps_queue_record(queue);
		gate->delay_ns = rule->delay_ns;
		if (!s->clock_runs && pthread_create(&s->clock, NULL, clock_main, s))
			return ps_fail(PS_ENOMEM, "cannot start the clock of the hook");
		s->clock_runs = true;
		PS_TRY(s->inner->queue_wait(queue, (ps_event){&gate->timeline, 1}));
		gate->pending = true;
		return PS_OK;
	case HOOK_HANG:
		return s->inner->queue_wait(queue, (ps_event){&s->hang, s->released + 1});
	case HOOK_SPOIL:
		spoiling = rule;
		return PS_OK;
	}
	return inject(s, rule, message, call, number, queue);
}

/* Is `call` what the rule is about? HOOK_OP and HOOK_ASK stand for all their ops. */
static bool matches(const struct hook_rule *rule, int call, const ps_queue *queue)
{
	int family = call < HOOK_OP ? call : call < HOOK_ASK ? HOOK_OP : HOOK_ASK;
	if (rule->queue && !(queue && !strcmp(rule->queue, queue->label)))
		return false;
	return rule->call == call || rule->call == family;
}

ps_status hook__before(struct hook_state *s, int call, ps_queue *queue)
{
	if (hook__inside)
		return PS_OK;
	ps_status status = PS_OK;
	atomic_fetch_add(&s->hook->calls[call], 1);
	if (call > HOOK_OP)
		atomic_fetch_add(&s->hook->calls[call < HOOK_ASK ? HOOK_OP : HOOK_ASK], 1);
	pthread_mutex_lock(&s->mutex);
	for (int i = 0; i < s->rule_count && status == PS_OK; i++) {
		const struct hook_rule *rule = &s->rules[i];
		if (!matches(rule, call, queue))
			continue;
		uint64_t number = ++s->seen[i], nth = rule->nth ? rule->nth : 1;
		if (number != nth && !(rule->every && number > nth))
			continue;
		atomic_fetch_add(&s->hook->fired, 1);
		status = apply(s, rule, s->messages[i], call, number, queue);
	}
	pthread_mutex_unlock(&s->mutex);
	return status;
}

ps_status hook__before_op(struct hook_state *s, int call, ps_queue *queue, const struct hook_rule **spoils)
{
	spoiling = NULL;
	ps_status status = hook__before(s, call, queue);
	*spoils = spoiling;
	return status;
}

ps_status hook__spoil(struct hook_state *s, const struct hook_rule *rule, ps_queue *queue, ps_op op,
                      const void *arguments)
{
	ps_tensor output = *ps__operand_tensor(&ps__op_operands(op)->list[rule->output], arguments);
	uint64_t at = output.offset + (uint64_t)rule->element * ps_dtype_bytes(output.dtype);
	pthread_mutex_lock(&s->mutex);
	ptrdiff_t which = rule - s->rules;
	if (output.dtype == PS_F64)
		s->values[which].f64 = rule->value;
	else
		s->values[which].f32 = (float)rule->value;
	pthread_mutex_unlock(&s->mutex);
	return s->inner->queue_write(queue, ps_tensor_make(output.buffer, at, output.dtype, 1, (int64_t[]){1}),
	                             &s->values[which]);
}

void hook__clock_stop(struct hook_state *s)
{
	pthread_mutex_lock(&s->mutex);
	s->stop = true;
	pthread_mutex_unlock(&s->mutex);
	if (s->clock_runs)
		pthread_join(s->clock, NULL);
}

void hook__rules_finish(struct hook_state *s)
{
	while (s->gates) {
		struct gate *gate = s->gates;
		s->gates = gate->next;
		ps__timeline_finish(&gate->timeline);
		free(gate);
	}
	for (int i = 0; i < s->rule_count; i++)
		free(s->messages[i]);
}

void hook_add_rule(struct hook *hook, const struct hook_rule *rule)
{
	struct hook_state *s = hook->state;
	pthread_mutex_lock(&s->mutex);
	/* A test that adds too many rules, or has no memory for one, is to stop there. */
	size_t length = rule->message ? strlen(rule->message) + 1 : 0;
	char *message = rule->message ? malloc(length) : NULL;
	if (s->rule_count == RULES || (rule->message && !message))
		abort();
	if (message)
		memcpy(message, rule->message, length);
	s->rules[s->rule_count] = *rule;
	s->messages[s->rule_count] = message;
	s->seen[s->rule_count] = 0;
	s->rule_count++;
	pthread_mutex_unlock(&s->mutex);
}

void hook_clear(struct hook *hook)
{
	struct hook_state *s = hook->state;
	pthread_mutex_lock(&s->mutex);
	for (int i = 0; i < s->rule_count; i++)
		free(s->messages[i]);
	s->rule_count = 0;
	pthread_mutex_unlock(&s->mutex);
}

void hook_release(struct hook *hook)
{
	struct hook_state *s = hook->state;
	pthread_mutex_lock(&s->mutex);
	ps__timeline_complete(&s->hang, ++s->released);
	pthread_mutex_unlock(&s->mutex);
}
