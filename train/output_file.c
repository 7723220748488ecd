/* A temporary file in the same folder, fsync, rename. */
#include "train/output_file.h"

#include <penstock/train.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char temporary_name[] = ".penstock-XXXXXX";

/* The folder that `path` is in, with its last slash: "" for the current one. The caller frees it; NULL: no memory. */
static char *folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	return strndup(path, slash == NULL ? 0 : (size_t)(slash - path) + 1);
}

/* Creates an empty temporary file in the folder of `path`. The caller frees *name. */
static ps_status create_temporary(const char *path, char **name, int *descriptor)
{
	char *folder = folder_of(path);
	size_t length = folder == NULL ? 0 : strlen(folder);
	char *temporary = folder == NULL ? NULL : malloc(length + sizeof temporary_name);
	if (temporary == NULL) {
		free(folder);
		return ps_fail(PS_ENOMEM, "%s: no memory for a file name", path);
	}
	snprintf(temporary, length + sizeof temporary_name, "%s%s", folder, temporary_name);
	*descriptor = mkstemp(temporary);
	if (*descriptor < 0) {
		ps_status status = ps_fail(errno == ENOSPC || errno == EIO ? PS_EIO : PS_EINVAL,
		                           "%s: no file can be written into the folder %s: %s", path,
		                           length > 0 ? folder : ".", strerror(errno));
		free(temporary);
		free(folder);
		return status;
	}
	free(folder);
	*name = temporary;
	return PS_OK;
}

/* What stands under the name now must be a file that may be replaced, or nothing. */
static ps_status check_target(const char *path)
{
	struct stat info;
	if (path[0] == '\0')
		return ps_fail(PS_EINVAL, "an empty file name; give the path of a file to write");
	if (stat(path, &info) != 0) {
		if (errno == ENOENT && path[strlen(path) - 1] != '/')
			return PS_OK;
		return ps_fail(PS_EINVAL, "%s: cannot be written: %s", path, strerror(errno));
	}
	if (S_ISDIR(info.st_mode))
		return ps_fail(PS_EINVAL, "%s: is a folder; give the path of a file to write", path);
	if (!S_ISREG(info.st_mode))
		return ps_fail(PS_EINVAL, "%s: is no regular file and cannot be replaced by one", path);
	if (access(path, W_OK) != 0)
		return ps_fail(PS_EINVAL, "%s: cannot be written: %s", path, strerror(errno));
	return PS_OK;
}

ps_status ps_output_check(const char *path)
{
	char *temporary;
	int descriptor;
	PS_TRY(check_target(path));
	PS_TRY(create_temporary(path, &temporary, &descriptor));
	int failed = close(descriptor);
	failed |= unlink(temporary);
	ps_status status = failed ? ps_fail(PS_EIO, "%s: %s", temporary, strerror(errno)) : PS_OK;
	free(temporary);
	return status;
}

static mode_t creation_mode(const char *path)
{
	struct stat info;
	if (stat(path, &info) == 0)
		return info.st_mode & 0777;
	mode_t mask = umask(0);
	umask(mask);
	return 0666 & ~mask;
}

ps_status ps__output_file_open(ps__output_file *out, const char *path)
{
	ps__output_file file = {0};
	int descriptor;
	PS_TRY(check_target(path));
	PS_TRY(create_temporary(path, &file.temporary, &descriptor));
	file.path = strdup(path);
	/* mkstemp's mode is for secrets; this file is as open as any other that the user makes. */
	int failed = fchmod(descriptor, creation_mode(path));
	file.stream = fdopen(descriptor, "wb");
	if (failed || file.stream == NULL || file.path == NULL) {
		ps_status status = ps_fail(PS_EIO, "%s: %s", path, strerror(errno));
		if (file.stream == NULL)
			close(descriptor);
		ps__output_file_abandon(&file);
		return status;
	}
	*out = file;
	return PS_OK;
}

ps_status ps__output_file_write(ps__output_file *file, const void *data, size_t bytes)
{
	if (fwrite(data, 1, bytes, file->stream) != bytes)
		return ps_fail(PS_EIO, "%s: writing failed: %s", file->path, strerror(errno));
	return PS_OK;
}

/* A rename is lasting only when its folder is on the disk; file systems that cannot sync a folder are passed over. */
static void sync_folder(const char *path)
{
	char *folder = folder_of(path);
	if (folder == NULL)
		return;
	int descriptor = open(folder[0] != '\0' ? folder : ".", O_RDONLY | O_DIRECTORY);
	if (descriptor >= 0) {
		(void)fsync(descriptor);
		close(descriptor);
	}
	free(folder);
}

ps_status ps__output_file_commit(ps__output_file *file)
{
	int failed = fflush(file->stream) != 0 || fsync(fileno(file->stream)) != 0;
	int error = errno;
	if (fclose(file->stream) != 0 && !failed) {
		failed = 1;
		error = errno;
	}
	file->stream = NULL;
	if (!failed && rename(file->temporary, file->path) != 0) {
		failed = 1;
		error = errno;
	}
	ps_status status = PS_OK;
	if (failed) {
		status = ps_fail(PS_EIO, "%s: writing failed: %s", file->path, strerror(error));
	} else {
		sync_folder(file->path);
		free(file->temporary);
		file->temporary = NULL;
	}
	ps__output_file_abandon(file);
	return status;
}

void ps__output_file_abandon(ps__output_file *file)
{
	if (file->stream != NULL)
		fclose(file->stream);
	if (file->temporary != NULL)
		unlink(file->temporary);
	free(file->temporary);
	free(file->path);
	*file = (ps__output_file){0};
}
