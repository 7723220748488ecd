/* A stand-in for libunistring: what Penstock uses of its UTF-8. */
#ifndef PS_BARE_UNISTR_H
#define PS_BARE_UNISTR_H

#include <stddef.h>
#include <stdint.h>

typedef uint32_t ucs4_t;

/* The character at s and its bytes; -1 for an invalid one, -2 for the beginning of one. n is not 0. */
int u8_mbtoucr(ucs4_t *c, const uint8_t *s, size_t n);
/* Writes a character; -1 when it is none, -2 when n bytes are too few. */
int u8_uctomb(uint8_t *s, ucs4_t c, ptrdiff_t n);
/* The character before s; NULL at the start. */
const uint8_t *u8_prev(ucs4_t *c, const uint8_t *s, const uint8_t *start);

#endif
