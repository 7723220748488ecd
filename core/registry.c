/* The registry of backends: a row for each that is built in, and the modules found on the path. */
#include "core/registry.h"

#include "backends/cpu/backend.h"

#include <string.h>

static const ps_backend *const built_in[] = {&ps__cpu_backend, &ps__ref_backend};

ps_status ps__backend_find(const ps_backend **out, const char *name, size_t length)
{
	for (size_t i = 0; i < sizeof built_in / sizeof *built_in; i++) {
		if (strlen(built_in[i]->name) == length && !strncmp(built_in[i]->name, name, length)) {
			*out = built_in[i];
			return PS_OK;
		}
	}
	return ps_fail(PS_ENODEV, "no backend for device \"%.*s\"; `penstock devices` lists what is here", (int)length,
	               name);
}

ps_status ps__registry_each(ps_registry_visit visit, void *payload)
{
	for (size_t i = 0; i < sizeof built_in / sizeof *built_in; i++)
		PS_TRY(visit(payload, built_in[i]->name, built_in[i], PS_OK));
	return PS_OK;
}
