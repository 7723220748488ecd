/*
 * A whole training step of a Transformer on a device: every op of it, the optimizer's included, as a shadow compares it
 * from identical inputs; and what the step comes to, against the same step on the other device.
 */
#include "verify/conform.h"
#include "verify/outcome.h"
#include "verify/side.h"

#include <penstock/model.h>
#include <penstock/train.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const ps_verify_model tiny = {.vocabulary = 1000,
                                     .emsize = 64,
                                     .nhead = 4,
                                     .nhid = 128,
                                     .nlayers = 2,
                                     .dropout = 0.2,
                                     .causal = true,
                                     .rows = 8,
                                     .time = 32,
                                     .chunks = 3,
                                     .lr = 4,
                                     .clip = 0.5};

/* One step on one device. */
struct step {
	const ps_verify_config *config;
	const ps_verify_model *sizes;
	struct outcome *outcome; /* of the checks while it runs; NULL: it is not checked */
	const char *device;
	ps_dtype dtype;
	ps_model model;
	ps_pipeline *pipeline;
	double loss, norm;
};

static void tell(const ps_verify_config *config, struct outcome *outcome)
{
	outcome->result.total = ++outcome->result.done;
	config->report(config->payload, &outcome->result);
}

/* Takes what a shadow says of one output, in the thread that checks. */
static void take_result(void *payload, const ps_shadow_result *from)
{
	const struct step *step = payload;
	struct outcome *outcome = step->outcome;
	char part[160];
	ps__difference difference = {.dtype = step->dtype,
	                             .rank = from->rank,
	                             .count = from->count,
	                             .bad = from->bad,
	                             .got = from->got,
	                             .want = from->want,
	                             .ulps = from->ulps,
	                             .share = from->share};
	memcpy(difference.at, from->at, sizeof difference.at);
	snprintf(part, sizeof part, "%s of %s", from->action, from->layer);
	ps__outcome_begin(outcome, step->device, from->op, part, outcome->result.done, step->dtype);
	ps__outcome_compared(outcome, from->output, &difference);
	tell(step->config, outcome);
}

static ps_status create(struct step *step)
{
	static const ps_shadow_stage all[] = {{0, 1}};
	const ps_verify_model *sizes = step->sizes;
	const ps_transformer_config model = {.vocabulary = (int32_t)sizes->vocabulary,
	                                     .emsize = sizes->emsize,
	                                     .nhead = sizes->nhead,
	                                     .nhid = sizes->nhid,
	                                     .nlayers = sizes->nlayers,
	                                     .dropout = sizes->dropout,
	                                     .causal = sizes->causal,
	                                     .max_time = sizes->time};
	PS_TRY(ps_transformer_create(&step->model, &model));
	const ps_pipeline_config config = {.layers = step->model.layers,
	                                   .layer_count = step->model.layer_count,
	                                   .devices = &step->device,
	                                   .rank_count = 1,
	                                   .chunks = sizes->chunks,
	                                   .checkpoint = PS_CHECKPOINT_EXCEPT_LAST,
	                                   .dtype = step->dtype,
	                                   .seed = step->config->seed,
	                                   .rows = sizes->rows,
	                                   .time = sizes->time,
	                                   .shadow = {.stages = all,
	                                              .stage_count = step->outcome ? 1 : 0,
	                                              .against = ps__against(step->config),
	                                              .compared = take_result,
	                                              .payload = step,
	                                              .go_on = true}};
	PS_TRY(ps_pipeline_create(&step->pipeline, &config));
	return ps_pipeline_initialize(step->pipeline);
}

static ps_status train(struct step *step, const int32_t *inputs, const int32_t *targets)
{
	const ps_verify_model *sizes = step->sizes;
	const ps_batch batch = {.inputs = inputs, .targets = targets, .rows = sizes->rows, .time = sizes->time};
	ps_sgd *sgd;
	PS_TRY(ps_sgd_create(&sgd, step->pipeline));
	ps_status status = ps_pipeline_train(step->pipeline, &batch, &step->loss);
	if (status == PS_OK)
		status = ps_sgd_step(sgd, sizes->lr, sizes->clip, &step->norm);
	ps_status end = ps_pipeline_shadow_finish(step->pipeline);
	ps_sgd_destroy(sgd);
	/* What differs has been told. */
	return status == PS_OK && end != PS_EDIVERGED ? end : status;
}

static ps_status run(struct step *step)
{
	size_t count = (size_t)(step->sizes->rows * step->sizes->time);
	int32_t *tokens = malloc(2 * count * sizeof *tokens);
	if (!tokens)
		return ps_fail(PS_ENOMEM, "no memory for a batch of %zu tokens", count);
	for (size_t i = 0; i < 2 * count; i++)
		tokens[i] = (int32_t)(ps__conform_mix(step->config->seed + i) % (uint64_t)step->sizes->vocabulary);
	ps_status status = create(step);
	if (status == PS_OK)
		status = train(step, tokens, tokens + count);
	free(tokens);
	return status;
}

static void finish(struct step *step)
{
	ps_pipeline_destroy(step->pipeline);
	ps_model_finish(&step->model);
}

/*
 * What a whole step comes to is off by more than any of its ops: each passes on what it got from those before it. The
 * losses of a device agree within 1e-5 with the reference's and gradients within 1e-4, in F64 by seven digits more.
 */
static ps__tolerance of_whole(double f32)
{
	return (ps__tolerance){.f32 = f32, .f64 = f32 * 1e-7};
}

static void compare_number(const struct step *step, struct outcome *outcome, const char *name, double got, double want,
                           double tolerance)
{
	const ps__tolerance allowed = of_whole(tolerance);
	const float single[] = {(float)got, (float)want};
	ps_tensor number = ps_tensor_make(NULL, 0, step->dtype, 0, NULL);
	ps__difference difference = step->dtype == PS_F64 ? ps__compare(number, &got, &want, &allowed)
	                                                  : ps__compare(number, &single[0], &single[1], &allowed);
	ps__outcome_begin(outcome, step->device, name, "", outcome->result.done, step->dtype);
	ps__outcome_compared(outcome, name, &difference);
	tell(step->config, outcome);
}

static ps_status compare_parameter(const struct step *step, const struct step *other, struct outcome *outcome,
                                   int index)
{
	ps_parameter_view view;
	ps_pipeline_get_parameter(step->pipeline, index, &view);
	size_t bytes = (size_t)ps_tensor_count(view.value) * ps_dtype_bytes(view.value.dtype);
	void *got = malloc(bytes), *want = malloc(bytes);
	ps_status status = got && want ? PS_OK : ps_fail(PS_ENOMEM, "no memory for parameter %s", view.name);
	if (status == PS_OK)
		status = ps_pipeline_read_parameter(step->pipeline, index, got);
	if (status == PS_OK)
		status = ps_pipeline_read_parameter(other->pipeline, index, want);
	ps__outcome_begin(outcome, step->device, "updated parameters", view.name, outcome->result.done, step->dtype);
	if (status == PS_OK) {
		/* A relu input that rounding puts on the other side of 0 changes whole terms of a gradient. */
		const ps__tolerance tolerance = {.f32 = 1e-2, .f64 = 1e-11};
		ps__difference difference = ps__compare(view.value, got, want, &tolerance);
		ps__outcome_compared(outcome, view.name, &difference);
		tell(step->config, outcome);
	}
	free(got);
	free(want);
	return status;
}

/* One device in one dtype; the other device's step has been run already. */
static void check_device(struct step *step, const struct step *other, ps_status other_status)
{
	struct outcome *outcome = step->outcome;
	ps_status status = other_status == PS_OK ? run(step) : other_status;
	if (status == PS_OK) {
		compare_number(step, outcome, "loss", step->loss, other->loss, 1e-5);
		compare_number(step, outcome, "gradient norm", step->norm, other->norm, 1e-4);
	}
	for (int i = 0; status == PS_OK && i < ps_pipeline_parameter_count(step->pipeline); i++)
		status = compare_parameter(step, other, outcome, i);
	if (status != PS_OK) {
		ps__outcome_begin(outcome, step->device, "step", "", outcome->result.done, step->dtype);
		ps__outcome_failed(outcome, status);
		tell(step->config, outcome);
	}
	finish(step);
}

ps_status ps_verify_step(const ps_verify_config *config)
{
	const ps_verify_model *sizes = config->model ? config->model : &tiny;
	struct outcome outcome = {0};
	for (int dtype = PS_F32; dtype <= PS_F64; dtype++) {
		struct step other = {
		        .config = config, .sizes = sizes, .device = ps__against(config), .dtype = (ps_dtype)dtype};
		ps_status status = run(&other);
		/* Sizes that no device could take. */
		bool wrong = status == PS_EINVAL;
		for (int i = 0; i < config->device_count && !wrong; i++) {
			struct step step = {.config = config,
			                    .sizes = sizes,
			                    .outcome = &outcome,
			                    .device = config->devices[i],
			                    .dtype = (ps_dtype)dtype};
			check_device(&step, &other, status);
		}
		finish(&other);
		if (wrong)
			return status;
	}
	return PS_OK;
}
