/* A stand-in for Jansson: what Penstock uses of it, with its names and behaviour. */
#ifndef PS_BARE_JANSSON_H
#define PS_BARE_JANSSON_H

#include <stddef.h>
#include <stdio.h>

typedef enum {
	JSON_OBJECT,
	JSON_ARRAY,
	JSON_STRING,
	JSON_INTEGER,
	JSON_REAL,
	JSON_TRUE,
	JSON_FALSE,
	JSON_NULL
} json_type;

typedef struct json_t {
	json_type type;
	size_t holds;
} json_t;
typedef long long json_int_t;
#define JSON_INTEGER_FORMAT "lld"

typedef struct json_error_t {
	int line, column, position;
	char text[160];
} json_error_t;

/* Of dumping; without JSON_COMPACT a blank follows each comma and colon, and nothing is indented. */
#define JSON_COMPACT 0x20
#define JSON_INDENT(n) 0
#define JSON_REAL_PRECISION(n) (((n)&0x1F) << 11)
/* Of loading. */
#define JSON_REJECT_DUPLICATES 0x1
#define JSON_DISABLE_EOF_CHECK 0x2

json_t *json_object(void);
json_t *json_array(void);
/* NULL unless the text is UTF-8. */
json_t *json_string(const char *text);
json_t *json_integer(json_int_t value);
/* NULL unless the value is finite. */
json_t *json_real(double value);
json_t *json_boolean(int value);
json_t *json_null(void);
json_t *json_incref(json_t *value);
void json_decref(json_t *value);

int json_equal(const json_t *a, const json_t *b);

json_t *json_object_get(const json_t *object, const char *key);
int json_object_set(json_t *object, const char *key, json_t *value);
int json_object_set_new(json_t *object, const char *key, json_t *value);
int json_object_del(json_t *object, const char *key);
int json_object_update(json_t *object, json_t *other);
size_t json_object_size(const json_t *object);
/* The key and the value of an index; NULL past the end. */
const char *json_bare_key(const json_t *object, size_t index);
json_t *json_bare_value(const json_t *object, size_t index);
#define json_object_foreach(object, key, value)                                                      \
	for (size_t json_at_##key = 0; ((key) = json_bare_key((object), json_at_##key)) != NULL &&   \
	                               ((value) = json_bare_value((object), json_at_##key)) != NULL; \
	     json_at_##key++)

size_t json_array_size(const json_t *array);
json_t *json_array_get(const json_t *array, size_t index);
int json_array_append_new(json_t *array, json_t *value);
#define json_array_foreach(array, index, value) \
	for ((index) = 0; (index) < json_array_size(array) && ((value) = json_array_get((array), (index))); (index)++)

const char *json_string_value(const json_t *value);
json_int_t json_integer_value(const json_t *value);
double json_real_value(const json_t *value);
double json_number_value(const json_t *value);

static inline int json_is(const json_t *value, json_type type)
{
	return value != NULL && value->type == type;
}
#define json_is_object(value) json_is((value), JSON_OBJECT)
#define json_is_array(value) json_is((value), JSON_ARRAY)
#define json_is_string(value) json_is((value), JSON_STRING)
#define json_is_integer(value) json_is((value), JSON_INTEGER)
#define json_is_real(value) json_is((value), JSON_REAL)
#define json_is_number(value) (json_is((value), JSON_INTEGER) || json_is((value), JSON_REAL))
#define json_is_true(value) json_is((value), JSON_TRUE)
#define json_is_false(value) json_is((value), JSON_FALSE)
#define json_is_boolean(value) (json_is((value), JSON_TRUE) || json_is((value), JSON_FALSE))
#define json_is_null(value) json_is((value), JSON_NULL)

/* The caller frees the text. */
char *json_dumps(const json_t *value, size_t flags);
int json_dumpf(const json_t *value, FILE *file, size_t flags);
json_t *json_loadb(const char *bytes, size_t length, size_t flags, json_error_t *error);
json_t *json_loads(const char *text, size_t flags, json_error_t *error);
json_t *json_loadf(FILE *file, size_t flags, json_error_t *error);
json_t *json_load_file(const char *path, size_t flags, json_error_t *error);

/* Formats are made of { } [ ] s s? s% i I f b o n, with s?, s% and n in pack alone, and F in unpack alone. */
json_t *json_pack(const char *format, ...);
int json_unpack(json_t *root, const char *format, ...);

#endif
