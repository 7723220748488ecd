/*
 * A stand-in for hwloc: what Penstock uses of it. The topology is a flat list of processing units without cores,
 * packages or NUMA nodes.
 */
#ifndef PS_BARE_HWLOC_H
#define PS_BARE_HWLOC_H

#include <stddef.h>

typedef struct hwloc_bitmap *hwloc_bitmap_t;
typedef const struct hwloc_bitmap *hwloc_const_bitmap_t;
typedef hwloc_bitmap_t hwloc_cpuset_t;
typedef hwloc_const_bitmap_t hwloc_const_cpuset_t;
typedef struct hwloc_topology *hwloc_topology_t;
typedef enum { HWLOC_OBJ_PACKAGE, HWLOC_OBJ_CORE, HWLOC_OBJ_PU, HWLOC_OBJ_NUMANODE } hwloc_obj_type_t;
typedef struct hwloc_obj {
	hwloc_cpuset_t cpuset;
} * hwloc_obj_t;

enum { HWLOC_CPUBIND_PROCESS = 1, HWLOC_CPUBIND_THREAD = 2, HWLOC_MEMBIND_BIND = 2 };

/* A set of numbers below 65536; allocation returns NULL without memory. */
hwloc_bitmap_t hwloc_bitmap_alloc(void);
hwloc_bitmap_t hwloc_bitmap_dup(hwloc_const_bitmap_t set);
void hwloc_bitmap_free(hwloc_bitmap_t set);
int hwloc_bitmap_and(hwloc_bitmap_t to, hwloc_const_bitmap_t a, hwloc_const_bitmap_t b);
int hwloc_bitmap_or(hwloc_bitmap_t to, hwloc_const_bitmap_t a, hwloc_const_bitmap_t b);
int hwloc_bitmap_intersects(hwloc_const_bitmap_t a, hwloc_const_bitmap_t b);
int hwloc_bitmap_isequal(hwloc_const_bitmap_t a, hwloc_const_bitmap_t b);
int hwloc_bitmap_isincluded(hwloc_const_bitmap_t part, hwloc_const_bitmap_t whole);
int hwloc_bitmap_isset(hwloc_const_bitmap_t set, unsigned number);
int hwloc_bitmap_last(hwloc_const_bitmap_t set);
int hwloc_bitmap_set_range(hwloc_bitmap_t set, unsigned first, int last);
/* "0-3,6"; returns the length that the text has or would have. */
int hwloc_bitmap_list_snprintf(char *text, size_t bytes, hwloc_const_bitmap_t set);

int hwloc_topology_init(hwloc_topology_t *out);
int hwloc_topology_load(hwloc_topology_t topology);
void hwloc_topology_destroy(hwloc_topology_t topology);
hwloc_const_cpuset_t hwloc_topology_get_allowed_cpuset(hwloc_topology_t topology);
int hwloc_get_nbobjs_by_type(hwloc_topology_t topology, hwloc_obj_type_t type);
int hwloc_get_nbobjs_inside_cpuset_by_type(hwloc_topology_t topology, hwloc_const_cpuset_t set, hwloc_obj_type_t type);
hwloc_obj_t hwloc_get_obj_by_type(hwloc_topology_t topology, hwloc_obj_type_t type, unsigned index);
hwloc_obj_t hwloc_get_next_obj_by_type(hwloc_topology_t topology, hwloc_obj_type_t type, hwloc_obj_t last);
const char *hwloc_obj_get_info_by_name(hwloc_obj_t object, const char *name);
int hwloc_get_cpubind(hwloc_topology_t topology, hwloc_cpuset_t set, int flags);
int hwloc_set_cpubind(hwloc_topology_t topology, hwloc_const_cpuset_t set, int flags);
int hwloc_set_area_membind(hwloc_topology_t topology, const void *memory, size_t bytes, hwloc_const_bitmap_t set,
                           int policy, int flags);

#endif
