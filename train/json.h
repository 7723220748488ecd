/* Numbers as text and as JSON. */
#ifndef PS_TRAIN_JSON_H
#define PS_TRAIN_JSON_H

#include <jansson.h>

/* The shortest decimal that reads back as `value`; `text` has 32 bytes. */
const char *ps__real_text(double value, char *text);
/* A JSON number with all its digits, or null where JSON has none: NaN and the infinities. */
json_t *ps__json_real(double value);
/* The same, of a time or a rate: what nine digits tell. */
json_t *ps__json_figure(double value);
/* As json_dumps, with each real number in its shortest form. The caller frees it; NULL: no memory. */
char *ps__json_text(const json_t *value, size_t flags);

#endif
