/* Which backends there are: those built in and those loaded from modules. */
#ifndef PS_CORE_REGISTRY_H
#define PS_CORE_REGISTRY_H

#include "core/backend.h"

/* Visits every backend; one that did not load comes with backend NULL and a status whose message is set. */
typedef ps_status (*ps_registry_visit)(void *payload, const char *name, const ps_backend *backend, ps_status status);
ps_status ps__registry_each(ps_registry_visit visit, void *payload);

void ps__device_hold(ps_device *device);
void ps__device_release(ps_device *device);

#endif
