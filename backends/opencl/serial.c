/*
 * One thread for implementations that are not made for several: Oclgrind keeps parts of its state by thread, and its
 * checks of memory work only in the thread that made the context. Whoever calls such a device waits until this thread
 * has done the call.
 */
#include "backends/opencl/opencl.h"

#include <stdio.h>
#include <string.h>

struct call {
	ps_status (*function)(void *argument);
	void *argument;
	ps_status status;
	bool done;
	char message[1024];
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct call *waiting; /* one at a time */
static bool started;

static void *serve(void *unused)
{
	(void)unused;
	pthread_mutex_lock(&mutex);
	for (;;) {
		while (!waiting || waiting->done)
			pthread_cond_wait(&changed, &mutex);
		struct call *call = waiting;
		pthread_mutex_unlock(&mutex);
		call->status = call->function(call->argument);
		if (call->status != PS_OK)
			snprintf(call->message, sizeof call->message, "%s", ps_error_message());
		pthread_mutex_lock(&mutex);
		call->done = true;
		pthread_cond_broadcast(&changed);
	}
	return NULL;
}

/* The thread lives as long as the process. The caller holds the mutex. */
static ps_status start(void)
{
	pthread_t thread;
	if (started)
		return PS_OK;
	int error = pthread_create(&thread, NULL, serve, NULL);
	if (error)
		return ps_fail(PS_ENOMEM, "cannot start a thread for OpenCL: %s", strerror(error));
	pthread_detach(thread);
	started = true;
	return PS_OK;
}

ps_status ps__cl_call(const struct cl_device *device, ps_status (*function)(void *argument), void *argument)
{
	if (!device->serial)
		return function(argument);
	struct call call = {.function = function, .argument = argument};
	pthread_mutex_lock(&mutex);
	ps_status status = start();
	if (status == PS_OK) {
		while (waiting)
			pthread_cond_wait(&changed, &mutex);
		waiting = &call;
		pthread_cond_broadcast(&changed);
		while (!call.done)
			pthread_cond_wait(&changed, &mutex);
		waiting = NULL;
		pthread_cond_broadcast(&changed);
		status = call.status;
	}
	pthread_mutex_unlock(&mutex);
	return call.done && status != PS_OK ? ps_fail(status, "%s", call.message) : status;
}
