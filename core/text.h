/* Words of messages. */
#ifndef PS_CORE_TEXT_H
#define PS_CORE_TEXT_H

#include <stdint.h>

/* The word for so many: "1 row", "2 rows". */
static inline const char *ps__plural(int64_t count, const char *one, const char *many)
{
	return count == 1 ? one : many;
}

#endif
