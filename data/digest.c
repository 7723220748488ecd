/* A thin layer over EVP that speaks in ps_status. */
#include "data/digest.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

/* Writes the bytes as lower-case hex digits. */
static void to_hex(const uint8_t *bytes, size_t size, char *out)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < size; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
	out[2 * size] = '\0';
}

ps_status ps__sha256(const void *bytes, size_t size, uint8_t out[PS__SHA256_BYTES])
{
	if (EVP_Digest(bytes, size, out, NULL, EVP_sha256(), NULL) != 1)
		return ps_fail(PS_EINTERNAL, "the library for checksums refused SHA-256");
	return PS_OK;
}

ps_status ps__digest_init(ps__digest *digest, const char *algorithm)
{
	digest->context = NULL;
	const EVP_MD *kind = EVP_get_digestbyname(algorithm);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	if (context == NULL)
		return ps_fail(PS_ENOMEM, "no memory for a checksum");
	if (kind == NULL || EVP_MD_get_size(kind) > PS__SHA256_BYTES || EVP_DigestInit_ex(context, kind, NULL) != 1) {
		EVP_MD_CTX_free(context);
		return ps_fail(PS_EINTERNAL, "the library for checksums refused %s", algorithm);
	}
	digest->context = context;
	return PS_OK;
}

ps_status ps__digest_add(ps__digest *digest, const void *bytes, size_t size)
{
	if (EVP_DigestUpdate(digest->context, bytes, size) != 1)
		return ps_fail(PS_EINTERNAL, "the library for checksums failed");
	return PS_OK;
}

ps_status ps__digest_hex(ps__digest *digest, char out[PS__DIGEST_HEX])
{
	uint8_t bytes[EVP_MAX_MD_SIZE];
	unsigned int size = 0;
	if (EVP_DigestFinal_ex(digest->context, bytes, &size) != 1)
		return ps_fail(PS_EINTERNAL, "the library for checksums failed");
	to_hex(bytes, size, out);
	return PS_OK;
}

void ps__digest_finish(ps__digest *digest)
{
	EVP_MD_CTX_free(digest->context);
	digest->context = NULL;
}

ps_status ps__digest_descriptor(int descriptor, const char *algorithm, char out[PS__DIGEST_HEX])
{
	ps__digest digest;
	PS_TRY(ps__digest_init(&digest, algorithm));
	uint8_t block[1 << 16];
	ps_status status = PS_OK;
	for (;;) {
		ssize_t got = read(descriptor, block, sizeof block);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			status = ps_fail(PS_EIO, "a file cannot be read: %s", strerror(errno));
		if (got <= 0)
			break;
		status = ps__digest_add(&digest, block, (size_t)got);
		if (status != PS_OK)
			break;
	}
	if (status == PS_OK)
		status = ps__digest_hex(&digest, out);
	ps__digest_finish(&digest);
	return status;
}
