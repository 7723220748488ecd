/* What all calls of the stand-in for CUDA's runtime share: its state, how they fail, and places of memory. */
#include "state.h"
#include "block.h"

#include <cstdio>
#include <cstdlib>
#include <unistd.h>

namespace emulated
{

thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;

state::state()
{
	const char *text = std::getenv("PS_FAKE_CUDA_SEED");
	seed = text ? std::strtoull(text, nullptr, 0) : 0;
	text = std::getenv("PS_FAKE_CUDA_DEVICES");
	devices = text ? std::atoi(text) : 2;
	text = std::getenv("PS_FAKE_CUDA_DRIVER");
	driver = text ? std::atoi(text) : CUDART_VERSION;
	text = std::getenv("PS_FAKE_CUDA_OLD");
	old = text ? std::atoi(text) : 0;
}

state &the()
{
	/* Never destroyed: streams may outlive static objects. */
	static state *one = new state;
	return *one;
}

cudaError_t fail(cudaError_t error)
{
	return last_error = error;
}

cudaError_t misuse(const char *what)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	if (the().misuse.empty())
		the().misuse = what;
	std::fprintf(stderr, "misuse of CUDA: %s\n", what);
	return fail(cudaErrorInvalidValue);
}

void complain(const char *what)
{
	(void)misuse(what);
}

cudaError_t count(enum fake_failure what)
{
	state &s = the();
	if (s.fail[what].nth == 0 || --s.fail[what].nth > 0)
		return cudaSuccess;
	s.failed++;
	return cudaError_t(s.fail[what].code);
}

cudaError_t stuck(int device)
{
	auto found = the().sticky.find(device);
	return found == the().sticky.end() ? cudaSuccess : found->second;
}

bool lost(int device)
{
	return the().lost >> device & 1;
}

cudaError_t make_context(int device)
{
	state &s = the();
	uint64_t bit = uint64_t(1) << device;
	if (!(s.contexts & bit) && s.occupied & bit)
		return cudaErrorDevicesUnavailable;
	s.contexts |= bit;
	return stuck(device);
}

cudaError_t enter(enum need need, int device)
{
	state &s = the();
	std::lock_guard<std::mutex> hold(s.mutex);
	if (s.process == 0)
		s.process = getpid();
	cudaError_t error = s.process == getpid() ? count(FAKE_CALL) : cudaErrorInitializationError;
	if (error == cudaSuccess && need == MEMORY)
		error = count(FAKE_ALLOCATION);
	if (error == cudaSuccess && need != NOTHING)
		error = make_context(current_device);
	if (error == cudaSuccess && device >= 0)
		error = stuck(device);
	return error == cudaSuccess ? cudaSuccess : fail(error);
}

int place_of(const void *pointer, size_t bytes)
{
	const unsigned char *at = static_cast<const unsigned char *>(pointer);
	std::lock_guard<std::mutex> hold(the().mutex);
	auto next = the().memory.upper_bound(at);
	if (next == the().memory.begin())
		return -2;
	--next;
	size_t offset = size_t(at - next->first);
	if (offset >= next->second.bytes)
		return -2;
	return offset + bytes <= next->second.bytes ? next->second.device : -3;
}

} // namespace emulated
