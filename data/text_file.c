/* Opens a text file and says plainly what is wrong with one that cannot be used. */
#include "data/text_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static ps_status map(ps__text_file *file, const char *path, int descriptor)
{
	struct stat info;
	if (fstat(descriptor, &info) != 0)
		return ps_fail(PS_EIO, "%s: %s", path, strerror(errno));
	if (S_ISDIR(info.st_mode))
		return ps_fail(PS_EINVAL, "%s is a folder; it must be a text file", path);
	if (!S_ISREG(info.st_mode))
		return ps_fail(PS_EINVAL, "%s is not a regular file; it must be a text file", path);
	if (info.st_size == 0)
		return ps_fail(PS_EFORMAT, "%s is empty; it must hold text", path);
	if ((uintmax_t)info.st_size > SIZE_MAX)
		return ps_fail(PS_ETOOBIG, "%s has %jd bytes, more than fit into the memory", path,
		               (intmax_t)info.st_size);
	void *bytes = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
	if (bytes == MAP_FAILED)
		return ps_fail(PS_EIO, "%s cannot be mapped into the memory: %s", path, strerror(errno));
	(void)posix_madvise(bytes, (size_t)info.st_size, POSIX_MADV_SEQUENTIAL);
	*file = (ps__text_file){bytes, (size_t)info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
	return PS_OK;
}

ps_status ps__text_file_open(ps__text_file *file, const char *path)
{
	/* O_NONBLOCK so that a named pipe does not wait for its writer. */
	int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (descriptor < 0) {
		int error = errno;
		ps_status status = error == ENOENT || error == ENOTDIR ? PS_ENOENT : PS_EINVAL;
		return ps_fail(status, "%s cannot be opened: %s", path, strerror(error));
	}
	ps_status status = map(file, path, descriptor);
	(void)close(descriptor);
	return status;
}

void ps__text_file_close(ps__text_file *file)
{
	if (file->bytes != NULL)
		(void)munmap((void *)(uintptr_t)file->bytes, file->size);
	*file = (ps__text_file){0};
}
