/* What a queue launches on its own account: what differs from one submission of a list to the next, and range checks.
 */
#include "backends/cuda/kernels/common.cuh"

namespace ps
{
namespace
{

/* One thread. It works on a queue that has failed, too: what it sets is good for what follows the failure. */
__global__ void set_turn_kernel(ps_cuda_turn *turn, ps_cuda_turn value)
{
	if (threadIdx.x == 0)
		*turn = value;
}

/* One block: the first bad element of all. 4 bytes per element. */
__global__ void check_range_kernel(ps_cuda_range x)
{
	__shared__ int64_t firsts[block_threads];
	if (*x.stop)
		return;
	int64_t first = INT64_MAX;
	for (int64_t i = threadIdx.x; i < x.count && first == INT64_MAX; i += blockDim.x)
		if (x.tokens[i] < 0 || x.tokens[i] >= x.bound)
			first = i;
	firsts[threadIdx.x] = first;
	if (!__syncthreads_or(first != INT64_MAX) || threadIdx.x != 0)
		return;
	for (unsigned i = 1; i < blockDim.x; i++)
		if (firsts[i] < first)
			first = firsts[i];
	ps_cuda_fault *fault = x.turn ? x.turn->fault : x.fault;
	fault->index = first;
	fault->value = x.tokens[first];
	fault->check = x.check;
	*x.stop = 1;
}

} // namespace
} // namespace ps

extern "C" cudaError_t ps__cuda_set_turn(const ps_cuda_launch *launch, ps_cuda_turn *turn, ps_cuda_turn value)
{
	void (*kernel)(ps_cuda_turn *, ps_cuda_turn) = ps::set_turn_kernel;
	return PS_LAUNCH(kernel, 1, ps::warp_lanes, 0, launch->stream, turn, value);
}

extern "C" cudaError_t ps__cuda_check_range(const ps_cuda_launch *launch, const ps_cuda_range *range)
{
	void (*kernel)(ps_cuda_range) = ps::check_range_kernel;
	return PS_LAUNCH(kernel, 1, ps::block_threads, 0, launch->stream, *range);
}
