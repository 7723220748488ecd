/*
 * The stand-in's launches of kernels: what CUDA asks of them, and their blocks as commands of a stream.
 *
 * A launch tells an error that its thread has left behind. CUDA loads a kernel onto a device when it is first launched
 * there, which takes calls that a capture may not have, so that what is captured has to have been launched before.
 */
#include "block.h"
#include "stream.h"

using namespace emulated;

namespace
{

/* A block's dynamic shared memory: without asking for more, and of the architectures the least (8.6, 8.9, 12.0). */
enum : size_t { USUAL_SHARED = 48 << 10, MOST_SHARED = 99 << 10 };

thread_local bool bad_access = false; /* of the kernel that this stream runs */

/* What a block of the kernel may have of dynamic shared memory on the thread's device. */
size_t shared_limit(const void *kernel)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	auto found = the().shared.find({kernel, current_device});
	return found == the().shared.end() ? USUAL_SHARED : found->second;
}

/* Was the kernel loaded onto the thread's device? It is now. */
bool load(const void *kernel)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	return !the().loaded.insert({kernel, current_device}).second;
}

} // namespace

static cudaError_t launch(const void *kernel, cudaStream_t stream, dim3 grid, dim3 block, size_t shared,
                          std::function<void()> body)
{
	ENTER();
	if (stream->device != current_device)
		return misuse("a launch on a stream of another device than the current one"),
		       cudaErrorInvalidResourceHandle;
	if (!grid.x || !grid.y || grid.y > 65535 || grid.z != 1 || block.y != 1 || block.z != 1 || !block.x ||
	    block.x > 1024)
		return fail(cudaErrorInvalidConfiguration);
	if (shared > shared_limit(kernel))
		return fail(cudaErrorInvalidValue);
	if (!load(kernel) && captured == stream)
		return misuse("a kernel that is loaded during a capture");
	if (block.x % emulated::lanes)
		return misuse("a block that is not made of whole warps");
	uint64_t seed = the().seed;
	{
		std::lock_guard<std::mutex> hold(the().mutex);
		cudaError_t error = count(FAKE_LAUNCH);
		if (error != cudaSuccess)
			return fail(error);
		the().launches++;
	}
	return add_work(stream, [=] {
		bad_access = false;
		if (emulated::run_kernel(grid, block, shared, body, seed))
			return bad_access ? cudaErrorIllegalAddress : cudaSuccess;
		misuse("a barrier that not all threads came to");
		return cudaErrorLaunchFailure;
	});
}

namespace emulated
{

void check_global(const void *at, size_t bytes)
{
	if (bad_access)
		return;
	bad_access = reinterpret_cast<uintptr_t>(at) % bytes != 0 || place_of(at, bytes) < 0;
	if (bad_access)
		misuse("a vector stored where it is not aligned, or not within global memory");
}

/* As PS_LAUNCH does for nvcc: what the thread's last error is after the launch, whoever has left it. */
cudaError_t enqueue(const void *kernel, cudaStream_t stream, dim3 grid, dim3 block, size_t shared,
                    std::function<void()> body)
{
	(void)launch(kernel, stream, grid, block, shared, std::move(body));
	return cudaGetLastError();
}

/* A library's launch: it has a runtime of its own, whose last error is not the caller's. */
cudaError_t enqueue_apart(cudaStream_t stream, dim3 grid, dim3 block, size_t shared, std::function<void()> body)
{
	cudaError_t kept = last_error, error = launch(nullptr, stream, grid, block, shared, std::move(body));
	last_error = kept;
	return error;
}

} // namespace emulated

extern "C" {

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value)
{
	ENTER();
	if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || size_t(value) > MOST_SHARED)
		return fail(cudaErrorInvalidValue);
	std::lock_guard<std::mutex> hold(the().mutex);
	the().shared[{kernel, current_device}] = size_t(value);
	return cudaSuccess;
}

} // extern "C"
