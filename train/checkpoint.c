/*
 * The file of --save-last and --resume: all weights, and in its metadata the facts that a resumed run must share and,
 * as one JSON text under "state", the counters. No time and no path is in it, so that a resumed run's file equals the
 * uninterrupted one's byte for byte. Weights that are the best but no longer the live ones, and that no --save file
 * holds, are in it too, under PS_BEST_PREFIX.
 */
#include "train/json.h"
#include "train/trainer_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

ps_status ps__facts_init(ps_trainer *trainer)
{
	const ps_trainer_config *config = &trainer->config;
	const ps_mistakes *mistakes = &config->mistakes;
	const struct {
		const char *key;
		int64_t value;
	} integers[] = {{"batch-size", config->batch_size},
	                {"eval-batch-size", config->eval_batch_size},
	                {"bptt", config->bptt},
	                {"steps-per-epoch", config->steps_per_epoch},
	                {"eval-steps", config->eval_steps}};
	const struct {
		const char *key;
		double value;
	} reals[] = {{"lr", config->lr}, {"lr-decay", config->lr_decay}, {"clip", config->clip}};
	enum { INTEGERS = sizeof integers / sizeof *integers, REALS = sizeof reals / sizeof *reals };

	size_t own = INTEGERS + REALS + 2, all = own + (size_t)config->fact_count;
	trainer->facts = calloc(all, sizeof *trainer->facts);
	trainer->fact_texts = calloc(own, sizeof *trainer->fact_texts);
	if (trainer->facts == NULL || trainer->fact_texts == NULL)
		return ps_fail(PS_ENOMEM, "no memory for %zu facts of a run", all);
	int n = 0;
	for (int i = 0; i < INTEGERS; i++, n++) {
		snprintf(trainer->fact_texts[n], 32, "%" PRId64, integers[i].value);
		trainer->facts[n].key = integers[i].key;
	}
	for (int i = 0; i < REALS; i++, n++) {
		ps__real_text(reals[i].value, trainer->fact_texts[n]);
		trainer->facts[n].key = reals[i].key;
	}
	snprintf(trainer->fact_texts[n], 32, "%s%s%s%s%s", mistakes->misaligned_targets ? "1" : "",
	         mistakes->no_mask ? "2" : "", mistakes->evaluation_fraction ? "3" : "",
	         mistakes->first_window ? "4" : "", mistakes->best_is_last ? "6" : "");
	trainer->facts[n++].key = "mistakes";
	/* FNV-1a over the training tokens: another text must not pass for the one that the run began with. */
	uint64_t hash = UINT64_C(14695981039346656037);
	for (size_t i = 0; i < config->splits[PS_SPLIT_TRAIN].count; i++)
		hash = (hash ^ (uint32_t)config->splits[PS_SPLIT_TRAIN].tokens[i]) * UINT64_C(1099511628211);
	snprintf(trainer->fact_texts[n], 32, "%016" PRIx64, hash);
	trainer->facts[n++].key = "training-text";
	for (int i = 0; i < n; i++)
		trainer->facts[i].value = trainer->fact_texts[i];
	for (int i = 0; i < config->fact_count; i++)
		trainer->facts[n++] = config->facts[i];
	trainer->fact_count = n;
	return PS_OK;
}

static const char *place_name(ps__best_place place)
{
	switch (place) {
	case PS__BEST_NONE:
		return "none";
	case PS__BEST_LIVE:
		return "live";
	case PS__BEST_MEMORY:
		return "here";
	case PS__BEST_FILE:
		return "file";
	}
	return "none";
}

/* The state as JSON text, which the caller frees; NULL: no memory. */
static char *state_text(const ps_trainer *trainer)
{
	const ps__train_state *state = &trainer->state;
	json_t *best_loss = isfinite(state->best_loss) ? json_real(state->best_loss) : json_null();
	json_t *object =
	        json_pack("{s:i, s:i, s:I, s:I, s:i, s:o, s:s, s:I, s:I, s:f, s:f}", "version", 1, "epoch",
	                  state->epoch, "step", (json_int_t)state->step, "done", (json_int_t)state->done, "best_epoch",
	                  state->best_epoch, "best_loss", best_loss, "best", place_name(trainer->best), "window_steps",
	                  (json_int_t)state->window.steps, "window_tokens", (json_int_t)state->window.tokens,
	                  "window_loss", state->window.loss_sum, "window_token_loss", state->window.token_loss_sum);
	char *text = object == NULL ? NULL : ps__json_text(object, JSON_COMPACT);
	json_decref(object);
	return text;
}

ps_status ps__checkpoint_save(ps_trainer *trainer)
{
	const char *path = trainer->config.save_last;
	char *text = state_text(trainer);
	ps_metadata *facts = calloc((size_t)trainer->fact_count + 1, sizeof *facts);
	ps_status status = PS_OK;
	if (text == NULL || facts == NULL) {
		status = ps_fail(PS_ENOMEM, "%s: no memory to save it", path);
	} else {
		for (int i = 0; i < trainer->fact_count; i++)
			facts[i] = trainer->facts[i];
		facts[trainer->fact_count] = (ps_metadata){"state", text};
		status = ps__weights_save(trainer->config.pipeline, path, facts, trainer->fact_count + 1,
		                          trainer->best == PS__BEST_MEMORY ? trainer->copies : NULL);
		trainer->saved_last = status == PS_OK;
	}
	free(facts);
	free(text);
	return status;
}

/* The option that decides a fact, where it is another one than that of the fact's name. */
static const char *option_of(const char *key)
{
	return strcmp(key, "training-text") == 0 ? "data" : strcmp(key, "mistakes") == 0 ? "preset" : NULL;
}

/* A run can go on only as what it was. */
static ps_status check_facts(const ps_trainer *trainer, const ps_safetensors *file)
{
	for (int i = 0; i < trainer->fact_count; i++) {
		const char *path = ps_safetensors_path(file), *key = trainer->facts[i].key, *option = option_of(key);
		const char *saved = ps_safetensors_metadata(file, key);
		if (saved == NULL)
			return ps_fail(PS_EFORMAT, "%s: does not say its %s; give a file that --save-last wrote", path,
			               key);
		if (strcmp(saved, trainer->facts[i].value) == 0)
			continue;
		static const char ways[] = "give the same, or start a new run from its weights with --init";
		if (option != NULL)
			return ps_fail(PS_EINVAL, "%s: was saved with another --%s (%s); %s", path, option, key, ways);
		return ps_fail(PS_EINVAL, "%s: was saved with --%s %s, this run has %s; %s", path, key, saved,
		               trainer->facts[i].value, ways);
	}
	return PS_OK;
}

static ps_status read_state(ps_trainer *trainer, const ps_safetensors *file, const char **place, json_t *object)
{
	ps__train_state *state = &trainer->state;
	const ps_trainer_config *config = &trainer->config;
	const char *path = ps_safetensors_path(file);
	json_int_t step, done, window_steps, window_tokens;
	json_t *best_loss;
	int version;
	if (json_unpack(object, "{s:i, s:i, s:I, s:I, s:i, s:o, s:s, s:I, s:I, s:F, s:F}", "version", &version, "epoch",
	                &state->epoch, "step", &step, "done", &done, "best_epoch", &state->best_epoch, "best_loss",
	                &best_loss, "best", place, "window_steps", &window_steps, "window_tokens", &window_tokens,
	                "window_loss", &state->window.loss_sum, "window_token_loss",
	                &state->window.token_loss_sum) != 0 ||
	    version != 1)
		return ps_fail(PS_EFORMAT, "%s: its state is damaged or of another version", path);
	state->best_loss = json_is_null(best_loss) ? INFINITY : json_number_value(best_loss);
	state->step = step;
	state->done = done;
	state->window.steps = window_steps;
	state->window.tokens = window_tokens;
	if (state->epoch < 1 || step < 0 || step > trainer->steps ||
	    done != (int64_t)(state->epoch - 1) * trainer->steps + step)
		return ps_fail(PS_EFORMAT,
		               "%s: its counters (epoch %d, step %" PRId64 " of %" PRId64 ") do not fit together", path,
		               state->epoch, state->step, trainer->steps);
	if (state->epoch > config->epochs + 1 || (state->epoch == config->epochs + 1 && step > 0))
		return ps_fail(PS_EINVAL, "%s: was saved in epoch %d; --epochs %d is less than that", path,
		               state->epoch, config->epochs);
	return PS_OK;
}

/* The file of `save` must hold the best weights that the state speaks of. */
static ps_status check_best_file(const ps_trainer *trainer, const char *path)
{
	const char *save = trainer->config.save;
	if (save == NULL)
		return ps_fail(PS_EINVAL,
		               "%s: its best weights are in the file that --save named; give that --save again", path);
	ps_safetensors *best;
	PS_TRY(ps_safetensors_open(&best, save));
	char text[32];
	const char *loss = ps_safetensors_metadata(best, "valid-loss");
	bool same = loss != NULL && strcmp(loss, ps__real_text(trainer->state.best_loss, text)) == 0;
	ps_safetensors_close(best);
	return same ? PS_OK
	            : ps_fail(PS_EINVAL,
	                      "%s: does not hold the best weights of the run saved in %s (valid loss %s); give the "
	                      "--save of that run",
	                      save, path, text);
}

/* The best weights to where this run keeps them, and then the last ones into the pipeline. */
static ps_status restore_weights(ps_trainer *trainer, const ps_safetensors *file, const char *place)
{
	ps_pipeline *pipeline = trainer->config.pipeline;
	const char *path = ps_safetensors_path(file);
	if (strcmp(place, "here") == 0) {
		PS_TRY(ps__weights_load(pipeline, file, PS_BEST_PREFIX));
		PS_TRY(ps__best_keep(trainer));
		PS_TRY(ps__best_before_change(trainer));
	} else if (strcmp(place, "file") == 0) {
		PS_TRY(check_best_file(trainer, path));
		trainer->best = PS__BEST_FILE;
	} else if (strcmp(place, "live") != 0 && strcmp(place, "none") != 0) {
		return ps_fail(PS_EFORMAT, "%s: its state is damaged: the best weights are in '%s'", path, place);
	}
	PS_TRY(ps_weights_load(pipeline, file));
	return strcmp(place, "live") == 0 ? ps__best_keep(trainer) : PS_OK;
}

ps_status ps__checkpoint_resume(ps_trainer *trainer)
{
	ps_safetensors *file;
	PS_TRY(ps_safetensors_open(&file, trainer->config.resume));
	const char *text = ps_safetensors_metadata(file, "state"), *place = "none";
	json_t *object = text == NULL ? NULL : json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	ps_status status = PS_OK;
	if (object == NULL)
		status = ps_fail(PS_EFORMAT,
		                 "%s: has no state; give a file that --save-last wrote (--init takes "
		                 "any with the model's weights)",
		                 trainer->config.resume);
	if (status == PS_OK)
		status = check_facts(trainer, file);
	if (status == PS_OK)
		status = read_state(trainer, file, &place, object);
	if (status == PS_OK)
		status = restore_weights(trainer, file, place);
	json_decref(object);
	ps_safetensors_close(file);
	return status;
}
