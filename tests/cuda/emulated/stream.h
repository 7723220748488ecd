/* The stand-in's streams, events and graphs, and how work comes to a stream or, while it is captured, to a graph. */
#ifndef PS_TESTS_CUDA_STREAM_H
#define PS_TESTS_CUDA_STREAM_H

#include "state.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace emulated
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

} // namespace emulated

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
	std::deque<emulated::command> commands;
	bool end = false, busy = false;
	uint64_t random;

	/* What the thread does until the end. */
	void main();
	/* Until all is done. */
	void wait();
	void add(emulated::command next);
	void run(emulated::command &next);
	void dawdle();
};

struct CUevent_st {
	int device;
	unsigned flags;
	std::shared_ptr<emulated::record> last; /* guarded by the state's mutex */
};

namespace emulated
{

extern thread_local cudaStream_t captured; /* by this thread */

/* For what a stream does not do while it is captured. */
bool spoils_capture(cudaStream_t stream);

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

/* A command of the stream, or a node of the graph that it is captured into. */
cudaError_t add_work(cudaStream_t stream, std::function<cudaError_t()> run);

} // namespace emulated

#endif
