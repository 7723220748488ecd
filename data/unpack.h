/* Takes the wanted files out of an archive. */
#ifndef PENSTOCK_DATA_UNPACK_H
#define PENSTOCK_DATA_UNPACK_H

#include <penstock/data.h>

/*
 * Reads the archive (zip, or tar with gzip or xz) behind `descriptor` and writes each wanted file as NAME.part into
 * the folder open as `folder`, checked for size and checksum and flushed to the disk. An archive with an absolute path,
 * with ".." in a path, with a wanted name that is no plain file or comes twice, or without a wanted file is refused
 * (PS_EIO). On failure no .part file stays.
 */
ps_status ps__unpack(int descriptor, int folder, const ps_fetch_source *source);

#endif
