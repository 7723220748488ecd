/* Numbers as text and as JSON. */
#include "train/json.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *ps__real_text(double value, char *text)
{
	for (int digits = 6; digits <= 17; digits++) {
		snprintf(text, 32, "%.*g", digits, value);
		if (strtod(text, NULL) == value)
			break;
	}
	return text;
}

json_t *ps__json_real(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

json_t *ps__json_figure(double value)
{
	char digits[32];
	snprintf(digits, sizeof digits, "%.9g", value);
	return ps__json_real(strtod(digits, NULL));
}

ps_status ps__json_read(json_t **out, const char *path, size_t flags, const char *advice)
{
	json_error_t error;
	struct stat info;
	*out = NULL;
	FILE *file = fopen(path, "rb");
	if (file == NULL)
		return ps_fail(errno == ENOENT ? PS_ENOENT : PS_EINVAL, "%s: cannot be read: %s; %s", path,
		               strerror(errno), advice);
	bool folder = fstat(fileno(file), &info) == 0 && S_ISDIR(info.st_mode);
	json_t *value = folder ? NULL : json_loadf(file, flags, &error);
	fclose(file);
	if (folder)
		return ps_fail(PS_EINVAL, "%s: is a folder; %s", path, advice);
	if (value == NULL)
		return ps_fail(PS_EFORMAT, "%s:%d: is no JSON: %s; %s", path, error.line, error.text, advice);
	*out = value;
	return PS_OK;
}

/* Writes at `to` the number of `length` bytes at `from` in its shortest form, and returns that one's length. */
static size_t shorten_number(char *to, const char *from, size_t length)
{
	char digits[40];
	ps__real_text(strtod(from, NULL), digits);
	/* A whole number keeps what tells that it is a real one. */
	if (strpbrk(digits, ".e") == NULL)
		strcat(digits, ".0");
	bool shorter = strlen(digits) < length;
	size_t bytes = shorter ? strlen(digits) : length;
	memmove(to, shorter ? digits : from, bytes);
	return bytes;
}

char *ps__json_text(const json_t *value, size_t flags)
{
	char *text = json_dumps(value, flags | JSON_REAL_PRECISION(17)), *to = text;
	bool quoted = false;
	for (const char *from = text; from != NULL && *from != '\0';) {
		size_t length = quoted ? 0 : strspn(from, "+-.0123456789eE");
		if (length > 2 && memchr(from, '.', length) != NULL) {
			to += shorten_number(to, from, length);
			from += length;
			continue;
		}
		/* What is escaped in a string may be a quote. */
		bool escaped = quoted && *from == '\\';
		if (escaped)
			*to++ = *from++;
		quoted ^= !escaped && *from == '"';
		*to++ = *from++;
	}
	if (to != NULL)
		*to = '\0';
	return text;
}
