/* The controls of the stand-in that fake.h declares, and tests find by dlsym. */
#include "block.h"
#include "state.h"

using namespace emulated;

extern "C" {

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

static void control_lose(int device)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	the().lost |= uint64_t(1) << device;
	the().sticky[device] = cudaErrorECCUncorrectable;
	the().changed.notify_all();
}

static void control_heal(void)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	the().sticky.clear();
	the().contexts = 0;
	the().lost = 0;
	the().changed.notify_all();
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

static void control_hold(int hold)
{
	std::lock_guard<std::mutex> guard(the().mutex);
	the().held = hold;
	the().changed.notify_all();
}

static long control_waiting(void)
{
	std::lock_guard<std::mutex> hold(the().mutex);
	return the().waiting;
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
	        control_fail,     control_failed,     control_lose,    control_heal,         control_contexts,
	        device_of_thread, control_occupy,     control_live,    control_device_bytes, control_slow,
	        control_hold,     control_waiting,    control_peers,   control_corrupt,      control_algorithms,
	        control_capture,  control_launches,   control_replays, control_misuse};
	return &controls;
}

} // extern "C"
