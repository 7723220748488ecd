/* What conformance rows are filled with, and how results are compared. */
#include "verify/conform_state.h"

#include <penstock/bf16.h>

#include <float.h>
#include <math.h>
#include <string.h>

/* SplitMix64 (Steele, Lea and Flood, 2014), one step from the counter. */
uint64_t ps__conform_mix(uint64_t counter)
{
	uint64_t z = counter * UINT64_C(0x9E3779B97F4A7C15) + UINT64_C(0x9E3779B97F4A7C15);
	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return z ^ z >> 31;
}

ps_dropout ps__conform_dropout(uint64_t seed, const struct conform_drop *drop)
{
	return (ps_dropout){
	        .p = drop->p,
	        .first_row = drop->first_row,
	        .place = {.seed = ps__conform_mix(seed), .step = drop->step, .layer = drop->layer, .site = 3}};
}

static double unit(uint64_t word)
{
	return (double)(word >> 11) / 4503599627370496.0 - 1; /* 2^52 */
}

static double special(uint64_t word, ps_dtype dtype)
{
	double huge = dtype == PS_F64 ? DBL_MAX : (double)FLT_MAX;
	double least = dtype == PS_F64 ? DBL_MIN : (double)FLT_MIN;
	const double values[] = {0.0,   -0.0,     least, -least,    least / 4, -least / 8, huge,
	                         -huge, INFINITY, NAN,   -INFINITY, huge / 3,  1,          -1};
	uint64_t which = word % 32;
	return which < sizeof values / sizeof *values ? values[which] : unit(word);
}

static double tiny(uint64_t word, ps_dtype dtype)
{
	double least = dtype == PS_F64 ? DBL_MIN : (double)FLT_MIN;
	switch (word % 4) {
	case 0:
		return word & 4 ? 0.0 : -0.0;
	case 1:
		return least * unit(word) * 3;
	default:
		return least * unit(word);
	}
}

static double value(enum conform_fill fill, uint64_t word, ps_dtype dtype)
{
	switch (fill) {
	case FILL_SPECIAL:
		return special(word, dtype);
	case FILL_LARGE:
		return unit(word) * 1e18;
	case FILL_TINY:
		return tiny(word, dtype);
	case FILL_WHOLE:
		return (double)(word % 17) - 8;
	case FILL_POSITIVE:
		return 1 + unit(word) / 2;
	case FILL_INFINITE:
		return INFINITY;
	case FILL_NAN:
		return NAN;
	case FILL_UNIT:
		break;
	}
	return unit(word);
}

/* Where element (row, column) of the tensor's last dimension lies, counted from its first. */
static int64_t place_of(const struct conform_spec *spec, int64_t index, int64_t *row, int64_t *column)
{
	int64_t columns = spec->rank ? spec->dims[spec->rank - 1] : 1;
	*row = index / columns;
	*column = index % columns;
	return spec->pitch ? *row * spec->pitch + *column : index;
}

static void put(unsigned char *at, ps_dtype dtype, double number)
{
	float single = (float)number;
	int32_t whole = (int32_t)number;
	if (dtype == PS_F64)
		memcpy(at, &number, sizeof number);
	else if (dtype == PS_F32)
		memcpy(at, &single, sizeof single);
	else if (dtype == PS_BF16)
		memcpy(at, &(uint16_t){ps_bf16_round(single)}, sizeof(uint16_t));
	else
		memcpy(at, &whole, sizeof whole);
}

/* An input's element at `column` of its `row`-th last dimension. */
static double element(const struct conform_spec *spec, int64_t row, int64_t column, uint64_t word, ps_dtype dtype)
{
	if (spec->zero)
		return 0;
	if (spec->identity || spec->thirds || spec->causal) {
		int64_t within = row % spec->dims[spec->rank - 2], third = spec->dims[spec->rank - 1] / 3;
		if (spec->identity)
			return within == column;
		if (spec->thirds && column >= 2 * third)
			return within == column - 2 * third;
		if (spec->causal && column > within)
			return 0;
	}
	return value(spec->fill, word, dtype);
}

void ps__conform_image(const struct conform_state *state, struct conform_slot *slot, ps_dtype dtype)
{
	const struct conform_spec *spec = &slot->spec;
	memset(slot->image, 0xA5, slot->bytes);
	uint64_t stream = state->config->seed * 1000003 + (uint64_t)state->set->op * 100 + state->outcome.result.row;
	for (const char *c = spec->name; *c; c++)
		stream = ps__conform_mix(stream + (unsigned char)*c);
	size_t size = ps_dtype_bytes(dtype);
	int64_t count = ps_tensor_count(slot->tensor), row, column;
	for (int64_t i = 0; i < count; i++) {
		unsigned char *at = slot->image + slot->at + (size_t)place_of(spec, i, &row, &column) * size;
		uint64_t word = ps__conform_mix(stream + (uint64_t)i);
		if (spec->role == CONFORM_OUT)
			memset(at, 0xFF, size);
		else if (spec->bound)
			put(at, dtype, (double)(word % (uint64_t)spec->bound));
		else
			put(at, dtype, element(spec, row, column, word, dtype));
	}
}

static void compare_elements(struct conform_state *state, const struct conform_slot *slot, const unsigned char *got)
{
	const struct conform_spec *spec = &slot->spec;
	ps__tolerance tolerance = spec->tolerance;
	tolerance.terms = spec->terms;
	tolerance.zeros = spec->zeros;
	size_t offset = slot->at;
	ps__difference worst = ps__compare(slot->tensor, got + offset, slot->want + offset, &tolerance);
	ps__outcome_compared(&state->outcome, spec->name, &worst);
}

/* But for products, whose algorithms may go by it, what tensors are aligned to changes no value. */
static void compare_bits(struct conform_state *state, const struct conform_slot *slot, const unsigned char *got)
{
	char text[384];
	ps__difference other = ps__compare(slot->tensor, got + slot->at, slot->first + slot->at, &CONFORM_EXACT);
	if (other.bad)
		ps__outcome_differs(&state->outcome, "%s depends on what tensors are aligned to: %s", slot->spec.name,
		                    ps__difference_text(&other, text, sizeof text));
}

void ps__conform_compare(struct conform_state *state, const struct conform_slot *slot, const unsigned char *got)
{
	const struct conform_spec *spec = &slot->spec;
	if (spec->role == CONFORM_IN) {
		if (memcmp(got, slot->image, slot->bytes) != 0)
			ps__outcome_differs(&state->outcome, "%s, an input, or the bytes round it were changed",
			                    spec->name);
		return;
	}
	/* All but the elements must be as before: walk the gaps between consecutive elements. */
	size_t size = ps_dtype_bytes(slot->tensor.dtype), from = 0;
	int64_t count = ps_tensor_count(slot->tensor), row, column;
	for (int64_t i = 0; i <= count; i++) {
		size_t to = i < count ? slot->at + (size_t)place_of(spec, i, &row, &column) * size : slot->bytes;
		if (to > from && memcmp(got + from, slot->image + from, to - from) != 0) {
			ps__outcome_differs(&state->outcome,
			                    "%s: bytes between %zu and %zu, outside of the tensor, were overwritten",
			                    spec->name, from, to);
			break;
		}
		from = to + size;
	}
	if (slot->want)
		compare_elements(state, slot, got);
	if (slot->first && state->set->op != PS_OP_gemm)
		compare_bits(state, slot, got);
}
