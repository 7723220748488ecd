/* Which backends there are: those built in and those loaded from modules. */
#ifndef PS_CORE_REGISTRY_H
#define PS_CORE_REGISTRY_H

#include "core/backend.h"

/* A table with every entry filled; callers never test one for NULL. */
struct ps__full_backend {
	ps_backend table;
	ps_op_fn ops[PS_OP_COUNT];
};

/*
 * Copies a backend's table and fills what it leaves out: optional entries and ops get defaults, the ops' refusing. A
 * table of another ABI, or without a mandatory entry, is PS_ENODEV naming what is wrong with "it".
 */
ps_status ps__backend_complete(struct ps__full_backend *full, const ps_backend *table) PS_WARN_UNUSED;
/* Has the backend the op, rather than the default that refuses it? */
bool ps__backend_has(const ps_backend *backend, ps_op op);

/* Visits every backend; one that did not load comes with backend NULL and a status whose message is set. */
typedef ps_status (*ps_registry_visit)(void *payload, const char *name, const ps_backend *backend, ps_status status);
ps_status ps__registry_each(ps_registry_visit visit, void *payload) PS_WARN_UNUSED;

void ps__device_hold(ps_device *device);
void ps__device_release(ps_device *device);

#endif
