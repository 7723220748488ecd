/* Looks into what the command writes as JSON. */
#ifndef PS_TESTS_CLI_JSON_LINES_H
#define PS_TESTS_CLI_JSON_LINES_H

#include <jansson.h>

/* Line `index` of a JSONL file as an object; NULL past the end. The caller gives it up. */
json_t *line(const char *path, int index);

/* What an object has there, which is a text, or a number. */
const char *text_of(const json_t *object, const char *key);
double number_of(const json_t *object, const char *key);

#endif
