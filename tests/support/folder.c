#define _XOPEN_SOURCE 700 /* nftw */
#include "support/folder.h"

#include <check.h>
#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char root[256];

void folder_make(void)
{
	const char *base = getenv("TMPDIR");
	snprintf(root, sizeof root, "%s/penstock-test-XXXXXX", base != NULL ? base : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(root));
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
	(void)info;
	(void)kind;
	(void)walk;
	return remove(path);
}

void folder_remove(void)
{
	ck_assert_int_eq(nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

const char *folder_path(const char *name)
{
	static char paths[8][600];
	static int next;
	char *path = paths[next++ % 8];
	snprintf(path, sizeof paths[0], "%s%s%s", root, name[0] != '\0' ? "/" : "", name);
	return path;
}

void folder_write(const char *name, const void *bytes, size_t size)
{
	FILE *file = fopen(folder_path(name), "wb");
	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(bytes, 1, size, file), size);
	ck_assert_int_eq(fclose(file), 0);
}

char *folder_read(const char *name, size_t *size)
{
	FILE *file = fopen(folder_path(name), "rb");
	ck_assert_msg(file != NULL, "%s cannot be opened", name);
	ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
	*size = (size_t)ftell(file);
	rewind(file);
	char *bytes = malloc(*size + 1);
	ck_assert_ptr_nonnull(bytes);
	ck_assert_uint_eq(fread(bytes, 1, *size, file), *size);
	bytes[*size] = '\0';
	ck_assert_int_eq(fclose(file), 0);
	return bytes;
}

int folder_find(const char *sub, const char *prefix, char name[300])
{
	DIR *directory = opendir(folder_path(sub));
	if (directory == NULL)
		return 0;
	int found = 0;
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		    strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
			continue;
		snprintf(name, 300, "%s%s%s", sub, sub[0] != '\0' ? "/" : "", entry->d_name);
		found++;
	}
	ck_assert_int_eq(closedir(directory), 0);
	return found;
}
