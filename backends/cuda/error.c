/* What CUDA's and cuBLAS's codes are called, and the status that goes with them. */
#include "backends/cuda/cuda.h"

ps_status ps__cuda_fail(const char *where, const char *what, cudaError_t error)
{
	/* Takes a code that does not stick out of the thread's state, so that the next launch does not report it. */
	(void)cudaGetLastError();
	ps_status status = error == cudaErrorMemoryAllocation ? PS_ENOMEM : PS_EDEVICE;
	const char *end = "";
	for (const char *c = what; *c; c++)
		if (*c == '(') {
			end = c;
			break;
		}
	int length = *end ? (int)(end - what) : 1000;
	return ps_fail(status, "%s: %.*s: %s (%s)", where, length, what, cudaGetErrorString(error),
	               cudaGetErrorName(error));
}

const char *ps__cublas_error_name(cublasStatus_t status)
{
	switch (status) {
	case CUBLAS_STATUS_SUCCESS:
		return "CUBLAS_STATUS_SUCCESS";
	case CUBLAS_STATUS_NOT_INITIALIZED:
		return "CUBLAS_STATUS_NOT_INITIALIZED";
	case CUBLAS_STATUS_ALLOC_FAILED:
		return "CUBLAS_STATUS_ALLOC_FAILED";
	case CUBLAS_STATUS_INVALID_VALUE:
		return "CUBLAS_STATUS_INVALID_VALUE";
	case CUBLAS_STATUS_ARCH_MISMATCH:
		return "CUBLAS_STATUS_ARCH_MISMATCH";
	case CUBLAS_STATUS_EXECUTION_FAILED:
		return "CUBLAS_STATUS_EXECUTION_FAILED";
	case CUBLAS_STATUS_INTERNAL_ERROR:
		return "CUBLAS_STATUS_INTERNAL_ERROR";
	case CUBLAS_STATUS_NOT_SUPPORTED:
		return "CUBLAS_STATUS_NOT_SUPPORTED";
	default:
		return "a cuBLAS error";
	}
}
