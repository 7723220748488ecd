/* A stand-in for libunistring: lower case, by the C library's tables. */
#ifndef PS_BARE_UNICASE_H
#define PS_BARE_UNICASE_H

#include <unistr.h>

ucs4_t uc_tolower(ucs4_t c);

#endif
