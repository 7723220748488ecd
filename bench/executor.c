/*
 * What an action costs when there is next to nothing to compute: an embedding of width 2, a layer that is one relu, and
 * a decoder of 3 words, one row and one time step a micro-batch. An action has 0 to 2 ops, whose kernels are in the
 * figure.
 */
#include "bench/bench.h"

#include <penstock/model.h>

#include <stdlib.h>

enum { LAYERS = 3, WIDTH = 2, WORDS = 3 };

static ps_status plan(const ps_layer *layer, const ps_shape *in, ps_dtype dtype, ps_layer_plan *out)
{
	(void)layer;
	(void)dtype;
	out->out = *in;
	out->input = PS_LIFETIME_SAVED_B;
	return PS_OK;
}

static ps_status forward(const ps_layer *layer, const ps_layer_context *c)
{
	(void)layer;
	return ps_record(c->list, relu_fwd, .x = c->x, .y = c->y);
}

/* x is positive where y is. */
static ps_status backward_input(const ps_layer *layer, const ps_layer_context *c)
{
	(void)layer;
	return ps_record(c->list, relu_bwd, .dy = c->dy, .y = c->x, .dx = c->dx);
}

static void destroy(ps_layer *layer)
{
	(void)layer;
}

static const ps_layer_impl impl = {
        .name = "relu", .plan = plan, .forward = forward, .backward_input = backward_input, .destroy = destroy};

/* A pipeline of its own, and the batch that it runs. */
struct line {
	ps_layer relu, *layers[LAYERS];
	ps_pipeline *pipeline;
	int32_t *words;
	int rows;
	uint32_t step;
};

static ps_status line_init(struct line *line, const struct bench_devices *stages, int rows)
{
	line->relu = (ps_layer){.impl = &impl, .name = "relu", .index = 1};
	line->layers[1] = &line->relu;
	line->rows = rows;
	PS_TRY(ps_embedding_create(&line->layers[0], 0, WORDS, WIDTH, 1, 0));
	PS_TRY(ps_decoder_create(&line->layers[2], 2, WORDS, WIDTH));
	const ps_pipeline_config config = {.layers = line->layers,
	                                   .layer_count = LAYERS,
	                                   .devices = stages->devices,
	                                   .rank_count = stages->ranks,
	                                   .chunks = rows,
	                                   .rows = rows,
	                                   .time = 1};
	PS_TRY(ps_pipeline_create(&line->pipeline, &config));
	PS_TRY(ps_pipeline_initialize(line->pipeline));
	line->words = calloc((size_t)rows, sizeof *line->words);
	return line->words != NULL ? PS_OK : ps_fail(PS_ENOMEM, "no memory for %d words", rows);
}

static void line_finish(struct line *line)
{
	free(line->words);
	ps_pipeline_destroy(line->pipeline);
	ps_layer_destroy(line->layers[0]);
	ps_layer_destroy(line->layers[2]);
}

static ps_status sample(void *payload, int round, double *seconds)
{
	struct line *line = payload;
	double loss;
	(void)round;
	int64_t begin = ps_clock_ns();
	PS_TRY(ps_pipeline_train(line->pipeline, &(ps_batch){line->words, line->words, line->rows, 1, line->step++},
	                         &loss));
	*seconds = (double)(ps_clock_ns() - begin) * 1e-9;
	return PS_OK;
}

static ps_status report_line(struct bench_report *report, const struct line *line, const char *name,
                             struct bench_stats stats)
{
	const ps_schedule *schedule = ps_pipeline_get_schedule(line->pipeline);
	int64_t actions = 0;
	struct bench_row *row;
	if (stats.count == 0)
		return PS_OK;
	for (int r = 0; r < schedule->ranks; r++) {
		ps_rank_info info;
		ps_pipeline_get_rank(line->pipeline, r, &info);
		bench_report_device(report, ps_device_get_info(info.device));
		actions += schedule->rank[r].count;
	}
	PS_TRY(bench_report_add(&row, report, "stages", name, BENCH_SECONDS, stats));
	row->figures[BENCH_COUNT] = (double)actions;
	row->figures[BENCH_US_ACTION] = stats.median * 1e6 / (double)actions;
	return PS_OK;
}

static ps_status measure(struct bench_report *report, struct line *lines, struct bench_case *cases,
                         const struct bench_devices *stages, int count, int micro_batches, const struct bench_run *run)
{
	for (int i = 0; i < count; i++) {
		PS_TRY(line_init(&lines[i], &stages[i], micro_batches));
		cases[i] = (struct bench_case){.sample = sample, .payload = &lines[i]};
	}
	PS_TRY(bench_measure(cases, count, run, &report->interrupted));
	for (int i = 0; i < count; i++)
		PS_TRY(report_line(report, &lines[i], stages[i].text, bench_samples_stats(&cases[i].samples)));
	return PS_OK;
}

ps_status bench_executor(struct bench_report *report, const struct bench_devices *stages, int count, int micro_batches,
                         const struct bench_run *run)
{
	struct line *lines = calloc((size_t)count, sizeof *lines);
	struct bench_case *cases = calloc((size_t)count, sizeof *cases);
	ps_status status = lines != NULL && cases != NULL
	                           ? measure(report, lines, cases, stages, count, micro_batches, run)
	                           : ps_fail(PS_ENOMEM, "no memory for %d pipelines", count);
	for (int i = 0; i < count; i++) {
		if (cases != NULL)
			bench_samples_free(&cases[i].samples);
		if (lines != NULL)
			line_finish(&lines[i]);
	}
	free(cases);
	free(lines);
	return status;
}
