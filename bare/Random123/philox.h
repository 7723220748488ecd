/* A stand-in for Random123: Philox4x32-10 (Salmon et al., SC 2011). */
#ifndef PS_BARE_PHILOX_H
#define PS_BARE_PHILOX_H

#include <stdint.h>

typedef struct philox4x32_ctr_t {
	uint32_t v[4];
} philox4x32_ctr_t;
typedef struct philox4x32_key_t {
	uint32_t v[2];
} philox4x32_key_t;

static inline philox4x32_ctr_t philox4x32(philox4x32_ctr_t counter, philox4x32_key_t key)
{
	for (int round = 0; round < 10; round++) {
		uint64_t first = (uint64_t)0xD2511F53U * counter.v[0], second = (uint64_t)0xCD9E8D57U * counter.v[2];
		counter = (philox4x32_ctr_t){{(uint32_t)(second >> 32) ^ counter.v[1] ^ key.v[0], (uint32_t)second,
		                              (uint32_t)(first >> 32) ^ counter.v[3] ^ key.v[1], (uint32_t)first}};
		key.v[0] += 0x9E3779B9U;
		key.v[1] += 0xBB67AE85U;
	}
	return counter;
}

#endif
