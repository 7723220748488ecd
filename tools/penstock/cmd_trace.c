/* `penstock trace`: one step of a trace as a picture, and what was idle in it. */
#include "tools/penstock/command.h"
#include "tools/penstock/trace_step.h"

#include <penstock/train.h>

#include "train/output_file.h"

#include <inttypes.h>
#include <stdlib.h>

typedef struct trace_options {
	const char *file, *svg;
	int64_t step;
	bool predicted, json;
} trace_options;

static const option_row file_row = {
        .name = "FILE.json", .kind = OPTION_TEXT, .argument = "FILE", .offset = offsetof(trace_options, file)};

static const option_row rows[] = {
        {.name = "svg",
         .kind = OPTION_TEXT,
         .argument = "FILE.svg",
         .offset = offsetof(trace_options, svg),
         .help = "Draw the step: a row for each stage and link, time from left to right"},
        {.name = "step",
         .kind = OPTION_INTEGER,
         .argument = "N",
         .low = 0,
         .high = 1e15,
         .offset = offsetof(trace_options, step),
         .help = "Which step of the file; 0: the one of median length"},
        {.name = "predicted",
         .argument = "",
         .offset = offsetof(trace_options, predicted),
         .help = "Draw what was predicted below what was measured"},
        {.name = "json",
         .argument = "",
         .offset = offsetof(trace_options, json),
         .help = "Write one JSON object in place of the table"},
};

static const trace_options defaults;

const option_table trace_table = {
        .command = "trace",
        .usage = "FILE.json [--svg FILE.svg] [OPTION]…",
        .text = "Sums up one step of a file that penstock train --trace wrote: how long each stage and link was at "
                "work\n"
                "and idle, and how much of the transfers ran while a stage computed. Draws it with --svg.",
        .examples = "  penstock train --steps-per-epoch 20 --epochs 1 --trace run.json\n"
                    "  penstock trace run.json\n"
                    "  penstock trace run.json --svg run.svg --predicted\n"
                    "  penstock trace run.json --step 3 --json\n",
        .operand = &file_row,
        .rows = rows,
        .count = sizeof rows / sizeof *rows,
        .defaults = &defaults,
};

static const char *time_text(double seconds, char text[32])
{
	double scale = seconds >= 1 ? 1 : seconds >= 1e-3 ? 1e3 : 1e6;
	snprintf(text, 32, "%.2f %s", seconds * scale, seconds >= 1 ? "s" : seconds >= 1e-3 ? "ms" : "us");
	return text;
}

static double share(double part, double whole)
{
	return whole > 0 ? part / whole : 0;
}

static void print_side(const trace_side *side, const char *which)
{
	char busy[32], idle[32];
	printf("\n%-28s %12s %12s\n", which, "busy", "idle");
	for (int r = 0; r < side->row_count; r++) {
		const trace_row *row = &side->rows[r];
		double rest = side->length > row->busy ? side->length - row->busy : 0;
		printf("%-28s %12s %12s %6.1f %%\n", row->name, time_text(row->busy, busy), time_text(rest, idle),
		       share(rest, side->length) * 100);
	}
	printf("whole step %s, bubble %.1f %%\n", time_text(side->length, busy), side->bubble * 100);
	if (side->transfers > 0)
		printf("transfers %s, %.1f %% of it while a stage computed\n", time_text(side->transfers, busy),
		       share(side->overlapped, side->transfers) * 100);
}

static json_t *side_json(const trace_side *side)
{
	json_t *list = json_array();
	int failed = 0;
	for (int r = 0; r < side->row_count; r++) {
		const trace_row *row = &side->rows[r];
		double rest = side->length > row->busy ? side->length - row->busy : 0;
		failed |= json_array_append_new(list, json_pack("{s:s, s:f, s:f, s:f}", "name", row->name, "busy_us",
		                                                row->busy * 1e6, "idle_us", rest * 1e6, "idle_share",
		                                                share(rest, side->length)));
	}
	if (failed) {
		json_decref(list);
		list = NULL;
	}
	return json_pack("{s:f, s:f, s:f, s:f, s:o}", "length_us", side->length * 1e6, "bubble", side->bubble,
	                 "transfers_us", side->transfers * 1e6, "overlapped_us", side->overlapped * 1e6, "rows", list);
}

static ps_status print_json(const trace_step *step, const trace_options *options)
{
	json_t *object = json_pack("{s:s, s:I, s:s, s:o, s:o}", "file", options->file, "step", (json_int_t)step->step,
	                           "what", step->what, "measured", side_json(&step->measured), "predicted",
	                           step->has_prediction ? side_json(&step->predicted) : json_null());
	return command_print_json(object, true);
}

static ps_status write_svg(const trace_step *step, const trace_options *options)
{
	char *text = NULL;
	size_t length = 0;
	FILE *stream = open_memstream(&text, &length);
	if (stream == NULL)
		return ps_fail(PS_ENOMEM, "no memory for a picture");
	trace_step_draw(step, options->predicted, stream);
	bool failed = ferror(stream) != 0;
	failed |= fclose(stream) != 0;
	ps__output_file file = {0};
	ps_status status =
	        failed ? ps_fail(PS_ENOMEM, "no memory for a picture") : ps__output_file_open(&file, options->svg);
	if (status == PS_OK) {
		status = ps__output_file_write(&file, text, length);
		if (status == PS_OK)
			status = ps__output_file_commit(&file);
		ps__output_file_abandon(&file);
	}
	free(text);
	return status;
}

static ps_status show(const trace_step *step, const trace_options *options)
{
	if (options->predicted && !step->has_prediction)
		return ps_fail(PS_EFORMAT,
		               "%s: has no predicted times for step %" PRId64
		               "; leave --predicted out, or trace the run again",
		               options->file, step->step);
	if (options->svg != NULL)
		PS_TRY(write_svg(step, options));
	if (options->json)
		return print_json(step, options);
	printf("step %" PRId64 " of %s%s%s\n", step->step, options->file, step->what[0] != '\0' ? ": " : "",
	       step->what);
	print_side(&step->measured, "measured");
	if (step->has_prediction)
		print_side(&step->predicted, "predicted");
	return PS_OK;
}

static ps_status run(const trace_options *options)
{
	if (options->file == NULL)
		return ps_fail(PS_EINVAL, "FILE.json is missing; penstock train --trace FILE.json writes one");
	if (options->svg != NULL) {
		ps_status status = ps_output_check(options->svg);
		if (status != PS_OK)
			return ps_fail_context(status, "--svg");
	}
	trace_step step;
	ps_status status = trace_step_read(&step, options->file, options->step);
	if (status == PS_OK)
		status = show(&step, options);
	trace_step_finish(&step);
	return status;
}

int cmd_trace(int argc, char **argv)
{
	option_settings settings;
	int exit_status = EXIT_DONE;
	if (command_begin(&settings, &trace_table, argc, argv, &exit_status)) {
		trace_options options = defaults;
		ps_status status = options_apply(&settings, &options);
		if (status == PS_OK)
			status = run(&options);
		if (status != PS_OK)
			exit_status = command_fail("trace", status);
	}
	options_finish(&settings);
	return exit_status;
}
