/*
 * The state of the stand-in for CUDA's runtime, and what its calls begin with, fail with and know of memory.
 *
 * A device has a context from the first call on that needs one, as from CUDA 12 on cudaSetDevice does, and an error
 * sticks to a context. After a fork only the parent may go on.
 */
#ifndef PS_TESTS_CUDA_STATE_H
#define PS_TESTS_CUDA_STATE_H

#include "cuda_runtime_api.h"
#include "fake.h"

#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <sys/types.h>
#include <utility>

namespace emulated
{

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
	std::map<int, cudaError_t> sticky;             /* by device */
	uint64_t contexts = 0, occupied = 0, lost = 0; /* bits by device */
	pid_t process = 0;
	bool peers = true;
	std::set<std::pair<int, int>> enabled;
	/* By kernel and device: dynamic shared memory where it is not usual, and what was loaded. */
	std::map<std::pair<const void *, int>, size_t> shared;
	std::set<std::pair<const void *, int>> loaded;
	unsigned long corrupt = 0;
	uint64_t seed = 0;
	int devices = 2, driver = CUDART_VERSION, old = 0;
	bool capture = true;
	int command_us = 0, waking_us = 0;
	bool held = false;
	long waiting = 0;
	std::string misuse;

	state();
};

state &the();

extern thread_local int current_device;
extern thread_local cudaError_t last_error;

/* Leaves the error for cudaGetLastError and returns it. */
cudaError_t fail(cudaError_t error);

/* Fails, with a line on stderr; the first is kept for fake.h's controls. */
cudaError_t misuse(const char *what);

/* Counts, and returns what this one is to fail with. The caller holds the mutex. */
cudaError_t count(enum fake_failure what);

/* What sticks to a device. The caller holds the mutex. */
cudaError_t stuck(int device);

/* Has the device fallen off the bus? The caller holds the mutex. */
bool lost(int device);

/* Makes a context where there is none. The caller holds the mutex. */
cudaError_t make_context(int device);

enum need { NOTHING, CONTEXT, MEMORY };

/* To be called first by what may fail; `device` is the one of a stream or an event. */
cudaError_t enter(enum need need = CONTEXT, int device = -1);

#define ENTER(...)                                       \
	do {                                             \
		cudaError_t error_ = enter(__VA_ARGS__); \
		if (error_ != cudaSuccess)               \
			return error_;                   \
	} while (0)

/* The device that [at, at + bytes) is on, -1: pinned, -2: pageable, -3: across the end of an allocation. */
int place_of(const void *pointer, size_t bytes);

} // namespace emulated

#endif
