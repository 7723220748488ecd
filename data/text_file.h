/* A text file mapped into memory for reading. */
#ifndef PENSTOCK_DATA_TEXT_FILE_H
#define PENSTOCK_DATA_TEXT_FILE_H

#include <penstock/status.h>

#include <stddef.h>
#include <stdint.h>

/* The file must not be cut short by another process while it is open: reading past the new end raises SIGBUS. */
typedef struct ps__text_file {
	const uint8_t *bytes;
	size_t size;
	int64_t seconds; /* when it was last changed */
	int64_t nanoseconds;
} ps__text_file;

/* PS_ENOENT, PS_EINVAL (a folder, a device, not readable), PS_EFORMAT (empty), PS_ETOOBIG or PS_EIO. */
ps_status ps__text_file_open(ps__text_file *file, const char *path);

/* Takes a zeroed one. */
void ps__text_file_close(ps__text_file *file);

#endif
