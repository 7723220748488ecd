/* Building the kernels of a device, from the cache of binaries where it has them. */
#include "backends/opencl/opencl.h"

#include "gemm_kernels.h" /* made at build time: cl_gemm_source, the text of common.cl and gemm.cl */
#include "kernels.h"      /* likewise: cl_source, that of all other kernels */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION_BYTES = 512 };

/* The options of all programs, then `more`. */
static void options_of(const struct cl_device *d, ps_dtype dtype, const char *more, char *text)
{
	bool wide = dtype == PS_F64;
	snprintf(text, OPTION_BYTES, "-cl-std=CL1.2 -DVEC=%d -DGROUP=%d -DSPAN=%d -DLANES=%d%s%s%s%s %s",
	         d->vector[wide], d->group, d->span, CL_LANES, d->fp64 ? " -DFP64" : "", wide ? " -DWIDE" : "",
	         d->cpu ? " -DON_CPU" : "",
	         d->serial ? " -cl-opt-disable" /* Oclgrind does not know all that an optimiser makes */
	         : d->cpu  ? ""
	                   : " -cl-fp32-correctly-rounded-divide-sqrt",
	         more);
}

/* All that a binary depends on: the device, its driver, the options and the source. */
static char *key_of(const struct cl_device *d, const char *options, const char *source)
{
	size_t bytes = strlen(d->identity) + strlen(options) + strlen(source) + 3;
	char *key = malloc(bytes);
	if (key)
		snprintf(key, bytes, "%s\n%s\n%s", d->identity, options, source);
	return key;
}

static bool built_well(const struct cl_device *d, cl_program program, const char *options)
{
	return clBuildProgram(program, 1, &d->id, options, NULL, NULL) == CL_SUCCESS;
}

static cl_program from_cache(const struct cl_device *d, const char *key, const char *options)
{
	unsigned char *data;
	size_t bytes;
	if (ps__cl_cache_load(key, key, "bin", &data, &bytes) != CL_CACHE_GOOD)
		return NULL;
	cl_int error, status = CL_SUCCESS;
	const unsigned char *binary = data;
	cl_program program = clCreateProgramWithBinary(d->context, 1, &d->id, &bytes, &binary, &status, &error);
	free(data);
	if (error != CL_SUCCESS)
		return NULL;
	if (status == CL_SUCCESS && built_well(d, program, options))
		return program;
	clReleaseProgram(program);
	return NULL;
}

static void to_cache(cl_program program, const char *key)
{
	size_t bytes = 0;
	if (clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL) != CL_SUCCESS || !bytes)
		return;
	unsigned char *binary = malloc(bytes);
	if (binary && clGetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL) == CL_SUCCESS)
		(void)ps__cl_cache_save(key, key, "bin", binary, bytes); /* without it the next start compiles */
	free(binary);
}

/* Writes the compiler's log to a file beside the binaries and names it in the failure. */
static ps_status report(const struct cl_device *d, cl_program program, const char *key, cl_int error)
{
	size_t bytes = 0;
	char path[4096] = "", *log = NULL;
	if (clGetProgramBuildInfo(program, d->id, CL_PROGRAM_BUILD_LOG, 0, NULL, &bytes) == CL_SUCCESS && bytes)
		log = calloc(1, bytes + 1);
	bool written = false;
	if (log && clGetProgramBuildInfo(program, d->id, CL_PROGRAM_BUILD_LOG, bytes, log, NULL) == CL_SUCCESS &&
	    ps__cl_cache_path(path, sizeof path, key, "log")) {
		FILE *file = fopen(path, "w");
		if (file) {
			written = fputs(log, file) >= 0;
			written = !fclose(file) && written;
		}
	}
	free(log);
	return ps_fail(PS_EDEVICE, "opencl:%d (%s): its compiler does not take the kernels: %s%s%s", d->index, d->name,
	               ps__cl_error_name(error), written ? "; its log is " : "", written ? path : "");
}

static ps_status compile(cl_program *out, const struct cl_device *d, const char *key, const char *options,
                         const char *source)
{
	cl_int error;
	cl_program program = clCreateProgramWithSource(d->context, 1, &source, NULL, &error);
	if (error != CL_SUCCESS)
		return ps__cl_fail(d->name, "no program from the kernels' source", error);
	error = clBuildProgram(program, 1, &d->id, options, NULL, NULL);
	if (error != CL_SUCCESS) {
		ps_status status = report(d, program, key, error);
		clReleaseProgram(program);
		return status;
	}
	to_cache(program, key);
	*out = program;
	return PS_OK;
}

static ps_status build(cl_program *out, const struct cl_device *d, ps_dtype dtype, const char *more, const char *source)
{
	char options[OPTION_BYTES];
	options_of(d, dtype, more, options);
	char *key = key_of(d, options, source);
	if (!key)
		return ps_fail(PS_ENOMEM, "out of memory for the kernels of %s", d->name);
	cl_program program = from_cache(d, key, options);
	ps_status status = program ? PS_OK : compile(&program, d, key, options, source);
	free(key);
	if (status == PS_OK)
		*out = program;
	return status;
}

struct job {
	struct cl_device *device;
	ps_dtype dtype;
};

static ps_status build_once(void *argument)
{
	const struct job *job = argument;
	struct cl_device *device = job->device;
	bool wide = job->dtype == PS_F64;
	pthread_mutex_lock(&device->mutex);
	cl_program *program = &device->program[wide];
	ps_status status = *program ? PS_OK : build(program, device, job->dtype, "", cl_source);
	if (status == PS_OK)
		atomic_store(&device->built[wide], 1);
	pthread_mutex_unlock(&device->mutex);
	return status;
}

/* The mutex is taken within the call: the thread of serial.c may want it for what it does before. */
ps_status ps__cl_build(struct cl_device *device, ps_dtype dtype)
{
	struct job job = {device, dtype};
	return atomic_load(&device->built[dtype == PS_F64]) ? PS_OK : ps__cl_call(device, build_once, &job);
}

ps_status ps__cl_build_gemm(struct cl_device *device, ps_dtype dtype, int form, const char *options)
{
	cl_program *program = &device->gemm_program[dtype == PS_F64][form];
	pthread_mutex_lock(&device->mutex);
	ps_status status = *program ? PS_OK : build(program, device, dtype, options, cl_gemm_source);
	pthread_mutex_unlock(&device->mutex);
	return status;
}
