/* Files that appear under their names only whole, and the check that one can be written at all. */
#ifndef PS_TRAIN_OUTPUT_FILE_H
#define PS_TRAIN_OUTPUT_FILE_H

#include <penstock/status.h>

#include <stddef.h>
#include <stdio.h>

typedef struct ps__output_file {
	char *path, *temporary;
	FILE *stream;
} ps__output_file;

/* Opens a temporary file beside `path`. On failure there is nothing to abandon. */
ps_status ps__output_file_open(ps__output_file *out, const char *path) PS_WARN_UNUSED;
ps_status ps__output_file_write(ps__output_file *file, const void *data, size_t bytes) PS_WARN_UNUSED;
/* Flushes to the disk and renames over `path`. The file is closed in any case; on failure nothing is left behind. */
ps_status ps__output_file_commit(ps__output_file *file) PS_WARN_UNUSED;
/* Takes a zeroed or closed struct. */
void ps__output_file_abandon(ps__output_file *file);

#endif
