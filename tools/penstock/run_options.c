/* The presets, and the table of options that `penstock train` takes. */
#include "tools/penstock/run_options.h"

#include "tools/penstock/command.h"

#include <stddef.h>

static const run_options presets[] = {
        [PRESET_DEFAULT] = {.preset = PRESET_DEFAULT,
                            .data = "sample",
                            .schedule = "1f1b",
                            .chunks = 4,
                            .checkpoint = PS_CHECKPOINT_NEVER,
                            .emsize = 64,
                            .nhead = 4,
                            .nhid = 128,
                            .nlayers = 2,
                            .dropout = 0.0,
                            .batch_size = 32,
                            .eval_batch_size = 32,
                            .bptt = 32,
                            .epochs = 4,
                            .steps_per_epoch = 400,
                            .eval_steps = 20,
                            .lr = 4.0,
                            .lr_decay = 0.4,
                            .clip = 0.5,
                            .seed = 1,
                            .log_interval = 100},
        [PRESET_SMALL] = {.preset = PRESET_SMALL,
                          .data = "sample",
                          .schedule = "1f1b",
                          .chunks = 4,
                          .checkpoint = PS_CHECKPOINT_NEVER,
                          .emsize = 512,
                          .nhead = 8,
                          .nhid = 2048,
                          .nlayers = 6,
                          .dropout = 0.2,
                          .batch_size = 20,
                          .eval_batch_size = 10,
                          .bptt = 35,
                          .epochs = 3,
                          .steps_per_epoch = 0,
                          .eval_steps = 0,
                          .lr = 5.0,
                          .lr_decay = 0.95,
                          .clip = 0.5,
                          .seed = 1,
                          .log_interval = 10},
        [PRESET_TUTORIAL] = {.preset = PRESET_TUTORIAL,
                             .data = "sample",
                             .balance = "even",
                             .schedule = "gpipe",
                             .chunks = 8,
                             .split = PS_SPLIT_TORCH,
                             .checkpoint = PS_CHECKPOINT_EXCEPT_LAST,
                             .emsize = 4096,
                             .nhead = 16,
                             .nhid = 4096,
                             .nlayers = 12,
                             .dropout = 0.2,
                             .batch_size = 20,
                             .eval_batch_size = 10,
                             .bptt = 25,
                             .epochs = 3,
                             .steps_per_epoch = 50,
                             .eval_steps = 50,
                             .lr = 5.0,
                             .lr_decay = 0.95,
                             .clip = 0.5,
                             .seed = 1,
                             .log_interval = 10},
};

const run_options *preset_options(preset which)
{
	static run_options as_published;
	if (which != PRESET_AS_PUBLISHED)
		return &presets[which];
	as_published = presets[PRESET_TUTORIAL];
	as_published.preset = PRESET_AS_PUBLISHED;
	as_published.mask = MASK_NONE;
	as_published.mistakes = (ps_mistakes){.misaligned_targets = true,
	                                      .no_mask = true,
	                                      .evaluation_fraction = true,
	                                      .first_window = true,
	                                      .printed_rate = true,
	                                      .best_is_last = true};
	return &as_published;
}

#define FIELD(name) offsetof(run_options, name)
#define GROUP(heading)            \
	{                         \
		.help = (heading) \
	}
#define TEXT(option, field, words, text)                                                                           \
	{                                                                                                          \
		.name = (option), .kind = OPTION_TEXT, .argument = (words), .offset = FIELD(field), .help = (text) \
	}
#define CHOICE(option, field, words, text)                                                                           \
	{                                                                                                            \
		.name = (option), .kind = OPTION_CHOICE, .argument = (words), .offset = FIELD(field), .help = (text) \
	}
#define INTEGER(option, field, least, most, text)                                                          \
	{                                                                                                  \
		.name = (option), .kind = OPTION_INTEGER, .argument = "N", .low = (least), .high = (most), \
		.offset = FIELD(field), .help = (text)                                                     \
	}
#define REAL(option, field, words, least, most, which, text)                                                \
	{                                                                                                   \
		.name = (option), .kind = OPTION_REAL, .argument = (words), .low = (least), .high = (most), \
		.open = (which), .offset = FIELD(field), .help = (text)                                     \
	}

static const option_row train_rows[] = {
        GROUP("What is trained"),
        CHOICE("preset", preset, PRESET_WORDS, "Sizes and options to start from; every other option overrides it"),
        TEXT("data", data, "DIR|sample", "A folder with wiki.{train,valid,test}.tokens, or the built-in corpus"),
        TEXT("init", init, "FILE", "Start weights by name from a safetensors file"),
        TEXT("resume", resume, "FILE", "Go on exactly where the run stood that wrote FILE with --save-last"),
        TEXT("config", config, "FILE", "Read 'name = value' lines; the command line overrides them"),

        GROUP("The pipeline"),
        TEXT("stages", stages, "DEV,DEV,...",
             "One device for each stage, or for each rank of a schedule file; default: two halves of the CPU cores"),
        TEXT("balance", balance, "7,7|params|flops|time",
             "Units of each stage (embedding, each layer, decoder), or even out parameters, counted operations or "
             "measured time [flops]"),
        INTEGER("chunks", chunks, 1, 65536, "Micro-batches in a batch, no more than it has rows"),
        CHOICE("split", split, "even|torch", "Micro-batches that differ by a row at most, or rounded up as PyTorch's"),
        TEXT("schedule", schedule, "gpipe|1f1b|FILE", "The order of work: a rule's name or a schedule file"),
        CHOICE("checkpoint", checkpoint, "never|except-last|always", "Which micro-batches compute activations again"),
        CHOICE("join", join, "auto|never",
               "Micro-batches at once where all stages are on one device and nobody waits for one"),
        CHOICE("dtype", dtype, DTYPE_WORDS, "Numbers: bf16 is fp32 with bf16 products, bf16-pure has bf16 weights too"),
        CHOICE("graphs", graphs, GRAPHS_WORDS, "Replay what GPUs do in each step as CUDA graphs, or op by op"),
        CHOICE("link", link, LINK_WORDS,
               "Between devices copy directly where that works, or always through host memory"),
        TEXT("shadow", shadow, "STAGE[:every=N],...",
             "Check each op of these stages, or of 'all', in every N-th step on the reference"),

        GROUP("The model"),
        INTEGER("emsize", emsize, 2, 1 << 20, "Width; --nhead divides it"),
        INTEGER("nhead", nhead, 1, 65536, "Attention heads"),
        INTEGER("nhid", nhid, 1, 1 << 24, "Width of the feed-forward layers"),
        INTEGER("nlayers", nlayers, 1, 65536, "Encoder layers"),
        REAL("dropout", dropout, "P", 0, 1, OPEN_HIGH, "Probability with which a value is dropped"),
        CHOICE("mask", mask, MASK_WORDS, "A position sees itself and those before it alone, or all"),

        GROUP("Training"),
        INTEGER("batch-size", batch_size, 1, 1 << 20, "Rows of a training batch"),
        INTEGER("eval-batch-size", eval_batch_size, 1, 1 << 20, "Rows of an evaluation batch"),
        INTEGER("bptt", bptt, 1, 1 << 20, "Tokens of a row"),
        INTEGER("epochs", epochs, 1, 1000000, "Epochs, each from the first token on"),
        INTEGER("steps-per-epoch", steps_per_epoch, 0, 1e9, "Batches of an epoch; 0: all"),
        INTEGER("eval-steps", eval_steps, 0, 1e9, "Batches of an evaluation; 0: all"),
        REAL("lr", lr, "X", 0, 1e6, OPEN_LOW, "Learning rate of the first epoch"),
        REAL("lr-decay", lr_decay, "X", 0, 1000, OPEN_LOW, "Factor on the rate after each epoch"),
        REAL("clip", clip, "X", 0, 1e12, CLOSED, "Bound on the norm of the whole gradient; 0: none"),
        {.name = "seed",
         .kind = OPTION_SEED,
         .argument = "N",
         .offset = FIELD(seed),
         .help = "Decides start weights and dropout, for every cut and schedule alike"},

        GROUP("What is written"),
        TEXT("save", save, "FILE", "The weights that were best on the validation split (safetensors)"),
        TEXT("save-last", save_last, "FILE",
             "The last weights, with all that --resume needs (safetensors), after each epoch and at the end"),
        TEXT("log", log, "FILE.jsonl",
             "One JSON object a line: start, steps, evaluations, end; --resume adds to the file that is there"),
        INTEGER("log-interval", log_interval, 1, 1e9, "Steps that a line on standard output covers"),
        TEXT("trace", trace, "FILE.json",
             "When each action and transfer of every step ran, for penstock trace and Perfetto (ui.perfetto.dev); each "
             "step is waited for, which takes longer"),
};

const option_table train_table = {
        .command = "train",
        .usage = "[OPTION]…",
        .text = "Trains a Transformer language model as a pipeline of stages. Without options: a small model on the\n"
                "built-in corpus, over two halves of the CPU, in a few seconds. [Defaults are those of the preset\n"
                "'default'.]",
        .examples = "  penstock train\n"
                    "      The small model; the last line says how close it came to the entropy of its text.\n"
                    "  penstock train --data wikitext-2 --preset small --save best.safetensors --log run.jsonl\n"
                    "      WikiText-2 (penstock data fetch wikitext-2), the best weights and a log for programs.\n"
                    "  penstock train --stages cpu:0-3,cpu:4-7 --balance 4,4 --chunks 8 --schedule gpipe\n"
                    "      Four units on each of two groups of cores, eight micro-batches a batch.\n"
                    "  penstock train --preset tutorial --data wikitext-2 --epochs 1 --steps-per-epoch 3\n"
                    "      Three steps of PyTorch's pipeline tutorial at its full 1,444,261,998 parameters.\n"
                    "  penstock train --preset tutorial --data wikitext-2 --stages cuda:0,cuda:1 --dtype bf16\n"
                    "      All of it on two NVIDIA GPUs, a stage on each, with products in bf16.\n"
                    "  penstock train --stages opencl:0,cpu --shadow 0:every=100\n"
                    "      What the OpenCL device computes is checked op by op in each hundredth step.\n"
                    "  penstock train --epochs 9 --save-last last.safetensors     # (and then Ctrl-C)\n"
                    "  penstock train --epochs 9 --save-last last.safetensors --resume last.safetensors\n"
                    "      Ctrl-C stops after the step that runs, a second one at once; the run goes on from there\n"
                    "      as if nothing had happened.\n",
        .rows = train_rows,
        .count = sizeof train_rows / sizeof *train_rows,
        .defaults = &presets[PRESET_DEFAULT],
};

static const option_row eval_rows[] = {
        TEXT("load", load, "FILE", "Weights that --save or --save-last wrote, or a safetensors file of the same names"),
        TEXT("data", data, "DIR|sample", "A folder with wiki.{train,valid,test}.tokens, or the built-in corpus"),
        TEXT("stages", stages, "DEV,DEV,...", "One device for each stage; default: two halves of the CPU cores"),
        CHOICE("dtype", dtype, DTYPE_WORDS, "Numbers to compute in; default: as FILE was trained"),
        CHOICE("graphs", graphs, GRAPHS_WORDS, "Replay what GPUs do in each step as CUDA graphs, or op by op"),
        CHOICE("link", link, LINK_WORDS,
               "Between devices copy directly where that works, or always through host memory"),
        INTEGER("nhead", nhead, 1, 65536, "Attention heads; default: as FILE says"),
        CHOICE("mask", mask, MASK_WORDS,
               "A position sees itself and those before it alone, or all; default: as FILE says"),
        INTEGER("eval-batch-size", eval_batch_size, 1, 1 << 20, "Rows of a batch; default: as FILE says"),
        INTEGER("bptt", bptt, 1, 1 << 20, "Tokens of a row; default: as FILE says"),
        INTEGER("eval-steps", eval_steps, 0, 1e9, "Batches of each split; 0: all"),
        {.name = "json", .argument = "", .offset = FIELD(json), .help = "Write one JSON object in place of the lines"},
};

const run_options eval_defaults = {.data = "sample", .mask = -1, .dtype = -1};

const option_table eval_table = {
        .command = "eval",
        .usage = "--load FILE [OPTION]…",
        .text = "Computes the loss of saved weights on the validation and the test split, with no dropout.",
        .examples = "  penstock train --preset small --data wikitext-2 --save best.safetensors\n"
                    "  penstock eval --load best.safetensors --data wikitext-2\n"
                    "  penstock eval --load best.safetensors --data wikitext-2 --stages ref --eval-steps 5\n"
                    "      The same on the reference, five batches of each split.\n",
        .rows = eval_rows,
        .count = sizeof eval_rows / sizeof *eval_rows,
        .defaults = &eval_defaults,
};

ps_status train_options_read(run_options *out, const option_settings *settings)
{
	*out = *preset_options(PRESET_DEFAULT);
	/* The checks of all values first, so that a wrong preset is told like any other. */
	PS_TRY(options_apply(settings, out));
	*out = *preset_options((preset)out->preset);
	PS_TRY(options_apply(settings, out));
	out->mistakes.no_mask = out->mistakes.no_mask && out->mask == MASK_NONE;
	return PS_OK;
}
