/*
 * Files in the user's cache folder: $XDG_CACHE_HOME/penstock or ~/.cache/penstock. A file is a header, the whole key
 * and the data. It is used only if its key is the one that was asked for and its checksum is right, so that a stale or
 * a damaged one is as good as none.
 */
#include "backends/opencl/opencl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[8] = {'P', 'S', 'O', 'P', 'E', 'N', 'C', '1'};

struct header {
	char magic[8];
	uint64_t key_bytes, data_bytes, checksum;
};

/* FNV-1a of 64 bits: against damage, not against malice, as the folder is the user's own. */
static uint64_t hash(uint64_t state, const void *data, size_t bytes)
{
	const unsigned char *at = data;
	for (size_t i = 0; i < bytes; i++)
		state = (state ^ at[i]) * UINT64_C(0x100000001B3);
	return state;
}

#define HASH_START UINT64_C(0xCBF29CE484222325)

/* Writes the folder, made if need be; false when the user has none. A relative XDG_CACHE_HOME is void. */
static bool folder_path(char *path, size_t bytes)
{
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	int length = -1;
	if (xdg && xdg[0] == '/')
		length = snprintf(path, bytes, "%s", xdg);
	else if (home && home[0] == '/')
		length = snprintf(path, bytes, "%s/.cache", home);
	if (length < 0 || (size_t)length + sizeof "/penstock" > bytes)
		return false;
	if (mkdir(path, 0700) && errno != EEXIST)
		return false;
	strcat(path, "/penstock");
	return !mkdir(path, 0700) || errno == EEXIST;
}

bool ps__cl_cache_path(char *path, size_t bytes, const char *key, const char *suffix)
{
	char folder[3072];
	if (!folder_path(folder, sizeof folder))
		return false;
	int length = snprintf(path, bytes, "%s/opencl-%016llx.%s", folder,
	                      (unsigned long long)hash(HASH_START, key, strlen(key)), suffix);
	return length > 0 && (size_t)length < bytes;
}

static bool read_file(FILE *file, const char *key, unsigned char **data, size_t *bytes)
{
	struct header header;
	size_t key_bytes = strlen(key);
	struct stat facts;
	if (fread(&header, sizeof header, 1, file) != 1 || memcmp(header.magic, magic, sizeof magic))
		return false;
	if (fstat(fileno(file), &facts) || header.key_bytes != key_bytes || facts.st_size < 0 ||
	    (uint64_t)facts.st_size != sizeof header + header.key_bytes + header.data_bytes || !header.data_bytes)
		return false;
	size_t total = key_bytes + (size_t)header.data_bytes;
	unsigned char *all = malloc(total);
	if (!all)
		return false;
	if (fread(all, 1, total, file) != total || memcmp(all, key, key_bytes) ||
	    hash(HASH_START, all, total) != header.checksum) {
		free(all);
		return false;
	}
	memmove(all, all + key_bytes, (size_t)header.data_bytes);
	*data = all;
	*bytes = (size_t)header.data_bytes;
	return true;
}

bool ps__cl_cache_load(const char *key, const char *suffix, unsigned char **data, size_t *bytes)
{
	char path[4096];
	if (!ps__cl_cache_path(path, sizeof path, key, suffix))
		return false;
	FILE *file = fopen(path, "rb");
	if (!file)
		return false;
	bool good = read_file(file, key, data, bytes);
	return !fclose(file) && good;
}

void ps__cl_cache_save(const char *key, const char *suffix, const unsigned char *data, size_t bytes)
{
	char path[4096], temporary[4096 + 8];
	if (!ps__cl_cache_path(path, sizeof path, key, suffix))
		return;
	snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
	int descriptor = mkstemp(temporary);
	if (descriptor < 0)
		return;
	FILE *file = fdopen(descriptor, "wb");
	if (!file) {
		close(descriptor);
		unlink(temporary);
		return;
	}
	size_t key_bytes = strlen(key);
	struct header header = {.key_bytes = key_bytes, .data_bytes = bytes};
	memcpy(header.magic, magic, sizeof magic);
	header.checksum = hash(hash(HASH_START, key, key_bytes), data, bytes);
	bool good = fwrite(&header, sizeof header, 1, file) == 1 && fwrite(key, 1, key_bytes, file) == key_bytes &&
	            fwrite(data, 1, bytes, file) == bytes && !fflush(file) && !fsync(descriptor);
	if (fclose(file) || !good || rename(temporary, path))
		unlink(temporary);
}
