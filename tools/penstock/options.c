/* Gathering options from the command line and from a configuration file. */
#include "tools/penstock/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { OPTION_CODE = 256, CONFIG_BYTES_MAX = 1 << 20 };

static const option_row *find_row(const option_table *table, const char *name)
{
	const option_row *row;
	for (int i = 0; (row = options_row(table, i)) != NULL; i++) {
		if (row->name != NULL && strcmp(row->name, name) == 0)
			return row;
	}
	return NULL;
}

const option_row *options_row(const option_table *table, int index)
{
	if (index < table->count)
		return &table->rows[index];
	const char *name = table->shared_names != NULL ? table->shared_names[index - table->count] : NULL;
	return name != NULL ? find_row(table->shared, name) : NULL;
}

static int count_rows(const option_table *table)
{
	int count = 0;
	while (options_row(table, count) != NULL)
		count++;
	return count;
}

static ps_status add(option_settings *settings, option_setting setting)
{
	if (settings->count == settings->capacity) {
		int capacity = settings->capacity > 0 ? 2 * settings->capacity : 32;
		option_setting *items = realloc(settings->items, (size_t)capacity * sizeof *items);
		if (items == NULL)
			return ps_fail(PS_ENOMEM, "no memory for options");
		settings->items = items;
		settings->capacity = capacity;
	}
	settings->items[settings->count++] = setting;
	return PS_OK;
}

/* Fails with the nearest name that there is; `where` is "" or "FILE:LINE: ". */
static ps_status fail_unknown(const option_table *table, const char *where, const char *dashes, const char *name)
{
	const char **names = calloc((size_t)count_rows(table) + 2, sizeof *names);
	if (names == NULL)
		return ps_fail(PS_ENOMEM, "no memory for options");
	const option_row *row;
	int n = 0;
	for (int i = 0; (row = options_row(table, i)) != NULL; i++) {
		if (row->name != NULL)
			names[n++] = row->name;
	}
	names[n] = "help";
	const char *nearest = options_nearest(name, names);
	ps_status status = nearest != NULL ? ps_fail(PS_EINVAL, "%sunknown option %s%s; did you mean %s%s?", where,
	                                             dashes, name, dashes, nearest)
	                                   : ps_fail(PS_EINVAL, "%sunknown option %s%s; penstock %s --help lists them",
	                                             where, dashes, name, table->command);
	free(names);
	return status;
}

/* The options that begin with `name`, as "--a, --b"; returns how many there are. */
static int list_beginning(const option_table *table, const char *name, char *text, size_t bytes)
{
	const option_row *row;
	int count = 0;
	text[0] = '\0';
	for (int i = 0; (row = options_row(table, i)) != NULL; i++) {
		if (row->name == NULL || strncmp(row->name, name, strlen(name)) != 0)
			continue;
		size_t length = strlen(text);
		snprintf(text + length, bytes - length, "%s--%s", count++ > 0 ? ", " : "", row->name);
	}
	return count;
}

/* getopt_long's complaint about argv[at], as a message. */
static ps_status fail_getopt(const option_table *table, char **argv, int at, int code)
{
	if (code == ':')
		return ps_fail(PS_EINVAL, "%s needs a value; penstock %s --help shows it", argv[at], table->command);
	if (optopt >= OPTION_CODE || optopt == 'h')
		return ps_fail(PS_EINVAL, "%s takes no value", argv[at]);
	if (optopt != 0)
		return ps_fail(PS_EINVAL,
		               "unknown option -%c; options begin with two dashes, penstock %s --help lists them",
		               optopt, table->command);
	char name[64], list[256];
	snprintf(name, sizeof name, "%s", argv[at] + 2);
	name[strcspn(name, "=")] = '\0';
	if (list_beginning(table, name, list, sizeof list) > 1)
		return ps_fail(PS_EINVAL, "--%s could be any of %s; give more of its name", name, list);
	return fail_unknown(table, "", "--", name);
}

static ps_status read_arguments(option_settings *out, const option_table *table, int argc, char **argv)
{
	struct option *longs = calloc((size_t)count_rows(table) + 2, sizeof *longs);
	if (longs == NULL)
		return ps_fail(PS_ENOMEM, "no memory for options");
	const option_row *row;
	int n = 0;
	for (int i = 0; (row = options_row(table, i)) != NULL; i++) {
		if (row->name == NULL)
			continue;
		longs[n++] = (struct option){row->name, row->kind == OPTION_FLAG ? no_argument : required_argument,
		                             NULL, OPTION_CODE + i};
	}
	longs[n] = (struct option){"help", no_argument, NULL, 'h'};
	ps_status status = PS_OK;
	optind = 1;
	opterr = 0;
	for (int code; status == PS_OK && (code = getopt_long(argc, argv, ":h", longs, NULL)) != -1;) {
		if (code == 'h')
			out->help = true;
		else if (code >= OPTION_CODE)
			status = add(out, (option_setting){.row = options_row(table, code - OPTION_CODE),
			                                   .value = optarg != NULL ? optarg : "1"});
		else
			status = fail_getopt(table, argv, optind - 1, code);
	}
	if (status == PS_OK && !out->help && optind < argc && table->operand != NULL)
		status = add(out, (option_setting){.row = table->operand, .value = argv[optind++]});
	if (status == PS_OK && !out->help && optind < argc && table->operand != NULL)
		status = ps_fail(PS_EINVAL, "'%s' is one %s too many; penstock %s takes one", argv[optind],
		                 table->operand->name, table->command);
	else if (status == PS_OK && !out->help && optind < argc)
		status = ps_fail(PS_EINVAL, "'%s' is no option; penstock %s takes options alone, as --name value",
		                 argv[optind], table->command);
	free(longs);
	return status;
}

static ps_status read_file(const char *path, char **out)
{
	FILE *file = fopen(path, "rb");
	struct stat info;
	if (file == NULL || fstat(fileno(file), &info) != 0 || S_ISDIR(info.st_mode)) {
		int error = file == NULL ? errno : EISDIR;
		if (file != NULL)
			fclose(file);
		return ps_fail(error == ENOENT ? PS_ENOENT : PS_EINVAL, "--config %s: cannot be read: %s", path,
		               strerror(error));
	}
	char *text = malloc(CONFIG_BYTES_MAX + 1);
	size_t bytes = text == NULL ? 0 : fread(text, 1, CONFIG_BYTES_MAX, file);
	bool failed = text != NULL && ferror(file);
	fclose(file);
	ps_status status = PS_OK;
	if (text == NULL)
		status = ps_fail(PS_ENOMEM, "--config %s: no memory to read it", path);
	else if (failed)
		status = ps_fail(PS_EIO, "--config %s: reading failed", path);
	else if (bytes == CONFIG_BYTES_MAX || memchr(text, '\0', bytes) != NULL)
		status = ps_fail(PS_EFORMAT, "--config %s: is no text of 'name = value' lines", path);
	if (status != PS_OK) {
		free(text);
		return status;
	}
	text[bytes] = '\0';
	*out = text;
	return PS_OK;
}

/* Cuts blanks off both ends, in place. */
static char *trim(char *text)
{
	static const char blanks[] = " \t\r";
	text += strspn(text, blanks);
	size_t length = strlen(text);
	while (length > 0 && strchr(blanks, text[length - 1]) != NULL)
		length--;
	text[length] = '\0';
	return text;
}

static ps_status read_line(option_settings *out, const option_table *table, const char *path, int number, char *line)
{
	char where[256];
	snprintf(where, sizeof where, "%.200s:%d: ", path, number);
	line = trim(line);
	if (line[0] == '\0' || line[0] == '#')
		return PS_OK;
	char *equals = strchr(line, '=');
	if (equals == NULL)
		return ps_fail(PS_EFORMAT, "%s'%.40s' is no 'name = value' line", where, line);
	*equals = '\0';
	char *name = trim(line), *value = trim(equals + 1);
	const option_row *row = find_row(table, name);
	if (row == NULL)
		return fail_unknown(table, where, "", name);
	if (strcmp(name, "config") == 0)
		return ps_fail(PS_EINVAL, "%sa configuration file cannot name another", where);
	return add(out, (option_setting){row, value, path, number});
}

/* Puts the lines of a file in front of what the command line said. */
static ps_status read_config(option_settings *out, const option_table *table, const char *path)
{
	option_settings file = {0};
	PS_TRY(read_file(path, &out->file_text));
	ps_status status = PS_OK;
	int number = 0;
	for (char *line = out->file_text; status == PS_OK && line != NULL;) {
		char *end = strchr(line, '\n');
		if (end != NULL)
			*end = '\0';
		status = read_line(&file, table, path, ++number, line);
		line = end != NULL ? end + 1 : NULL;
	}
	for (int i = 0; status == PS_OK && i < out->count; i++)
		status = add(&file, out->items[i]);
	if (status != PS_OK) {
		free(file.items);
		return status;
	}
	free(out->items);
	out->items = file.items;
	out->count = file.count;
	out->capacity = file.capacity;
	return PS_OK;
}

ps_status options_collect(option_settings *out, const option_table *table, int argc, char **argv)
{
	*out = (option_settings){.operand = table->operand};
	PS_TRY(read_arguments(out, table, argc, argv));
	const char *config = options_value(out, "config");
	return config != NULL && !out->help ? read_config(out, table, config) : PS_OK;
}

const char *options_value(const option_settings *settings, const char *name)
{
	for (int i = settings->count - 1; i >= 0; i--) {
		if (strcmp(settings->items[i].row->name, name) == 0)
			return settings->items[i].value;
	}
	return NULL;
}

ps_status options_apply(const option_settings *settings, void *target)
{
	for (int i = 0; i < settings->count; i++) {
		const option_setting *setting = &settings->items[i];
		char where[256];
		if (setting->file != NULL)
			snprintf(where, sizeof where, "%.160s:%d: %s: ", setting->file, setting->line,
			         setting->row->name);
		else if (setting->row != settings->operand)
			snprintf(where, sizeof where, "--%s: ", setting->row->name);
		else
			/* A word that is a choice stands for itself, as a subcommand does. */
			snprintf(where, sizeof where, "%s%s",
			         setting->row->kind != OPTION_CHOICE ? setting->row->name : "",
			         setting->row->kind != OPTION_CHOICE ? ": " : "");
		PS_TRY(options_store(setting->row, setting->value, target, where));
	}
	return PS_OK;
}

void options_finish(option_settings *settings)
{
	free(settings->items);
	free(settings->file_text);
	*settings = (option_settings){0};
}
