/* What a subcommand is, and how all of them end. */
#ifndef PS_TOOLS_COMMAND_H
#define PS_TOOLS_COMMAND_H

#include "tools/penstock/options.h"

enum { EXIT_DONE = 0, EXIT_RUN_FAILED = 1, EXIT_WRONG_INPUT = 2 };

/* A subcommand: argv[0] is its name. Returns the exit status. */
typedef int command_function(int argc, char **argv);

command_function cmd_bench, cmd_data, cmd_devices, cmd_train, cmd_eval, cmd_trace, cmd_tune, cmd_verify;

/* Their option tables. */
extern const option_table data_fetch_table, data_info_table, devices_table, train_table, eval_table, trace_table,
        tune_table, verify_table;

/*
 * Prints the calling thread's message as one line and returns the exit status that goes with `status`. Where the
 * command has a flag --json that was given, and has printed no object yet, the message is printed as one too.
 */
int command_fail(const char *command, ps_status status);
/* What argv[1] is of the names, which end with NULL; -1 and a message naming them, or the nearest, if it is none. */
int command_choose(const char *const *names, int argc, char **argv, const char *what);

/* Adds to the message of a corpus that is not there, as its status says, what to do about it. */
ps_status command_fail_corpus(ps_status status, const char *folder);

/*
 * Prints an object as one line and gives it up; NULL, of calls that found no memory, is PS_ENOMEM. With `figures`, real
 * numbers are times and rates, of which nine digits are shown; otherwise they keep all that they have.
 */
ps_status command_print_json(json_t *object, bool figures) PS_WARN_UNUSED;

/*
 * Gathers the options of a subcommand. True: go on. Otherwise *exit_status is set, and --help or the error has been
 * printed. The caller ends *settings with options_finish in any case.
 */
bool command_begin(option_settings *settings, const option_table *table, int argc, char **argv, int *exit_status);

/*
 * From the first call on, the first SIGINT, SIGTERM or SIGHUP only sets a flag and has one line written to standard
 * error at once, "penstock COMMAND: " with how it ends, as the format says. A SIGINT or SIGTERM half a second after it
 * or later ends the program.
 */
void interrupt_catch(const char *command, const char *format, ...) PS_PRINTF(2, 3);
bool interrupt_seen(void);
/* 128 and the signal's number, as shells have it. */
int interrupt_exit_status(void);

#endif
