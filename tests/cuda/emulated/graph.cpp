/*
 * The stand-in's captures and graphs.
 *
 * A graph is the commands that a stream was given while it was captured, with the arguments of then. What may not be
 * done during a capture in the thread-local mode fails, and the capture with it, as in CUDA; what the backend has no
 * reason to capture, such as events and host memory, counts as misuse.
 */
#include "stream.h"

using namespace emulated;

namespace emulated
{

thread_local cudaStream_t captured = nullptr;

bool spoils_capture(cudaStream_t stream)
{
	std::lock_guard<std::mutex> hold(stream->mutex);
	stream->invalid |= stream->capture != nullptr;
	return stream->capture != nullptr;
}

} // namespace emulated

extern "C" {

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

} // extern "C"
