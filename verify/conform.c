/* Running conformance rows over devices. */
#include "verify/conform_state.h"
#include "verify/side.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Devices are asked about rows of tensors up to the one size, which take no time to make room for; up to the other,
 * rows are run again for each of their tensors.
 */
enum { ASKED_ELEMENTS = 4096, ODD_ELEMENTS = 1 << 14 };

static bool going(const struct conform_state *state)
{
	return state->status == PS_OK && state->outcome.result.outcome == PS_VERIFY_SAME;
}

static struct conform_slot *slot_of(struct conform_state *state, const char *name)
{
	for (size_t i = 0; i < state->slots; i++)
		if (!strcmp(state->slot[i].spec.name, name))
			return &state->slot[i];
	return state->slots < CONFORM_SLOTS ? &state->slot[state->slots++] : NULL;
}

/* Room for the slot on the host and on the device. */
static void place(struct conform_state *state, struct conform_slot *slot)
{
	const struct conform_spec *spec = &slot->spec;
	size_t size = ps_dtype_bytes(slot->tensor.dtype);
	int64_t count = ps_tensor_count(slot->tensor), limit = state->config->elements;
	if (limit > 0 && count > limit) {
		ps__outcome_skip(&state->outcome,
		                 ps_fail(PS_ETOOBIG, "it has tensors of more than %lld elements", (long long)limit));
		return;
	}
	if (spec->pitch) {
		slot->tensor.strides[0] = spec->pitch;
		count = spec->dims[0] * spec->pitch;
	}
	slot->bytes = 2 * CONFORM_GUARD + ((size_t)count + 1) * size;
	slot->bytes = (slot->bytes + 3) / 4 * 4;
	if (!slot->image && !state->ask) {
		slot->memory = calloc(1, CONFORM_ALIGNED + slot->bytes);
		if (!slot->memory) {
			state->status = ps_fail(PS_ENOMEM, "no host memory for a tensor of %zu bytes", slot->bytes);
			return;
		}
		slot->image = slot->memory + CONFORM_ALIGNED;
		ps__conform_image(state, slot, slot->tensor.dtype);
	}
	ps_status status =
	        ps_buffer_create(&slot->tensor.buffer, ps_queue_device(state->queue), slot->bytes + CONFORM_ALIGNED);
	if (status != PS_OK)
		ps__outcome_failed(&state->outcome, status);
}

ps_tensor ps__conform_tensor(struct conform *c, const struct conform_spec *spec)
{
	struct conform_state *state = c->state;
	struct conform_slot *slot = slot_of(state, spec->name);
	if (!slot) {
		state->status = ps_fail(PS_EINTERNAL, "a row of %s has more than %d tensors",
		                        state->outcome.result.subject, (int)CONFORM_SLOTS);
		return (ps_tensor){0};
	}
	ps_dtype plain = c->dtype == PS_BF16 ? PS_F32 : c->dtype;
	ps_dtype dtype = spec->bound ? PS_I32 : spec->wide ? PS_F64 : spec->narrow ? PS_BF16 : plain;
	slot->spec = *spec;
	/* One element past the guard: aligned to the element and to nothing else. */
	slot->at = CONFORM_GUARD + ps_dtype_bytes(dtype);
	bool aligned = state->aligned && slot != &state->slot[state->odd];
	size_t offset = aligned ? CONFORM_GUARD + CONFORM_ALIGNED : slot->at;
	slot->tensor = ps_tensor_make(NULL, offset, dtype, spec->rank, spec->dims);
	if (going(state))
		place(state, slot);
	return slot->tensor;
}

struct conform_pair ps__conform_pair(struct conform *c, bool alias, const char *out, const struct conform_spec *spec)
{
	struct conform_spec one = *spec, other = *spec;
	one.role = alias ? CONFORM_INOUT : CONFORM_IN;
	other.role = CONFORM_OUT;
	other.name = out;
	ps_tensor in = ps__conform_tensor(c, &one);
	return (struct conform_pair){in, alias ? in : ps__conform_tensor(c, &other)};
}

/* How much of the buffer comes before what the image is of. */
static size_t lead(const struct conform_slot *slot)
{
	return slot->tensor.offset - slot->at;
}

/* The buffer from there on and as far as the image goes, as elements of two bytes, to which the least aligned one is.
 */
static ps_tensor from(const struct conform_slot *slot, size_t first)
{
	return ps_tensor_make(slot->tensor.buffer, first, PS_BF16, 1,
	                      (int64_t[]){(int64_t)((lead(slot) + slot->bytes - first) / 2)});
}

static ps_status transfer_and_run(struct conform_state *state, ps_op op, const void *arguments, size_t bytes)
{
	for (size_t i = 0; i < state->slots; i++) {
		const struct conform_slot *slot = &state->slot[i];
		/* From its first byte on, since Oclgrind takes for uninitialised what else is written first. */
		if (slot->tensor.buffer)
			PS_TRY(ps_queue_write(state->queue, from(slot, 0), slot->image - lead(slot)));
	}
	PS_TRY(ps_op_run(state->queue, op, arguments, bytes));
	return ps_queue_finish(state->queue);
}

static ps_status read_and_compare(struct conform_state *state, struct conform_slot *slot)
{
	unsigned char *got = malloc(slot->bytes);
	if (!got)
		return state->status = ps_fail(PS_ENOMEM, "no host memory for a tensor of %zu bytes", slot->bytes);
	ps_status status = ps_queue_read(state->queue, got, from(slot, lead(slot)));
	if (status == PS_OK)
		status = ps_queue_finish(state->queue);
	if (status == PS_OK)
		ps__conform_compare(state, slot, got);
	unsigned char **keep = state->reference ? &slot->want : &slot->first;
	if (status == PS_OK && slot->spec.role != CONFORM_IN && !*keep)
		*keep = got;
	else
		free(got);
	return status;
}

bool ps__conform_math(struct conform *c, ps_math math)
{
	struct conform_state *state = c->state;
	ps_status status = ps_queue_set_math(state->queue, math);
	state->done = true;
	if (status == PS_ENOTSUP && state->reference && math == PS_MATH_TF32)
		return true;
	if (status != PS_OK)
		ps__outcome_skip(&state->outcome, status);
	return status == PS_OK;
}

/* Would the device take the op? Recording asks it. */
static void ask(struct conform_state *state, ps_op op, const void *arguments, size_t bytes)
{
	ps_list *list;
	ps_status status = ps_list_create(&list, state->queue);
	if (status != PS_OK) {
		state->status = status;
		return;
	}
	status = ps_list_record(list, op, arguments, bytes);
	if (status != PS_OK)
		ps__outcome_failed(&state->outcome, status);
	ps_list_destroy(list);
}

void ps__conform_call(struct conform *c, ps_op op, const void *arguments, size_t bytes)
{
	struct conform_state *state = c->state;
	state->done = true;
	if (!going(state))
		return;
	if (state->ask) {
		ask(state, op, arguments, bytes);
		return;
	}
	ps_status status = transfer_and_run(state, op, arguments, bytes);
	if (status == PS_ENOTSUP) {
		ps__outcome_skip(&state->outcome, status);
		status = ps_queue_finish(state->queue);
	}
	for (size_t i = 0; i < state->slots && status == PS_OK && state->outcome.result.outcome != PS_VERIFY_SKIPPED;
	     i++)
		if (state->slot[i].tensor.buffer)
			status = read_and_compare(state, &state->slot[i]);
	if (status != PS_OK && state->status == PS_OK) {
		ps__outcome_failed(&state->outcome, status);
		ps_queue_reset(state->queue);
	}
}

/* "a fp32 (3, 4), b fp32 (4, 5)", before the buffers go. */
static void list_shapes(struct conform_state *state)
{
	size_t used = 0;
	state->outcome.shapes[0] = '\0';
	const char *odd = state->odd < state->slots ? state->slot[state->odd].spec.name : "none";
	if (state->aligned && !going(state))
		used = (size_t)snprintf(state->outcome.shapes, sizeof state->outcome.shapes,
		                        "aligned to 16 bytes but for %s: ", odd);
	const char *between = "";
	for (size_t i = 0; i < state->slots && used < sizeof state->outcome.shapes; i++) {
		const struct conform_slot *slot = &state->slot[i];
		char text[96];
		if (!slot->tensor.buffer)
			continue;
		int length = snprintf(state->outcome.shapes + used, sizeof state->outcome.shapes - used, "%s%s %s",
		                      between, slot->spec.name, ps_tensor_text(slot->tensor, text, sizeof text));
		used += length > 0 ? (size_t)length : 0;
		between = ", ";
	}
}

/* Calls the body once for the device of an outcome that has begun, and goes on with that. */
static void go_on(struct conform *c, const void *row, ps_queue *queue)
{
	struct conform_state *state = c->state;
	state->queue = queue;
	state->done = false;
	state->set->body(c, row);
	if (state->status == PS_OK)
		state->status = ps_queue_set_math(queue, PS_MATH_F32);
	list_shapes(state);
	for (size_t i = 0; i < state->slots; i++) {
		ps_buffer_destroy(state->slot[i].tensor.buffer);
		state->slot[i].tensor.buffer = NULL;
	}
}

/* Are all of the row's tensors so small that another run takes no time? */
static bool small(const struct conform_state *state)
{
	for (size_t i = 0; i < state->slots; i++)
		if (ps_tensor_count(state->slot[i].tensor) > ODD_ELEMENTS)
			return false;
	return true;
}

/* The outcome for a device is then in state->outcome.result. */
static void pass(struct conform *c, const void *row, ps_queue *queue, const char *name)
{
	struct conform_state *state = c->state;
	ps__outcome_begin(&state->outcome, name, state->set->subject, state->set->part, state->outcome.result.row,
	                  c->dtype);
	go_on(c, row, queue);
	/* Where backends have wide accesses: those too, and with each tensor in turn not aligned to them. */
	state->aligned = c->dtype != PS_F64 && !state->reference && !state->ask;
	size_t first = small(state) ? 0 : state->slots;
	for (state->odd = first; state->aligned && state->odd <= state->slots && going(state); state->odd++)
		go_on(c, row, queue);
	state->aligned = false;
	for (size_t i = 0; i < state->slots; i++) {
		free(state->slot[i].first);
		state->slot[i].first = NULL;
	}
}

static void tell(struct conform_state *state)
{
	bool too_large = state->ask && state->outcome.result.status == PS_ETOOBIG;
	if (state->done && state->status == PS_OK && !too_large)
		state->config->report(state->config->payload, &state->outcome.result);
}

/* One row in one dtype on all devices; queues[0] is the reference's. */
static void run_row(struct conform *c, const void *row, ps_queue *const *queues)
{
	struct conform_state *state = c->state;
	const ps_verify_config *config = state->config;
	bool wanted = true;
	if (!state->ask) {
		state->reference = true;
		pass(c, row, queues[0], config->against);
		if (state->outcome.result.outcome == PS_VERIFY_DIFFERS)
			tell(state);
		wanted = going(state);
		state->reference = false;
	}
	for (int i = 0; i < config->device_count && state->status == PS_OK; i++) {
		state->outcome.result.done++;
		if (wanted)
			pass(c, row, queues[i + 1], config->devices[i]);
		else if (state->outcome.result.outcome == PS_VERIFY_SKIPPED)
			state->outcome.result.device = config->devices[i];
		if (wanted || state->outcome.result.outcome == PS_VERIFY_SKIPPED)
			tell(state);
	}
	for (size_t i = 0; i < state->slots; i++) {
		free(state->slot[i].memory);
		free(state->slot[i].want);
	}
	memset(state->slot, 0, sizeof state->slot);
	state->slots = 0;
}

/* The dtypes that rows of a set are run in. */
static int first_dtype(ps_math math)
{
	return math == PS_MATH_BF16 ? PS_BF16 : PS_F32;
}

static int last_dtype(ps_math math)
{
	return math == PS_MATH_F32 ? PS_F64 : first_dtype(math);
}

static ps_status run_sets(const ps_verify_config *config, const struct conform_set *sets, size_t count, bool ask,
                          ps_queue *const *queues)
{
	struct conform_state state = {.config = config, .ask = ask};
	for (size_t s = 0; s < count; s++)
		state.outcome.result.total +=
		        sets[s].count * (sets[s].math != PS_MATH_F32 ? 1 : 2) * (size_t)config->device_count;
	for (size_t s = 0; s < count; s++) {
		state.set = &sets[s];
		for (size_t i = 0; i < sets[s].count; i++)
			for (int dtype = first_dtype(sets[s].math);
			     dtype <= last_dtype(sets[s].math) && state.status == PS_OK; dtype++) {
				struct conform c = {(ps_dtype)dtype, config->seed, &state};
				state.outcome.result.row = i;
				run_row(&c, (const char *)sets[s].rows + i * sets[s].row_bytes, queues);
			}
	}
	return state.status;
}

ps_status ps__conform_run(const ps_verify_config *config, const struct conform_set *sets, size_t count, bool ask)
{
	ps_verify_config filled = *config;
	filled.against = ps__against(config);
	if (ask)
		filled.elements = ASKED_ELEMENTS;
	ps_queue **queues;
	PS_TRY(ps__queues_open(&queues, &filled));
	ps_status status = run_sets(&filled, sets, count, ask, queues);
	ps__queues_close(queues, &filled);
	return status;
}
