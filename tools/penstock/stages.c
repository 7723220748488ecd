/* The devices of the stages. */
#include "tools/penstock/setup.h"

#include <stdlib.h>
#include <string.h>

static ps_status add(char ***stages, int *count, const char *begin, size_t length)
{
	char **larger = realloc(*stages, ((size_t)*count + 1) * sizeof **stages);
	if (larger == NULL)
		return ps_fail(PS_ENOMEM, "no memory for the names of the stages");
	*stages = larger;
	larger[*count] = strndup(begin, length);
	if (larger[*count] == NULL)
		return ps_fail(PS_ENOMEM, "no memory for the names of the stages");
	++*count;
	return PS_OK;
}

void stages_free(char **stages, int count)
{
	for (int i = 0; i < count; i++)
		free(stages[i]);
	free(stages);
}

/* The first comma that ends a device's name, or the end of the text. */
static const char *name_end(const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == ',' && !(text[1] >= '0' && text[1] <= '9'))
			return text;
	}
	return text;
}

static ps_status split(char ***stages, int *count, const char *option, const char *text)
{
	for (const char *begin = text;;) {
		const char *end = name_end(begin);
		if (end == begin)
			return ps_fail(PS_EINVAL, "--%s %.100s: name %d is empty; give names as in cpu:0,cpu:1", option,
			               text, *count);
		PS_TRY(add(stages, count, begin, (size_t)(end - begin)));
		if (*end == '\0')
			return PS_OK;
		begin = end + 1;
	}
}

ps_status cpu_cores(int *out)
{
	ps_device *cpu;
	PS_TRY(ps_device_open(&cpu, "cpu"));
	*out = ps_device_get_info(cpu)->compute_units;
	ps_device_close(cpu);
	return PS_OK;
}

ps_status stages_on_cores(char **out, int groups, int cores)
{
	enum { NAME_BYTES = 32 };
	char *text = malloc((size_t)groups * NAME_BYTES), *at = text;
	if (text == NULL)
		return ps_fail(PS_ENOMEM, "no memory for the names of %d groups of cores", groups);
	for (int i = 0, first = 0; i < groups; i++) {
		int next = ((i + 1) * cores + groups - 1) / groups;
		at += snprintf(at, NAME_BYTES, "%scpu:%d", i > 0 ? "," : "", first);
		if (next > first + 1)
			at += snprintf(at, NAME_BYTES / 2, "-%d", next - 1);
		first = next;
	}
	*out = text;
	return PS_OK;
}

/* cpu:0 and cpu:1 on two cores, cpu:0-3 and cpu:4-7 on eight, cpu twice on one. */
static ps_status default_stages(char ***stages, int *count)
{
	int cores;
	PS_TRY(cpu_cores(&cores));
	if (cores < 2)
		return split(stages, count, "stages", "cpu,cpu");
	char *halves = NULL;
	PS_TRY(stages_on_cores(&halves, 2, cores));
	ps_status status = split(stages, count, "stages", halves);
	free(halves);
	return status;
}

/* `text` NULL: the default stages. */
static ps_status parse(char ***out, int *count, const char *option, const char *text)
{
	*out = NULL;
	*count = 0;
	char **names = NULL;
	ps_status status = text == NULL ? default_stages(&names, count) : split(&names, count, option, text);
	if (status != PS_OK) {
		stages_free(names, *count);
		*count = 0;
		return status;
	}
	*out = names;
	return PS_OK;
}

ps_status devices_parse(char ***out, int *count, const char *option, const char *text)
{
	return parse(out, count, option, text);
}

ps_status stages_parse(char ***out, int *count, const char *text)
{
	return parse(out, count, "stages", text);
}
