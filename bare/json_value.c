/* JSON values: making, holding and asking them. */
#include "json_internal.h"

#include <unistr.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

static json_t *make(json_type type)
{
	struct value *value = calloc(1, sizeof *value);
	if (!value)
		return NULL;
	value->head.type = type;
	value->head.holds = 1;
	return &value->head;
}

static struct value *change(json_t *value)
{
	return (struct value *)value;
}

json_t *json_object(void)
{
	return make(JSON_OBJECT);
}

json_t *json_array(void)
{
	return make(JSON_ARRAY);
}

json_t *json_null(void)
{
	return make(JSON_NULL);
}

json_t *json_boolean(int value)
{
	return make(value ? JSON_TRUE : JSON_FALSE);
}

json_t *json_integer(json_int_t integer)
{
	json_t *value = make(JSON_INTEGER);
	if (value)
		change(value)->integer = integer;
	return value;
}

json_t *json_real(double real)
{
	json_t *value = isfinite(real) ? make(JSON_REAL) : NULL;
	if (value)
		change(value)->real = real;
	return value;
}

json_t *json_bare_string(const char *bytes, size_t length)
{
	ucs4_t c;
	for (size_t at = 0; at < length;) {
		int width = u8_mbtoucr(&c, (const uint8_t *)bytes + at, length - at);
		if (width <= 0 || c == 0)
			return NULL;
		at += (size_t)width;
	}
	json_t *value = make(JSON_STRING);
	char *text = malloc(length + 1);
	if (!value || !text) {
		free(value);
		free(text);
		return NULL;
	}
	memcpy(text, bytes, length);
	text[length] = '\0';
	change(value)->text = text;
	return value;
}

json_t *json_string(const char *text)
{
	return text ? json_bare_string(text, strlen(text)) : NULL;
}

json_t *json_incref(json_t *value)
{
	if (value)
		value->holds++;
	return value;
}

void json_decref(json_t *value)
{
	if (!value || --value->holds > 0)
		return;
	struct value *v = change(value);
	for (size_t i = 0; i < v->count; i++) {
		if (v->keys)
			free(v->keys[i]);
		json_decref(v->values[i]);
	}
	free(v->keys);
	free(v->values);
	free(v->text);
	free(v);
}

static int reserve(struct value *v)
{
	if (v->count < v->room)
		return 0;
	size_t room = v->room ? v->room * 2 : 8;
	json_t **values = realloc(v->values, room * sizeof *values);
	if (!values)
		return -1;
	v->values = values;
	if (v->head.type == JSON_OBJECT) {
		char **keys = realloc(v->keys, room * sizeof *keys);
		if (!keys)
			return -1;
		v->keys = keys;
	}
	v->room = room;
	return 0;
}

static json_t **slot(const json_t *object, const char *key)
{
	const struct value *v = inside(object);
	for (size_t i = 0; json_is_object(object) && key && i < v->count; i++)
		if (!strcmp(v->keys[i], key))
			return &v->values[i];
	return NULL;
}

json_t *json_object_get(const json_t *object, const char *key)
{
	json_t **found = slot(object, key);
	return found ? *found : NULL;
}

int json_object_set_new(json_t *object, const char *key, json_t *value)
{
	json_t **found = slot(object, key);
	if (!value || !json_is_object(object) || !key) {
		json_decref(value);
		return -1;
	}
	if (found) {
		json_decref(*found);
		*found = value;
		return 0;
	}
	struct value *v = change(object);
	char *copy = malloc(strlen(key) + 1);
	if (!copy || reserve(v)) {
		free(copy);
		json_decref(value);
		return -1;
	}
	memcpy(copy, key, strlen(key) + 1);
	v->keys[v->count] = copy;
	v->values[v->count++] = value;
	return 0;
}

int json_object_set(json_t *object, const char *key, json_t *value)
{
	return json_object_set_new(object, key, json_incref(value));
}

int json_object_update(json_t *object, json_t *other)
{
	for (size_t i = 0; i < json_object_size(other); i++)
		if (json_object_set(object, json_bare_key(other, i), json_bare_value(other, i)))
			return -1;
	return json_is_object(object) && json_is_object(other) ? 0 : -1;
}

int json_object_del(json_t *object, const char *key)
{
	json_t **found = slot(object, key);
	if (!found)
		return -1;
	struct value *v = change(object);
	size_t at = (size_t)(found - v->values);
	free(v->keys[at]);
	json_decref(v->values[at]);
	for (v->count--; at < v->count; at++) {
		v->keys[at] = v->keys[at + 1];
		v->values[at] = v->values[at + 1];
	}
	return 0;
}

size_t json_object_size(const json_t *object)
{
	return json_is_object(object) ? inside(object)->count : 0;
}

const char *json_bare_key(const json_t *object, size_t index)
{
	return index < json_object_size(object) ? inside(object)->keys[index] : NULL;
}

json_t *json_bare_value(const json_t *object, size_t index)
{
	return index < json_object_size(object) ? inside(object)->values[index] : NULL;
}

size_t json_array_size(const json_t *array)
{
	return json_is_array(array) ? inside(array)->count : 0;
}

json_t *json_array_get(const json_t *array, size_t index)
{
	return index < json_array_size(array) ? inside(array)->values[index] : NULL;
}

int json_array_append_new(json_t *array, json_t *value)
{
	if (!value || !json_is_array(array) || reserve(change(array))) {
		json_decref(value);
		return -1;
	}
	struct value *v = change(array);
	v->values[v->count++] = value;
	return 0;
}

const char *json_string_value(const json_t *value)
{
	return json_is_string(value) ? inside(value)->text : NULL;
}

json_int_t json_integer_value(const json_t *value)
{
	return json_is_integer(value) ? inside(value)->integer : 0;
}

double json_real_value(const json_t *value)
{
	return json_is_real(value) ? inside(value)->real : 0;
}

double json_number_value(const json_t *value)
{
	return json_is_integer(value) ? (double)inside(value)->integer : json_real_value(value);
}

int json_equal(const json_t *a, const json_t *b)
{
	if (!a || !b || a->type != b->type || inside(a)->count != inside(b)->count)
		return 0;
	for (size_t i = 0; i < inside(a)->count; i++) {
		const json_t *other =
		        a->type == JSON_OBJECT ? json_object_get(b, json_bare_key(a, i)) : inside(b)->values[i];
		if (!json_equal(inside(a)->values[i], other))
			return 0;
	}
	return inside(a)->integer == inside(b)->integer && !(inside(a)->real < inside(b)->real) &&
	       !(inside(a)->real > inside(b)->real) &&
	       (a->type != JSON_STRING || strcmp(inside(a)->text, inside(b)->text) == 0);
}
