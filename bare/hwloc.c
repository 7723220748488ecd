/* Processing units by the process's affinity; where there is none to ask for, by their number. */
#if defined(__linux__)
#define _GNU_SOURCE /* sched_getaffinity */
#endif
#include <hwloc.h>

#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WORDS = 1024, NUMBERS = WORDS * 64 };

struct hwloc_bitmap {
	uint64_t words[WORDS];
};

struct hwloc_topology {
	hwloc_bitmap_t allowed;
	struct hwloc_obj *units;
	int count;
};

/* --- sets --------------------------------------------------------------------------------------------------------- */

hwloc_bitmap_t hwloc_bitmap_alloc(void)
{
	return calloc(1, sizeof(struct hwloc_bitmap));
}

hwloc_bitmap_t hwloc_bitmap_dup(hwloc_const_bitmap_t set)
{
	hwloc_bitmap_t copy = set ? hwloc_bitmap_alloc() : NULL;
	if (copy)
		*copy = *set;
	return copy;
}

void hwloc_bitmap_free(hwloc_bitmap_t set)
{
	free(set);
}

int hwloc_bitmap_and(hwloc_bitmap_t to, hwloc_const_bitmap_t a, hwloc_const_bitmap_t b)
{
	for (int i = 0; i < WORDS; i++)
		to->words[i] = a->words[i] & b->words[i];
	return 0;
}

int hwloc_bitmap_or(hwloc_bitmap_t to, hwloc_const_bitmap_t a, hwloc_const_bitmap_t b)
{
	for (int i = 0; i < WORDS; i++)
		to->words[i] = a->words[i] | b->words[i];
	return 0;
}

int hwloc_bitmap_intersects(hwloc_const_bitmap_t a, hwloc_const_bitmap_t b)
{
	for (int i = 0; i < WORDS; i++)
		if (a->words[i] & b->words[i])
			return 1;
	return 0;
}

int hwloc_bitmap_isequal(hwloc_const_bitmap_t a, hwloc_const_bitmap_t b)
{
	return memcmp(a, b, sizeof *a) == 0;
}

int hwloc_bitmap_isincluded(hwloc_const_bitmap_t part, hwloc_const_bitmap_t whole)
{
	for (int i = 0; i < WORDS; i++)
		if (part->words[i] & ~whole->words[i])
			return 0;
	return 1;
}

int hwloc_bitmap_isset(hwloc_const_bitmap_t set, unsigned number)
{
	return number < NUMBERS && (set->words[number / 64] >> number % 64 & 1);
}

static void set_number(hwloc_bitmap_t set, unsigned number)
{
	if (number < NUMBERS)
		set->words[number / 64] |= (uint64_t)1 << number % 64;
}

int hwloc_bitmap_set_range(hwloc_bitmap_t set, unsigned first, int last)
{
	for (unsigned number = first; last >= 0 && number <= (unsigned)last; number++)
		set_number(set, number);
	return 0;
}

int hwloc_bitmap_last(hwloc_const_bitmap_t set)
{
	for (int number = NUMBERS - 1; number >= 0; number--)
		if (hwloc_bitmap_isset(set, (unsigned)number))
			return number;
	return -1;
}

int hwloc_bitmap_list_snprintf(char *text, size_t bytes, hwloc_const_bitmap_t set)
{
	int length = 0;
	if (bytes)
		*text = '\0';
	for (unsigned first = 0; first < NUMBERS; first++) {
		unsigned last = first;
		if (!hwloc_bitmap_isset(set, first))
			continue;
		while (hwloc_bitmap_isset(set, last + 1))
			last++;
		size_t used = (size_t)length < bytes ? (size_t)length : bytes;
		const char *comma = length ? "," : "";
		if (last > first)
			length += snprintf(text + used, bytes - used, "%s%u-%u", comma, first, last);
		else
			length += snprintf(text + used, bytes - used, "%s%u", comma, first);
		first = last;
	}
	return length;
}

/* --- the machine -------------------------------------------------------------------------------------------------- */

#if defined(__linux__)

static int get_affinity(pid_t who, hwloc_bitmap_t set)
{
	cpu_set_t own;
	if (sched_getaffinity(who, sizeof own, &own))
		return -1;
	memset(set, 0, sizeof *set);
	for (unsigned i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &own))
			set_number(set, i);
	return 0;
}

static int set_affinity(pid_t who, hwloc_const_bitmap_t set)
{
	cpu_set_t own;
	CPU_ZERO(&own);
	for (unsigned i = 0; i < CPU_SETSIZE; i++)
		if (hwloc_bitmap_isset(set, i))
			CPU_SET(i, &own);
	return sched_setaffinity(who, sizeof own, &own);
}

#else

static int get_affinity(pid_t who, hwloc_bitmap_t set)
{
	(void)who;
	(void)set;
	return -1;
}

static int set_affinity(pid_t who, hwloc_const_bitmap_t set)
{
	(void)who;
	(void)set;
	return -1;
}

#endif

int hwloc_topology_init(hwloc_topology_t *out)
{
	*out = calloc(1, sizeof **out);
	return *out ? 0 : -1;
}

int hwloc_topology_load(hwloc_topology_t topology)
{
	topology->allowed = hwloc_bitmap_alloc();
	if (!topology->allowed)
		return -1;
	/* Of the main thread, for threads of this process may have bound themselves. */
	if (get_affinity(getpid(), topology->allowed))
		hwloc_bitmap_set_range(topology->allowed, 0, (int)sysconf(_SC_NPROCESSORS_ONLN) - 1);
	int last = hwloc_bitmap_last(topology->allowed);
	topology->units = calloc((size_t)last + 1, sizeof *topology->units);
	for (unsigned i = 0; topology->units && (int)i <= last; i++) {
		if (!hwloc_bitmap_isset(topology->allowed, i))
			continue;
		hwloc_bitmap_t set = hwloc_bitmap_alloc();
		if (!set)
			return -1;
		set_number(set, i);
		topology->units[topology->count++].cpuset = set;
	}
	return topology->count > 0 ? 0 : -1;
}

void hwloc_topology_destroy(hwloc_topology_t topology)
{
	for (int i = 0; i < topology->count; i++)
		hwloc_bitmap_free(topology->units[i].cpuset);
	free(topology->units);
	hwloc_bitmap_free(topology->allowed);
	free(topology);
}

hwloc_const_cpuset_t hwloc_topology_get_allowed_cpuset(hwloc_topology_t topology)
{
	return topology->allowed;
}

int hwloc_get_nbobjs_by_type(hwloc_topology_t topology, hwloc_obj_type_t type)
{
	return type == HWLOC_OBJ_PU ? topology->count : 0;
}

int hwloc_get_nbobjs_inside_cpuset_by_type(hwloc_topology_t topology, hwloc_const_cpuset_t set, hwloc_obj_type_t type)
{
	int count = 0;
	for (int i = 0; type == HWLOC_OBJ_PU && i < topology->count; i++)
		count += hwloc_bitmap_isincluded(topology->units[i].cpuset, set);
	return count;
}

hwloc_obj_t hwloc_get_obj_by_type(hwloc_topology_t topology, hwloc_obj_type_t type, unsigned index)
{
	return type == HWLOC_OBJ_PU && (int)index < topology->count ? &topology->units[index] : NULL;
}

hwloc_obj_t hwloc_get_next_obj_by_type(hwloc_topology_t topology, hwloc_obj_type_t type, hwloc_obj_t last)
{
	return hwloc_get_obj_by_type(topology, type, last ? (unsigned)(last - topology->units) + 1 : 0);
}

const char *hwloc_obj_get_info_by_name(hwloc_obj_t object, const char *name)
{
	(void)object;
	(void)name;
	return NULL;
}

int hwloc_get_cpubind(hwloc_topology_t topology, hwloc_cpuset_t set, int flags)
{
	(void)topology;
	return get_affinity(flags & HWLOC_CPUBIND_PROCESS ? getpid() : 0, set);
}

int hwloc_set_cpubind(hwloc_topology_t topology, hwloc_const_cpuset_t set, int flags)
{
	(void)topology;
	return set_affinity(flags & HWLOC_CPUBIND_PROCESS ? getpid() : 0, set);
}

int hwloc_set_area_membind(hwloc_topology_t topology, const void *memory, size_t bytes, hwloc_const_bitmap_t set,
                           int policy, int flags)
{
	(void)topology;
	(void)memory;
	(void)bytes;
	(void)set;
	(void)policy;
	(void)flags;
	return -1;
}
