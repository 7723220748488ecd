/* Whole training steps: how long one takes, against its products alone, and where the time goes. */
#include "bench/bench.h"
#include "bench/profile.h"
#include "bench/rig.h"

#include "core/platform.h"

#include <penstock/train.h>

#include <stdlib.h>
#include <string.h>

/* A rate at which random tokens are learnt without the losses leaping; the time does not depend on it. */
#define RATE 1e-3
#define CLIP 0.5

enum { STEP, PRODUCTS, PROFILE, CASES };

struct steps {
	const struct bench_step *what;
	ps_sgd *sgd;
	struct bench_products products;
	struct bench_profile profile;
	int32_t *inputs, *targets;
	uint32_t step;
	int64_t full_batches;                  /* of the text */
	double start, first;                   /* seconds: until the first step began, and what it took */
	struct bench_samples training, update; /* the parts of a step */
	struct bench_samples profile_update;
};

static double since(int64_t begin)
{
	return (double)(ps_clock_ns() - begin) * 1e-9;
}

/* Targets are the inputs, one further. */
static void random_tokens(const struct steps *s, size_t count)
{
	bench_fill(s->inputs, PS_I32, count, s->what->vocabulary);
	memcpy(s->targets, s->inputs + 1, (count - 1) * sizeof *s->targets);
	s->targets[count - 1] = s->inputs[0];
}

static ps_status next_batch(struct steps *s, ps_batch *out)
{
	int64_t time = s->what->time;
	if (s->what->batches != NULL)
		PS_TRY(ps_batches_get(s->what->batches, s->step % s->full_batches, s->inputs, s->targets, &time));
	*out = (ps_batch){s->inputs, s->targets, s->what->rows, time, s->step++};
	return PS_OK;
}

static ps_status sample_step(void *payload, int round, double *seconds)
{
	struct steps *s = payload;
	ps_batch batch;
	double loss, norm;
	PS_TRY(next_batch(s, &batch));
	int64_t begin = ps_clock_ns(), process = ps__process_begin();
	PS_TRY(ps_pipeline_train(s->what->pipeline, &batch, &loss));
	double training = since(begin);
	PS_TRY(ps_sgd_step(s->sgd, RATE, CLIP, &norm));
	*seconds = since(begin);
	if (round == 0) {
		s->start = process != 0 ? (double)(begin - process) * 1e-9 : 0;
		s->first = *seconds;
		return PS_OK;
	}
	PS_TRY(bench_samples_add(&s->training, training));
	return bench_samples_add(&s->update, *seconds - training);
}

static ps_status sample_products(void *payload, int round, double *seconds)
{
	struct steps *s = payload;
	(void)round;
	return bench_products_run(&s->products, seconds);
}

static ps_status sample_profile(void *payload, int round, double *seconds)
{
	struct steps *s = payload;
	ps_batch batch;
	double loss, norm, training;
	PS_TRY(next_batch(s, &batch));
	PS_TRY(bench_profile_step(&s->profile, &batch, round > 0, &loss, &training));
	int64_t begin = ps_clock_ns();
	PS_TRY(ps_sgd_step(s->sgd, RATE, CLIP, &norm));
	double update = since(begin);
	*seconds = training + update;
	return round > 0 ? bench_samples_add(&s->profile_update, update) : PS_OK;
}

/* A row of a part of a step, with its share of it. */
static ps_status add_part(struct bench_report *report, const char *section, const char *name,
                          struct bench_samples *samples, double whole, struct bench_row **out)
{
	PS_TRY(bench_report_add(out, report, section, name, BENCH_SECONDS, bench_samples_stats(samples)));
	(*out)->figures[BENCH_STEP_SHARE] = (*out)->stats.median / whole;
	return PS_OK;
}

static ps_status report_step(struct bench_report *report, struct steps *s, struct bench_case *cases)
{
	struct bench_stats step = bench_samples_stats(&cases[STEP].samples);
	struct bench_stats products = bench_samples_stats(&cases[PRODUCTS].samples);
	struct bench_row *row;
	if (step.count == 0)
		return PS_OK;
	PS_TRY(bench_report_add(&row, report, "step", "whole step", BENCH_SECONDS, step));
	row->figures[BENCH_TOKENS_S] = (double)(s->what->rows * s->what->time) / step.median;
	if (s->products.flops > 0)
		row->figures[BENCH_GFLOP_S] = s->products.flops / step.median * 1e-9;
	if (products.count > 0)
		row->figures[BENCH_FLOOR_SHARE] = products.median / step.median;
	PS_TRY(add_part(report, "step", "forward and backward", &s->training, step.median, &row));
	PS_TRY(add_part(report, "step", "clip and update", &s->update, step.median, &row));
	if (products.count == 0)
		return PS_OK;
	PS_TRY(add_part(report, "step", "its GEMMs alone", &cases[PRODUCTS].samples, step.median, &row));
	row->figures[BENCH_GFLOP_S] = s->products.flops / products.median * 1e-9;
	return PS_OK;
}

/* Ops by falling time. */
static int sort_ops(struct steps *s, int *order)
{
	int count = 0;
	for (int op = 0; op < PS_OP_COUNT; op++) {
		if (s->profile.ops[op].count == 0)
			continue;
		double median = bench_samples_stats(&s->profile.ops[op]).median;
		int at = count++;
		for (; at > 0 && bench_samples_stats(&s->profile.ops[order[at - 1]]).median < median; at--)
			order[at] = order[at - 1];
		order[at] = op;
	}
	return count;
}

static ps_status report_profile(struct bench_report *report, struct steps *s, struct bench_case *profiled)
{
	static const char section[] = "where it goes, timed op by op, mean of the ranks";
	struct bench_stats whole = bench_samples_stats(&profiled->samples);
	struct bench_row *row;
	int order[PS_OP_COUNT], count = sort_ops(s, order);
	if (whole.count == 0)
		return PS_OK;
	for (int i = 0; i < count; i++) {
		int op = order[i];
		PS_TRY(add_part(report, section, ps_op_name((ps_op)op), &s->profile.ops[op], whole.median, &row));
		row->figures[BENCH_COUNT] = s->profile.times[op];
	}
	PS_TRY(add_part(report, section, "clip and update", &s->profile_update, whole.median, &row));
	PS_TRY(add_part(report, section, "idle, waiting", &s->profile.idle, whole.median, &row));
	PS_TRY(bench_report_add(&row, report, section, "a step so timed", BENCH_SECONDS, whole));
	for (int i = 0; i < s->profile.transfer_count; i++) {
		struct bench_transfer *transfer = &s->profile.transfers[i];
		char name[64];
		if (transfer->times == 0)
			continue;
		snprintf(name, sizeof name, "stage %d to %d", transfer->stage + transfer->backward,
		         transfer->stage + !transfer->backward);
		PS_TRY(add_part(report, "transfers, beside that", name, &transfer->seconds, whole.median, &row));
		row->figures[BENCH_COUNT] = transfer->times;
	}
	return PS_OK;
}

static ps_status report_rest(struct bench_report *report, const struct steps *s)
{
	struct bench_row *row;
	const ps_pipeline *pipeline = s->what->pipeline;
	double planned = 0, peak = (double)ps__memory_peak();
	for (int r = 0; r < ps_pipeline_rank_count(pipeline); r++) {
		ps_rank_info info;
		ps_pipeline_get_rank(pipeline, r, &info);
		planned += (double)info.peak_bytes;
	}
	PS_TRY(bench_report_add(&row, report, "peak memory", "planned for the stages", BENCH_BYTES,
	                        bench_stats_once(planned)));
	if (peak > 0)
		PS_TRY(bench_report_add(&row, report, "peak memory", "of the process", BENCH_BYTES,
		                        bench_stats_once(peak)));
	if (s->start > 0)
		PS_TRY(bench_report_add(&row, report, "start", "until the first step", BENCH_SECONDS,
		                        bench_stats_once(s->start)));
	if (s->first > 0)
		PS_TRY(bench_report_add(&row, report, "start", "the first step", BENCH_SECONDS,
		                        bench_stats_once(s->first)));
	return PS_OK;
}

static ps_status prepare(struct steps *s)
{
	const struct bench_step *what = s->what;
	int64_t count = what->rows * what->time;
	s->inputs = calloc((size_t)count, sizeof *s->inputs);
	s->targets = calloc((size_t)count, sizeof *s->targets);
	if (s->inputs == NULL || s->targets == NULL)
		return ps_fail(PS_ENOMEM, "no memory for a batch of %lld tokens", (long long)count);
	if (what->batches == NULL) {
		random_tokens(s, (size_t)count);
	} else {
		s->full_batches = (what->batches->length - 1) / what->time;
		if (s->full_batches < 1)
			return ps_fail(PS_EINVAL, "the text is too short for one batch of %lld rows of %lld tokens",
			               (long long)what->rows, (long long)what->time);
	}
	PS_TRY(ps_sgd_create(&s->sgd, what->pipeline));
	if (what->brief)
		return PS_OK;
	PS_TRY(bench_products_init(&s->products, what->pipeline));
	return bench_profile_init(&s->profile, what->pipeline);
}

static ps_status measure(struct bench_report *report, struct steps *s, struct bench_case *cases,
                         const struct bench_run *run)
{
	for (int r = 0; r < ps_pipeline_rank_count(s->what->pipeline); r++) {
		ps_rank_info info;
		ps_pipeline_get_rank(s->what->pipeline, r, &info);
		bench_report_device(report, ps_device_get_info(info.device));
	}
	PS_TRY(prepare(s));
	PS_TRY(bench_measure(cases, s->what->brief ? 1 : CASES, run, &report->interrupted));
	PS_TRY(report_step(report, s, cases));
	PS_TRY(report_profile(report, s, &cases[PROFILE]));
	return report_rest(report, s);
}

ps_status bench_step(struct bench_report *report, const struct bench_step *step, const struct bench_run *run)
{
	struct steps *s = calloc(1, sizeof *s);
	if (s == NULL)
		return ps_fail(PS_ENOMEM, "no memory for the bench of steps");
	s->what = step;
	struct bench_case cases[CASES] = {[STEP] = {.sample = sample_step, .payload = s},
	                                  [PRODUCTS] = {.sample = sample_products, .payload = s},
	                                  [PROFILE] = {.sample = sample_profile, .payload = s}};
	ps_status status = measure(report, s, cases, run);
	for (int i = 0; i < CASES; i++)
		bench_samples_free(&cases[i].samples);
	bench_samples_free(&s->training);
	bench_samples_free(&s->update);
	bench_samples_free(&s->profile_update);
	bench_products_finish(&s->products);
	bench_profile_finish(&s->profile);
	ps_sgd_destroy(s->sgd);
	free(s->targets);
	free(s->inputs);
	free(s);
	return status;
}
