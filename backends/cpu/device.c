/* CPU devices: which cores they are, and memory near them. */
#if defined(__linux__)
#define _DEFAULT_SOURCE /* madvise */
#endif
#include "backends/cpu/backend.h"
#include "backends/cpu/worker.h"

#include "core/platform.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Buffers from this size on are aligned to, and ask for, huge pages. */
#define HUGE_PAGE ((size_t)2 << 20)
#define SMALL_ALIGNMENT ((size_t)4096)

/* The cores this process may use: what the system allows, less what its affinity and its CPU quota leave out. */
struct allowed {
	hwloc_topology_t topology;
	hwloc_cpuset_t units;
	hwloc_obj_type_t type;
	int cores; /* in order of hwloc's logical index */
	int quota; /* threads worth of CPU time; 0: no limit */
};

static ps_status allowed_init(struct allowed *allowed)
{
	*allowed = (struct allowed){0};
	if (hwloc_topology_init(&allowed->topology))
		return ps_fail(PS_ENODEV, "hwloc cannot describe this machine: %s", strerror(errno));
	if (hwloc_topology_load(allowed->topology)) {
		hwloc_topology_destroy(allowed->topology);
		return ps_fail(PS_ENODEV, "hwloc cannot describe this machine: %s", strerror(errno));
	}
	allowed->units = hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(allowed->topology));
	hwloc_bitmap_t bound = hwloc_bitmap_alloc();
	if (!allowed->units || !bound) {
		hwloc_bitmap_free(bound);
		hwloc_bitmap_free(allowed->units);
		hwloc_topology_destroy(allowed->topology);
		return ps_fail(PS_ENOMEM, "out of memory for a set of cores");
	}
	if (!hwloc_get_cpubind(allowed->topology, bound, HWLOC_CPUBIND_PROCESS))
		hwloc_bitmap_and(allowed->units, allowed->units, bound);
	hwloc_bitmap_free(bound);
	int cores = hwloc_get_nbobjs_inside_cpuset_by_type(allowed->topology, allowed->units, HWLOC_OBJ_CORE);
	allowed->type = cores > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
	/* A core counts when any of its units may be used, so that they are walked rather than looked up inside. */
	hwloc_obj_t core = NULL;
	while ((core = hwloc_get_next_obj_by_type(allowed->topology, allowed->type, core)))
		allowed->cores += hwloc_bitmap_intersects(core->cpuset, allowed->units);
	allowed->quota = ps__cpu_quota();
	return PS_OK;
}

static void allowed_finish(struct allowed *allowed)
{
	hwloc_bitmap_free(allowed->units);
	hwloc_topology_destroy(allowed->topology);
}

static void describe(const struct allowed *allowed, ps_device_info *info, int cores)
{
	hwloc_obj_t package = hwloc_get_obj_by_type(allowed->topology, HWLOC_OBJ_PACKAGE, 0);
	const char *model = package ? hwloc_obj_get_info_by_name(package, "CPUModel") : NULL;
	snprintf(info->description, sizeof info->description, "%.64s, %d of %d cores", model ? model : "CPU", cores,
	         allowed->cores);
	info->memory_bytes = ps__memory_limit();
	info->max_buffer_bytes = info->memory_bytes;
	info->compute_units = cores;
	info->host_addressable = true;
}

/* Reads "0-3", "0,2" or "1" into a bitmap of core numbers; false when it is anything else. */
static bool parse_cores(const char *spec, hwloc_bitmap_t numbers)
{
	const char *at = spec;
	do {
		char *end;
		if (*at < '0' || *at > '9')
			return false;
		unsigned long first = strtoul(at, &end, 10), last = first;
		if (*end == '-') {
			at = end + 1;
			if (*at < '0' || *at > '9')
				return false;
			last = strtoul(at, &end, 10);
		}
		if (last < first || last > 65535)
			return false;
		hwloc_bitmap_set_range(numbers, (unsigned)first, (int)last);
		at = end;
		if (*at == '\0')
			return true;
	} while (*at++ == ',');
	return false;
}

/* Fills device->core and ->cores with the cores whose numbers are in `numbers`, at most `limit` of them. */
static ps_status select_cores(struct cpu_device *device, const struct allowed *allowed, hwloc_bitmap_t numbers,
                              int limit)
{
	device->core = calloc((size_t)limit, sizeof *device->core);
	device->cores = hwloc_bitmap_alloc();
	if (!device->core || !device->cores)
		return ps_fail(PS_ENOMEM, "out of memory for a set of cores");
	hwloc_obj_t core = NULL;
	unsigned number = 0;
	while ((core = hwloc_get_next_obj_by_type(allowed->topology, allowed->type, core)) && device->threads < limit) {
		if (!hwloc_bitmap_intersects(core->cpuset, allowed->units))
			continue;
		if (!hwloc_bitmap_isset(numbers, number++))
			continue;
		hwloc_cpuset_t own = hwloc_bitmap_dup(core->cpuset);
		if (!own)
			return ps_fail(PS_ENOMEM, "out of memory for a set of cores");
		hwloc_bitmap_and(own, own, allowed->units);
		hwloc_bitmap_or(device->cores, device->cores, own);
		device->core[device->threads++] = own;
	}
	return PS_OK;
}

static void device_free(struct cpu_device *device)
{
	for (int i = 0; i < device->threads && device->core; i++)
		hwloc_bitmap_free(device->core[i]);
	free(device->core);
	hwloc_bitmap_free(device->cores);
	pthread_mutex_destroy(&device->busy);
	free(device);
}

/* Writes the canonical name of the cores: "cpu:0-3,6". */
static ps_status name_cores(ps_device_info *info, hwloc_bitmap_t numbers)
{
	char list[sizeof info->name - sizeof "cpu:"];
	if (hwloc_bitmap_list_snprintf(list, sizeof list, numbers) >= (int)sizeof list)
		return ps_fail(PS_ENODEV, "cpu:%s… are too many separate cores to name; write ranges", list);
	snprintf(info->name, sizeof info->name, "cpu:%s", list);
	return PS_OK;
}

/* Chooses the cores that `spec` names ("" : all allowed ones, no more than the CPU quota is worth). */
static ps_status choose(struct cpu_device *device, const struct allowed *allowed, const char *spec,
                        ps_device_info *info)
{
	hwloc_bitmap_t numbers = hwloc_bitmap_alloc();
	if (!numbers)
		return ps_fail(PS_ENOMEM, "out of memory for a set of cores");
	ps_status status = PS_OK;
	int limit = allowed->cores;
	snprintf(info->name, sizeof info->name, "cpu");
	if (!*spec) {
		hwloc_bitmap_set_range(numbers, 0, allowed->cores - 1);
		if (allowed->quota > 0 && allowed->quota < limit)
			limit = allowed->quota;
	} else if (!parse_cores(spec, numbers)) {
		status = ps_fail(PS_ENODEV, "\"cpu:%s\" names no cores; write cpu, cpu:1, cpu:0-3 or cpu:0,2", spec);
	} else if (hwloc_bitmap_last(numbers) >= allowed->cores) {
		status = ps_fail(PS_ENODEV, "cpu:%s: there is no core %d here; this process may use cores 0 to %d",
		                 spec, hwloc_bitmap_last(numbers), allowed->cores - 1);
	} else {
		status = name_cores(info, numbers);
	}
	if (status == PS_OK)
		status = select_cores(device, allowed, numbers, limit);
	hwloc_bitmap_free(numbers);
	return status;
}

/* Starts the thread of a device that is complete otherwise. */
static ps_status start(struct cpu_device *device, const char *name)
{
	ps_status status = ps__cpu_worker_create(&device->worker, device, name);
	if (status != PS_OK && !device->reference)
		ps__fast_device_close(device);
	return status;
}

static ps_status open_cores(ps_device *out, const char *spec, bool reference)
{
	struct allowed allowed;
	PS_TRY(allowed_init(&allowed));
	struct cpu_device *device = calloc(1, sizeof *device);
	if (!device || pthread_mutex_init(&device->busy, NULL)) {
		free(device);
		allowed_finish(&allowed);
		return ps_fail(PS_ENOMEM, "out of memory for a device");
	}
	device->reference = reference;
	ps_status status = choose(device, &allowed, spec, &out->info);
	if (status == PS_OK) {
		describe(&allowed, &out->info, device->threads);
		device->topology = allowed.topology;
		if (!reference)
			status = ps__fast_device_open(device);
		if (status == PS_OK)
			status = start(device, reference ? "ref" : out->info.name);
	}
	if (status != PS_OK) {
		device_free(device);
		allowed_finish(&allowed);
		return status;
	}
	hwloc_bitmap_free(allowed.units);
	out->impl = device;
	return PS_OK;
}

ps_status ps__cpu_device_open(ps_device *out, const char *spec)
{
	return open_cores(out, spec, false);
}

ps_status ps__ref_device_open(ps_device *out, const char *spec)
{
	if (*spec)
		return ps_fail(PS_ENODEV, "\"ref:%s\": the reference device has no parts; write ref", spec);
	PS_TRY(open_cores(out, "", true));
	snprintf(out->info.name, sizeof out->info.name, "ref");
	snprintf(out->info.description, sizeof out->info.description,
	         "plain loops in one thread, accumulating in double: the reference");
	out->info.compute_units = 1;
	return PS_OK;
}

void ps__cpu_device_close(ps_device *out)
{
	struct cpu_device *device = out->impl;
	hwloc_topology_t topology = device->topology;
	ps__cpu_worker_destroy(device->worker);
	if (!device->reference)
		ps__fast_device_close(device);
	device_free(device);
	hwloc_topology_destroy(topology);
}

ps_status ps__cpu_enumerate(ps_device_visit visit, void *payload)
{
	struct allowed allowed;
	PS_TRY(allowed_init(&allowed));
	ps_device_info info = {.name = "cpu"};
	describe(&allowed, &info, allowed.cores);
	ps_status status = visit(payload, &info);
	for (int i = 0; i < allowed.cores && status == PS_OK; i++) {
		snprintf(info.name, sizeof info.name, "cpu:%d", i);
		describe(&allowed, &info, 1);
		status = visit(payload, &info);
	}
	allowed_finish(&allowed);
	return status;
}

ps_status ps__ref_enumerate(ps_device_visit visit, void *payload)
{
	ps_device_info info = {.name = "ref",
	                       .description = "plain loops in one thread, accumulating in double: the reference",
	                       .memory_bytes = ps__memory_limit(),
	                       .max_buffer_bytes = ps__memory_limit(),
	                       .compute_units = 1,
	                       .host_addressable = true};
	return visit(payload, &info);
}

ps_status ps__cpu_buffer_create(ps_buffer *buffer)
{
	size_t bytes = (size_t)buffer->bytes, alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : SMALL_ALIGNMENT;
	if (bytes != buffer->bytes || posix_memalign(&buffer->impl, alignment, bytes))
		return ps_fail(PS_ENOMEM, "%s is out of memory for a buffer of %" PRIu64 " bytes",
		               buffer->device->info.name, buffer->bytes);
		/* Advice: where it is refused, ordinary pages serve. Pages are placed by whoever touches them first. */
#if defined(MADV_HUGEPAGE)
	if (alignment == HUGE_PAGE)
		(void)madvise(buffer->impl, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
	const struct cpu_device *device = buffer->device->impl;
	if (hwloc_get_nbobjs_by_type(device->topology, HWLOC_OBJ_NUMANODE) > 1)
		(void)hwloc_set_area_membind(device->topology, buffer->impl, bytes, device->cores, HWLOC_MEMBIND_BIND,
		                             0);
	return PS_OK;
}

void ps__cpu_buffer_destroy(ps_buffer *buffer)
{
	free(buffer->impl);
}

bool ps__cpu_can_copy_from(const ps_device *to, const ps_device *from)
{
	(void)to;
	return from->info.host_addressable;
}

bool ps__cpu_can_copy_to(const ps_device *from, const ps_device *to)
{
	(void)from;
	return to->info.host_addressable;
}
