/* Option tables of the benches. What a model and a pipeline are is said by the rows of `penstock train`. */
#include "tools/penstock/bench_options.h"

#include "tools/penstock/command.h"
#include "tools/penstock/setup.h"

#include <stddef.h>
#include <string.h>

enum { WIKITEXT2_WORDS = 28782 };

#define FIELD(name) offsetof(bench_options, name)
#define TEXT(option, field, words, text)                                                                           \
	{                                                                                                          \
		.name = (option), .kind = OPTION_TEXT, .argument = (words), .offset = FIELD(field), .help = (text) \
	}
#define INTEGER(option, field, least, most, text)                                                          \
	{                                                                                                  \
		.name = (option), .kind = OPTION_INTEGER, .argument = "N", .low = (least), .high = (most), \
		.offset = FIELD(field), .help = (text)                                                     \
	}
#define GROUP(heading)            \
	{                         \
		.help = (heading) \
	}
#define COMPARE \
	TEXT("compare", compare, "FILE", "Ratios to an earlier run, and which differ by more than the noise of both")
#define JSON TEXT("json", json, "FILE|-", "Write one JSON object to FILE, or to standard output in place of the table")
#define MEASURING                                                                   \
	{.name = "seconds",                                                         \
	 .kind = OPTION_REAL,                                                       \
	 .argument = "X",                                                           \
	 .low = 0,                                                                  \
	 .high = 1e6,                                                               \
	 .offset = FIELD(seconds),                                                  \
	 .help = "How long to measure; up to four times as long for three rounds"}, \
	        JSON, COMPARE
#define VOCABULARY \
	INTEGER("vocabulary", run.vocabulary, 1, 1 << 24, "Words; default: 28782, for the preset 'default' 400")
#define DEVICE TEXT("device", device, "DEV", "Where to measure")
#define SHARED GROUP("What is measured; as for penstock train")

static const option_row ops_rows[] = {
        MEASURING,
        DEVICE,
        VOCABULARY,
        SHARED,
        {.name = "preset",
         .kind = OPTION_CHOICE,
         .argument = PRESET_WORDS,
         .offset = FIELD(run.preset),
         .help = "Sizes to start from; unless given: both tutorial and small, and with any size 'default'"},
};
static const char *const ops_shared[] = {"dtype", "emsize",  "nhead", "nhid", "batch-size",
                                         "bptt",  "dropout", "mask",  NULL};
static const char *const gemm_shared[] = {"dtype", "emsize", "nhid", "batch-size", "bptt", "chunks", NULL};

static const option_row step_rows[] = {
        MEASURING,
        {.name = "brief",
         .argument = "",
         .offset = FIELD(brief),
         .help = "Whole steps alone, not what they are made of"},
        TEXT("data", run.data, "DIR|sample", "Text in place of random tokens"),
        VOCABULARY,
        SHARED,
};
static const char *const step_shared[] = {"preset",     "stages",     "balance", "chunks",  "split", "schedule",
                                          "checkpoint", "join",       "dtype",   "graphs",  "link",  "emsize",
                                          "nhead",      "nhid",       "nlayers", "dropout", "mask",  "bptt",
                                          "seed",       "batch-size", NULL};

static const option_row stages_rows[] = {
        MEASURING,
        TEXT("ranks", rank_counts, "N,N,...", "How many stages, one a rank"),
        TEXT("device", device, "DEV", "Which device has all of them; 'cpu' has them in groups of its cores, too"),
        TEXT("stages", run.stages, "DEV,DEV,...", "One list of devices in place of all these"),
        TEXT("schedule", run.schedule, "gpipe|1f1b", "One rule in place of all"),
        INTEGER("vocabulary", run.vocabulary, 1, 1 << 24, "Words; with a preset, as many as its text has"),
        SHARED,
};
static const char *const stages_shared[] = {"preset",  "balance", "chunks", "split", "checkpoint", "join",
                                            "dtype",   "graphs",  "emsize", "nhead", "nhid",       "nlayers",
                                            "dropout", "mask",    "bptt",   "seed",  "batch-size", NULL};

static const option_row link_rows[] = {
        MEASURING,
        TEXT("devices", devices, "DEV,DEV,...", "Between which devices; default: all that are here"),
};

static const option_row executor_rows[] = {
        MEASURING,
        TEXT("stages", run.stages, "DEV,DEV,...", "Up to three stages; default: several lists, on ref and the CPU"),
        INTEGER("chunks", run.chunks, 1, 65536, "Micro-batches of a step"),
};

static const option_row simulate_rows[] = {
        MEASURING,
        INTEGER("ranks", ranks, 1, 65536, "Stages, one a rank"),
        INTEGER("chunks", run.chunks, 1, 65536, "Micro-batches"),
        TEXT("schedule", run.schedule, "gpipe|1f1b", "One rule in place of all"),
};

static const option_row tokenizer_rows[] = {
        MEASURING,
        TEXT("data", run.data, "DIR", "A folder with wiki.{train,valid,test}.tokens"),
};

static const option_row show_rows[] = {COMPARE, JSON};
static const option_row show_file = {
        .name = "FILE.json", .kind = OPTION_TEXT, .argument = "FILE", .offset = FIELD(report)};

static const bench_options ops_defaults = {.seconds = 10, .device = "cpu", .run = {.preset = -1}};
static const bench_options step_defaults = {.seconds = 10};
/* A model of 16 units for up to as many stages, whose step takes less than a tenth of a second on two cores. */
static const bench_options stages_defaults = {.seconds = 10,
                                              .device = "cpu",
                                              .rank_counts = "1,2,4,8",
                                              .run = {.preset = -1,
                                                      .join = JOIN_NEVER,
                                                      .chunks = 8,
                                                      .emsize = 192,
                                                      .nhead = 4,
                                                      .nhid = 768,
                                                      .nlayers = 14,
                                                      .batch_size = 16,
                                                      .bptt = 32,
                                                      .seed = 1,
                                                      .vocabulary = 1024}};
static const bench_options link_defaults = {.seconds = 5};
static const bench_options executor_defaults = {.seconds = 5, .run = {.chunks = 1000}};
static const bench_options simulate_defaults = {.seconds = 5, .ranks = 1024, .run = {.chunks = 4096}};
static const bench_options tokenizer_defaults = {.seconds = 5};
static const bench_options show_defaults;

#define TABLE(name) .rows = name##_rows, .count = sizeof name##_rows / sizeof *name##_rows, .defaults = &name##_defaults

const option_table bench_tables[BENCH_KINDS] = {
        [BENCH_OPS] =
                {.command = "bench ops",
                 .usage = "[OPTION]…",
                 .text = "Measures each op but the products at a model's shapes, and its share of what a plain "
                         "copy or a large\nproduct reaches on the same device in the same run: more than all of it "
                         "where data stay in caches. Without\nsizes: the presets tutorial and small.",
                 .examples = "  penstock bench ops\n"
                             "  penstock bench ops --preset small --device cpu:0 --json before.json\n"
                             "  penstock bench ops --preset small --device cpu:0 --compare before.json\n",
                 TABLE(ops),
                 .shared = &train_table,
                 .shared_names = ops_shared},
        [BENCH_GEMM] = {.command = "bench gemm",
                        .usage = "[OPTION]…",
                        .text = "Measures the products of a model's linear layers, m x n x k with x (m, k) and the "
                                "weight (n, k): forward\ny = x w^T, input dx = dy w, weight dw = dy^T x, and weight+, "
                                "which adds to dw; for the whole batch and for\none micro-batch. Without sizes: the "
                                "presets tutorial and small.",
                        .examples = "  penstock bench gemm --preset tutorial\n"
                                    "  penstock bench gemm --device cuda:0\n"
                                    "  penstock bench gemm --emsize 1024 --nhid 4096 --batch-size 8 --bptt 128\n",
                        .rows = ops_rows,
                        .count = sizeof ops_rows / sizeof *ops_rows,
                        .defaults = &ops_defaults,
                        .shared = &train_table,
                        .shared_names = gemm_shared},
        [BENCH_STEP] = {.command = "bench step",
                        .usage = "[OPTION]…",
                        .text = "Measures whole training steps, the products of a step alone, and steps that are timed "
                                "op by op. [Defaults\nof the model and the pipeline are those of the preset "
                                "'default'.]",
                        .examples = "  penstock bench step --preset small\n"
                                    "  penstock bench step --preset tutorial --stages cpu --checkpoint never\n"
                                    "  penstock bench step --preset small --data wikitext-2 --json step.json\n",
                        TABLE(step),
                        .shared = &train_table,
                        .shared_names = step_shared},
        [BENCH_STAGES] =
                {.command = "bench stages",
                 .usage = "[OPTION]…",
                 .text = "Measures forward and backward over several numbers of stages, beside the bound of the "
                         "schedule: what the\nactions take one by one, added up on one device, and else simulated with "
                         "a device for each rank. 'noise' is how\nfar the bound's share of a step differs between "
                         "rounds. Of each step it tells what is lost: 'cut', as\nmicro-batches take more work than "
                         "the whole batch at once; the schedule's 'bubble'; and 'hand-over' with\nall else. Without "
                         "sizes or preset: 14 layers, 192 wide.",
                 .examples = "  penstock bench stages\n"
                             "  penstock bench stages --ranks 2,4 --schedule 1f1b --chunks 16\n"
                             "  penstock bench stages --stages cuda:0,cuda:1 --preset small\n",
                 TABLE(stages),
                 .shared = &train_table,
                 .shared_names = stages_shared,
                 .own_defaults = true},
        [BENCH_LINK] = {.command = "bench link",
                        .usage = "[OPTION]…",
                        .text = "Measures transfers of several sizes between each two devices, on the link that there "
                                "is and through the host.",
                        .examples = "  penstock bench link\n  penstock bench link --devices cpu:0,cpu:1,opencl:0\n",
                        TABLE(link)},
        [BENCH_EXECUTOR] = {.command = "bench executor",
                            .usage = "[OPTION]…",
                            .text = "Measures what an action costs with next to nothing to compute.",
                            .examples = "  penstock bench executor\n"
                                        "  penstock bench executor --stages cpu:0,cpu:1,ref --chunks 200\n",
                            TABLE(executor)},
        [BENCH_SIMULATE] = {.command = "bench simulate",
                            .usage = "[OPTION]…",
                            .text = "Measures generating, grouping, validating and simulating schedules.",
                            .examples = "  penstock bench simulate\n"
                                        "  penstock bench simulate --schedule 1f1b --ranks 64 --chunks 512\n",
                            TABLE(simulate)},
        [BENCH_TOKENIZER] = {.command = "bench tokenizer",
                             .usage = "--data DIR [OPTION]…",
                             .text = "Measures reading three splits of text, without the cache.",
                             .examples = "  penstock bench tokenizer --data wikitext-2\n",
                             TABLE(tokenizer)},
        [BENCH_SHOW] = {.command = "bench show",
                        .usage = "FILE.json [OPTION]…",
                        .text = "Shows what an earlier run wrote with --json, and compares it with another.",
                        .examples = "  penstock bench show after.json --compare before.json\n",
                        .operand = &show_file,
                        TABLE(show)},
};

const char *bench_name(bench_kind kind)
{
	return bench_tables[kind].command + strlen("bench ");
}

int64_t bench_vocabulary(preset which)
{
	return which == PRESET_DEFAULT ? PS_SAMPLE_VOCABULARY : WIKITEXT2_WORDS;
}

ps_status bench_options_read(bench_options *out, bench_kind kind, const option_settings *settings)
{
	const option_table *table = &bench_tables[kind];
	*out = *(const bench_options *)table->defaults;
	PS_TRY(options_apply(settings, out));
	if (table->shared == NULL)
		return PS_OK;
	if (table->own_defaults && out->run.preset < 0) {
		*out = *(const bench_options *)table->defaults;
	} else {
		preset start = out->run.preset < 0 ? PRESET_DEFAULT : (preset)out->run.preset;
		out->run = *preset_options(start);
		out->run.vocabulary = bench_vocabulary(start);
		/* There is no schedule to speak of where micro-batches are joined. */
		if (table->own_defaults)
			out->run.join = JOIN_NEVER;
	}
	out->run.data = NULL;
	out->run.eval_batch_size = 0;
	out->preset = options_value(settings, "preset") != NULL;
	out->sized = options_value(settings, "vocabulary") != NULL;
	for (int i = 0; table->shared_names[i] != NULL; i++) {
		const char *name = table->shared_names[i];
		out->sized |= strcmp(name, "preset") != 0 && strcmp(name, "dtype") != 0 &&
		              options_value(settings, name) != NULL;
	}
	return options_apply(settings, out);
}

/* The default stages by name, so that runs on other devices are told apart. */
static int set_stages(json_t *object)
{
	char **names, text[256] = "";
	int count;
	if (stages_parse(&names, &count, NULL) != PS_OK)
		return -1;
	for (int i = 0; i < count; i++) {
		size_t length = strlen(text);
		snprintf(text + length, sizeof text - length, "%s%s", i > 0 ? "," : "", names[i]);
	}
	stages_free(names, count);
	return json_object_set_new(object, "stages", json_string(text));
}

json_t *bench_options_json(const bench_options *options, bench_kind kind)
{
	static const char *const sizes[] = {"preset", "vocabulary", "emsize",  "nhead", "nhid",
	                                    "bptt",   "batch_size", "dropout", "mask",  "chunks"};
	json_t *object = options_json(&bench_tables[kind], options);
	bool both = (kind == BENCH_OPS || kind == BENCH_GEMM) && !options->preset && !options->sized;
	/* Those of two presets, of which the rows tell. */
	for (size_t i = 0; both && i < sizeof sizes / sizeof *sizes; i++)
		(void)json_object_del(object, sizes[i]);
	if (object != NULL && kind == BENCH_STEP && options->run.stages == NULL && set_stages(object) != 0) {
		json_decref(object);
		object = NULL;
	}
	return object;
}
