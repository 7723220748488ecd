/*
 * Files in the user's cache folder. A file is a header, the whole key and the data; its path comes from a name, which
 * may say less than the key. It is used only if its key is the one that was asked for and its checksum is right, so
 * that a stale or a damaged one is as good as none.
 */
#include "backends/opencl/opencl.h"

#include "core/platform.h"

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

/* Writes the folder, made if need be; false when the user has none. */
static bool folder_path(char *path, size_t bytes)
{
	if (!ps__cache_folder(path, bytes))
		return false;
	char *last = strrchr(path, '/');
	*last = '\0';
	bool made = !mkdir(path, 0700) || errno == EEXIST;
	*last = '/';
	return made && (!mkdir(path, 0700) || errno == EEXIST);
}

bool ps__cl_cache_path(char *path, size_t bytes, const char *name, const char *suffix)
{
	char folder[3072];
	if (!folder_path(folder, sizeof folder))
		return false;
	int length = snprintf(path, bytes, "%s/opencl-%016llx.%s", folder,
	                      (unsigned long long)hash(HASH_START, name, strlen(name)), suffix);
	return length > 0 && (size_t)length < bytes;
}

static enum cl_cached read_file(FILE *file, const char *key, unsigned char **data, size_t *bytes)
{
	struct header header;
	size_t key_bytes = strlen(key);
	struct stat facts;
	if (fread(&header, sizeof header, 1, file) != 1 || memcmp(header.magic, magic, sizeof magic))
		return CL_CACHE_DAMAGED;
	/* The limits come first, so that the sum below cannot wrap around. */
	if (fstat(fileno(file), &facts) || facts.st_size < 0 || header.key_bytes > (uint64_t)facts.st_size ||
	    header.data_bytes > (uint64_t)facts.st_size || !header.data_bytes ||
	    (uint64_t)facts.st_size != sizeof header + header.key_bytes + header.data_bytes)
		return CL_CACHE_DAMAGED;
	size_t total = (size_t)(header.key_bytes + header.data_bytes);
	unsigned char *all = malloc(total);
	if (!all)
		return CL_CACHE_NONE;
	enum cl_cached answer = CL_CACHE_DAMAGED;
	if (fread(all, 1, total, file) == total && hash(HASH_START, all, total) == header.checksum)
		answer = header.key_bytes == key_bytes && !memcmp(all, key, key_bytes) ? CL_CACHE_GOOD : CL_CACHE_STALE;
	if (answer != CL_CACHE_GOOD) {
		free(all);
		return answer;
	}
	memmove(all, all + key_bytes, (size_t)header.data_bytes);
	*data = all;
	*bytes = (size_t)header.data_bytes;
	return CL_CACHE_GOOD;
}

enum cl_cached ps__cl_cache_load(const char *name, const char *key, const char *suffix, unsigned char **data,
                                 size_t *bytes)
{
	char path[4096];
	if (!ps__cl_cache_path(path, sizeof path, name, suffix))
		return CL_CACHE_NONE;
	FILE *file = fopen(path, "rb");
	if (!file)
		return CL_CACHE_NONE;
	enum cl_cached answer = read_file(file, key, data, bytes);
	fclose(file); /* it was only read */
	return answer;
}

bool ps__cl_cache_save(const char *name, const char *key, const char *suffix, const void *data, size_t bytes)
{
	char path[4096], temporary[4096 + 8];
	if (!ps__cl_cache_path(path, sizeof path, name, suffix))
		return false;
	snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
	int descriptor = mkstemp(temporary);
	if (descriptor < 0)
		return false;
	FILE *file = fdopen(descriptor, "wb");
	if (!file) {
		close(descriptor);
		unlink(temporary);
		return false;
	}
	size_t key_bytes = strlen(key);
	struct header header = {.key_bytes = key_bytes, .data_bytes = bytes};
	memcpy(header.magic, magic, sizeof magic);
	header.checksum = hash(hash(HASH_START, key, key_bytes), data, bytes);
	bool good = fwrite(&header, sizeof header, 1, file) == 1 && fwrite(key, 1, key_bytes, file) == key_bytes &&
	            fwrite(data, 1, bytes, file) == bytes && !fflush(file) && !fsync(descriptor);
	if (!fclose(file) && good && !rename(temporary, path))
		return true;
	unlink(temporary);
	return false;
}
