/*
 * What the contract tests share: the devices they run on, and queues that stop, go on and fail when the test says so,
 * without any op. The devices are all that this machine has, one of each kind, and hooks over some of them.
 */
#ifndef PS_TESTS_CORE_CONTRACT_H
#define PS_TESTS_CORE_CONTRACT_H

#include "core/backend.h"
#include "tests/support/check.h"

#include <string.h>

#define SECOND ((int64_t)1000000000)
#define MESSAGE_LENGTH 1023 /* the longest message that there is */

/* How many devices there are, for tcase_add_loop_test. To be called first, from main. */
int contract_devices(void);
ps_device *contract_open(int index);
const char *contract_name(int index);

/* A point that is nobody's but the test's. */
struct gate {
	ps_timeline timeline;
};
void gate_init(struct gate *gate);
void gate_finish(struct gate *gate);
ps_event gate_event(struct gate *gate);
void gate_open(struct gate *gate);
void gate_fail(struct gate *gate, ps_status status, const char *message);

/* Fills `message` with MESSAGE_LENGTH different characters. */
void long_message(char message[MESSAGE_LENGTH + 1]);

/* A buffer of one device as int32s. */
ps_tensor ints(ps_buffer *buffer, int64_t first, int64_t count);

#endif
