/* The texts that come from an option table, and the search for the word that was meant. */
#include "tools/penstock/options.h"

#include <string.h>

enum { WIDTH = 100, INDENT = 30 };

/* Prints `text` in lines that begin at column INDENT; the cursor is at column `at`. */
static void print_wrapped(FILE *to, int at, const char *text)
{
	if (at >= INDENT) {
		fputc('\n', to);
		at = 0;
	}
	fprintf(to, "%*s", INDENT - at, "");
	at = INDENT;
	while (*text != '\0') {
		int length = (int)strcspn(text, " ");
		if (at > INDENT && at + 1 + length > WIDTH) {
			fprintf(to, "\n%*s", INDENT, "");
			at = INDENT;
		}
		at += fprintf(to, "%s%.*s", at > INDENT ? " " : "", length, text);
		text += length;
		text += *text == ' ';
	}
	fputc('\n', to);
}

void options_help(const option_table *table, FILE *to)
{
	fprintf(to, "Usage: penstock %s %s\n\n%s\n", table->command, table->usage, table->text);
	const option_row *row;
	for (int i = 0; (row = options_row(table, i)) != NULL; i++) {
		if (row->name == NULL) {
			fprintf(to, "\n%s:\n", row->help);
			continue;
		}
		char shown[64], help[512];
		bool own = i < table->count || table->own_defaults;
		options_show(row, own ? table->defaults : table->shared->defaults, shown);
		if (shown[0] != '\0')
			snprintf(help, sizeof help, "%s [%s]", row->help, shown);
		else
			snprintf(help, sizeof help, "%s", row->help);
		print_wrapped(to,
		              fprintf(to, "  --%s%s%s", row->name, row->argument[0] != '\0' ? " " : "", row->argument),
		              help);
	}
	print_wrapped(to, fprintf(to, "  --help"), "Show this text");
	fprintf(to, "\nExamples:\n%s", table->examples);
}

static void list_rows(const option_table *table, const char *mode, FILE *to)
{
	const option_row *row;
	for (int i = 0; (row = options_row(table, i)) != NULL; i++) {
		if (row->name != NULL)
			fprintf(to, "%s%s%s\t--%s\t%s\t%s\n", table->command, mode[0] != '\0' ? " " : "", mode,
			        row->name, row->argument, row->help);
	}
}

void options_list(const option_table *table, FILE *to)
{
	char mode[64];
	list_rows(table, "", to);
	for (int i = 0; table->operand != NULL && table->operand->kind == OPTION_CHOICE &&
	                options_word(table->operand->argument, i, mode) != NULL;
	     i++)
		list_rows(table, mode, to);
}

/* Insertions, deletions, replacements and swaps of neighbours that turn one word into the other. */
static int distance(const char *a, const char *b)
{
	enum { LONGEST = 48 };
	int n = (int)strlen(a), m = (int)strlen(b);
	if (n > LONGEST || m > LONGEST)
		return LONGEST;
	int cost[LONGEST + 1][LONGEST + 1];
	for (int i = 0; i <= n; i++)
		cost[i][0] = i;
	for (int j = 0; j <= m; j++)
		cost[0][j] = j;
	for (int i = 1; i <= n; i++) {
		for (int j = 1; j <= m; j++) {
			int best = cost[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
			best = cost[i - 1][j] + 1 < best ? cost[i - 1][j] + 1 : best;
			best = cost[i][j - 1] + 1 < best ? cost[i][j - 1] + 1 : best;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    cost[i - 2][j - 2] + 1 < best)
				best = cost[i - 2][j - 2] + 1;
			cost[i][j] = best;
		}
	}
	return cost[n][m];
}

const char *options_nearest(const char *word, const char *const *candidates)
{
	const char *nearest = NULL;
	/* A third of the letters may be wrong; of short words, one. */
	int least = (int)strlen(word) / 3 + 2;
	for (; *candidates != NULL; candidates++) {
		int here = distance(word, *candidates);
		if (here < least) {
			least = here;
			nearest = *candidates;
		}
	}
	return nearest;
}
