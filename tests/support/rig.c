/* Opening a device for a test, and numbers in and out of it. */
#include "support/rig.h"

#include "core/backend.h"
#include "core/registry.h"
#include "support/conform.h"

#include <penstock/bf16.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void rig_open(struct rig *rig, const char *name)
{
	*rig = (struct rig){0};
	ps_device *device;
	check_ok(ps_device_open(&device, name));
	check_ok(ps_queue_create(&rig->queue, device, name));
	ps_device_close(device);
}

void rig_close(struct rig *rig)
{
	for (int i = 0; i < rig->count; i++)
		ps_buffer_destroy(rig->buffers[i]);
	ps_queue_destroy(rig->queue);
	*rig = (struct rig){0};
}

bool rig_has(const struct rig *rig, ps_op op)
{
	const ps_device *device = ps_queue_device(rig->queue);
	if (ps__backend_has(device->backend, op))
		return true;
	printf("skip: %s has no %s\n", device->info.name, ps_op_name(op));
	return false;
}

ps_tensor rig_tensor(struct rig *rig, ps_dtype dtype, int rank, const int64_t *dims, const double *values)
{
	ck_assert_int_lt(rig->count, RIG_BUFFERS);
	ps_tensor tensor = ps_tensor_make(NULL, 0, dtype, rank, dims);
	size_t count = (size_t)ps_tensor_count(tensor);
	check_ok(ps_buffer_create(&tensor.buffer, ps_queue_device(rig->queue), count * ps_dtype_bytes(dtype)));
	uint64_t stream = ps__conform_mix(conform_seed()) + (uint64_t)rig->count * 1000003;
	rig->buffers[rig->count++] = tensor.buffer;
	double *random = NULL;
	if (!values) {
		random = calloc(count, sizeof *random);
		ck_assert_ptr_nonnull(random);
		for (size_t i = 0; i < count && dtype != PS_I32; i++)
			random[i] = (double)(ps__conform_mix(stream + i) >> 11) / 4503599627370496.0 - 1;
	}
	rig_set(rig, tensor, values ? values : random);
	free(random);
	return tensor;
}

void rig_set(struct rig *rig, ps_tensor tensor, const double *values)
{
	size_t count = (size_t)ps_tensor_count(tensor), size = ps_dtype_bytes(tensor.dtype);
	unsigned char *bytes = malloc(count * size);
	ck_assert_ptr_nonnull(bytes);
	for (size_t i = 0; i < count; i++) {
		if (tensor.dtype == PS_F64)
			memcpy(bytes + i * size, &values[i], size);
		else if (tensor.dtype == PS_F32)
			memcpy(bytes + i * size, &(float){(float)values[i]}, size);
		else if (tensor.dtype == PS_BF16)
			memcpy(bytes + i * size, &(uint16_t){ps_bf16_round((float)values[i])}, size);
		else
			memcpy(bytes + i * size, &(int32_t){(int32_t)values[i]}, size);
	}
	check_ok(ps_queue_write(rig->queue, tensor, bytes));
	check_ok(ps_queue_finish(rig->queue));
	free(bytes);
}

void rig_bytes(struct rig *rig, ps_tensor tensor, void *bytes)
{
	check_ok(ps_queue_read(rig->queue, bytes, tensor));
	check_ok(ps_queue_finish(rig->queue));
}

void rig_get(struct rig *rig, ps_tensor tensor, double *values)
{
	size_t count = (size_t)ps_tensor_count(tensor);
	if (tensor.dtype == PS_F64) {
		rig_bytes(rig, tensor, values);
		return;
	}
	ck_assert(tensor.dtype == PS_F32 || tensor.dtype == PS_BF16);
	void *bytes = malloc(count * ps_dtype_bytes(tensor.dtype));
	ck_assert_ptr_nonnull(bytes);
	rig_bytes(rig, tensor, bytes);
	for (size_t i = 0; i < count; i++)
		values[i] = (double)(tensor.dtype == PS_F32 ? ((const float *)bytes)[i]
		                                            : ps_bf16_widen(((const uint16_t *)bytes)[i]));
	free(bytes);
}

bool rig_same_bits(struct rig *rig, ps_tensor a, ps_tensor b)
{
	size_t bytes = (size_t)ps_tensor_count(a) * ps_dtype_bytes(a.dtype);
	ck_assert(a.dtype == b.dtype && ps_tensor_count(a) == ps_tensor_count(b));
	unsigned char *left = malloc(bytes), *right = malloc(bytes);
	ck_assert_ptr_nonnull(left);
	ck_assert_ptr_nonnull(right);
	rig_bytes(rig, a, left);
	rig_bytes(rig, b, right);
	bool same = !memcmp(left, right, bytes);
	free(left);
	free(right);
	return same;
}
