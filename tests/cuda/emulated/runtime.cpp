/*
 * The stand-in for CUDA's runtime: devices, memory, streams, events and graphs.
 *
 * A device has a context from the first call on that needs one, as from CUDA 12 on cudaSetDevice does, and an error
 * sticks to a context. After a fork only the parent may go on. A launch tells an error that its thread has left behind.
 *
 * A stream is a thread with a list of commands. A transfer of pageable memory may be as late as any other command,
 * or read the memory, or have the caller wait, at once: CUDA promises neither.
 *
 * A graph is the commands that a stream was given while it was captured, with the arguments of then. What may not be
 * done during a capture in the thread-local mode fails, and the capture with it, as in CUDA; what the backend has no
 * reason to capture, such as events and host memory, counts as misuse.
 */
#include "block.h"
#include "cuda.h"
#include "fake.h"

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

namespace
{

using clock = std::chrono::steady_clock;

struct record {
	bool done = false;
	clock::time_point time;
};

struct command {
	std::function<cudaError_t()> run;
	std::shared_ptr<record> wait, signal;
};

struct allocation {
	size_t bytes;
	int device; /* -1: pinned host memory */
};

/* All state but the streams' own, under one lock; what is slow runs without it. */
struct state {
	std::mutex mutex;
	std::condition_variable changed;
	std::map<const unsigned char *, allocation> memory;
	long streams = 0, events = 0, graphs = 0, failed = 0, launches = 0, replays = 0;
	struct {
		long nth;
		int code;
	} fail[FAKE_FAILURES] = {};
	std::map<int, cudaError_t> sticky;   /* by device */
	uint64_t contexts = 0, occupied = 0; /* bits by device */
	pid_t process = 0;
	bool peers = true;
	std::set<std::pair<int, int>> enabled;
	std::map<const void *, size_t> shared; /* dynamic shared memory that kernels may have, where it is not usual */
	unsigned long corrupt = 0;
	uint64_t seed = 0;
	int devices = 2, driver = CUDART_VERSION, old = 0;
	bool capture = true;
	int command_us = 0, waking_us = 0;
	std::string misuse;

	state()
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
};

state &the()
{
	/* Never destroyed: streams may outlive static objects. */
	static state *one = new state;
	return *one;
}

/* A block's dynamic shared memory: without asking for more, and of the architectures the least (8.6, 8.9, 12.0). */
enum : size_t { USUAL_SHARED = 48 << 10, MOST_SHARED = 99 << 10 };

thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;
thread_local cudaStream_t captured = nullptr; /* by this thread */
thread_local bool bad_access = false;         /* of the kernel that this stream runs */

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

/* Counts, and returns what this one is to fail with. The caller holds the mutex. */
cudaError_t count(enum fake_failure what)
{
	state &s = the();
	if (s.fail[what].nth == 0 || --s.fail[what].nth > 0)
		return cudaSuccess;
	s.failed++;
	return cudaError_t(s.fail[what].code);
}

/* What sticks to a device. The caller holds the mutex. */
cudaError_t stuck(int device)
{
	auto found = the().sticky.find(device);
	return found == the().sticky.end() ? cudaSuccess : found->second;
}

/* Makes a context where there is none. The caller holds the mutex. */
cudaError_t make_context(int device)
{
	state &s = the();
	uint64_t bit = uint64_t(1) << device;
	if (!(s.contexts & bit) && s.occupied & bit)
		return cudaErrorDevicesUnavailable;
	s.contexts |= bit;
	return stuck(device);
}

enum need { NOTHING, CONTEXT, MEMORY };

/* To be called first by what may fail; `device` is the one of a stream or an event. */
cudaError_t enter(enum need need = CONTEXT, int device = -1)
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

#define ENTER(...)                                       \
	do {                                             \
		cudaError_t error_ = enter(__VA_ARGS__); \
		if (error_ != cudaSuccess)               \
			return error_;                   \
	} while (0)

/* The device that [at, at + bytes) is on, -1: pinned, -2: pageable, -3: across the end of an allocation. */
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

} // namespace

struct CUgraph_st {
	int device;
	std::vector<std::function<cudaError_t()>> nodes;
};

struct CUgraphExec_st {
	CUgraph_st graph;
};

struct CUstream_st {
	int device;
	CUgraph_st *capture = nullptr; /* being made; by the stream's mutex */
	bool invalid = false;          /* the capture */
	std::thread thread;
	std::mutex mutex;
	std::condition_variable changed;
	std::deque<command> commands;
	bool end = false, busy = false;
	uint64_t random;

	/* Sometimes not at once. */
	void dawdle()
	{
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		if (random % 4 == 0)
			std::this_thread::sleep_for(std::chrono::microseconds(random / 4 % 300));
	}

	void run(command &next)
	{
		state &s = the();
		if (next.wait) {
			std::unique_lock<std::mutex> hold(s.mutex);
			s.changed.wait(hold, [&] { return next.wait->done; });
		}
		if (next.run) {
			bool skip;
			{
				std::lock_guard<std::mutex> hold(s.mutex);
				if (stuck(device) == cudaSuccess)
					s.sticky[device] = count(FAKE_COMMAND);
				skip = stuck(device) != cudaSuccess;
			}
			if (s.seed)
				dawdle();
			if (s.command_us)
				std::this_thread::sleep_for(std::chrono::microseconds(s.command_us));
			cudaError_t error = skip ? cudaSuccess : next.run();
			if (error != cudaSuccess) {
				std::lock_guard<std::mutex> hold(s.mutex);
				s.sticky[device] = error;
			}
		}
		if (next.signal) {
			std::lock_guard<std::mutex> hold(s.mutex);
			next.signal->done = true;
			next.signal->time = clock::now();
			s.changed.notify_all();
		}
	}

	void main()
	{
		current_device = device;
		std::unique_lock<std::mutex> hold(mutex);
		for (;;) {
			changed.wait(hold, [&] { return end || !commands.empty(); });
			if (commands.empty())
				return;
			command next = std::move(commands.front());
			commands.pop_front();
			busy = true;
			hold.unlock();
			run(next);
			next = command();
			hold.lock();
			busy = false;
			changed.notify_all();
		}
	}

	/* Until all is done. */
	void wait()
	{
		std::unique_lock<std::mutex> hold(mutex);
		changed.wait(hold, [&] { return commands.empty() && !busy; });
	}

	void add(command next)
	{
		std::lock_guard<std::mutex> hold(mutex);
		commands.push_back(std::move(next));
		changed.notify_all();
	}
};

struct CUevent_st {
	int device;
	unsigned flags;
	std::shared_ptr<record> last; /* guarded by the state's mutex */
};

namespace
{

/* For what a stream does not do while it is captured. */
bool spoils_capture(cudaStream_t stream)
{
	std::lock_guard<std::mutex> hold(stream->mutex);
	stream->invalid |= stream->capture != nullptr;
	return stream->capture != nullptr;
}

#define NOT_CAPTURED(stream)                                            \
	do {                                                            \
		if (spoils_capture(stream))                             \
			return fail(cudaErrorStreamCaptureUnsupported); \
	} while (0)

/* For what the thread that captures a stream may not call. */
#define NOT_CAPTURING()                                                 \
	do {                                                            \
		if (captured && spoils_capture(captured))               \
			return fail(cudaErrorStreamCaptureUnsupported); \
	} while (0)

/* Is a transfer of pageable memory done with it before the call returns? Always without a seed, else at random. */
bool eager()
{
	static thread_local uint64_t calls = 0;
	return the().seed == 0 || ((the().seed + calls++) * 0x9E3779B97F4A7C15U) >> 63;
}

/* What a block of the kernel may have of dynamic shared memory. */
size_t shared_limit(const void *kernel)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	auto found = the().shared.find(kernel);
	return found == the().shared.end() ? USUAL_SHARED : found->second;
}

cudaError_t add_work(cudaStream_t stream, std::function<cudaError_t()> run)
{
	{
		std::lock_guard<std::mutex> hold(stream->mutex);
		if (stream->capture) {
			if (captured != stream)
				stream->invalid = true;
			if (stream->invalid)
				return fail(cudaErrorStreamCaptureInvalidated);
			stream->capture->nodes.push_back(std::move(run));
			return cudaSuccess;
		}
	}
	command next;
	next.run = std::move(run);
	stream->add(std::move(next));
	return cudaSuccess;
}

} // namespace

void emulated::check_global(const void *at, size_t bytes)
{
	if (bad_access)
		return;
	bad_access = reinterpret_cast<uintptr_t>(at) % bytes != 0 || place_of(at, bytes) < 0;
	if (bad_access)
		misuse("a vector stored where it is not aligned, or not within global memory");
}

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
	if (block.x % emulated::lanes)
		return misuse("a block that is not made of whole warps");
	uint64_t seed = the().seed;
	{
		std::lock_guard<std::mutex> hold(the().mutex);
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

int device_of_thread()
{
	return current_device;
}

void touch_device()
{
	std::lock_guard<std::mutex> hold(the().mutex);
	(void)make_context(current_device);
}

void complain(const char *what)
{
	(void)misuse(what);
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
	ENTER(NOTHING);
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

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value)
{
	ENTER();
	if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || size_t(value) > MOST_SHARED)
		return fail(cudaErrorInvalidValue);
	std::lock_guard<std::mutex> hold(the().mutex);
	the().shared[kernel] = size_t(value);
	return cudaSuccess;
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

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
	ENTER();
	*free_bytes = size_t(4) << 30;
	*total = size_t(8) << 30;
	return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned)
{
	ENTER();
	cudaStream_t stream = new CUstream_st;
	stream->device = current_device;
	{
		std::lock_guard<std::mutex> hold(the().mutex);
		stream->random = the().seed * 2654435761U + uint64_t(++the().streams) * 97 + 1;
	}
	stream->thread = std::thread([stream] { stream->main(); });
	*out = stream;
	return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
	if (spoils_capture(stream))
		return misuse("destroying a stream that is captured");
	{
		std::lock_guard<std::mutex> hold(stream->mutex);
		stream->end = true;
		stream->changed.notify_all();
	}
	stream->thread.join();
	delete stream;
	{
		std::lock_guard<std::mutex> hold(the().mutex);
		the().streams--;
	}
	return enter();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
	NOT_CAPTURED(stream);
	NOT_CAPTURING();
	stream->wait();
	return enter(CONTEXT, stream->device);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
	ENTER(CONTEXT, stream->device);
	if (spoils_capture(stream))
		return misuse("a captured stream that waits for an event");
	command next;
	{
		std::lock_guard<std::mutex> hold(the().mutex);
		next.wait = event->last;
	}
	if (next.wait)
		stream->add(std::move(next));
	return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
	ENTER();
	*event = new CUevent_st{current_device, flags, nullptr};
	std::lock_guard<std::mutex> hold(the().mutex);
	the().events++;
	return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
	delete event;
	{
		std::lock_guard<std::mutex> hold(the().mutex);
		the().events--;
	}
	return enter();
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
	ENTER();
	if (event->device != stream->device)
		return misuse("an event recorded on a stream of another device");
	if (spoils_capture(stream))
		return misuse("an event recorded on a captured stream");
	command next;
	next.signal = std::make_shared<record>();
	{
		std::lock_guard<std::mutex> hold(the().mutex);
		event->last = next.signal;
	}
	stream->add(std::move(next));
	return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
	NOT_CAPTURING();
	bool slept = false;
	{
		std::unique_lock<std::mutex> hold(the().mutex);
		std::shared_ptr<record> last = event->last;
		slept = last && !last->done;
		if (last)
			the().changed.wait(hold, [&] { return last->done; });
	}
	if (slept && the().waking_us)
		std::this_thread::sleep_for(std::chrono::microseconds(the().waking_us));
	return enter(CONTEXT, event->device);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
	ENTER(CONTEXT, start->device);
	if (start->device != end->device || (start->flags | end->flags) & cudaEventDisableTiming)
		return misuse("the time between events of two devices, or without times");
	std::lock_guard<std::mutex> hold(the().mutex);
	if (!start->last || !end->last)
		return fail(cudaErrorInvalidResourceHandle);
	if (!start->last->done || !end->last->done)
		return fail(cudaErrorNotReady);
	*ms = std::chrono::duration<float, std::milli>(end->last->time - start->last->time).count();
	return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
	ENTER();
	int to_place = place_of(to, bytes), from_place = place_of(from, bytes);
	bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
	bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
	if ((to_place >= 0) != to_device || (from_place >= 0) != from_device || to_place == -3 || from_place == -3)
		return misuse("a copy whose kind is not that of its pointers");
	if ((to_place < 0 || from_place < 0) && spoils_capture(stream))
		return misuse("a captured copy of host memory");
	if (from_place == -2 && eager()) {
		const unsigned char *first = static_cast<const unsigned char *>(from);
		std::vector<unsigned char> read(first, first + bytes);
		return add_work(stream, [=] {
			std::memcpy(to, read.data(), bytes);
			return cudaSuccess;
		});
	}
	cudaError_t error = add_work(stream, [=] {
		std::memmove(to, from, bytes);
		return cudaSuccess;
	});
	if (error == cudaSuccess && to_place == -2 && eager())
		stream->wait();
	return error;
}

cudaError_t cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t bytes,
                                cudaStream_t stream)
{
	ENTER();
	if (place_of(to, bytes) != to_device || place_of(from, bytes) != from_device)
		return misuse("a copy between devices whose pointers are not theirs");
	return add_work(stream, [=] {
		std::memcpy(to, from, bytes);
		unsigned long corrupt;
		{
			std::lock_guard<std::mutex> hold(the().mutex);
			corrupt = the().corrupt;
		}
		if (corrupt && bytes >= corrupt)
			static_cast<unsigned char *>(to)[bytes / 2] ^= 0x10;
		return cudaSuccess;
	});
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
	ENTER();
	if (place_of(to, bytes) < 0)
		return misuse("a fill of what is no device memory");
	return add_work(stream, [=] {
		std::memset(to, value, bytes);
		return cudaSuccess;
	});
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
	ENTER();
	if (mode != cudaStreamCaptureModeThreadLocal)
		return misuse("a capture that other threads disturb");
	std::lock_guard<std::mutex> hold(stream->mutex);
	if (stream->capture || captured)
		return fail(cudaErrorStreamCaptureUnsupported);
	if (!the().capture)
		return fail(cudaErrorStreamCaptureUnsupported);
	stream->capture = new CUgraph_st{stream->device, {}};
	stream->invalid = false;
	captured = stream;
	return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
	cudaError_t error = enter();
	*graph = nullptr;
	std::lock_guard<std::mutex> hold(stream->mutex);
	if (!stream->capture || captured != stream)
		return fail(cudaErrorStreamCaptureUnsupported);
	captured = nullptr;
	std::unique_ptr<CUgraph_st> made(stream->capture);
	stream->capture = nullptr;
	if (error != cudaSuccess)
		return error;
	if (stream->invalid)
		return fail(cudaErrorStreamCaptureInvalidated);
	*graph = made.release();
	std::lock_guard<std::mutex> count(the().mutex);
	the().graphs++;
	return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags)
{
	ENTER();
	NOT_CAPTURING();
	if (flags)
		return misuse("flags for a graph");
	*executable = new CUgraphExec_st{*graph};
	std::lock_guard<std::mutex> hold(the().mutex);
	the().graphs++;
	return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
	delete graph;
	{
		std::lock_guard<std::mutex> hold(the().mutex);
		the().graphs--;
	}
	return enter();
}

/* What was launched of it goes on. */
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable)
{
	delete executable;
	{
		std::lock_guard<std::mutex> hold(the().mutex);
		the().graphs--;
	}
	return enter();
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream)
{
	ENTER();
	if (spoils_capture(stream))
		return misuse("a graph within a graph");
	if (executable->graph.device != stream->device)
		return misuse("a graph on a stream of another device than it was captured on");
	{
		std::lock_guard<std::mutex> hold(the().mutex);
		the().replays++;
	}
	for (const auto &node : executable->graph.nodes)
		add_work(stream, node);
	return cudaSuccess;
}

static void control_fail(enum fake_failure what, long nth, int code)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	the().fail[what] = {nth, code};
}

static long control_failed(void)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	return the().failed;
}

static void control_heal(void)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	the().sticky.clear();
	the().contexts = 0;
}

static unsigned long control_contexts(void)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	return the().contexts;
}

static void control_occupy(int device, int occupied)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	uint64_t bit = uint64_t(1) << device;
	the().occupied = occupied ? the().occupied | bit : the().occupied & ~bit;
}

static long control_live(void)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	return the().streams + the().events + the().graphs + long(the().memory.size());
}

static unsigned long control_device_bytes(void)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	unsigned long bytes = 0;
	for (const auto &one : the().memory)
		bytes += one.second.device < 0 ? 0 : one.second.bytes;
	return bytes;
}

static void control_slow(int command_us, int waking_us)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	the().command_us = command_us;
	the().waking_us = waking_us;
}

static void control_peers(int allow)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	the().peers = allow;
}

static void control_algorithms(int allow)
{
	emulated::good_algorithms = allow;
}

static void control_corrupt(unsigned long bytes)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	the().corrupt = bytes;
}

static void control_capture(int allow)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	the().capture = allow;
}

static long control_launches(void)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	return the().launches;
}

static long control_replays(void)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	return the().replays;
}

static const char *control_misuse(void)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	return the().misuse.c_str();
}

const struct fake_cuda *fake_cuda_controls(void)
{
	static const struct fake_cuda controls = {
	        control_fail,    control_failed,     control_heal,         control_contexts, emulated::device_of_thread,
	        control_occupy,  control_live,       control_device_bytes, control_slow,     control_peers,
	        control_corrupt, control_algorithms, control_capture,      control_launches, control_replays,
	        control_misuse};
	return &controls;
}

} // extern "C"
