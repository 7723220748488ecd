/* Downloads, archives and checksums of a build without their libraries: refused, and corpora are not cached. */
#include "data/digest.h"
#include "data/download.h"
#include "data/unpack.h"

static ps_status missing(const char *what)
{
	return ps_fail(PS_ENOTSUP, "%s: this build has no libraries for it (PS_BARE)", what);
}

ps_status ps__download_check_url(const char *url)
{
	(void)url;
	return missing("a download");
}

ps_status ps__download_run(const ps__download *download, ps__download_result *result)
{
	(void)download;
	(void)result;
	return missing("a download");
}

ps_status ps__unpack(int descriptor, int folder, const ps_fetch_source *source)
{
	(void)descriptor;
	(void)folder;
	(void)source;
	return missing("an archive");
}

ps_status ps__sha256(const void *bytes, size_t size, uint8_t out[PS__SHA256_BYTES])
{
	(void)bytes;
	(void)size;
	(void)out;
	return missing("a checksum");
}

ps_status ps__digest_descriptor(int descriptor, const char *algorithm, char out[PS__DIGEST_HEX])
{
	(void)descriptor;
	(void)algorithm;
	(void)out;
	return missing("a checksum");
}

ps_status ps__digest_init(ps__digest *digest, const char *algorithm)
{
	(void)algorithm;
	digest->context = NULL;
	return missing("a checksum");
}

ps_status ps__digest_add(ps__digest *digest, const void *bytes, size_t size)
{
	(void)digest;
	(void)bytes;
	(void)size;
	return missing("a checksum");
}

ps_status ps__digest_hex(ps__digest *digest, char out[PS__DIGEST_HEX])
{
	(void)digest;
	(void)out;
	return missing("a checksum");
}

void ps__digest_finish(ps__digest *digest)
{
	(void)digest;
}
