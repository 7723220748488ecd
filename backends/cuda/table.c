/* The table of the CUDA backend. */
#include "backends/cuda/cuda.h"

static const ps_backend table = {
        .abi = PS_BACKEND_ABI,
        .size = sizeof(ps_backend),
        .name = PS_CUDA_NAME,
        .description = "NVIDIA GPUs, with cuBLASLt for GEMM",
        .enumerate = ps__cuda_enumerate,
        .device_open = ps__cuda_device_open,
        .device_close = ps__cuda_device_close,
        .buffer_create = ps__cuda_buffer_create,
        .buffer_destroy = ps__cuda_buffer_destroy,
        .queue_create = ps__cuda_queue_create,
        .queue_destroy = ps__cuda_queue_destroy,
        .queue_wait = ps__cuda_queue_wait,
        .queue_write = ps__cuda_queue_write,
        .queue_read = ps__cuda_queue_read,
        .queue_copy = ps__cuda_queue_copy,
        .queue_zero = ps__cuda_queue_zero,
        .queue_timestamp = ps__cuda_queue_timestamp,
        .can_copy_from = ps__cuda_reaches,
        .can_copy_to = ps__cuda_reaches,
        .can_relay = ps__cuda_can_relay,
        .list_compile = ps__cuda_list_compile,
        .list_submit = ps__cuda_list_submit,
        .list_release = ps__cuda_list_release,
        .has_math = ps__cuda_has_math,
        .pinned_create = ps__cuda_pinned_create,
        .pinned_destroy = ps__cuda_pinned_destroy,
        .ops = ps__cuda_ops,
};

const ps_backend *ps_backend_entry(void);

const ps_backend *ps_backend_entry(void)
{
	return &table;
}
