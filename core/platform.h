/* What differs between POSIX systems: clocks, timed waits, memory. Linux's own calls stay behind these functions. */
#ifndef PS_CORE_PLATFORM_H
#define PS_CORE_PLATFORM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A condition variable whose timed waits go by the clock of ps_clock_ns. Returns 0 or an errno value. */
int ps__condition_init(pthread_cond_t *condition);
/* Waits for a signal until `deadline_ns` (ps_clock_ns; < 0: for ever). True when the time is over. */
bool ps__condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t deadline_ns);

/* Physical memory that this process may use, in bytes, cgroup limits counted; 0 when unknown. */
uint64_t ps__memory_limit(void);
/* As much of it as is free now, or could be freed at once, in bytes; 0 when unknown. */
uint64_t ps__memory_available(void);
/* The process's largest resident size so far, in bytes; 0 when unknown. */
uint64_t ps__memory_peak(void);

/* When this process began, by ps_clock_ns, within a hundredth of a second; 0 when unknown. */
int64_t ps__process_begin(void);

/* Threads' worth of CPU time that a cgroup quota leaves this process, rounded up; 0: no limit. */
int ps__cpu_quota(void);

/* What control groups leave a process; 0: no limit. */
struct ps__cgroup_limits {
	uint64_t memory_bytes;
	uint64_t memory_free; /* what is left of the tightest; only where there is a limit */
	int cpus;
};
/*
 * Reads the limits of the groups that `self` (/proc/self/cgroup) lists and of all groups round them, of version 1 and
 * 2, under `root` (/sys/fs/cgroup). What is not there or cannot be read limits nothing.
 */
struct ps__cgroup_limits ps__cgroup_read(const char *root, const char *self);

/*
 * The user's cache folder for Penstock, $XDG_CACHE_HOME/penstock or ~/.cache/penstock, which need not be there; false
 * when the user has none. A relative XDG_CACHE_HOME is void, as its specification says.
 */
bool ps__cache_folder(char *path, size_t bytes);

/* The folder that the library was loaded from, without a slash at the end; false when unknown or too long. */
bool ps__library_folder(char *folder, size_t bytes);

/* Names the calling thread for debuggers and profilers where the system can. */
void ps__thread_name(const char *name);

#endif
