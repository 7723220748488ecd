/*
 * What the core, its backends and tests share beyond the contract for backend authors, which is
 * include/penstock/backend.h: opening devices on any table, and checks.
 */
#ifndef PS_CORE_BACKEND_H
#define PS_CORE_BACKEND_H

#include <penstock/backend.h>

/*
 * The registry's view of a backend by name: a table with no NULL entries. PS_ENODEV with the reason when there is none
 * or it did not load.
 */
ps_status ps__backend_find(const ps_backend **out, const char *name, size_t length) PS_WARN_UNUSED;

/* Opens a device on a table that the registry does not know (tests, wrappers). */
ps_status ps__device_open_on(ps_device **out, const ps_backend *backend, const char *spec) PS_WARN_UNUSED;

/* Does the device's backend compile command lists itself? */
bool ps__device_has_graphs(const ps_device *device);

/* The shared check of an op's arguments: PS_EINVAL with op, argument and shapes. */
ps_status ps__op_check(const ps_device *device, ps_op op, const void *arguments) PS_WARN_UNUSED;
/* Its last part: arguments that passed the others share memory only where the op allows it. */
ps_status ps__op_check_aliases(const ps_device *device, ps_op op, const void *arguments) PS_WARN_UNUSED;
/* Bytes of the op's argument struct, and where its ps_random_place stands in it (-1: it has none). */
size_t ps__op_bytes(ps_op op);
int ps__op_place_offset(ps_op op);

/*
 * Host memory for copies: pinned by the first of the devices that does so; plain where none does, or where none can pin
 * so much. memory->device is NULL then. Zeroed memory may be destroyed, too.
 */
ps_status ps__host_memory_create(ps_pinned *out, ps_device *const *devices, int count, uint64_t bytes) PS_WARN_UNUSED;
void ps__host_memory_destroy(ps_pinned *memory);

/*
 * The entry of a list whose op enqueued the command with `value`, which is of the list's last two submissions or later;
 * the number of entries when it is later. An op that refused to be enqueued counts as the one with all values from
 * there.
 */
size_t ps__list_find(const ps_list *list, uint64_t value);

/*
 * From now on each submission notes when its queue comes to each op and to the end: count + 1 times, which are good
 * once the submission is done and until the next. NULL: no more of that.
 */
void ps__list_time(ps_list *list, int64_t *marks);

/*
 * For whoever enqueues a list's ops one by one: a note that all that was enqueued since the entry before belongs to
 * this one, or that it was refused.
 */
void ps__list_mark(ps_list *list, size_t index, bool enqueued);

/*
 * Is the tensor sound in itself (dtype, rank, dims and strides in range, aligned, within its buffer)? False otherwise;
 * a tensor may be empty. No value of the fields makes it overflow.
 */
bool ps__tensor_is_sound(ps_tensor tensor);

/* The check of a whole copy's tensor: present, sound, contiguous and on `device`. PS_EINVAL says what and where. */
ps_status ps__transfer_check(const ps_device *device, const char *what, const char *where,
                             ps_tensor tensor) PS_WARN_UNUSED;
/* Same dtype and number of elements. */
ps_status ps__transfer_check_pair(const char *what, const char *where, ps_tensor to, ps_tensor from) PS_WARN_UNUSED;

#endif
