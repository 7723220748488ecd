/* `penstock data info DIR` and `penstock data fetch NAME`. */
#include "tools/penstock/cmd_data.h"

#include "train/json.h"

#include <penstock/data.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

enum { EXIT_DONE, EXIT_FAILED, EXIT_USAGE, FREQUENT_WORDS = 10 };

static const char help[] =
        "Usage: penstock data info DIR|sample [--json]\n"
        "       penstock data fetch NAME [--url URL] [--to DIR]\n"
        "\n"
        "  info     Shows what a corpus holds: a folder with wiki.train.tokens, wiki.valid.tokens and\n"
        "           wiki.test.tokens, or the built-in sample.\n"
        "  fetch    Downloads a published corpus, checks it and unpacks it. A download that was cut off\n"
        "           goes on where it ended when the same command is run again.\n"
        "\n"
        "  --json       info: one JSON object in place of the table\n"
        "  --url URL    fetch: take the archive from this address (http or https)\n"
        "  --to DIR     fetch: put the files into this folder; the default is the name of the corpus\n"
        "\n"
        "Examples:\n"
        "  penstock data info sample\n"
        "  penstock data fetch wikitext-2\n"
        "  penstock data info wikitext-2 --json\n";

/* What the command line says. */
typedef struct arguments {
	const char *what; /* the folder or the name */
	const char *url;
	const char *to;
	int json;
	int help;
} arguments;

/* Writes one line on standard error; control characters of a file name cannot break it in two. */
static void error_line(const char *command, const char *text, const char *detail)
{
	char line[2048];
	snprintf(line, sizeof line, "penstock data%s%s: %s%s", command[0] != '\0' ? " " : "", command, text, detail);
	for (char *c = line; *c != '\0'; c++) {
		if ((unsigned char)*c < ' ' || *c == 0x7F)
			*c = '?';
	}
	fprintf(stderr, "%s\n", line);
}

static int fail_usage(const char *command, const char *text, const char *detail)
{
	error_line(command, text, detail);
	return EXIT_USAGE;
}

/* The value of an option "--name VALUE" or "--name=VALUE" at argv[*at], or NULL when it is another option. */
static const char *option_value(int argc, char **argv, int *at, const char *name, int *missing)
{
	size_t length = strlen(name);
	/* *at < argc. NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker) */
	if (strncmp(argv[*at], name, length) != 0)
		return NULL;
	if (argv[*at][length] == '=')
		return argv[*at] + length + 1;
	if (argv[*at][length] != '\0')
		return NULL;
	if (*at + 1 == argc) {
		*missing = 1;
		return NULL;
	}
	return argv[++*at];
}

/* Reads the arguments of a subcommand; argv[0] is its name. Returns EXIT_DONE or EXIT_USAGE. */
static int parse(int argc, char **argv, arguments *out)
{
	*out = (arguments){0};
	int fetch = strcmp(argv[0], "fetch") == 0;
	int only_operands = 0;
	for (int i = 1; i < argc; i++) {
		const char *argument = argv[i];
		const char *value = NULL;
		int missing = 0;
		if (only_operands || argument[0] != '-') {
			if (out->what != NULL)
				return fail_usage(argv[0], "one name is enough; this is too much: ", argument);
			out->what = argument;
		} else if (strcmp(argument, "--") == 0) {
			only_operands = 1;
		} else if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
			out->help = 1;
		} else if (!fetch && strcmp(argument, "--json") == 0) {
			out->json = 1;
		} else if (fetch && (value = option_value(argc, argv, &i, "--url", &missing)) != NULL) {
			out->url = value;
		} else if (fetch && !missing && (value = option_value(argc, argv, &i, "--to", &missing)) != NULL) {
			out->to = value;
		} else if (missing) {
			return fail_usage(argv[0], "a value is missing after ", argument);
		} else {
			return fail_usage(argv[0], "there is no such option (see penstock data --help): ", argument);
		}
	}
	return EXIT_DONE;
}

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

static int print_text(const ps_corpus *corpus, const char *where)
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
	return EXIT_DONE;
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

/* Writes an object as one line and gives it up; NULL, from text that JSON cannot hold for instance, is a failure. */
static int print_json(json_t *object)
{
	char *text = object != NULL ? ps__json_text(object, 0) : NULL;
	int done = text != NULL && puts(text) != EOF;
	free(text);
	json_decref(object);
	if (done)
		return EXIT_DONE;
	error_line("", "the result cannot be written as JSON", "");
	return EXIT_FAILED;
}

/* The exit status of a failed call, with its message on standard error and, if asked for, as JSON. */
static int report(ps_status status, int json)
{
	error_line("", ps_error_message(), "");
	if (json)
		(void)print_json(
		        json_pack("{s:s, s:s}", "error", ps_error_message(), "status", ps_status_name(status)));
	return ps_status_is_usage(status) ? EXIT_USAGE : EXIT_FAILED;
}

static int run_info(const arguments *given)
{
	if (given->what == NULL)
		return fail_usage("info", "no corpus was named; name a folder with wiki.{train,valid,test}.tokens, or ",
		                  "sample");
	ps_corpus *corpus = NULL;
	ps_status status = ps_corpus_open(&corpus, given->what, NULL);
	if (status != PS_OK)
		return report(status, given->json);
	int code = given->json ? print_json(corpus_json(corpus, given->what)) : print_text(corpus, given->what);
	ps_corpus_close(corpus);
	if (fflush(stdout) != 0) {
		error_line("", "the result cannot be written to standard output", "");
		code = EXIT_FAILED;
	}
	return code;
}

/* How far the progress was shown. */
typedef struct shown {
	int terminal;
	int tenths;
	int64_t milliseconds;
} shown;

/* A line that is written over on a terminal; elsewhere a line each tenth. */
static int show_progress(void *user, uint64_t done, uint64_t total)
{
	shown *last = user;
	struct timespec now;
	if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
		return 0;
	int64_t milliseconds = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
	double megabytes = (double)done / 1e6;
	if (last->terminal && (milliseconds - last->milliseconds >= 100 || done == total)) {
		last->milliseconds = milliseconds;
		if (total > 0)
			fprintf(stderr, "\r%6.1f of %.1f MB  %3.0f%%", megabytes, (double)total / 1e6,
			        100.0 * (double)done / (double)total);
		else
			fprintf(stderr, "\r%6.1f MB", megabytes);
	} else if (!last->terminal && total > 0 && (int)(10 * done / total) > last->tenths) {
		last->tenths = (int)(10 * done / total);
		fprintf(stderr, "%.1f of %.1f MB\n", megabytes, (double)total / 1e6);
	}
	return 0;
}

/* The names of all known data sets, in quotes. */
static void list_sources(char *text, size_t size)
{
	text[0] = '\0';
	const ps_fetch_source *source = NULL;
	for (size_t i = 0; (source = ps_fetch_source_at(i)) != NULL; i++) {
		size_t used = strlen(text);
		snprintf(text + used, size - used, "%s%s", i > 0 ? ", " : "", source->name);
	}
}

static int run_fetch(const arguments *given)
{
	char known[256];
	list_sources(known, sizeof known);
	if (given->what == NULL)
		return fail_usage("fetch", "no corpus was named; there are: ", known);
	const ps_fetch_source *source = ps_fetch_source_find(given->what);
	if (source == NULL) {
		char text[512];
		snprintf(text, sizeof text, "there is no corpus %.200s; there are: ", given->what);
		return fail_usage("fetch", text, known);
	}
	const char *to = given->to != NULL ? given->to : source->name;
	shown progress = {.terminal = isatty(STDERR_FILENO)};
	ps_fetch_options options = {.url = given->url, .progress = show_progress, .user = &progress};
	ps_status status = ps_data_fetch(source, to, &options);
	if (progress.milliseconds != 0)
		fputc('\n', stderr);
	if (status != PS_OK)
		return report(status, 0);
	printf("%s is in %s, complete and checked; train on it with: penstock train --data %s\n", source->name, to, to);
	return EXIT_DONE;
}

int ps_cmd_data(int argc, char **argv)
{
	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		fputs(help, stdout);
		return EXIT_DONE;
	}
	if (argc < 2)
		return fail_usage("", "no subcommand was named; there are info and fetch (see penstock data --help)",
		                  "");
	int info = strcmp(argv[1], "info") == 0;
	if (!info && strcmp(argv[1], "fetch") != 0)
		return fail_usage("", "there is no such subcommand, only info and fetch: ", argv[1]);
	arguments given;
	int code = parse(argc - 1, argv + 1, &given);
	if (code != EXIT_DONE)
		return code;
	if (given.help) {
		fputs(help, stdout);
		return EXIT_DONE;
	}
	return info ? run_info(&given) : run_fetch(&given);
}
