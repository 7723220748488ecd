/* The tables of `cpu` and `ref`, which differ in their cores and in their ops. */
#include "backends/cpu/backend.h"
#include "backends/cpu/cpu.h"

const ps_backend ps__cpu_backend = {
        .abi = PS_BACKEND_ABI,
        .size = sizeof(ps_backend),
        .name = "cpu",
        .description = "CPU cores, with oneDNN for GEMM",
        .enumerate = ps__cpu_enumerate,
        .device_open = ps__cpu_device_open,
        .device_close = ps__cpu_device_close,
        .buffer_create = ps__cpu_buffer_create,
        .buffer_destroy = ps__cpu_buffer_destroy,
        .queue_create = ps__cpu_queue_create,
        .queue_destroy = ps__cpu_queue_destroy,
        .queue_wait = ps__cpu_queue_wait,
        .queue_write = ps__cpu_queue_write,
        .queue_read = ps__cpu_queue_read,
        .queue_copy = ps__cpu_queue_copy,
        .queue_zero = ps__cpu_queue_zero,
        .queue_timestamp = ps__cpu_queue_timestamp,
        .can_copy_from = ps__cpu_can_copy_from,
        .ops = ps__fast_ops,
};

const ps_backend ps__ref_backend = {
        .abi = PS_BACKEND_ABI,
        .size = sizeof(ps_backend),
        .name = "ref",
        .description = "plain loops in double: the reference",
        .enumerate = ps__ref_enumerate,
        .device_open = ps__ref_device_open,
        .device_close = ps__cpu_device_close,
        .buffer_create = ps__cpu_buffer_create,
        .buffer_destroy = ps__cpu_buffer_destroy,
        .queue_create = ps__cpu_queue_create,
        .queue_destroy = ps__cpu_queue_destroy,
        .queue_wait = ps__cpu_queue_wait,
        .queue_write = ps__cpu_queue_write,
        .queue_read = ps__cpu_queue_read,
        .queue_copy = ps__cpu_queue_copy,
        .queue_zero = ps__cpu_queue_zero,
        .queue_timestamp = ps__cpu_queue_timestamp,
        .can_copy_from = ps__cpu_can_copy_from,
        .ops = ps__ref_ops,
};
