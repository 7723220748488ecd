/*
 * basic_english in one pass. The published form lower-cases a line and then runs twelve replacements over it; their
 * order shows in one place only: `"` is removed before `<br />` is looked for, so that quotes may stand inside it.
 * Nothing reaches over a line end, so that lines need not be told apart.
 */
#include "data/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include <unicase.h>
#include <unictype.h>
#include <unistr.h>

typedef enum byte_class {
	PLAIN = '.',
	UPPER = 'U',
	QUOTE = 'Q', /* removed */
	SPACE = ' ', /* white space, and what becomes white space */
	MARK = 'M',  /* a token by itself */
	ANGLE = '<', /* may begin <br /> */
	NUL = '0',
	HIGH = 'H'
} byte_class;

/* The class of each byte, sixteen in a row. Python's white space in ASCII has the separators 1C to 1F in it. */
static const char classes[256 + 1] = "0........     .." /* 00 */
                                     "............    " /* 10 */
                                     " MQ....MMM..M.M." /* 20 */
                                     "..........  <..M" /* 30 */
                                     ".UUUUUUUUUUUUUUU" /* 40 */
                                     "UUUUUUUUUUU....." /* 50 */
                                     "................" /* 60 */
                                     "................" /* 70 */
                                     "HHHHHHHHHHHHHHHH" /* 80 */
                                     "HHHHHHHHHHHHHHHH" /* 90 */
                                     "HHHHHHHHHHHHHHHH" /* A0 */
                                     "HHHHHHHHHHHHHHHH" /* B0 */
                                     "HHHHHHHHHHHHHHHH" /* C0 */
                                     "HHHHHHHHHHHHHHHH" /* D0 */
                                     "HHHHHHHHHHHHHHHH" /* E0 */
                                     "HHHHHHHHHHHHHHHH" /* F0 */;

enum { CAPITAL_SIGMA = 0x3A3, SMALL_SIGMA = 0x3C3, FINAL_SIGMA = 0x3C2, CAPITAL_I_DOT = 0x130, DOT_ABOVE = 0x307 };

void ps__tokenizer_init(ps__tokenizer *tokenizer, const void *text, size_t size)
{
	const uint8_t *bytes = size > 0 ? text : (const uint8_t *)"";
	*tokenizer = (ps__tokenizer){.begin = bytes, .at = bytes, .end = bytes + size};
}

void ps__tokenizer_finish(ps__tokenizer *tokenizer)
{
	free(tokenizer->word);
	*tokenizer = (ps__tokenizer){0};
}

/* What follows the `<br />` that begins at p, or NULL when none does. A search ends at the next `<`. */
static const uint8_t *after_break(const uint8_t *p, const uint8_t *end)
{
	static const char lower[] = "<br />";
	static const char upper[] = "<BR />";
	for (size_t i = 0; i < sizeof lower - 1; i++) {
		while (p < end && *p == '"')
			p++;
		if (p == end || (*p != (uint8_t)lower[i] && *p != (uint8_t)upper[i]))
			return NULL;
		p++;
	}
	return p;
}

/* White space beyond ASCII, as Python's str.isspace has it. */
static int is_wide_space(ucs4_t c)
{
	return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
	       c == 0x202F || c == 0x205F || c == 0x3000;
}

/*
 * Whether the capital sigma at [p, after) takes its final form: a cased letter comes before it and none after it, with
 * case-ignorable characters passed over (Unicode 14, table 3-17; the same as CPython's handle_capital_sigma). What
 * comes before is known to be valid; an invalid byte after it ends the search.
 */
static int is_final_sigma(const ps__tokenizer *tokenizer, const uint8_t *p, const uint8_t *after)
{
	ucs4_t c = 0;
	int cased = 0;
	for (const uint8_t *q = p; (q = u8_prev(&c, q, tokenizer->begin)) != NULL;) {
		if (!uc_is_property_case_ignorable(c)) {
			cased = uc_is_property_cased(c);
			break;
		}
	}
	if (!cased)
		return 0;
	for (const uint8_t *q = after; q < tokenizer->end;) {
		int width = u8_mbtoucr(&c, q, (size_t)(tokenizer->end - q));
		if (width <= 0)
			return 1;
		if (!uc_is_property_case_ignorable(c))
			return !uc_is_property_cased(c);
		q += width;
	}
	return 1;
}

static ps_status reserve(ps__tokenizer *tokenizer, size_t more)
{
	if (tokenizer->capacity - tokenizer->length >= more)
		return PS_OK;
	size_t capacity = tokenizer->capacity > 0 ? tokenizer->capacity : 128;
	while (capacity - tokenizer->length < more)
		capacity *= 2;
	uint8_t *word = realloc(tokenizer->word, capacity);
	if (word == NULL)
		return ps_fail(PS_ENOMEM, "no memory for a word of %zu bytes", capacity);
	tokenizer->word = word;
	tokenizer->capacity = capacity;
	return PS_OK;
}

/* Appends the lower case of c, which is the character at [p, after). */
static ps_status append_lower(ps__tokenizer *tokenizer, ucs4_t c, const uint8_t *p, const uint8_t *after)
{
	PS_TRY(reserve(tokenizer, 12));
	ucs4_t lower[2] = {0, DOT_ABOVE};
	int count = 1;
	if (c == CAPITAL_I_DOT) {
		lower[0] = 'i';
		count = 2;
	} else if (c == CAPITAL_SIGMA) {
		lower[0] = is_final_sigma(tokenizer, p, after) ? FINAL_SIGMA : SMALL_SIGMA;
	} else {
		lower[0] = uc_tolower(c);
	}
	for (int i = 0; i < count; i++)
		tokenizer->length += (size_t)u8_uctomb(tokenizer->word + tokenizer->length, lower[i], 6);
	return PS_OK;
}

/* Puts together the word that begins at `start` and is plain up to p. */
static ps_status mixed_word(ps__tokenizer *tokenizer, const uint8_t *start, const uint8_t *p, ps__token *token)
{
	const uint8_t *end = tokenizer->end;
	tokenizer->length = 0;
	PS_TRY(reserve(tokenizer, (size_t)(p - start) + 1));
	memcpy(tokenizer->word, start, (size_t)(p - start));
	tokenizer->length = (size_t)(p - start);
	while (p < end) {
		byte_class class = (byte_class)classes[*p];
		if (class == QUOTE) {
			p++;
		} else if (class == HIGH) {
			ucs4_t c = 0;
			int width = u8_mbtoucr(&c, p, (size_t)(end - p));
			if (width <= 0) {
				tokenizer->at = p;
				return PS_EFORMAT;
			}
			if (is_wide_space(c))
				break;
			PS_TRY(append_lower(tokenizer, c, p, p + width));
			p += width;
		} else if (class == NUL) {
			tokenizer->at = p;
			return PS_EFORMAT;
		} else if (class == SPACE || class == MARK || (class == ANGLE && after_break(p, end) != NULL)) {
			break;
		} else {
			PS_TRY(reserve(tokenizer, 1));
			tokenizer->word[tokenizer->length++] = class == UPPER ? (uint8_t)(*p | 0x20) : *p;
			p++;
		}
	}
	tokenizer->at = p;
	*token = (ps__token){tokenizer->word, tokenizer->length};
	return PS_OK;
}

/* Passes over what is between words. PS_EFORMAT for a character that is none. */
static ps_status skip_space(ps__tokenizer *tokenizer)
{
	const uint8_t *p = tokenizer->at;
	const uint8_t *end = tokenizer->end;
	for (; p < end; p++) {
		byte_class class = (byte_class)classes[*p];
		if (class == SPACE || class == QUOTE)
			continue;
		if (class == ANGLE) {
			const uint8_t *after = after_break(p, end);
			if (after == NULL)
				break;
			p = after - 1;
		} else if (class == HIGH) {
			ucs4_t c = 0;
			int width = u8_mbtoucr(&c, p, (size_t)(end - p));
			if (width <= 0 || !is_wide_space(c))
				break;
			p += width - 1;
		} else {
			break;
		}
	}
	tokenizer->at = p;
	return p < end && classes[*p] == NUL ? PS_EFORMAT : PS_OK;
}

ps_status ps__tokenizer_next(ps__tokenizer *tokenizer, ps__token *token)
{
	PS_TRY(skip_space(tokenizer));
	const uint8_t *start = tokenizer->at;
	const uint8_t *end = tokenizer->end;
	if (start == end) {
		*token = (ps__token){start, 0};
		return PS_OK;
	}
	const uint8_t *p = start;
	if (classes[*p] == MARK) {
		p++;
	} else {
		byte_class class = PLAIN;
		while (p < end) {
			class = (byte_class)classes[*p];
			if (class != PLAIN && (class != ANGLE || after_break(p, end) != NULL))
				break;
			p++;
		}
		if (p < end && class != SPACE && class != MARK && class != ANGLE)
			return mixed_word(tokenizer, start, p, token);
	}
	tokenizer->at = p;
	*token = (ps__token){start, (size_t)(p - start)};
	return PS_OK;
}

ps_status ps__tokenizer_fail(const ps__tokenizer *tokenizer, const char *path)
{
	unsigned long long line = 1;
	const uint8_t *line_start = tokenizer->begin;
	for (const uint8_t *p = tokenizer->begin; p < tokenizer->at; p++) {
		if (*p == '\n') {
			line++;
			line_start = p + 1;
		}
	}
	unsigned long long column = (unsigned long long)(tokenizer->at - line_start) + 1;
	if (*tokenizer->at == 0)
		return ps_fail(PS_EFORMAT, "%s:%llu:%llu: a NUL byte; a corpus is UTF-8 text", path, line, column);
	return ps_fail(PS_EFORMAT, "%s:%llu:%llu: byte 0x%02X is not valid UTF-8; a corpus is UTF-8 text", path, line,
	               column, *tokenizer->at);
}
