/* Which OpenCL devices there are, and opening them. */
#include "backends/opencl/opencl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PLATFORMS = 32, MAX_DEVICES = 64 };

static pthread_mutex_t list_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct cl_device *devices; /* never freed: see opencl.h */

static void platform_text(cl_platform_id platform, cl_platform_info what, char *text, size_t bytes)
{
	if (clGetPlatformInfo(platform, what, bytes, text, NULL) != CL_SUCCESS)
		snprintf(text, bytes, "?");
}

static void device_text(cl_device_id device, cl_device_info what, char *text, size_t bytes)
{
	if (clGetDeviceInfo(device, what, bytes, text, NULL) != CL_SUCCESS)
		snprintf(text, bytes, "?");
}

static uint64_t device_number(cl_device_id device, cl_device_info what)
{
	uint64_t value = 0; /* the answers are of 4 or 8 bytes, of a little-endian machine */
	return clGetDeviceInfo(device, what, sizeof value, &value, NULL) == CL_SUCCESS ? value : 0;
}

/* The preferred vector of a device, in range and not 3; 4 where it says nothing useful for memory, as GPUs do. */
static int vector_of(cl_device_id id, cl_device_info what)
{
	uint64_t preferred = device_number(id, what);
	int vector = 4;
	for (int v = 16; v > 4; v /= 2)
		if (preferred >= (uint64_t)v && vector == 4)
			vector = v;
	return vector;
}

/* The largest power of two up to `wanted` that a work-group may have. */
static int group_of(cl_device_id id, int wanted)
{
	uint64_t most = device_number(id, CL_DEVICE_MAX_WORK_GROUP_SIZE);
	while (wanted > 1 && (uint64_t)wanted > most)
		wanted /= 2;
	return wanted;
}

static void describe(struct cl_device *d)
{
	char version[128], driver[128], device_version[128];
	platform_text(d->platform, CL_PLATFORM_NAME, d->platform_name, sizeof d->platform_name);
	platform_text(d->platform, CL_PLATFORM_VERSION, version, sizeof version);
	device_text(d->id, CL_DEVICE_NAME, d->name, sizeof d->name);
	device_text(d->id, CL_DEVICE_VERSION, device_version, sizeof device_version);
	device_text(d->id, CL_DRIVER_VERSION, driver, sizeof driver);
	snprintf(d->identity, sizeof d->identity, "%s|%s|%s|%s|%s", d->platform_name, version, d->name, device_version,
	         driver);
	d->memory_bytes = device_number(d->id, CL_DEVICE_GLOBAL_MEM_SIZE);
	d->max_buffer_bytes = device_number(d->id, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
	d->local_bytes = device_number(d->id, CL_DEVICE_LOCAL_MEM_SIZE);
	d->compute_units = (int)device_number(d->id, CL_DEVICE_MAX_COMPUTE_UNITS);
	d->cpu = (device_number(d->id, CL_DEVICE_TYPE) & CL_DEVICE_TYPE_CPU) != 0;
	const char *unified = getenv("PENSTOCK_OPENCL_UNIFIED");
	d->unified = device_number(d->id, CL_DEVICE_HOST_UNIFIED_MEMORY) != 0 && !(unified && !strcmp(unified, "0"));
	d->fp64 = device_number(d->id, CL_DEVICE_DOUBLE_FP_CONFIG) != 0;
	d->serial = strstr(d->platform_name, "Oclgrind") != NULL;
	d->vector[0] = vector_of(d->id, CL_DEVICE_PREFERRED_VECTOR_WIDTH_FLOAT);
	d->vector[1] = vector_of(d->id, CL_DEVICE_PREFERRED_VECTOR_WIDTH_DOUBLE);
	d->span = d->cpu ? 4 : 1;
	d->group_limit = group_of(d->id, 1 << 16);
	d->group = group_of(d->id, d->serial ? 4 : d->cpu ? 1 : 128);
}

/* Why a device cannot be used, or NULL. */
static const char *unusable(cl_device_id id)
{
	if (!device_number(id, CL_DEVICE_AVAILABLE))
		return "it is not available";
	if (!device_number(id, CL_DEVICE_COMPILER_AVAILABLE))
		return "it has no compiler";
	if (device_number(id, CL_DEVICE_MAX_WORK_GROUP_SIZE) < CL_LANES)
		return "its work-groups are too small";
	return NULL;
}

static int by_name(const void *left, const void *right)
{
	char a[256], b[256];
	platform_text(*(const cl_platform_id *)left, CL_PLATFORM_NAME, a, sizeof a);
	platform_text(*(const cl_platform_id *)right, CL_PLATFORM_NAME, b, sizeof b);
	return strcmp(a, b);
}

/* Appends the devices of one platform; `reason` says of those that are left out why. */
static ps_status add_platform(cl_platform_id platform, struct cl_device ***end, int *index, char *reason, size_t bytes)
{
	cl_device_id ids[MAX_DEVICES];
	cl_uint count = 0;
	char name[128];
	platform_text(platform, CL_PLATFORM_NAME, name, sizeof name);
	cl_int error = clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, MAX_DEVICES, ids, &count);
	if (error != CL_SUCCESS) {
		ps__cl_note(reason, bytes, "the platform %s has no devices: %s", name, ps__cl_error_name(error));
		return PS_OK;
	}
	for (cl_uint i = 0; i < count && i < MAX_DEVICES; i++) {
		const char *why = unusable(ids[i]);
		if (why) {
			char device[128];
			device_text(ids[i], CL_DEVICE_NAME, device, sizeof device);
			ps__cl_note(reason, bytes, "%s of the platform %s cannot be used: %s", device, name, why);
			continue;
		}
		struct cl_device *d = calloc(1, sizeof *d);
		if (!d || pthread_mutex_init(&d->mutex, NULL)) {
			free(d);
			return ps_fail(PS_ENOMEM, "out of memory for the list of OpenCL devices");
		}
		d->platform = platform;
		d->id = ids[i];
		d->index = (*index)++;
		describe(d);
		**end = d;
		*end = &d->next;
	}
	return PS_OK;
}

static char left_out[512]; /* what the list lacks, and why; guarded by list_mutex */

static ps_status make_list(void)
{
	cl_platform_id platforms[MAX_PLATFORMS];
	cl_uint count = 0;
	cl_int error = clGetPlatformIDs(MAX_PLATFORMS, platforms, &count);
	left_out[0] = '\0';
	if (error != CL_SUCCESS || count == 0) {
		ps__cl_note_vendors(left_out, sizeof left_out);
		return ps_fail(PS_ENODEV, "no OpenCL platform is installed here (%s)%s%s",
		               error ? ps__cl_error_name(error) : "the list is empty", left_out[0] ? ": " : "",
		               left_out);
	}
	if (count > MAX_PLATFORMS)
		count = MAX_PLATFORMS;
	/* The loader's order is that of a folder's entries; names give a lasting one. */
	qsort(platforms, count, sizeof *platforms, by_name);
	struct cl_device *first = NULL, **end = &first;
	int index = 0;
	ps_status status = PS_OK;
	for (cl_uint i = 0; i < count && status == PS_OK; i++)
		status = add_platform(platforms[i], &end, &index, left_out, sizeof left_out);
	ps__cl_note_vendors(left_out, sizeof left_out);
	if (status == PS_OK && !first)
		status = ps_fail(PS_ENODEV, "no OpenCL device: %s", left_out);
	if (status == PS_OK) {
		devices = first;
		return PS_OK;
	}
	while (first) {
		struct cl_device *next = first->next;
		pthread_mutex_destroy(&first->mutex);
		free(first);
		first = next;
	}
	return status;
}

ps_status ps__cl_devices(struct cl_device **first)
{
	pthread_mutex_lock(&list_mutex);
	ps_status status = devices ? PS_OK : make_list();
	*first = devices;
	pthread_mutex_unlock(&list_mutex);
	return status;
}

static void fill_info(struct cl_device *d, ps_device_info *info)
{
	snprintf(info->name, sizeof info->name, "opencl:%d", d->index);
	snprintf(info->description, sizeof info->description, "%.56s (%.40s)%s", d->name, d->platform_name,
	         d->fp64 ? "" : ", without doubles");
	info->memory_bytes = d->memory_bytes;
	info->max_buffer_bytes = d->max_buffer_bytes;
	info->compute_units = d->compute_units;
	info->host_addressable = false;
	ps__cl_gemm_note(d, info->note, sizeof info->note);
}

ps_status ps__cl_enumerate(ps_device_visit visit, void *payload)
{
	struct cl_device *first;
	PS_TRY(ps__cl_devices(&first));
	for (struct cl_device *d = first; d; d = d->next) {
		ps_device_info info = {.backend = "opencl"};
		fill_info(d, &info);
		PS_TRY(visit(payload, &info));
	}
	return left_out[0] ? ps_fail(PS_ENODEV, "%s", left_out) : PS_OK;
}

/* The devices here in one line, for messages. */
static void list_text(const struct cl_device *first, char *text, size_t bytes)
{
	size_t used = 0;
	for (const struct cl_device *d = first; d && used < bytes; d = d->next) {
		int length = snprintf(text + used, bytes - used, "%sopencl:%d (%s, %s)", used ? ", " : "", d->index,
		                      d->name, d->platform_name);
		used += length > 0 ? (size_t)length : 0;
	}
}

/* "": the only device; a number: its index; else a part of a device's or a platform's name that fits one device. */
static ps_status choose(struct cl_device **out, struct cl_device *first, const char *spec)
{
	char here[512] = "";
	int fits = 0;
	bool number = *spec && strspn(spec, "0123456789") == strlen(spec);
	list_text(first, here, sizeof here);
	for (struct cl_device *d = first; d; d = d->next) {
		bool fit = number ? strlen(spec) < 6 && atoi(spec) == d->index
		                  : strstr(d->name, spec) || strstr(d->platform_name, spec);
		if (fit)
			*out = d;
		fits += fit;
	}
	if (fits == 1)
		return PS_OK;
	if (fits > 1)
		return ps_fail(PS_ENODEV, "\"opencl%s%s\" fits %d devices: write one of %s", *spec ? ":" : "", spec,
		               fits, here);
	return ps_fail(PS_ENODEV, "there is no \"opencl:%s\"; here are %s", spec, here);
}

/* The caller holds the device's mutex. */
static ps_status make_context(void *argument)
{
	struct cl_device *d = argument;
	const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM, (cl_context_properties)d->platform, 0};
	cl_int error;
	d->context = clCreateContext(properties, 1, &d->id, NULL, NULL, &error);
	if (error == CL_SUCCESS)
		return PS_OK;
	d->context = NULL;
	return ps_fail(PS_ENODEV, "opencl:%d (%s) cannot be opened: %s", d->index, d->name, ps__cl_error_name(error));
}

ps_status ps__cl_device_open(ps_device *device, const char *spec)
{
	struct cl_device *first, *d = NULL;
	PS_TRY(ps__cl_devices(&first));
	PS_TRY(choose(&d, first, spec));
	pthread_mutex_lock(&d->mutex);
	ps_status status = d->context ? PS_OK : ps__cl_call(d, make_context, d);
	pthread_mutex_unlock(&d->mutex);
	PS_TRY(status);
	fill_info(d, &device->info);
	device->impl = d;
	return PS_OK;
}

void ps__cl_device_close(ps_device *device)
{
	(void)device; /* the context and its programs stay for the next one */
}

void ps__cl_release(const struct cl_device *device, cl_mem memory)
{
	/* Oclgrind takes memory in the place of what was released for uninitialised, whatever is written to it. */
	if (!device->serial)
		clReleaseMemObject(memory);
}

static ps_status create_buffer(void *argument)
{
	ps_buffer *buffer = argument;
	const struct cl_device *d = buffer->device->impl;
	cl_int error;
	buffer->impl = clCreateBuffer(d->context, CL_MEM_READ_WRITE, (size_t)buffer->bytes, NULL, &error);
	if (error == CL_SUCCESS)
		return PS_OK;
	return ps_fail(ps__cl_status(error), "%s has no room for a buffer of %" PRIu64 " bytes: %s",
	               buffer->device->info.name, buffer->bytes, ps__cl_error_name(error));
}

ps_status ps__cl_buffer_create(ps_buffer *buffer)
{
	return ps__cl_call(buffer->device->impl, create_buffer, buffer);
}

static ps_status release_buffer(void *argument)
{
	const ps_buffer *buffer = argument;
	ps__cl_release(buffer->device->impl, buffer->impl);
	return PS_OK;
}

void ps__cl_buffer_destroy(ps_buffer *buffer)
{
	/* Only a thread that cannot be started makes this fail, and then there was no buffer. */
	(void)ps__cl_call(buffer->device->impl, release_buffer, buffer);
}

bool ps__cl_is_same(const ps_device *one, const ps_device *other)
{
	return one->backend->device_open == other->backend->device_open && one->impl == other->impl;
}

/*
 * One OpenCL device has one context, so that devices that were opened twice reach each other's buffers. Where the
 * device's memory is the host's, a write is one copy by the processor, from wherever the bytes are; elsewhere a driver
 * would stage what is not pinned, so that a link does better.
 */
bool ps__cl_can_copy_from(const ps_device *to, const ps_device *from)
{
	const struct cl_device *d = to->impl;
	return ps__cl_is_same(to, from) || (d->unified && from->info.host_addressable);
}

bool ps__cl_can_copy_to(const ps_device *from, const ps_device *to)
{
	const struct cl_device *d = from->impl;
	return ps__cl_is_same(from, to) || (d->unified && to->info.host_addressable);
}

/* What pinned memory consists of: a buffer of the driver's own host memory, which stays mapped through a queue. */
struct pinned {
	cl_command_queue queue;
	cl_mem memory;
};

static void release_pinned(struct pinned *p)
{
	if (p->memory)
		clReleaseMemObject(p->memory);
	if (p->queue)
		clReleaseCommandQueue(p->queue);
	free(p);
}

static ps_status create_pinned(void *argument)
{
	ps_pinned *pinned = argument;
	const struct cl_device *d = pinned->device->impl;
	struct pinned *p = calloc(1, sizeof *p);
	cl_int error = CL_OUT_OF_HOST_MEMORY;
	size_t bytes = (size_t)pinned->bytes;
	if (p)
		p->queue = clCreateCommandQueue(d->context, d->id, 0, &error);
	if (error == CL_SUCCESS)
		p->memory = clCreateBuffer(d->context, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR, bytes, NULL, &error);
	if (error == CL_SUCCESS)
		pinned->address = clEnqueueMapBuffer(p->queue, p->memory, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE, 0, bytes,
		                                     0, NULL, NULL, &error);
	pinned->impl = p;
	if (error == CL_SUCCESS)
		return PS_OK;
	if (p)
		release_pinned(p);
	return ps_fail(ps__cl_status(error), "%s pins no %" PRIu64 " bytes of host memory: %s",
	               pinned->device->info.name, pinned->bytes, ps__cl_error_name(error));
}

ps_status ps__cl_pinned_create(ps_pinned *pinned)
{
	const struct cl_device *d = pinned->device->impl;
	if (d->unified)
		return ps_fail(PS_ENOTSUP, "%s has the host's memory: none needs to be pinned",
		               pinned->device->info.name);
	return ps__cl_call(d, create_pinned, pinned);
}

static ps_status destroy_pinned(void *argument)
{
	const ps_pinned *pinned = argument;
	struct pinned *p = pinned->impl;
	/* A failure shows nowhere but in the driver's memory. */
	if (clEnqueueUnmapMemObject(p->queue, p->memory, pinned->address, 0, NULL, NULL) == CL_SUCCESS)
		(void)clFinish(p->queue);
	release_pinned(p);
	return PS_OK;
}

void ps__cl_pinned_destroy(ps_pinned *pinned)
{
	(void)ps__cl_call(pinned->device->impl, destroy_pinned, pinned);
}
