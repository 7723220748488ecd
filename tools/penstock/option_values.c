/* Single values: from text to a field and back. Numbers are decimal, whole, finite and within their range. */
#include "tools/penstock/options.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void *field(const option_row *row, void *target)
{
	return (char *)target + row->offset;
}

static const void *const_field(const option_row *row, const void *target)
{
	return (const char *)target + row->offset;
}

const char *options_word(const char *words, int index, char *text)
{
	text[0] = '\0';
	if (index < 0)
		return NULL;
	for (; index > 0; index--) {
		words = strchr(words, '|');
		if (words == NULL)
			return NULL;
		words++;
	}
	snprintf(text, 64, "%.*s", (int)strcspn(words, "|"), words);
	return text;
}

/* Digits with one sign at most, all of the text. */
static bool is_integer(const char *text)
{
	text += *text == '-' || *text == '+';
	return *text != '\0' && text[strspn(text, "0123456789")] == '\0';
}

static ps_status store_integer(const option_row *row, const char *value, int64_t *out, const char *where)
{
	errno = 0;
	long long number = is_integer(value) ? strtoll(value, NULL, 10) : 0;
	if (!is_integer(value) || errno != 0 || (double)number < row->low || (double)number > row->high)
		return ps_fail(PS_EINVAL, "%s'%.60s' is wrong; give a whole number from %.0f to %.0f", where, value,
		               row->low, row->high);
	*out = number;
	return PS_OK;
}

static ps_status store_seed(const char *value, uint64_t *out, const char *where)
{
	errno = 0;
	unsigned long long number = is_integer(value) && *value != '-' ? strtoull(value, NULL, 10) : 0;
	if (!is_integer(value) || *value == '-' || errno != 0)
		return ps_fail(PS_EINVAL, "%s'%.60s' is wrong; give a whole number from 0 to %" PRIu64, where, value,
		               UINT64_MAX);
	*out = number;
	return PS_OK;
}

static ps_status store_real(const option_row *row, const char *value, double *out, const char *where)
{
	char *end = NULL;
	bool decimal = value[0] != '\0' && value[strspn(value, "+-.0123456789eE")] == '\0';
	double number = decimal ? strtod(value, &end) : NAN;
	if (!decimal || *end != '\0' || !isfinite(number) || number < row->low || number > row->high ||
	    (row->open == OPEN_LOW && number == row->low) || (row->open == OPEN_HIGH && number == row->high))
		return ps_fail(PS_EINVAL, "%s'%.60s' is wrong; give a number %s %g %s %g", where, value,
		               row->open == OPEN_LOW ? "above" : "from", row->low,
		               row->open == OPEN_HIGH ? "to below" : "to", row->high);
	*out = number;
	return PS_OK;
}

static ps_status store_choice(const option_row *row, const char *value, int *out, const char *where)
{
	const char *words[32] = {NULL};
	char texts[31][64], listed[512] = "";
	for (int i = 0; i < 31 && (words[i] = options_word(row->argument, i, texts[i])) != NULL; i++) {
		if (strcmp(words[i], value) == 0) {
			*out = i;
			return PS_OK;
		}
		size_t length = strlen(listed);
		snprintf(listed + length, sizeof listed - length, "%s%s", i > 0 ? ", " : "", words[i]);
	}
	const char *nearest = options_nearest(value, words);
	return nearest != NULL ? ps_fail(PS_EINVAL, "%sthere is no '%.60s'; did you mean %s? There are %s", where,
	                                 value, nearest, listed)
	                       : ps_fail(PS_EINVAL, "%sthere is no '%.60s'; there are %s", where, value, listed);
}

ps_status options_store(const option_row *row, const char *value, void *target, const char *where)
{
	switch (row->kind) {
	case OPTION_FLAG:
		if (strcmp(value, "1") != 0 && strcmp(value, "0") != 0)
			return ps_fail(PS_EINVAL, "%s'%.60s' is wrong; give 0 or 1", where, value);
		*(bool *)field(row, target) = value[0] == '1';
		return PS_OK;
	case OPTION_INTEGER:
		return store_integer(row, value, field(row, target), where);
	case OPTION_SEED:
		return store_seed(value, field(row, target), where);
	case OPTION_REAL:
		return store_real(row, value, field(row, target), where);
	case OPTION_CHOICE:
		return store_choice(row, value, field(row, target), where);
	case OPTION_TEXT:
		if (value[0] == '\0')
			return ps_fail(PS_EINVAL, "%sis empty; give %s", where, row->argument);
		*(const char **)field(row, target) = value;
		return PS_OK;
	}
	return ps_fail(PS_EINTERNAL, "%san option of no kind", where);
}

const char *options_show(const option_row *row, const void *target, char *text)
{
	const void *at = const_field(row, target);
	text[0] = '\0';
	switch (row->kind) {
	case OPTION_FLAG:
		break;
	case OPTION_INTEGER:
		/* A value below the least stands for "not set". */
		if ((double)*(const int64_t *)at >= row->low)
			snprintf(text, 64, "%" PRId64, *(const int64_t *)at);
		break;
	case OPTION_SEED:
		snprintf(text, 64, "%" PRIu64, *(const uint64_t *)at);
		break;
	case OPTION_REAL:
		snprintf(text, 64, "%g", *(const double *)at);
		break;
	case OPTION_CHOICE:
		options_word(row->argument, *(const int *)at, text);
		break;
	case OPTION_TEXT:
		if (*(const char *const *)at != NULL)
			snprintf(text, 64, "%s", *(const char *const *)at);
		break;
	}
	return text;
}

static json_t *value_json(const option_row *row, const void *target)
{
	const void *at = const_field(row, target);
	char text[64];
	switch (row->kind) {
	case OPTION_FLAG:
		return json_boolean(*(const bool *)at);
	case OPTION_INTEGER:
		return json_integer(*(const int64_t *)at);
	case OPTION_SEED:
		/* A JSON integer of this library is signed. */
		return *(const uint64_t *)at <= INT64_MAX ? json_integer((json_int_t) * (const uint64_t *)at)
		                                          : json_string(options_show(row, target, text));
	case OPTION_REAL:
		return json_real(*(const double *)at);
	case OPTION_CHOICE:
		return json_string(options_show(row, target, text));
	case OPTION_TEXT:
		if (*(const char *const *)at == NULL)
			return json_null();
		/* A path may be no UTF-8; then it has no JSON form. */
		json_t *string = json_string(*(const char *const *)at);
		return string != NULL ? string : json_string("?");
	}
	return NULL;
}

json_t *options_json(const option_table *table, const void *target)
{
	json_t *object = json_object();
	const option_row *row;
	for (int i = 0; object != NULL && (row = options_row(table, i)) != NULL; i++) {
		if (row->name == NULL)
			continue;
		char key[64];
		snprintf(key, sizeof key, "%s", row->name);
		for (char *dash = strchr(key, '-'); dash != NULL; dash = strchr(dash, '-'))
			*dash = '_';
		if (json_object_set_new(object, key, value_json(row, target)) != 0) {
			json_decref(object);
			object = NULL;
		}
	}
	return object;
}
