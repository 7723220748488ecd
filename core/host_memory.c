/* Host memory for copies: pinned by the first device that does so, or plain. */
#include "core/backend.h"

#include <stdlib.h>

#define PAGE 4096

ps_status ps__host_memory_create(ps_pinned *out, ps_device *const *devices, int count, uint64_t bytes)
{
	for (int i = 0; i < count; i++) {
		*out = (ps_pinned){.device = devices[i], .bytes = bytes};
		ps_status status = devices[i]->backend->pinned_create(out);
		/* A system may allow less pinned memory than there is. */
		if (status != PS_ENOTSUP && status != PS_ENOMEM)
			return status;
	}
	*out = (ps_pinned){.bytes = bytes};
	if (!posix_memalign(&out->address, PAGE, (size_t)bytes))
		return PS_OK;
	out->address = NULL;
	return ps_fail(PS_ENOMEM, "out of memory for %llu bytes to copy through", (unsigned long long)bytes);
}

void ps__host_memory_destroy(ps_pinned *memory)
{
	if (memory->device && memory->address)
		memory->device->backend->pinned_destroy(memory);
	else
		free(memory->address);
	*memory = (ps_pinned){0};
}
