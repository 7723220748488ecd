/*
 * Fetches a published data set. The archive grows as ARCHIVE.part in the target folder, is checked, unpacked into
 * NAME.part files, and only when all of them are right does each get its name. A lock on ARCHIVE.part keeps two
 * fetches apart.
 */
#include "data/digest.h"
#include "data/download.h"
#include "data/unpack.h"

#include <penstock/data.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STALL_SECONDS = 30, CONNECT_SECONDS = 15, ATTEMPTS = 3 };

/* Makes the folder and those above it, and says whether it is new; PS_EINVAL when that cannot be. */
static ps_status make_folders(const char *folder, int *is_new)
{
	char *path = strdup(folder);
	if (path == NULL)
		return ps_fail(PS_ENOMEM, "no memory for a path");
	for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdir(path, 0777);
		*slash = '/';
	}
	int error = mkdir(path, 0777) == 0 ? 0 : errno;
	free(path);
	*is_new = error == 0;
	if (error != 0 && error != EEXIST)
		return ps_fail(PS_EINVAL, "the folder %s cannot be made: %s", folder, strerror(error));
	return PS_OK;
}

/* Whether a file is there and is what was published: 1, 0 when there is none, or PS_EINVAL for another file. */
static ps_status check_file(int folder, const char *to, const ps_fetch_file *file, int *there)
{
	*there = 0;
	int descriptor = openat(folder, file->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (descriptor < 0 && errno == ENOENT)
		return PS_OK;
	struct stat info;
	char hex[PS__DIGEST_HEX] = "";
	int same = descriptor >= 0 && fstat(descriptor, &info) == 0 && S_ISREG(info.st_mode) &&
	           (uint64_t)info.st_size == file->bytes && ps__digest_descriptor(descriptor, "SHA256", hex) == PS_OK &&
	           strcmp(hex, file->sha256) == 0;
	if (descriptor >= 0)
		(void)close(descriptor);
	if (!same)
		return ps_fail(PS_EINVAL,
		               "%s/%s is there already and is not the published file; move it away or name another "
		               "folder",
		               to, file->name);
	*there = 1;
	return PS_OK;
}

static ps_status check_files(int folder, const char *to, const ps_fetch_source *source, int *all_there)
{
	*all_there = 1;
	for (size_t i = 0; i < source->file_count; i++) {
		int there = 0;
		PS_TRY(check_file(folder, to, &source->files[i], &there));
		*all_there &= there;
	}
	return PS_OK;
}

/* Compares the archive's digest with the published one; NULL is none. */
static ps_status check_digest(int descriptor, const char *algorithm, const char *expected, const char *url)
{
	if (expected == NULL)
		return PS_OK;
	if (lseek(descriptor, 0, SEEK_SET) != 0)
		return ps_fail(PS_EIO, "the download cannot be read: %s", strerror(errno));
	char hex[PS__DIGEST_HEX];
	PS_TRY(ps__digest_descriptor(descriptor, algorithm, hex));
	if (strcmp(hex, expected) != 0)
		return ps_fail(PS_EIO, "what came from %s is not the published file: its %s is %s, not %s", url,
		               algorithm, hex, expected);
	return PS_OK;
}

static ps_status check_archive(int descriptor, const ps_fetch_source *source, const char *url)
{
	struct stat info;
	if (fstat(descriptor, &info) != 0)
		return ps_fail(PS_EIO, "the download cannot be read: %s", strerror(errno));
	if (source->bytes > 0 && (uint64_t)info.st_size != source->bytes)
		return ps_fail(PS_EIO, "what came from %s has %lld bytes; the published file has %llu", url,
		               (long long)info.st_size, (unsigned long long)source->bytes);
	PS_TRY(check_digest(descriptor, "SHA256", source->sha256, url));
	return check_digest(descriptor, "MD5", source->md5, url);
}

/*
 * Downloads until the whole archive is here and right. A transfer that broke off is taken up again; an archive that
 * was put together from parts and is wrong is fetched once more from its beginning.
 */
static ps_status get_archive(ps__download *download, const ps_fetch_source *source, int attempts)
{
	struct stat info;
	if (fstat(download->descriptor, &info) != 0)
		return ps_fail(PS_EIO, "the unfinished download cannot be read: %s", strerror(errno));
	/* One that was complete and was not unpacked, because the machine went down for instance. */
	if (info.st_size > 0 && (source->sha256 != NULL || source->md5 != NULL) &&
	    check_archive(download->descriptor, source, download->url) == PS_OK)
		return PS_OK;
	int from_parts = 0;
	for (int attempt = 1;; attempt++) {
		ps__download_result result;
		ps_status status = ps__download_run(download, &result);
		from_parts |= result.resumed;
		if (status != PS_OK) {
			if (!result.try_again || attempt >= attempts)
				return status;
			continue;
		}
		status = check_archive(download->descriptor, source, download->url);
		if (status == PS_OK)
			return PS_OK;
		if (ftruncate(download->descriptor, 0) != 0)
			return ps_fail(PS_EIO, "the wrong download cannot be emptied: %s", strerror(errno));
		if (!from_parts)
			return status;
		from_parts = 0;
	}
}

/* Gives the unpacked files their names. */
static ps_status name_files(int folder, const char *to, const ps_fetch_source *source)
{
	for (size_t i = 0; i < source->file_count; i++) {
		char part[256];
		snprintf(part, sizeof part, "%s.part", source->files[i].name);
		if (renameat(folder, part, folder, source->files[i].name) != 0)
			return ps_fail(PS_EIO, "%s/%s cannot get its name: %s", to, part, strerror(errno));
	}
	if (fsync(folder) != 0 && errno != EINVAL)
		return ps_fail(PS_EIO, "the folder %s cannot be written: %s", to, strerror(errno));
	return PS_OK;
}

/* The lock ends when the descriptor is closed. */
static ps_status lock(int descriptor, const char *to, const char *part)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	if (fcntl(descriptor, F_SETLK, &whole) == 0)
		return PS_OK;
	if (errno == EACCES || errno == EAGAIN)
		return ps_fail(PS_EIO, "another process is writing %s/%s; wait until it is done", to, part);
	return PS_OK; /* A file system without locks is no reason to refuse. */
}

static ps_status fetch_into(int folder, const char *to, const ps_fetch_source *source, const ps_fetch_options *options)
{
	char part[256];
	snprintf(part, sizeof part, "%s.part", source->archive);
	int descriptor = openat(folder, part, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
	if (descriptor < 0)
		return ps_fail(PS_EINVAL, "%s/%s cannot be written: %s", to, part, strerror(errno));
	ps__download download = {
	        .url = options->url != NULL ? options->url : source->url,
	        .descriptor = descriptor,
	        .bytes = source->bytes,
	        .stall_seconds = options->stall_seconds > 0 ? options->stall_seconds : STALL_SECONDS,
	        .connect_seconds = options->connect_seconds > 0 ? options->connect_seconds : CONNECT_SECONDS,
	        .progress = options->progress,
	        .user = options->user,
	};
	ps_status status = lock(descriptor, to, part);
	int locked = status == PS_OK;
	if (status == PS_OK)
		status = get_archive(&download, source, options->attempts > 0 ? options->attempts : ATTEMPTS);
	if (status == PS_OK)
		status = ps__unpack(descriptor, folder, source);
	if (status == PS_OK)
		status = name_files(folder, to, source);
	/* An empty start is of no use to anyone; nor is the archive once its files are out. */
	struct stat info;
	if (locked && (status == PS_OK || (fstat(descriptor, &info) == 0 && info.st_size == 0)))
		(void)unlinkat(folder, part, 0);
	(void)close(descriptor);
	return status;
}

ps_status ps_data_fetch(const ps_fetch_source *source, const char *to, const ps_fetch_options *options)
{
	static const ps_fetch_options defaults;
	if (options == NULL)
		options = &defaults;
	if (to == NULL || to[0] == '\0')
		return ps_fail(PS_EINVAL, "no folder was named to put %s into", source->name);
	PS_TRY(ps__download_check_url(options->url != NULL ? options->url : source->url));
	int is_new = 0;
	PS_TRY(make_folders(to, &is_new));
	int folder = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return ps_fail(PS_EINVAL, "%s cannot be used as a folder: %s", to, strerror(errno));
	int all_there = 0;
	ps_status status = check_files(folder, to, source, &all_there);
	if (status == PS_OK && !all_there)
		status = fetch_into(folder, to, source, options);
	(void)close(folder);
	/* A new folder goes again, unless a part of the download is in it. */
	if (status != PS_OK && is_new)
		(void)rmdir(to);
	return status;
}
