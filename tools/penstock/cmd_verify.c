/* `penstock verify`: the results of devices against another device's. A new mode is a row of `modes` and its word. */
#include "tools/penstock/command.h"
#include "tools/penstock/setup.h"
#include "tools/penstock/verify_report.h"

#include "core/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct verify_options {
	const char *device, *against;
	uint64_t seed;
	int64_t elements;
	bool json, markdown;
	int mode;
	run_options sizes; /* of the step */
	int64_t vocabulary;
} verify_options;

static const struct mode {
	const char *name;
	ps_status (*check)(const ps_verify_config *config);
	bool support; /* it checks nothing, but asks what can be checked */
} modes[] = {
        {"ops", ps_verify_ops, false},   {"grad", ps_verify_gradients, false}, {"layers", ps_verify_layers, false},
        {"step", ps_verify_step, false}, {"support", ps_verify_support, true},
};
/* The names of `modes` in their order, and after them the word for all that check something. */
#define MODE_WORDS "ops|grad|layers|step|support|all"
enum { MODES = sizeof modes / sizeof *modes };

static const option_row mode_row = {
        .name = "check", .kind = OPTION_CHOICE, .argument = MODE_WORDS, .offset = offsetof(verify_options, mode)};

#define SIZE(option, field, least, most, text)                                                             \
	{                                                                                                  \
		.name = (option), .kind = OPTION_INTEGER, .argument = "N", .low = (least), .high = (most), \
		.offset = offsetof(verify_options, field), .help = (text)                                  \
	}

static const option_row rows[] = {
        {.name = "device",
         .kind = OPTION_TEXT,
         .argument = "DEV,DEV,...",
         .offset = offsetof(verify_options, device),
         .help = "The devices to check; all that are here unless given"},
        {.name = "against",
         .kind = OPTION_TEXT,
         .argument = "DEV",
         .offset = offsetof(verify_options, against),
         .help = "The device whose results are right"},
        {.name = "seed",
         .kind = OPTION_SEED,
         .argument = "N",
         .offset = offsetof(verify_options, seed),
         .help = "Seed of all values"},
        {.name = "elements",
         .kind = OPTION_INTEGER,
         .argument = "N",
         .low = 1,
         .high = (double)(INT64_C(1) << 40),
         .offset = offsetof(verify_options, elements),
         .help = "Leave rows with a larger tensor out, for slow devices"},
        {.name = "json",
         .argument = "",
         .offset = offsetof(verify_options, json),
         .help = "Write one JSON object in place of the tables"},
        {.name = "markdown",
         .argument = "",
         .offset = offsetof(verify_options, markdown),
         .help = "Write a Markdown table with a column for each device and dtype"},
        {.help = "The step"},
        {.name = "preset",
         .kind = OPTION_CHOICE,
         .argument = PRESET_WORDS,
         .offset = offsetof(verify_options, sizes.preset),
         .help = "Take the sizes that train has; every other option overrides them"},
        SIZE("vocabulary", vocabulary, 2, INT32_MAX, "Different tokens; with a preset but default, 28782"),
        SIZE("emsize", sizes.emsize, 2, 1 << 20, "Width; --nhead divides it"),
        SIZE("nhead", sizes.nhead, 1, 65536, "Attention heads"),
        SIZE("nhid", sizes.nhid, 1, 1 << 24, "Width of the feed-forward layers"),
        SIZE("nlayers", sizes.nlayers, 1, 65536, "Encoder layers"),
        SIZE("batch-size", sizes.batch_size, 1, 1 << 20, "Rows of the batch"),
        SIZE("bptt", sizes.bptt, 1, 1 << 20, "Tokens of a row"),
        SIZE("chunks", sizes.chunks, 1, 65536, "Micro-batches"),
        {.name = "dropout",
         .kind = OPTION_REAL,
         .argument = "P",
         .low = 0,
         .high = 1,
         .open = OPEN_HIGH,
         .offset = offsetof(verify_options, sizes.dropout),
         .help = "Probability with which a value is dropped"},
};

static const verify_options defaults = {.against = "ref",
                                        .seed = 1,
                                        .mode = MODES,
                                        .sizes = {.preset = -1,
                                                  .emsize = 64,
                                                  .nhead = 4,
                                                  .nhid = 128,
                                                  .nlayers = 2,
                                                  .dropout = 0.2,
                                                  .batch_size = 8,
                                                  .bptt = 32,
                                                  .chunks = 3,
                                                  .lr = 4.0,
                                                  .clip = 0.5},
                                        .vocabulary = 1000};

const option_table verify_table = {
        .command = "verify",
        .usage = "[" MODE_WORDS "] [OPTION]…",
        .text = "Checks the results of devices against those of the reference, or of any other device:\n"
                "  ops      every op on the shapes of models and on odd ones, with special values and views\n"
                "  grad     every backward op, and every layer's, against finite differences in fp64\n"
                "  layers   every layer's forward, backward and weight gradients; W apart from B, and forward again\n"
                "  step     a whole training step, every op of it from the inputs that it had, and what it comes to\n"
                "  support  what each device takes, by its own answer: nothing is run\n"
                "  all      all but support; the same as no word\n"
                "The worst error of each op is shown in units in the last place (ULPs) and as a share of what is\n"
                "allowed. Exit status 1: something differs.",
        .examples = "  penstock verify                          # all devices that are here\n"
                    "  penstock verify ops --device opencl:0\n"
                    "  penstock verify --device cuda:0 --against cpu\n"
                    "  penstock verify ops --device opencl:0 --elements 1000   # small tensors, for a simulator\n"
                    "  penstock verify step --device cuda:0 --preset small     # WikiText-2's sizes\n",
        .operand = &mode_row,
        .rows = rows,
        .count = sizeof rows / sizeof *rows,
        .defaults = &defaults,
};

/* All devices but the reference and the parts of the CPU, as "DEV,DEV"; the caller frees *out. */
static ps_status devices_here(char **out)
{
	ps_device_entry *entries;
	size_t count, used = 0;
	PS_TRY(ps_device_list(&entries, &count));
	size_t bytes = (count + 1) * (sizeof entries->info.name + 1);
	char *text = calloc(1, bytes);
	for (size_t i = 0; i < count && text != NULL; i++) {
		const char *name = entries[i].info.name;
		if (entries[i].status != PS_OK || strcmp(name, "ref") == 0 || strncmp(name, "cpu:", 4) == 0)
			continue;
		int length = snprintf(text + used, bytes - used, "%s%s", used > 0 ? "," : "", name);
		used += length > 0 ? (size_t)length : 0;
	}
	ps_device_list_free(entries);
	*out = text;
	return text != NULL ? PS_OK : ps_fail(PS_ENOMEM, "no memory for the list of devices");
}

static ps_status print_json(const verify_options *options, const struct verify_report *report)
{
	json_t *results = verify_json(report);
	/* A JSON integer of this library is signed. */
	char digits[24];
	snprintf(digits, sizeof digits, "%" PRIu64, options->seed);
	json_t *seed = options->seed <= INT64_MAX ? json_integer((json_int_t)options->seed) : json_string(digits);
	json_t *object =
	        json_pack("{s:s, s:o, s:i, s:i, s:o}", "against", options->against, "seed", seed, "rows",
	                  verify_report_rows(report), "differing", verify_report_differing(report), "results", results);
	return command_print_json(object, false);
}

static void print(const verify_options *options, const struct mode *mode, const struct verify_report *report)
{
	if (mode->support || options->markdown)
		verify_print_grid(report, mode->name, mode->support ? NULL : options->against, options->markdown,
		                  stdout);
	else
		verify_print_mode(report, mode->name, options->against, stdout);
}

/* PS_EDIVERGED when something differs: the message names the first, which of a step is the op at fault. */
static ps_status conclude(const verify_options *options, const struct verify_report *report)
{
	int differing = verify_report_differing(report), all = verify_report_rows(report);
	if (differing > 0) {
		const struct verify_difference *first = &report->differences[0];
		const struct verify_line *line = &report->lines[first->line];
		return ps_fail(PS_EDIVERGED,
		               "%d of %d %s from %s, the first of them %s %s on %s, row %zu%s%s; --seed %" PRIu64
		               " repeats them",
		               differing, all, ps__plural(differing, "rows differs", "rows differ"), options->against,
		               line->subject, ps_dtype_name(line->dtype), line->device, first->row,
		               first->part[0] != '\0' ? " of " : "", first->part, options->seed);
	}
	if (!options->json && !options->markdown)
		printf("%d %s, no difference\n", all, ps__plural(all, "row", "rows"));
	return PS_OK;
}

static ps_status check(const verify_options *options, const ps_verify_config *config, struct verify_report *report)
{
	int given = options->mode;
	bool all = given == MODES;
	for (int i = 0; i < MODES; i++) {
		if (all ? modes[i].support : i != given)
			continue;
		report->mode = modes[i].name;
		ps_status status = modes[i].check(config);
		progress_line_clear(&report->progress);
		PS_TRY(status);
		PS_TRY(report->status);
		if (!options->json)
			print(options, &modes[i], report);
	}
	if (options->json)
		PS_TRY(print_json(options, report));
	return !all && modes[given].support ? PS_OK : conclude(options, report);
}

/* The sizes of a preset take the place of the mode's own. */
static ps_status read_options(const option_settings *settings, verify_options *out)
{
	*out = defaults;
	PS_TRY(options_apply(settings, out));
	if (out->sizes.preset >= 0) {
		out->sizes = *preset_options((preset)out->sizes.preset);
		out->vocabulary = out->sizes.preset == PRESET_DEFAULT ? defaults.vocabulary : 28782;
		PS_TRY(options_apply(settings, out));
	}
	if (out->sizes.emsize % out->sizes.nhead != 0)
		return ps_fail(PS_EINVAL, "--nhead %" PRId64 " does not divide --emsize %" PRId64, out->sizes.nhead,
		               out->sizes.emsize);
	return PS_OK;
}

static ps_verify_model model_of(const verify_options *options)
{
	const run_options *sizes = &options->sizes;
	return (ps_verify_model){.vocabulary = options->vocabulary,
	                         .emsize = sizes->emsize,
	                         .nhid = sizes->nhid,
	                         .rows = sizes->batch_size,
	                         .time = sizes->bptt,
	                         .nhead = (int)sizes->nhead,
	                         .nlayers = (int)sizes->nlayers,
	                         .chunks = (int)sizes->chunks,
	                         .dropout = sizes->dropout,
	                         .causal = sizes->mask == MASK_CAUSAL,
	                         .lr = sizes->lr,
	                         .clip = sizes->clip};
}

static ps_status run(const verify_options *options)
{
	char *here = NULL, **names = NULL;
	int count = 0;
	struct verify_report report;
	verify_report_init(&report);
	if (options->json && options->markdown)
		return ps_fail(PS_EINVAL, "give one of --json and --markdown");
	ps_status status = options->device == NULL ? devices_here(&here) : PS_OK;
	if (status == PS_OK)
		status = devices_parse(&names, &count, "device", here != NULL ? here : options->device);
	if (status == PS_OK) {
		const ps_verify_model model = model_of(options);
		ps_verify_config config = {.devices = (const char *const *)names,
		                           .device_count = count,
		                           .against = options->against,
		                           .seed = options->seed,
		                           .model = &model,
		                           .elements = options->elements,
		                           .report = verify_report_add,
		                           .payload = &report};
		status = check(options, &config, &report);
	}
	stages_free(names, count);
	free(here);
	verify_report_finish(&report);
	return status;
}

int cmd_verify(int argc, char **argv)
{
	option_settings settings;
	int exit_status = EXIT_DONE;
	if (command_begin(&settings, &verify_table, argc, argv, &exit_status)) {
		verify_options options;
		ps_status status = read_options(&settings, &options);
		if (status == PS_OK)
			status = run(&options);
		if (status != PS_OK)
			exit_status = command_fail("verify", status);
	}
	options_finish(&settings);
	return exit_status;
}
