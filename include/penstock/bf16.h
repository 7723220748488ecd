/*
 * bfloat16: the upper half of a 32-bit float. Sign and exponent are a float's; of the mantissa 7 bits are left.
 *
 * Host memory holds a BF16 element as a uint16_t. Rounding is to the nearest, ties to even, unless it says otherwise; a
 * NaN stays one.
 */
#ifndef PENSTOCK_BF16_H
#define PENSTOCK_BF16_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

static inline uint32_t ps_float_bits(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	return bits;
}

static inline int ps_bits_are_nan(uint32_t bits)
{
	return (bits & UINT32_C(0x7FFFFFFF)) > UINT32_C(0x7F800000);
}

/* Exact. */
static inline float ps_bf16_widen(uint16_t value)
{
	uint32_t bits = (uint32_t)value << 16;
	float wide;
	memcpy(&wide, &bits, sizeof wide);
	return wide;
}

static inline uint16_t ps_bf16_round(float value)
{
	uint32_t bits = ps_float_bits(value);
	uint32_t nearest = (bits + UINT32_C(0x7FFF) + (bits >> 16 & 1)) >> 16;
	return (uint16_t)(ps_bits_are_nan(bits) ? bits >> 16 | 0x40 : nearest);
}

/*
 * Stochastic rounding: to one of the two neighbours, so that the mean over uniform random words of 16 bits is the value
 * itself. Exact values stay. The word's other bits are not looked at.
 */
static inline uint16_t ps_bf16_round_randomly(float value, uint32_t word)
{
	uint32_t bits = ps_float_bits(value);
	uint32_t rounded = (bits + (word & UINT32_C(0xFFFF))) >> 16;
	return (uint16_t)(ps_bits_are_nan(bits) ? bits >> 16 | 0x40 : rounded);
}

#ifdef __cplusplus
}
#endif
#endif
