/*
 * The stand-in's streams, events, copies and fills.
 *
 * A stream is a thread with a list of commands. A transfer of pageable memory may be as late as any other command,
 * or read the memory, or have the caller wait, at once: CUDA promises neither.
 */
#include "stream.h"

#include <cstring>

using namespace emulated;

/* Sometimes not at once. */
void CUstream_st::dawdle()
{
	random ^= random << 13;
	random ^= random >> 7;
	random ^= random << 17;
	if (random % 4 == 0)
		std::this_thread::sleep_for(std::chrono::microseconds(random / 4 % 300));
}

void CUstream_st::run(command &next)
{
	state &s = the();
	if (next.wait) {
		std::unique_lock<std::mutex> hold(s.mutex);
		s.changed.wait(hold, [&] { return next.wait->done && !lost(device); });
	}
	if (next.run) {
		bool skip;
		{
			std::unique_lock<std::mutex> hold(s.mutex);
			s.changed.wait(hold, [&] { return !s.held && !lost(device); });
			s.waiting--;
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
		std::unique_lock<std::mutex> hold(s.mutex);
		s.changed.wait(hold, [&] { return !lost(device); });
		next.signal->done = true;
		next.signal->time = clock::now();
		s.changed.notify_all();
	}
}

void CUstream_st::main()
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

void CUstream_st::wait()
{
	std::unique_lock<std::mutex> hold(mutex);
	while (!changed.wait_for(hold, std::chrono::milliseconds(10), [&] { return commands.empty() && !busy; })) {
		std::lock_guard<std::mutex> look(the().mutex);
		if (lost(device))
			return;
	}
}

void CUstream_st::add(command next)
{
	std::lock_guard<std::mutex> hold(mutex);
	commands.push_back(std::move(next));
	changed.notify_all();
}

namespace emulated
{

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
	{
		std::lock_guard<std::mutex> hold(the().mutex);
		the().waiting++;
	}
	stream->add(std::move(next));
	return cudaSuccess;
}

} // namespace emulated

namespace
{

/* Is a transfer of pageable memory done with it before the call returns? Always without a seed, else at random. */
bool eager()
{
	static thread_local uint64_t calls = 0;
	return the().seed == 0 || ((the().seed + calls++) * 0x9E3779B97F4A7C15U) >> 63;
}

} // namespace

extern "C" {

/* A blocking stream's capture is invalid once anybody, a library too, uses the legacy stream. */
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
	ENTER();
	if (flags != cudaStreamNonBlocking)
		return misuse("a stream that waits for the legacy one");
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
			the().changed.wait(hold, [&] { return last->done || lost(event->device); });
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

} // extern "C"
