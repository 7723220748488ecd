/*
 * Weight files in the safetensors form: eight bytes of header length, a JSON header, the tensors' bytes.
 *
 * Reading maps the file and checks all of the header before anything is handed out, so that a truncated or foreign
 * file is one clear message. Writing streams tensor by tensor into a temporary file of the same folder, which takes
 * the final name only when it is whole. Dtypes are F32, F64, BF16 and I32.
 */
#ifndef PENSTOCK_SAFETENSORS_H
#define PENSTOCK_SAFETENSORS_H

#include <penstock/status.h>
#include <penstock/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a file says of one tensor. `data` is borrowed from the reader and aligned to its element. */
typedef struct ps_saved_tensor {
	const char *name;
	ps_dtype dtype;
	int rank;
	int64_t dims[PS_MAX_RANK];
	const void *data; /* row-major, little-endian; NULL in what a writer is given */
	uint64_t bytes;
} ps_saved_tensor;

typedef struct ps_safetensors ps_safetensors;

/*
 * Opens and checks a file: PS_ENOENT when there is none, PS_EINVAL when it cannot be read, PS_EFORMAT, naming the file
 * and what is wrong, for any other file than a whole one. The caller owns *out.
 */
ps_status ps_safetensors_open(ps_safetensors **out, const char *path) PS_WARN_UNUSED;
/* Takes NULL. */
void ps_safetensors_close(ps_safetensors *file);
/* As it was given to ps_safetensors_open; borrowed. */
const char *ps_safetensors_path(const ps_safetensors *file);

/* The tensors in the order of their bytes. */
int ps_safetensors_count(const ps_safetensors *file);
const ps_saved_tensor *ps_safetensors_get(const ps_safetensors *file, int index);
/* NULL when there is no tensor of this name. */
const ps_saved_tensor *ps_safetensors_find(const ps_safetensors *file, const char *name);
/* A text of the file's __metadata__; NULL when there is none of this name. */
const char *ps_safetensors_metadata(const ps_safetensors *file, const char *key);

/* One text of __metadata__. */
typedef struct ps_metadata {
	const char *key, *value;
} ps_metadata;

typedef struct ps_safetensors_writer ps_safetensors_writer;

/*
 * Starts a file that will hold `tensors` (their `data` is not read) in this order. Nothing is seen under `path` before
 * the commit. The caller owns *out and ends it with commit or abandon.
 */
ps_status ps_safetensors_writer_create(ps_safetensors_writer **out, const char *path, const ps_saved_tensor *tensors,
                                       int count, const ps_metadata *metadata, int metadata_count) PS_WARN_UNUSED;
/* The bytes of the next tensor, all of them at once. */
ps_status ps_safetensors_writer_put(ps_safetensors_writer *writer, const void *data) PS_WARN_UNUSED;
/* Puts the whole file under its name and destroys the writer, also on failure, where the old file stays as it was. */
ps_status ps_safetensors_writer_commit(ps_safetensors_writer *writer) PS_WARN_UNUSED;
/* Throws away what was written. Takes NULL. */
void ps_safetensors_writer_abandon(ps_safetensors_writer *writer);

#ifdef __cplusplus
}
#endif
#endif
