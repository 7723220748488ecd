/* `penstock train`: options, setup, the trainer, and what is printed and logged of it. */
#include "tools/penstock/command.h"
#include "tools/penstock/progress.h"
#include "tools/penstock/setup.h"

#include "bench/measure.h"
#include "core/platform.h"
#include "train/json.h"
#include "train/log.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { RULE = 89, FACTS = 8 };

/* A run and where its reports go. */
struct run {
	run_options options;
	struct setup setup;
	ps_trainer *trainer;
	struct progress progress;
	ps__log *log;    /* may be NULL */
	ps_trace *trace; /* may be NULL */
	ps_metadata facts[FACTS];
	char fact_texts[FACTS][32];
	struct bench_samples steps; /* seconds of each, where they are predicted */
	int64_t begin_ns;
};

static void print_rule(char c)
{
	for (int i = 0; i < RULE; i++)
		putchar(c);
	putchar('\n');
}

static ps_status check_stdout(void)
{
	return ferror(stdout)
	               ? ps_fail(PS_EIO,
	                         "standard output could not be written to the end; what was to be saved has been")
	               : PS_OK;
}

/* Keeps the time of a step, to compare it with what was predicted. */
static ps_status keep_time(struct run *run, double seconds)
{
	return setup_measures(&run->options) ? bench_samples_add(&run->steps, seconds) : PS_OK;
}

static ps_status on_step(void *payload, const ps_step_report *report)
{
	struct run *run = payload;
	PS_TRY(keep_time(run, report->seconds));
	progress_step(&run->progress, report);
	if (run->log != NULL)
		PS_TRY(ps__log_step(run->log, report));
	return run->trace != NULL ? ps_trace_add(run->trace, run->setup.pipeline, report->done) : PS_OK;
}

static ps_status on_window(void *payload, const ps_window_report *report)
{
	struct run *run = payload;
	char text[PS_LINE_BYTES];
	progress_line_clear(&run->progress.line);
	puts(ps_window_line(report, text));
	return PS_OK;
}

static ps_status on_evaluation(void *payload, const ps_eval_report *report)
{
	struct run *run = payload;
	char text[PS_LINE_BYTES], rule = report->split == PS_SPLIT_TEST ? '=' : '-';
	progress_line_clear(&run->progress.line);
	print_rule(rule);
	puts(ps_eval_line(report, text));
	print_rule(rule);
	return run->log != NULL ? ps__log_evaluation(run->log, report) : PS_OK;
}

static bool on_stop(void *payload)
{
	(void)payload;
	return interrupt_seen() || ferror(stdout);
}

/* Two outputs in one file would destroy each other. */
static ps_status check_outputs(const run_options *options)
{
	const struct {
		const char *name, *path;
	} outputs[] = {{"save", options->save},
	               {"save-last", options->save_last},
	               {"log", options->log},
	               {"trace", options->trace}};
	enum { COUNT = sizeof outputs / sizeof *outputs };
	for (int i = 0; i < COUNT; i++) {
		if (outputs[i].path == NULL)
			continue;
		ps_status status = ps_output_check(outputs[i].path);
		if (status != PS_OK)
			return ps_fail_context(status, "--%s", outputs[i].name);
		for (int j = 0; j < i; j++) {
			struct stat a, b;
			const char *one = outputs[i].path, *other = outputs[j].path;
			if (other != NULL &&
			    (strcmp(one, other) == 0 || (stat(one, &a) == 0 && stat(other, &b) == 0 &&
			                                 a.st_dev == b.st_dev && a.st_ino == b.st_ino)))
				return ps_fail(PS_EINVAL, "--%s and --%s both name %s; give two files", outputs[j].name,
				               outputs[i].name, one);
		}
	}
	return PS_OK;
}

static void set_facts(struct run *run)
{
	const run_options *o = &run->options;
	int n = 0;
#define FACT(name, ...)                                                               \
	do {                                                                          \
		snprintf(run->fact_texts[n], sizeof run->fact_texts[n], __VA_ARGS__); \
		run->facts[n] = (ps_metadata){(name), run->fact_texts[n]};            \
		n++;                                                                  \
	} while (0)
	FACT("emsize", "%" PRId64, o->emsize);
	FACT("nhead", "%" PRId64, o->nhead);
	FACT("nhid", "%" PRId64, o->nhid);
	FACT("nlayers", "%" PRId64, o->nlayers);
	FACT("dropout", "%.9g", o->dropout);
	FACT("mask", "%s", o->mask == MASK_CAUSAL ? "causal" : "none");
	FACT("seed", "%" PRIu64, o->seed);
	FACT("dtype", "%s", ps_pipeline_precision(run->setup.pipeline));
#undef FACT
}

static ps_status create_trainer(struct run *run)
{
	const run_options *o = &run->options;
	ps_trainer_config config = {.pipeline = run->setup.pipeline,
	                            .batch_size = o->batch_size,
	                            .eval_batch_size = o->eval_batch_size,
	                            .bptt = o->bptt,
	                            .epochs = (int)o->epochs,
	                            .steps_per_epoch = o->steps_per_epoch,
	                            .eval_steps = o->eval_steps,
	                            .lr = o->lr,
	                            .lr_decay = o->lr_decay,
	                            .clip = o->clip,
	                            .log_interval = (int)o->log_interval,
	                            .mistakes = o->mistakes,
	                            .init = o->init,
	                            .save = o->save,
	                            .save_last = o->save_last,
	                            .resume = o->resume,
	                            .facts = run->facts,
	                            .fact_count = FACTS,
	                            .observer = {on_step, on_window, on_evaluation, on_stop, run}};
	for (int s = 0; s < PS_SPLIT_COUNT; s++)
		config.splits[s].tokens = ps_corpus_tokens(run->setup.corpus, (ps_split)s, &config.splits[s].count);
	set_facts(run);
	return ps_trainer_create(&run->trainer, &config);
}

/* 1,444,261,998 */
static const char *grouped(int64_t number, char text[32])
{
	char plain[32];
	int length = snprintf(plain, sizeof plain, "%" PRId64, number), at = 0;
	for (int i = 0; i < length; i++) {
		if (i > 0 && (length - i) % 3 == 0)
			text[at++] = ',';
		text[at++] = plain[i];
	}
	text[at] = '\0';
	return text;
}

/* One object for each device, with the numbers of its stages. */
static json_t *stages_json(const ps_pipeline *pipeline)
{
	json_t *stages = json_array();
	for (int r = 0; r < ps_pipeline_rank_count(pipeline); r++) {
		ps_rank_info info;
		ps_pipeline_get_rank(pipeline, r, &info);
		json_t *numbers = json_array();
		for (int i = 0; i < info.stage_count; i++)
			(void)json_array_append_new(numbers, json_integer(info.stages[i]));
		json_t *stage = json_pack("{s:s, s:o, s:i, s:I, s:I}", "device", info.device_name, "numbers", numbers,
		                          "units", info.units, "parameter_bytes", (json_int_t)info.parameter_bytes,
		                          "peak_bytes", (json_int_t)info.peak_bytes);
		/* Steals the stage in any case; a lost one shows as a failed line. */
		if (json_array_append_new(stages, stage) != 0) {
			json_decref(stages);
			return NULL;
		}
	}
	return stages;
}

static ps_status log_start(struct run *run)
{
	const ps_pipeline *pipeline = run->setup.pipeline;
	const int64_t *sizes;
	int count = ps_pipeline_micro_batches(pipeline, &sizes);
	json_t *event = json_pack("{s:s, s:I, s:o, s:o, s:i, s:i, s:I, s:o}", "event", "start", "parameters",
	                          (json_int_t)ps_pipeline_parameter_elements(pipeline), "stages", stages_json(pipeline),
	                          "links", links_json(pipeline), "micro_batches", count, "vocabulary",
	                          (int)ps_corpus_vocabulary(run->setup.corpus), "steps",
	                          (json_int_t)ps_trainer_steps_per_epoch(run->trainer), "entropy",
	                          ps__json_real(ps_corpus_entropy(run->setup.corpus)));
	json_t *options = options_json(&train_table, &run->options), *stages = json_object_get(event, "stages");
	if (event != NULL && options != NULL) {
		/* `stages` is both an option and what came of it; the latter is told. */
		json_incref(stages);
		int failed = json_object_update(event, options);
		failed |= json_object_set_new(event, "stages", stages);
		if (failed) {
			json_decref(event);
			event = NULL;
		}
	} else {
		json_decref(event);
		event = NULL;
	}
	json_decref(options);
	return ps__log_write(run->log, event);
}

static ps_status open_outputs(struct run *run)
{
	const run_options *o = &run->options;
	if (o->trace != NULL)
		PS_TRY(ps_trace_create(&run->trace, o->trace, run->setup.pipeline));
	if (o->log != NULL) {
		PS_TRY(ps__log_open(&run->log, o->log, o->resume != NULL));
		PS_TRY(log_start(run));
	}
	return PS_OK;
}

/* A preset of WikiText-2's sizes on the built-in text is seldom what was meant, and has fewer parameters. */
static void print_text(const struct run *run)
{
	const run_options *o = &run->options;
	char tokens[32], words[32];
	size_t count;
	bool built_in = strcmp(o->data, "sample") == 0;
	(void)ps_corpus_tokens(run->setup.corpus, PS_SPLIT_TRAIN, &count);
	fprintf(stderr, "text %s: %s tokens to train on, a vocabulary of %s%s\n", built_in ? "built in" : o->data,
	        grouped((int64_t)count, tokens), grouped(ps_corpus_vocabulary(run->setup.corpus), words),
	        built_in && o->preset != PRESET_DEFAULT ? "; --data wikitext-2 is what this preset is for" : "");
}

static void print_start(struct run *run)
{
	char text[32];
	if (run->options.preset == PRESET_AS_PUBLISHED)
		puts("The tutorial as published, with its mistakes: targets that do not line up, no mask, a fraction "
		     "of the "
		     "validation loss, eleven steps counted as ten, the next epoch's rate printed, the last model "
		     "tested as "
		     "the best");
	printf("Total parameters in model: %s\n", grouped(ps_pipeline_parameter_elements(run->setup.pipeline), text));
	print_text(run);
	setup_print_plan(&run->setup, stderr);
}

static void print_entropy(const struct run *run, const ps_train_result *result)
{
	double entropy = ps_corpus_entropy(run->setup.corpus);
	/* A fraction of a loss compares with nothing. */
	if (isnan(entropy) || isnan(result->test_loss) || run->options.mistakes.evaluation_fraction)
		return;
	double above = (result->test_loss / entropy - 1) * 100;
	printf("entropy of the source %.4f nats; reached %.4f, %.1f %% %s\n", entropy, result->test_loss, fabs(above),
	       above < 0 ? "below" : "above");
}

static void print_shadow(const struct run *run)
{
	ps_shadow_report report;
	if (run->setup.shadow_count == 0)
		return;
	ps_pipeline_get_shadow(run->setup.pipeline, &report);
	shadow_print(&report, stderr);
}

/* The median of the steps' times; NaN when there are none. */
static double median_step(struct run *run)
{
	struct bench_stats stats = bench_samples_stats(&run->steps);
	return stats.count > 0 ? stats.median : NAN;
}

static void print_prediction(struct run *run)
{
	double predicted = ps_pipeline_predicted_step(run->setup.pipeline), measured = median_step(run);
	if (isnan(predicted) || isnan(measured))
		return;
	double over = (measured / predicted - 1) * 100;
	printf("predicted %#.3g s a step, measured %#.3g (%.1f %% %s)\n", predicted, measured, fabs(over),
	       over < 0 ? "under" : "over");
}

static ps_status log_end(struct run *run, ps_status status, const ps_train_result *result)
{
	const char *how = status != PS_OK ? "failed" : result->interrupted ? "interrupted" : "done";
	json_t *event =
	        json_pack("{s:s, s:s, s:I, s:o, s:I, s:i, s:o, s:o, s:o, s:o}", "event", "end", "status", how, "steps",
	                  (json_int_t)ps_trainer_done(run->trainer), "seconds",
	                  ps__json_figure((double)(ps_clock_ns() - run->begin_ns) * 1e-9), "process_peak_bytes",
	                  (json_int_t)ps__memory_peak(), "best_epoch", result->best_epoch, "best_loss",
	                  ps__json_real(result->best_loss), "test_loss", ps__json_real(result->test_loss),
	                  "predicted_ms", ps__json_figure(ps_pipeline_predicted_step(run->setup.pipeline) * 1e3),
	                  "median_ms", ps__json_figure(median_step(run) * 1e3));
	if (event != NULL && run->setup.shadow_count > 0) {
		ps_shadow_report report;
		ps_pipeline_get_shadow(run->setup.pipeline, &report);
		if (json_object_set_new(event, "shadow", shadow_json(&report)) != 0) {
			json_decref(event);
			event = NULL;
		}
	}
	if (event != NULL && status != PS_OK &&
	    json_object_set_new(
	            event, "error",
	            json_pack("{s:s, s:s?}", "status", ps_status_name(status), "message", ps_error_message())) != 0) {
		json_decref(event);
		event = NULL;
	}
	return ps__log_write(run->log, event);
}

/* Ends log and trace whatever the run came to; the first failure is the one that is told. */
static ps_status close_outputs(struct run *run, ps_status status, const ps_train_result *result)
{
	char message[1024];
	snprintf(message, sizeof message, "%s", ps_error_message());
	ps_status own = PS_OK, next;
	if (run->log != NULL) {
		own = log_end(run, status, result);
		next = ps__log_close(run->log);
		own = own != PS_OK ? own : next;
	}
	if (run->trace != NULL) {
		next = ps_trace_commit(run->trace);
		own = own != PS_OK ? own : next;
	}
	run->log = NULL;
	run->trace = NULL;
	return status != PS_OK ? ps_fail(status, "%s", message) : own;
}

static void catch_interrupt(const run_options *o)
{
	if (o->save_last != NULL)
		interrupt_catch("train", "stops after this step and saves %.128s, for --resume", o->save_last);
	else if (o->save != NULL)
		interrupt_catch("train", "stops after this step and saves %.128s, if anything was validated", o->save);
	else
		interrupt_catch("train", "stops after this step and saves nothing, as no --save-last was given");
}

static ps_status train(struct run *run, ps_train_result *result)
{
	*result = (ps_train_result){.best_loss = INFINITY, .test_loss = NAN};
	PS_TRY(check_outputs(&run->options));
	PS_TRY(ps_start_check(run->options.init, run->options.resume));
	PS_TRY(setup_init(&run->setup, &run->options, false));
	PS_TRY(create_trainer(run));
	run->begin_ns = ps_clock_ns();
	PS_TRY(open_outputs(run));
	catch_interrupt(&run->options);
	print_start(run);
	progress_init(&run->progress, ps_trainer_done(run->trainer));
	ps_status status = ps_trainer_run(run->trainer, result);
	progress_line_clear(&run->progress.line);
	if (status == PS_OK) {
		print_entropy(run, result);
		print_shadow(run);
	}
	if (status == PS_OK)
		print_prediction(run);
	if (status == PS_OK)
		status = check_stdout();
	return close_outputs(run, status, result);
}

static void tell_interrupt(const struct run *run, const ps_train_result *result)
{
	const run_options *o = &run->options;
	fprintf(stderr, "penstock train: interrupted after step %" PRId64, result->steps);
	if (o->save_last != NULL)
		fprintf(stderr, "; %s goes on from there with --resume", o->save_last);
	else if (o->save == NULL)
		fputs("; nothing was saved, as no --save-last was given", stderr);
	if (o->save != NULL && !result->saved)
		fprintf(stderr, "; %s was not written, as nothing was validated yet", o->save);
	else if (o->save != NULL)
		fprintf(stderr, "; %s has the weights that were best so far", o->save);
	fputc('\n', stderr);
}

int cmd_train(int argc, char **argv)
{
	option_settings settings;
	int exit_status = EXIT_DONE;
	if (command_begin(&settings, &train_table, argc, argv, &exit_status)) {
		struct run *run = calloc(1, sizeof *run);
		ps_train_result result;
		ps_status status =
		        run != NULL ? train_options_read(&run->options, &settings) : ps_fail(PS_ENOMEM, "no memory");
		if (status == PS_OK)
			status = train(run, &result);
		if (status != PS_OK) {
			exit_status = command_fail("train", status);
		} else if (result.interrupted) {
			tell_interrupt(run, &result);
			exit_status = interrupt_exit_status();
		}
		if (run != NULL) {
			ps_trace_abandon(run->trace);
			ps_trainer_destroy(run->trainer);
			setup_finish(&run->setup);
			bench_samples_free(&run->steps);
		}
		free(run);
	}
	options_finish(&settings);
	return exit_status;
}
