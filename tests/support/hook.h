/*
 * The hook device: any device, with a hook in every entry of its table.
 *
 *   struct hook hook = {.poison = true};
 *   check_ok(hook_device_open(&device, "cpu:0", &hook));
 *   hook_add(&hook, .effect = HOOK_FAIL, .call = HOOK_OP_OF(relu_fwd), .nth = 3);
 *   …                                          the third relu_fwd from here on fails its queue at run time
 *   ps_device_close(device);
 *   ck_assert_uint_eq(hook_faults(&hook), 0);  nobody wrote past or into freed memory
 *
 * Everything else is the inner device itself, whose buffers and queues these are. One hook serves one device at a
 * time, is the caller's, and must outlive the device. Its functions may be called from any thread.
 */
#ifndef PS_TESTS_SUPPORT_HOOK_H
#define PS_TESTS_SUPPORT_HOOK_H

#include "core/backend.h"

/* Kinds of calls. Ops asked for by ps_record come as HOOK_ASK, those that are to run as HOOK_OP. */
enum hook_call {
	HOOK_BUFFER_CREATE,
	HOOK_QUEUE_CREATE,
	HOOK_WAIT,
	HOOK_WRITE,
	HOOK_READ,
	HOOK_COPY,      /* within the device */
	HOOK_PEER_COPY, /* from or to another device */
	HOOK_ZERO,
	HOOK_TIMESTAMP,
	HOOK_PINNED_CREATE,
	HOOK_OP, /* any op; those that follow are one op each */
	HOOK_ASK = HOOK_OP + 1 + PS_OP_COUNT,
	HOOK_CALLS = HOOK_ASK + 1 + PS_OP_COUNT
};
#define HOOK_OP_OF(op) (HOOK_OP + 1 + PS_OP_##op)
#define HOOK_ASK_OF(op) (HOOK_ASK + 1 + PS_OP_##op)

enum hook_effect {
	HOOK_REFUSE, /* the call returns the status and enqueues nothing */
	HOOK_FAIL,   /* the call succeeds; when the queue comes to the command, it fails instead of running it */
	HOOK_DELAY,  /* when the queue comes to the command, it waits delay_ns first */
	HOOK_HANG,   /* when the queue comes to the command, it stops there until hook_release */
	HOOK_SPOIL   /* of an op: it runs, and then one element of an output gets another value */
};

/* Creating a buffer, a queue or pinned memory, and HOOK_ASK, know HOOK_REFUSE only. */
struct hook_rule {
	enum hook_effect effect;
	int call;            /* enum hook_call, HOOK_OP_OF or HOOK_ASK_OF */
	const char *queue;   /* only on queues with this label; NULL: on all */
	uint64_t nth;        /* of the matching calls from now on; 0 is as 1 */
	bool every;          /* that one and all later ones */
	ps_status status;    /* PS_OK is as PS_EDEVICE */
	const char *message; /* NULL: "injected: …" with call, number, queue and device; else it is copied */
	int64_t delay_ns;
	int output; /* what HOOK_SPOIL spoils: the op's output in the order of core/operands.c, its element, and how */
	int64_t element;
	double value;
};

struct hook_state;

struct hook {
	/* Set before the device is opened. */
	bool poison;    /* new and freed memory is NaN, with guards behind it that hook_faults looks at */
	bool deny_peer; /* this device copies from no other */
	bool copies_to; /* this device copies to others */
	bool pins;      /* has pinned memory, or what passes for it */
	bool relays;    /* staged links from this device need no thread; the other one is on the host, too */
	bool deny_math; /* it multiplies in fp32 only */
	bool opaque;    /* claims not to be host-addressable, so that other devices do not copy from it either */
	uint64_t corrupt_peer_from; /* peer copies of at least so many bytes arrive wrong; 0: none */

	/* Counted since the device was opened; may be read at any time, also after it is closed. */
	_Atomic uint64_t calls[HOOK_CALLS]; /* that reached the device; refused ones too */
	_Atomic uint64_t fired;             /* how many times a rule took effect */
	_Atomic uint64_t overruns;          /* buffers that were found to be written past their end when freed */
	_Atomic uint64_t touched;           /* buffers that were written to after they were freed */
	_Atomic int64_t buffers, queues;    /* alive */
	_Atomic int64_t pinned;

	struct hook_state *state; /* while the device is open */
};

/* Opens the device `inner_name` with the hook in it; it is called "hook:" and the inner name. */
ps_status hook_device_open(ps_device **out, const char *inner_name, struct hook *hook) PS_WARN_UNUSED;

/* Adds a rule, at most 16 until hook_clear. The rule is counted from here on. */
void hook_add_rule(struct hook *hook, const struct hook_rule *rule);
#define hook_add(hook, ...) hook_add_rule((hook), &(const struct hook_rule){__VA_ARGS__})
/* Takes all rules away; what they did to commands already enqueued stays. */
void hook_clear(struct hook *hook);
/* Lets go all commands that hang; a queue that hangs has to be released before it is destroyed or reset. */
void hook_release(struct hook *hook);

/* Writes past the end and after freeing. Complete once the device is closed. */
uint64_t hook_faults(const struct hook *hook);
uint64_t hook_calls(const struct hook *hook, int call);

#endif
