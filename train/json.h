/* Numbers as text and as JSON. */
#ifndef PS_TRAIN_JSON_H
#define PS_TRAIN_JSON_H

#include <jansson.h>
#include <penstock/status.h>

/* The shortest decimal that reads back as `value`; `text` has 32 bytes. */
const char *ps__real_text(double value, char *text);
/* A JSON number with all its digits, or null where JSON has none: NaN and the infinities. */
json_t *ps__json_real(double value);
/* The same, of a time or a rate: what nine digits tell. */
json_t *ps__json_figure(double value);
/*
 * Reads a file as one JSON value. What is missing, a folder or no JSON is named with `advice`, which says what would be
 * right. The caller gives up the reference.
 */
ps_status ps__json_read(json_t **out, const char *path, size_t flags, const char *advice) PS_WARN_UNUSED;
/* As json_dumps, with each real number in its shortest form. The caller frees it; NULL: no memory. */
char *ps__json_text(const json_t *value, size_t flags);

#endif
