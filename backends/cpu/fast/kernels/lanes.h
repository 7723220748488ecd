/*
 * Sums and maxima over features, and exp. A reduction keeps LANES partial results whatever the width of the machine's
 * vectors, so that its order depends on the number of elements only.
 */
#ifndef PS_FAST_KERNELS_LANES_H
#define PS_FAST_KERNELS_LANES_H

#include <math.h>
#include <stdint.h>

enum { LANES = 16 };

static inline int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* By halves, so that additions do not wait for each other. */
static inline double lanes_sum(const float lanes[LANES])
{
	double sums[LANES / 2];
#pragma omp simd
	for (int l = 0; l < LANES / 2; l++)
		sums[l] = (double)lanes[l] + (double)lanes[l + LANES / 2];
	for (int half = LANES / 4; half > 0; half /= 2)
		for (int l = 0; l < half; l++)
			sums[l] += sums[l + half];
	return sums[0];
}

static inline float lanes_max(const float lanes[LANES])
{
	float most[LANES / 2];
#pragma omp simd
	for (int l = 0; l < LANES / 2; l++)
		most[l] = lanes[l] > lanes[l + LANES / 2] ? lanes[l] : lanes[l + LANES / 2];
	for (int half = LANES / 4; half > 0; half /= 2)
		for (int l = 0; l < half; l++)
			most[l] = most[l] > most[l + half] ? most[l] : most[l + half];
	return most[0];
}

static inline double sum_of(const float *restrict x, int64_t count)
{
	float lanes[LANES] = {0};
	int64_t i = 0;
	for (; i + LANES <= count; i += LANES)
#pragma omp simd
		for (int l = 0; l < LANES; l++)
			lanes[l] += x[i + l];
	for (int l = 0; i + l < count; l++)
		lanes[l] += x[i + l];
	return lanes_sum(lanes);
}

/* A NaN is passed over; the exponentials bring it back. */
static inline float max_of(const float *restrict x, int64_t count)
{
	float lanes[LANES];
	for (int l = 0; l < LANES; l++)
		lanes[l] = -INFINITY;
	int64_t i = 0;
	for (; i + LANES <= count; i += LANES)
#pragma omp simd
		for (int l = 0; l < LANES; l++)
			lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
	for (int l = 0; i + l < count; l++)
		lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
	return lanes_max(lanes);
}

/*
 * e^x within 1 ulp for x <= 88, 0 below the smallest normal result. x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 comes in
 * two parts so that n times the first is exact; e^r is a minimax polynomial (Cephes, expf).
 */
static inline float exp_of(float x)
{
	const float shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer, which stands in the low bits */
	union {
		float f;
		uint32_t u;
	} n, scale;
	float at = x < -87.33654f ? -87.33654f : x;
	n.f = at * 1.44269504088896341f + shift;
	float whole = n.f - shift;
	float r = at - whole * 0.693359375f;
	r = r - whole * -2.12194440e-4f;
	float p = 1.9875691500e-4f;
	p = p * r + 1.3981999507e-3f;
	p = p * r + 8.3334519073e-3f;
	p = p * r + 4.1665795894e-2f;
	p = p * r + 1.6666665459e-1f;
	p = p * r + 5.0000001201e-1f;
	p = p * (r * r) + r + 1.0f;
	scale.u = (n.u << 23) + UINT32_C(0x3F800000);
	p *= scale.f;
	return x < -87.33654f ? 0.0f : p;
}

/* y = e^(x - most), and their sum; y may be x. Blocks keep the float sums short. */
static inline double exp_and_sum(const float *x, float *y, int64_t count, float most)
{
	enum { BLOCK = 1024 };
	double sum = 0;
	for (int64_t first = 0; first < count; first += BLOCK) {
		int64_t n = least(BLOCK, count - first), i = 0;
		float lanes[LANES] = {0};
		for (; i + LANES <= n; i += LANES)
#pragma omp simd
			for (int l = 0; l < LANES; l++) {
				y[first + i + l] = exp_of(x[first + i + l] - most);
				lanes[l] += y[first + i + l];
			}
		for (int l = 0; i + l < n; l++) {
			y[first + i + l] = exp_of(x[first + i + l] - most);
			lanes[l] += y[first + i + l];
		}
		sum += lanes_sum(lanes);
	}
	return sum;
}

/* The same without keeping the exponentials. */
static inline double exp_sum(const float *x, int64_t count, float most)
{
	enum { BLOCK = 1024 };
	float y[BLOCK];
	double sum = 0;
	for (int64_t first = 0; first < count; first += BLOCK) {
		int64_t n = least(BLOCK, count - first);
#pragma omp simd
		for (int64_t i = 0; i < n; i++)
			y[i] = exp_of(x[first + i] - most);
		sum += sum_of(y, n);
	}
	return sum;
}

#endif
