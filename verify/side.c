/* Queues and tensors of the devices that are compared. */
#include "verify/side.h"

#include "verify/conform.h"

#include <stdlib.h>
#include <string.h>

void ps__side_finish(struct side *side)
{
	if (ps_queue_finish(side->queue) != PS_OK)
		ps_queue_reset(side->queue);
	for (int i = 0; i < side->count; i++)
		ps_buffer_destroy(side->buffers[i]);
	side->count = 0;
}

static size_t bytes_of(ps_tensor tensor)
{
	return (size_t)ps_tensor_count(tensor) * ps_dtype_bytes(tensor.dtype);
}

static ps_status allocate(void **out, size_t bytes)
{
	*out = calloc(1, bytes);
	return *out ? PS_OK : ps_fail(PS_ENOMEM, "no host memory for a tensor of %zu bytes", bytes);
}

ps_status ps__side_tensor(struct side *side, ps_tensor *out, ps_dtype dtype, int rank, const int64_t *dims)
{
	if (side->count == SIDE_BUFFERS)
		return ps_fail(PS_EINTERNAL, "a check has more than %d tensors", (int)SIDE_BUFFERS);
	ps_tensor tensor = ps_tensor_make(NULL, 0, dtype, rank, dims);
	PS_TRY(ps_buffer_create(&tensor.buffer, ps_queue_device(side->queue), bytes_of(tensor)));
	side->buffers[side->count++] = tensor.buffer;
	*out = tensor;
	return ps__side_fill(side, tensor, 0xFF);
}

/* Writes from, or reads into, host memory and waits, since the memory goes away. */
static ps_status move(struct side *side, ps_tensor tensor, void *bytes, bool read)
{
	PS_TRY(read ? ps_queue_read(side->queue, bytes, tensor) : ps_queue_write(side->queue, tensor, bytes));
	return ps_queue_finish(side->queue);
}

ps_status ps__side_fill(struct side *side, ps_tensor tensor, unsigned char byte)
{
	void *bytes;
	PS_TRY(allocate(&bytes, bytes_of(tensor)));
	memset(bytes, byte, bytes_of(tensor));
	ps_status status = move(side, tensor, bytes, false);
	free(bytes);
	return status;
}

ps_status ps__side_bytes(struct side *side, ps_tensor tensor, void **out)
{
	PS_TRY(allocate(out, bytes_of(tensor)));
	ps_status status = move(side, tensor, *out, true);
	if (status != PS_OK) {
		free(*out);
		*out = NULL;
	}
	return status;
}

ps_status ps__side_set(struct side *side, ps_tensor tensor, const double *values)
{
	void *bytes;
	PS_TRY(allocate(&bytes, bytes_of(tensor)));
	for (int64_t i = 0; i < ps_tensor_count(tensor); i++) {
		if (tensor.dtype == PS_F64)
			((double *)bytes)[i] = values[i];
		else if (tensor.dtype == PS_F32)
			((float *)bytes)[i] = (float)values[i];
		else
			((int32_t *)bytes)[i] = (int32_t)values[i];
	}
	ps_status status = move(side, tensor, bytes, false);
	free(bytes);
	return status;
}

ps_status ps__side_get(struct side *side, ps_tensor tensor, double *values)
{
	void *bytes;
	PS_TRY(ps__side_bytes(side, tensor, &bytes));
	for (int64_t i = 0; i < ps_tensor_count(tensor); i++)
		values[i] = tensor.dtype == PS_F64   ? ((double *)bytes)[i]
		            : tensor.dtype == PS_F32 ? (double)((float *)bytes)[i]
		                                     : (double)((int32_t *)bytes)[i];
	free(bytes);
	return PS_OK;
}

ps_status ps__side_random(struct side *side, ps_tensor tensor, uint64_t stream, double low, double high)
{
	int64_t count = ps_tensor_count(tensor);
	void *values;
	PS_TRY(allocate(&values, (size_t)count * sizeof(double)));
	for (int64_t i = 0; i < count; i++) {
		double unit = (double)((ps__conform_mix(stream + (uint64_t)i) >> 52) * 2 + 1) / 8192;
		((double *)values)[i] = (double)(float)(low + (high - low) * unit);
	}
	ps_status status = ps__side_set(side, tensor, values);
	free(values);
	return status;
}

static ps_status open_queue(ps_queue **out, const char *name)
{
	ps_device *device;
	PS_TRY(ps_device_open(&device, name));
	ps_status status = ps_queue_create(out, device, name);
	ps_device_close(device);
	return status;
}

const char *ps__against(const ps_verify_config *config)
{
	return config->against ? config->against : "ref";
}

ps_status ps__queues_open(ps_queue ***out, const ps_verify_config *config)
{
	ps_queue **queues = calloc((size_t)config->device_count + 1, sizeof *queues);
	if (!queues)
		return ps_fail(PS_ENOMEM, "no memory for %d devices", config->device_count);
	ps_status status = open_queue(&queues[0], ps__against(config));
	for (int i = 0; i < config->device_count && status == PS_OK; i++)
		status = open_queue(&queues[i + 1], config->devices[i]);
	if (status != PS_OK) {
		ps__queues_close(queues, config);
		return status;
	}
	*out = queues;
	return PS_OK;
}

void ps__queues_close(ps_queue **queues, const ps_verify_config *config)
{
	for (int i = 0; i <= config->device_count; i++)
		ps_queue_destroy(queues[i]);
	free(queues);
}
