/* UTF-8, and case by the C library's UTF-8 locale; without one only ASCII has a case. */
#include <unicase.h>
#include <unictype.h>

#include <locale.h>
#include <pthread.h>
#include <string.h>
#include <wctype.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static locale_t utf8;

static void find_locale(void)
{
	utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
}

static bool wide(ucs4_t c)
{
	(void)pthread_once(&once, find_locale);
	return c >= 0x80 && utf8 != (locale_t)0;
}

ucs4_t uc_tolower(ucs4_t c)
{
	if (c >= 'A' && c <= 'Z')
		return c + ('a' - 'A');
	return wide(c) ? (ucs4_t)towlower_l((wint_t)c, utf8) : c;
}

bool uc_is_property_cased(ucs4_t c)
{
	if (c < 0x80)
		return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
	return wide(c) && (iswupper_l((wint_t)c, utf8) || iswlower_l((wint_t)c, utf8));
}

bool uc_is_property_case_ignorable(ucs4_t c)
{
	return c > 0 && c < 0x80 && strchr("'.:^`", (int)c) != NULL;
}

int u8_mbtoucr(ucs4_t *c, const uint8_t *s, size_t n)
{
	static const ucs4_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	int width = s[0] < 0x80 ? 1 : s[0] < 0xC2 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : s[0] < 0xF5 ? 4 : 0;
	*c = 0xFFFD;
	if (width == 0)
		return -1;
	ucs4_t value = width == 1 ? s[0] : s[0] & (0x7FU >> width);
	for (int i = 1; i < width; i++) {
		if ((size_t)i >= n)
			return -2;
		if ((s[i] & 0xC0) != 0x80)
			return -1;
		value = value << 6 | (s[i] & 0x3F);
	}
	if (value < least[width] || (value >= 0xD800 && value < 0xE000) || value > 0x10FFFF)
		return -1;
	*c = value;
	return width;
}

int u8_uctomb(uint8_t *s, ucs4_t c, ptrdiff_t n)
{
	int width = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	if ((c >= 0xD800 && c < 0xE000) || c > 0x10FFFF)
		return -1;
	if (n < width)
		return -2;
	static const uint8_t marks[] = {0, 0, 0xC0, 0xE0, 0xF0};
	for (int i = width - 1; i > 0; i--, c >>= 6)
		s[i] = (uint8_t)(0x80 | (c & 0x3F));
	s[0] = (uint8_t)(marks[width] | c);
	return width;
}

const uint8_t *u8_prev(ucs4_t *c, const uint8_t *s, const uint8_t *start)
{
	const uint8_t *at = s;
	if (s == start)
		return NULL;
	do
		at--;
	while (at > start && (*at & 0xC0) == 0x80);
	return u8_mbtoucr(c, at, (size_t)(s - at)) == (int)(s - at) ? at : NULL;
}
