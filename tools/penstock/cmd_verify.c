/* `penstock verify`: the results of devices against another device's. A new mode is a row of `modes` and its word. */
#include "tools/penstock/command.h"
#include "tools/penstock/setup.h"
#include "tools/penstock/verify_report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct verify_options {
	const char *device, *against;
	uint64_t seed;
	int64_t elements;
	bool json, markdown;
	int mode;
} verify_options;

static const struct mode {
	const char *name;
	ps_status (*check)(const ps_verify_config *config);
	bool support; /* it checks nothing, but asks what can be checked */
} modes[] = {
        {"ops", ps_verify_ops, false},
        {"grad", ps_verify_gradients, false},
        {"layers", ps_verify_layers, false},
        {"support", ps_verify_support, true},
};
/* The names of `modes` in their order, and after them the word for all that check something. */
#define MODE_WORDS "ops|grad|layers|support|all"
enum { MODES = sizeof modes / sizeof *modes };

static const option_row mode_row = {
        .name = "mode", .kind = OPTION_CHOICE, .argument = MODE_WORDS, .offset = offsetof(verify_options, mode)};

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
};

static const verify_options defaults = {.against = "ref", .seed = 1, .mode = MODES};

const option_table verify_table = {
        .command = "verify",
        .usage = "[" MODE_WORDS "] [OPTION]…",
        .text = "Checks the results of devices against those of the reference, or of any other device:\n"
                "  ops      every op on the shapes of models and on odd ones, with special values and views\n"
                "  grad     every backward op, and every layer's, against finite differences in fp64\n"
                "  layers   every layer's forward, backward and weight gradients; W apart from B, and forward again\n"
                "  support  what each device takes, by its own answer: nothing is run\n"
                "  all      all but support; the same as no word\n"
                "The worst error of each op is shown in units in the last place (ULPs) and as a share of what is\n"
                "allowed. Exit status 1: something differs.",
        .examples = "  penstock verify                          all devices that are here\n"
                    "  penstock verify ops --device opencl:0\n"
                    "  penstock verify --device cuda:0 --against cpu\n"
                    "  penstock verify ops --device opencl:0 --elements 1000   small tensors, for a simulator\n",
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
	char *text = calloc(count + 1, sizeof entries->info.name + 1);
	for (size_t i = 0; i < count && text != NULL; i++) {
		const char *name = entries[i].info.name;
		if (entries[i].status != PS_OK || strcmp(name, "ref") == 0 || strncmp(name, "cpu:", 4) == 0)
			continue;
		if (used > 0)
			text[used++] = ',';
		memcpy(text + used, name, strlen(name));
		used += strlen(name);
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
	char *text = object == NULL ? NULL : json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17));
	json_decref(object);
	if (text == NULL)
		return ps_fail(PS_ENOMEM, "no memory for the results");
	puts(text);
	free(text);
	return PS_OK;
}

static void print(const verify_options *options, const struct mode *mode, const struct verify_report *report)
{
	if (mode->support || options->markdown)
		verify_print_grid(report, mode->name, mode->support ? NULL : options->against, options->markdown,
		                  stdout);
	else
		verify_print_mode(report, mode->name, options->against, stdout);
}

/* PS_EDEVICE when something differs. */
static ps_status conclude(const verify_options *options, const struct verify_report *report)
{
	int differing = verify_report_differing(report), all = verify_report_rows(report);
	if (differing > 0)
		return ps_fail(PS_EDEVICE, "%d of %d rows differ from %s; --seed %" PRIu64 " repeats them", differing,
		               all, options->against, options->seed);
	if (!options->json && !options->markdown)
		printf("%d rows, no difference\n", all);
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
		verify_report_clear(report);
		PS_TRY(status);
		PS_TRY(report->status);
		if (!options->json)
			print(options, &modes[i], report);
	}
	if (options->json)
		PS_TRY(print_json(options, report));
	return !all && modes[given].support ? PS_OK : conclude(options, report);
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
		ps_verify_config config = {.devices = (const char *const *)names,
		                           .device_count = count,
		                           .against = options->against,
		                           .seed = options->seed,
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
		verify_options options = defaults;
		ps_status status = options_apply(&settings, &options);
		if (status == PS_OK)
			status = run(&options);
		if (status != PS_OK)
			exit_status = command_fail("verify", status);
	}
	options_finish(&settings);
	return exit_status;
}
