/* The result of one row while it is made up, with room for its texts. */
#ifndef PS_VERIFY_OUTCOME_H
#define PS_VERIFY_OUTCOME_H

#include "core/compare.h"

#include <penstock/verify.h>

struct outcome {
	ps_verify_result result;
	char message[1024], shapes[512];
};

/* Starts a row's result as SAME; `done` and `total` stay. */
void ps__outcome_begin(struct outcome *outcome, const char *device, const char *subject, const char *part, size_t row,
                       ps_dtype dtype);
/* Makes it DIFFERS; the first message stays. */
void ps__outcome_differs(struct outcome *outcome, const char *format, ...) PS_PRINTF(2, 3);
/* Makes it SKIPPED, unless it DIFFERS, for the reason that is the thread's message. */
void ps__outcome_skip(struct outcome *outcome, ps_status status);
/* A call on the device under test failed: SKIPPED where it refused or has no room, DIFFERS else. */
void ps__outcome_failed(struct outcome *outcome, ps_status status);
/* Takes a tensor's difference in: DIFFERS if it has bad elements, and its worst element if that is the worst so far. */
void ps__outcome_compared(struct outcome *outcome, const char *tensor, const ps__difference *difference);

#endif
