/* The corpus, the model, the cut and the pipeline of a run. */
#include "tools/penstock/setup.h"
#include "tools/penstock/command.h"

#include "bench/bench.h"
#include "core/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The elements of each unit's parameters. */
static double unit_parameters(const ps_layer *layer)
{
	double sum = 0;
	for (int i = 0; i < layer->parameter_count; i++) {
		double elements = 1;
		for (int d = 0; d < layer->parameters[i].rank; d++)
			elements *= (double)layer->parameters[i].dims[d];
		sum += elements;
	}
	return sum;
}

/* More than any model has, and few enough to be added up. */
enum { MOST_UNITS = 1 << 24 };

/* Reads "7,7": *count numbers into sizes[limit]. */
static ps_status parse_units(const char *text, int *sizes, int limit, int *count)
{
	*count = 0;
	for (const char *at = text;;) {
		char *end;
		errno = 0;
		long units = *at >= '0' && *at <= '9' ? strtol(at, &end, 10) : -1;
		if (units < 0 || errno != 0 || (*end != ',' && *end != '\0'))
			return ps_fail(PS_EINVAL,
			               "--balance %.60s: give the units of each stage as in 7,7, or one of params, "
			               "flops, time",
			               text);
		if (units == 0)
			return ps_fail(PS_EINVAL, "--balance %.60s: stage %d gets no unit; each needs at least 1", text,
			               *count);
		if (*count < limit)
			sizes[*count] = units > MOST_UNITS ? MOST_UNITS : (int)units;
		++*count;
		if (*end == '\0')
			return PS_OK;
		at = end + 1;
	}
}

static ps_status check_units(const struct setup *setup, const char *text, int count)
{
	int64_t sum = 0;
	if (count != setup->stage_count && setup->schedule_file != NULL)
		return ps_fail(PS_EINVAL, "--balance %.60s: has %d %s, but --schedule %.100s has %d", text, count,
		               ps__plural(count, "stage", "stages"), setup->schedule_file, setup->stage_count);
	if (count != setup->stage_count)
		return ps_fail(PS_EINVAL, "--balance %.60s: has %d %s, but --stages has %d %s", text, count,
		               ps__plural(count, "stage", "stages"), setup->stage_count,
		               ps__plural(setup->stage_count, "device", "devices"));
	for (int s = 0; s < count; s++)
		sum += setup->balance[s];
	if (sum != setup->model.layer_count)
		return ps_fail(PS_EINVAL,
		               "--balance %.60s: adds up to %" PRId64
		               "; the model has %d units: embedding, %d %s, decoder",
		               text, sum, setup->model.layer_count, setup->model.layer_count - 2,
		               ps__plural(setup->model.layer_count - 2, "layer", "layers"));
	return PS_OK;
}

/* NULL, "flops" and "time" leave the cut to the engine, which goes by counted work or by what it measures. */
static ps_status make_balance(struct setup *setup, const char *text)
{
	int units = setup->model.layer_count, stages = setup->stage_count;
	if (stages > units)
		return ps_fail(PS_EINVAL,
		               "--%s: %d stages are more than the %d units of the model; give fewer or raise --nlayers",
		               setup->schedule_file != NULL ? "schedule" : "stages", stages, units);
	if (text == NULL || strcmp(text, "flops") == 0 || strcmp(text, "time") == 0)
		return PS_OK;
	double *costs = calloc((size_t)units, sizeof *costs);
	setup->balance = calloc((size_t)units, sizeof *setup->balance);
	ps_status status = PS_OK;
	if (costs == NULL || setup->balance == NULL) {
		status = ps_fail(PS_ENOMEM, "no memory for the cut of %d units", units);
	} else if (strcmp(text, "params") == 0 || strcmp(text, "even") == 0) {
		for (int i = 0; i < units; i++)
			costs[i] = text[0] == 'p' ? unit_parameters(setup->model.layers[i]) : 1;
		const ps_balance_problem problem = {.stages = stages, .units = units, .costs = costs};
		status = ps_balance(&problem, setup->balance);
	} else {
		int count;
		status = parse_units(text, setup->balance, units, &count);
		if (status == PS_OK)
			status = check_units(setup, text, count);
	}
	free(costs);
	return status;
}

/* A file may have several stages for a rank; ranks are the devices, in their order. */
static ps_status read_schedule_file(struct setup *setup, const char *path)
{
	ps_schedule *schedule;
	PS_TRY(ps_schedule_read(&schedule, path, 0));
	int ranks = schedule->ranks;
	setup->schedule_file = path;
	setup->stage_count = schedule->stages;
	ps_schedule_destroy(schedule);
	if (ranks != setup->rank_count)
		return ps_fail(PS_EINVAL, "--schedule %.100s: has %d %s; give %d %s in --stages, not %d", path, ranks,
		               ps__plural(ranks, "rank", "ranks"), ranks, ps__plural(ranks, "device", "devices"),
		               setup->rank_count);
	return PS_OK;
}

/* A rule's name, of which each device has one stage, or else a file's. */
static ps_status choose_schedule(struct setup *setup, const char *text)
{
	const ps_schedule_rule *rule = ps_schedule_find_rule(text);
	if (rule != NULL && strcmp(text, "forward-only") != 0) {
		setup->schedule = text;
		setup->stage_count = setup->rank_count;
		return PS_OK;
	}
	if (rule == NULL && (strchr(text, '/') != NULL || access(text, F_OK) == 0))
		return read_schedule_file(setup, text);
	const char *names[32] = {NULL};
	char listed[256] = "";
	int n = 0;
	for (rule = ps_schedule_rules(); rule->name != NULL && n < 31; rule++) {
		if (strcmp(rule->name, "forward-only") == 0)
			continue;
		size_t length = strlen(listed);
		snprintf(listed + length, sizeof listed - length, "%s%s", n > 0 ? ", " : "", rule->name);
		names[n++] = rule->name;
	}
	const char *nearest = options_nearest(text, names);
	return ps_fail(PS_EINVAL, "--schedule %.60s: is no file and none of the schedules for training: %s%s%s%s", text,
	               listed, nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "",
	               nearest != NULL ? "?" : "");
}

/* Words for what the library says of sizes alone. */
static ps_status check_corpus(const struct setup *setup, const run_options *options, bool evaluate_only)
{
	for (int s = evaluate_only ? PS_SPLIT_VALID : PS_SPLIT_TRAIN; s < PS_SPLIT_COUNT; s++) {
		size_t count;
		ps_batches batches;
		bool training = s == PS_SPLIT_TRAIN;
		const int32_t *tokens = ps_corpus_tokens(setup->corpus, (ps_split)s, &count);
		int64_t rows = training ? options->batch_size : options->eval_batch_size;
		if (rows > 0 && ps_batches_init(&batches, tokens, count, rows, options->bptt) != PS_OK)
			return ps_fail(PS_EFORMAT,
			               "--data %s: the %s split has %zu %s, too few for %" PRId64
			               " %s of two; give more text or a smaller --%sbatch-size",
			               options->data, ps_split_name((ps_split)s), count,
			               ps__plural((int64_t)count, "token", "tokens"), rows,
			               ps__plural(rows, "row", "rows"), training ? "" : "eval-");
	}
	return PS_OK;
}

/* Says how far it has come, when it takes long enough for somebody to wonder. */
static void show_measuring(void *payload, int index, int count)
{
	int64_t *begin = payload, now = ps_clock_ns();
	if (index == 0)
		*begin = now;
	else if (now - *begin > INT64_C(1000000000))
		fprintf(stderr, "measuring layers on their devices: %d of %d done\n", index, count);
}

ps_math setup_math(dtype_choice dtype)
{
	if (dtype == DTYPE_BF16 || dtype == DTYPE_BF16_PURE)
		return PS_MATH_BF16;
	return dtype == DTYPE_TF32 ? PS_MATH_TF32 : PS_MATH_F32;
}

static ps_status create_pipeline(struct setup *setup, const run_options *options, bool evaluate_only)
{
	int64_t measuring_ns = 0;
	ps_pipeline_config config = {
	        .layers = setup->model.layers,
	        .layer_count = setup->model.layer_count,
	        .devices = (const char *const *)setup->devices,
	        .rank_count = setup->rank_count,
	        .balance = setup->balance,
	        .stage_count = setup->stage_count,
	        .schedule = setup->schedule,
	        .schedule_file = setup->schedule_file,
	        .chunks = (int)options->chunks,
	        .split = (ps_split_rule)options->split,
	        .checkpoint = (ps_checkpoint)options->checkpoint,
	        .join = options->join == JOIN_AUTO,
	        .dtype = options->dtype == DTYPE_FP64 ? PS_F64 : PS_F32,
	        .math = setup_math((dtype_choice)options->dtype),
	        .bf16_weights = options->dtype == DTYPE_BF16_PURE,
	        .graphs = (ps_graphs)options->graphs,
	        .links = {.force_staged = options->link == LINK_STAGED},
	        .seed = options->seed,
	        .rows = evaluate_only ? options->eval_batch_size : options->batch_size,
	        .eval_rows = options->eval_batch_size,
	        .time = options->bptt,
	        .trace = options->trace != NULL,
	        .shadow = {.stages = setup->shadow, .stage_count = setup->shadow_count},
	        .measure = options->trace != NULL,
	        .balance_time = options->balance != NULL && strcmp(options->balance, "time") == 0,
	        .measuring = show_measuring,
	        .measuring_payload = &measuring_ns,
	        .open_device = options->devices != NULL ? bench_shared_open : NULL,
	        .open_device_payload = options->devices,
	};
	return ps_pipeline_create(&setup->pipeline, &config);
}

bool setup_measures(const run_options *options)
{
	return options->trace != NULL || (options->balance != NULL && strcmp(options->balance, "time") == 0);
}

ps_status setup_init(struct setup *out, const run_options *options, bool evaluate_only)
{
	*out = (struct setup){.chunks = (int)options->chunks};
	if (options->emsize % options->nhead != 0)
		return ps_fail(PS_EINVAL, "--nhead %" PRId64 " does not divide --emsize %" PRId64, options->nhead,
		               options->emsize);
	PS_TRY(stages_parse(&out->devices, &out->rank_count, options->stages));
	PS_TRY(choose_schedule(out, options->schedule));
	if (options->shadow != NULL)
		PS_TRY(shadow_parse(&out->shadow, &out->shadow_count, options->shadow, out->stage_count));
	if (options->data != NULL) {
		PS_TRY(command_fail_corpus(ps_corpus_open(&out->corpus, options->data, NULL), options->data));
		PS_TRY(check_corpus(out, options, evaluate_only));
	}
	const ps_transformer_config model = {.vocabulary = out->corpus != NULL ? ps_corpus_vocabulary(out->corpus)
	                                                                       : options->vocabulary,
	                                     .emsize = options->emsize,
	                                     .nhead = (int)options->nhead,
	                                     .nhid = options->nhid,
	                                     .nlayers = (int)options->nlayers,
	                                     .dropout = options->dropout,
	                                     .causal = options->mask == MASK_CAUSAL,
	                                     .max_time = options->bptt};
	PS_TRY(ps_transformer_create(&out->model, &model));
	PS_TRY(make_balance(out, options->balance));
	return create_pipeline(out, options, evaluate_only);
}

static void print_notes(const ps_pipeline *pipeline)
{
	for (int r = 0; r < ps_pipeline_rank_count(pipeline); r++) {
		ps_rank_info info;
		ps_pipeline_get_rank(pipeline, r, &info);
		if (*info.note)
			fprintf(stderr, "note: stage %d on %s: %s\n", r, info.device_name, info.note);
	}
}

void setup_finish(struct setup *setup)
{
	if (setup->pipeline != NULL)
		print_notes(setup->pipeline);
	ps_pipeline_destroy(setup->pipeline);
	ps_model_finish(&setup->model);
	ps_corpus_close(setup->corpus);
	free(setup->balance);
	free(setup->shadow);
	stages_free(setup->devices, setup->rank_count);
}

static const char *size_text(uint64_t bytes, char text[32])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	double size = (double)bytes;
	int unit = 0;
	for (; size >= 1024 && unit < 4; unit++)
		size /= 1024;
	snprintf(text, 32, unit == 0 ? "%.0f %s" : "%.1f %s", size, units[unit]);
	return text;
}

/* Which micro-batches the first stage recomputes: by the mode, or by a file's own R. */
static void print_recomputed(const ps_schedule *schedule, FILE *to)
{
	const ps_rank_actions *list = &schedule->rank[schedule->rank_of_stage[0]];
	int count = 0, last = schedule->micro_batches - 1;
	bool has_last = false;
	for (int64_t i = 0; i < list->count; i++) {
		ps_action action = list->actions[i];
		if (action.kind != PS_ACTION_R || action.stage != 0)
			continue;
		count += action.count;
		has_last |= action.micro_batch + action.count > last;
	}
	if (count == 0)
		fputs(", recomputed never", to);
	else if (count > last)
		fputs(", recomputed always", to);
	else if (count == last && !has_last)
		fputs(", recomputed except-last", to);
	else
		fprintf(to, ", recomputed %d of %d", count, schedule->micro_batches);
}

/* The most micro-batches that one action of these kinds takes at once. */
static int most_at_once(const ps_schedule *schedule, ps_action_kind kind, ps_action_kind other)
{
	int most = 1;
	for (int r = 0; r < schedule->ranks; r++)
		for (int64_t i = 0; i < schedule->rank[r].count; i++) {
			ps_action action = schedule->rank[r].actions[i];
			if ((action.kind == kind || action.kind == other) && action.count > most)
				most = action.count;
		}
	return most;
}

/* "stage 0", or "stages 0,3" of a rank that has several. */
static void print_stages(const ps_rank_info *info, FILE *to)
{
	fputs(ps__plural(info->stage_count, "stage", "stages"), to);
	for (int i = 0; i < info->stage_count; i++)
		fprintf(to, "%c%d", i > 0 ? ',' : ' ', info->stages[i]);
}

/* How many there are, and where that is fewer than --chunks asked for, why. */
static void print_micro_batches(const struct setup *setup, FILE *to)
{
	const int64_t *sizes;
	int count = ps_pipeline_micro_batches(setup->pipeline, &sizes);
	fprintf(to, "%d %s of", count, ps__plural(count, "micro-batch", "micro-batches"));
	for (int m = 0; m < count && m < 16; m++)
		fprintf(to, "%s%" PRId64, m == 0 ? " " : ",", sizes[m]);
	fprintf(to, "%s %s", count > 16 ? ",…" : "", ps__plural(count == 1 ? sizes[0] : count, "row", "rows"));
	if (count < setup->chunks)
		fprintf(to, " (--chunks %d: %s)", setup->chunks,
		        sizes[0] == 1 ? "no more than rows" : "rounded up as PyTorch's");
}

void setup_print_plan(const struct setup *setup, FILE *to)
{
	const ps_pipeline *pipeline = setup->pipeline;
	for (int r = 0; r < ps_pipeline_rank_count(pipeline); r++) {
		ps_rank_info info;
		char peak[32], weights[32], gradients[32], activations[32];
		ps_pipeline_get_rank(pipeline, r, &info);
		print_stages(&info, to);
		fprintf(to,
		        " on %s: %d %s, %" PRId64 " parameters, peak %s (weights %s, gradients %s, activations %s)\n",
		        info.device_name, info.units, ps__plural(info.units, "unit", "units"), info.parameters,
		        size_text(info.peak_bytes, peak), size_text(info.parameter_bytes, weights),
		        size_text(info.gradient_bytes, gradients), size_text(info.activation_bytes, activations));
	}
	links_print(pipeline, to);
	const ps_schedule *schedule = ps_pipeline_get_schedule(pipeline);
	fprintf(to, "schedule %s, ", schedule->name);
	print_micro_batches(setup, to);
	print_recomputed(schedule, to);
	int forwards = most_at_once(schedule, PS_ACTION_F, PS_ACTION_F);
	int backwards = most_at_once(schedule, PS_ACTION_B, PS_ACTION_BW);
	if (forwards > 1)
		fprintf(to, ", up to %d forwards and %d %s at once", forwards, backwards,
		        ps__plural(backwards, "backward", "backwards"));
	putc('\n', to);
}
