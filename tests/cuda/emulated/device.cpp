/* The stand-in's errors, driver, devices and memory. */
#include "block.h"
#include "cuda.h"
#include "stream.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

using namespace emulated;

namespace emulated
{

int device_of_thread()
{
	return current_device;
}

void touch_device()
{
	std::lock_guard<std::mutex> hold(the().mutex);
	(void)make_context(current_device);
}

} // namespace emulated

extern "C" {

const char *cudaGetErrorName(cudaError_t error)
{
	switch (error) {
	case cudaErrorMemoryAllocation:
		return "cudaErrorMemoryAllocation";
	case cudaErrorDevicesUnavailable:
		return "cudaErrorDevicesUnavailable";
	case cudaErrorECCUncorrectable:
		return "cudaErrorECCUncorrectable";
	case cudaErrorLaunchFailure:
		return "cudaErrorLaunchFailure";
	case cudaErrorIllegalAddress:
		return "cudaErrorIllegalAddress";
	default:
		return "cudaError";
	}
}

const char *cudaGetErrorString(cudaError_t error)
{
	return error == cudaErrorMemoryAllocation ? "out of memory" : "a simulated error";
}

cudaError_t cudaGetLastError(void)
{
	cudaError_t error = last_error;
	last_error = cudaSuccess;
	return error;
}

cudaError_t cudaDriverGetVersion(int *version)
{
	*version = the().driver;
	if (the().driver == 0)
		last_error = cudaErrorInsufficientDriver;
	return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
	ENTER(NOTHING);
	if (the().driver / 1000 < CUDART_VERSION / 1000)
		return fail(cudaErrorInsufficientDriver);
	*count = the().devices;
	return *count ? cudaSuccess : fail(cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int *device)
{
	ENTER(NOTHING);
	*device = current_device;
	return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
	ENTER(NOTHING);
	if (device < 0 || device >= the().devices)
		return fail(cudaErrorInvalidDevice);
	std::lock_guard<std::mutex> hold(the().mutex);
	cudaError_t error = make_context(device);
	if (error != cudaSuccess)
		return fail(error);
	current_device = device;
	return cudaSuccess;
}

static CUresult CUDAAPI context_state(CUdevice device, unsigned *flags, int *active)
{
	if (device < 0 || device >= the().devices)
		return CUDA_ERROR_INVALID_DEVICE;
	std::lock_guard<std::mutex> hold(the().mutex);
	*flags = 0;
	*active = the().contexts >> device & 1;
	return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version, unsigned long long,
                                             enum cudaDriverEntryPointQueryResult *result)
{
	ENTER();
	bool found = !std::strcmp(symbol, "cuDevicePrimaryCtxGetState") && version >= 7000;
	*function = found ? reinterpret_cast<void *>(context_state) : nullptr;
	*result = found ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
	return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device)
{
	ENTER(NOTHING);
	if (device < 0 || device >= the().devices)
		return fail(cudaErrorInvalidDevice);
	std::memset(properties, 0, sizeof *properties);
	std::snprintf(properties->name, sizeof properties->name, "no GPU: an emulation on the CPU, for tests");
	properties->totalGlobalMem = size_t(8) << 30;
	properties->major = device < the().old ? 7 : 8;
	properties->multiProcessorCount = 1;
	return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer)
{
	ENTER(NOTHING);
	*can = the().peers && device != peer;
	return cudaSuccess;
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned)
{
	ENTER();
	std::lock_guard<std::mutex> hold(the().mutex);
	return the().enabled.insert({current_device, peer}).second ? cudaSuccess
	                                                           : fail(cudaErrorPeerAccessAlreadyEnabled);
}

static cudaError_t allocate(void **pointer, size_t bytes, int device)
{
	cudaError_t error = enter(MEMORY);
	if (error != cudaSuccess)
		return error;
	*pointer = nullptr;
	NOT_CAPTURING();
	if (posix_memalign(pointer, 256, bytes ? bytes : 1))
		return fail(cudaErrorMemoryAllocation);
	std::memset(*pointer, 0xFF, bytes); /* NaN */
	std::lock_guard<std::mutex> hold(the().mutex);
	the().memory[static_cast<unsigned char *>(*pointer)] = {bytes, device};
	return cudaSuccess;
}

static cudaError_t release(void *pointer, bool host)
{
	if (!pointer)
		return enter();
	NOT_CAPTURING();
	bool known;
	{
		std::lock_guard<std::mutex> hold(the().mutex);
		auto found = the().memory.find(static_cast<unsigned char *>(pointer));
		known = found != the().memory.end() && (found->second.device < 0) == host;
		if (known)
			the().memory.erase(found);
	}
	if (!known)
		return misuse("freeing what was not allocated");
	/* The memory of a failed device goes with it, whatever is answered. */
	std::free(pointer);
	return enter();
}

cudaError_t cudaMalloc(void **pointer, size_t bytes)
{
	return allocate(pointer, bytes, current_device);
}

cudaError_t cudaFree(void *pointer)
{
	return release(pointer, false);
}

cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned)
{
	return allocate(pointer, bytes, -1);
}

cudaError_t cudaFreeHost(void *pointer)
{
	return release(pointer, true);
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *pointer)
{
	ENTER();
	int place = place_of(pointer, 1);
	*attributes = {};
	attributes->device = place < 0 ? current_device : place;
	if (place >= 0)
		attributes->type = cudaMemoryTypeDevice;
	else if (place == -1)
		attributes->type = cudaMemoryTypeHost;
	return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
	ENTER();
	*free_bytes = size_t(4) << 30;
	*total = size_t(8) << 30;
	return cudaSuccess;
}

} // extern "C"
