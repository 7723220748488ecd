/* The fast backend's hold on its device and its table of ops. */
#include "backends/cpu/cpu.h"

ps_status ps__fast_device_open(struct cpu_device *device)
{
	(void)device;
	return PS_OK;
}

void ps__fast_device_close(struct cpu_device *device)
{
	(void)device;
}

void ps__fast_thread_start(const struct cpu_device *device)
{
	(void)device;
}

const ps_op_fn ps__fast_ops[PS_OP_COUNT] = {0};
