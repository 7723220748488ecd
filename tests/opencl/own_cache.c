#include "tests/opencl/own_cache.h"

#include "support/check.h"
#include "support/folder.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void own_cache_use(const char *path)
{
	char pocl[1024];
	const char *home = getenv("HOME"), *xdg = getenv("XDG_CACHE_HOME");
	if (xdg || home) {
		snprintf(pocl, sizeof pocl, "%s%s/pocl/kcache", xdg ? xdg : home, xdg ? "" : "/.cache");
		ck_assert_int_eq(setenv("POCL_CACHE_DIR", pocl, 0), 0);
	}
	ck_assert_int_eq(setenv("XDG_CACHE_HOME", path, 1), 0);
}

int own_cache_files(const char *suffix, char (*paths)[512], int most)
{
	const char *place = folder_path("penstock");
	int count = 0;
	DIR *all = opendir(place);
	ck_assert_ptr_nonnull(all);
	for (struct dirent *one = readdir(all); one; one = readdir(all)) {
		const char *dot = strrchr(one->d_name, '.');
		ck_assert_msg(!dot || strlen(dot) != 7, "a temporary file was left: %s", one->d_name);
		ck_assert_msg(!strstr(one->d_name, ".bin."), "a temporary file was left: %s", one->d_name);
		if (dot && !strcmp(dot + 1, suffix) && count < most)
			snprintf(paths[count++], sizeof *paths, "%s/%s", place, one->d_name);
	}
	closedir(all);
	return count;
}

void own_cache_flip(const char *path)
{
	struct stat facts;
	FILE *file = fopen(path, "r+b");
	ck_assert(file && !fstat(fileno(file), &facts) && !fseek(file, facts.st_size / 2, SEEK_SET));
	int byte = fgetc(file);
	ck_assert(!fseek(file, facts.st_size / 2, SEEK_SET) && fputc(byte ^ 0x55, file) != EOF && !fclose(file));
}
