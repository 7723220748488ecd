/*
 * What the kernels use of CUDA's warp matrix functions (mma.h) and of its bf16 numbers, for a C++ compiler.
 *
 * The lanes of a warp act together: the last one to come does the work of all. As in CUDA nobody may know which lane
 * has which element of a fragment; here they are strewn, so that code that thinks it knows computes nonsense. What
 * CUDA leaves undefined ends the program with a line that names it: lanes that ask for different things, addresses and
 * distances of rows that are not aligned, elements for tf32 that have not been rounded.
 */
#ifndef PS_TESTS_CUDA_MMA_H
#define PS_TESTS_CUDA_MMA_H

#include "cuda_runtime.h"

#include <cstdio>
#include <cstdlib>
#include <type_traits>

struct __nv_bfloat16 {
	uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
	__nv_bfloat16 x, y;
};

namespace emulated
{

/* To the nearest number with `cut` bits less; half-way to an even one, or away from 0. */
inline float rounded(float value, unsigned cut, bool even)
{
	uint32_t bits = __float_as_uint(value);
	if (value != value)
		return __uint_as_float(0x7FC00000U);
	bits += (1U << (cut - 1)) - (even ? 1U - (bits >> cut & 1U) : 0U);
	return __uint_as_float(bits >> cut << cut);
}

inline float value_of(__nv_bfloat16 element)
{
	return __uint_as_float(uint32_t(element.bits) << 16);
}

[[noreturn]] inline void undefined(const char *what, const char *why)
{
	std::fprintf(stderr, "undefined in CUDA: %s: %s\n", what, why);
	std::abort();
}

} // namespace emulated

inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y)
{
	return {{uint16_t(__float_as_uint(emulated::rounded(x, 16, true)) >> 16)},
	        {uint16_t(__float_as_uint(emulated::rounded(y, 16, true)) >> 16)}};
}

namespace nvcuda
{
namespace wmma
{

struct row_major;
struct col_major;
struct matrix_a;
struct matrix_b;
struct accumulator;
namespace precision
{
struct tf32;
}
enum layout_t { mem_row_major, mem_col_major };

inline float __float_to_tf32(float value)
{
	return emulated::rounded(value, 13, false);
}

template <typename T> struct storage {
	using type = T;
};
template <> struct storage<precision::tf32> {
	using type = float;
};

/* A lane's elements; what nobody has set is NaN. */
template <typename Use, int M, int N, int K, typename T, typename Layout = void> class fragment
{
	static constexpr bool bf16 = std::is_same<T, __nv_bfloat16>::value,
	                      sums = std::is_same<Use, accumulator>::value;
	static_assert(M == 16 && N == 16 && (K == 16 || K == 8), "a shape that is used");
	static_assert(sums      ? std::is_same<T, float>::value
	              : K == 16 ? bf16
	                        : std::is_same<T, precision::tf32>::value,
	              "a type of the shape");

      public:
	using stored = typename storage<T>::type;
	static constexpr int rows = std::is_same<Use, matrix_b>::value ? K : M,
	                     columns = std::is_same<Use, matrix_a>::value ? K : N;
	enum { num_elements = rows * columns / int(emulated::lanes) };
	stored x[num_elements];

	fragment()
	{
		std::memset(x, 0xFF, sizeof x);
	}
	/* Which element of the matrix, row by row, a lane has as its i-th. */
	static constexpr int element(int lane, int i)
	{
		return (i * int(emulated::lanes) + lane) * 37 % (rows * columns);
	}
};

} // namespace wmma
} // namespace nvcuda

namespace emulated
{

/* What a lane asks for. */
struct request : warp_call {
	void *fragments[4];
	const void *memory;
	unsigned step;
};

inline const request &request_of(const warp_call *const *calls, unsigned lane)
{
	return *static_cast<const request *>(calls[lane]);
}

/* The matrix of the lanes' fragments, row by row; and back. */
template <typename F, typename V> void collect(const warp_call *const *calls, int which, V *matrix)
{
	for (unsigned lane = 0; lane < lanes; lane++) {
		const F *one = static_cast<const F *>(request_of(calls, lane).fragments[which]);
		for (int i = 0; i < F::num_elements; i++)
			matrix[F::element(int(lane), i)] = one->x[i];
	}
}
template <typename F, typename V> void strew(const warp_call *const *calls, int which, const V *matrix)
{
	for (unsigned lane = 0; lane < lanes; lane++) {
		F *one = static_cast<F *>(request_of(calls, lane).fragments[which]);
		for (int i = 0; i < F::num_elements; i++)
			one->x[i] = matrix[F::element(int(lane), i)];
	}
}

/* All lanes give the same memory, which is as aligned as it must be. */
inline void check_memory(const warp_call *const *calls, size_t element_bytes)
{
	const request &first = request_of(calls, 0);
	for (unsigned lane = 1; lane < lanes; lane++)
		if (request_of(calls, lane).memory != first.memory || request_of(calls, lane).step != first.step)
			undefined(first.name, "the lanes of a warp give different addresses or distances of rows");
	if (reinterpret_cast<uintptr_t>(first.memory) % 32)
		undefined(first.name, "the address is not aligned to 256 bits");
	if (first.step * element_bytes % 16)
		undefined(first.name, "the distance of rows is no multiple of 16 bytes");
}

template <typename F, bool BY_COLUMN> void load(const warp_call *const *calls)
{
	using T = typename F::stored;
	check_memory(calls, sizeof(T));
	const request &first = request_of(calls, 0);
	T matrix[F::rows * F::columns];
	for (int r = 0; r < F::rows; r++)
		for (int c = 0; c < F::columns; c++)
			matrix[r * F::columns + c] = static_cast<const T *>(
			        first.memory)[BY_COLUMN ? c * int(first.step) + r : r * int(first.step) + c];
	strew<F>(calls, 0, matrix);
}

template <typename F> void store(const warp_call *const *calls)
{
	check_memory(calls, sizeof(float));
	const request &first = request_of(calls, 0);
	float matrix[F::rows * F::columns], *to = static_cast<float *>(const_cast<void *>(first.memory));
	collect<F>(calls, 0, matrix);
	for (int r = 0; r < F::rows; r++)
		for (int c = 0; c < F::columns; c++)
			to[r * int(first.step) + c] = matrix[r * F::columns + c];
}

inline float factor(__nv_bfloat16 element)
{
	return value_of(element);
}
inline float factor(float element)
{
	if (__float_as_uint(element) & 0x1FFF && element == element)
		undefined("mma_sync", "a factor is no tf32 number");
	return element;
}

/* d = a b + c: exact products, each sum rounded to fp32. */
template <typename A, typename B, typename C> void multiply(const warp_call *const *calls)
{
	typename A::stored a[A::rows * A::columns];
	typename B::stored b[B::rows * B::columns];
	float left[A::rows * A::columns], right[B::rows * B::columns], sums[C::rows * C::columns];
	collect<A>(calls, 1, a);
	collect<B>(calls, 2, b);
	collect<C>(calls, 3, sums);
	for (int i = 0; i < A::rows * A::columns; i++)
		left[i] = factor(a[i]);
	for (int i = 0; i < B::rows * B::columns; i++)
		right[i] = factor(b[i]);
	for (int r = 0; r < C::rows; r++)
		for (int k = 0; k < A::columns; k++)
			for (int c = 0; c < C::columns; c++)
				sums[r * C::columns + c] += left[r * A::columns + k] * right[k * B::columns + c];
	strew<C>(calls, 0, sums);
}

inline void ask(const char *name, void (*act)(const warp_call *const *), void *d, const void *a = nullptr,
                const void *b = nullptr, const void *c = nullptr, const void *memory = nullptr, unsigned step = 0)
{
	request one = {};
	one.name = name;
	one.act = act;
	one.fragments[0] = d;
	one.fragments[1] = const_cast<void *>(a);
	one.fragments[2] = const_cast<void *>(b);
	one.fragments[3] = const_cast<void *>(c);
	one.memory = memory;
	one.step = step;
	together(one);
}

} // namespace emulated

namespace nvcuda
{
namespace wmma
{

template <typename F> void fill_fragment(F &fragment, float value)
{
	for (float &element : fragment.x)
		element = value;
}

template <typename Use, int M, int N, int K, typename T, typename Layout>
void load_matrix_sync(fragment<Use, M, N, K, T, Layout> &to, const typename storage<T>::type *from, unsigned step)
{
	using F = fragment<Use, M, N, K, T, Layout>;
	emulated::ask("load_matrix_sync", emulated::load<F, std::is_same<Layout, col_major>::value>, &to, nullptr,
	              nullptr, nullptr, from, step);
}

template <int M, int N, int K>
void store_matrix_sync(float *to, const fragment<accumulator, M, N, K, float> &from, unsigned step, layout_t layout)
{
	using F = fragment<accumulator, M, N, K, float>;
	if (layout != mem_row_major)
		emulated::undefined("store_matrix_sync", "a layout that this stand-in has not");
	emulated::ask("store_matrix_sync", emulated::store<F>, const_cast<F *>(&from), nullptr, nullptr, nullptr, to,
	              step);
}

template <int M, int N, int K, typename T, typename LA, typename LB>
void mma_sync(fragment<accumulator, M, N, K, float> &d, const fragment<matrix_a, M, N, K, T, LA> &a,
              const fragment<matrix_b, M, N, K, T, LB> &b, const fragment<accumulator, M, N, K, float> &c)
{
	using A = fragment<matrix_a, M, N, K, T, LA>;
	using B = fragment<matrix_b, M, N, K, T, LB>;
	using C = fragment<accumulator, M, N, K, float>;
	emulated::ask("mma_sync", emulated::multiply<A, B, C>, &d, &a, &b, &c);
}

} // namespace wmma
} // namespace nvcuda

template <typename F, typename T> void load_shared(F &to, const T *from, unsigned step)
{
	nvcuda::wmma::load_matrix_sync(to, from, step);
}

#endif
