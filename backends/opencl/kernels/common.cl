/*
 * What all kernels share. The host defines VEC (elements of a vector: 1, 2, 4, 8 or 16), GROUP (work-items that share
 * a row), SPAN (see norm.cl), LANES (work-items of a group of single elements), FP64 where the device has doubles, and
 * WIDE to build for doubles. A tensor comes as its buffer and the index of its first element.
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
#define REAL double
typedef VECTOR(double) realv;
typedef VECTOR(long) maskv;
#define TO_REALV JOIN(convert_, VECTOR(double))
#define TO_MASK JOIN(convert_, VECTOR(long))
#ifdef FP_FAST_FMA
#define FAST_FMA
#endif
#else
#define REAL float
typedef VECTOR(float) realv;
typedef VECTOR(int) maskv;
#define TO_REALV JOIN(convert_, VECTOR(float))
#define TO_MASK JOIN(convert_, VECTOR(int))
#ifdef FP_FAST_FMAF
#define FAST_FMA
#endif
#endif
typedef REAL real;
typedef VECTOR(uint) uintv;
/* The same bits in half as many numbers. */
#if VEC == 16
typedef ulong8 ulonghalf;
#define AS_PAIRS as_ulong8
#elif VEC == 8
typedef ulong4 ulonghalf;
#define AS_PAIRS as_ulong4
#else
typedef ulong2 ulonghalf;
#define AS_PAIRS as_ulong2
#endif
#define AS_UINTV JOIN(as_, VECTOR(uint))

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

/* All elements of a vector joined, halves first: an order that its length alone decides. */
#define FOLD(name, join)                 \
	static real name(realv v)        \
	{                                \
		FOLD_HALVES(join)        \
		return join(v2.x, v2.y); \
	}
#if VEC == 16
#define FOLD_HALVES(join)                      \
	JOIN(REAL, 8) v8 = join(v.lo, v.hi);   \
	JOIN(REAL, 4) v4 = join(v8.lo, v8.hi); \
	JOIN(REAL, 2) v2 = join(v4.lo, v4.hi);
#elif VEC == 8
#define FOLD_HALVES(join)                    \
	JOIN(REAL, 4) v4 = join(v.lo, v.hi); \
	JOIN(REAL, 2) v2 = join(v4.lo, v4.hi);
#else
#define FOLD_HALVES(join) JOIN(REAL, 2) v2 = join(v.lo, v.hi);
#endif
#define SUM(a, b) ((a) + (b))
FOLD(sum_of, SUM)
FOLD(most_of, fmax)

/* Over a row's group, in an order that the group's size alone decides. All work-items come here and get the result. */
#define GROUP_FOLD(name, type, join)                                                 \
	static type name(__local type *scratch, type value)                          \
	{                                                                            \
		int me = get_local_id(0);                                            \
		scratch[me] = value;                                                 \
		barrier(CLK_LOCAL_MEM_FENCE);                                        \
		for (int step = GROUP / 2; step > 0; step /= 2) {                    \
			if (me < step)                                               \
				scratch[me] = join(scratch[me], scratch[me + step]); \
			barrier(CLK_LOCAL_MEM_FENCE);                                \
		}                                                                    \
		type result = scratch[0];                                            \
		barrier(CLK_LOCAL_MEM_FENCE);                                        \
		return result;                                                       \
	}
GROUP_FOLD(group_sum, real, SUM)
GROUP_FOLD(group_most, real, fmax)

/* Written so that a NaN stays one. */
static realv relu(realv x)
{
	return select(x, (realv)(0), TO_MASK(x <= (realv)(0)));
}

/*
 * A dropout site: Philox4x32-10 as docs/random.md states it. `tag` is layer * 256 + site; `dropping` is 0 when p is.
 * The words of CHUNK neighbouring elements are made at once, VEC blocks side by side.
 */
#define CHUNK (4 * VEC)
#define DROP uint key0, uint key1, uint step, uint tag, uint first_row, uint threshold, real factor, int dropping
#define DROP_PLACE key0, key1, step, tag

__constant uint numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* Every second element from a and from b: the first and the second half of all. */
static uintv zip_low(uintv a, uintv b)
{
	uintv both;
	both.even = a.lo;
	both.odd = b.lo;
	return both;
}

static uintv zip_high(uintv a, uintv b)
{
	uintv both;
	both.even = a.hi;
	both.odd = b.hi;
	return both;
}

/* Both words of the products. x86 has them for every second element only, which mul_hi does not make use of. */
static void multiply(uint m, uintv x, uintv *high, uintv *low)
{
#ifdef ON_CPU
	const ulonghalf mask = (ulonghalf)(0xFFFFFFFFUL), factor = (ulonghalf)((ulong)m);
	ulonghalf pairs = AS_PAIRS(x), even = (pairs & mask) * factor, odd = (pairs >> 32) * factor;
	*high = AS_UINTV((even >> 32) | (odd & ~mask));
	*low = AS_UINTV((even & mask) | (odd << 32));
#else
	*high = mul_hi((uintv)(m), x);
	*low = m * x;
#endif
}

/* The words of CHUNK elements from 4 * block on, of sample row `row` of the whole batch. */
static void words_of_blocks(uint *words, uint block, uint row, uint key0, uint key1, uint step, uint tag)
{
	uintv c0 = LOAD(numbers, 0) + block, c1 = (uintv)(row), c2 = (uintv)(step), c3 = (uintv)(tag);
	const uint m0 = 0xD2511F53U, m1 = 0xCD9E8D57U;
	for (int round = 0; round < 10; round++) {
		uintv high0, low0, high1, low1;
		multiply(m0, c0, &high0, &low0);
		multiply(m1, c2, &high1, &low1);
		c0 = high1 ^ c1 ^ key0;
		c1 = low1;
		c2 = high0 ^ c3 ^ key1;
		c3 = low0;
		key0 += 0x9E3779B9U;
		key1 += 0xBB67AE85U;
	}
	uintv even = zip_low(c0, c2), odd = zip_low(c1, c3);
	STORE(zip_low(even, odd), words, 0);
	STORE(zip_high(even, odd), words, VEC);
	even = zip_high(c0, c2);
	odd = zip_high(c1, c3);
	STORE(zip_low(even, odd), words, 2 * VEC);
	STORE(zip_high(even, odd), words, 3 * VEC);
}

/* The same from any element on. */
static void words_of(uint *words, long element, uint row, uint key0, uint key1, uint step, uint tag)
{
	uint block = (uint)(element / 4);
	int skip = (int)(element % 4);
	if (skip == 0) {
		words_of_blocks(words, block, row, key0, key1, step, tag);
		return;
	}
	uint all[2 * CHUNK];
	words_of_blocks(all, block, row, key0, key1, step, tag);
	words_of_blocks(all + CHUNK, block + VEC, row, key0, key1, step, tag);
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
