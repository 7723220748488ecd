/* `penstock tune`: searches for the fastest way to make a model's products on a device; the device keeps it. */
#include "tools/penstock/command.h"
#include "tools/penstock/progress.h"
#include "tools/penstock/run_options.h"

#include <penstock/tune.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct tune_options {
	const char *device;
	double minutes;
	int preset; /* of TUNE_PRESETS */
	int dtype;  /* of TUNE_DTYPES */
	bool json;
} tune_options;

/* The first three as in PRESET_WORDS. */
#define TUNE_PRESETS "default|small|tutorial|all"
#define TUNE_DTYPES "fp32|fp64"
enum { PRESET_ALL = 3 };

static const option_row device_row = {
        .name = "device", .kind = OPTION_TEXT, .argument = "DEV", .offset = offsetof(tune_options, device)};

static const option_row rows[] = {
        {.name = "minutes",
         .kind = OPTION_REAL,
         .open = OPEN_LOW,
         .argument = "N",
         .low = 0,
         .high = 1440,
         .offset = offsetof(tune_options, minutes),
         .help = "How long to search, about"},
        {.name = "preset",
         .kind = OPTION_CHOICE,
         .argument = TUNE_PRESETS,
         .offset = offsetof(tune_options, preset),
         .help = "Whose products to tune for"},
        {.name = "dtype",
         .kind = OPTION_CHOICE,
         .argument = TUNE_DTYPES,
         .offset = offsetof(tune_options, dtype),
         .help = "Type of the matrices"},
        {.name = "json",
         .argument = "",
         .offset = offsetof(tune_options, json),
         .help = "Write one JSON object in place of the table"},
};

static const tune_options defaults = {.minutes = 5, .preset = PRESET_ALL};

const option_table tune_table = {
        .command = "tune",
        .usage = "DEVICE [OPTION]…",
        .text = "Searches for the fastest way to make the matrix products of the presets on a device: the form and "
                "the\n"
                "block sizes of Penstock's own kernels, and the parameters of CLBlast. Each candidate's results are\n"
                "checked. What is found is kept in the cache folder and used from then on; penstock devices shows it.\n"
                "Results of training stay the same bits as long as the same library makes the products.",
        .examples = "  penstock tune opencl:0\n"
                    "  penstock tune opencl:0 --preset small --minutes 1\n"
                    "  penstock tune opencl:1 --dtype fp64 --json\n",
        .operand = &device_row,
        .rows = rows,
        .count = sizeof rows / sizeof *rows,
        .defaults = &defaults,
};

enum { MOST_ROWS = 96, WORDS = 28782, SAMPLE_WORDS = 400 };

struct products {
	ps_tune_row row[MOST_ROWS];
	size_t count;
};

static void add_product(struct products *all, int64_t m, int64_t n, int64_t k, bool trans_a, bool trans_b)
{
	for (size_t i = 0; i < all->count; i++) {
		const ps_tune_row *row = &all->row[i];
		if (row->m == m && row->n == n && row->k == k && row->trans_a == trans_a && row->trans_b == trans_b)
			return;
	}
	if (all->count < MOST_ROWS)
		all->row[all->count++] = (ps_tune_row){.m = m, .n = n, .k = k, .trans_a = trans_a, .trans_b = trans_b};
}

/* The products of a preset's linear layers: forward and input gradient by micro-batch, weight gradient by batch. */
static void add_preset(struct products *all, preset which)
{
	const run_options *o = preset_options(which);
	int64_t words = which == PRESET_DEFAULT ? SAMPLE_WORDS : WORDS;
	const int64_t layers[][2] = {{3 * o->emsize, o->emsize},
	                             {o->emsize, o->emsize},
	                             {o->nhid, o->emsize},
	                             {o->emsize, o->nhid},
	                             {words, o->emsize}};
	int64_t batch = o->batch_size * o->bptt, part = (o->batch_size + o->chunks - 1) / o->chunks * o->bptt;
	for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
		int64_t out = layers[i][0], in = layers[i][1];
		add_product(all, part, out, in, false, true);
		add_product(all, part, in, out, false, false);
		add_product(all, out, in, batch, true, false);
	}
}

static const char *kind_of(const ps_tune_row *row)
{
	return row->trans_a ? "weight gradient" : row->trans_b ? "forward" : "input gradient";
}

static bool on_progress(void *payload, double share, const char *what)
{
	struct progress_line *line = payload;
	if (progress_line_due(line))
		progress_line_show(line, "%3.0f%%  %s", share * 100, what);
	return interrupt_seen();
}

static double rate(const ps_tune_row *row, double seconds)
{
	return seconds > 0 ? 2e-9 * (double)row->m * (double)row->n * (double)row->k / seconds : 0;
}

/* "312.5", or "-" for what was not measured. */
static const char *rate_text(const ps_tune_row *row, double seconds, char text[16])
{
	snprintf(text, 16, seconds > 0 ? "%.1f" : "-", rate(row, seconds));
	return text;
}

static void print_table(const ps_tuning *tuning, const char *device)
{
	char before[16], after[16], library[16];
	size_t missed = 0;
	printf("%-15s %6s %6s %6s %9s %9s %9s  %s\n", "GFLOP/s", "m", "n", "k", "before", "after", "CLBlast",
	       "from now on");
	for (size_t i = 0; i < tuning->count; i++) {
		const ps_tune_row *row = &tuning->rows[i];
		missed += row->by_library_s <= 0;
		printf("%-15s %6lld %6lld %6lld %9s %9s %9s  %s\n", kind_of(row), (long long)row->m, (long long)row->n,
		       (long long)row->k, rate_text(row, row->before_s, before), rate_text(row, row->after_s, after),
		       rate_text(row, row->by_library_s, library), row->choice);
	}
	printf("%lld candidates, %lld of them unusable\n", (long long)tuning->tried, (long long)tuning->wrong);
	if (missed > 0)
		printf("CLBlast was not reached for %zu of %zu products in the time there was; --minutes gives it "
		       "more\n",
		       missed, tuning->count);
	if (tuning->file[0] != '\0')
		printf("%s uses this from now on, by %s; delete the file to go back\n", device, tuning->file);
	else
		printf("nothing was kept: no product was measured, or the cache folder cannot be written\n");
}

static ps_status print_json(const ps_tuning *tuning, const char *device)
{
	json_t *list = json_array();
	int failed = 0;
	for (size_t i = 0; i < tuning->count; i++) {
		const ps_tune_row *row = &tuning->rows[i];
		failed |= json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:I, s:b, s:b, s:f, s:f, s:f, s:s}",
		                                                "product", kind_of(row), "m", (json_int_t)row->m, "n",
		                                                (json_int_t)row->n, "k", (json_int_t)row->k, "trans_a",
		                                                row->trans_a, "trans_b", row->trans_b, "before_s",
		                                                row->before_s, "after_s", row->after_s, "clblast_s",
		                                                row->by_library_s, "choice", row->choice));
	}
	json_t *object = json_pack("{s:s, s:s, s:I, s:I, s:s, s:o}", "device", device, "dtype",
	                           ps_dtype_name(tuning->dtype), "candidates", (json_int_t)tuning->tried, "unusable",
	                           (json_int_t)tuning->wrong, "file", tuning->file, "products", list);
	if (failed) {
		json_decref(object);
		object = NULL;
	}
	return command_print_json(object, true);
}

static ps_status run(const tune_options *options)
{
	if (options->device == NULL)
		return ps_fail(PS_EINVAL,
		               "the device is missing, as in penstock tune opencl:0; penstock devices lists them");
	struct products all = {.count = 0};
	for (int i = 0; i < PRESET_ALL; i++)
		if (options->preset == PRESET_ALL || options->preset == i)
			add_preset(&all, (preset)i);
	struct progress_line line;
	progress_line_init(&line);
	line.next_ns = 0;
	ps_tuning tuning = {.dtype = options->dtype == 0 ? PS_F32 : PS_F64,
	                    .seconds = options->minutes * 60,
	                    .rows = all.row,
	                    .count = all.count,
	                    .progress = on_progress,
	                    .payload = &line};
	ps_device *device;
	PS_TRY(ps_device_open(&device, options->device));
	interrupt_catch("tune", "stops after this candidate and keeps what was found");
	ps_status status = ps_tune(device, &tuning);
	progress_line_clear(&line);
	if (status == PS_OK && options->json)
		status = print_json(&tuning, ps_device_get_info(device)->name);
	else if (status == PS_OK)
		print_table(&tuning, ps_device_get_info(device)->name);
	ps_device_close(device);
	return status;
}

int cmd_tune(int argc, char **argv)
{
	option_settings settings;
	int exit_status = EXIT_DONE;
	if (command_begin(&settings, &tune_table, argc, argv, &exit_status)) {
		tune_options options = defaults;
		ps_status status = options_apply(&settings, &options);
		if (status == PS_OK)
			status = run(&options);
		if (status != PS_OK)
			exit_status = command_fail("tune", status);
		else if (interrupt_seen())
			exit_status = interrupt_exit_status();
	}
	options_finish(&settings);
	return exit_status;
}
