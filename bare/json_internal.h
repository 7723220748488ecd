/* A JSON value, between the files that make, read and write them. */
#ifndef PS_BARE_JSON_INTERNAL_H
#define PS_BARE_JSON_INTERNAL_H

#include <jansson.h>

/* Objects and arrays have `count` values; of an object, keys too. */
struct value {
	json_t head;
	json_int_t integer;
	double real;
	char *text;
	char **keys;
	json_t **values;
	size_t count, room;
};

static inline const struct value *inside(const json_t *value)
{
	return (const struct value *)value;
}

/* A string of so many bytes; NULL unless they are UTF-8 without NUL. */
json_t *json_bare_string(const char *bytes, size_t length);

#endif
