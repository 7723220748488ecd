/* Looks into what the command writes as JSON. */
#include "cli/json_lines.h"

#include <check.h>
#include <stdio.h>

json_t *line(const char *path, int index)
{
	char text[8192];
	FILE *file = fopen(path, "rb");
	ck_assert_ptr_nonnull(file);
	char *got = NULL;
	for (int i = 0; i <= index; i++)
		got = fgets(text, sizeof text, file);
	fclose(file);
	if (got == NULL)
		return NULL;
	json_error_t error;
	json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &error);
	ck_assert_msg(object != NULL, "%s:%d: %s", path, index + 1, error.text);
	return object;
}

const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	ck_assert_msg(text != NULL, "no text %s", key);
	return text;
}

double number_of(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	ck_assert_msg(json_is_number(value), "no number %s", key);
	return json_number_value(value);
}
