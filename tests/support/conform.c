/* Running conformance rows over devices. */
#include "support/conform_state.h"

#include "core/backend.h"
#include "core/registry.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEVICES = 32, PRINTED = 8 };

static struct {
	char text[2048];
	const char *names[MAX_DEVICES];
	size_t count;
	bool known;
	int rows, compared; /* of the whole program */
} run;

/* Device names go into run.text one after the other. */
static void add_device(const char *name, size_t length)
{
	size_t used =
	        run.count ? (size_t)(run.names[run.count - 1] - run.text) + strlen(run.names[run.count - 1]) + 1 : 0;
	if (!length || run.count == MAX_DEVICES || used + length >= sizeof run.text)
		return;
	memcpy(run.text + used, name, length);
	run.text[used + length] = '\0';
	if (strcmp(run.text + used, "ref") != 0)
		run.names[run.count++] = run.text + used;
}

static void list_devices(void)
{
	ps_device_entry *entries;
	size_t count;
	if (ps_device_list(&entries, &count) != PS_OK) {
		fprintf(stderr, "no list of devices: %s\n", ps_error_message());
		return;
	}
	for (size_t i = 0; i < count; i++) {
		const ps_device_info *info = &entries[i].info;
		bool spare = !strncmp(info->name, "cpu:", 4) && strcmp(info->name, "cpu:0") != 0;
		if (entries[i].status != PS_OK)
			fprintf(stderr, "skip: no %s: %s\n", info->backend, entries[i].reason);
		else if (!spare)
			add_device(info->name, strlen(info->name));
	}
	ps_device_list_free(entries);
}

const char *const *conform_devices(size_t *count)
{
	if (!run.known) {
		run.known = true;
		const char *list = getenv("PS_TEST_DEVICES");
		if (!list || !*list)
			list_devices();
		for (const char *at = list; at && *at; at += strcspn(at, ","), at += *at == ',')
			add_device(at, strcspn(at, ","));
	}
	*count = run.count;
	return run.names;
}

void conform_fail(struct conform *c, const char *format, ...)
{
	struct conform_state *state = c->state;
	if (state->failures++ >= PRINTED)
		return;
	char shapes[512] = "", text[96];
	for (size_t i = 0, used = 0; i < state->slots && used < sizeof shapes; i++) {
		const struct conform_slot *slot = &state->slot[i];
		if (!slot->tensor.buffer)
			continue;
		int length = snprintf(shapes + used, sizeof shapes - used, " %s %s", slot->spec.name,
		                      ps_tensor_text(slot->tensor, text, sizeof text));
		used += length > 0 ? (size_t)length : 0;
	}
	fprintf(stderr, "%s %s row %zu on %s (seed %" PRIu64 ";%s): ", ps_op_name(state->op), ps_dtype_name(c->dtype),
	        state->row, state->device_name, conform_seed(), shapes);
	va_list arguments;
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
}

static struct conform_slot *slot_of(struct conform_state *state, const char *name)
{
	for (size_t i = 0; i < state->slots; i++)
		if (!strcmp(state->slot[i].spec.name, name))
			return &state->slot[i];
	ck_assert_msg(state->slots < CONFORM_SLOTS, "a row has more than %d tensors", (int)CONFORM_SLOTS);
	return &state->slot[state->slots++];
}

static bool too_large(const struct conform_slot *slot)
{
	const char *limit = getenv("PS_TEST_ELEMENTS");
	return limit && *limit && ps_tensor_count(slot->tensor) > strtoll(limit, NULL, 10);
}

ps_tensor conform_tensor(struct conform *c, const struct conform_spec *spec)
{
	struct conform_state *state = c->state;
	struct conform_slot *slot = slot_of(state, spec->name);
	ps_dtype dtype = spec->bound ? PS_I32 : spec->wide ? PS_F64 : spec->narrow ? PS_BF16 : c->dtype;
	size_t size = ps_dtype_bytes(dtype);
	slot->spec = *spec;
	/* One element past the guard: aligned to the element and to nothing else. */
	slot->tensor = ps_tensor_make(NULL, CONFORM_GUARD + size, dtype, spec->rank, spec->dims);
	if (too_large(slot)) {
		state->large = true;
		return slot->tensor;
	}
	int64_t rows = spec->rank == 2 ? spec->dims[0] : 1, count = ps_tensor_count(slot->tensor);
	if (spec->pitch) {
		slot->tensor.strides[0] = spec->pitch;
		count = rows * spec->pitch;
	}
	slot->bytes = 2 * CONFORM_GUARD + ((size_t)count + 1) * size;
	slot->bytes = (slot->bytes + 3) / 4 * 4;
	if (!slot->image) {
		slot->image = malloc(slot->bytes);
		ck_assert_ptr_nonnull(slot->image);
		conform_image(state, slot, dtype);
	}
	ps_status status = ps_buffer_create(&slot->tensor.buffer, state->device, slot->bytes);
	ck_assert_msg(status == PS_OK, "%s: %s", state->device_name, ps_error_message());
	return slot->tensor;
}

static ps_tensor whole(const struct conform_slot *slot)
{
	return ps_tensor_make(slot->tensor.buffer, 0, PS_I32, 1, (int64_t[]){(int64_t)(slot->bytes / 4)});
}

static ps_status transfer_and_run(struct conform_state *state, ps_op op, const void *arguments, size_t bytes)
{
	for (size_t i = 0; i < state->slots; i++)
		if (state->slot[i].tensor.buffer)
			PS_TRY(ps_queue_write(state->queue, whole(&state->slot[i]), state->slot[i].image));
	PS_TRY(ps_op_run(state->queue, op, arguments, bytes));
	return ps_queue_finish(state->queue);
}

static bool has_bf16(const ps_device *device)
{
	return device->backend->has_math(device, PS_MATH_BF16);
}

bool conform_math(struct conform *c, ps_math math)
{
	struct conform_state *state = c->state;
	state->skip = ps_queue_set_math(state->queue, math) != PS_OK;
	return !state->skip;
}

void conform_call(struct conform *c, ps_op op, const void *arguments, size_t bytes)
{
	struct conform_state *state = c->state;
	if (state->large)
		return;
	state->done = true;
	ps_status status = transfer_and_run(state, op, arguments, bytes);
	if (status == PS_ENOTSUP && (c->dtype == PS_F64 || !has_bf16(state->device))) {
		state->skip = true;
		return;
	}
	if (status != PS_OK) {
		conform_fail(c, "%s: %s", ps_status_name(status), ps_error_message());
		ps_queue_reset(state->queue);
		return;
	}
	for (size_t i = 0; i < state->slots; i++) {
		struct conform_slot *slot = &state->slot[i];
		if (!slot->tensor.buffer)
			continue;
		unsigned char *got = malloc(slot->bytes);
		ck_assert_ptr_nonnull(got);
		status = ps_queue_read(state->queue, got, whole(slot));
		if (status == PS_OK)
			status = ps_queue_finish(state->queue);
		ck_assert_msg(status == PS_OK, "%s", ps_error_message());
		conform_compare(c, slot, got);
		if (state->reference && slot->spec.role != CONFORM_IN)
			slot->want = got;
		else
			free(got);
	}
	state->compared += !state->reference;
}

/* Calls the body once on an open device. */
static void pass(struct conform *c, conform_body body, const void *row, ps_queue *queue, const char *name)
{
	struct conform_state *state = c->state;
	state->device = ps_queue_device(queue);
	state->queue = queue;
	state->device_name = name;
	state->reference = !strcmp(name, "ref");
	state->done = state->skip = false;
	body(c, row);
	ck_assert(ps_queue_set_math(queue, PS_MATH_F32) == PS_OK);
	ck_assert_msg(ps_queue_finish(queue) == PS_OK, "%s", ps_error_message());
	for (size_t i = 0; i < state->slots; i++) {
		ps_buffer_destroy(state->slot[i].tensor.buffer);
		state->slot[i].tensor.buffer = NULL;
	}
}

static void open_queue(ps_queue **queue, const char *name)
{
	ps_device *device;
	ck_assert_msg(ps_device_open(&device, name) == PS_OK, "%s", ps_error_message());
	ck_assert_msg(ps_queue_create(queue, device, name) == PS_OK, "%s", ps_error_message());
	ps_device_close(device);
}

/* One row in one dtype on all devices; queues[0] is the reference's, and a NULL queue is a device that was left out. */
static void run_row(struct conform_state *state, ps_dtype dtype, conform_body body, const void *row, ps_queue **queues,
                    const char *const *names, size_t count)
{
	struct conform c = {dtype, state};
	pass(&c, body, row, queues[0], "ref");
	if (state->done && state->failures == 0)
		for (size_t i = 0; i < count; i++)
			if (queues[i + 1])
				pass(&c, body, row, queues[i + 1], names[i]);
	for (size_t i = 0; i < state->slots; i++) {
		free(state->slot[i].image);
		free(state->slot[i].want);
	}
	memset(state->slot, 0, sizeof state->slot);
	state->slots = 0;
}

void conform_rows(ps_op op, const void *rows, size_t row_bytes, size_t count, conform_body body)
{
	size_t devices;
	const char *const *names = conform_devices(&devices);
	ps_queue *queues[MAX_DEVICES + 1] = {0};
	open_queue(&queues[0], "ref");
	for (size_t i = 0; i < devices; i++) {
		open_queue(&queues[i + 1], names[i]);
		if (ps__backend_has(ps_queue_device(queues[i + 1])->backend, op))
			continue;
		fprintf(stderr, "skip: %s has no %s\n", names[i], ps_op_name(op));
		ps_queue_destroy(queues[i + 1]);
		queues[i + 1] = NULL;
	}
	int failures = 0, compared = 0;
	for (size_t i = 0; i < count; i++)
		for (int dtype = PS_F32; dtype <= PS_F64; dtype++) {
			struct conform_state state = {.op = op, .row = i};
			run_row(&state, (ps_dtype)dtype, body, (const char *)rows + i * row_bytes, queues, names,
			        devices);
			failures += state.failures;
			compared += state.compared;
		}
	for (size_t i = 0; i <= devices; i++)
		ps_queue_destroy(queues[i]);
	run.rows += (int)count;
	run.compared += compared;
	ck_assert_msg(failures == 0, "%s: %d failures; PS_TEST_SEED=%" PRIu64 " repeats them", ps_op_name(op), failures,
	              conform_seed());
}

int conform_suite_run(Suite *suite)
{
	printf("PS_TEST_SEED=%" PRIu64 "\n", conform_seed());
	SRunner *runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	if (failed)
		return EXIT_FAILURE;
	if (run.rows && !run.compared) {
		printf("skip: there is no device with these ops besides the reference\n");
		return 77;
	}
	if (run.rows)
		printf("%d rows, %d comparisons with the reference\n", run.rows, run.compared);
	return EXIT_SUCCESS;
}
