/* Philox4x32-10 through Random123; see docs/random.md. */
#include <penstock/random.h>

#include <Random123/philox.h>

void ps_random_block(const ps_random_place *place, uint32_t row, uint32_t block, uint32_t out[4])
{
	philox4x32_key_t key = {{(uint32_t)place->seed, (uint32_t)(place->seed >> 32)}};
	philox4x32_ctr_t counter = {{block, row, place->step, place->layer << 8 | place->site}};
	philox4x32_ctr_t words = philox4x32(counter, key);
	for (int i = 0; i < 4; i++)
		out[i] = words.v[i];
}

uint32_t ps_random_word(const ps_random_place *place, uint32_t row, uint64_t element)
{
	uint32_t words[4];
	ps_random_block(place, row, (uint32_t)(element / 4), words);
	return words[element % 4];
}

uint32_t ps_random_threshold(double p)
{
	return (uint32_t)(p * 4294967296.0);
}

void ps_random_uniform(const ps_random_place *place, double low, double high, uint64_t first, size_t count,
                       float *values)
{
	uint32_t words[4] = {0};
	for (size_t i = 0; i < count; i++) {
		uint64_t element = first + i;
		if (i == 0 || element % 4 == 0)
			ps_random_block(place, 0, (uint32_t)(element / 4), words);
		double unit = (double)words[element % 4] / 4294967296.0;
		values[i] = (float)(low + (high - low) * unit);
	}
}
