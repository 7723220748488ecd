/* The trainer: epochs of steps, validation after each, the test at the end. */
#include "train/trainer_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static ps_status init_batches(ps_trainer *trainer)
{
	const ps_trainer_config *config = &trainer->config;
	for (int s = 0; s < PS_SPLIT_COUNT; s++) {
		if (config->splits[s].count == 0 && s != PS_SPLIT_TRAIN)
			continue;
		int64_t columns = s == PS_SPLIT_TRAIN ? config->batch_size : config->eval_batch_size;
		ps_status status = ps_batches_init(&trainer->batches[s], config->splits[s].tokens,
		                                   config->splits[s].count, columns, config->bptt);
		if (status != PS_OK)
			return ps_fail_context(status, "the %s split", ps_split_name((ps_split)s));
	}
	trainer->steps = ps_batches_count(&trainer->batches[PS_SPLIT_TRAIN]);
	if (config->steps_per_epoch > 0 && config->steps_per_epoch < trainer->steps)
		trainer->steps = config->steps_per_epoch;
	if (trainer->steps > (int64_t)UINT32_MAX / (config->epochs > 0 ? config->epochs : 1))
		return ps_fail(PS_EINVAL, "%d epochs of %" PRId64 " steps are more than 4294967295 steps",
		               config->epochs, trainer->steps);
	size_t elements = (size_t)(config->batch_size * config->bptt);
	trainer->inputs = malloc(elements * sizeof *trainer->inputs);
	trainer->targets = malloc(elements * sizeof *trainer->targets);
	if (trainer->inputs == NULL || trainer->targets == NULL)
		return ps_fail(PS_ENOMEM, "no memory for a batch of %zu tokens", elements);
	return PS_OK;
}

static ps_status load_weights(ps_pipeline *pipeline, const char *path)
{
	ps_safetensors *file;
	PS_TRY(ps_safetensors_open(&file, path));
	ps_status status = ps_weights_load(pipeline, file);
	ps_safetensors_close(file);
	return status;
}

static ps_status say_option(ps_status status, const char *resume)
{
	return status != PS_OK ? ps_fail_context(status, "%s", resume != NULL ? "--resume" : "--init") : PS_OK;
}

ps_status ps_start_check(const char *init, const char *resume)
{
	if (init != NULL && resume != NULL)
		return ps_fail(PS_EINVAL, "--init and --resume both give start weights; give one of them");
	if (init == NULL && resume == NULL)
		return PS_OK;
	ps_safetensors *file;
	PS_TRY(say_option(ps_safetensors_open(&file, resume != NULL ? resume : init), resume));
	ps_safetensors_close(file);
	return PS_OK;
}

static ps_status fill_weights(ps_trainer *trainer)
{
	const ps_trainer_config *config = &trainer->config;
	if (config->resume == NULL && config->init == NULL)
		return ps_pipeline_initialize(config->pipeline);
	ps_status status =
	        config->resume != NULL ? ps__checkpoint_resume(trainer) : load_weights(config->pipeline, config->init);
	return say_option(status, config->resume);
}

ps_status ps_trainer_create(ps_trainer **out, const ps_trainer_config *config)
{
	*out = NULL;
	if (config->epochs < 1)
		return ps_fail(PS_EINVAL, "%d epochs; train for at least 1", config->epochs);
	PS_TRY(ps_start_check(config->init, config->resume));
	ps_trainer *trainer = calloc(1, sizeof *trainer);
	if (trainer == NULL)
		return ps_fail(PS_ENOMEM, "no memory for a trainer");
	trainer->config = *config;
	trainer->state = (ps__train_state){.epoch = 1, .best_loss = INFINITY};
	ps_status status = init_batches(trainer);
	if (status == PS_OK)
		status = ps__facts_init(trainer);
	if (status == PS_OK)
		status = ps_sgd_create(&trainer->sgd, config->pipeline);
	if (status == PS_OK)
		status = fill_weights(trainer);
	if (status != PS_OK) {
		ps_trainer_destroy(trainer);
		return status;
	}
	trainer->lr = ps_step_lr(config->lr, config->lr_decay, trainer->state.epoch);
	*out = trainer;
	return PS_OK;
}

void ps_trainer_destroy(ps_trainer *trainer)
{
	if (trainer == NULL)
		return;
	ps__best_finish(trainer);
	ps_sgd_destroy(trainer->sgd);
	free(trainer->inputs);
	free(trainer->targets);
	free(trainer->facts);
	free(trainer->fact_texts);
	free(trainer);
}

int64_t ps_trainer_steps_per_epoch(const ps_trainer *trainer)
{
	return trainer->steps;
}

int64_t ps_trainer_done(const ps_trainer *trainer)
{
	return trainer->state.done;
}

static bool stopped(const ps_trainer *trainer)
{
	const ps_observer *observer = &trainer->config.observer;
	return observer->stop != NULL && observer->stop(observer->payload);
}

/* Is a window complete after this step? The published tutorial counts steps from 0 and prints no rest. */
static bool window_ends(const ps_trainer *trainer)
{
	int64_t step = trainer->state.step, interval = trainer->config.log_interval;
	if (interval < 1)
		return false;
	if (trainer->config.mistakes.first_window)
		return step > 1 && (step - 1) % interval == 0;
	return step % interval == 0 || step == trainer->steps;
}

static ps_status report_window(ps_trainer *trainer)
{
	const ps_trainer_config *config = &trainer->config;
	ps__train_state *state = &trainer->state;
	double milliseconds = trainer->window_seconds * 1e3;
	ps_window_report report = {
	        .epoch = state->epoch, .batch = state->step, .batches = trainer->steps, .lr = trainer->lr};
	if (config->mistakes.first_window) {
		const ps_batches *batches = &trainer->batches[PS_SPLIT_TRAIN];
		int64_t rows = batches->length - 1;
		if (config->steps_per_epoch > 0 && config->steps_per_epoch < rows / config->bptt)
			rows = config->steps_per_epoch * config->bptt;
		report.batch = state->step - 1;
		report.batches = rows / config->bptt;
		report.loss = state->window.loss_sum / config->log_interval;
		report.ms_per_batch = milliseconds / config->log_interval;
	} else {
		report.loss = state->window.token_loss_sum / (double)state->window.tokens;
		report.ms_per_batch = milliseconds / (double)trainer->window_timed;
	}
	if (config->mistakes.printed_rate && state->epoch > 1)
		report.lr *= config->lr_decay;
	memset(&state->window, 0, sizeof state->window);
	trainer->window_seconds = 0;
	trainer->window_timed = 0;
	return config->observer.window != NULL ? config->observer.window(config->observer.payload, &report) : PS_OK;
}

/* Of a step that failed. What a shadow finds belongs to an earlier one, which it names. */
static ps_status with_step(ps_status status, const ps_step_report *report)
{
	if (status != PS_OK && status != PS_EDIVERGED)
		ps_fail_context(status, "epoch %d, step %" PRId64, report->epoch, report->step);
	return status;
}

/* A step that is on its way, and what is known of it. */
struct started_step {
	ps_step_report report;
	int64_t begin_ns;
};

/* Puts the batch of a step, counted from 0, on its way. */
static ps_status begin_step(ps_trainer *trainer, int64_t step, struct started_step *started)
{
	const ps_trainer_config *config = &trainer->config;
	const ps__train_state *state = &trainer->state;
	const ps_batches *batches = &trainer->batches[PS_SPLIT_TRAIN];
	int64_t done = state->done + (step - state->step);
	ps_batch batch = {.inputs = trainer->inputs,
	                  .targets = trainer->targets,
	                  .rows = config->batch_size,
	                  .step = (uint32_t)done};
	started->begin_ns = ps_clock_ns();
	if (config->mistakes.misaligned_targets)
		PS_TRY(ps_batches_get_as_published(batches, step, trainer->inputs, trainer->targets, &batch.time));
	else
		PS_TRY(ps_batches_get(batches, step, trainer->inputs, trainer->targets, &batch.time));
	started->report = (ps_step_report){.epoch = state->epoch,
	                                   .step = step + 1,
	                                   .steps = trainer->steps,
	                                   .done = done + 1,
	                                   .all_steps = config->epochs * trainer->steps,
	                                   .lr = trainer->lr,
	                                   .tokens = batch.rows * batch.time};
	return with_step(ps_pipeline_submit(config->pipeline, &batch), &started->report);
}

static ps_status collect_loss(const ps_trainer *trainer, struct started_step *started)
{
	return with_step(ps_pipeline_collect(trainer->config.pipeline, &started->report.loss), &started->report);
}

static ps_status submit_update(const ps_trainer *trainer, const struct started_step *started)
{
	return with_step(ps_sgd_submit(trainer->sgd, trainer->lr, trainer->config.clip), &started->report);
}

/* Waits for the update, and reports the step. */
static ps_status end_step(ps_trainer *trainer, struct started_step *started)
{
	const ps_trainer_config *config = &trainer->config;
	ps__train_state *state = &trainer->state;
	ps_step_report *report = &started->report;
	PS_TRY(with_step(ps_sgd_collect(trainer->sgd, &report->grad_norm), report));
	int64_t end = ps_clock_ns();
	int64_t begin = started->begin_ns > trainer->step_end_ns ? started->begin_ns : trainer->step_end_ns;
	report->seconds = (double)(end - begin) * 1e-9;
	trainer->step_end_ns = end;
	state->step++;
	state->done++;
	state->window.steps++;
	state->window.tokens += report->tokens;
	state->window.loss_sum += report->loss;
	state->window.token_loss_sum += report->loss * (double)report->tokens;
	trainer->window_seconds += report->seconds;
	trainer->window_timed++;
	if (config->observer.step != NULL)
		PS_TRY(config->observer.step(config->observer.payload, report));
	return window_ends(trainer) ? report_window(trainer) : PS_OK;
}

static ps_status end_and_ask(ps_trainer *trainer, struct started_step *started, bool *whole)
{
	PS_TRY(end_step(trainer, started));
	*whole = !stopped(trainer);
	return PS_OK;
}

/* Each step is waited for. */
static ps_status run_one_by_one(ps_trainer *trainer, bool *whole)
{
	struct started_step step;
	while (*whole && trainer->state.step < trainer->steps) {
		PS_TRY(ps__best_before_change(trainer));
		PS_TRY(begin_step(trainer, trainer->state.step, &step));
		PS_TRY(collect_loss(trainer, &step));
		PS_TRY(submit_update(trainer, &step));
		PS_TRY(end_and_ask(trainer, &step, whole));
	}
	return PS_OK;
}

/*
 * Each step is put on its way before the one before it is reported, so that the devices go from one to the next without
 * waiting for the host. A run that is stopped then ends with the step that was reported: the one behind it has changed
 * no weights, and whatever becomes of it is nobody's concern.
 */
static ps_status run_ahead(ps_trainer *trainer, bool *whole)
{
	struct started_step steps[2];
	int64_t begun = trainer->state.step;
	while (begun < trainer->steps) {
		struct started_step *step = &steps[begun % 2], *before = &steps[(begun + 1) % 2];
		PS_TRY(ps__best_before_change(trainer));
		PS_TRY(begin_step(trainer, begun, step));
		if (trainer->state.step < begun) {
			PS_TRY(collect_loss(trainer, before));
			PS_TRY(end_and_ask(trainer, before, whole));
		}
		if (!*whole) {
			(void)collect_loss(trainer, step);
			return PS_OK;
		}
		PS_TRY(submit_update(trainer, step));
		begun++;
	}
	if (trainer->state.step == begun)
		return PS_OK;
	struct started_step *last = &steps[(begun + 1) % 2];
	PS_TRY(collect_loss(trainer, last));
	return end_and_ask(trainer, last, whole);
}

static ps_status run_evaluation(ps_trainer *trainer, ps_split split, ps_eval_report *report, bool *whole)
{
	const ps_trainer_config *config = &trainer->config;
	ps_evaluation result;
	ps_status status = ps_evaluate(config->pipeline, &trainer->batches[split], config->eval_steps,
	                               &config->mistakes, config->observer.stop, config->observer.payload, &result);
	if (status != PS_OK)
		return ps_fail_context(status, "the %s split after epoch %d", ps_split_name(split), report->epoch);
	report->split = split;
	report->loss = result.loss;
	report->seconds = result.seconds;
	*whole = !stopped(trainer);
	return PS_OK;
}

/* Validates, keeps the weights if they are the best, and goes on to the next epoch. */
static ps_status end_epoch(ps_trainer *trainer, int64_t epoch_begin, bool *whole)
{
	ps__train_state *state = &trainer->state;
	const ps_observer *observer = &trainer->config.observer;
	ps_eval_report report = {.epoch = state->epoch};
	*whole = true;
	if (trainer->batches[PS_SPLIT_VALID].tokens != NULL) {
		PS_TRY(run_evaluation(trainer, PS_SPLIT_VALID, &report, whole));
		if (!*whole)
			return PS_OK;
		report.best = report.loss < state->best_loss;
		report.seconds = (double)(ps_clock_ns() - epoch_begin) * 1e-9;
		if (report.best) {
			state->best_loss = report.loss;
			state->best_epoch = state->epoch;
			PS_TRY(ps__best_keep(trainer));
		}
		if (observer->evaluation != NULL)
			PS_TRY(observer->evaluation(observer->payload, &report));
	}
	state->epoch++;
	state->step = 0;
	memset(&state->window, 0, sizeof state->window);
	trainer->window_seconds = 0;
	trainer->window_timed = 0;
	trainer->lr *= trainer->config.lr_decay;
	return PS_OK;
}

static ps_status test(ps_trainer *trainer, ps_train_result *out)
{
	const ps_observer *observer = &trainer->config.observer;
	PS_TRY(ps__best_restore(trainer));
	if (trainer->batches[PS_SPLIT_TEST].tokens == NULL)
		return PS_OK;
	ps_eval_report report = {.epoch = trainer->state.epoch - 1};
	bool whole = false;
	PS_TRY(run_evaluation(trainer, PS_SPLIT_TEST, &report, &whole));
	out->interrupted = !whole;
	if (!whole)
		return PS_OK;
	out->test_loss = report.loss;
	return observer->evaluation != NULL ? observer->evaluation(observer->payload, &report) : PS_OK;
}

/* All epochs that are left; *whole is false when the observer stopped them. */
static ps_status run_epochs(ps_trainer *trainer, bool *whole)
{
	ps__train_state *state = &trainer->state;
	bool ahead = ps_pipeline_most_in_flight(trainer->config.pipeline) > 1;
	*whole = !stopped(trainer);
	while (*whole && state->epoch <= trainer->config.epochs) {
		int64_t begin = ps_clock_ns();
		PS_TRY(ahead ? run_ahead(trainer, whole) : run_one_by_one(trainer, whole));
		/* Nothing is validated or saved that a check may still find wrong. */
		PS_TRY(ps_pipeline_shadow_finish(trainer->config.pipeline));
		if (*whole)
			PS_TRY(end_epoch(trainer, begin, whole));
		*whole = *whole && !stopped(trainer);
		/* A run that is cut off can go on from here; the end of the last epoch is saved by the caller. */
		if (*whole && trainer->config.save_last != NULL && state->epoch <= trainer->config.epochs)
			PS_TRY(ps__checkpoint_save(trainer));
	}
	return PS_OK;
}

ps_status ps_trainer_run(ps_trainer *trainer, ps_train_result *out)
{
	const ps__train_state *state = &trainer->state;
	ps_train_result result = {.test_loss = NAN};
	bool whole;
	PS_TRY(run_epochs(trainer, &whole));
	/* Before the test, for which the best weights take the place of the last. */
	if (trainer->config.save_last != NULL)
		PS_TRY(ps__checkpoint_save(trainer));
	result.interrupted = !whole;
	if (whole)
		PS_TRY(test(trainer, &result));
	result.steps = state->done;
	result.best_epoch = state->best_epoch;
	result.best_loss = state->best_loss;
	result.saved = trainer->saved;
	result.saved_last = trainer->saved_last;
	*out = result;
	return PS_OK;
}
