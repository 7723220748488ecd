/* Random numbers and dropout, as docs/random.md lays them out. A part of common.cuh, which includes it. */
#ifndef PS_BACKENDS_CUDA_KERNELS_DROPOUT_CUH
#define PS_BACKENDS_CUDA_KERNELS_DROPOUT_CUH

#include "backends/cuda/kernels/common.cuh"

namespace ps
{

/* Philox4x32-10 (Salmon et al., SC 2011): the words of one block. */
struct words {
	uint32_t w[4];
};

__device__ inline uint32_t step_of(const ps_cuda_dropout &d)
{
	return d.turn ? __ldg(&d.turn->step) : d.step;
}

__device__ inline words philox(const ps_cuda_dropout &d, uint32_t row, uint32_t block)
{
	uint32_t c0 = block, c1 = row, c2 = step_of(d), c3 = d.place, k0 = d.key[0], k1 = d.key[1];
#pragma unroll
	for (int round = 0; round < 10; round++) {
		uint32_t high0 = __umulhi(0xD2511F53U, c0), low0 = 0xD2511F53U * c0;
		uint32_t high1 = __umulhi(0xCD9E8D57U, c2), low1 = 0xCD9E8D57U * c2;
		c0 = high1 ^ c1 ^ k0;
		c1 = low1;
		c2 = high0 ^ c3 ^ k1;
		c3 = low0;
		k0 += 0x9E3779B9U;
		k1 += 0xBB67AE85U;
	}
	return words{{c0, c1, c2, c3}};
}

__device__ inline uint32_t word_at(const words &block, int64_t element)
{
	/* Without an index into registers. */
	uint32_t low = element & 1 ? block.w[1] : block.w[0], high = element & 1 ? block.w[3] : block.w[2];
	return element & 2 ? high : low;
}

/* A product that is rounded, whatever is added to it. */
__device__ inline float product(float a, float b)
{
	return __fmul_rn(a, b);
}
__device__ inline double product(double a, double b)
{
	return __dmul_rn(a, b);
}

/* value / (1 - p) or 0, by the mask's word. */
template <typename T> __device__ inline T drop_by(const ps_cuda_dropout &d, uint32_t word, T value)
{
	return word >= d.threshold ? product(value, T(d.factor)) : T(0);
}

/* Dropout of the four neighbours that a random block is for. */
template <typename T>
__device__ inline void drop_block(const ps_cuda_dropout &d, uint32_t row, uint32_t block, T (&value)[4])
{
	words random = philox(d, row, block);
#pragma unroll
	for (int i = 0; i < 4; i++)
		value[i] = drop_by(d, random.w[i], value[i]);
}

/* Dropout of four neighbours within one sample row, from `element` on. */
template <typename T>
__device__ inline void drop4_in_row(const ps_cuda_dropout &d, uint32_t row, int64_t element, T (&value)[4])
{
	if (element % 4 == 0) {
		drop_block(d, row, uint32_t(element / 4), value);
		return;
	}
	words block = philox(d, row, uint32_t(element / 4)), next = philox(d, row, uint32_t(element / 4) + 1);
#pragma unroll
	for (int i = 0; i < 4; i++) {
		bool here = (element + i) / 4 == element / 4;
		/* Not a choice between the blocks, which would put both into memory. */
		uint32_t word = here ? word_at(block, element + i) : word_at(next, element + i);
		value[i] = drop_by(d, word, value[i]);
	}
}

/* Dropout of the elements [at, at + 4) of a tensor with `elements` in each sample row. */
template <typename T>
__device__ inline void drop4(const ps_cuda_dropout &d, int64_t elements, int64_t at, T (&value)[4])
{
	if (!d.active)
		return;
	int64_t row = quotient(at, elements), element = at - row * elements;
	if (element + 4 <= elements) {
		drop4_in_row(d, d.first_row + uint32_t(row), element, value);
		return;
	}
	/* The last ones of a row that is no multiple of four, and the first ones of the next. */
	for (int i = 0; i < 4; i++, element++) {
		if (element == elements) {
			element = 0;
			row++;
		}
		words block = philox(d, d.first_row + uint32_t(row), uint32_t(element / 4));
		value[i] = drop_by(d, word_at(block, element), value[i]);
	}
}

/* `d` with its step read, for what uses it more than once. */
__device__ inline ps_cuda_dropout this_step(ps_cuda_dropout d)
{
	if (d.active)
		d.step = step_of(d);
	d.turn = nullptr;
	return d;
}

/* A matrix row: what dropout needs of it is worked out once for all its columns. */
struct dropped_row {
	ps_cuda_dropout drop;
	int64_t elements, at; /* in each sample row; of the tensor, where this row begins */
	int64_t element;      /* the same within its sample row */
	uint32_t sample;
};

/* The row at `at`, which is in the sample row `sample` of the tensor. */
__device__ inline dropped_row row_in(const ps_cuda_dropout &drop, int64_t elements, int64_t at, int64_t sample)
{
	return {drop, elements, at, at - sample * elements, drop.first_row + uint32_t(sample)};
}

__device__ inline dropped_row row_at(const ps_cuda_dropout &drop, int64_t elements, int64_t at)
{
	return row_in(drop, elements, at, drop.active ? quotient(at, elements) : 0);
}

/* Dropout of the quad at `column`. WHOLE: a random block is for it alone, for rows are multiples of four. */
template <bool WHOLE, typename T> __device__ inline void drop4(const dropped_row &row, int64_t column, T (&value)[4])
{
	if (!WHOLE)
		drop4(row.drop, row.elements, row.at + column, value);
	else if (row.drop.active)
		drop_block(row.drop, row.sample, uint32_t((row.element + column) / 4), value);
}

} // namespace ps

#endif
