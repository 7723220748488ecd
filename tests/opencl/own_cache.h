/* A cache of kernels of a test's own, in the temporary folder of tests/support/folder.h. */
#ifndef PS_TESTS_OPENCL_OWN_CACHE_H
#define PS_TESTS_OPENCL_OWN_CACHE_H

/* Penstock's cache from now on; PoCL keeps its own where it was, since it would compile everything for minutes. */
void own_cache_use(const char *path);

/* Fills in the paths of up to `most` files of the cache in folder_path("") with the suffix; returns how many. */
int own_cache_files(const char *suffix, char (*paths)[512], int most);

/* Damages a byte in the middle of a file. */
void own_cache_flip(const char *path);

#endif
