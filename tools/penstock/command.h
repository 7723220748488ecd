/* What a subcommand is, and how all of them end. */
#ifndef PS_TOOLS_COMMAND_H
#define PS_TOOLS_COMMAND_H

#include "tools/penstock/options.h"

enum { EXIT_DONE = 0, EXIT_RUN_FAILED = 1, EXIT_WRONG_INPUT = 2, EXIT_INTERRUPTED = 130 };

/* A subcommand: argv[0] is its name. Returns the exit status. */
typedef int command_function(int argc, char **argv);

command_function cmd_bench, cmd_devices, cmd_train, cmd_eval, cmd_trace, cmd_tune, cmd_verify;

/* Their option tables. */
extern const option_table devices_table, train_table, eval_table, trace_table, tune_table, verify_table;

/* Prints the calling thread's message as one line and returns the exit status that goes with `status`. */
int command_fail(const char *command, ps_status status);

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

/* From the first call on, the first SIGINT only sets a flag and the second ends the program at once. */
void interrupt_catch(void);
bool interrupt_seen(void);

#endif
