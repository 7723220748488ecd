/* Between the stand-in's streams and the blocks that they run. */
#ifndef PS_TESTS_CUDA_BLOCK_H
#define PS_TESTS_CUDA_BLOCK_H

#include "cuda_runtime.h"

#include <atomic>

namespace emulated
{

/* Whether cuBLASLt has an algorithm that gives a row the same bits among any number of rows. */
extern std::atomic<bool> good_algorithms;

/* A launch by cuBLASLt. */
cudaError_t enqueue_apart(cudaStream_t stream, dim3 grid, dim3 block, size_t shared, std::function<void()> body);

/* For cuBLASLt: the calling thread's device, what makes a context there, and what is told of misuse. */
int device_of_thread();
void touch_device();
void complain(const char *what);

/* Runs all blocks; false when threads were left waiting at a barrier. seed 0: threads in ascending order. */
bool run_kernel(const dim3 &grid, const dim3 &block, size_t shared, const std::function<void()> &body, uint64_t seed);

} // namespace emulated

#endif
