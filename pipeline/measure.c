/*
 * What layers, devices and links take here, measured before a pipeline is built: each kind of layer by itself on each
 * device; two devices at a time together, which shows how far they share cores or memory; and each link.
 */
#include "pipeline/layer_bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	PAIR_ROUNDS = 4, /* of two benches together */
	SENDS = 5,
	MOST_SLOWDOWN = 3, /* by one other device; what is above was something else */
};
/* Two benches together work for this long at least, and are tried again up to that. */
static const double least_pair_s = 0.02, most_pair_s = 0.3;

static ps_status explain(const ps_pipeline *pipeline, int layer, int device, ps_status status)
{
	return status == PS_OK
	               ? PS_OK
	               : ps_fail_context(status, "measuring layer %s on %s", pipeline->config.layers[layer]->name,
	                                 ps_device_get_info(pipeline->devices[device])->name);
}

static ps_status measure_layer(ps_pipeline *pipeline, int device, int layer)
{
	struct layer_cost *cost = &pipeline->measured->layers[device * pipeline->config.layer_count + layer];
	struct layer_bench bench;
	ps_status status = ps__layer_bench_init(&bench, pipeline, pipeline->devices[device], layer, true);
	if (status == PS_OK)
		status = ps__layer_bench_run(&bench);
	double rows = (double)(bench.count * bench.rows);
	if (status == PS_OK)
		*cost = (struct layer_cost){.forward = bench.seconds[FORWARD] / rows,
		                            .backward = bench.seconds[BACKWARD] / rows,
		                            .weight = bench.seconds[WEIGHT] / (double)bench.group,
		                            .squares = bench.seconds[SQUARES],
		                            .update = bench.seconds[UPDATE]};
	ps__layer_bench_finish(&bench);
	return explain(pipeline, layer, device, status);
}

/* Do two layers run the same ops on the same sizes? */
static bool same_kind(const ps_pipeline *pipeline, int a, int b)
{
	const ps_layer *x = pipeline->config.layers[a], *y = pipeline->config.layers[b];
	const struct program *program = pipeline->train;
	const ps_layer_plan *p = &program->plans[a], *q = &program->plans[b];
	if (x->impl != y->impl || (a == 0) != (b == 0) || x->parameter_count != y->parameter_count ||
	    memcmp(&program->in[a], &program->in[b], sizeof *program->in) != 0 ||
	    memcmp(&p->out, &q->out, sizeof p->out) != 0 || p->forward_flops != q->forward_flops ||
	    p->backward_input_flops != q->backward_input_flops || p->backward_weight_flops != q->backward_weight_flops)
		return false;
	for (int i = 0; i < x->parameter_count; i++)
		if (x->parameters[i].rank != y->parameters[i].rank ||
		    memcmp(x->parameters[i].dims, y->parameters[i].dims, sizeof x->parameters[i].dims) != 0)
			return false;
	return true;
}

/* The first layer of the same kind. */
static int kind_of(const ps_pipeline *pipeline, int layer)
{
	int first = 0;
	while (!same_kind(pipeline, first, layer))
		first++;
	return first;
}

static ps_status measure_layers(ps_pipeline *pipeline)
{
	const ps_pipeline_config *config = &pipeline->config;
	int layers = config->layer_count, kinds = 0, done = 0;
	for (int l = 0; l < layers; l++)
		kinds += kind_of(pipeline, l) == l;
	for (int d = 0; d < pipeline->device_count; d++) {
		struct layer_cost *costs = pipeline->measured->layers + d * layers;
		for (int l = 0; l < layers; l++) {
			int first = kind_of(pipeline, l);
			if (first < l) {
				costs[l] = costs[first];
				continue;
			}
			if (config->measuring)
				config->measuring(config->measuring_payload, done, kinds * pipeline->device_count);
			PS_TRY(measure_layer(pipeline, d, l));
			done++;
		}
	}
	return PS_OK;
}

/* How many times as long its work took while the other was at work: what it did alone before or after counts as such.
 */
static double slowdown_of(const struct layer_bench *bench, int rounds, int64_t begin, int64_t end)
{
	double together = (double)(end - begin) * 1e-9;
	double all = (double)(bench->times[rounds - 1].end[PHASES - 1] - bench->times[0].begin[0]) * 1e-9;
	double work = rounds * bench->round_s - (all - together);
	return work > 0 && together > work ? fmin(together / work, MOST_SLOWDOWN) : 1;
}

/* Of two equal benches on one device, which may let one of them go first: how much longer than one alone both took. */
static double shared_slowdown(struct layer_bench *const benches[2], const int rounds[2])
{
	int64_t begin = INT64_MAX, end = 0;
	double alone = 0;
	for (int k = 0; k < 2; k++) {
		int64_t own_begin = benches[k]->times[0].begin[0];
		int64_t own_end = benches[k]->times[rounds[k] - 1].end[PHASES - 1];
		begin = own_begin < begin ? own_begin : begin;
		end = own_end > end ? own_end : end;
		alone += rounds[k] * benches[k]->round_s / 2;
	}
	return fmin(fmax((double)(end - begin) * 1e-9 / alone, 1), MOST_SLOWDOWN);
}

/* Runs so many rounds of two benches together. */
static ps_status run_together(struct layer_bench *const benches[2], const int rounds[2], double slowdowns[2])
{
	for (int i = 0; i < rounds[0] || i < rounds[1]; i++)
		for (int k = 0; k < 2; k++)
			if (i < rounds[k])
				PS_TRY(ps__layer_bench_enqueue(benches[k], i));
	PS_TRY(ps_queue_finish(benches[0]->queue));
	PS_TRY(ps_queue_finish(benches[1]->queue));
	if (ps_queue_device(benches[0]->queue) == ps_queue_device(benches[1]->queue)) {
		double shared = shared_slowdown(benches, rounds);
		slowdowns[0] = slowdowns[1] = fmin(slowdowns[0], shared);
		return PS_OK;
	}
	int64_t begin = 0, end = INT64_MAX;
	for (int k = 0; k < 2; k++) {
		int64_t own_begin = benches[k]->times[0].begin[0];
		int64_t own_end = benches[k]->times[rounds[k] - 1].end[PHASES - 1];
		begin = own_begin > begin ? own_begin : begin;
		end = own_end < end ? own_end : end;
	}
	double tried[2];
	for (int k = 0; k < 2; k++)
		tried[k] = slowdown_of(benches[k], rounds[k], begin, end);
	/* The two belong together: whom the system favours may change from one time to the next. */
	if (tried[0] + tried[1] < slowdowns[0] + slowdowns[1])
		memcpy(slowdowns, tried, sizeof tried);
	return PS_OK;
}

/* Runs two benches alone and then together, for about as long on both sides. */
static ps_status run_pair(struct layer_bench *one, struct layer_bench *other, double *slow_one, double *slow_other)
{
	PS_TRY(ps__layer_bench_run(one));
	PS_TRY(ps__layer_bench_run(other));
	double longest = fmax(fmax(one->round_s, other->round_s), least_pair_s), slowdowns[] = {INFINITY, INFINITY};
	struct layer_bench *const benches[] = {one, other};
	int rounds[2];
	for (int k = 0; k < 2; k++)
		rounds[k] = (int)fmin(fmax(longest / benches[k]->round_s, 1), PS__BENCH_ROUNDS);
	for (int i = 0; i < PAIR_ROUNDS && i * longest < most_pair_s; i++)
		PS_TRY(run_together(benches, rounds, slowdowns));
	*slow_one = slowdowns[0];
	*slow_other = slowdowns[1];
	return PS_OK;
}

static ps_status measure_pair(ps_pipeline *pipeline, int a, int b, int layer)
{
	double *slowdown = pipeline->measured->slowdown;
	int devices = pipeline->device_count;
	struct layer_bench one = {0}, other = {0};
	ps_status status = ps__layer_bench_init(&one, pipeline, pipeline->devices[a], layer, false);
	if (status == PS_OK)
		status = ps__layer_bench_init(&other, pipeline, pipeline->devices[b], layer, false);
	if (status == PS_OK)
		status = run_pair(&one, &other, &slowdown[a * devices + b], &slowdown[b * devices + a]);
	ps__layer_bench_finish(&other);
	ps__layer_bench_finish(&one);
	return explain(pipeline, layer, a, status);
}

/* Every two devices, and each that several ranks share with itself, running the layer with the most work. */
static ps_status measure_sharing(ps_pipeline *pipeline)
{
	int devices = pipeline->device_count, heaviest = 0;
	for (int l = 0; l < pipeline->config.layer_count; l++) {
		const struct layer_cost *cost = &pipeline->measured->layers[l],
		                        *most = &pipeline->measured->layers[heaviest];
		if (cost->forward + cost->backward + cost->weight > most->forward + most->backward + most->weight)
			heaviest = l;
	}
	for (int i = 0; i < devices * devices; i++)
		pipeline->measured->slowdown[i] = 1;
	for (int a = 0; a < devices; a++) {
		int ranks = 0;
		for (int r = 0; r < pipeline->rank_count; r++)
			ranks += pipeline->ranks[r].device == pipeline->devices[a];
		for (int b = ranks > 1 ? a : a + 1; b < devices; b++)
			PS_TRY(measure_pair(pipeline, a, b, heaviest));
	}
	return PS_OK;
}

ps_status ps__measure_layers(ps_pipeline *pipeline)
{
	size_t devices = (size_t)pipeline->device_count;
	struct measured *measured = calloc(1, sizeof *measured);
	if (!measured)
		return ps_fail(PS_ENOMEM, "no memory to measure with");
	pipeline->measured = measured;
	measured->layers = calloc(devices * (size_t)pipeline->config.layer_count, sizeof *measured->layers);
	measured->slowdown = calloc(devices * devices, sizeof *measured->slowdown);
	measured->send = calloc(2 * (size_t)pipeline->stage_count, sizeof *measured->send);
	if (!measured->layers || !measured->slowdown || !measured->send)
		return ps_fail(PS_ENOMEM, "no memory to measure with");
	PS_TRY(measure_layers(pipeline));
	return measure_sharing(pipeline);
}

/* Sends a tensor of the program over its own link, a few times; the quickest counts, as nothing else runs. */
static ps_status measure_link(const struct instruction *instruction, double *seconds)
{
	*seconds = INFINITY;
	for (int k = 0; k < SENDS; k++) {
		ps_link_times times;
		ps_event done;
		PS_TRY(ps_link_send(instruction->link, instruction->to, instruction->from, NULL, 0, &times, &done));
		PS_TRY(ps_event_wait(done, -1));
		*seconds = fmin(*seconds, (double)(times.end - times.begin) * 1e-9);
	}
	return PS_OK;
}

ps_status ps__measure_links(ps_pipeline *pipeline)
{
	const struct program *program = pipeline->train;
	double *send = pipeline->measured->send;
	for (int i = 0; i < program->instruction_count; i++) {
		const struct instruction *instruction = &program->instructions[i];
		if (instruction->kind != INSTRUCTION_TRANSFER)
			continue;
		double *seconds = &send[ps__link_index(instruction->action)];
		if (*seconds > 0)
			continue;
		PS_TRY(measure_link(instruction, seconds));
		*seconds /= (double)program->sizes[instruction->action.micro_batch];
	}
	return PS_OK;
}

void ps__measured_free(struct measured *measured)
{
	if (!measured)
		return;
	free(measured->layers);
	free(measured->slowdown);
	free(measured->send);
	free(measured);
}
