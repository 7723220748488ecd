/*
 * The best weights, a real copy of them: in the file of `save` where there is one, else in host memory. As long as
 * nothing has changed the live weights since, they are their own copy, so that a run whose last epoch is its best, or
 * that has one epoch, needs no memory for a second one.
 */
#include "train/json.h"
#include "train/trainer_internal.h"

#include "core/platform.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

bool ps__best_in_memory(const ps_trainer *trainer)
{
	return trainer->config.save == NULL && !trainer->config.mistakes.best_is_last;
}

/* Does the copy fit beside what the pipeline has planned? */
static ps_status check_memory(const ps_trainer *trainer, uint64_t bytes)
{
	uint64_t limit = ps__memory_limit(), planned = 0;
	for (int r = 0; r < ps_pipeline_rank_count(trainer->config.pipeline); r++) {
		ps_rank_info info;
		ps_pipeline_get_rank(trainer->config.pipeline, r, &info);
		if (ps_device_get_info(info.device)->host_addressable)
			planned += info.peak_bytes;
	}
	if (limit == 0 || planned + bytes <= limit)
		return PS_OK;
	return ps_fail(PS_ETOOBIG,
	               "a copy of the best weights takes %" PRIu64 " MiB beside the %" PRIu64
	               " MiB of training, %" PRIu64 " MiB are here; give --save FILE, which keeps them there",
	               bytes >> 20, planned >> 20, limit >> 20);
}

static ps_status allocate(ps_trainer *trainer)
{
	ps_pipeline *pipeline = trainer->config.pipeline;
	int count = ps_pipeline_parameter_count(pipeline);
	uint64_t bytes = ps__weights_bytes(pipeline);
	PS_TRY(check_memory(trainer, bytes));
	trainer->copies = calloc((size_t)count, sizeof *trainer->copies);
	for (int i = 0; trainer->copies != NULL && i < count; i++) {
		ps_saved_tensor tensor;
		char name[PS__WEIGHT_NAME_BYTES];
		ps__weights_describe(pipeline, i, "", &tensor, name);
		trainer->copies[i] = malloc(tensor.bytes);
		if (trainer->copies[i] == NULL)
			return ps_fail(PS_ENOMEM, "no memory for a copy of the best weights (%" PRIu64 " MiB)",
			               bytes >> 20);
	}
	if (trainer->copies == NULL)
		return ps_fail(PS_ENOMEM, "no memory for a copy of the best weights");
	return PS_OK;
}

/* The file of `save`, with the epoch and the loss that made these weights the best. */
static ps_status save_best(ps_trainer *trainer)
{
	ps_metadata *facts = calloc((size_t)trainer->fact_count + 2, sizeof *facts);
	if (facts == NULL)
		return ps_fail(PS_ENOMEM, "%s: no memory to save it", trainer->config.save);
	char epoch[32], loss[32];
	snprintf(epoch, sizeof epoch, "%d", trainer->state.best_epoch);
	for (int i = 0; i < trainer->fact_count; i++)
		facts[i] = trainer->facts[i];
	facts[trainer->fact_count] = (ps_metadata){"epoch", epoch};
	facts[trainer->fact_count + 1] = (ps_metadata){"valid-loss", ps__real_text(trainer->state.best_loss, loss)};
	ps_status status =
	        ps_weights_save(trainer->config.pipeline, trainer->config.save, facts, trainer->fact_count + 2);
	free(facts);
	trainer->saved = trainer->saved || status == PS_OK;
	return status;
}

ps_status ps__best_keep(ps_trainer *trainer)
{
	if (trainer->config.save != NULL) {
		PS_TRY(save_best(trainer));
		trainer->best = PS__BEST_FILE;
	} else if (ps__best_in_memory(trainer)) {
		trainer->best = PS__BEST_LIVE;
	}
	return PS_OK;
}

ps_status ps__best_before_change(ps_trainer *trainer)
{
	if (trainer->best != PS__BEST_LIVE)
		return PS_OK;
	if (trainer->copies == NULL)
		PS_TRY(allocate(trainer));
	for (int i = 0; i < ps_pipeline_parameter_count(trainer->config.pipeline); i++)
		PS_TRY(ps_pipeline_read_parameter(trainer->config.pipeline, i, trainer->copies[i]));
	trainer->best = PS__BEST_MEMORY;
	return PS_OK;
}

ps_status ps__best_restore(ps_trainer *trainer)
{
	ps_pipeline *pipeline = trainer->config.pipeline;
	if (trainer->config.mistakes.best_is_last)
		return PS_OK;
	if (trainer->best == PS__BEST_MEMORY) {
		for (int i = 0; i < ps_pipeline_parameter_count(pipeline); i++)
			PS_TRY(ps_pipeline_write_parameter(pipeline, i, trainer->copies[i]));
	} else if (trainer->best == PS__BEST_FILE) {
		ps_safetensors *file;
		PS_TRY(ps_safetensors_open(&file, trainer->config.save));
		ps_status status = ps_weights_load(pipeline, file);
		ps_safetensors_close(file);
		PS_TRY(status);
	}
	return PS_OK;
}

void ps__best_finish(ps_trainer *trainer)
{
	for (int i = 0; trainer->copies != NULL && i < ps_pipeline_parameter_count(trainer->config.pipeline); i++)
		free(trainer->copies[i]);
	free(trainer->copies);
	trainer->copies = NULL;
}
