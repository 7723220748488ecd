/* JSON values to text and from it. */
#include "json_internal.h"

#include <unistr.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 512 };

/* --- writing ------------------------------------------------------------------------------------------------------ */

struct text {
	char *bytes;
	size_t length, room;
	int failed;
};

static void add(struct text *text, const char *bytes, size_t length)
{
	if (text->failed)
		return;
	if (text->length + length + 1 > text->room) {
		size_t room = (text->room + length + 64) * 2;
		char *more = realloc(text->bytes, room);
		if (!more) {
			text->failed = 1;
			return;
		}
		text->bytes = more;
		text->room = room;
	}
	memcpy(text->bytes + text->length, bytes, length);
	text->length += length;
	text->bytes[text->length] = '\0';
}

static void add_text(struct text *text, const char *string)
{
	add(text, string, strlen(string));
}

static void add_quoted(struct text *text, const char *string)
{
	static const char names[] = "\"\"\\\\\bb\ff\nn\rr\tt";
	char escape[8];
	add(text, "\"", 1);
	for (; *string; string++) {
		const char *name = names;
		while (*name && *name != *string)
			name += 2;
		if (*name)
			snprintf(escape, sizeof escape, "\\%c", name[1]);
		else if ((unsigned char)*string < 0x20)
			snprintf(escape, sizeof escape, "\\u%04X", (unsigned)(unsigned char)*string);
		else
			snprintf(escape, sizeof escape, "%c", *string);
		add_text(text, escape);
	}
	add(text, "\"", 1);
}

static void add_real(struct text *text, double real, size_t flags)
{
	char digits[64];
	int precision = (int)(flags >> 11 & 0x1F);
	snprintf(digits, sizeof digits, "%.*g", precision ? precision : 17, real);
	add_text(text, digits);
	if (!strpbrk(digits, ".e"))
		add_text(text, ".0");
}

static void write_value(struct text *text, const json_t *value, size_t flags)
{
	const struct value *v = inside(value);
	char digits[32];
	switch (value->type) {
	case JSON_OBJECT:
	case JSON_ARRAY:
		add_text(text, v->head.type == JSON_OBJECT ? "{" : "[");
		for (size_t i = 0; i < v->count; i++) {
			if (i)
				add_text(text, flags & JSON_COMPACT ? "," : ", ");
			if (v->keys) {
				add_quoted(text, v->keys[i]);
				add_text(text, flags & JSON_COMPACT ? ":" : ": ");
			}
			write_value(text, v->values[i], flags);
		}
		add_text(text, v->head.type == JSON_OBJECT ? "}" : "]");
		break;
	case JSON_STRING:
		add_quoted(text, v->text);
		break;
	case JSON_INTEGER:
		snprintf(digits, sizeof digits, "%lld", v->integer);
		add_text(text, digits);
		break;
	case JSON_REAL:
		add_real(text, v->real, flags);
		break;
	case JSON_TRUE:
		add_text(text, "true");
		break;
	case JSON_FALSE:
		add_text(text, "false");
		break;
	case JSON_NULL:
		add_text(text, "null");
		break;
	}
}

char *json_dumps(const json_t *value, size_t flags)
{
	struct text text = {0};
	if (!json_is_object(value) && !json_is_array(value))
		return NULL;
	write_value(&text, value, flags);
	if (text.failed) {
		free(text.bytes);
		return NULL;
	}
	return text.bytes;
}

int json_dumpf(const json_t *value, FILE *file, size_t flags)
{
	char *text = json_dumps(value, flags);
	int failed = !text || fputs(text, file) == EOF;
	free(text);
	return failed ? -1 : 0;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

struct reader {
	const char *begin, *at, *end;
	size_t flags;
	const char *why; /* the first fault */
};

static json_t *wrong(struct reader *r, const char *why)
{
	if (!r->why)
		r->why = why;
	return NULL;
}

static char next(struct reader *r)
{
	while (r->at < r->end && *r->at && strchr(" \t\r\n", *r->at))
		r->at++;
	return r->at < r->end ? *r->at : '\0';
}

static int hex4(struct reader *r, unsigned *out)
{
	*out = 0;
	for (int i = 0; i < 4; i++, r->at++) {
		static const char digits[] = "0123456789abcdefABCDEF";
		const char *digit = r->at < r->end && *r->at ? strchr(digits, *r->at) : NULL;
		if (!digit)
			return 0;
		unsigned value = (unsigned)(digit - digits);
		*out = *out * 16 + (value > 15 ? value - 6 : value);
	}
	return 1;
}

/* What follows a backslash, as UTF-8. */
static int read_escape(struct reader *r, struct text *text)
{
	static const char names[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
	char name = r->at < r->end ? *r->at++ : '\0';
	for (size_t i = 0; names[i]; i += 2)
		if (names[i] == name) {
			add(text, &names[i + 1], 1);
			return 1;
		}
	unsigned unit, low;
	uint8_t bytes[6];
	if (name != 'u' || !hex4(r, &unit))
		return 0;
	ucs4_t c = unit;
	if (unit >= 0xD800 && unit < 0xDC00) {
		if (r->end - r->at < 6 || r->at[0] != '\\' || r->at[1] != 'u')
			return 0;
		r->at += 2;
		if (!hex4(r, &low) || low < 0xDC00 || low > 0xDFFF)
			return 0;
		c = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
	}
	int width = u8_uctomb(bytes, c, sizeof bytes);
	if (width <= 0 || c == 0)
		return 0;
	add(text, (const char *)bytes, (size_t)width);
	return 1;
}

static json_t *read_string(struct reader *r)
{
	struct text text = {0};
	json_t *value = NULL;
	int good = 1;
	for (r->at++; good && r->at < r->end && *r->at != '"';) {
		if (*r->at == '\\') {
			r->at++;
			good = read_escape(r, &text);
		} else if ((unsigned char)*r->at < 0x20) {
			good = 0;
		} else {
			add(&text, r->at++, 1);
		}
	}
	if (good && r->at < r->end && !text.failed)
		value = json_bare_string(text.bytes ? text.bytes : "", text.length);
	free(text.bytes);
	r->at++;
	return value ? value : wrong(r, "a string that does not end, or is not valid");
}

static json_t *read_number(struct reader *r)
{
	char digits[64], *end;
	size_t length = 0;
	while (r->at < r->end && *r->at && strchr("+-.eE0123456789", *r->at) && length < sizeof digits - 1)
		digits[length++] = *r->at++;
	digits[length] = '\0';
	const char *first = digits + (*digits == '-');
	if (*first < '0' || *first > '9' || (*first == '0' && first[1] >= '0' && first[1] <= '9'))
		return wrong(r, "no JSON value");
	errno = 0;
	json_t *value = NULL;
	if (strpbrk(digits, ".eE"))
		value = json_real(strtod(digits, &end));
	else
		value = json_integer(strtoll(digits, &end, 10));
	if (*end || end[-1] == '.' || (errno == ERANGE && !json_is_real(value))) {
		json_decref(value);
		value = NULL;
	}
	return value ? value : wrong(r, "a number that is not valid or too large");
}

static json_t *read_value(struct reader *r, int depth);

/* The members of an object or the elements of an array. */
static json_t *read_members(struct reader *r, int depth)
{
	int object = *r->at++ == '{';
	char close = object ? '}' : ']';
	json_t *all = object ? json_object() : json_array();
	for (int more = next(r) != close; all && more;) {
		json_t *key = NULL;
		int failed = object && (next(r) != '"' || (key = read_string(r)) == NULL || next(r) != ':');
		if (!failed && object) {
			r->at++;
			failed = (r->flags & JSON_REJECT_DUPLICATES) && json_object_get(all, json_string_value(key));
			if (failed)
				wrong(r, "duplicate object key");
		}
		json_t *value = failed ? NULL : read_value(r, depth + 1);
		if (value)
			failed = object ? json_object_set_new(all, json_string_value(key), value)
			                : json_array_append_new(all, value);
		json_decref(key);
		more = next(r) == ',';
		r->at += more;
		if (failed || !value || (!more && next(r) != close)) {
			wrong(r, failed ? "a key is missing" : "a comma or a closing bracket is missing");
			json_decref(all);
			return NULL;
		}
	}
	r->at++;
	return all;
}

static json_t *read_value(struct reader *r, int depth)
{
	static const char *const words[] = {"true", "false", "null"};
	char first = next(r);
	if (depth > DEEPEST)
		return wrong(r, "it is nested too deeply");
	if (first == '{' || first == '[')
		return read_members(r, depth);
	if (first == '"')
		return read_string(r);
	for (int i = 0; i < 3; i++) {
		size_t length = strlen(words[i]);
		if ((size_t)(r->end - r->at) < length || memcmp(r->at, words[i], length) != 0)
			continue;
		r->at += length;
		return i == 2 ? json_null() : json_boolean(i == 0);
	}
	return read_number(r);
}

/* `used` gets the bytes up to the end of the value. */
static json_t *load(const char *bytes, size_t length, size_t flags, json_error_t *error, size_t *used)
{
	struct reader r = {.begin = bytes, .at = bytes, .end = bytes + length, .flags = flags};
	char first = next(&r);
	json_t *value = first == '{' || first == '[' ? read_value(&r, 0) : wrong(&r, "'[' or '{' expected");
	*used = (size_t)(r.at - r.begin);
	if (value && !(flags & JSON_DISABLE_EOF_CHECK) && (next(&r) != '\0' || r.at < r.end)) {
		json_decref(value);
		value = wrong(&r, "end of file expected");
	}
	if (!value && error) {
		*error = (json_error_t){.line = 1, .position = (int)(r.at - r.begin)};
		for (const char *c = bytes; c < r.at && c < r.end; c++)
			error->line += *c == '\n';
		snprintf(error->text, sizeof error->text, "%s", r.why ? r.why : "out of memory");
	}
	return value;
}

json_t *json_loadb(const char *bytes, size_t length, size_t flags, json_error_t *error)
{
	size_t used;
	return load(bytes, length, flags, error, &used);
}

json_t *json_loads(const char *text, size_t flags, json_error_t *error)
{
	return json_loadb(text, strlen(text), flags, error);
}

/* Leaves the file behind the value, for another one may follow. */
json_t *json_loadf(FILE *file, size_t flags, json_error_t *error)
{
	struct text text = {0};
	char block[4096];
	size_t got, used = 0;
	long start = ftell(file);
	while ((got = fread(block, 1, sizeof block, file)) > 0)
		add(&text, block, got);
	json_t *value = text.failed ? NULL : load(text.bytes ? text.bytes : "", text.length, flags, error, &used);
	free(text.bytes);
	if (value && start >= 0 && fseek(file, start + (long)used, SEEK_SET)) {
		json_decref(value);
		return NULL;
	}
	return value;
}

json_t *json_load_file(const char *path, size_t flags, json_error_t *error)
{
	FILE *file = fopen(path, "r");
	if (!file) {
		if (error)
			snprintf(error->text, sizeof error->text, "unable to open %s", path);
		return NULL;
	}
	json_t *value = json_loadf(file, flags, error);
	fclose(file);
	return value;
}
