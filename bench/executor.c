/*
 * What an action costs when there is next to nothing to compute: an embedding of width 2, a layer that is one relu, and
 * a decoder of 3 words, one row and one time step a micro-batch. An action has 0 to 2 ops, whose kernels are in the
 * figure.
 *
 *   bench-executor [DEVICE,DEVICE,DEVICE [MICRO-BATCHES]]
 */
#include <penstock/model.h>
#include <penstock/pipeline.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 3, STEPS = 20, WIDTH = 2, WORDS = 3 };

static ps_status plan(const ps_layer *layer, const ps_shape *in, ps_dtype dtype, ps_layer_plan *out)
{
	(void)layer;
	out->out = *in;
	out->slots[0] = (ps_slot){"y", PS_LIFETIME_SAVED_B, {dtype, 2, {in->dims[0], in->dims[1]}}};
	out->slot_count = 1;
	return PS_OK;
}

static ps_status forward(const ps_layer *layer, const ps_layer_context *c)
{
	(void)layer;
	return ps_record(c->list, relu_fwd, .x = c->x, .y = c->y);
}

static ps_status backward_input(const ps_layer *layer, const ps_layer_context *c)
{
	(void)layer;
	return ps_record(c->list, relu_bwd, .dy = c->dy, .y = c->slots[0], .dx = c->dx);
}

static void destroy(ps_layer *layer)
{
	(void)layer;
}

static const ps_layer_impl impl = {
        .name = "relu", .plan = plan, .forward = forward, .backward_input = backward_input, .destroy = destroy};
static ps_layer relu = {.impl = &impl, .name = "relu", .index = 1};

static int fail(void)
{
	fprintf(stderr, "bench-executor: %s\n", ps_error_message());
	return EXIT_FAILURE;
}

static int measure(const char *const *devices, int count, int rows)
{
	ps_layer *layers[LAYERS] = {NULL, &relu, NULL};
	if (ps_embedding_create(&layers[0], 0, WORDS, WIDTH, 1, 0) != PS_OK ||
	    ps_decoder_create(&layers[2], 2, WORDS, WIDTH) != PS_OK)
		return fail();
	ps_pipeline *pipeline;
	const ps_pipeline_config config = {.layers = layers,
	                                   .layer_count = LAYERS,
	                                   .devices = devices,
	                                   .rank_count = count,
	                                   .chunks = rows,
	                                   .rows = rows,
	                                   .time = 1};
	if (ps_pipeline_create(&pipeline, &config) != PS_OK || ps_pipeline_initialize(pipeline) != PS_OK)
		return fail();
	int32_t *words = calloc((size_t)rows, sizeof *words);
	if (!words)
		return EXIT_FAILURE;
	const ps_schedule *schedule = ps_pipeline_get_schedule(pipeline);
	int64_t actions = 0, least = INT64_MAX;
	for (int r = 0; r < schedule->ranks; r++)
		actions += schedule->rank[r].count;
	for (uint32_t step = 0; step < STEPS; step++) {
		double loss;
		int64_t begin = ps_clock_ns();
		if (ps_pipeline_train(pipeline, &(ps_batch){words, words, rows, 1, step}, &loss) != PS_OK)
			return fail();
		int64_t taken = ps_clock_ns() - begin;
		least = taken < least ? taken : least;
	}
	printf("%d ranks, %lld actions: %.2f us an action\n", count, (long long)actions,
	       (double)least / 1e3 / (double)actions);
	free(words);
	ps_pipeline_destroy(pipeline);
	ps_layer_destroy(layers[0]);
	ps_layer_destroy(layers[2]);
	return EXIT_SUCCESS;
}

int main(int count, char **words)
{
	char names[256];
	const char *devices[LAYERS];
	int ranks = 0;
	snprintf(names, sizeof names, "%s", count > 1 ? words[1] : "ref,ref,ref");
	for (char *at = names; at && ranks < LAYERS;) {
		devices[ranks++] = at;
		at = strchr(at, ',');
		if (at)
			*at++ = '\0';
	}
	return measure(devices, ranks, count > 2 ? (int)strtol(words[2], NULL, 10) : 1000);
}
