/* What the two parts of the hook device know of one: its entries (hook.c) and its rules (hook_rules.c). */
#ifndef PS_TESTS_SUPPORT_HOOK_STATE_H
#define PS_TESTS_SUPPORT_HOOK_STATE_H

#include "tests/support/hook.h"

#include "core/backend.h"

enum { RULES = 16 };

struct held {
	struct held *next;
	ps_buffer buffer;
};

struct gate;

struct hook_state {
	struct hook_state *next;
	struct hook *hook;
	const ps_device *device;
	const ps_backend *inner;
	bool host; /* buffers are host memory, whatever the device claims */

	pthread_mutex_t mutex; /* guards what follows */
	struct hook_rule rules[RULES];
	uint64_t seen[RULES];
	char *messages[RULES];
	union {
		float f32;
		double f64;
	} values[RULES]; /* what a rule spoils with */
	int rule_count;
	struct gate *gates;
	struct held *held;
	uint64_t held_bytes;
	ps_timeline hang;
	uint64_t released;
	pthread_t clock;
	bool clock_runs, stop;
};

/* A call of the hook's own, which the rules let through. */
extern _Thread_local bool hook__inside;

/* Counts a call and lets the rules have their way with it. */
ps_status hook__before(struct hook_state *s, int call, ps_queue *queue) PS_WARN_UNUSED;
/* Of an op: *spoils is the rule that wants its result spoilt, or NULL. */
ps_status hook__before_op(struct hook_state *s, int call, ps_queue *queue,
                          const struct hook_rule **spoils) PS_WARN_UNUSED;
/* Overwrites the element that the rule names. */
ps_status hook__spoil(struct hook_state *s, const struct hook_rule *rule, ps_queue *queue, ps_op op,
                      const void *arguments) PS_WARN_UNUSED;
/* Ends the thread that completes delays, if there is one. */
void hook__clock_stop(struct hook_state *s);
/* Frees gates and messages. */
void hook__rules_finish(struct hook_state *s);

#endif
