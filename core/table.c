/* Completing a backend's table: what is mandatory is asked for, what is optional gets a default with a name. */
#include "core/backend.h"
#include "core/registry.h"

#include <string.h>

static bool cannot_copy_from(const ps_device *to, const ps_device *from)
{
	(void)to;
	(void)from;
	return false;
}

static bool cannot_copy_to(const ps_device *from, const ps_device *to)
{
	(void)from;
	(void)to;
	return false;
}

static bool cannot_relay(const ps_device *from, const ps_device *to)
{
	(void)from;
	(void)to;
	return false;
}

static ps_status no_pinned_memory(ps_pinned *pinned)
{
	return ps_fail(PS_ENOTSUP, "%s pins no host memory", pinned->device->info.name);
}

static void destroy_no_pinned_memory(ps_pinned *pinned)
{
	(void)pinned;
}

static ps_status nothing_to_tune(ps_queue *queue, ps_tuning *tuning)
{
	(void)tuning;
	return ps_fail(PS_ENOTSUP, "%s has nothing to tune", queue->device->info.name);
}

static ps_status compile_nothing(void **out, ps_queue *queue, ps_list *list)
{
	(void)queue;
	(void)list;
	*out = NULL;
	return PS_OK;
}

static ps_status submit_nothing(ps_queue *queue, void *compiled, uint32_t step)
{
	(void)compiled;
	(void)step;
	return ps_fail(PS_EINTERNAL, "%s compiles no command lists", queue->device->info.name);
}

static void release_nothing(ps_queue *queue, void *compiled)
{
	(void)queue;
	(void)compiled;
}

static bool has_fp32_math(const ps_device *device, ps_math math)
{
	(void)device;
	return math == PS_MATH_F32;
}

/* lacks_NAME stands in for an op that the backend does not have. */
#define PS_OP(op, text)                                                                               \
	static ps_status lacks_##op(ps_queue *queue, const void *arguments)                           \
	{                                                                                             \
		(void)arguments;                                                                      \
		return ps_fail(PS_ENOTSUP, "%s has no %s (%s)", queue->device->info.name, #op, text); \
	}
#include <penstock/ops.def>

static const ps_op_fn lacking[PS_OP_COUNT] = {
#define PS_OP(op, text) [PS_OP_##op] = lacks_##op,
#include <penstock/ops.def>
};

#define MANDATORY(X)      \
	X(enumerate)      \
	X(device_open)    \
	X(device_close)   \
	X(buffer_create)  \
	X(buffer_destroy) \
	X(queue_create)   \
	X(queue_destroy)  \
	X(queue_wait)     \
	X(queue_write)    \
	X(queue_read)     \
	X(queue_copy)     \
	X(queue_zero)     \
	X(queue_timestamp)

static ps_status check(const ps_backend *table)
{
	if (table->abi != PS_BACKEND_ABI)
		return ps_fail(PS_ENODEV, "it was built for backend ABI %u, and this is ABI %u; build it again",
		               (unsigned)table->abi, (unsigned)PS_BACKEND_ABI);
	if (table->size != sizeof *table)
		return ps_fail(PS_ENODEV, "its table has %u bytes, which should be %zu; build it again",
		               (unsigned)table->size, sizeof *table);
	if (!table->name || !*table->name)
		return ps_fail(PS_ENODEV, "its table has no name");
	if (strlen(table->name) >= sizeof((ps_device_info *)NULL)->backend || strchr(table->name, ':'))
		return ps_fail(PS_ENODEV, "its name \"%s\" should have at most 15 bytes and no colon", table->name);
	if (!table->description)
		return ps_fail(PS_ENODEV, "its table has no description");
#define ASK(entry)         \
	if (!table->entry) \
		return ps_fail(PS_ENODEV, "its table lacks the mandatory entry %s", #entry);
	MANDATORY(ASK)
#undef ASK
	if (!table->pinned_create != !table->pinned_destroy)
		return ps_fail(PS_ENODEV, "its table has one of pinned_create and pinned_destroy, and needs both");
	if (!table->list_compile != !table->list_submit || !table->list_compile != !table->list_release)
		return ps_fail(PS_ENODEV,
		               "its table has some of list_compile, list_submit and list_release, and needs all");
	if (!table->ops)
		return ps_fail(PS_ENODEV, "its table lacks the mandatory entry ops");
	return PS_OK;
}

ps_status ps__backend_complete(struct ps__full_backend *full, const ps_backend *table)
{
	PS_TRY(check(table));
	full->table = *table;
	for (int op = 0; op < PS_OP_COUNT; op++)
		full->ops[op] = table->ops[op] ? table->ops[op] : lacking[op];
	full->table.ops = full->ops;
	if (!full->table.can_copy_from)
		full->table.can_copy_from = cannot_copy_from;
	if (!full->table.can_copy_to)
		full->table.can_copy_to = cannot_copy_to;
	if (!full->table.can_relay)
		full->table.can_relay = cannot_relay;
	if (!full->table.pinned_create) {
		full->table.pinned_create = no_pinned_memory;
		full->table.pinned_destroy = destroy_no_pinned_memory;
	}
	if (!full->table.list_compile) {
		full->table.list_compile = compile_nothing;
		full->table.list_submit = submit_nothing;
		full->table.list_release = release_nothing;
	}
	if (!full->table.tune)
		full->table.tune = nothing_to_tune;
	if (!full->table.has_math)
		full->table.has_math = has_fp32_math;
	return PS_OK;
}

bool ps__backend_has(const ps_backend *backend, ps_op op)
{
	return backend->ops[op] && backend->ops[op] != lacking[op];
}

bool ps__device_has_graphs(const ps_device *device)
{
	return device->backend->list_compile != compile_nothing;
}
