/* The command `penstock`: picks the subcommand. A new one is a file of its own and a row here. */
#include "tools/penstock/bench_options.h"
#include "tools/penstock/command.h"

#include <signal.h>
#include <string.h>

typedef struct subcommand {
	const char *name;
	command_function *run;
	const char *help;
	const option_table *options; /* NULL: those with subcommands of their own */
} subcommand;

static const subcommand subcommands[] = {
        {"train", cmd_train, "train a Transformer as a pipeline of stages", &train_table},
        {"eval", cmd_eval, "compute the loss of saved weights", &eval_table},
        {"verify", cmd_verify, "check a device's results against another's, op by op", &verify_table},
        {"trace", cmd_trace, "sum up and draw one step of a run", &trace_table},
        {"devices", cmd_devices, "list the devices that are here, and what did not load", &devices_table},
        {"tune", cmd_tune, "search for what makes a device's products fast, and keep it", &tune_table},
        {"bench", cmd_bench, "measure how fast things are here", NULL},
        {"data", cmd_data, "fetch a corpus, or look at one", NULL},
};

enum { SUBCOMMANDS = sizeof subcommands / sizeof *subcommands };

static void print_help(FILE *to)
{
	fputs("Usage: penstock SUBCOMMAND [OPTION]…\n\nTrains Transformers as a pipeline of stages over the devices of "
	      "one "
	      "machine.\n\n",
	      to);
	for (int i = 0; i < SUBCOMMANDS; i++)
		fprintf(to, "  %-10s %s\n", subcommands[i].name, subcommands[i].help);
	fputs("  help       show this text, or that of a subcommand: penstock help train\n"
	      "  version    show the version\n"
	      "\n"
	      "Examples:\n"
	      "  penstock train                          # a small model on the built-in corpus, in a few seconds\n"
	      "  penstock devices                        # what a stage can run on\n"
	      "  penstock verify --device opencl:0       # does that one compute what the reference does\n"
	      "  penstock tune opencl:0                  # make an OpenCL device's products faster\n"
	      "  penstock data fetch wikitext-2          # WikiText-2 into the folder wikitext-2\n"
	      "  penstock train --preset small --data wikitext-2 --save best.safetensors\n"
	      "  penstock eval --load best.safetensors --data wikitext-2\n",
	      to);
}

static const subcommand *find(const char *name)
{
	for (int i = 0; i < SUBCOMMANDS; i++) {
		if (strcmp(subcommands[i].name, name) == 0)
			return &subcommands[i];
	}
	return NULL;
}

static int fail_unknown(const char *name)
{
	const char *names[SUBCOMMANDS + 3] = {NULL};
	for (int i = 0; i < SUBCOMMANDS; i++)
		names[i] = subcommands[i].name;
	names[SUBCOMMANDS] = "help";
	names[SUBCOMMANDS + 1] = "version";
	const char *nearest = options_nearest(name, names);
	if (nearest != NULL)
		fprintf(stderr, "penstock: there is no subcommand '%.60s'; did you mean %s?\n", name, nearest);
	else
		fprintf(stderr, "penstock: there is no subcommand '%.60s'; penstock --help lists them\n", name);
	return EXIT_WRONG_INPUT;
}

static int run_help(int argc, char **argv)
{
	if (argc < 2) {
		print_help(stdout);
		return EXIT_DONE;
	}
	const subcommand *command = find(argv[1]);
	if (command == NULL)
		return fail_unknown(argv[1]);
	/* Of a subcommand's own subcommand too: help bench ops. */
	char option[] = "--help", *arguments[] = {argv[1], argc > 2 ? argv[2] : option, option, NULL};
	return command->run(argc > 2 ? 3 : 2, arguments);
}

static int list_options(void)
{
	for (int i = 0; i < SUBCOMMANDS; i++) {
		if (subcommands[i].options != NULL)
			options_list(subcommands[i].options, stdout);
	}
	for (int i = 0; i < BENCH_KINDS; i++)
		options_list(&bench_tables[i], stdout);
	options_list(&data_fetch_table, stdout);
	options_list(&data_info_table, stdout);
	return EXIT_DONE;
}

static int dispatch(int argc, char **argv)
{
	if (argc < 2) {
		fputs("penstock: give a subcommand, such as train; penstock --help lists them\n", stderr);
		return EXIT_WRONG_INPUT;
	}
	const char *name = argv[1];
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0)
		return run_help(argc - 1, argv + 1);
	if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
		puts("penstock " PS_VERSION);
		return EXIT_DONE;
	}
	if (strcmp(name, "__options") == 0)
		return list_options();
	const subcommand *command = find(name);
	return command != NULL ? command->run(argc - 1, argv + 1) : fail_unknown(name);
}

int main(int argc, char **argv)
{
	/* A reader who has gone away shows as a failed write. */
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	int status = dispatch(argc, argv);
	if ((fflush(stdout) != 0 || ferror(stdout)) && status == EXIT_DONE) {
		fputs("penstock: standard output could not be written to the end\n", stderr);
		status = EXIT_RUN_FAILED;
	}
	return status;
}
