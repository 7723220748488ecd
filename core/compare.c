/* Comparing tensors element by element, in double. */
#include "core/compare.h"

#include <penstock/bf16.h>

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* The distance from 1 to the next BF16 number. */
#define BF16_EPSILON (1.0 / 128)

ps__tolerance ps__tolerance_of_sum(int64_t count)
{
	double root = sqrt((double)count);
	return (ps__tolerance){.f32 = 1e-6 + 4e-7 * root, .f64 = 1e-14 + 1e-15 * root};
}

/* A walk over the elements of a strided tensor in row-major order. */
struct walk {
	const ps_tensor *as;
	int64_t index, count, place; /* place: elements from the first one */
	int64_t at[PS_MAX_RANK];
};

static struct walk begin(const ps_tensor *as)
{
	return (struct walk){.as = as, .count = ps_tensor_count(*as)};
}

static void advance(struct walk *walk)
{
	const ps_tensor *as = walk->as;
	walk->index++;
	for (int i = as->rank - 1; i >= 0; i--) {
		walk->place += as->strides[i];
		if (++walk->at[i] < as->dims[i])
			return;
		walk->place -= walk->at[i] * as->strides[i];
		walk->at[i] = 0;
	}
}

double ps__element(const void *from, ps_dtype dtype, int64_t place)
{
	const unsigned char *at = (const unsigned char *)from + (size_t)place * ps_dtype_bytes(dtype);
	double number;
	float single;
	int32_t whole;
	uint16_t half;
	if (dtype == PS_BF16)
		return memcpy(&half, at, sizeof half), (double)ps_bf16_widen(half);
	if (dtype == PS_F64)
		return memcpy(&number, at, sizeof number), number;
	if (dtype == PS_F32)
		return memcpy(&single, at, sizeof single), (double)single;
	return memcpy(&whole, at, sizeof whole), (double)whole;
}

/* Of the finite values; those whose squares would overflow are left out. */
static double root_mean_square(ps_tensor as, const void *values)
{
	double sum = 0;
	int64_t finite = 0;
	for (struct walk walk = begin(&as); walk.index < walk.count; advance(&walk)) {
		double number = ps__element(values, as.dtype, walk.place);
		if (isfinite(number) && fabs(number) < 1e150) {
			sum += number * number;
			finite++;
		}
	}
	return finite ? sqrt(sum / (double)finite) : 0;
}

/* What the comparison of a tensor goes by. */
struct measure {
	double tolerance, scale, least, epsilon; /* of whole numbers, the last is 0: an ULP is 1 */
	bool zeros;
};

static struct measure measure_of(ps_tensor as, const void *want, const ps__tolerance *tolerance)
{
	if (as.dtype == PS_I32)
		return (struct measure){0};
	bool wide = as.dtype == PS_F64, half = as.dtype == PS_BF16;
	double allowed = wide ? tolerance->f64 : tolerance->f32;
	return (struct measure){.tolerance = half && allowed > 0 ? allowed + BF16_EPSILON : allowed,
	                        .scale = fmax(root_mean_square(as, want), tolerance->terms),
	                        .least = wide ? DBL_MIN : (double)FLT_MIN,
	                        .epsilon = wide   ? DBL_EPSILON
	                                   : half ? BF16_EPSILON
	                                          : (double)FLT_EPSILON,
	                        .zeros = tolerance->zeros};
}

/* The error of one element as a multiple of what is allowed, and in ULPs. */
static double share_of(const struct measure *measure, double got, double want, double *ulps)
{
	*ulps = 0;
	if (got == want || (isnan(want) && isnan(got)))
		return 0;
	*ulps = INFINITY;
	if (!isfinite(got) || !isfinite(want))
		return INFINITY;
	double off = fabs(got - want), scale = fmax(fmax(fabs(want), measure->scale), measure->least);
	int exponent;
	frexp(scale, &exponent);
	double ulp = measure->epsilon > 0 ? ldexp(measure->epsilon, exponent - 1) : 1;
	*ulps = off <= measure->least ? 0 : off / ulp;
	if (off <= measure->least)
		return 0;
	return measure->tolerance > 0 ? off / (measure->tolerance * scale + measure->least) : INFINITY;
}

ps__difference ps__compare(ps_tensor as, const void *got, const void *want, const ps__tolerance *tolerance)
{
	struct measure measure = measure_of(as, want, tolerance);
	ps__difference out = {.dtype = as.dtype, .rank = as.rank, .worst = -1};
	for (struct walk walk = begin(&as); walk.index < walk.count; advance(&walk)) {
		double is = ps__element(got, as.dtype, walk.place), should = ps__element(want, as.dtype, walk.place),
		       ulps;
		double share = share_of(&measure, is, should, &ulps);
		if (measure.zeros && (is == 0) != (should == 0)) {
			out.misplaced++;
			share = INFINITY;
		}
		out.bad += share > 1;
		if (out.worst >= 0 && (share < out.share || (share == out.share && ulps <= out.ulps)))
			continue;
		out.worst = walk.index;
		memcpy(out.at, walk.at, sizeof out.at);
		out.got = is;
		out.want = should;
		out.ulps = ulps;
		out.share = share;
	}
	out.count = ps_tensor_count(as);
	return out;
}

const char *ps__difference_text(const ps__difference *difference, char *text, size_t bytes)
{
	char at[PS_MAX_RANK * 24] = "";
	size_t used = 0;
	for (int i = 0; i < difference->rank; i++) {
		int length = snprintf(at + used, sizeof at - used, "%s%" PRId64, i ? ", " : "", difference->at[i]);
		used += length > 0 ? (size_t)length : 0;
	}
	int digits = difference->dtype == PS_F64 ? 17 : 9;
	char times[64] = "";
	if (difference->misplaced)
		snprintf(times, sizeof times, ", %" PRId64 " zeros misplaced", difference->misplaced);
	else if (isfinite(difference->share))
		snprintf(times, sizeof times, ", %.3g times the tolerance", difference->share);
	snprintf(text, bytes,
	         "%" PRId64 " of %" PRId64 " elements differ; worst [%s] is %.*g, should be %.*g (%.3g ULPs%s)",
	         difference->bad, difference->count, at, digits, difference->got, digits, difference->want,
	         difference->ulps, times);
	return text;
}
