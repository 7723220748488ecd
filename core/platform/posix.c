/* The platform layer over POSIX, with what Linux adds where it is at hand. */
#if defined(__linux__)
#define _GNU_SOURCE /* pthread_setname_np, dladdr */
#endif
#include "core/platform.h"

#include <penstock/device.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#if defined(__APPLE__)
#define CONDITION_CLOCK CLOCK_REALTIME
#else
#define CONDITION_CLOCK CLOCK_MONOTONIC
#endif

#define CGROUP_ROOT "/sys/fs/cgroup"
#define CGROUP_SELF "/proc/self/cgroup"

static int64_t clock_ns(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t ps_clock_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

int ps__condition_init(pthread_cond_t *condition)
{
#if defined(__APPLE__)
	return pthread_cond_init(condition, NULL);
#else
	pthread_condattr_t attributes;
	int error = pthread_condattr_init(&attributes);
	if (error)
		return error;
	error = pthread_condattr_setclock(&attributes, CONDITION_CLOCK);
	if (!error)
		error = pthread_cond_init(condition, &attributes);
	pthread_condattr_destroy(&attributes);
	return error;
#endif
}

bool ps__condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t deadline_ns)
{
	if (deadline_ns < 0) {
		pthread_cond_wait(condition, mutex);
		return false;
	}
	int64_t until = deadline_ns - ps_clock_ns() + clock_ns(CONDITION_CLOCK);
	struct timespec limit = {.tv_sec = (time_t)(until / 1000000000), .tv_nsec = (long)(until % 1000000000)};
	pthread_cond_timedwait(condition, mutex, &limit);
	return ps_clock_ns() >= deadline_ns;
}

uint64_t ps__memory_limit(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
	uint64_t limit = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
	uint64_t bound = ps__cgroup_read(CGROUP_ROOT, CGROUP_SELF).memory_bytes;
	return bound && (!limit || bound < limit) ? bound : limit;
}

/* What Linux estimates to be free for a new program without swapping; 0 elsewhere. */
static uint64_t read_available(void)
{
	char line[128];
	unsigned long long kibibytes = 0;
	FILE *file = fopen("/proc/meminfo", "r");
	if (!file)
		return 0;
	while (fgets(line, sizeof line, file) && sscanf(line, "MemAvailable: %llu", &kibibytes) != 1)
		;
	fclose(file);
	return (uint64_t)kibibytes * 1024;
}

uint64_t ps__memory_available(void)
{
	uint64_t available = read_available(), limit = ps__memory_limit();
	struct ps__cgroup_limits group = ps__cgroup_read(CGROUP_ROOT, CGROUP_SELF);
	if (!available || (limit && limit < available))
		available = limit;
	return group.memory_bytes && group.memory_free < available ? group.memory_free : available;
}

uint64_t ps__memory_peak(void)
{
	struct rusage usage;
	if (getrusage(RUSAGE_SELF, &usage))
		return 0;
#if defined(__APPLE__)
	return (uint64_t)usage.ru_maxrss;
#else
	return (uint64_t)usage.ru_maxrss * 1024;
#endif
}

int64_t ps__process_begin(void)
{
#if defined(__linux__)
	char line[1024];
	long frequency = sysconf(_SC_CLK_TCK);
	FILE *file = fopen("/proc/self/stat", "r");
	if (!file)
		return 0;
	const char *end = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
	fclose(file);
	/* proc(5): field 22, in ticks since the system's start. The name in field 2 may hold brackets, what follows
	 * not. */
	for (int field = 3; end && field <= 22; field++)
		end = strchr(end + 1, ' ');
	if (!end || frequency < 1)
		return 0;
	unsigned long long ticks = strtoull(end, NULL, 10);
	int64_t begun = (int64_t)(ticks * (1000000000ull / (unsigned long long)frequency));
	return ps_clock_ns() - (clock_ns(CLOCK_BOOTTIME) - begun);
#else
	return 0;
#endif
}

int ps__cpu_quota(void)
{
	return ps__cgroup_read(CGROUP_ROOT, CGROUP_SELF).cpus;
}

bool ps__cache_folder(char *path, size_t bytes)
{
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	int length = -1;
	if (xdg && xdg[0] == '/')
		length = snprintf(path, bytes, "%s/penstock", xdg);
	else if (home && home[0] == '/')
		length = snprintf(path, bytes, "%s/.cache/penstock", home);
	return length > 0 && (size_t)length < bytes;
}

bool ps__library_folder(char *folder, size_t bytes)
{
#if defined(__linux__) || defined(__APPLE__)
	static const char here; /* any object of the library's own */
	Dl_info info;
	if (!dladdr(&here, &info) || !info.dli_fname)
		return false;
	const char *slash = strrchr(info.dli_fname, '/');
	size_t length = slash ? (size_t)(slash - info.dli_fname) : 0;
	if (!slash || length >= bytes)
		return false;
	memcpy(folder, info.dli_fname, length);
	folder[length] = '\0';
	return true;
#else
	(void)folder;
	(void)bytes;
	return false;
#endif
}

void ps__thread_name(const char *name)
{
#if defined(__linux__)
	char short_name[16];
	snprintf(short_name, sizeof short_name, "%.15s", name);
	pthread_setname_np(pthread_self(), short_name);
#else
	(void)name;
#endif
}
