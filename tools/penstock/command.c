/* What all subcommands share: the line of an error, --help, and SIGINT. */
#include "tools/penstock/command.h"

#include "train/json.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

static volatile sig_atomic_t interrupted;

int command_fail(const char *command, ps_status status)
{
	/* One line, whatever a file name or a damaged file put into the message. */
	char text[1024];
	snprintf(text, sizeof text, "%s", ps_error_message());
	for (char *c = text; *c != '\0'; c++) {
		if ((unsigned char)*c < ' ' || *c == 127)
			*c = '?';
	}
	fprintf(stderr, "penstock %s: %s\n", command, text);
	return ps_status_is_usage(status) ? EXIT_WRONG_INPUT : EXIT_RUN_FAILED;
}

ps_status command_print_json(json_t *object, bool figures)
{
	char *text = object == NULL ? NULL
	             : figures      ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9))
	                            : ps__json_text(object, JSON_COMPACT);
	json_decref(object);
	if (text == NULL)
		return ps_fail(PS_ENOMEM, "no memory for the results");
	puts(text);
	free(text);
	return PS_OK;
}

bool command_begin(option_settings *settings, const option_table *table, int argc, char **argv, int *exit_status)
{
	ps_status status = options_collect(settings, table, argc, argv);
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

static void on_interrupt(int number)
{
	(void)number;
	interrupted = 1;
}

void interrupt_catch(void)
{
	/* After the first, the default is back: a second one ends the program. */
	struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
}

bool interrupt_seen(void)
{
	return interrupted != 0;
}
