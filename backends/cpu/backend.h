/* The two backends that live on host cores, for the registry. */
#ifndef PS_BACKENDS_CPU_BACKEND_H
#define PS_BACKENDS_CPU_BACKEND_H

#include "core/backend.h"

extern const ps_backend ps__cpu_backend; /* `cpu`: oneDNN, all its cores */
extern const ps_backend ps__ref_backend; /* `ref`: plain loops in one thread, the oracle */

#endif
