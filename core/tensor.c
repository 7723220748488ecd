/* Tensor values and views. */
#include "core/backend.h"

#include <inttypes.h>
#include <stdio.h>

size_t ps_dtype_bytes(ps_dtype dtype)
{
	switch (dtype) {
#define BYTES_CASE(name, bytes, text) \
	case PS_##name:               \
		return bytes;
		PS_DTYPE_MAP(BYTES_CASE)
#undef BYTES_CASE
	case PS_DTYPE_COUNT:
		break;
	}
	return 0;
}

const char *ps_dtype_name(ps_dtype dtype)
{
	switch (dtype) {
#define TEXT_CASE(name, bytes, text) \
	case PS_##name:              \
		return text;
		PS_DTYPE_MAP(TEXT_CASE)
#undef TEXT_CASE
	case PS_DTYPE_COUNT:
		break;
	}
	return "no dtype";
}

ps_tensor ps_tensor_make(ps_buffer *buffer, uint64_t offset, ps_dtype dtype, int rank, const int64_t *dims)
{
	ps_tensor tensor = {.buffer = buffer, .offset = offset, .dtype = dtype, .rank = rank};
	uint64_t stride = 1; /* unsigned, so that absurd dims make an unsound tensor, not an overflow */
	for (int i = rank - 1; i >= 0; i--) {
		tensor.dims[i] = dims[i];
		tensor.strides[i] = (int64_t)stride;
		stride *= (uint64_t)dims[i];
	}
	return tensor;
}

ps_tensor ps_tensor_slice(ps_tensor tensor, int dim, int64_t start, int64_t count)
{
	tensor.offset += (uint64_t)(start * tensor.strides[dim]) * ps_dtype_bytes(tensor.dtype);
	tensor.dims[dim] = count;
	return tensor;
}

ps_tensor ps_tensor_matrix(ps_tensor tensor)
{
	if (tensor.rank == 0)
		return tensor;
	int64_t columns = tensor.dims[tensor.rank - 1];
	int64_t rows = 1;
	for (int i = 0; i < tensor.rank - 1; i++)
		rows *= tensor.dims[i];
	return ps_tensor_make(tensor.buffer, tensor.offset, tensor.dtype, 2, (int64_t[]){rows, columns});
}

bool ps_tensor_present(ps_tensor tensor)
{
	return tensor.buffer != NULL;
}

int64_t ps_tensor_count(ps_tensor tensor)
{
	int64_t count = 1;
	for (int i = 0; i < tensor.rank; i++)
		count *= tensor.dims[i];
	return count;
}

bool ps_tensor_is_contiguous(ps_tensor tensor)
{
	int64_t stride = 1;
	for (int i = tensor.rank - 1; i >= 0; i--) {
		if (tensor.dims[i] != 1 && tensor.strides[i] != stride)
			return false;
		stride *= tensor.dims[i];
	}
	return true;
}

bool ps_tensor_same_shape(ps_tensor a, ps_tensor b)
{
	if (a.rank != b.rank)
		return false;
	for (int i = 0; i < a.rank; i++)
		if (a.dims[i] != b.dims[i])
			return false;
	return true;
}

const char *ps_tensor_text(ps_tensor tensor, char *text, size_t bytes)
{
	if (!ps_tensor_present(tensor)) {
		snprintf(text, bytes, "absent");
		return text;
	}
	if (tensor.rank < 0 || tensor.rank > PS_MAX_RANK) {
		snprintf(text, bytes, "%s of rank %d", ps_dtype_name(tensor.dtype), tensor.rank);
		return text;
	}
	size_t used = 0;
	for (int i = -1; i <= tensor.rank && used < bytes; i++) {
		int length;
		if (i < 0)
			length = snprintf(text, bytes, "%s (", ps_dtype_name(tensor.dtype));
		else if (i < tensor.rank)
			length = snprintf(text + used, bytes - used, "%s%" PRId64, i ? ", " : "", tensor.dims[i]);
		else
			length = snprintf(text + used, bytes - used, ")");
		if (length < 0)
			break;
		used += (size_t)length;
	}
	return text;
}

bool ps__tensor_is_sound(ps_tensor tensor)
{
	uint64_t size = ps_dtype_bytes(tensor.dtype);
	if (!tensor.buffer || !size || tensor.rank < 0 || tensor.rank > PS_MAX_RANK || tensor.offset % size ||
	    tensor.offset > tensor.buffer->bytes)
		return false;
	/* The elements from the offset on, less one: no element may lie beyond `room`. */
	uint64_t room = (tensor.buffer->bytes - tensor.offset) / size, last = 0, count = 1;
	for (int i = 0; i < tensor.rank; i++)
		if (tensor.dims[i] == 0)
			count = 0;
	for (int i = 0; i < tensor.rank; i++) {
		if (tensor.dims[i] < 0 || tensor.strides[i] < 0)
			return false;
		if (count == 0)
			continue;
		uint64_t steps = (uint64_t)tensor.dims[i] - 1, stride = (uint64_t)tensor.strides[i];
		if (steps && stride > room / steps)
			return false;
		last += steps * stride; /* at most PS_MAX_RANK times room, which is far from overflow */
		/* Views may repeat elements by a zero stride; their number still has to be a number. */
		if ((uint64_t)tensor.dims[i] > (uint64_t)INT64_MAX / count)
			return false;
		count *= (uint64_t)tensor.dims[i];
	}
	return count == 0 || last < room;
}
