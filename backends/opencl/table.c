/* The module's table, and what its ops have in common. */
#include "backends/opencl/opencl.h"

#include <stdlib.h>

ps_status ps__cl_ready(ps_queue *queue, ps_op op, ps_tensor tensor, bool needs_double)
{
	struct cl_device *device = queue->device->impl;
	if (!device->fp64 && (needs_double || tensor.dtype == PS_F64))
		return ps__op_refuse(queue, op, tensor,
		                     needs_double ? "it adds up in doubles, which the device lacks (cl_khr_fp64)"
		                                  : "the device lacks doubles (cl_khr_fp64)");
	return ps__cl_build(device, tensor.dtype);
}

static const ps_op_fn ops[PS_OP_COUNT] = {
#define PS_OP(name, text) [PS_OP_##name] = ps__cl_##name,
#include <penstock/ops.def>
};

static const ps_backend backend = {
        .abi = PS_BACKEND_ABI,
        .size = sizeof(ps_backend),
        .name = "opencl",
        .description = "any vendor's device through OpenCL 1.2, with CLBlast for GEMM",
        .enumerate = ps__cl_enumerate,
        .device_open = ps__cl_device_open,
        .device_close = ps__cl_device_close,
        .buffer_create = ps__cl_buffer_create,
        .buffer_destroy = ps__cl_buffer_destroy,
        .queue_create = ps__cl_queue_create,
        .queue_destroy = ps__cl_queue_destroy,
        .queue_wait = ps__cl_queue_wait,
        .queue_write = ps__cl_queue_write,
        .queue_read = ps__cl_queue_read,
        .queue_copy = ps__cl_queue_copy,
        .queue_zero = ps__cl_queue_zero,
        .queue_timestamp = ps__cl_queue_timestamp,
        .can_copy_from = ps__cl_can_copy_from,
        .can_copy_to = ps__cl_can_copy_to,
        .pinned_create = ps__cl_pinned_create,
        .pinned_destroy = ps__cl_pinned_destroy,
        .tune = ps__cl_tune,
        .ops = ops,
};

const ps_backend *ps_backend_entry(void);

const ps_backend *ps_backend_entry(void)
{
	return &backend;
}
