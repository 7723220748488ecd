/* Making and reading JSON values by a format. */
#include "json_internal.h"

#include <stdarg.h>
#include <string.h>

struct arguments {
	const char *at;
	va_list list;
};

static char next(struct arguments *a)
{
	while (*a->at && strchr(" :,\t\n", *a->at))
		a->at++;
	return *a->at;
}

static json_t *pack(struct arguments *a);

/* Everything is read, even after a failure: the caller has given up its hold on what o stands for. */
static json_t *pack_members(struct arguments *a, char close)
{
	json_t *all = close == '}' ? json_object() : json_array();
	int failed = !all;
	while (next(a) && next(a) != close) {
		const char *key = NULL;
		if (close == '}') {
			a->at++;
			key = va_arg(a->list, const char *);
		}
		json_t *value = pack(a);
		failed |= close == '}' ? json_object_set_new(all, key, value) : json_array_append_new(all, value);
	}
	a->at += *a->at == close;
	if (failed) {
		json_decref(all);
		return NULL;
	}
	return all;
}

static json_t *pack_string(struct arguments *a)
{
	const char *text = va_arg(a->list, const char *);
	if (*a->at == '?') {
		a->at++;
		return text ? json_string(text) : json_null();
	}
	if (*a->at == '%') {
		a->at++;
		size_t length = va_arg(a->list, size_t);
		return json_bare_string(text, length);
	}
	return json_string(text);
}

static json_t *pack(struct arguments *a)
{
	char kind = next(a);
	a->at += kind != '\0';
	switch (kind) {
	case '{':
		return pack_members(a, '}');
	case '[':
		return pack_members(a, ']');
	case 's':
		return pack_string(a);
	case 'i':
		return json_integer(va_arg(a->list, int));
	case 'I':
		return json_integer(va_arg(a->list, json_int_t));
	case 'f':
		return json_real(va_arg(a->list, double));
	case 'b':
		return json_boolean(va_arg(a->list, int));
	case 'o':
		return va_arg(a->list, json_t *);
	case 'n':
		return json_null();
	default:
		return NULL;
	}
}

json_t *json_pack(const char *format, ...)
{
	struct arguments a = {.at = format};
	va_start(a.list, format);
	json_t *value = pack(&a);
	va_end(a.list);
	return value;
}

/* Each kind takes its argument whatever the value is. */
static int unpack(struct arguments *a, json_t *value)
{
	int failed = !value;
	char kind = next(a);
	a->at += kind != '\0';
	switch (kind) {
	case '{':
	case '[': {
		char close = kind == '{' ? '}' : ']';
		for (size_t i = 0; next(a) && next(a) != close; i++) {
			if (kind == '[') {
				failed |= unpack(a, json_array_get(value, i));
				continue;
			}
			a->at++;
			failed |= unpack(a, json_object_get(value, va_arg(a->list, const char *)));
		}
		a->at += *a->at == close;
		return failed;
	}
	case 's':
		*va_arg(a->list, const char **) = json_string_value(value);
		return !json_is_string(value);
	case 'i':
		*va_arg(a->list, int *) = (int)json_integer_value(value);
		return !json_is_integer(value);
	case 'I':
		*va_arg(a->list, json_int_t *) = json_integer_value(value);
		return !json_is_integer(value);
	case 'b':
		*va_arg(a->list, int *) = json_is_true(value);
		return !json_is_boolean(value);
	case 'f':
		*va_arg(a->list, double *) = json_real_value(value);
		return !json_is_real(value);
	case 'F':
		*va_arg(a->list, double *) = json_number_value(value);
		return !json_is_number(value);
	case 'o':
		*va_arg(a->list, json_t **) = value;
		return failed;
	default:
		return 1;
	}
}

int json_unpack(json_t *root, const char *format, ...)
{
	struct arguments a = {.at = format};
	va_start(a.list, format);
	int failed = unpack(&a, root);
	va_end(a.list);
	return failed ? -1 : 0;
}
