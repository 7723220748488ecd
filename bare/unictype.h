/* A stand-in for libunistring: letters that have a case, by the C library's tables. */
#ifndef PS_BARE_UNICTYPE_H
#define PS_BARE_UNICTYPE_H

#include <unistr.h>

#include <stdbool.h>

bool uc_is_property_cased(ucs4_t c);
/* Of ASCII alone. */
bool uc_is_property_case_ignorable(ucs4_t c);

#endif
