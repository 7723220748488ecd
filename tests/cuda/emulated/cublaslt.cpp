/* The stand-in for cuBLASLt: column-major products by plain loops, as commands of the stand-in's streams. */
#include "cublasLt.h"
#include "block.h"
#include "stream.h"

#include <penstock/bf16.h>

#include <algorithm>
#include <vector>

struct cublasLtContext {
	int device;
};

struct fake_product {
	cudaDataType_t type; /* of the sums */
	bool tf32 = false;
	int transpose_a = 0, transpose_b = 0;
	int epilogue = CUBLASLT_EPILOGUE_DEFAULT;
	const void *bias = nullptr;
};

struct fake_layout {
	cudaDataType_t type;
	int64_t rows, columns, stride;
};

/* What cuBLASLt is promised: bytes of workspace, and how a, b, c and d are aligned. */
struct fake_preference {
	uint64_t workspace = 0;
	uint32_t alignment[4] = {256, 256, 256, 256};
};

namespace
{

/* d is formed in tiles, those of some rows one after the other, for which a stays in a cache; `steps` of k at a time.
 */
constexpr int64_t tile_rows = 128, tile_columns = 4, steps = 4;

/* Algorithms, and what their data has: which one, its workspace, and the alignment of a, b, c, d and the bias. */
constexpr uint64_t PLAIN = 1, SPLITS_MANY = 2, SAYS_SPLIT = 3, REFUSES = 4;
enum { WHICH, WORKSPACE, ALIGNED, BIAS_ALIGNED = ALIGNED + 4 };

template <typename T> struct tile {
	T at[tile_columns][tile_rows];
};

/* Adds `count` rows of a times their elements of op(b)'s columns, one row after the other. */
template <int64_t count, typename T>
void add_rows(tile<T> &to, int64_t rows, const T *a, int64_t stride, const T *b, int64_t step,
              const int64_t (&column)[tile_columns])
{
	T factor[count][tile_columns];
	for (int64_t q = 0; q < count; q++)
		for (int64_t t = 0; t < tile_columns; t++)
			factor[q][t] = b[q * step + column[t]];
	for (int64_t i = 0; i < rows; i++) {
		T s0 = to.at[0][i], s1 = to.at[1][i], s2 = to.at[2][i], s3 = to.at[3][i];
		for (int64_t q = 0; q < count; q++) {
			T value = a[q * stride + i];
			s0 += value * factor[q][0];
			s1 += value * factor[q][1];
			s2 += value * factor[q][2];
			s3 += value * factor[q][3];
		}
		to.at[0][i] = s0, to.at[1][i] = s1, to.at[2][i] = s2, to.at[3][i] = s3;
	}
}

/* sums += k rows of a times op(b)'s columns: each product added up from zero in ascending order of k. */
template <typename T>
void add_products(tile<T> &sums, int64_t rows, const T *a, int64_t stride, int64_t k, const T *b, int64_t step,
                  const int64_t (&column)[tile_columns])
{
	tile<T> part = {};
	int64_t q = 0;
	for (; q + steps <= k; q += steps)
		add_rows<steps>(part, rows, a + q * stride, stride, b + q * step, step, column);
	for (; q < k; q++)
		add_rows<1>(part, rows, a + q * stride, stride, b + q * step, step, column);
	for (int64_t t = 0; t < tile_columns; t++)
		for (int64_t i = 0; i < rows; i++)
			sums.at[t][i] += part.at[t][i];
}

template <typename T> double element(const void *data, cudaDataType_t type, int64_t index)
{
	if (type == CUDA_R_16BF)
		return double(ps_bf16_widen(static_cast<const uint16_t *>(data)[index]));
	return double(static_cast<const T *>(data)[index]);
}

/* Rounded to 10 bits of mantissa. */
float round_tf32(float value)
{
	uint32_t bits = (ps_float_bits(value) + 0x1000U) & 0xFFFFE000U;
	std::memcpy(&value, &bits, sizeof value);
	return value;
}

/* Columns of T, where they lie or copied. */
template <typename T> struct matrix {
	const T *data;
	int64_t stride;
	std::vector<T> own;
};

/* (rows, columns) as T; in tf32, rounded. */
template <typename T> matrix<T> take(const void *data, const fake_layout &l, bool tf32)
{
	if (l.type != CUDA_R_16BF && !tf32)
		return {static_cast<const T *>(data), l.stride, {}};
	std::vector<T> all(size_t(l.rows * l.columns));
	for (int64_t j = 0; j < l.columns; j++) {
		T *to = all.data() + j * l.rows;
		for (int64_t i = 0; i < l.rows; i++)
			to[i] = T(element<T>(data, l.type, j * l.stride + i));
		for (int64_t i = 0; tf32 && i < l.rows; i++)
			to[i] = T(round_tf32(float(to[i])));
	}
	const T *first = all.data();
	return {first, l.rows, std::move(all)};
}

/* The transpose of (k, n), some rows at a time, whose elements share lines of the cache. */
template <typename T> matrix<T> turn(const matrix<T> &a, int64_t n, int64_t k)
{
	constexpr int64_t some = 16;
	std::vector<T> turned(size_t(n * k));
	for (int64_t from = 0; from < k; from += some)
		for (int64_t i = 0; i < n; i++)
			for (int64_t q = from; q < std::min(from + some, k); q++)
				turned[size_t(q * n + i)] = a.data[i * a.stride + q];
	const T *first = turned.data();
	return {first, n, std::move(turned)};
}

/* d = alpha op(a) op(b) + beta c + bias. */
template <typename T>
void multiply(const fake_product &p, int64_t parts, T alpha, const void *a_data, const fake_layout &la,
              const void *b_data, const fake_layout &lb, T beta, const void *c, const fake_layout &lc, void *d,
              const fake_layout &ld)
{
	int64_t n = ld.rows, m = ld.columns, k = p.transpose_a ? la.rows : la.columns;
	const T *bias = static_cast<const T *>(p.bias);
	matrix<T> a = take<T>(a_data, la, p.tf32), b = take<T>(b_data, lb, p.tf32);
	if (p.transpose_a)
		a = turn(a, n, k);
	int64_t step = p.transpose_b ? b.stride : 1, column_step = p.transpose_b ? 1 : b.stride;
	auto finish = [&](T sum, int64_t i, int64_t j) {
		T value = alpha * sum;
		if (beta != T(0))
			value += beta * T(element<T>(c, lc.type, j * lc.stride + i));
		if (p.epilogue == CUBLASLT_EPILOGUE_BIAS)
			value += bias[i];
		if (ld.type == CUDA_R_16BF)
			static_cast<uint16_t *>(d)[j * ld.stride + i] = ps_bf16_round(float(value));
		else
			static_cast<T *>(d)[j * ld.stride + i] = value;
	};
	for (int64_t first = 0; first < n; first += tile_rows)
		for (int64_t j = 0; j < m; j += tile_columns) {
			int64_t rows = std::min(tile_rows, n - first), count = std::min(tile_columns, m - j);
			int64_t column[tile_columns];
			/* What is missing at the end is the last one again. */
			for (int64_t t = 0; t < tile_columns; t++)
				column[t] = (j + std::min(t, count - 1)) * column_step;
			tile<T> sums = {};
			for (int64_t part = 0; part < parts; part++) {
				int64_t from = k * part / parts, to = k * (part + 1) / parts;
				add_products(sums, rows, a.data + from * a.stride + first, a.stride, to - from,
				             b.data + from * step, step, column);
			}
			for (int64_t t = 0; t < count; t++)
				for (int64_t i = 0; i < rows; i++)
					finish(sums.at[t][i], first + i, j + t);
		}
}

template <typename T>
std::function<void()> product_of(const fake_product &p, int64_t parts, const void *alpha, const void *a,
                                 const fake_layout &la, const void *b, const fake_layout &lb, const void *beta,
                                 const void *c, const fake_layout &lc, void *d, const fake_layout &ld)
{
	T alpha_value = *static_cast<const T *>(alpha), beta_value = *static_cast<const T *>(beta);
	return [=] { multiply<T>(p, parts, alpha_value, a, la, b, lb, beta_value, c, lc, d, ld); };
}

/* The dtypes that cuBLASLt multiplies: all the same, or bf16 factors and sums in fp32. */
bool types_fit(const fake_product *p, cudaDataType_t a, cudaDataType_t b, cudaDataType_t d)
{
	if (p->type == CUDA_R_32F && a == CUDA_R_16BF && b == CUDA_R_16BF)
		return d == CUDA_R_32F || (d == CUDA_R_16BF && p->epilogue == CUBLASLT_EPILOGUE_DEFAULT);
	return a == p->type && b == p->type && d == p->type;
}

/* Do the shapes fit together, and the strides the shapes? */
bool fits(const fake_product *p, const fake_layout *a, const fake_layout *b, const fake_layout *d)
{
	int64_t n = p->transpose_a ? a->columns : a->rows, k = p->transpose_a ? a->rows : a->columns;
	int64_t k2 = p->transpose_b ? b->columns : b->rows, m = p->transpose_b ? b->rows : b->columns;
	return n == d->rows && m == d->columns && k == k2 && a->stride >= a->rows && b->stride >= b->rows &&
	       d->stride >= d->rows && types_fit(p, a->type, b->type, d->type);
}

/* Does every column start at a multiple of 16 bytes where tensor cores are fed? cuBLASLt is slow otherwise, or refuses.
 */
bool feeds_tensor_cores(const fake_product *p, const void *data, const fake_layout *l)
{
	uint64_t pitch = uint64_t(l->stride) * (l->type == CUDA_R_16BF ? 2 : 4);
	return (l->type != CUDA_R_16BF && !p->tf32) || (reinterpret_cast<uintptr_t>(data) | pitch) % 16 == 0;
}

bool is_aligned(const void *data, const fake_layout *l, uint64_t to)
{
	uint64_t size = l->type == CUDA_R_64F ? 8 : l->type == CUDA_R_16BF ? 2 : 4;
	return (reinterpret_cast<uintptr_t>(data) | uint64_t(l->stride) * size) % to == 0;
}

/* The largest power of two, up to 256, that divides the address; all of them divide NULL. */
uint64_t alignment_of(const void *data)
{
	uint64_t bits = reinterpret_cast<uintptr_t>(data) | 256;
	return bits & (~bits + 1);
}

/* A handle is for the device that was current when it was made. */
void on_device_of(cublasLtHandle_t handle)
{
	if (handle->device != emulated::device_of_thread())
		emulated::complain("a handle of cuBLASLt on another device than its own");
}

} // namespace

namespace emulated
{
std::atomic<bool> good_algorithms{true};
}

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
	*handle = new cublasLtContext{emulated::device_of_thread()};
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
	emulated::touch_device();
	delete handle;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *product, cublasComputeType_t compute, cudaDataType_t type)
{
	*product = new fake_product;
	(*product)->tf32 = compute == CUBLAS_COMPUTE_32F_FAST_TF32;
	(*product)->type = type;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product)
{
	delete product;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t name,
                                              const void *value, size_t bytes)
{
	void *to = name == CUBLASLT_MATMUL_DESC_TRANSA         ? static_cast<void *>(&product->transpose_a)
	           : name == CUBLASLT_MATMUL_DESC_TRANSB       ? static_cast<void *>(&product->transpose_b)
	           : name == CUBLASLT_MATMUL_DESC_EPILOGUE     ? static_cast<void *>(&product->epilogue)
	           : name == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? static_cast<void *>(&product->bias)
	                                                       : nullptr;
	if (!to || bytes != (name == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? sizeof(void *) : sizeof(int)))
		return CUBLAS_STATUS_INVALID_VALUE;
	std::memcpy(to, value, bytes);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType_t type, uint64_t rows,
                                          uint64_t columns, int64_t stride)
{
	*layout = new fake_layout{type, int64_t(rows), int64_t(columns), stride};
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
	delete layout;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
	*preference = new fake_preference;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
	delete preference;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t name, const void *value,
                                                    size_t bytes)
{
	size_t want = name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? sizeof(uint64_t) : sizeof(uint32_t);
	if (bytes != want)
		return CUBLAS_STATUS_INVALID_VALUE;
	if (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
		std::memcpy(&preference->workspace, value, bytes);
	else if (name >= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES)
		std::memcpy(&preference->alignment[name - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t product, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *result)
{
	on_device_of(handle);
	if (!fits(product, a, b, d))
		return CUBLAS_STATUS_INVALID_VALUE;
	if (product->type == CUDA_R_64F && product->epilogue != CUBLASLT_EPILOGUE_DEFAULT)
		return CUBLAS_STATUS_NOT_SUPPORTED;
	*result = cublasLtMatmulHeuristicResult_t{*algo, size_t(algo->data[WORKSPACE]), CUBLAS_STATUS_SUCCESS};
	return CUBLAS_STATUS_SUCCESS;
}

/*
 * The first one offered splits k and says so, which nobody should take; the second one does so where there are many
 * rows, and does not say so. The third one is good. Where fake.h's control says that there is none, one that refuses to
 * multiply stands in front of the second. All of them make the most of what they are promised: of the preference, and
 * of the pointer of the bias that the description has. Like CUDA 13.3's it has no answer for a thread that captures.
 */
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *count)
{
	if (emulated::captured)
		return CUBLAS_STATUS_INTERNAL_ERROR;
	const uint32_t *align = preference->alignment;
	static const uint64_t all[] = {SAYS_SPLIT, SPLITS_MANY, PLAIN}, bad[] = {SAYS_SPLIT, REFUSES, SPLITS_MANY};
	const uint64_t *offered = emulated::good_algorithms ? all : bad;
	*count = std::min(wanted, 3);
	for (int i = 0; i < *count; i++) {
		cublasLtMatmulAlgo_t algo = {{offered[i], preference->workspace, align[0], align[1], align[2], align[3],
		                              alignment_of(product->bias)}};
		cublasStatus_t status = cublasLtMatmulAlgoCheck(handle, product, a, b, c, d, &algo, &results[i]);
		if (status != CUBLAS_STATUS_SUCCESS)
			return status;
	}
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t, void *value, size_t bytes,
                                                    size_t *written)
{
	int32_t parts = algo->data[WHICH] == SAYS_SPLIT ? 4 : 1;
	if (bytes != sizeof parts)
		return CUBLAS_STATUS_INVALID_VALUE;
	std::memcpy(value, &parts, *written = bytes);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb, const void *beta,
                              const void *c, cublasLtMatrixLayout_t lc, void *d, cublasLtMatrixLayout_t ld,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream)
{
	bool biased = product->epilogue == CUBLASLT_EPILOGUE_BIAS;
	on_device_of(handle);
	if (!fits(product, la, lb, ld) || algo->data[WHICH] == SAYS_SPLIT ||
	    (biased && reinterpret_cast<uintptr_t>(product->bias) % 16) || workspace_bytes < algo->data[WORKSPACE] ||
	    reinterpret_cast<uintptr_t>(workspace) % 16)
		return CUBLAS_STATUS_INVALID_VALUE;
	if (algo->data[WHICH] == REFUSES || !is_aligned(a, la, algo->data[ALIGNED]) ||
	    !is_aligned(b, lb, algo->data[ALIGNED + 1]) || !is_aligned(c, lc, algo->data[ALIGNED + 2]) ||
	    !is_aligned(d, ld, algo->data[ALIGNED + 3]) ||
	    (biased && alignment_of(product->bias) < algo->data[BIAS_ALIGNED]))
		return CUBLAS_STATUS_NOT_SUPPORTED;
	if (!feeds_tensor_cores(product, a, la) || !feeds_tensor_cores(product, b, lb) ||
	    (ld->type == CUDA_R_16BF && !feeds_tensor_cores(product, d, ld)))
		return CUBLAS_STATUS_NOT_SUPPORTED;
	int64_t parts = algo->data[WHICH] == SPLITS_MANY && ld->columns > 32 ? 2 : 1;
	std::function<void()> body =
	        product->type == CUDA_R_64F
	                ? product_of<double>(*product, parts, alpha, a, *la, b, *lb, beta, c, *lc, d, *ld)
	                : product_of<float>(*product, parts, alpha, a, *la, b, *lb, beta, c, *lc, d, *ld);
	/* As a kernel of one thread that the emulation runs 32 times: only the first one works. */
	cudaError_t error = emulated::enqueue_apart(stream, dim3(1), dim3(emulated::lanes), 0, [body] {
		if (emulated::here().thread.x == 0)
			body();
	});
	return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

} // extern "C"
