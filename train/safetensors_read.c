/* Reading safetensors: the file is mapped, and its header checked in full before anything is handed out. */
#include <penstock/safetensors.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

/* The form's own limit on a header. */
#define HEADER_BYTES_MAX UINT64_C(100000000)

struct ps_safetensors {
	char *path;
	void *map;
	uint64_t map_bytes;
	json_t *header;
	ps_saved_tensor *tensors;
	void **copies; /* of tensors that lie unaligned in the file; NULL for the others */
	int count;
};

static ps_status map_file(ps_safetensors *file)
{
	/* O_NONBLOCK: a FIFO without a writer must not hang. */
	int descriptor = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (descriptor < 0)
		return ps_fail(errno == ENOENT ? PS_ENOENT : PS_EINVAL, "%s: %s; give a safetensors file", file->path,
		               strerror(errno));
	struct stat info;
	ps_status status = PS_OK;
	if (fstat(descriptor, &info) != 0)
		status = ps_fail(PS_EIO, "%s: %s", file->path, strerror(errno));
	else if (!S_ISREG(info.st_mode))
		status = ps_fail(PS_EINVAL, "%s: is no regular file; give a safetensors file", file->path);
	else if (info.st_size < 10)
		status = ps_fail(PS_EFORMAT, "%s: has %jd bytes, which is too few for a safetensors file", file->path,
		                 (intmax_t)info.st_size);
	if (status == PS_OK) {
		void *map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
		if (map == MAP_FAILED) {
			status = ps_fail(PS_EIO, "%s: cannot be mapped: %s", file->path, strerror(errno));
		} else {
			file->map = map;
			file->map_bytes = (uint64_t)info.st_size;
		}
	}
	close(descriptor);
	return status;
}

/* Parses the header; *data_at is the offset of the tensors' bytes. */
static ps_status parse_header(ps_safetensors *file, uint64_t *data_at)
{
	const unsigned char *bytes = file->map;
	uint64_t length = 0;
	for (int i = 0; i < 8; i++)
		length |= (uint64_t)bytes[i] << (8 * i);
	if (length > HEADER_BYTES_MAX || bytes[8] != '{')
		return ps_fail(PS_EFORMAT, "%s: is no safetensors file: it does not begin with a JSON header",
		               file->path);
	if (length > file->map_bytes - 8)
		return ps_fail(PS_EFORMAT,
		               "%s: is truncated: its header should have %" PRIu64 " bytes, %" PRIu64 " are here",
		               file->path, length, file->map_bytes - 8);
	json_error_t error;
	file->header = json_loadb((const char *)bytes + 8, length, JSON_REJECT_DUPLICATES, &error);
	if (file->header == NULL)
		return ps_fail(PS_EFORMAT, "%s: the JSON header is damaged: %s", file->path, error.text);
	const char *key;
	json_t *value, *metadata = json_object_get(file->header, "__metadata__");
	if (metadata != NULL && !json_is_object(metadata))
		return ps_fail(PS_EFORMAT, "%s: __metadata__ is no JSON object", file->path);
	json_object_foreach(metadata, key, value)
	{
		if (!json_is_string(value))
			return ps_fail(PS_EFORMAT, "%s: __metadata__ %s is no text", file->path, key);
	}
	*data_at = 8 + length;
	return PS_OK;
}

static ps_status read_dtype(const ps_safetensors *file, const char *name, const json_t *entry, ps_dtype *dtype)
{
	static const struct {
		const char *code;
		ps_dtype dtype;
	} codes[] = {{"F32", PS_F32}, {"F64", PS_F64}, {"I32", PS_I32}, {"BF16", PS_BF16}};
	const char *code = json_string_value(json_object_get(entry, "dtype"));
	if (code == NULL)
		return ps_fail(PS_EFORMAT, "%s: %s has no dtype", file->path, name);
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
		if (strcmp(code, codes[i].code) == 0) {
			*dtype = codes[i].dtype;
			return PS_OK;
		}
	}
	return ps_fail(PS_EFORMAT, "%s: %s has dtype %s, which is not read; save it as F32 or BF16", file->path, name,
	               code);
}

/* Fills dims and bytes, the size that the shape asks for. */
static ps_status read_shape(const ps_safetensors *file, const json_t *entry, ps_saved_tensor *out)
{
	const json_t *shape = json_object_get(entry, "shape");
	if (!json_is_array(shape) || json_array_size(shape) > PS_MAX_RANK)
		return ps_fail(PS_EFORMAT, "%s: %s has no shape of at most %d dimensions", file->path, out->name,
		               PS_MAX_RANK);
	out->rank = (int)json_array_size(shape);
	uint64_t bytes = ps_dtype_bytes(out->dtype);
	for (int i = 0; i < out->rank; i++) {
		const json_t *dim = json_array_get(shape, (size_t)i);
		out->dims[i] = json_integer_value(dim);
		if (!json_is_integer(dim) || out->dims[i] < 0)
			return ps_fail(PS_EFORMAT, "%s: dimension %d of %s is no size", file->path, i, out->name);
		if (out->dims[i] > 0 && bytes > file->map_bytes / (uint64_t)out->dims[i])
			return ps_fail(PS_EFORMAT, "%s: %s is larger than the file", file->path, out->name);
		bytes *= (uint64_t)out->dims[i];
	}
	out->bytes = bytes;
	return PS_OK;
}

static ps_status read_entry(const ps_safetensors *file, const char *name, const json_t *entry, uint64_t data_at,
                            ps_saved_tensor *out)
{
	*out = (ps_saved_tensor){.name = name};
	if (!json_is_object(entry))
		return ps_fail(PS_EFORMAT, "%s: the header's entry %s is no JSON object", file->path, name);
	PS_TRY(read_dtype(file, name, entry, &out->dtype));
	PS_TRY(read_shape(file, entry, out));
	const json_t *offsets = json_object_get(entry, "data_offsets");
	const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
	if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
	    json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin))
		return ps_fail(PS_EFORMAT, "%s: %s has no data_offsets of a begin and an end", file->path, name);
	uint64_t first = (uint64_t)json_integer_value(begin), last = (uint64_t)json_integer_value(end);
	if (last - first != out->bytes)
		return ps_fail(PS_EFORMAT, "%s: %s has %" PRIu64 " bytes, its shape needs %" PRIu64, file->path, name,
		               last - first, out->bytes);
	if (last > file->map_bytes - data_at)
		return ps_fail(PS_EFORMAT, "%s: is truncated: %s ends at byte %" PRIu64 " of %" PRIu64, file->path,
		               name, data_at + last, file->map_bytes);
	out->data = (const char *)file->map + data_at + first;
	return PS_OK;
}

static int by_place(const void *a, const void *b)
{
	const ps_saved_tensor *x = a, *y = b;
	if (x->data != y->data)
		return (const char *)x->data < (const char *)y->data ? -1 : 1;
	return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* The tensors must cover the bytes after the header, each byte once. */
static ps_status check_cover(const ps_safetensors *file, uint64_t data_at)
{
	const char *next = (const char *)file->map + data_at, *end = (const char *)file->map + file->map_bytes;
	for (int i = 0; i < file->count; i++) {
		const ps_saved_tensor *tensor = &file->tensors[i];
		if ((const char *)tensor->data < next)
			return ps_fail(PS_EFORMAT, "%s: %s overlaps another tensor", file->path, tensor->name);
		if ((const char *)tensor->data > next)
			return ps_fail(PS_EFORMAT, "%s: there is a hole before %s", file->path, tensor->name);
		next += tensor->bytes;
	}
	if (next != end)
		return ps_fail(PS_EFORMAT, "%s: %td bytes at its end belong to no tensor", file->path, end - next);
	return PS_OK;
}

/* A header of odd length leaves tensors where their elements cannot be read in place. */
static ps_status align(ps_safetensors *file)
{
	for (int i = 0; i < file->count; i++) {
		ps_saved_tensor *tensor = &file->tensors[i];
		if (tensor->bytes == 0 || (uintptr_t)tensor->data % ps_dtype_bytes(tensor->dtype) == 0)
			continue;
		file->copies[i] = malloc(tensor->bytes);
		if (file->copies[i] == NULL)
			return ps_fail(PS_ENOMEM, "%s: no memory for %" PRIu64 " bytes of %s", file->path,
			               tensor->bytes, tensor->name);
		memcpy(file->copies[i], tensor->data, tensor->bytes);
		tensor->data = file->copies[i];
	}
	return PS_OK;
}

static ps_status read_tensors(ps_safetensors *file, uint64_t data_at)
{
	size_t entries = json_object_size(file->header);
	file->tensors = calloc(entries + 1, sizeof *file->tensors);
	file->copies = calloc(entries + 1, sizeof *file->copies);
	if (file->tensors == NULL || file->copies == NULL)
		return ps_fail(PS_ENOMEM, "%s: no memory for a header of %zu tensors", file->path, entries);
	const char *name;
	json_t *entry;
	json_object_foreach(file->header, name, entry)
	{
		if (strcmp(name, "__metadata__") == 0)
			continue;
		PS_TRY(read_entry(file, name, entry, data_at, &file->tensors[file->count]));
		file->count++;
	}
	qsort(file->tensors, (size_t)file->count, sizeof *file->tensors, by_place);
	PS_TRY(check_cover(file, data_at));
	return align(file);
}

ps_status ps_safetensors_open(ps_safetensors **out, const char *path)
{
	*out = NULL;
	ps_safetensors *file = calloc(1, sizeof *file);
	if (file == NULL || (file->path = strdup(path)) == NULL) {
		free(file);
		return ps_fail(PS_ENOMEM, "%s: no memory to open it", path);
	}
	uint64_t data_at = 0;
	ps_status status = map_file(file);
	if (status == PS_OK)
		status = parse_header(file, &data_at);
	if (status == PS_OK)
		status = read_tensors(file, data_at);
	if (status != PS_OK) {
		ps_safetensors_close(file);
		return status;
	}
	*out = file;
	return PS_OK;
}

void ps_safetensors_close(ps_safetensors *file)
{
	if (file == NULL)
		return;
	for (int i = 0; i < file->count; i++)
		free(file->copies[i]);
	free(file->copies);
	free(file->tensors);
	json_decref(file->header);
	if (file->map != NULL)
		munmap(file->map, file->map_bytes);
	free(file->path);
	free(file);
}

const char *ps_safetensors_path(const ps_safetensors *file)
{
	return file->path;
}

int ps_safetensors_count(const ps_safetensors *file)
{
	return file->count;
}

const ps_saved_tensor *ps_safetensors_get(const ps_safetensors *file, int index)
{
	return &file->tensors[index];
}

const ps_saved_tensor *ps_safetensors_find(const ps_safetensors *file, const char *name)
{
	for (int i = 0; i < file->count; i++) {
		if (strcmp(file->tensors[i].name, name) == 0)
			return &file->tensors[i];
	}
	return NULL;
}

const char *ps_safetensors_metadata(const ps_safetensors *file, const char *key)
{
	return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}
