/*
 * Archives by libarchive. Nothing in an archive says where a file goes: a wanted file is known by its last path
 * component and gets the name that the caller gave, so that paths are only looked at to refuse strange archives.
 */
#include "data/unpack.h"

#include "data/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

typedef struct unpacking {
	struct archive *archive;
	int folder;
	const ps_fetch_source *source;
	char *found; /* one flag for each wanted file */
} unpacking;

static int leaves_folder(const char *path)
{
	if (path[0] == '/' || strchr(path, '\\') != NULL)
		return 1;
	for (const char *at = path; at != NULL; at = strchr(at, '/')) {
		at += *at == '/';
		if (strncmp(at, "..", 2) == 0 && (at[2] == '\0' || at[2] == '/'))
			return 1;
	}
	return 0;
}

/* The wanted file of this path, or file_count. */
static size_t wanted(const ps_fetch_source *source, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash != NULL ? slash + 1 : path;
	size_t i = 0;
	while (i < source->file_count && strcmp(source->files[i].name, name) != 0)
		i++;
	return i;
}

static ps_status write_all(int descriptor, const char *bytes, size_t size, const char *name)
{
	while (size > 0) {
		ssize_t put = write(descriptor, bytes, size);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return ps_fail(PS_EIO, "%s cannot be written: %s", name, strerror(errno));
		bytes += put;
		size -= (size_t)put;
	}
	return PS_OK;
}

/* Copies the entry that the archive stands at into a descriptor and checks it against what was published. */
static ps_status copy_entry(const unpacking *u, const ps_fetch_file *file, int descriptor, ps__digest *digest)
{
	static const size_t block_size = 1 << 16;
	char *block = malloc(block_size);
	if (block == NULL)
		return ps_fail(PS_ENOMEM, "no memory to unpack %s", file->name);
	uint64_t size = 0;
	ps_status status = PS_OK;
	for (;;) {
		la_ssize_t got = archive_read_data(u->archive, block, block_size);
		if (got < 0)
			status = ps_fail(PS_EIO, "the archive is damaged in %s: %s", file->name,
			                 archive_error_string(u->archive));
		if (got <= 0)
			break;
		size += (uint64_t)got;
		if (size > file->bytes) {
			status = ps_fail(PS_EIO, "%s in the archive has more than the %llu bytes that were published",
			                 file->name, (unsigned long long)file->bytes);
			break;
		}
		status = ps__digest_add(digest, block, (size_t)got);
		if (status == PS_OK)
			status = write_all(descriptor, block, (size_t)got, file->name);
		if (status != PS_OK)
			break;
	}
	free(block);
	PS_TRY(status);
	char hex[PS__DIGEST_HEX];
	PS_TRY(ps__digest_hex(digest, hex));
	if (size != file->bytes || strcmp(hex, file->sha256) != 0)
		return ps_fail(PS_EIO,
		               "%s in the archive is not what was published: it has %llu bytes and SHA-256 %s, not "
		               "%llu and %s",
		               file->name, (unsigned long long)size, hex, (unsigned long long)file->bytes,
		               file->sha256);
	return PS_OK;
}

static ps_status write_entry(const unpacking *u, const ps_fetch_file *file, const char *part)
{
	int descriptor = openat(u->folder, part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
	if (descriptor < 0)
		return ps_fail(PS_EIO, "%s cannot be written: %s", part, strerror(errno));
	ps__digest digest;
	ps_status status = ps__digest_init(&digest, "SHA256");
	if (status == PS_OK) {
		status = copy_entry(u, file, descriptor, &digest);
		ps__digest_finish(&digest);
	}
	if (status == PS_OK && fsync(descriptor) != 0)
		status = ps_fail(PS_EIO, "%s cannot be written: %s", part, strerror(errno));
	if (close(descriptor) != 0 && status == PS_OK)
		status = ps_fail(PS_EIO, "%s cannot be written: %s", part, strerror(errno));
	return status;
}

static ps_status take_entry(unpacking *u, struct archive_entry *entry)
{
	const char *path = archive_entry_pathname(entry);
	if (path == NULL || leaves_folder(path))
		return ps_fail(PS_EIO, "the archive has an entry that would leave its folder; it is not used");
	size_t i = wanted(u->source, path);
	if (i == u->source->file_count)
		return PS_OK;
	const ps_fetch_file *file = &u->source->files[i];
	if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) != NULL)
		return ps_fail(PS_EIO, "%s in the archive is not a plain file; the archive is not used", file->name);
	if (u->found[i])
		return ps_fail(PS_EIO, "%s is in the archive twice; the archive is not used", file->name);
	u->found[i] = 1;
	char part[256];
	snprintf(part, sizeof part, "%s.part", file->name);
	return write_entry(u, file, part);
}

static ps_status read_archive(unpacking *u, int descriptor)
{
	struct archive *archive = u->archive;
	if (archive_read_support_format_zip(archive) < ARCHIVE_WARN ||
	    archive_read_support_format_tar(archive) < ARCHIVE_WARN ||
	    archive_read_support_filter_gzip(archive) < ARCHIVE_WARN ||
	    archive_read_support_filter_xz(archive) < ARCHIVE_WARN)
		return ps_fail(PS_EINTERNAL, "libarchive: %s", archive_error_string(archive));
	if (lseek(descriptor, 0, SEEK_SET) != 0)
		return ps_fail(PS_EIO, "the archive cannot be read: %s", strerror(errno));
	int code = archive_read_open_fd(archive, descriptor, 1 << 16);
	struct archive_entry *entry = NULL;
	while (code >= ARCHIVE_WARN) {
		code = archive_read_next_header(archive, &entry);
		if (code >= ARCHIVE_WARN && code != ARCHIVE_EOF)
			PS_TRY(take_entry(u, entry));
		if (code == ARCHIVE_EOF)
			break;
	}
	if (code != ARCHIVE_EOF)
		return ps_fail(PS_EIO, "the archive is damaged: %s", archive_error_string(archive));
	for (size_t i = 0; i < u->source->file_count; i++) {
		if (!u->found[i])
			return ps_fail(PS_EIO, "%s is not in the archive", u->source->files[i].name);
	}
	return PS_OK;
}

ps_status ps__unpack(int descriptor, int folder, const ps_fetch_source *source)
{
	unpacking u = {.archive = archive_read_new(), .folder = folder, .source = source};
	u.found = calloc(source->file_count + 1, 1);
	ps_status status = u.archive != NULL && u.found != NULL ? read_archive(&u, descriptor)
	                                                        : ps_fail(PS_ENOMEM, "no memory for an archive");
	for (size_t i = 0; status != PS_OK && u.found != NULL && i < source->file_count; i++) {
		char part[256];
		snprintf(part, sizeof part, "%s.part", source->files[i].name);
		if (u.found[i])
			(void)unlinkat(folder, part, 0);
	}
	archive_read_free(u.archive);
	free(u.found);
	return status;
}
