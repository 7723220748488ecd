/*
 * Modules that must not load: the table of toy.c, whose own entry the build calls toy_entry here, with one fault each,
 * chosen by the build.
 */
#include <penstock/backend.h>

const ps_backend *toy_entry(void);
const ps_backend *ps_backend_entry(void);

const ps_backend *ps_backend_entry(void)
{
	static ps_backend faulty;
	faulty = *toy_entry();
	faulty.name = FAULT_NAME;
#if defined(FAULT_ABI)
	faulty.abi = PS_BACKEND_ABI + 1;
#elif defined(FAULT_SIZE)
	faulty.size -= 8;
#elif defined(FAULT_ENTRY)
	faulty.queue_zero = NULL;
#elif defined(FAULT_OPS)
	faulty.ops = NULL;
#elif defined(FAULT_NO_TABLE)
	return NULL;
#endif
	return &faulty;
}
