/* What all subcommands share: the line of an error, --help, JSON, and signals that ask for an end. */
#include "tools/penstock/command.h"
#include "tools/penstock/progress.h"

#include "train/json.h"

#include <penstock/data.h>
#include <penstock/device.h>

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A signal that asks for an end, and what its handler writes; set before it is caught. */
static struct {
	const int number;
	const char *const insists; /* what ends the program at once then */
	char line[512];
	size_t length;
} signals[] = {{SIGINT, "a second Ctrl-C", "", 0}, {SIGTERM, "a second SIGTERM", "", 0}, {SIGHUP, "SIGTERM", "", 0}};

enum { SIGNALS = sizeof signals / sizeof *signals };

/*
 * One request may come as several signals: timeout(1) sends its own twice, and a terminal that closes sends SIGHUP
 * itself and by the shell. So SIGHUP never insists, and the others not within this time.
 */
#define SAME_REQUEST_NS INT64_C(500000000)

static volatile sig_atomic_t interrupted; /* the first signal's number; 0: none came */
static _Atomic(int64_t) interrupted_ns;   /* when it came */
static bool json_wanted, json_printed;

ps_status command_print_json(json_t *object, bool figures)
{
	char *text = object == NULL ? NULL
	             : figures      ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9))
	                            : ps__json_text(object, JSON_COMPACT);
	json_decref(object);
	if (text == NULL)
		return ps_fail(PS_ENOMEM, "no memory for the result as JSON");
	puts(text);
	free(text);
	json_printed = true;
	return PS_OK;
}

int command_fail(const char *command, ps_status status)
{
	/* One line, whatever a file name or a damaged file put into the message. */
	char text[1024];
	snprintf(text, sizeof text, "%s%s", ps_error_message(),
	         status == PS_ENODEV ? "; penstock devices lists what is here" : "");
	for (char *c = text; *c != '\0'; c++) {
		if ((unsigned char)*c < ' ' || *c == 127)
			*c = '?';
	}
	fprintf(stderr, "penstock %s: %s\n", command, text);
	json_t *object = json_wanted && !json_printed
	                         ? json_pack("{s:s, s:s}", "error", text, "status", ps_status_name(status))
	                         : NULL;
	if (object != NULL && command_print_json(object, false) != PS_OK)
		return EXIT_RUN_FAILED;
	return ps_status_is_usage(status) ? EXIT_WRONG_INPUT : EXIT_RUN_FAILED;
}

/* A word of a command line as a shell takes it: in quotes where it has more than plain names have. */
static const char *shell_word(const char *text, char *word, size_t bytes)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+./,:@%";
	static const char quote[] = "'\\''";
	if (*text != '\0' && text[strspn(text, plain)] == '\0')
		return text;
	size_t used = 0;
	word[used++] = '\'';
	for (; *text != '\0' && used + sizeof quote + 1 <= bytes; text++)
		used += (size_t)snprintf(word + used, bytes - used, "%.*s", *text == '\'' ? 4 : 1,
		                         *text == '\'' ? quote : text);
	snprintf(word + used, bytes - used, "'");
	return word;
}

ps_status command_fail_corpus(ps_status status, const char *folder)
{
	const char *known = ps_fetch_source_at(0)->name;
	bool same = strcmp(folder, known) == 0;
	if (status != PS_ENOENT)
		return status;
	char word[512];
	return ps_fail(status, "%s; penstock data fetch %s%s%s makes one, and sample is built in", ps_error_message(),
	               known, same ? "" : " --to ", same ? "" : shell_word(folder, word, sizeof word));
}

int command_choose(const char *const *names, int argc, char **argv, const char *what)
{
	char listed[256] = "";
	for (int i = 0; names[i] != NULL; i++) {
		size_t length = strlen(listed);
		if (argc > 1 && strcmp(argv[1], names[i]) == 0)
			return i;
		snprintf(listed + length, sizeof listed - length, "%s%s", i > 0 ? ", " : "", names[i]);
	}
	const char *nearest = argc > 1 ? options_nearest(argv[1], names) : NULL;
	if (argc < 2)
		(void)ps_fail(PS_EINVAL, "give %s: %s", what, listed);
	else if (nearest != NULL)
		(void)ps_fail(PS_EINVAL, "there is no '%.60s'; did you mean %s?", argv[1], nearest);
	else
		(void)ps_fail(PS_EINVAL, "there is no '%.60s'; there are %s", argv[1], listed);
	return -1;
}

bool command_begin(option_settings *settings, const option_table *table, int argc, char **argv, int *exit_status)
{
	ps_status status = options_collect(settings, table, argc, argv);
	for (int i = 0; i < settings->count; i++)
		json_wanted |= settings->items[i].row->kind == OPTION_FLAG &&
		               strcmp(settings->items[i].row->name, "json") == 0;
	if (status != PS_OK) {
		*exit_status = command_fail(table->command, status);
		return false;
	}
	if (settings->help) {
		options_help(table, stdout);
		*exit_status = EXIT_DONE;
		return false;
	}
	return true;
}

/* Calls nothing but what a handler may call. */
static void on_interrupt(int number)
{
	int error = errno;
	if (interrupted == 0) {
		interrupted_ns = ps_clock_ns();
		interrupted = number;
		for (int i = 0; i < SIGNALS; i++) {
			if (signals[i].number != number)
				continue;
			/* Where it cannot be written there is nobody to tell, a closed terminal for one. */
			ssize_t written = write(STDERR_FILENO, signals[i].line, signals[i].length);
			(void)written;
		}
	} else if (number != SIGHUP && ps_clock_ns() - interrupted_ns >= SAME_REQUEST_NS) {
		signal(number, SIG_DFL);
		raise(number);
	}
	errno = error;
}

void interrupt_catch(const char *command, const char *format, ...)
{
	char ends[256];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(ends, sizeof ends, format, arguments);
	va_end(arguments);
	struct sigaction action = {.sa_handler = on_interrupt};
	sigemptyset(&action.sa_mask);
	for (int i = 0; i < SIGNALS; i++)
		sigaddset(&action.sa_mask, signals[i].number);
	const char *clear = isatty(STDERR_FILENO) == 1 ? PROGRESS_CLEAR : "";
	for (int i = 0; i < SIGNALS; i++) {
		snprintf(signals[i].line, sizeof signals[i].line, "%spenstock %s: %s; %s ends it at once\n", clear,
		         command, ends, signals[i].insists);
		signals[i].length = strlen(signals[i].line);
		/* Under nohup a terminal may go. */
		struct sigaction before;
		if (sigaction(signals[i].number, NULL, &before) == 0 &&
		    (signals[i].number != SIGHUP || before.sa_handler != SIG_IGN))
			sigaction(signals[i].number, &action, NULL);
	}
}

bool interrupt_seen(void)
{
	return interrupted != 0;
}

int interrupt_exit_status(void)
{
	return 128 + interrupted;
}
