/*
 * What all kernels share. The host defines VEC (elements of a vector: 1, 2, 4, 8 or 16), GROUP (work-items that share
 * a row), LANES (work-items of a group of single elements), FP64 where the device has doubles, and WIDE to build for
 * doubles. A tensor comes as its buffer and the index of its first element.
 *
 * Nothing is contracted behind our back: what is to be one rounding says so with MAD.
 */
#ifdef FP64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif
#pragma OPENCL FP_CONTRACT OFF

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#if VEC == 1
#define VECTOR(type) type
#else
#define VECTOR(type) JOIN(type, VEC)
#endif

#ifdef WIDE
typedef double real;
typedef VECTOR(double) realv;
typedef VECTOR(long) maskv;
#define TO_REALV JOIN(convert_, VECTOR(double))
#define TO_MASK JOIN(convert_, VECTOR(long))
#ifdef FP_FAST_FMA
#define FAST_FMA
#endif
#else
typedef float real;
typedef VECTOR(float) realv;
typedef VECTOR(int) maskv;
#define TO_REALV JOIN(convert_, VECTOR(float))
#define TO_MASK JOIN(convert_, VECTOR(int))
#ifdef FP_FAST_FMAF
#define FAST_FMA
#endif
#endif
typedef VECTOR(uint) uintv;

#ifdef FAST_FMA
#define MAD(a, b, c) fma((a), (b), (c))
#else
#define MAD(a, b, c) ((a) * (b) + (c))
#endif

#if VEC == 1
#define LOAD(p, i) ((p)[i])
#define STORE(v, p, i) ((p)[i] = (v))
#else
#define LOAD(p, i) JOIN(vload, VEC)(0, (p) + (i))
#define STORE(v, p, i) JOIN(vstore, VEC)((v), 0, (p) + (i))
#endif

/* A tensor among the parameters, and its name made usable in the body. */
#define IN(type, name) __global const type *name##_buffer, long name##_at
#define OUT(type, name) __global type *name##_buffer, long name##_at
#define USE_IN(type, name) __global const type *name = name##_buffer + name##_at
#define USE_OUT(type, name) __global type *name = name##_buffer + name##_at

#define ELEMENT_KERNEL __kernel __attribute__((reqd_work_group_size(LANES, 1, 1)))
#define ROW_KERNEL __kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))
#define SINGLE_KERNEL __kernel __attribute__((reqd_work_group_size(1, 1, 1)))

/* VEC elements from i on; those from `end` on, which are not read, are `pad`. */
static realv load_some(__global const real *p, long i, long end, real pad)
{
	if (i + VEC <= end)
		return LOAD(p, i);
	real part[VEC];
	for (int k = 0; k < VEC; k++)
		part[k] = i + k < end ? p[i + k] : pad;
	return LOAD(part, 0);
}

static void store_some(realv v, __global real *p, long i, long end)
{
	if (i + VEC <= end) {
		STORE(v, p, i);
		return;
	}
	real part[VEC];
	STORE(v, part, 0);
	for (int k = 0; k < VEC && i + k < end; k++)
		p[i + k] = part[k];
}

static real sum_of(realv v)
{
	real part[VEC];
	STORE(v, part, 0);
	for (int step = VEC / 2; step > 0; step /= 2)
		for (int k = 0; k < step; k++)
			part[k] += part[k + step];
	return part[0];
}

static real most_of(realv v)
{
	real part[VEC];
	STORE(v, part, 0);
	for (int step = VEC / 2; step > 0; step /= 2)
		for (int k = 0; k < step; k++)
			part[k] = fmax(part[k], part[k + step]);
	return part[0];
}

/* Over a row's group, in an order that the group's size alone decides. All work-items come here and get the result. */
static real group_sum(__local real *scratch, real value)
{
	int me = get_local_id(0);
	scratch[me] = value;
	barrier(CLK_LOCAL_MEM_FENCE);
	for (int step = GROUP / 2; step > 0; step /= 2) {
		if (me < step)
			scratch[me] += scratch[me + step];
		barrier(CLK_LOCAL_MEM_FENCE);
	}
	real result = scratch[0];
	barrier(CLK_LOCAL_MEM_FENCE);
	return result;
}

static real group_most(__local real *scratch, real value)
{
	int me = get_local_id(0);
	scratch[me] = value;
	barrier(CLK_LOCAL_MEM_FENCE);
	for (int step = GROUP / 2; step > 0; step /= 2) {
		if (me < step)
			scratch[me] = fmax(scratch[me], scratch[me + step]);
		barrier(CLK_LOCAL_MEM_FENCE);
	}
	real result = scratch[0];
	barrier(CLK_LOCAL_MEM_FENCE);
	return result;
}

/* Written so that a NaN stays one. */
static realv relu(realv x)
{
	return select(x, (realv)(0), TO_MASK(x <= (realv)(0)));
}

/*
 * A dropout site: Philox4x32-10 as docs/random.md states it. `tag` is layer * 256 + site; `dropping` is 0 when p is.
 * The words of CHUNK neighbouring elements are made at once, four blocks side by side.
 */
#define CHUNK 16
#define DROP uint key0, uint key1, uint step, uint tag, uint first_row, uint threshold, real factor, int dropping
#define DROP_PLACE key0, key1, step, tag

static void philox(uint4 c0, uint row, uint key0, uint key1, uint step, uint tag, uint4 *w0, uint4 *w1, uint4 *w2,
                   uint4 *w3)
{
	uint4 c1 = (uint4)(row), c2 = (uint4)(step), c3 = (uint4)(tag);
	const uint4 m0 = (uint4)(0xD2511F53U), m1 = (uint4)(0xCD9E8D57U);
	for (int round = 0; round < 10; round++) {
		uint4 high0 = mul_hi(m0, c0), low0 = m0 * c0, high1 = mul_hi(m1, c2), low1 = m1 * c2;
		c0 = high1 ^ c1 ^ key0;
		c1 = low1;
		c2 = high0 ^ c3 ^ key1;
		c3 = low0;
		key0 += 0x9E3779B9U;
		key1 += 0xBB67AE85U;
	}
	*w0 = c0;
	*w1 = c1;
	*w2 = c2;
	*w3 = c3;
}

/* The words of CHUNK elements from `element` on, of sample row `row` of the whole batch. */
static void words_of(uint *words, long element, uint row, uint key0, uint key1, uint step, uint tag)
{
	uint block = (uint)(element / 4);
	uint4 w0, w1, w2, w3;
	philox((uint4)(block, block + 1, block + 2, block + 3), row, key0, key1, step, tag, &w0, &w1, &w2, &w3);
	uint16 whole = (uint16)(w0.s0, w1.s0, w2.s0, w3.s0, w0.s1, w1.s1, w2.s1, w3.s1, w0.s2, w1.s2, w2.s2, w3.s2,
	                        w0.s3, w1.s3, w2.s3, w3.s3);
	int skip = (int)(element % 4);
	if (skip == 0) {
		vstore16(whole, 0, words);
		return;
	}
	uint all[CHUNK + 4];
	vstore16(whole, 0, all);
	philox((uint4)(block + 4), row, key0, key1, step, tag, &w0, &w1, &w2, &w3);
	all[CHUNK] = w0.s0;
	all[CHUNK + 1] = w1.s0;
	all[CHUNK + 2] = w2.s0;
	all[CHUNK + 3] = w3.s0;
	for (int k = 0; k < CHUNK; k++)
		words[k] = all[skip + k];
}

/* x where its word keeps it, times the factor; 0 elsewhere, whatever x was. */
static realv drop(realv x, const uint *words, uint threshold, real factor)
{
	uintv word = LOAD(words, 0);
	return select((realv)(0), x * factor, TO_MASK(word >= (uintv)(threshold)));
}

#define NO_FAULT 0x7fffffff
