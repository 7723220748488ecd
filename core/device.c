/* Devices and buffers: life, accounting, listing. */
#include "core/backend.h"
#include "core/registry.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void release(ps_device *device)
{
	if (atomic_fetch_sub(&device->holders, 1) == 1) {
		device->backend->device_close(device);
		free(device);
	}
}

/* `device` is the start of the allocation; `backend` is complete. */
static ps_status open_device(ps_device *device, const ps_backend *backend, const char *spec)
{
	device->backend = backend;
	atomic_store(&device->holders, 1);
	snprintf(device->info.backend, sizeof device->info.backend, "%s", backend->name);
	return backend->device_open(device, spec);
}

/* A device whose table was completed for it alone. */
struct own_table {
	ps_device device; /* first, for release() to free */
	struct ps__full_backend full;
};

ps_status ps__device_open_on(ps_device **out, const ps_backend *backend, const char *spec)
{
	*out = NULL;
	struct own_table *own = calloc(1, sizeof *own);
	if (!own)
		return ps_fail(PS_ENOMEM, "out of memory for a device");
	ps_status status = ps__backend_complete(&own->full, backend);
	if (status == PS_OK)
		status = open_device(&own->device, &own->full.table, spec);
	if (status != PS_OK) {
		free(own);
		return status;
	}
	*out = &own->device;
	return PS_OK;
}

static ps_status open_named(ps_device **out, const char *name)
{
	const char *colon = strchr(name, ':');
	if (colon && !colon[1])
		return ps_fail(PS_ENODEV, "\"%s\" names no part of %.*s; leave the colon out to name all of it", name,
		               (int)(colon - name), name);
	const ps_backend *backend;
	PS_TRY(ps__backend_find(&backend, name, colon ? (size_t)(colon - name) : strlen(name)));
	ps_device *device = calloc(1, sizeof *device);
	if (!device)
		return ps_fail(PS_ENOMEM, "out of memory for a device");
	ps_status status = open_device(device, backend, colon ? colon + 1 : "");
	if (status != PS_OK) {
		free(device);
		return status;
	}
	*out = device;
	return PS_OK;
}

ps_status ps_device_open(ps_device **out, const char *name)
{
	*out = NULL;
	if (!name || !*name)
		return ps_fail(PS_EINVAL, "a device needs a name, such as \"cpu\"");
	ps_status status = open_named(out, name);
	/* What lacks the whole backend, such as a driver, is told without a word of the device that was asked for. */
	if (status != PS_OK && !strstr(ps_error_message(), name))
		return ps_fail_context(status, "%.100s", name);
	return status;
}

void ps_device_close(ps_device *device)
{
	if (device)
		release(device);
}

const ps_device_info *ps_device_get_info(const ps_device *device)
{
	return &device->info;
}

void ps_device_get_memory(const ps_device *device, uint64_t *now, uint64_t *peak)
{
	if (now)
		*now = atomic_load(&device->allocated);
	if (peak)
		*peak = atomic_load(&device->peak);
}

ps_status ps_buffer_create(ps_buffer **out, ps_device *device, uint64_t bytes)
{
	*out = NULL;
	if (bytes == 0)
		return ps_fail(PS_EINVAL, "a buffer on %s needs at least one byte", device->info.name);
	if (device->info.max_buffer_bytes && bytes > device->info.max_buffer_bytes)
		return ps_fail(PS_ETOOBIG, "a buffer of %" PRIu64 " bytes on %s is over the device's limit of %" PRIu64,
		               bytes, device->info.name, device->info.max_buffer_bytes);
	ps_buffer *buffer = calloc(1, sizeof *buffer);
	if (!buffer)
		return ps_fail(PS_ENOMEM, "out of memory for a buffer");
	buffer->device = device;
	buffer->bytes = bytes;
	ps_status status = device->backend->buffer_create(buffer);
	if (status != PS_OK) {
		free(buffer);
		return status;
	}
	atomic_fetch_add(&device->holders, 1);
	uint64_t now = atomic_fetch_add(&device->allocated, bytes) + bytes;
	uint64_t peak = atomic_load(&device->peak);
	while (now > peak && !atomic_compare_exchange_weak(&device->peak, &peak, now))
		;
	*out = buffer;
	return PS_OK;
}

void ps_buffer_destroy(ps_buffer *buffer)
{
	if (!buffer)
		return;
	ps_device *device = buffer->device;
	device->backend->buffer_destroy(buffer);
	atomic_fetch_sub(&device->allocated, buffer->bytes);
	free(buffer);
	release(device);
}

uint64_t ps_buffer_bytes(const ps_buffer *buffer)
{
	return buffer->bytes;
}

ps_device *ps_buffer_device(const ps_buffer *buffer)
{
	return buffer->device;
}

struct listing {
	ps_device_entry *entries;
	size_t count, capacity;
};

static ps_device_entry *list_add(struct listing *listing)
{
	if (listing->count == listing->capacity) {
		size_t capacity = listing->capacity ? listing->capacity * 2 : 8;
		ps_device_entry *entries = realloc(listing->entries, capacity * sizeof *entries);
		if (!entries)
			return NULL;
		listing->entries = entries;
		listing->capacity = capacity;
	}
	ps_device_entry *entry = &listing->entries[listing->count++];
	memset(entry, 0, sizeof *entry);
	return entry;
}

static ps_status list_visit(void *payload, const ps_device_info *info)
{
	ps_device_entry *entry = list_add(payload);
	if (!entry)
		return ps_fail(PS_ENOMEM, "out of memory for the list of devices");
	entry->info = *info;
	return PS_OK;
}

static ps_status list_backend(void *payload, const char *name, const ps_backend *backend, ps_status status)
{
	struct listing *listing = payload;
	if (status == PS_OK)
		status = backend->enumerate(list_visit, listing);
	if (status == PS_OK)
		return PS_OK;
	if (status == PS_ENOMEM)
		return status;
	ps_device_entry *entry = list_add(listing);
	if (!entry)
		return ps_fail(PS_ENOMEM, "out of memory for the list of devices");
	snprintf(entry->info.backend, sizeof entry->info.backend, "%s", name);
	entry->status = status;
	snprintf(entry->reason, sizeof entry->reason, "%s", ps_error_message());
	return PS_OK;
}

ps_status ps_device_list(ps_device_entry **out, size_t *count)
{
	*out = NULL;
	*count = 0;
	struct listing listing = {0};
	ps_status status = ps__registry_each(list_backend, &listing);
	for (size_t i = 0; i < listing.count && status == PS_OK; i++) {
		ps_device_info *info = &listing.entries[i].info;
		if (listing.entries[i].status == PS_OK && !info->backend[0])
			memcpy(info->backend, info->name, strcspn(info->name, ":"));
	}
	if (status != PS_OK) {
		free(listing.entries);
		return status;
	}
	*out = listing.entries;
	*count = listing.count;
	return PS_OK;
}

void ps_device_list_free(ps_device_entry *entries)
{
	free(entries);
}

/* Queues hold their device as buffers do. */
void ps__device_hold(ps_device *device)
{
	atomic_fetch_add(&device->holders, 1);
}

void ps__device_release(ps_device *device)
{
	release(device);
}
