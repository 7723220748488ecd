/* Parameters of a pipeline to and from a file, by name, one at a time. */
#include "train/weights.h"

#include <penstock/bf16.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t bytes_of(const ps_pipeline *pipeline, int index)
{
	ps_parameter_view view;
	ps_pipeline_get_parameter(pipeline, index, &view);
	return (uint64_t)ps_tensor_count(view.value) * ps_dtype_bytes(view.value.dtype);
}

uint64_t ps__weights_largest(const ps_pipeline *pipeline)
{
	uint64_t largest = 0;
	for (int i = 0; i < ps_pipeline_parameter_count(pipeline); i++) {
		uint64_t bytes = bytes_of(pipeline, i);
		largest = bytes > largest ? bytes : largest;
	}
	return largest;
}

uint64_t ps__weights_bytes(const ps_pipeline *pipeline)
{
	uint64_t sum = 0;
	for (int i = 0; i < ps_pipeline_parameter_count(pipeline); i++)
		sum += bytes_of(pipeline, i);
	return sum;
}

void ps__weights_describe(ps_pipeline *pipeline, int index, const char *prefix, ps_saved_tensor *out,
                          char name[PS__WEIGHT_NAME_BYTES])
{
	ps_parameter_view view;
	ps_pipeline_get_parameter(pipeline, index, &view);
	snprintf(name, PS__WEIGHT_NAME_BYTES, "%s%s", prefix, view.name);
	*out = (ps_saved_tensor){.name = name, .dtype = view.value.dtype, .rank = view.value.rank};
	memcpy(out->dims, view.value.dims, sizeof out->dims);
	out->bytes = (uint64_t)ps_tensor_count(view.value) * ps_dtype_bytes(view.value.dtype);
}

static ps_status put_all(ps_pipeline *pipeline, ps_safetensors_writer *writer, void *scratch)
{
	for (int i = 0; i < ps_pipeline_parameter_count(pipeline); i++) {
		PS_TRY(ps_pipeline_read_parameter(pipeline, i, scratch));
		PS_TRY(ps_safetensors_writer_put(writer, scratch));
	}
	return PS_OK;
}

ps_status ps__weights_save(ps_pipeline *pipeline, const char *path, const ps_metadata *metadata, int metadata_count,
                           void *const *best)
{
	int count = ps_pipeline_parameter_count(pipeline), all = best != NULL ? 2 * count : count;
	ps_saved_tensor *tensors = calloc((size_t)all, sizeof *tensors);
	char(*names)[PS__WEIGHT_NAME_BYTES] = calloc((size_t)all, sizeof *names);
	ps_metadata *facts = calloc((size_t)metadata_count + 1, sizeof *facts);
	void *scratch = malloc(ps__weights_largest(pipeline) + 1);
	ps_safetensors_writer *writer = NULL;
	ps_status status = PS_OK;
	if (tensors == NULL || names == NULL || facts == NULL || scratch == NULL) {
		status = ps_fail(PS_ENOMEM, "%s: no memory to save %d parameters", path, count);
		goto out;
	}
	for (int i = 0; i < all; i++)
		ps__weights_describe(pipeline, i % count, i < count ? "" : PS_BEST_PREFIX, &tensors[i], names[i]);
	facts[0] = (ps_metadata){"format", "pt"};
	for (int i = 0; i < metadata_count; i++)
		facts[i + 1] = metadata[i];
	status = ps_safetensors_writer_create(&writer, path, tensors, all, facts, metadata_count + 1);
	if (status == PS_OK)
		status = put_all(pipeline, writer, scratch);
	for (int i = 0; status == PS_OK && i < all - count; i++)
		status = ps_safetensors_writer_put(writer, best[i]);
	if (status == PS_OK)
		status = ps_safetensors_writer_commit(writer);
	else
		ps_safetensors_writer_abandon(writer);
out:
	free(scratch);
	free(facts);
	free(names);
	free(tensors);
	return status;
}

ps_status ps_weights_save(ps_pipeline *pipeline, const char *path, const ps_metadata *metadata, int metadata_count)
{
	return ps__weights_save(pipeline, path, metadata, metadata_count, NULL);
}

static const char *shape_text(const ps_saved_tensor *tensor, char text[96])
{
	int length = snprintf(text, 96, "(");
	for (int i = 0; i < tensor->rank && length < 90; i++)
		length += snprintf(text + length, 96 - (size_t)length, i == 0 ? "%" PRId64 : ", %" PRId64,
		                   tensor->dims[i]);
	snprintf(text + length, 96 - (size_t)length, ")");
	return text;
}

static ps_status check_tensor(const ps_safetensors *file, const ps_saved_tensor *wanted, const ps_saved_tensor *found)
{
	const char *path = ps_safetensors_path(file);
	char a[96], b[96];
	if (found == NULL)
		return ps_fail(PS_EFORMAT, "%s: has no %s; it must have every parameter of the model", path,
		               wanted->name);
	bool same = found->rank == wanted->rank;
	for (int i = 0; same && i < wanted->rank; i++)
		same = found->dims[i] == wanted->dims[i];
	if (!same)
		return ps_fail(PS_EFORMAT, "%s: %s has shape %s, the model's is %s", path, wanted->name,
		               shape_text(found, a), shape_text(wanted, b));
	if (found->dtype != PS_F32 && found->dtype != PS_F64 && found->dtype != PS_BF16)
		return ps_fail(PS_EFORMAT, "%s: %s is %s; weights must be F32 or BF16", path, wanted->name,
		               ps_dtype_name(found->dtype));
	return PS_OK;
}

/* The first tensor that the model does not have; those under PS_BEST_PREFIX are not meant for it. */
static ps_status refuse_foreign(ps_pipeline *pipeline, const ps_safetensors *file)
{
	for (int i = 0; i < ps_safetensors_count(file); i++) {
		const char *found = ps_safetensors_get(file, i)->name;
		bool known = strncmp(found, PS_BEST_PREFIX, strlen(PS_BEST_PREFIX)) == 0;
		for (int j = 0; !known && j < ps_pipeline_parameter_count(pipeline); j++) {
			ps_parameter_view view;
			ps_pipeline_get_parameter(pipeline, j, &view);
			known = strcmp(view.name, found) == 0;
		}
		if (!known)
			return ps_fail(PS_EFORMAT, "%s: %s is no parameter of this model", ps_safetensors_path(file),
			               found);
	}
	return PS_OK;
}

/* All names and shapes, both ways round, before anything is written. */
static ps_status check_file(ps_pipeline *pipeline, const ps_safetensors *file, const char *prefix)
{
	for (int i = 0; i < ps_pipeline_parameter_count(pipeline); i++) {
		ps_saved_tensor wanted;
		char name[PS__WEIGHT_NAME_BYTES];
		ps__weights_describe(pipeline, i, prefix, &wanted, name);
		PS_TRY(check_tensor(file, &wanted, ps_safetensors_find(file, name)));
	}
	return refuse_foreign(pipeline, file);
}

/* What the pipeline takes: the file's own bytes, or their conversion in `scratch`. */
static const void *convert(const ps_saved_tensor *tensor, ps_dtype dtype, void *scratch)
{
	if (tensor->dtype == dtype)
		return tensor->data;
	uint64_t elements = tensor->bytes / ps_dtype_bytes(tensor->dtype);
	for (uint64_t i = 0; i < elements; i++) {
		double value;
		if (tensor->dtype == PS_BF16)
			value = (double)ps_bf16_widen(((const uint16_t *)tensor->data)[i]);
		else if (tensor->dtype == PS_F64)
			value = ((const double *)tensor->data)[i];
		else
			value = (double)((const float *)tensor->data)[i];
		if (dtype == PS_BF16)
			((uint16_t *)scratch)[i] = ps_bf16_round((float)value);
		else if (dtype == PS_F64)
			((double *)scratch)[i] = value;
		else
			((float *)scratch)[i] = (float)value;
	}
	return scratch;
}

ps_status ps__weights_load(ps_pipeline *pipeline, const ps_safetensors *file, const char *prefix)
{
	PS_TRY(check_file(pipeline, file, prefix));
	void *scratch = malloc(ps__weights_largest(pipeline) + 1);
	if (scratch == NULL)
		return ps_fail(PS_ENOMEM, "%s: no memory to load it", ps_safetensors_path(file));
	ps_status status = PS_OK;
	for (int i = 0; status == PS_OK && i < ps_pipeline_parameter_count(pipeline); i++) {
		ps_saved_tensor wanted;
		char name[PS__WEIGHT_NAME_BYTES];
		ps__weights_describe(pipeline, i, prefix, &wanted, name);
		const ps_saved_tensor *found = ps_safetensors_find(file, name);
		status = ps_pipeline_write_parameter(pipeline, i, convert(found, wanted.dtype, scratch));
	}
	free(scratch);
	return status;
}

ps_status ps_weights_load(ps_pipeline *pipeline, const ps_safetensors *file)
{
	return ps__weights_load(pipeline, file, "");
}
