/* `penstock eval`: the loss of saved weights on the validation and the test split. */
#include "tools/penstock/command.h"
#include "tools/penstock/setup.h"

#include "train/json.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A whole number from the file's metadata; `otherwise` when it has none. */
static int64_t fact(const ps_safetensors *file, const char *key, int64_t otherwise)
{
	const char *text = ps_safetensors_metadata(file, key);
	char *end;
	errno = 0;
	long long value = text != NULL ? strtoll(text, &end, 10) : 0;
	return text != NULL && end != text && *end == '\0' && errno == 0 && value > 0 && value < INT32_MAX ? value
	                                                                                                   : otherwise;
}

/* A matrix of the file by name. */
static ps_status find_matrix(const ps_safetensors *file, const char *name, const ps_saved_tensor **out)
{
	const ps_saved_tensor *tensor = ps_safetensors_find(file, name);
	if (tensor == NULL || tensor->rank != 2)
		return ps_fail(PS_EFORMAT, "%s: has no matrix %s; give weights that penstock train saved",
		               ps_safetensors_path(file), name);
	*out = tensor;
	return PS_OK;
}

static int64_t count_layers(const ps_safetensors *file)
{
	int64_t layers = 0;
	char name[64];
	do
		snprintf(name, sizeof name, "layers.%" PRId64 ".linear1.weight", layers++);
	while (ps_safetensors_find(file, name) != NULL);
	return layers - 1;
}

/* What the file was trained in: its matrices tell, and the metadata of fp32 ones. */
static dtype_choice read_precision(const ps_safetensors *file, const ps_saved_tensor *matrix)
{
	const char *text = ps_safetensors_metadata(file, "dtype");
	if (matrix->dtype == PS_F64)
		return DTYPE_FP64;
	if (matrix->dtype == PS_BF16)
		return DTYPE_BF16_PURE;
	return text != NULL && strcmp(text, "bf16") == 0 ? DTYPE_BF16 : DTYPE_FP32;
}

/* Sizes from the shapes, what no shape shows from the metadata, unless an option says it. */
static ps_status read_sizes(run_options *o, const ps_safetensors *file)
{
	const char *path = ps_safetensors_path(file), *mask = ps_safetensors_metadata(file, "mask");
	const ps_saved_tensor *encoder = NULL, *linear1 = NULL;
	PS_TRY(find_matrix(file, "encoder.weight", &encoder));
	PS_TRY(find_matrix(file, "layers.0.linear1.weight", &linear1));
	o->emsize = encoder->dims[1];
	o->nhid = linear1->dims[0];
	o->nlayers = count_layers(file);
	o->nhead = o->nhead > 0 ? o->nhead : fact(file, "nhead", 0);
	if (o->nhead < 1)
		return ps_fail(PS_EINVAL, "%s: does not say how many heads the model has; give --nhead N", path);
	if (o->mask < 0)
		o->mask = mask != NULL && strcmp(mask, "none") == 0 ? MASK_NONE : MASK_CAUSAL;
	o->eval_batch_size = o->eval_batch_size > 0 ? o->eval_batch_size : fact(file, "eval-batch-size", 10);
	o->bptt = o->bptt > 0 ? o->bptt : fact(file, "bptt", 35);
	if (o->dtype < 0)
		o->dtype = read_precision(file, encoder);
	o->schedule = "gpipe";
	o->chunks = 4;
	return PS_OK;
}

static ps_status check_vocabulary(const struct setup *setup, const run_options *o, const ps_safetensors *file)
{
	const ps_saved_tensor *encoder = ps_safetensors_find(file, "encoder.weight");
	int32_t vocabulary = ps_corpus_vocabulary(setup->corpus);
	if (encoder->dims[0] == vocabulary)
		return PS_OK;
	return ps_fail(PS_EINVAL,
	               "%s: was trained on %" PRId64 " words, --data %s has %" PRId32 "; give its own corpus", o->load,
	               encoder->dims[0], o->data, vocabulary);
}

static bool stop(void *payload)
{
	(void)payload;
	return interrupt_seen() || ferror(stdout);
}

static ps_status evaluate(const struct setup *setup, const run_options *o, json_t *object)
{
	for (int s = PS_SPLIT_VALID; s < PS_SPLIT_COUNT && !stop(NULL); s++) {
		size_t count;
		ps_batches batches;
		ps_evaluation result;
		const int32_t *tokens = ps_corpus_tokens(setup->corpus, (ps_split)s, &count);
		PS_TRY(ps_batches_init(&batches, tokens, count, o->eval_batch_size, o->bptt));
		PS_TRY(ps_evaluate(setup->pipeline, &batches, o->eval_steps, NULL, stop, NULL, &result));
		if (stop(NULL))
			break;
		double perplexity = exp(result.loss);
		if (!o->json)
			printf("| %-5s loss %8.5f | ppl %8.2f | %" PRId64 " tokens in %.2fs\n",
			       ps_split_name((ps_split)s), result.loss, perplexity, result.tokens, result.seconds);
		else if (json_object_set_new(object, ps_split_name((ps_split)s),
		                             json_pack("{s:o, s:o, s:I, s:o}", "loss", ps__json_real(result.loss),
		                                       "ppl", ps__json_real(perplexity), "tokens",
		                                       (json_int_t)result.tokens, "seconds",
		                                       ps__json_figure(result.seconds))) != 0)
			return ps_fail(PS_ENOMEM, "no memory for the result");
	}
	return PS_OK;
}

/* Adds the option to a message that names its file. */
static ps_status of_load(ps_status status)
{
	return status != PS_OK ? ps_fail_context(status, "--load") : PS_OK;
}

static ps_status run(run_options *o)
{
	if (o->load == NULL)
		return ps_fail(PS_EINVAL, "--load FILE is missing; give weights that penstock train --save wrote");
	ps_safetensors *file;
	struct setup setup = {0};
	PS_TRY(of_load(ps_safetensors_open(&file, o->load)));
	json_t *object = json_object();
	ps_status status = of_load(read_sizes(o, file));
	if (status == PS_OK)
		status = setup_init(&setup, o, true);
	if (status == PS_OK)
		status = of_load(check_vocabulary(&setup, o, file));
	if (status == PS_OK)
		status = of_load(ps_weights_load(setup.pipeline, file));
	if (status == PS_OK) {
		interrupt_catch("eval", "stops after this batch");
		status = evaluate(&setup, o, object);
	}
	if (status == PS_OK && o->json && !interrupt_seen())
		status = command_print_json(json_incref(object), false);
	json_decref(object);
	setup_finish(&setup);
	ps_safetensors_close(file);
	return status;
}

int cmd_eval(int argc, char **argv)
{
	option_settings settings;
	int exit_status = EXIT_DONE;
	if (command_begin(&settings, &eval_table, argc, argv, &exit_status)) {
		run_options options = eval_defaults;
		ps_status status = options_apply(&settings, &options);
		if (status == PS_OK)
			status = run(&options);
		if (status != PS_OK)
			exit_status = command_fail("eval", status);
		else if (interrupt_seen())
			exit_status = interrupt_exit_status();
	}
	options_finish(&settings);
	return exit_status;
}
