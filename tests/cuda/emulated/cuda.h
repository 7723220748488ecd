/* A stand-in for the one call of CUDA's driver API that the cuda backend asks for, by cudaGetDriverEntryPoint. */
#ifndef PS_TESTS_CUDA_CUDA_H
#define PS_TESTS_CUDA_CUDA_H

#define CUDAAPI

typedef enum { CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_DEVICE = 101 } CUresult;
typedef int CUdevice;

#endif
