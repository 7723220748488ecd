/* Goes through the command lists of a pipeline's training program. */
#include "bench/profile.h"

#include "core/backend.h"
#include "pipeline/internal.h"

#include <stdlib.h>

static bool is_action(const struct instruction *instruction)
{
	return instruction->kind == INSTRUCTION_ACTION;
}

ps_status bench_profile_init(struct bench_profile *out, ps_pipeline *pipeline)
{
	const struct program *program = pipeline->train;
	size_t marks = 1;
	*out = (struct bench_profile){.pipeline = pipeline};
	for (int i = 0; i < program->instruction_count; i++) {
		const struct instruction *instruction = &program->instructions[i];
		size_t count = is_action(instruction) ? ps_list_count(instruction->list) : 0;
		marks += count + 1;
		for (size_t j = 0; j < count; j++) {
			const char *scope;
			out->times[ps_list_op(instruction->list, j, &scope)]++;
		}
	}
	int boundaries = pipeline->stage_count - 1;
	out->marks = calloc(marks, sizeof *out->marks);
	out->transfers = calloc(2 * (size_t)boundaries + 1, sizeof *out->transfers);
	if (out->marks == NULL || out->transfers == NULL)
		return ps_fail(PS_ENOMEM, "no memory for the times of %zu ops", marks);
	out->transfer_count = 2 * boundaries;
	for (int i = 0; i < 2 * boundaries; i++)
		out->transfers[i] = (struct bench_transfer){.stage = i % boundaries, .backward = i >= boundaries};
	return PS_OK;
}

void bench_profile_finish(struct bench_profile *profile)
{
	for (int i = 0; i < PS_OP_COUNT; i++)
		bench_samples_free(&profile->ops[i]);
	for (int i = 0; i < profile->transfer_count; i++)
		bench_samples_free(&profile->transfers[i].seconds);
	bench_samples_free(&profile->idle);
	free(profile->transfers);
	free(profile->marks);
}

/* Has all lists note their times into `marks`, or no more. */
static void mark(const struct program *program, int64_t *marks, bool on)
{
	for (int i = 0; i < program->instruction_count; i++) {
		const struct instruction *instruction = &program->instructions[i];
		if (!is_action(instruction))
			continue;
		ps__list_time(instruction->list, on ? marks : NULL);
		marks += ps_list_count(instruction->list) + 1;
	}
}

static ps_status collect_ops(struct bench_profile *profile, double wall)
{
	const struct program *program = profile->pipeline->train;
	double sums[PS_OP_COUNT] = {0}, busy = 0, ranks = profile->pipeline->rank_count;
	const int64_t *marks = profile->marks;
	for (int i = 0; i < program->instruction_count; i++) {
		const struct instruction *instruction = &program->instructions[i];
		if (!is_action(instruction))
			continue;
		size_t count = ps_list_count(instruction->list);
		for (size_t j = 0; j < count; j++) {
			const char *scope;
			double seconds = (double)(marks[j + 1] - marks[j]) * 1e-9;
			sums[ps_list_op(instruction->list, j, &scope)] += seconds;
			busy += seconds;
		}
		marks += count + 1;
	}
	for (int op = 0; op < PS_OP_COUNT; op++) {
		if (profile->times[op] > 0)
			PS_TRY(bench_samples_add(&profile->ops[op], sums[op] / ranks));
	}
	double idle = wall - busy / ranks;
	return bench_samples_add(&profile->idle, idle > 0 ? idle : 0);
}

static ps_status collect_transfers(struct bench_profile *profile)
{
	int boundaries = profile->transfer_count / 2;
	size_t count;
	const ps_trace_span *spans = ps_pipeline_spans(profile->pipeline, &count);
	for (int i = 0; i < profile->transfer_count; i++) {
		struct bench_transfer *transfer = &profile->transfers[i];
		double sum = 0;
		transfer->times = 0;
		for (size_t j = 0; j < count; j++) {
			const ps_trace_span *span = &spans[j];
			bool backward = span->action.kind != PS_ACTION_F;
			int stage = backward ? span->action.stage - 1 : span->action.stage;
			if (!span->transfer || backward != (i >= boundaries) || stage != transfer->stage)
				continue;
			transfer->times++;
			sum += (double)(span->end_ns - span->begin_ns) * 1e-9;
		}
		if (transfer->times > 0)
			PS_TRY(bench_samples_add(&transfer->seconds, sum));
	}
	return PS_OK;
}

ps_status bench_profile_step(struct bench_profile *profile, const ps_batch *batch, bool keep, double *loss,
                             double *seconds)
{
	ps_pipeline *pipeline = profile->pipeline;
	bool trace = pipeline->config.trace;
	mark(pipeline->train, profile->marks, true);
	pipeline->config.trace = true;
	int64_t begin = ps_clock_ns();
	ps_status status = ps_pipeline_train(pipeline, batch, loss);
	*seconds = (double)(ps_clock_ns() - begin) * 1e-9;
	if (status == PS_OK && keep)
		status = collect_ops(profile, *seconds);
	if (status == PS_OK && keep)
		status = collect_transfers(profile);
	pipeline->config.trace = trace;
	mark(pipeline->train, profile->marks, false);
	return status;
}

static ps_status record_products(struct bench_products *products)
{
	const ps_pipeline *pipeline = products->pipeline;
	const struct program *program = pipeline->train;
	for (int r = 0; r < pipeline->rank_count; r++)
		PS_TRY(ps_list_create(&products->lists[r], pipeline->ranks[r].queue));
	for (int i = 0; i < program->instruction_count; i++) {
		const struct instruction *instruction = &program->instructions[i];
		if (!is_action(instruction))
			continue;
		for (size_t j = 0; j < ps_list_count(instruction->list); j++) {
			const char *scope;
			if (ps_list_op(instruction->list, j, &scope) != PS_OP_gemm)
				continue;
			const ps_args_gemm *gemm = ps__list_arguments(instruction->list, j, 0);
			PS_TRY(ps_list_record(products->lists[instruction->rank], PS_OP_gemm, gemm, sizeof *gemm));
			products->flops += 2.0 * (double)gemm->c.dims[0] * (double)gemm->c.dims[1] *
			                   (double)gemm->a.dims[gemm->trans_a ? 0 : 1];
		}
	}
	return PS_OK;
}

ps_status bench_products_init(struct bench_products *out, const ps_pipeline *pipeline)
{
	*out = (struct bench_products){.pipeline = pipeline};
	out->lists = calloc((size_t)pipeline->rank_count, sizeof(ps_list *));
	return out->lists != NULL ? record_products(out) : ps_fail(PS_ENOMEM, "no memory for the products of a step");
}

void bench_products_finish(struct bench_products *products)
{
	for (int r = 0; products->lists != NULL && r < products->pipeline->rank_count; r++)
		ps_list_destroy(products->lists[r]);
	free(products->lists);
}

static ps_status time_list(ps_queue *queue, ps_list *list, double *seconds)
{
	int64_t begin = ps_clock_ns();
	ps_status status = ps_list_submit(list, 0), finished = ps_queue_finish(queue);
	*seconds = (double)(ps_clock_ns() - begin) * 1e-9;
	return status != PS_OK ? status : finished;
}

ps_status bench_products_run(const struct bench_products *products, double *seconds)
{
	const ps_pipeline *pipeline = products->pipeline;
	*seconds = 0;
	for (int d = 0; d < pipeline->device_count; d++) {
		double sum = 0;
		for (int r = 0; r < pipeline->rank_count; r++) {
			double one;
			if (pipeline->ranks[r].device != pipeline->devices[d])
				continue;
			PS_TRY(time_list(pipeline->ranks[r].queue, products->lists[r], &one));
			sum += one;
		}
		*seconds = sum > *seconds ? sum : *seconds;
	}
	return PS_OK;
}
