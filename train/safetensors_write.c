/* Writing safetensors: header first, then the tensors one by one, in the order in which they were declared. */
#include "train/output_file.h"

#include <penstock/safetensors.h>

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

struct ps_safetensors_writer {
	ps__output_file file;
	uint64_t *bytes;
	int count, next;
};

static const char *dtype_code(ps_dtype dtype)
{
	switch (dtype) {
	case PS_F32:
		return "F32";
	case PS_F64:
		return "F64";
	case PS_I32:
		return "I32";
	case PS_BF16:
		return "BF16";
	default:
		return NULL;
	}
}

/* {"dtype": …, "shape": […], "data_offsets": [begin, end]}; NULL: no memory. */
static json_t *describe(const ps_saved_tensor *tensor, uint64_t begin)
{
	json_t *shape = json_array();
	for (int i = 0; shape != NULL && i < tensor->rank; i++) {
		if (json_array_append_new(shape, json_integer(tensor->dims[i])) != 0) {
			json_decref(shape);
			shape = NULL;
		}
	}
	if (shape == NULL)
		return NULL;
	json_int_t first = (json_int_t)begin, bytes = (json_int_t)tensor->bytes;
	return json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_code(tensor->dtype), "shape", shape, "data_offsets",
	                 first, first + bytes);
}

/* The header's text; NULL: no memory, or a name that is no UTF-8. The caller frees it. */
static char *make_header(const ps_saved_tensor *tensors, int count, const ps_metadata *metadata, int metadata_count)
{
	json_t *header = json_object(), *facts = json_object();
	int failed = header == NULL || facts == NULL;
	for (int i = 0; !failed && i < metadata_count; i++)
		failed = json_object_set_new(facts, metadata[i].key, json_string(metadata[i].value));
	if (!failed && metadata_count > 0)
		failed = json_object_set(header, "__metadata__", facts);
	uint64_t begin = 0;
	for (int i = 0; !failed && i < count; i++) {
		failed = json_object_set_new(header, tensors[i].name, describe(&tensors[i], begin));
		begin += tensors[i].bytes;
	}
	char *text = failed ? NULL : json_dumps(header, JSON_COMPACT);
	json_decref(facts);
	json_decref(header);
	return text;
}

static ps_status write_header(ps__output_file *file, const char *text)
{
	/* Blanks after the header align the tensors to eight bytes. */
	static const char blanks[8] = "        ";
	size_t length = strlen(text), padding = (8 - length % 8) % 8;
	unsigned char prefix[8];
	for (int i = 0; i < 8; i++)
		prefix[i] = (unsigned char)((uint64_t)(length + padding) >> (8 * i));
	PS_TRY(ps__output_file_write(file, prefix, sizeof prefix));
	PS_TRY(ps__output_file_write(file, text, length));
	return ps__output_file_write(file, blanks, padding);
}

ps_status ps_safetensors_writer_create(ps_safetensors_writer **out, const char *path, const ps_saved_tensor *tensors,
                                       int count, const ps_metadata *metadata, int metadata_count)
{
	*out = NULL;
	for (int i = 0; i < count; i++) {
		if (dtype_code(tensors[i].dtype) == NULL)
			return ps_fail(PS_EINVAL, "%s: %s has no dtype that can be saved", path, tensors[i].name);
	}
	ps_safetensors_writer *writer = calloc(1, sizeof *writer);
	char *header = make_header(tensors, count, metadata, metadata_count);
	if (writer != NULL)
		writer->bytes = malloc(((size_t)count + 1) * sizeof *writer->bytes);
	ps_status status = PS_OK;
	if (writer == NULL || writer->bytes == NULL || header == NULL)
		status = ps_fail(PS_ENOMEM, "%s: no memory for the header of %d tensors", path, count);
	if (status == PS_OK)
		status = ps__output_file_open(&writer->file, path);
	if (status == PS_OK)
		status = write_header(&writer->file, header);
	free(header);
	if (status != PS_OK) {
		ps_safetensors_writer_abandon(writer);
		return status;
	}
	for (int i = 0; i < count; i++)
		writer->bytes[i] = tensors[i].bytes;
	writer->count = count;
	*out = writer;
	return PS_OK;
}

ps_status ps_safetensors_writer_put(ps_safetensors_writer *writer, const void *data)
{
	if (writer->next == writer->count)
		return ps_fail(PS_EINTERNAL, "%s: more tensors than were declared", writer->file.path);
	return ps__output_file_write(&writer->file, data, writer->bytes[writer->next++]);
}

ps_status ps_safetensors_writer_commit(ps_safetensors_writer *writer)
{
	ps_status status = PS_OK;
	if (writer->next != writer->count)
		status = ps_fail(PS_EINTERNAL, "%s: only %d of %d tensors were written", writer->file.path,
		                 writer->next, writer->count);
	else
		status = ps__output_file_commit(&writer->file);
	ps_safetensors_writer_abandon(writer);
	return status;
}

void ps_safetensors_writer_abandon(ps_safetensors_writer *writer)
{
	if (writer == NULL)
		return;
	ps__output_file_abandon(&writer->file);
	free(writer->bytes);
	free(writer);
}
