#define _GNU_SOURCE /* RTLD_NEXT */
#define CL_TARGET_OPENCL_VERSION 120
#define CL_USE_DEPRECATED_OPENCL_1_1_APIS
#include "failing.h"

#include <CL/cl.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards all that follows */
static uint64_t calls, nth_call;
static int32_t error_code;
static bool all_later;
static const char *failed;
static int64_t alive;

void failing_start(uint64_t nth, int32_t code, bool for_ever)
{
	pthread_mutex_lock(&mutex);
	calls = 0;
	nth_call = nth;
	error_code = code;
	all_later = for_ever;
	failed = NULL;
	pthread_mutex_unlock(&mutex);
}

uint64_t failing_calls(void)
{
	pthread_mutex_lock(&mutex);
	uint64_t count = calls;
	pthread_mutex_unlock(&mutex);
	return count;
}

const char *failing_function(void)
{
	pthread_mutex_lock(&mutex);
	const char *name = failed;
	pthread_mutex_unlock(&mutex);
	return name;
}

int64_t failing_alive(void)
{
	pthread_mutex_lock(&mutex);
	int64_t count = alive;
	pthread_mutex_unlock(&mutex);
	return count;
}

/* Of a program that knows nothing of this: from PS_TEST_FAIL_FROM on all calls fail. */
static void read_environment(void)
{
	const char *from = getenv("PS_TEST_FAIL_FROM");
	if (!from || nth_call)
		return;
	nth_call = strtoull(from, NULL, 10);
	error_code = CL_DEVICE_NOT_AVAILABLE;
	all_later = true;
}

/* Counts a call; what it is to fail with, or CL_SUCCESS. */
static cl_int strike(const char *name)
{
	pthread_mutex_lock(&mutex);
	if (calls++ == 0)
		read_environment();
	bool hit = nth_call && (calls == nth_call || (all_later && calls > nth_call));
	if (hit && !failed)
		failed = name;
	cl_int code = hit ? error_code : CL_SUCCESS;
	pthread_mutex_unlock(&mutex);
	return code;
}

static void count(int64_t more)
{
	pthread_mutex_lock(&mutex);
	alive += more;
	pthread_mutex_unlock(&mutex);
}

/* The loader's function of a name. POSIX has it that a pointer to an object may be one to a function. */
static void find(void *function, const char *name)
{
	void *symbol = dlsym(RTLD_NEXT, name);
	if (!symbol)
		abort();
	memcpy(function, &symbol, sizeof symbol);
}

/* A function that returns a code. `event` is where an event may be left, or NULL. */
#define CALL(name, parameters, arguments, event)            \
	cl_int name parameters                              \
	{                                                   \
		cl_int(*next) parameters;                   \
		cl_int code = strike(#name);                \
		if (code != CL_SUCCESS)                     \
			return code;                        \
		find(&next, #name);                         \
		code = next arguments;                      \
		const cl_event *made = event;               \
		count(code == CL_SUCCESS && made && *made); \
		return code;                                \
	}

/* One that waits: what it waits for is over when it fails, since nobody could go on otherwise. */
#define WAIT(name, parameters, arguments)    \
	cl_int name parameters               \
	{                                    \
		cl_int(*next) parameters;    \
		cl_int code = strike(#name); \
		find(&next, #name);          \
		cl_int end = next arguments; \
		return code ? code : end;    \
	}

/* One that makes an object. */
#define MAKE(type, name, parameters, arguments) \
	type name parameters                    \
	{                                       \
		type(*next) parameters;         \
		cl_int code = strike(#name);    \
		if (code != CL_SUCCESS) {       \
			if (error)              \
				*error = code;  \
			return NULL;            \
		}                               \
		find(&next, #name);             \
		type made = next arguments;     \
		count(made != NULL);            \
		return made;                    \
	}

/* One that gives an object up. */
#define DROP(type, name)              \
	cl_int name(type object)      \
	{                             \
		cl_int (*next)(type); \
		find(&next, #name);   \
		count(-1);            \
		return next(object);  \
	}

CALL(clGetPlatformIDs, (cl_uint most, cl_platform_id *list, cl_uint *found), (most, list, found), NULL)
CALL(clGetDeviceIDs, (cl_platform_id platform, cl_device_type type, cl_uint most, cl_device_id *list, cl_uint *found),
     (platform, type, most, list, found), NULL)
CALL(clBuildProgram,
     (cl_program program, cl_uint devices, const cl_device_id *list, const char *options,
      void(CL_CALLBACK *notify)(cl_program, void *), void *data),
     (program, devices, list, options, notify, data), NULL)
CALL(clGetProgramInfo, (cl_program program, cl_program_info what, size_t size, void *value, size_t *needed),
     (program, what, size, value, needed), NULL)
CALL(clGetProgramBuildInfo,
     (cl_program program, cl_device_id device, cl_program_build_info what, size_t size, void *value, size_t *needed),
     (program, device, what, size, value, needed), NULL)
CALL(clGetEventInfo, (cl_event event, cl_event_info what, size_t size, void *value, size_t *needed),
     (event, what, size, value, needed), NULL)
CALL(clSetKernelArg, (cl_kernel kernel, cl_uint index, size_t size, const void *value), (kernel, index, size, value),
     NULL)
CALL(clRetainEvent, (cl_event event), (event), &event)
CALL(clEnqueueNDRangeKernel,
     (cl_command_queue queue, cl_kernel kernel, cl_uint dimensions, const size_t *offset, const size_t *global,
      const size_t *local, cl_uint waits, const cl_event *list, cl_event *event),
     (queue, kernel, dimensions, offset, global, local, waits, list, event), event)
CALL(clEnqueueReadBuffer,
     (cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size, void *to, cl_uint waits,
      const cl_event *list, cl_event *event),
     (queue, buffer, blocking, offset, size, to, waits, list, event), event)
CALL(clEnqueueWriteBuffer,
     (cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size, const void *from,
      cl_uint waits, const cl_event *list, cl_event *event),
     (queue, buffer, blocking, offset, size, from, waits, list, event), event)
CALL(clEnqueueCopyBuffer,
     (cl_command_queue queue, cl_mem from, cl_mem to, size_t from_offset, size_t to_offset, size_t size, cl_uint waits,
      const cl_event *list, cl_event *event),
     (queue, from, to, from_offset, to_offset, size, waits, list, event), event)
CALL(clEnqueueFillBuffer,
     (cl_command_queue queue, cl_mem buffer, const void *pattern, size_t pattern_size, size_t offset, size_t size,
      cl_uint waits, const cl_event *list, cl_event *event),
     (queue, buffer, pattern, pattern_size, offset, size, waits, list, event), event)
CALL(clEnqueueBarrierWithWaitList, (cl_command_queue queue, cl_uint waits, const cl_event *list, cl_event *event),
     (queue, waits, list, event), event)
CALL(clEnqueueUnmapMemObject,
     (cl_command_queue queue, cl_mem memory, void *mapped, cl_uint waits, const cl_event *list, cl_event *event),
     (queue, memory, mapped, waits, list, event), event)
CALL(clFlush, (cl_command_queue queue), (queue), NULL)
WAIT(clFinish, (cl_command_queue queue), (queue))
WAIT(clWaitForEvents, (cl_uint many, const cl_event *list), (many, list))

MAKE(cl_context, clCreateContext,
     (const cl_context_properties *properties, cl_uint devices, const cl_device_id *list,
      void(CL_CALLBACK *notify)(const char *, const void *, size_t, void *), void *data, cl_int *error),
     (properties, devices, list, notify, data, error))
MAKE(cl_command_queue, clCreateCommandQueue,
     (cl_context context, cl_device_id device, cl_command_queue_properties properties, cl_int *error),
     (context, device, properties, error))
MAKE(cl_mem, clCreateBuffer, (cl_context context, cl_mem_flags flags, size_t size, void *host, cl_int *error),
     (context, flags, size, host, error))
MAKE(cl_program, clCreateProgramWithSource,
     (cl_context context, cl_uint many, const char **texts, const size_t *lengths, cl_int *error),
     (context, many, texts, lengths, error))
MAKE(cl_program, clCreateProgramWithBinary,
     (cl_context context, cl_uint devices, const cl_device_id *list, const size_t *sizes,
      const unsigned char **binaries, cl_int *status, cl_int *error),
     (context, devices, list, sizes, binaries, status, error))
MAKE(cl_kernel, clCreateKernel, (cl_program program, const char *name, cl_int *error), (program, name, error))

/* What it returns is no object of its own. */
void *clEnqueueMapBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, cl_map_flags flags, size_t offset,
                         size_t size, cl_uint waits, const cl_event *list, cl_event *event, cl_int *error)
{
	void *(*next)(cl_command_queue, cl_mem, cl_bool, cl_map_flags, size_t, size_t, cl_uint, const cl_event *,
	              cl_event *, cl_int *);
	cl_int code = strike("clEnqueueMapBuffer");
	if (code != CL_SUCCESS) {
		if (error)
			*error = code;
		return NULL;
	}
	find(&next, "clEnqueueMapBuffer");
	return next(queue, buffer, blocking, flags, offset, size, waits, list, event, error);
}

DROP(cl_context, clReleaseContext)
DROP(cl_command_queue, clReleaseCommandQueue)
DROP(cl_mem, clReleaseMemObject)
DROP(cl_program, clReleaseProgram)
DROP(cl_kernel, clReleaseKernel)
DROP(cl_event, clReleaseEvent)
