#include "bench.h"

#include <stdio.h>
#include <stdlib.h>

void bench_open(struct bench *bench, const char *name)
{
	*bench = (struct bench){.seconds = 0.5};
	bench->status = ps_device_open(&bench->device, name);
	if (bench->status == PS_OK)
		bench->status = ps_queue_create(&bench->queue, bench->device, "bench");
	if (bench->status == PS_OK) {
		const ps_device_info *info = ps_device_get_info(bench->device);
		printf("%s: %s\n", info->name, info->description);
	}
}

int bench_close(struct bench *bench)
{
	if (bench->status != PS_OK)
		fprintf(stderr, "bench: %s\n", ps_error_message());
	ps_queue_destroy(bench->queue);
	ps_device_close(bench->device);
	return bench->status == PS_OK ? 0 : 1;
}

/* Values do not matter to the time so long as they are ordinary numbers. */
static void fill(void *values, ps_dtype dtype, size_t count)
{
	uint32_t state = 1;
	for (size_t i = 0; i < count; i++) {
		state = state * 1664525u + 1013904223u;
		if (dtype == PS_I32)
			((int32_t *)values)[i] = (int32_t)(state >> 8) % 1000;
		else if (dtype == PS_F64)
			((double *)values)[i] = (double)(state >> 8) / 8388608.0 - 0.999;
		else
			((float *)values)[i] = (float)(state >> 8) / 8388608.0f - 0.999f;
	}
}

ps_tensor bench_tensor(struct bench *bench, ps_dtype dtype, int rank, const int64_t *dims)
{
	ps_tensor none = {0};
	if (bench->status != PS_OK)
		return none;
	size_t count = 1;
	for (int i = 0; i < rank; i++)
		count *= (size_t)dims[i];
	ps_buffer *buffer = NULL;
	void *values = malloc(count * ps_dtype_bytes(dtype));
	bench->status = values ? ps_buffer_create(&buffer, bench->device, count * ps_dtype_bytes(dtype))
	                       : ps_fail(PS_ENOMEM, "out of memory for %zu values", count);
	ps_tensor tensor = none;
	if (bench->status == PS_OK) {
		tensor = ps_tensor_make(buffer, 0, dtype, rank, dims);
		fill(values, dtype, count);
		bench->status = ps_queue_write(bench->queue, tensor, values);
		if (bench->status == PS_OK)
			bench->status = ps_queue_finish(bench->queue);
	}
	free(values);
	return tensor;
}

void bench_free(ps_tensor tensor)
{
	ps_buffer_destroy(tensor.buffer);
}

double bench_time(struct bench *bench, ps_op op, const void *arguments, size_t bytes)
{
	double least = 0;
	int64_t start = ps_clock_ns();
	for (int i = 0; bench->status == PS_OK && (i < 3 || (double)(ps_clock_ns() - start) < bench->seconds * 1e9);
	     i++) {
		int64_t begin = 0, end = 0;
		bench->status = ps_queue_timestamp(bench->queue, &begin);
		if (bench->status == PS_OK)
			bench->status = ps_op_run(bench->queue, op, arguments, bytes);
		if (bench->status == PS_OK)
			bench->status = ps_queue_timestamp(bench->queue, &end);
		ps_status finished = ps_queue_finish(bench->queue);
		if (bench->status == PS_OK)
			bench->status = finished;
		double took = (double)(end - begin) * 1e-9;
		if (i == 0 || took < least)
			least = took;
	}
	return least;
}
