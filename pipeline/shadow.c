/* Life of shadow checks: what they need, when a step is checked, and what was found. */
#include "pipeline/shadow.h"

#include "core/platform.h"

#include <stdio.h>
#include <stdlib.h>

#define DEFAULT_POOL_BYTES (UINT64_C(256) << 20)

static ps_status check_config(const ps_pipeline *pipeline)
{
	const ps_shadow_config *config = &pipeline->config.shadow;
	for (int i = 0; i < config->stage_count; i++) {
		if (config->stages[i].stage < 0 || config->stages[i].stage >= pipeline->stage_count)
			return ps_fail(PS_EINVAL, "there is no stage %d to be checked; the pipeline has stages 0 to %d",
			               config->stages[i].stage, pipeline->stage_count - 1);
		if (config->stages[i].every < 0)
			return ps_fail(PS_EINVAL, "stage %d cannot be checked every %d steps; give 1 or more",
			               config->stages[i].stage, config->stages[i].every);
	}
	return PS_OK;
}

static ps_status add_unchanging(struct shadowed_stage *stage, ps_tensor tensor)
{
	if (!ps_tensor_present(tensor))
		return PS_OK;
	struct unchanging *own = &stage->unchanging[stage->unchanging_count++];
	own->tensor = tensor;
	own->values = malloc((size_t)ps__tensor_extent(tensor));
	return own->values ? PS_OK : ps_fail(PS_ENOMEM, "out of memory for the weights of a stage that is checked");
}

/* Makes room for the host's copies of a stage's weights and constants. */
static ps_status add_stage(struct ps__shadow *shadow, int s, int every)
{
	const ps_pipeline *pipeline = shadow->pipeline;
	const struct stage *stage = &pipeline->stages[s];
	struct shadowed_stage *own = &shadow->stages[s];
	bool known = own->every > 0;
	own->every = every > 0 ? every : 1;
	if (known)
		return PS_OK;
	size_t count = 0;
	for (int l = stage->first; l < stage->first + stage->count; l++)
		count += (size_t)pipeline->config.layers[l]->parameter_count + PS_MAX_SLOTS;
	own->unchanging = calloc(count + 1, sizeof *own->unchanging);
	if (!own->unchanging)
		return ps_fail(PS_ENOMEM, "out of memory for a stage that is checked");
	for (int l = stage->first; l < stage->first + stage->count; l++) {
		for (int i = 0; i < pipeline->config.layers[l]->parameter_count; i++)
			PS_TRY(add_unchanging(own, pipeline->memory[l].parameters[i]));
		for (int i = 0; i < PS_MAX_SLOTS; i++)
			PS_TRY(add_unchanging(own, pipeline->memory[l].constants[i]));
	}
	return PS_OK;
}

static ps_status open_against(struct ps__shadow *shadow)
{
	const ps_pipeline_config *config = &shadow->pipeline->config;
	const char *name = config->shadow.against ? config->shadow.against : "ref";
	ps_status status = config->open_device
	                           ? config->open_device(config->open_device_payload, &shadow->against, name)
	                           : ps_device_open(&shadow->against, name);
	if (status == PS_OK)
		status = ps_queue_create(&shadow->queue, shadow->against, "shadow");
	/* Products of another precision would differ by more than any op may. */
	if (status == PS_OK)
		status = ps_queue_set_math(shadow->queue, config->math);
	return status == PS_OK ? PS_OK : ps_fail_context(status, "the device that checks");
}

static ps_status set_up(struct ps__shadow *shadow)
{
	const ps_pipeline *pipeline = shadow->pipeline;
	const ps_shadow_config *config = &pipeline->config.shadow;
	shadow->stages = calloc((size_t)pipeline->stage_count, sizeof *shadow->stages);
	shadow->copy_s = calloc((size_t)pipeline->rank_count, sizeof *shadow->copy_s);
	if (!shadow->stages || !shadow->copy_s)
		return ps_fail(PS_ENOMEM, "out of memory for shadow checks");
	for (int i = 0; i < config->stage_count; i++)
		PS_TRY(add_stage(shadow, config->stages[i].stage, config->stages[i].every));
	PS_TRY(ps__pool_grow(&shadow->pool, config->pool_bytes ? config->pool_bytes : DEFAULT_POOL_BYTES));
	return open_against(shadow);
}

static void free_parts(struct ps__shadow *shadow)
{
	ps_queue_destroy(shadow->queue);
	for (int i = 0; i < PS_MAX_OPERANDS; i++) {
		ps_buffer_destroy(shadow->buffers[i]);
		free(shadow->wanted[i]);
	}
	ps_device_close(shadow->against);
	for (int s = 0; s < shadow->pipeline->stage_count && shadow->stages; s++) {
		for (int i = 0; i < shadow->stages[s].unchanging_count; i++)
			free(shadow->stages[s].unchanging[i].values);
		free(shadow->stages[s].unchanging);
	}
	free(shadow->stages);
	free(shadow->copy_s);
	free(shadow->pool.memory);
	free(shadow);
}

ps_status ps__shadow_create(ps_pipeline *pipeline)
{
	if (!pipeline->config.shadow.stage_count)
		return PS_OK;
	PS_TRY(check_config(pipeline));
	struct ps__shadow *shadow = calloc(1, sizeof *shadow);
	if (!shadow)
		return ps_fail(PS_ENOMEM, "out of memory for shadow checks");
	shadow->pipeline = pipeline;
	ps_status status = set_up(shadow);
	if (status == PS_OK && pthread_mutex_init(&shadow->mutex, NULL))
		status = ps_fail(PS_ENOMEM, "cannot create a mutex");
	if (status != PS_OK) {
		free_parts(shadow);
		return status;
	}
	if (ps__condition_init(&shadow->changed)) {
		status = ps_fail(PS_ENOMEM, "cannot create a condition variable");
	} else if (pthread_create(&shadow->thread, NULL, ps__shadow_main, shadow)) {
		status = ps_fail(PS_ENOMEM, "cannot start the thread of shadow checks");
		pthread_cond_destroy(&shadow->changed);
	}
	if (status != PS_OK) {
		pthread_mutex_destroy(&shadow->mutex);
		free_parts(shadow);
		return status;
	}
	pipeline->shadow = shadow;
	return PS_OK;
}

void ps__shadow_destroy(struct ps__shadow *shadow)
{
	if (!shadow)
		return;
	pthread_mutex_lock(&shadow->mutex);
	shadow->stop = true;
	pthread_cond_broadcast(&shadow->changed);
	pthread_mutex_unlock(&shadow->mutex);
	pthread_join(shadow->thread, NULL);
	pthread_cond_destroy(&shadow->changed);
	pthread_mutex_destroy(&shadow->mutex);
	free_parts(shadow);
}

/* Waits until no record is left. The caller holds the mutex. */
static void drain(struct ps__shadow *shadow)
{
	while (shadow->pool.first)
		ps__condition_wait(&shadow->changed, &shadow->mutex, -1);
}

/* What was found so far. The caller holds the mutex. */
static ps_status verdict(const struct ps__shadow *shadow, bool all)
{
	if (shadow->verdict == PS_OK ||
	    (!all && shadow->verdict == PS_EDIVERGED && shadow->pipeline->config.shadow.go_on))
		return PS_OK;
	return ps_fail(shadow->verdict, "%s", shadow->message);
}

ps_status ps__shadow_begin(ps_pipeline *pipeline, uint32_t step)
{
	struct ps__shadow *shadow = pipeline->shadow;
	shadow->step = step;
	shadow->active = false;
	for (int s = 0; s < pipeline->stage_count; s++) {
		struct shadowed_stage *stage = &shadow->stages[s];
		stage->active = stage->every > 0 && step % (uint32_t)stage->every == 0;
		shadow->active = shadow->active || stage->active;
		for (int i = 0; i < stage->unchanging_count; i++)
			stage->unchanging[i].copied = false;
	}
	pthread_mutex_lock(&shadow->mutex);
	int64_t begin = ps_clock_ns();
	/* The checks of the step before still use the copies of its weights. */
	if (shadow->active) {
		drain(shadow);
		shadow->report.wait_s += (double)(ps_clock_ns() - begin) * 1e-9;
	}
	ps_status status = verdict(shadow, false);
	pthread_mutex_unlock(&shadow->mutex);
	return status;
}

ps_status ps__shadow_end(ps_pipeline *pipeline, double seconds)
{
	struct ps__shadow *shadow = pipeline->shadow;
	pthread_mutex_lock(&shadow->mutex);
	*(shadow->active ? &shadow->report.checked_s : &shadow->report.unchecked_s) += seconds;
	++*(shadow->active ? &shadow->report.steps : &shadow->report.unchecked_steps);
	ps_status status = verdict(shadow, false);
	pthread_mutex_unlock(&shadow->mutex);
	return status;
}

void ps__shadow_rest(ps_pipeline *pipeline)
{
	pipeline->shadow->active = false;
	for (int s = 0; s < pipeline->stage_count; s++)
		pipeline->shadow->stages[s].active = false;
}

void ps__shadow_settle(ps_pipeline *pipeline)
{
	struct ps__shadow *shadow = pipeline->shadow;
	pthread_mutex_lock(&shadow->mutex);
	shadow->let_go = true;
	drain(shadow);
	shadow->let_go = false;
	pthread_mutex_unlock(&shadow->mutex);
	ps__shadow_rest(pipeline);
}

bool ps__shadow_checks(const ps_pipeline *pipeline, int stage)
{
	return pipeline->shadow && pipeline->shadow->stages[stage].active;
}

ps_status ps_pipeline_shadow_finish(ps_pipeline *pipeline)
{
	struct ps__shadow *shadow = pipeline->shadow;
	if (!shadow)
		return PS_OK;
	if (pipeline->stalled)
		return ps_fail(PS_ESTALL, "the pipeline has stalled, and its checks cannot come to an end");
	pthread_mutex_lock(&shadow->mutex);
	drain(shadow);
	ps_status status = verdict(shadow, true);
	pthread_mutex_unlock(&shadow->mutex);
	return status;
}

void ps_pipeline_get_shadow(const ps_pipeline *pipeline, ps_shadow_report *out)
{
	struct ps__shadow *shadow = pipeline->shadow;
	*out = (ps_shadow_report){0};
	if (!shadow)
		return;
	pthread_mutex_lock(&shadow->mutex);
	*out = shadow->report;
	for (int r = 0; r < pipeline->rank_count; r++)
		out->copy_s = shadow->copy_s[r] > out->copy_s ? shadow->copy_s[r] : out->copy_s;
	pthread_mutex_unlock(&shadow->mutex);
}
