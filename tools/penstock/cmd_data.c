/* `penstock data info DIR` and `penstock data fetch NAME`. */
#include "tools/penstock/command.h"
#include "tools/penstock/progress.h"

#include <penstock/data.h>

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FREQUENT_WORDS = 10 };

typedef struct data_options {
	const char *name, *to, *url; /* fetch */
	const char *folder;          /* info */
	bool json;
} data_options;

static const data_options defaults;

static const option_row name_row = {
        .name = "NAME", .kind = OPTION_TEXT, .argument = "NAME", .offset = offsetof(data_options, name)};

static const option_row fetch_rows[] = {
        {.name = "to",
         .kind = OPTION_TEXT,
         .argument = "DIR",
         .offset = offsetof(data_options, to),
         .help = "Put the files into this folder; default: one with the name of the corpus"},
        {.name = "url",
         .kind = OPTION_TEXT,
         .argument = "URL",
         .offset = offsetof(data_options, url),
         .help = "Take the archive from this address (http or https)"},
};

const option_table data_fetch_table = {
        .command = "data fetch",
        .usage = "NAME [--to DIR] [--url URL]",
        .text = "Downloads a published corpus, checks it and unpacks it. A download that was cut off goes on where it\n"
                "ended when the same command is run again.",
        .examples = "  penstock data fetch wikitext-2\n"
                    "  penstock train --preset small --data wikitext-2\n",
        .operand = &name_row,
        .rows = fetch_rows,
        .count = sizeof fetch_rows / sizeof *fetch_rows,
        .defaults = &defaults,
};

static const option_row folder_row = {
        .name = "DIR", .kind = OPTION_TEXT, .argument = "DIR|sample", .offset = offsetof(data_options, folder)};

static const option_row info_rows[] = {
        {.name = "json",
         .argument = "",
         .offset = offsetof(data_options, json),
         .help = "Write one JSON object in place of the table"},
};

const option_table data_info_table = {
        .command = "data info",
        .usage = "DIR|sample [--json]",
        .text = "Shows what a corpus holds: a folder with wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens,\n"
                "or the built-in sample.",
        .examples = "  penstock data info sample\n"
                    "  penstock data info wikitext-2 --json\n",
        .operand = &folder_row,
        .rows = info_rows,
        .count = sizeof info_rows / sizeof *info_rows,
        .defaults = &defaults,
};

/* A word and how often the training split has it. */
typedef struct frequent {
	int32_t id;
	uint64_t count;
} frequent;

/* The most frequent words but <unk>, in falling order; returns how many there are. */
static int find_frequent(const ps_corpus *corpus, frequent best[FREQUENT_WORDS])
{
	int32_t vocabulary = ps_corpus_vocabulary(corpus);
	uint64_t *counts = calloc((size_t)vocabulary, sizeof *counts);
	if (counts == NULL)
		return 0;
	size_t tokens = 0;
	const int32_t *ids = ps_corpus_tokens(corpus, PS_SPLIT_TRAIN, &tokens);
	for (size_t i = 0; i < tokens; i++)
		counts[ids[i]]++;
	int found = 0;
	for (int32_t id = 1; id < vocabulary; id++) {
		int at = found;
		while (at > 0 && best[at - 1].count < counts[id])
			at--;
		if (at == FREQUENT_WORDS || counts[id] == 0)
			continue;
		found += found < FREQUENT_WORDS;
		memmove(best + at + 1, best + at, (size_t)(found - at - 1) * sizeof *best);
		best[at] = (frequent){id, counts[id]};
	}
	free(counts);
	return found;
}

static double share(const ps_split_info *info)
{
	return info->tokens > 0 ? (double)info->unknown / (double)info->tokens : 0;
}

static void print_text(const ps_corpus *corpus, const char *where)
{
	printf("corpus       %s\n", where);
	printf("vocabulary   %" PRId32 " words\n", ps_corpus_vocabulary(corpus));
	double entropy = ps_corpus_entropy(corpus);
	if (isnan(entropy))
		printf("entropy      not known\n");
	else
		printf("entropy      %.6f nats per token (perplexity %.4f)\n", entropy, exp(entropy));
	printf("\n%-6s %13s %11s %12s %9s\n", "split", "bytes", "lines", "tokens", "unknown");
	for (int s = 0; s < PS_SPLIT_COUNT; s++) {
		ps_split_info info = ps_corpus_split_info(corpus, (ps_split)s);
		printf("%-6s %13" PRIu64 " %11" PRIu64 " %12zu %8.3f%%\n", ps_split_name((ps_split)s), info.bytes,
		       info.lines, info.tokens, 100 * share(&info));
	}
	frequent best[FREQUENT_WORDS];
	int found = find_frequent(corpus, best);
	printf("\nmost frequent words\n");
	for (int i = 0; i < found; i++)
		printf("%12" PRIu64 "  %s\n", best[i].count, ps_corpus_word(corpus, best[i].id));
}

static json_t *split_json(const ps_corpus *corpus, ps_split split)
{
	ps_split_info info = ps_corpus_split_info(corpus, split);
	return json_pack("{s:s?, s:I, s:I, s:I, s:I, s:f}", "path", info.path, "bytes", (json_int_t)info.bytes, "lines",
	                 (json_int_t)info.lines, "tokens", (json_int_t)info.tokens, "unknown", (json_int_t)info.unknown,
	                 "unknown_share", share(&info));
}

static json_t *corpus_json(const ps_corpus *corpus, const char *where)
{
	frequent best[FREQUENT_WORDS];
	int found = find_frequent(corpus, best);
	json_t *words = json_array();
	for (int i = 0; i < found; i++)
		(void)json_array_append_new(words, json_pack("{s:s, s:I}", "word", ps_corpus_word(corpus, best[i].id),
		                                             "count", (json_int_t)best[i].count));
	double entropy = ps_corpus_entropy(corpus);
	return json_pack("{s:s%, s:i, s:o, s:{s:o, s:o, s:o}, s:o}", "corpus", where, strlen(where), "vocabulary",
	                 (int)ps_corpus_vocabulary(corpus), "entropy",
	                 isnan(entropy) ? json_null() : json_real(entropy), "splits", "train",
	                 split_json(corpus, PS_SPLIT_TRAIN), "valid", split_json(corpus, PS_SPLIT_VALID), "test",
	                 split_json(corpus, PS_SPLIT_TEST), "frequent", words);
}

static ps_status run_info(const data_options *options)
{
	const char *folder = options->folder;
	if (folder == NULL)
		return ps_fail(PS_EINVAL,
		               "DIR is missing; give a folder with wiki.{train,valid,test}.tokens, or sample");
	ps_corpus *corpus;
	PS_TRY(command_fail_corpus(ps_corpus_open(&corpus, folder, NULL), folder));
	ps_status status = PS_OK;
	if (options->json)
		status = command_print_json(corpus_json(corpus, folder), false);
	else
		print_text(corpus, folder);
	ps_corpus_close(corpus);
	return status;
}

static int show_progress(void *user, uint64_t done, uint64_t total)
{
	struct progress_line *line = user;
	double megabytes = (double)done * 1e-6;
	if (!progress_line_due(line))
		return 0;
	if (total > 0)
		progress_line_show(line, "%.1f of %.1f MB  %3.0f%%", megabytes, (double)total * 1e-6,
		                   100.0 * (double)done / (double)total);
	else
		progress_line_show(line, "%.1f MB", megabytes);
	return 0;
}

static ps_status find_source(const char *name, const ps_fetch_source **out)
{
	char known[256] = "";
	const ps_fetch_source *source;
	*out = name != NULL ? ps_fetch_source_find(name) : NULL;
	if (*out != NULL)
		return PS_OK;
	for (size_t i = 0; (source = ps_fetch_source_at(i)) != NULL; i++) {
		size_t used = strlen(known);
		snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "", source->name);
	}
	if (name == NULL)
		return ps_fail(PS_EINVAL, "NAME is missing; there are: %s", known);
	return ps_fail(PS_EINVAL, "there is no corpus '%.60s'; there are: %s", name, known);
}

static ps_status run_fetch(const data_options *options)
{
	const ps_fetch_source *source;
	PS_TRY(find_source(options->name, &source));
	const char *to = options->to != NULL ? options->to : source->name;
	struct progress_line line;
	progress_line_init(&line);
	ps_status status = ps_data_fetch(
	        source, to, &(ps_fetch_options){.url = options->url, .progress = show_progress, .user = &line});
	progress_line_clear(&line);
	if (status == PS_OK)
		printf("%s is in %s, complete and checked; train on it with: penstock train --data %s\n", source->name,
		       to, to);
	return status;
}

static void print_help(void)
{
	puts("Usage: penstock data fetch NAME [OPTION]…\n       penstock data info DIR|sample [OPTION]…\n\n"
	     "  fetch      Downloads a published corpus, checks it and unpacks it.\n"
	     "  info       Shows what a corpus holds.\n\nEach explains itself with "
	     "--help.\n\nExamples:\n  penstock data fetch wikitext-2\n  penstock data info wikitext-2");
}

int cmd_data(int argc, char **argv)
{
	static const char *const names[] = {"fetch", "info", NULL};
	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		print_help();
		return EXIT_DONE;
	}
	int which = command_choose(names, argc, argv, "what to do");
	if (which < 0)
		return command_fail("data", PS_EINVAL);
	const option_table *table = which == 0 ? &data_fetch_table : &data_info_table;
	option_settings settings;
	int exit_status = EXIT_DONE;
	if (command_begin(&settings, table, argc - 1, argv + 1, &exit_status)) {
		data_options options = defaults;
		ps_status status = options_apply(&settings, &options);
		if (status == PS_OK)
			status = which == 0 ? run_fetch(&options) : run_info(&options);
		if (status != PS_OK)
			exit_status = command_fail(table->command, status);
	}
	options_finish(&settings);
	return exit_status;
}
