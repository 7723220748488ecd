/*
 * Limits of Linux control groups, versions 1 and 2; see "control group v2" in the kernel's administration guide. Other
 * systems have none of the files.
 */
#include "core/platform.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096 };

/* The first one or two numbers of a file; false unless there are `count`. "max" is no number, and no limit. */
static bool read_numbers(const char *folder, const char *name, int count, long long numbers[2])
{
	char path[PATH_BYTES + 64], line[128];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *file = fopen(path, "r");
	if (!file)
		return false;
	char *at = fgets(line, sizeof line, file);
	fclose(file);
	for (int i = 0; i < count && at; i++) {
		char *end;
		errno = 0;
		numbers[i] = strtoll(at, &end, 10);
		at = end == at || errno ? NULL : end;
	}
	return at != NULL;
}

/* The number after `key` in a file of "key number" lines; 0 when it is not there. */
static uint64_t read_key(const char *folder, const char *name, const char *key)
{
	char path[PATH_BYTES + 64], line[128];
	unsigned long long number = 0;
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *file = fopen(path, "r");
	if (!file)
		return 0;
	size_t length = strlen(key);
	while (fgets(line, sizeof line, file))
		if (!strncmp(line, key, length) && line[length] == ' ' && sscanf(line + length, "%llu", &number) == 1)
			break;
	fclose(file);
	return number;
}

/* `used` is the file with what the group has in use, of which old pages of files are given up when needed. */
static void limit_memory(struct ps__cgroup_limits *limits, const char *folder, const char *name, const char *used)
{
	long long number[2], use[2];
	if (!read_numbers(folder, name, 1, number) || number[0] <= 0)
		return;
	uint64_t bytes = (uint64_t)number[0], taken = 0;
	if (read_numbers(folder, used, 1, use) && use[0] > 0)
		taken = (uint64_t)use[0];
	uint64_t cached = read_key(folder, "memory.stat", "inactive_file");
	taken = taken > cached ? taken - cached : 0;
	uint64_t left = bytes > taken ? bytes - taken : 1;
	if (!limits->memory_bytes || left < limits->memory_free)
		limits->memory_free = left;
	if (!limits->memory_bytes || bytes < limits->memory_bytes)
		limits->memory_bytes = bytes;
}

static void limit_cpus(struct ps__cgroup_limits *limits, long long quota, long long period)
{
	if (quota <= 0 || period <= 0)
		return;
	long long cpus = quota / period + (quota % period != 0);
	if (cpus <= INT_MAX && (!limits->cpus || cpus < limits->cpus))
		limits->cpus = (int)cpus;
}

/* The limits of one group; files of the other version or of another controller are not there. */
static void limit_group(struct ps__cgroup_limits *limits, const char *folder)
{
	long long quota[2], period[2];
	limit_memory(limits, folder, "memory.max", "memory.current");
	limit_memory(limits, folder, "memory.limit_in_bytes", "memory.usage_in_bytes");
	if (read_numbers(folder, "cpu.max", 2, quota))
		limit_cpus(limits, quota[0], quota[1]);
	if (read_numbers(folder, "cpu.cfs_quota_us", 1, quota) && read_numbers(folder, "cpu.cfs_period_us", 1, period))
		limit_cpus(limits, quota[0], period[0]);
}

/* The group `path` of a hierarchy, and those round it up to its root. */
static void limit_upwards(struct ps__cgroup_limits *limits, const char *hierarchy, const char *path)
{
	char folder[PATH_BYTES];
	size_t top = strlen(hierarchy);
	/* A group outside of the process's namespace is shown by ".."; nothing can be seen of it. */
	int length = snprintf(folder, sizeof folder, "%s%s", hierarchy, strstr(path, "..") ? "" : path);
	if (length < 0 || (size_t)length >= sizeof folder)
		return;
	for (char *slash = folder + length; slash; slash = strrchr(folder + top, '/')) {
		*slash = '\0';
		limit_group(limits, folder);
	}
}

/* Is `wanted` in a list separated by commas? */
static bool lists(const char *list, const char *wanted)
{
	size_t length = strlen(wanted);
	for (const char *at = list; *at; at += strcspn(at, ","), at += *at == ',')
		if (strcspn(at, ",") == length && !strncmp(at, wanted, length))
			return true;
	return false;
}

/* Version 1 mounts a hierarchy under the names of its controllers, and mostly under each of them by a link. */
static void limit_controller(struct ps__cgroup_limits *limits, const char *root, const char *controllers,
                             const char *wanted, const char *path)
{
	char hierarchy[PATH_BYTES];
	int length = snprintf(hierarchy, sizeof hierarchy, "%s/%s", root, wanted);
	if (lists(controllers, wanted) && length > 0 && (size_t)length < sizeof hierarchy)
		limit_upwards(limits, hierarchy, path);
}

struct ps__cgroup_limits ps__cgroup_read(const char *root, const char *self)
{
	struct ps__cgroup_limits limits = {0};
	char line[PATH_BYTES];
	FILE *file = fopen(self, "r");
	if (!file) {
		limit_group(&limits, root);
		return limits;
	}
	while (fgets(line, sizeof line, file)) {
		/* hierarchy:controllers:path, without controllers in version 2 */
		line[strcspn(line, "\n")] = '\0';
		char *controllers = strchr(line, ':');
		char *path = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!path || path[1] != '/')
			continue;
		*controllers++ = *path++ = '\0';
		if (!*controllers)
			limit_upwards(&limits, root, path);
		limit_controller(&limits, root, controllers, "memory", path);
		limit_controller(&limits, root, controllers, "cpu", path);
	}
	fclose(file);
	return limits;
}
