/*
 * The tokenizer against expected words, and on random text against the published form: lower-case the whole, run the
 * replacements one after another, split.
 */
#include "data/tokenizer.h"

#include <penstock/random.h>

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unicase.h>
#include <unictype.h>
#include <unistr.h>

/* A ck_assert that holds costs a write to a file, too much for every step of 60,000 texts. */
#define MUST(condition)                                 \
	do {                                            \
		if (!(condition))                       \
			ck_abort_msg("%s", #condition); \
	} while (0)

/* The tokens, each followed by a line feed; NULL when the text is refused. The caller frees it. */
static char *tokens_of(const char *text, size_t size)
{
	/* An exact copy, so that a sanitizer sees a read past either end. */
	char *copy = malloc(size > 0 ? size : 1);
	MUST(copy != NULL);
	memcpy(copy, text, size);
	ps__tokenizer tokenizer;
	ps__tokenizer_init(&tokenizer, size > 0 ? copy : NULL, size);
	size_t room = 4 * size + 16;
	char *out = malloc(room);
	MUST(out != NULL);
	size_t used = 0;
	for (;;) {
		ps__token token = {0};
		ps_status status = ps__tokenizer_next(&tokenizer, &token);
		if (status != PS_OK) {
			MUST(status == PS_EFORMAT);
			MUST(ps__tokenizer_fail(&tokenizer, "file") == PS_EFORMAT);
			free(out);
			out = NULL;
			break;
		}
		if (token.length == 0)
			break;
		MUST(used + token.length + 1 < room);
		memcpy(out + used, token.bytes, token.length);
		used += token.length;
		out[used++] = '\n';
	}
	if (out != NULL)
		out[used] = '\0';
	ps__tokenizer_finish(&tokenizer);
	free(copy);
	return out;
}

/* Replaces every `from` in a NUL-terminated text; frees the old text. */
static char *replace(char *text, const char *from, const char *to)
{
	size_t room = (strlen(text) + 1) * (strlen(to) + 1) + 1;
	char *out = malloc(room);
	MUST(out != NULL);
	char *end = out;
	const char *at = text;
	for (const char *hit; (hit = strstr(at, from)) != NULL; at = hit + strlen(from)) {
		memcpy(end, at, (size_t)(hit - at));
		end += hit - at;
		memcpy(end, to, strlen(to));
		end += strlen(to);
	}
	memcpy(end, at, strlen(at) + 1);
	free(text);
	return out;
}

/* Python's str.lower by its definition: each character by itself, but for the capital sigma's final form. */
static char *lower_case(const char *text, size_t size)
{
	size_t count = 0;
	uint32_t *from = u8_to_u32((const uint8_t *)text, size, NULL, &count);
	MUST(from != NULL || count == 0);
	char *out = malloc(12 * count + 2);
	MUST(out != NULL);
	size_t used = 0;
	for (size_t i = 0; i < count; i++) {
		size_t before = i;
		size_t after = i + 1;
		while (before > 0 && uc_is_property_case_ignorable(from[before - 1]))
			before--;
		while (after < count && uc_is_property_case_ignorable(from[after]))
			after++;
		int is_final = before > 0 && uc_is_property_cased(from[before - 1]) &&
		               (after == count || !uc_is_property_cased(from[after]));
		size_t length = 12;
		if (from[i] == 0x3A3) {
			memcpy(out + used, is_final ? "ς" : "σ", 2);
			used += 2;
			continue;
		}
		uint32_t lower[4];
		size_t lower_count = 4;
		MUST(u32_tolower(from + i, 1, NULL, NULL, lower, &lower_count) != NULL);
		MUST(u32_to_u8(lower, lower_count, (uint8_t *)out + used, &length) != NULL);
		used += length;
	}
	free(from);
	out[used] = '\0';
	return out;
}

/* The published form; NULL when the text is no UTF-8 or has a NUL. */
static char *plain_tokens_of(const char *text, size_t size)
{
	static const char *const replacements[][2] = {
	        {"'", " '  "}, {"\"", ""},   {".", " . "}, {"<br />", " "}, {",", " , "}, {"(", " ( "},
	        {")", " ) "},  {"!", " ! "}, {"?", " ? "}, {";", " "},      {":", " "},
	};
	static const char *const spaces[] = {
	        "\t",     "\v",     "\f",     "\r",     "\x1C",   "\x1D",   "\x1E",   "\x1F",   " ",      "\xC2\x85",
	        "\u00A0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003", "\u2004", "\u2005", "\u2006", "\u2007",
	        "\u2008", "\u2009", "\u200A", "\u2028", "\u2029", "\u202F", "\u205F", "\u3000",
	};
	if (memchr(text, 0, size) != NULL || u8_check((const uint8_t *)text, size) != NULL)
		return NULL;
	char *out = lower_case(text, size);
	for (size_t i = 0; i < sizeof replacements / sizeof *replacements; i++)
		out = replace(out, replacements[i][0], replacements[i][1]);
	for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++)
		out = replace(out, spaces[i], "\n");
	/* One line feed after each word and none else. */
	char *end = out;
	for (const char *at = out; *at != '\0'; at++) {
		if (*at != '\n' || (end > out && end[-1] != '\n'))
			*end++ = *at;
	}
	*end = '\0';
	if (end > out && end[-1] != '\n')
		strcat(out, "\n");
	return out;
}

static void check_same(const char *text, size_t size, const char *what)
{
	char *fast = tokens_of(text, size);
	char *plain = plain_tokens_of(text, size);
	if ((fast == NULL) != (plain == NULL) || (fast != NULL && strcmp(fast, plain) != 0)) {
		fprintf(stderr, "text:");
		for (size_t i = 0; i < size; i++)
			fprintf(stderr, " %02X", (unsigned char)text[i]);
		fprintf(stderr, "\nfast: %s\nplain: %s\n", fast != NULL ? fast : "refused",
		        plain != NULL ? plain : "refused");
		ck_abort_msg("%s: the two forms differ", what);
	}
	free(fast);
	free(plain);
}

START_TEST(words)
{
	static const char *const rows[][2] = {
	        {"", ""},
	        {"   \n\t ", ""},
	        {"You can now install TorchText using pip!", "you can now install torchtext using pip !"},
	        {" = Valkyria Chronicles III = \n", "= valkyria chronicles iii ="},
	        {"don't", "don ' t"},
	        {"''", "' '"},
	        {"a.b,c(d)e!f?g;h:i", "a . b , c ( d ) e ! f ? g h i"},
	        {"3 @.@ 5 @,@ 000 @-@ <unk> x", "3 @ . @ 5 @ , @ 000 @-@ <unk> x"},
	        {"\"quoted\" a\"b \" \"\" c", "quoted ab c"},
	        {"one<br />two <BR /> three<Br />", "one two three"},
	        {"<b\"r \"/>x <br  /> <br/> <br\n/>", "x <br /> <br/> <br />"},
	        {"<<br />> <br /", "< > <br /"},
	        {"<br.\"/>", "<br . />"},
	        {"line\r\nnext\rlast", "line next last"},
	        {"a\x1C"
	         "b\x1D"
	         "c\x1E"
	         "d\x1F"
	         "e\x1B"
	         "f",
	         "a b c d e\x1B"
	         "f"},
	        {"a\u00A0b\u2003c\u3000d\xC2\x85"
	         "e\u200Bf",
	         "a b c d e\u200Bf"},
	        {"CAFÉ ÀÉÎ Ünï", "café àéî ünï"},
	        {"ΟΔΥΣΣΕΥΣ ΣΟΦΟΣ. Σ ΑΣ'Α ΑΣ\"Β", "οδυσσευς σοφος . σ ασ ' α ας"
	                                         "β"},
	        {"İstanbul K Å", "i\u0307stanbul k å"},
	        {"\uFEFFbom", "\uFEFF"
	                      "bom"},
	        {"ß Ǆ ǅ Ა", "ß ǆ ǆ ა"},
	        {"日本語 text", "日本語 text"},
	        {"\U00010400x", "\U00010428x"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char *tokens = tokens_of(rows[i][0], strlen(rows[i][0]));
		ck_assert_ptr_nonnull(tokens);
		for (char *p = tokens; *p != '\0'; p++) {
			if (*p == '\n')
				*p = p[1] != '\0' ? ' ' : '\0';
		}
		ck_assert_str_eq(tokens, rows[i][1]);
		free(tokens);
		check_same(rows[i][0], strlen(rows[i][0]), "row");
	}
}
END_TEST

START_TEST(refused)
{
	static const struct {
		const char *text;
		size_t size;
		const char *message;
	} rows[] = {
#define ROW(text, message) {text, sizeof text - 1, message}
	        ROW("ab\n\nc\xFFz", "file:3:2: byte 0xFF is not valid UTF-8; a corpus is UTF-8 text"),
	        ROW("\x80", "file:1:1: byte 0x80 is not valid UTF-8; a corpus is UTF-8 text"),
	        ROW("ab\xC3", "file:1:3: byte 0xC3 is not valid UTF-8; a corpus is UTF-8 text"),
	        ROW("a \xE2\x82", "file:1:3: byte 0xE2 is not valid UTF-8; a corpus is UTF-8 text"),
	        ROW("\xC0\xAF", "file:1:1: byte 0xC0 is not valid UTF-8; a corpus is UTF-8 text"),
	        ROW("\xED\xA0\x80", "file:1:1: byte 0xED is not valid UTF-8; a corpus is UTF-8 text"),
	        ROW("\xF4\x90\x80\x80", "file:1:1: byte 0xF4 is not valid UTF-8; a corpus is UTF-8 text"),
	        ROW("one\ntwo\0three", "file:2:4: a NUL byte; a corpus is UTF-8 text"),
	        ROW("\0", "file:1:1: a NUL byte; a corpus is UTF-8 text"),
	        ROW("\xFF\xFE"
	            "a\0b\0",
	            "file:1:1: byte 0xFF is not valid UTF-8; a corpus is UTF-8 text"),
	        ROW("A\xCE\xA3\xFF", "file:1:4: byte 0xFF is not valid UTF-8; a corpus is UTF-8 text"),
#undef ROW
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char *tokens = tokens_of(rows[i].text, rows[i].size);
		ck_assert_ptr_null(tokens);
		ck_assert_str_eq(ps_error_message(), rows[i].message);
	}
}
END_TEST

/* A word that the buffer must grow for. */
START_TEST(long_word)
{
	enum { LENGTH = 100000 };
	char *text = malloc(LENGTH + 1);
	ck_assert_ptr_nonnull(text);
	for (int i = 0; i < LENGTH; i++)
		text[i] = i % 2 == 0 ? 'A' : 'b';
	check_same(text, LENGTH, "long word");
	free(text);
}
END_TEST

static uint32_t draw(uint64_t seed, uint32_t row, uint64_t element)
{
	ps_random_place place = {.seed = seed};
	return ps_random_word(&place, row, element);
}

/* Every pair of bytes' worth of structure comes up: pieces that mean something, put together at random. */
START_TEST(random_pieces)
{
	static const char *const pieces[] = {
	        "a",          "B",        "z",      "\"", "<",      "br",     "BR", " ",      "/",      "/>",
	        "<br />",     "<b\"r />", "'",      ".",  ",",      "(",      ")",  "!",      "?",      ";",
	        ":",          "\n",       "\r\n",   "\t", "Σ",      "ς",      "σ",  "İ",      "\u0307", "É",
	        "日",         "\u00A0",   "\u3000", "^",  "\u00AD", "\u2019", "-",  "\u1680", "\u200A", "\u02B0",
	        "\U0001D400", "1",        "<unk>",  "K",  "\x1F",   "\x7F",   "Ǆ",  "ﬁ",
	};
	const uint32_t count = sizeof pieces / sizeof *pieces;
	for (uint32_t round = 0; round < 20000; round++) {
		char text[256] = "";
		uint32_t length = draw(5, round, 0) % 24;
		for (uint32_t i = 0; i < length; i++)
			strcat(text, pieces[draw(5, round, 1 + i) % count]);
		check_same(text, strlen(text), "pieces, seed 5");
	}
}
END_TEST

START_TEST(random_bytes)
{
	for (uint32_t round = 0; round < 20000; round++) {
		char text[64];
		size_t length = draw(6, round, 0) % sizeof text;
		/* Every other text is mostly ASCII, so that it goes some way before it is refused. */
		for (size_t i = 0; i < length; i++) {
			uint32_t word = draw(6, round, 1 + i);
			text[i] = (char)(round % 2 == 0 && word >> 24 < 250 ? 1 + word % 127 : word & 255);
		}
		check_same(text, length, "bytes, seed 6");
	}
}
END_TEST

/* Random code points, most from the planes with letters. */
START_TEST(random_characters)
{
	for (uint32_t round = 0; round < 20000; round++) {
		uint8_t text[6 * 16];
		size_t size = 0;
		size_t length = draw(7, round, 0) % 16;
		for (size_t i = 0; i < length; i++) {
			uint32_t word = draw(7, round, 1 + i);
			uint32_t limit = word % 4 == 0 ? 0x110000 : word % 4 == 1 ? 0x500 : 0x2100;
			int width = u8_uctomb(text + size, 1 + (word >> 2) % (limit - 1), 6);
			size += width > 0 ? (size_t)width : 0;
		}
		check_same((const char *)text, size, "characters, seed 7");
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tokenizer");
	TCase *cases = tcase_create("tokenizer");
	tcase_set_timeout(cases, 120);
	tcase_add_test(cases, words);
	tcase_add_test(cases, refused);
	tcase_add_test(cases, long_word);
	tcase_add_test(cases, random_pieces);
	tcase_add_test(cases, random_bytes);
	tcase_add_test(cases, random_characters);
	suite_add_tcase(suite, cases);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
