/* OpenCL's error codes as text and as a status. */
#include "backends/opencl/opencl.h"

#include <stdio.h>

#define CODES(X)                                     \
	X(DEVICE_NOT_FOUND)                          \
	X(DEVICE_NOT_AVAILABLE)                      \
	X(COMPILER_NOT_AVAILABLE)                    \
	X(MEM_OBJECT_ALLOCATION_FAILURE)             \
	X(OUT_OF_RESOURCES)                          \
	X(OUT_OF_HOST_MEMORY)                        \
	X(MEM_COPY_OVERLAP)                          \
	X(BUILD_PROGRAM_FAILURE)                     \
	X(MAP_FAILURE)                               \
	X(MISALIGNED_SUB_BUFFER_OFFSET)              \
	X(EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST) \
	X(INVALID_VALUE)                             \
	X(INVALID_PLATFORM)                          \
	X(INVALID_DEVICE)                            \
	X(INVALID_CONTEXT)                           \
	X(INVALID_COMMAND_QUEUE)                     \
	X(INVALID_MEM_OBJECT)                        \
	X(INVALID_BINARY)                            \
	X(INVALID_BUILD_OPTIONS)                     \
	X(INVALID_PROGRAM)                           \
	X(INVALID_PROGRAM_EXECUTABLE)                \
	X(INVALID_KERNEL_NAME)                       \
	X(INVALID_KERNEL)                            \
	X(INVALID_ARG_INDEX)                         \
	X(INVALID_ARG_VALUE)                         \
	X(INVALID_ARG_SIZE)                          \
	X(INVALID_KERNEL_ARGS)                       \
	X(INVALID_WORK_DIMENSION)                    \
	X(INVALID_WORK_GROUP_SIZE)                   \
	X(INVALID_WORK_ITEM_SIZE)                    \
	X(INVALID_GLOBAL_OFFSET)                     \
	X(INVALID_EVENT_WAIT_LIST)                   \
	X(INVALID_EVENT)                             \
	X(INVALID_OPERATION)                         \
	X(INVALID_BUFFER_SIZE)                       \
	X(INVALID_GLOBAL_WORK_SIZE)

/* Of cl_khr_icd, in a header of its own. */
#define NO_PLATFORM (-1001)

const char *ps__cl_error_name(cl_int error)
{
	static _Thread_local char unknown[32];
	switch (error) {
#define CODE(name)      \
	case CL_##name: \
		return "CL_" #name;
		CODES(CODE)
#undef CODE
	case NO_PLATFORM:
		return "CL_PLATFORM_NOT_FOUND_KHR";
	default:
		snprintf(unknown, sizeof unknown, "OpenCL error %d", (int)error);
		return unknown;
	}
}

ps_status ps__cl_status(cl_int error)
{
	switch (error) {
	case CL_SUCCESS:
		return PS_OK;
	case CL_MEM_OBJECT_ALLOCATION_FAILURE:
	case CL_OUT_OF_RESOURCES:
	case CL_OUT_OF_HOST_MEMORY:
		return PS_ENOMEM;
	default:
		return PS_EDEVICE;
	}
}

ps_status ps__cl_fail(const char *where, const char *what, cl_int error)
{
	return ps_fail(ps__cl_status(error), "%s: %s: %s", where, what, ps__cl_error_name(error));
}
