/* `penstock bench`: runs one of the benches of bench/, prints its report, and compares it with an earlier one. */
#include "tools/penstock/bench_options.h"
#include "tools/penstock/bench_print.h"
#include "tools/penstock/bench_stages.h"
#include "tools/penstock/command.h"
#include "tools/penstock/progress.h"
#include "tools/penstock/setup.h"

#include "bench/bench.h"
#include "train/json.h"
#include "train/output_file.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct watch {
	struct progress_line line;
	const char *command;
};

static void show_progress(void *payload, int round, double fraction)
{
	struct watch *watch = payload;
	if (!progress_line_due(&watch->line))
		return;
	if (round == 0)
		progress_line_show(&watch->line, "penstock %s: warming up, %.0f %%", watch->command, 100 * fraction);
	else
		progress_line_show(&watch->line, "penstock %s: round %d, %.0f %% of the time", watch->command, round,
		                   100 * fraction);
}

static bool stop(void *payload)
{
	(void)payload;
	return interrupt_seen() || ferror(stdout);
}

static struct bench_sizes sizes_of(const run_options *run, const char *name)
{
	return (struct bench_sizes){.name = name,
	                            .rows = run->batch_size,
	                            .time = run->bptt,
	                            .width = run->emsize,
	                            .hidden = run->nhid,
	                            .vocabulary = run->vocabulary,
	                            .heads = (int)run->nhead,
	                            .chunks = (int)run->chunks,
	                            .causal = run->mask == MASK_CAUSAL,
	                            .dropout = run->dropout};
}

/* The shapes to measure at: what the options say, or else those of two presets. */
static int choose_sizes(const bench_options *options, struct bench_sizes *out)
{
	static const char *const names[] = {[PRESET_DEFAULT] = "default",
	                                    [PRESET_SMALL] = "small",
	                                    [PRESET_TUTORIAL] = "tutorial",
	                                    [PRESET_AS_PUBLISHED] = "tutorial-as-published"};
	if (options->sized || options->preset) {
		out[0] = sizes_of(&options->run, options->sized ? "model" : names[options->run.preset]);
		return 1;
	}
	static const preset both[] = {PRESET_TUTORIAL, PRESET_SMALL};
	for (int i = 0; i < 2; i++) {
		run_options run = *preset_options(both[i]);
		run.vocabulary = bench_vocabulary(both[i]);
		out[i] = sizes_of(&run, names[both[i]]);
	}
	return 2;
}

static ps_status run_ops(struct bench_report *report, const bench_options *options, bool products,
                         const struct bench_run *run)
{
	struct bench_sizes sizes[2];
	int count = choose_sizes(options, sizes);
	if (!products && options->run.emsize % options->run.nhead != 0)
		return ps_fail(PS_EINVAL, "--nhead %lld does not divide --emsize %lld", (long long)options->run.nhead,
		               (long long)options->run.emsize);
	const dtype_choice dtype = (dtype_choice)options->run.dtype;
	const struct bench_device device = {.name = options->device,
	                                    .dtype = dtype == DTYPE_FP64 ? PS_F64 : PS_F32,
	                                    .math = setup_math(dtype),
	                                    .bf16_weights = dtype == DTYPE_BF16_PURE};
	return products ? bench_gemm(report, &device, sizes, count, run)
	                : bench_ops(report, &device, sizes, count, run);
}

static ps_status run_step(struct bench_report *report, const bench_options *options, const struct bench_run *run)
{
	const run_options *o = &options->run;
	struct setup setup = {0};
	ps_batches batches;
	struct bench_step step = {
	        .rows = o->batch_size, .time = o->bptt, .vocabulary = o->vocabulary, .brief = options->brief};
	ps_status status = setup_init(&setup, o, false);
	if (status == PS_OK && setup.corpus != NULL) {
		size_t count;
		const int32_t *tokens = ps_corpus_tokens(setup.corpus, PS_SPLIT_TRAIN, &count);
		status = ps_batches_init(&batches, tokens, count, o->batch_size, o->bptt);
		step.batches = &batches;
	}
	if (status == PS_OK) {
		setup_print_plan(&setup, stderr);
		status = ps_pipeline_initialize(setup.pipeline);
	}
	step.pipeline = setup.pipeline;
	if (status == PS_OK)
		status = bench_step(report, &step, run);
	setup_finish(&setup);
	return status;
}

/* The devices that are named, or all that are here. */
static ps_status run_link(struct bench_report *report, const bench_options *options, const struct bench_run *run)
{
	ps_device_entry *entries = NULL;
	char **names = NULL;
	size_t entry_count = 0;
	int count = 0;
	if (options->devices != NULL)
		PS_TRY(stages_parse(&names, &count, options->devices));
	else
		PS_TRY(ps_device_list(&entries, &entry_count));
	const char **chosen = calloc((size_t)count + entry_count + 1, sizeof *chosen);
	for (int i = 0; chosen != NULL && i < count; i++)
		chosen[i] = names[i];
	for (size_t i = 0; chosen != NULL && i < entry_count; i++) {
		if (entries[i].status == PS_OK)
			chosen[count++] = entries[i].info.name;
	}
	ps_status status = chosen != NULL ? bench_link(report, chosen, count, run)
	                                  : ps_fail(PS_ENOMEM, "no memory for the names of devices");
	free(chosen);
	stages_free(names, options->devices != NULL ? count : 0);
	ps_device_list_free(entries);
	return status;
}

static ps_status run_executor(struct bench_report *report, const bench_options *options, const struct bench_run *run)
{
	static const char *const defaults[] = {"ref", "cpu", "ref,ref,ref", "cpu,cpu,cpu", "cpu:0,cpu:1"};
	enum { MOST = sizeof defaults / sizeof *defaults, LAYERS = 3 };
	struct bench_devices stages[MOST];
	char **names[MOST] = {NULL};
	int counts[MOST], count = 0, cores;
	PS_TRY(cpu_cores(&cores));
	/* The last list wants two cores. */
	int lists = options->run.stages != NULL ? 1 : cores > 1 ? MOST : MOST - 1;
	ps_status status = PS_OK;
	for (; status == PS_OK && count < lists; count++) {
		const char *text = options->run.stages != NULL ? options->run.stages : defaults[count];
		status = stages_parse(&names[count], &counts[count], text);
		if (status == PS_OK && counts[count] > LAYERS)
			status = ps_fail(PS_EINVAL, "--stages %.60s: has %d stages; the bench has up to %d", text,
			                 counts[count], LAYERS);
		stages[count] = (struct bench_devices){text, (const char *const *)names[count], counts[count]};
	}
	if (status == PS_OK)
		status = bench_executor(report, stages, count, (int)options->run.chunks, run);
	for (int i = 0; i < count; i++)
		stages_free(names[i], counts[i]);
	return status;
}

static ps_status run_simulate(struct bench_report *report, const bench_options *options, const struct bench_run *run)
{
	const char *name = options->run.schedule;
	const ps_schedule_rule *rule = name != NULL ? ps_schedule_find_rule(name) : NULL;
	if (name != NULL && (rule == NULL || rule->stages_per_rank > 1))
		return ps_fail(PS_EINVAL, "--schedule %.60s: is no rule with one stage a rank; give gpipe or 1f1b",
		               name);
	return bench_simulate(report, name, (int)options->ranks, (int)options->run.chunks, run);
}

static ps_status run_tokenizer(struct bench_report *report, const bench_options *options, const struct bench_run *run)
{
	if (options->run.data == NULL || strcmp(options->run.data, "sample") == 0)
		return ps_fail(PS_EINVAL, "--data DIR is missing; give a folder with wiki.{train,valid,test}.tokens");
	return bench_tokenizer(report, options->run.data, run);
}

static ps_status measure(struct bench_report *report, bench_kind kind, const bench_options *options)
{
	struct watch watch = {.command = bench_tables[kind].command};
	progress_line_init(&watch.line);
	const struct bench_run run = {options->seconds, stop, show_progress, &watch};
	ps_status status = PS_OK;
	interrupt_catch(watch.command, "stops after this sample and tells what was measured");
	switch (kind) {
	case BENCH_OPS:
	case BENCH_GEMM:
		status = run_ops(report, options, kind == BENCH_GEMM, &run);
		break;
	case BENCH_STEP:
		status = run_step(report, options, &run);
		break;
	case BENCH_STAGES:
		status = bench_stages_run(report, options, &run);
		break;
	case BENCH_LINK:
		status = run_link(report, options, &run);
		break;
	case BENCH_EXECUTOR:
		status = run_executor(report, options, &run);
		break;
	case BENCH_SIMULATE:
		status = run_simulate(report, options, &run);
		break;
	case BENCH_TOKENIZER:
		status = run_tokenizer(report, options, &run);
		break;
	case BENCH_SHOW:
	case BENCH_KINDS:
		break;
	}
	progress_line_clear(&watch.line);
	return status;
}

/* What `before` was, as a member of the report's object. */
static int add_comparison(json_t *object, const struct bench_report *report, const struct bench_report *before,
                          const char *path)
{
	json_t *rows = json_array();
	int failed = 0;
	for (int i = 0; i < report->row_count; i++) {
		const struct bench_row *row = &report->rows[i], *old = bench_report_find(before, row);
		double ratio;
		if (old == NULL)
			continue;
		enum bench_verdict verdict = bench_compare(&old->stats, &row->stats, &ratio);
		failed |= json_array_append_new(rows, json_pack("{s:s, s:s, s:o, s:s}", "section", row->section, "name",
		                                                row->name, "ratio", ps__json_real(ratio), "verdict",
		                                                bench_verdict_name(verdict)));
	}
	json_t *file = json_string(path);
	failed |= json_object_set_new(object, "compared",
	                              json_pack("{s:o, s:s, s:o}", "file", file != NULL ? file : json_string("?"),
	                                        "date", before->date, "rows", rows));
	return failed;
}

static ps_status write_json(const struct bench_report *report, const struct bench_report *before,
                            const bench_options *options)
{
	json_t *object = bench_report_json(report);
	char *text = NULL;
	if (object != NULL && (before == NULL || add_comparison(object, report, before, options->compare) == 0))
		text = json_dumps(object, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
	json_decref(object);
	if (text == NULL)
		return ps_fail(PS_ENOMEM, "no memory for the report");
	ps_status status = PS_OK;
	if (strcmp(options->json, "-") == 0) {
		puts(text);
	} else {
		ps__output_file file;
		status = ps__output_file_open(&file, options->json);
		if (status == PS_OK) {
			status = ps__output_file_write(&file, text, strlen(text));
			if (status == PS_OK)
				status = ps__output_file_commit(&file);
			else
				ps__output_file_abandon(&file);
		}
	}
	free(text);
	return status;
}

static ps_status check_comparable(const struct bench_report *before, const struct bench_report *report,
                                  const char *path)
{
	char differences[256];
	if (strcmp(before->bench, report->bench) != 0)
		return ps_fail(PS_EINVAL, "--compare %s: is of penstock bench %s, not of %s", path, before->bench,
		               report->bench);
	if (bench_report_differs(before, report, true, differences, sizeof differences))
		return ps_fail(PS_EINVAL, "--compare %s: measured something else: %s", path, differences);
	return PS_OK;
}

/* Fills the report by measuring, or from the file that was named. `before` NULL: it is compared with nothing. */
static ps_status make_report(struct bench_report *out, bench_kind kind, const bench_options *options,
                             const struct bench_report *before)
{
	if (kind == BENCH_SHOW && options->report == NULL)
		return ps_fail(PS_EINVAL, "FILE is missing; give what penstock bench wrote with --json");
	if (options->json != NULL && strcmp(options->json, "-") != 0) {
		ps_status status = ps_output_check(options->json);
		if (status != PS_OK)
			return ps_fail_context(status, "--json");
	}
	if (kind == BENCH_SHOW) {
		PS_TRY(bench_report_read(out, options->report));
	} else {
		PS_TRY(bench_report_init(out, bench_name(kind), PS_VERSION));
		out->options = bench_options_json(options, kind);
		if (out->options == NULL)
			return ps_fail(PS_ENOMEM, "no memory for the options of the report");
	}
	if (before != NULL)
		PS_TRY(check_comparable(before, out, options->compare));
	return kind == BENCH_SHOW ? PS_OK : measure(out, kind, options);
}

static ps_status run_bench(bench_kind kind, const bench_options *options)
{
	struct bench_report report = {0}, before = {0};
	const struct bench_report *compared = options->compare != NULL ? &before : NULL;
	ps_status status = compared != NULL ? bench_report_read(&before, options->compare) : PS_OK;
	if (status != PS_OK)
		return ps_fail_context(status, "--compare");
	status = make_report(&report, kind, options, compared);
	if (status == PS_OK && (options->json == NULL || strcmp(options->json, "-") != 0))
		bench_print(&report, compared, options->compare, stdout);
	if (status == PS_OK && kind == BENCH_SHOW && report.interrupted)
		fprintf(stderr, "penstock bench show: %s: was interrupted; that is what was measured until then\n",
		        options->report);
	if (status == PS_OK && options->json != NULL)
		status = write_json(&report, compared, options);
	bench_report_finish(&report);
	bench_report_finish(&before);
	return status;
}

static void print_help(void)
{
	puts("Usage: penstock bench BENCH [OPTION]…\n\nMeasures how fast things are on this machine. The samples of "
	     "one "
	     "run take turns, so that what disturbs\nthe machine meets all of them alike.\n");
	for (int i = 0; i < BENCH_KINDS; i++)
		printf("  %-10s %.*s.\n", bench_name((bench_kind)i), (int)strcspn(bench_tables[i].text, ".;"),
		       bench_tables[i].text);
	puts("\nEach explains itself: penstock bench ops --help");
}

int cmd_bench(int argc, char **argv)
{
	const char *names[BENCH_KINDS + 1] = {NULL};
	for (int i = 0; i < BENCH_KINDS; i++)
		names[i] = bench_name((bench_kind)i);
	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		print_help();
		return EXIT_DONE;
	}
	int kind = command_choose(names, argc, argv, "what to measure");
	if (kind < 0)
		return command_fail("bench", PS_EINVAL);
	const option_table *table = &bench_tables[kind];
	option_settings settings;
	int exit_status = EXIT_DONE;
	if (command_begin(&settings, table, argc - 1, argv + 1, &exit_status)) {
		bench_options options;
		ps_status status = bench_options_read(&options, (bench_kind)kind, &settings);
		if (status == PS_OK)
			status = run_bench((bench_kind)kind, &options);
		if (status != PS_OK)
			exit_status = command_fail(table->command, status);
		if (status == PS_OK && interrupt_seen()) {
			fprintf(stderr, "penstock %s: interrupted; what was measured until then is told\n",
			        table->command);
			exit_status = interrupt_exit_status();
		}
	}
	options_finish(&settings);
	return exit_status;
}
