/* A temporary folder for a test, made and removed by a checked fixture. */
#ifndef PS_TESTS_SUPPORT_FOLDER_H
#define PS_TESTS_SUPPORT_FOLDER_H

#include <stddef.h>

void folder_make(void);
void folder_remove(void);

/* The path of a name in the folder (of the folder itself for ""); valid until the eighth call after this one. */
const char *folder_path(const char *name);

void folder_write(const char *name, const void *bytes, size_t size);

/* The bytes of a file and a NUL; the caller frees them. */
char *folder_read(const char *name, size_t *size);

/* How many files in a subfolder ("" for the folder) begin with `prefix`; `name` gets the last one's, with `sub`/. */
int folder_find(const char *sub, const char *prefix, char name[300]);

#endif
