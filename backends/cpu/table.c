/* The tables of `cpu` and `ref`, which differ in their cores and in their ops. */
#include "backends/cpu/backend.h"
#include "backends/cpu/cpu.h"

#if defined(PS_ONEDNN)
#define PRODUCTS "oneDNN for GEMM"
#else
#define PRODUCTS "a blocked GEMM of its own"
#endif

/* Where the processor has no bf16 products, the fast backend makes them from fp32 ones of rounded factors. */
static bool has_math(const ps_device *device, ps_math math)
{
	(void)device;
	return math == PS_MATH_F32 || math == PS_MATH_BF16;
}

/* What is the same in both: memory and queues. */
#define SHARED_ENTRIES                                                                                          \
	.abi = PS_BACKEND_ABI, .size = sizeof(ps_backend), .device_close = ps__cpu_device_close,                \
	.buffer_create = ps__cpu_buffer_create, .buffer_destroy = ps__cpu_buffer_destroy,                       \
	.queue_create = ps__cpu_queue_create, .queue_destroy = ps__cpu_queue_destroy,                           \
	.queue_wait = ps__cpu_queue_wait, .queue_write = ps__cpu_queue_write, .queue_read = ps__cpu_queue_read, \
	.queue_copy = ps__cpu_queue_copy, .queue_zero = ps__cpu_queue_zero,                                     \
	.queue_timestamp = ps__cpu_queue_timestamp, .can_copy_from = ps__cpu_can_copy_from,                     \
	.can_copy_to = ps__cpu_can_copy_to, .has_math = has_math

const ps_backend ps__cpu_backend = {
        SHARED_ENTRIES,
        .name = "cpu",
        .description = "CPU cores, with " PRODUCTS,
        .enumerate = ps__cpu_enumerate,
        .device_open = ps__cpu_device_open,
        .ops = ps__fast_ops,
};

const ps_backend ps__ref_backend = {
        SHARED_ENTRIES,
        .name = "ref",
        .description = "plain loops in double: the reference",
        .enumerate = ps__ref_enumerate,
        .device_open = ps__ref_device_open,
        .ops = ps__ref_ops,
};
