/*
 * OpenCL that fails on demand: a library that stands in front of the ICD loader in every program that is linked with
 * it, passes all calls on and makes the n-th one fail. Calls that only give something up or ask about a platform or a
 * device do not count. What was created and not released is counted too. In front of a program that knows nothing of it
 * (LD_PRELOAD), PS_TEST_FAIL_FROM=N is N calls until the device is gone for good.
 */
#ifndef PS_TESTS_OPENCL_FAILING_H
#define PS_TESTS_OPENCL_FAILING_H

#include <stdbool.h>
#include <stdint.h>

/* From here on the n-th call (0: none), or that one and all later ones, fails with an error code of OpenCL. */
void failing_start(uint64_t nth, int32_t code, bool for_ever);
/* The calls since then, and the function whose call failed first; NULL when none did. */
uint64_t failing_calls(void);
const char *failing_function(void);
/* Objects of OpenCL that are alive. */
int64_t failing_alive(void);

#endif
