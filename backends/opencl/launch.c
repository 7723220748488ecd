/* Launching kernels: arguments one after the other, then the run. */
#include "backends/opencl/opencl.h"

static const char *const names[CL_KERNEL_COUNT] = {
#define CL_KERNEL_NAME(name) [CL_##name] = "ps_" #name,
        CL_KERNELS(CL_KERNEL_NAME)};

struct cl_launch ps__cl_launch(struct cl_queue *q, enum cl_kernel_id kernel, ps_dtype dtype)
{
	bool wide = dtype == PS_F64;
	struct cl_launch l = {.q = q, .name = names[kernel], .dtype = dtype, .status = ps__cl_build(q->device, dtype)};
	if (l.status != PS_OK)
		return l;
	/* Kernels are the queue's own, for their arguments may be set by one thread at a time. */
	if (!q->kernels[wide][kernel])
		q->kernels[wide][kernel] = clCreateKernel(q->device->program[wide], names[kernel], &l.error);
	l.kernel = q->kernels[wide][kernel];
	return l;
}

static void set(struct cl_launch *l, size_t bytes, const void *value)
{
	if (l->status != PS_OK || l->error != CL_SUCCESS)
		return;
	l->error = clSetKernelArg(l->kernel, l->next++, bytes, value);
}

void ps__cl_arg_memory(struct cl_launch *l, cl_mem memory)
{
	set(l, sizeof memory, &memory);
}

void ps__cl_arg_tensor(struct cl_launch *l, ps_tensor tensor)
{
	bool there = ps_tensor_present(tensor);
	ps__cl_arg_memory(l, there ? cl_memory(tensor) : NULL);
	ps__cl_arg_long(l, there ? (int64_t)(tensor.offset / ps_dtype_bytes(tensor.dtype)) : 0);
}

void ps__cl_arg_long(struct cl_launch *l, int64_t value)
{
	cl_long number = value;
	set(l, sizeof number, &number);
}

void ps__cl_arg_int(struct cl_launch *l, int64_t value)
{
	cl_int number = (cl_int)value;
	set(l, sizeof number, &number);
}

void ps__cl_arg_uint(struct cl_launch *l, uint32_t value)
{
	cl_uint number = value;
	set(l, sizeof number, &number);
}

void ps__cl_arg_real(struct cl_launch *l, double value)
{
	cl_float single = (cl_float)value;
	if (l->dtype == PS_F64)
		ps__cl_arg_double(l, value);
	else
		set(l, sizeof single, &single);
}

void ps__cl_arg_double(struct cl_launch *l, double value)
{
	cl_double number = value;
	set(l, sizeof number, &number);
}

void ps__cl_arg_local(struct cl_launch *l, uint64_t bytes)
{
	set(l, (size_t)bytes, NULL);
}

void ps__cl_arg_drop(struct cl_launch *l, const ps_dropout *drop)
{
	const ps_random_place *place = &drop->place;
	ps__cl_arg_uint(l, (uint32_t)place->seed);
	ps__cl_arg_uint(l, (uint32_t)(place->seed >> 32));
	ps__cl_arg_uint(l, place->step);
	ps__cl_arg_uint(l, place->layer << 8 | place->site);
	ps__cl_arg_uint(l, drop->first_row);
	ps__cl_arg_uint(l, ps_random_threshold((double)drop->p));
	ps__cl_arg_real(l, 1 / (1 - (double)drop->p));
	ps__cl_arg_int(l, drop->p > 0);
}

static ps_status run(struct cl_launch *l, const size_t *global, const size_t *local)
{
	if (l->status != PS_OK)
		return l->status;
	if (l->error != CL_SUCCESS)
		return ps__cl_fail(l->q->queue->device->info.name, l->name, l->error);
	cl_event event;
	cl_int error = clEnqueueNDRangeKernel(l->q->cl, l->kernel, 3, NULL, global, local, 0, NULL, &event);
	return ps__cl_enqueued(l->q, l->name, error, event);
}

ps_status ps__cl_run_elements(struct cl_launch *l, int64_t x, int64_t y, int64_t z)
{
	const size_t local[] = {CL_LANES, 1, 1};
	const size_t global[] = {(size_t)cl_ceil(x, CL_LANES) * CL_LANES, (size_t)y, (size_t)z};
	return run(l, global, local);
}

ps_status ps__cl_run_rows(struct cl_launch *l, int64_t x, int64_t y, int64_t z)
{
	size_t group = (size_t)l->q->device->group;
	const size_t local[] = {group, 1, 1};
	const size_t global[] = {(size_t)x * group, (size_t)y, (size_t)z};
	return run(l, global, local);
}

ps_status ps__cl_run_groups(struct cl_launch *l, const int64_t *groups, const int *local)
{
	const size_t items[] = {(size_t)local[0], (size_t)local[1], 1};
	const size_t global[] = {(size_t)groups[0] * items[0], (size_t)groups[1] * items[1], 1};
	return run(l, global, items);
}

ps_status ps__cl_run_single(struct cl_launch *l)
{
	const size_t one[] = {1, 1, 1};
	return run(l, one, one);
}
