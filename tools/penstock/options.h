/*
 * Options of a subcommand as one table, which drives parsing, --help, --config and the list that completions read.
 *
 * Reading is in two steps, so that a preset can come between: options_collect gathers what the command line and the
 * configuration file say, options_apply checks each value and stores it in the fields of the caller's struct.
 */
#ifndef PS_TOOLS_OPTIONS_H
#define PS_TOOLS_OPTIONS_H

#include <penstock/status.h>

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum option_kind {
	OPTION_FLAG,    /* bool */
	OPTION_INTEGER, /* int64_t, low to high */
	OPTION_SEED,    /* uint64_t */
	OPTION_REAL,    /* double, low to high; `open` takes an end away */
	OPTION_CHOICE,  /* int, which word of `argument` it is, from 0 */
	OPTION_TEXT,    /* const char *, borrowed from the settings */
} option_kind;

typedef struct option_row {
	const char *name; /* "batch-size"; NULL begins a group: `help` is its heading */
	option_kind kind;
	enum { CLOSED, OPEN_LOW, OPEN_HIGH } open;
	const char *argument; /* "N", "FILE", "even|torch"; "" for a flag */
	double low, high;
	size_t offset; /* of the field in the caller's struct */
	const char *help;
} option_row;

typedef struct option_table {
	const char *command; /* "train" */
	const char *usage;   /* what follows "penstock train " in the first line of --help */
	const char *text;    /* a paragraph on what the subcommand does */
	const char *examples;
	const option_row *operand; /* what a word that is no option is, as in `trace FILE`; NULL: there is none */
	const option_row *rows;
	int count;
	const void *defaults; /* a filled struct, for --help */
	/* Rows of another table, by name up to a NULL, that follow the own ones; that table's struct begins this one's.
	 */
	const struct option_table *shared;
	const char *const *shared_names;
	bool own_defaults; /* the shared rows' defaults are this table's, not the other's */
} option_table;

/* Row `index`, the own ones first; NULL past the last. */
const option_row *options_row(const option_table *table, int index);

/* One value as it was given. */
typedef struct option_setting {
	const option_row *row;
	const char *value;
	const char *file; /* of a configuration line; NULL: the command line */
	int line;
} option_setting;

typedef struct option_settings {
	option_setting *items; /* those of the file first: a later one wins */
	int count, capacity;
	const option_row *operand; /* the table's */
	char *file_text;           /* what items of the file point into */
	bool help;
} option_settings;

/*
 * Reads argv (argv[0] is the subcommand). Unknown options are PS_EINVAL and name the nearest. `config` in the table
 * names a file of `name = value` lines with # comments. The caller ends *out with options_finish, also on failure.
 */
ps_status options_collect(option_settings *out, const option_table *table, int argc, char **argv) PS_WARN_UNUSED;
/* The last value given for an option, unchecked; NULL: none. */
const char *options_value(const option_settings *settings, const char *name);
/* Checks all values and stores them. PS_EINVAL says what would be right. */
ps_status options_apply(const option_settings *settings, void *target) PS_WARN_UNUSED;
void options_finish(option_settings *settings);

/* Checks one value and stores it in row's field of `target`; `where` is put in front of a message. */
ps_status options_store(const option_row *row, const char *value, void *target, const char *where) PS_WARN_UNUSED;
/* A field's value as text, for --help; "" for what is not set. `text` has 64 bytes. */
const char *options_show(const option_row *row, const void *target, char *text);
/* All fields with their options' names, "-" as "_". NULL: no memory. */
json_t *options_json(const option_table *table, const void *target);

void options_help(const option_table *table, FILE *to);
/* SUBCOMMAND<TAB>--name<TAB>ARGUMENT<TAB>help for each option. */
void options_list(const option_table *table, FILE *to);

/* Word `index` of "a|b|c" into `text` (64 bytes); NULL past the last. */
const char *options_word(const char *words, int index, char *text);
/* The candidate nearest to `word`, or NULL when none is near; candidates end with NULL. */
const char *options_nearest(const char *word, const char *const *candidates);

#endif
