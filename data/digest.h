/* Checksums, by OpenSSL's libcrypto. */
#ifndef PENSTOCK_DATA_DIGEST_H
#define PENSTOCK_DATA_DIGEST_H

#include <penstock/status.h>

#include <stddef.h>
#include <stdint.h>

enum { PS__SHA256_BYTES = 32, PS__DIGEST_HEX = 65 };

/* The SHA-256 of the bytes. */
ps_status ps__sha256(const void *bytes, size_t size, uint8_t out[PS__SHA256_BYTES]);

/* The digest ("MD5", "SHA256") of what is left to read from a descriptor, as hex digits and a NUL. */
ps_status ps__digest_descriptor(int descriptor, const char *algorithm, char out[PS__DIGEST_HEX]);

/* A digest that is made piece by piece; ps__digest_finish takes a zeroed one. */
typedef struct ps__digest {
	void *context;
} ps__digest;

ps_status ps__digest_init(ps__digest *digest, const char *algorithm);
ps_status ps__digest_add(ps__digest *digest, const void *bytes, size_t size);
ps_status ps__digest_hex(ps__digest *digest, char out[PS__DIGEST_HEX]);
void ps__digest_finish(ps__digest *digest);

#endif
