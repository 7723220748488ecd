/* Devices, tensors and timed ops for the benches. */
#include "bench/rig.h"

#include "core/operands.h"

#include <penstock/bf16.h>

#include <stdlib.h>
#include <string.h>

/* One sample is made this long by repetition, so that the way there and back does not count. */
#define SAMPLE_SECONDS 5e-3
enum { MOST_REPEATS = 10000 };

#define PS_OP(name, text) _Static_assert(sizeof(ps_args_##name) <= BENCH_ARGUMENT_BYTES, "no room for " #name);
#include <penstock/ops.def>

ps_status bench_rig_open(struct bench_rig *out, const char *device)
{
	*out = (struct bench_rig){0};
	PS_TRY(ps_device_open(&out->device, device));
	return ps_queue_create(&out->queue, out->device, "bench");
}

void bench_tensors_free(struct bench_rig *rig, int kept)
{
	while (rig->buffer_count > kept)
		ps_buffer_destroy(rig->buffers[--rig->buffer_count]);
}

void bench_rig_close(struct bench_rig *rig)
{
	ps_queue_destroy(rig->queue);
	bench_tensors_free(rig, 0);
	free(rig->buffers);
	ps_device_close(rig->device);
	*rig = (struct bench_rig){0};
}

/* The generator of "Numerical Recipes": values do not matter to the time so long as they are ordinary numbers. */
static uint32_t next(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

void bench_fill(void *values, ps_dtype dtype, size_t count, int64_t limit)
{
	uint32_t state = 1;
	for (size_t i = 0; i < count; i++) {
		uint32_t word = next(&state);
		if (dtype == PS_I32)
			((int32_t *)values)[i] = (int32_t)((int64_t)word % limit);
		else if (dtype == PS_F64)
			((double *)values)[i] = (double)word / 8388608.0 - 0.999;
		else if (dtype == PS_BF16)
			((uint16_t *)values)[i] = ps_bf16_round((float)word / 8388608.0f - 0.999f);
		else
			((float *)values)[i] = (float)word / 8388608.0f - 0.999f;
	}
}

static ps_status hold(struct bench_rig *rig, ps_buffer *buffer)
{
	ps_buffer **buffers = realloc(rig->buffers, ((size_t)rig->buffer_count + 1) * sizeof *buffers);
	if (buffers == NULL) {
		ps_buffer_destroy(buffer);
		return ps_fail(PS_ENOMEM, "no memory for a tensor");
	}
	rig->buffers = buffers;
	rig->buffers[rig->buffer_count++] = buffer;
	return PS_OK;
}

/* `limit`: of integers; 0: all zero, whatever the type. */
static ps_status make(struct bench_rig *rig, ps_tensor *out, ps_dtype dtype, int rank, const int64_t *dims,
                      int64_t limit)
{
	size_t count = 1;
	for (int i = 0; i < rank; i++)
		count *= (size_t)dims[i];
	size_t bytes = count * ps_dtype_bytes(dtype);
	ps_buffer *buffer;
	PS_TRY(ps_buffer_create(&buffer, rig->device, bytes));
	PS_TRY(hold(rig, buffer));
	*out = ps_tensor_make(buffer, 0, dtype, rank, dims);
	if (limit == 0) {
		PS_TRY(ps_queue_zero(rig->queue, *out));
		return ps_queue_finish(rig->queue);
	}
	void *values = malloc(bytes);
	if (values == NULL)
		return ps_fail(PS_ENOMEM, "no memory for %zu values", count);
	bench_fill(values, dtype, count, limit);
	ps_status status = ps_queue_write(rig->queue, *out, values);
	ps_status finished = ps_queue_finish(rig->queue);
	free(values);
	return status != PS_OK ? status : finished;
}

static ps_tensor tensor(struct bench_rig *rig, ps_dtype dtype, int rank, const int64_t *dims, int64_t limit)
{
	ps_tensor made = {0};
	if (rig->status == PS_OK)
		rig->status = make(rig, &made, dtype, rank, dims, limit);
	return made;
}

ps_tensor bench_tensor(struct bench_rig *rig, ps_dtype dtype, int rank, const int64_t *dims)
{
	return tensor(rig, dtype, rank, dims, 1);
}

ps_tensor bench_tokens(struct bench_rig *rig, int64_t rows, int64_t time, int64_t limit)
{
	return tensor(rig, PS_I32, 2, (int64_t[]){rows, time}, limit);
}

ps_tensor bench_zeros(struct bench_rig *rig, int64_t count)
{
	return tensor(rig, PS_F32, 1, &count, 0);
}

int bench_repeats(double seconds)
{
	double repeats = SAMPLE_SECONDS / (seconds > 1e-9 ? seconds : 1e-9);
	return repeats < 1 ? 1 : repeats > MOST_REPEATS ? MOST_REPEATS : (int)repeats;
}

ps_status bench_op_time(const struct bench_op *o, int count, double *seconds)
{
	ps_status status = PS_OK;
	int64_t begin = ps_clock_ns();
	for (int i = 0; status == PS_OK && i < count; i++)
		status = ps_op_run(o->rig->queue, o->op, o->arguments, o->bytes);
	ps_status finished = ps_queue_finish(o->rig->queue);
	*seconds = (double)(ps_clock_ns() - begin) * 1e-9;
	return status != PS_OK ? status : finished;
}

ps_status bench_op_sample(void *op, int round, double *seconds)
{
	struct bench_op *o = op;
	double once;
	if (round == 0) {
		/* The first run touches memory for the first time and builds what is kept; the second is timed. */
		PS_TRY(bench_op_time(o, 1, &once));
		PS_TRY(bench_op_time(o, 1, &once));
		o->repeat = bench_repeats(once);
		return PS_OK;
	}
	PS_TRY(bench_op_time(o, o->repeat, &once));
	*seconds = once / o->repeat;
	return PS_OK;
}

struct bench_op bench_op_make(struct bench_rig *rig, ps_op op, const void *arguments, size_t bytes, double flops)
{
	struct bench_op made = {.rig = rig, .op = op, .bytes = bytes, .repeat = 1, .flops = flops};
	const ps__operands *operands = ps__op_operands(op);
	for (int i = 0; i < operands->count; i++) {
		const ps__operand *operand = &operands->list[i];
		double once = (double)ps__tensor_extent(*ps__operand_tensor(operand, arguments));
		bool written = operand->use != PS__OPERAND_IN, read = ps__operand_is_read(operand, arguments);
		made.necessary_bytes += once * (written + read);
	}
	memcpy(made.arguments, arguments, bytes);
	return made;
}
