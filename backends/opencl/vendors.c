/* What the ICD loader passes over in silence: files that name a library which cannot be opened. */
#include "backends/opencl/opencl.h"

#include <dirent.h>
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char usual_folder[] = "/etc/OpenCL/vendors";

void ps__cl_note(char *text, size_t bytes, const char *format, ...)
{
	size_t used = strlen(text);
	va_list arguments;
	va_start(arguments, format);
	if (used + 3 < bytes) {
		if (used) {
			strcpy(text + used, "; ");
			used += 2;
		}
		vsnprintf(text + used, bytes - used, format, arguments);
	}
	va_end(arguments);
}

/* Tries the library that a file names in its first line, as the loader does. */
static void try_file(const char *path, char *text, size_t bytes)
{
	char library[1024];
	FILE *file = fopen(path, "r");
	if (!file)
		return;
	bool named = fgets(library, sizeof library, file) != NULL;
	(void)fclose(file); /* it was read only */
	if (!named)
		return;
	library[strcspn(library, "\n")] = '\0';
	/* Never closed: a driver need not survive being loaded a second time. */
	if (!dlopen(library, RTLD_LAZY | RTLD_LOCAL))
		ps__cl_note(text, bytes, "%s: %s", path, dlerror());
}

static int is_vendor(const struct dirent *file)
{
	const char *dot = strrchr(file->d_name, '.');
	return dot && !strcmp(dot, ".icd");
}

void ps__cl_note_vendors(char *text, size_t bytes)
{
	const char *named = getenv("OCL_ICD_VENDORS"), *folder = named && *named ? named : usual_folder;
	struct dirent **files;
	struct stat facts;
	if (stat(folder, &facts)) {
		ps__cl_note(text, bytes, "there is no %s", folder);
		return;
	}
	if (!S_ISDIR(facts.st_mode)) {
		try_file(folder, text, bytes);
		return;
	}
	int count = scandir(folder, &files, is_vendor, alphasort);
	if (count == 0)
		ps__cl_note(text, bytes, "no *.icd in %s", folder);
	for (int i = 0; i < count; i++) {
		char path[2048];
		int length = snprintf(path, sizeof path, "%s/%s", folder, files[i]->d_name);
		if (length > 0 && (size_t)length < sizeof path)
			try_file(path, text, bytes);
		free(files[i]);
	}
	if (count >= 0)
		free(files);
}
