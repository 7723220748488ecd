/* Element access for the reference kernels: any floating dtype, computed in double. */
#ifndef PS_BACKENDS_CPU_REF_REF_H
#define PS_BACKENDS_CPU_REF_REF_H

#include "backends/cpu/cpu.h"

/* Element i of a contiguous tensor. */
static inline double ref_get(ps_tensor tensor, int64_t i)
{
	const void *data = ps__cpu_data(tensor);
	return tensor.dtype == PS_F64 ? ((const double *)data)[i] : (double)((const float *)data)[i];
}

static inline void ref_set(ps_tensor tensor, int64_t i, double value)
{
	void *data = ps__cpu_data(tensor);
	if (tensor.dtype == PS_F64)
		((double *)data)[i] = value;
	else
		((float *)data)[i] = (float)value;
}

#endif
