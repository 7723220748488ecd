/* Running gradient cases over devices. */
#include "verify/gradient.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct conform_drop sites[] = {{0, 0, 0, 0}, {0.2F, 3, 5, 2}, {0.5F, 17, 149, 11}};
enum { SITES = sizeof sites / sizeof *sites };

/*
 * Central differences with this step are good to about 1e-9 in F64. In F32 the ops' own error is what counts. What a
 * gradient is made of is of the size of 1.
 */
static const double step = 1e-5;
static const ps__tolerance tolerance = {.f32 = 1e-5, .f64 = 2e-8, .terms = 1};

static void note(struct gradient *g, ps_status status)
{
	if (g->status == PS_OK)
		g->status = status;
}

ps_tensor ps__gradient_real(struct gradient *g, int rank, const int64_t *dims)
{
	ps_tensor tensor = {0};
	uint64_t stream = ps__conform_mix(g->seed) + g->stream++ * 1000003;
	if (g->status == PS_OK)
		note(g, ps__side_tensor(&g->side, &tensor, g->side.dtype, rank, dims));
	if (g->status == PS_OK)
		note(g, ps__side_random(&g->side, tensor, stream, -1, 1));
	return tensor;
}

ps_tensor ps__gradient_whole(struct gradient *g, int64_t rows, int64_t columns, const double *values)
{
	ps_tensor tensor = {0};
	if (g->status == PS_OK)
		note(g, ps__side_tensor(&g->side, &tensor, PS_I32, 2, (const int64_t[]){rows, columns}));
	if (g->status == PS_OK)
		note(g, ps__side_set(&g->side, tensor, values));
	return tensor;
}

ps_tensor ps__gradient_constant(struct gradient *g, int64_t count, double value)
{
	ps_tensor tensor = {0};
	if (g->status == PS_OK)
		note(g, ps__side_tensor(&g->side, &tensor, g->side.dtype, 1, &count));
	double *values = g->status == PS_OK ? malloc((size_t)count * sizeof *values) : NULL;
	if (g->status == PS_OK && !values)
		note(g, ps_fail(PS_ENOMEM, "no host memory for a vector"));
	for (int64_t i = 0; values && i < count; i++)
		values[i] = value;
	if (g->status == PS_OK)
		note(g, ps__side_set(&g->side, tensor, values));
	free(values);
	return tensor;
}

static ps_status run_forward(struct gradient *g)
{
	if (g->forward)
		return g->forward(g->payload);
	PS_TRY(ps_op_run(g->side.queue, g->op, g->arguments.bytes, g->bytes));
	return ps_queue_finish(g->side.queue);
}

void ps__gradient_forward(struct gradient *g, ps_op op, ps_tensor y, ps_tensor dy, const void *arguments, size_t bytes)
{
	g->op = op;
	g->bytes = bytes;
	g->y = y;
	g->dy = dy;
	if (bytes > sizeof g->arguments.bytes)
		note(g, ps_fail(PS_EINTERNAL, "%s has %zu bytes of arguments", ps_op_name(op), bytes));
	if (g->status != PS_OK)
		return;
	memcpy(g->arguments.bytes, arguments, bytes);
	note(g, run_forward(g));
}

void ps__gradient_backward(struct gradient *g, ps_op op, const void *arguments, size_t bytes)
{
	if (g->differences || g->status != PS_OK)
		return;
	note(g, ps_op_run(g->side.queue, op, arguments, bytes));
	if (g->status == PS_OK)
		note(g, ps_queue_finish(g->side.queue));
}

/* The sum of dy y after the forward op. `room` is for twice y's elements. */
static ps_status scalar(struct gradient *g, double *room, double *out)
{
	int64_t count = ps_tensor_count(g->y);
	PS_TRY(run_forward(g));
	PS_TRY(ps__side_get(&g->side, g->y, room));
	PS_TRY(ps__side_get(&g->side, g->dy, room + count));
	*out = 0;
	for (int64_t i = 0; i < count; i++)
		*out += room[i] * room[count + i];
	return PS_OK;
}

static ps_status difference(struct gradient *g, ps_tensor x, double *values, double *room, double *out)
{
	int64_t count = ps_tensor_count(x);
	PS_TRY(ps__side_get(&g->side, x, values));
	for (int64_t i = 0; i < count; i++) {
		double value = values[i], sum[2];
		for (int up = 0; up < 2; up++) {
			values[i] = value + (up ? step : -step);
			PS_TRY(ps__side_set(&g->side, x, values));
			PS_TRY(scalar(g, room, &sum[up]));
		}
		values[i] = value;
		out[i] = (sum[1] - sum[0]) / (2 * step);
	}
	return ps__side_set(&g->side, x, values);
}

static ps_status form_differences(struct gradient *g, ps_tensor x)
{
	size_t count = (size_t)ps_tensor_count(x), outputs = (size_t)ps_tensor_count(g->y);
	double *want = malloc(count * sizeof *want), *room = malloc((count + 2 * outputs) * sizeof *room);
	ps_status status = want && room ? PS_OK : ps_fail(PS_ENOMEM, "no host memory for a gradient");
	if (status == PS_OK)
		status = difference(g, x, room, room + count, want);
	free(room);
	g->want[g->checks++] = want;
	return status;
}

static ps_status compare(struct gradient *g, const char *name, ps_tensor dx)
{
	const double *want = g->want[g->checks++];
	int64_t count = ps_tensor_count(dx);
	double largest = 0;
	for (int64_t i = 0; i < count; i++)
		largest = fmax(largest, fabs(want[i]));
	if (!(largest > 1e-6))
		ps__outcome_differs(g->outcome, "%s: the differences are all zero, which shows nothing", name);
	float *singles = malloc((size_t)count * sizeof *singles);
	if (!singles)
		return ps_fail(PS_ENOMEM, "no host memory for a gradient");
	for (int64_t i = 0; i < count; i++)
		singles[i] = (float)want[i];
	void *got;
	ps_status status = ps__side_bytes(&g->side, dx, &got);
	if (status == PS_OK) {
		const void *wanted = dx.dtype == PS_F64 ? (const void *)want : singles;
		ps__difference worst = ps__compare(dx, got, wanted, &tolerance);
		ps__outcome_compared(g->outcome, name, &worst);
		free(got);
	}
	free(singles);
	return status;
}

void ps__gradient_check(struct gradient *g, const char *name, ps_tensor x, ps_tensor dx)
{
	if (g->status == PS_OK && g->checks == GRADIENTS)
		note(g, ps_fail(PS_EINTERNAL, "a case has more than %d gradients", (int)GRADIENTS));
	if (g->status == PS_OK)
		note(g, g->differences ? form_differences(g, x) : compare(g, name, dx));
}

/* Both calls of the body; the outcome is complete after them. */
void ps__gradient_run(struct gradient *g, void (*body)(struct gradient *g), ps_queue *differences, ps_queue *queue,
                      ps_dtype dtype)
{
	for (int second = 0; second < 2 && g->status == PS_OK; second++) {
		g->side = (struct side){.queue = second ? queue : differences, .dtype = second ? dtype : PS_F64};
		g->differences = !second;
		g->stream = 0;
		g->checks = 0;
		body(g);
		if (g->status != PS_OK)
			ps__outcome_failed(g->outcome, g->status);
		ps__side_finish(&g->side);
	}
	for (int i = 0; i < GRADIENTS; i++)
		free(g->want[i]);
}

static void run_case(const ps_verify_config *config, struct outcome *outcome, const struct gradient_case *at,
                     ps_queue *const *queues)
{
	size_t variants = (size_t)at->sites * (at->masks ? 2 : 1);
	for (size_t v = 0; v < variants; v++)
		for (int dtype = PS_F32; dtype <= PS_F64; dtype++)
			for (int d = 0; d < config->device_count; d++) {
				ps__outcome_begin(outcome, config->devices[d], at->name, "", v, (ps_dtype)dtype);
				struct gradient g = {.seed = config->seed,
				                     .drop = sites[v % (size_t)at->sites],
				                     .causal = v >= (size_t)at->sites,
				                     .outcome = outcome};
				ps_queue *queue = queues[d + 1];
				ps__gradient_run(&g, at->body, dtype == PS_F64 ? queue : queues[0], queue,
				                 (ps_dtype)dtype);
				outcome->result.done++;
				config->report(config->payload, &outcome->result);
			}
}

static size_t results_of(const struct gradient_case *cases, size_t count)
{
	size_t results = 0;
	for (size_t i = 0; i < count; i++)
		results += (size_t)cases[i].sites * (cases[i].masks ? 4 : 2);
	return results;
}

ps_status ps_verify_gradients(const ps_verify_config *config)
{
	size_t op_count, layer_count;
	const struct gradient_case *ops = ps__gradient_op_cases(&op_count);
	const struct gradient_case *layers = ps__gradient_layer_cases(&layer_count);
	struct outcome outcome = {0};
	ps_queue **queues;
	PS_TRY(ps__queues_open(&queues, config));
	outcome.result.total =
	        (results_of(ops, op_count) + results_of(layers, layer_count)) * (size_t)config->device_count;
	for (size_t i = 0; i < op_count; i++)
		run_case(config, &outcome, &ops[i], queues);
	for (size_t i = 0; i < layer_count; i++)
		run_case(config, &outcome, &layers[i], queues);
	ps__queues_close(queues, config);
	return PS_OK;
}
