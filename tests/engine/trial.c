/* The tiny model of the engine's tests and its runs. */
#include "tests/engine/trial.h"

#include "core/registry.h"

#include <penstock/bf16.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { EMSIZE = 8, HEADS = 2, NHID = 12, ROWS = 6, TIME = 5 };

/* Devices that stay open, by the number behind their name. */
static bool keeping;
static ps_device *kept[TRIAL_RANKS];

void trial_keep_devices(bool keep)
{
	keeping = keep;
	for (int i = 0; i < TRIAL_RANKS && !keep; i++) {
		ps_device_close(kept[i]);
		kept[i] = NULL;
	}
}

static ps_status open_kept(ps_device **out, const char *base, int number)
{
	*out = NULL;
	if (!kept[number])
		PS_TRY(ps_device_open(&kept[number], base));
	ps__device_hold(kept[number]);
	*out = kept[number];
	return PS_OK;
}

static ps_status open_device(void *payload, ps_device **out, const char *name)
{
	struct trial *trial = payload;
	char base[64];
	const char *mark = strchr(name, '#');
	int number = mark ? atoi(mark + 1) : 0;
	snprintf(base, sizeof base, "%.*s", mark ? (int)(mark - name) : (int)strlen(name), name);
	if (keeping && !trial->hooked && !trial->max_buffer_bytes)
		return open_kept(out, base, number);
	ps_status status =
	        trial->hooked ? hook_device_open(out, base, &trial->hooks[number]) : ps_device_open(out, base);
	if (status == PS_OK && trial->max_buffer_bytes)
		(*out)->info.max_buffer_bytes = trial->max_buffer_bytes;
	if (status == PS_OK && trial->memory_bytes[number])
		(*out)->info.memory_bytes = trial->memory_bytes[number];
	if (status == PS_OK && trial->opened)
		trial->opened(trial, number);
	return status;
}

ps_status trial_create(struct trial *trial)
{
	static const char *const usual[TRIAL_RANKS] = {"ref#0", "ref#1", "ref#2", "ref#3",
	                                               "ref#4", "ref#5", "ref#6", "ref#7"};
	ps_pipeline_config *config = &trial->config;
	if (!config->rank_count)
		config->rank_count = 1;
	for (int r = 0; r < config->rank_count; r++)
		if (!trial->devices[r])
			trial->devices[r] = usual[r];
	if (!config->rows)
		config->rows = ROWS;
	if (!config->time)
		config->time = TIME;
	if (!config->eval_rows)
		config->eval_rows = 4;
	if (!config->seed)
		config->seed = 42;
	config->devices = trial->devices;
	config->links.skip_measure = true;
	/* The links' start-up test goes by the size of a piece. */
	if (!config->links.chunk_bytes)
		config->links.chunk_bytes = 4096;
	config->open_device = open_device;
	config->open_device_payload = trial;
	ps_transformer_config sizes = {.vocabulary = TRIAL_VOCABULARY,
	                               .emsize = EMSIZE,
	                               .nhead = HEADS,
	                               .nhid = NHID,
	                               .nlayers = trial->encoder_layers ? trial->encoder_layers : 4,
	                               .dropout = trial->dropout < 0   ? 0
	                                          : trial->dropout > 0 ? trial->dropout
	                                                               : 0.2,
	                               .causal = !trial->no_mask,
	                               .max_time = config->time > 0 ? config->time : 1};
	if (trial->mixed)
		trial_mixed_model(&trial->model, EMSIZE, sizes.max_time);
	else
		check_ok(ps_transformer_create(&trial->model, &sizes));
	config->layers = trial->model.layers;
	config->layer_count = trial->model.layer_count;
	return ps_pipeline_create(&trial->pipeline, config);
}

void trial_open(struct trial *trial)
{
	check_ok(trial_create(trial));
	for (int s = 0; s + 1 < ps_pipeline_stage_count(trial->pipeline); s++) {
		for (int backward = 0; backward < 2; backward++) {
			const ps_link *link = ps_pipeline_get_link(trial->pipeline, s, backward);
			if (!link)
				continue;
			ck_assert_int_eq(ps_link_get_info(link)->kind,
			                 trial->config.links.force_staged ? PS_LINK_STAGED : PS_LINK_PEER);
		}
	}
}

void trial_close(struct trial *trial)
{
	ps_pipeline_destroy(trial->pipeline);
	ps_model_finish(&trial->model);
	trial->pipeline = NULL;
	if (!trial->hooked)
		return;
	for (int i = 0; i < TRIAL_RANKS; i++) {
		ck_assert_int_eq(atomic_load(&trial->hooks[i].buffers), 0);
		ck_assert_int_eq(atomic_load(&trial->hooks[i].queues), 0);
		ck_assert_uint_eq(hook_faults(&trial->hooks[i]), 0);
	}
}

void trial_write_file(char *path, const char *text)
{
	const char *folder = getenv("TMPDIR");
	snprintf(path, 256, "%s/penstock-test-XXXXXX", folder ? folder : "/tmp");
	int file = mkstemp(path);
	ck_assert_int_ge(file, 0);
	size_t length = strlen(text);
	ck_assert_int_eq(write(file, text, length), (ssize_t)length);
	ck_assert_int_eq(close(file), 0);
}

uint32_t trial_random(uint64_t *state, uint32_t bound)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((*state >> 33) % bound);
}

void trial_tokens(uint32_t step, int64_t rows, int64_t time, int32_t *inputs, int32_t *targets)
{
	uint64_t state = step + 1;
	for (int64_t i = 0; i < rows * time; i++) {
		inputs[i] = (int32_t)trial_random(&state, TRIAL_VOCABULARY);
		targets[i] = (int32_t)trial_random(&state, TRIAL_VOCABULARY);
	}
}

ps_status trial_train(struct trial *trial, uint32_t step, int64_t rows, int64_t time, double *loss)
{
	size_t bytes = (size_t)(rows * time) * sizeof(int32_t);
	int32_t *inputs = malloc(bytes), *targets = malloc(bytes);
	ck_assert(inputs && targets);
	trial_tokens(step, rows, time, inputs, targets);
	ps_batch batch = {.inputs = inputs, .targets = targets, .rows = rows, .time = time, .step = step};
	ps_status status = ps_pipeline_train(trial->pipeline, &batch, loss);
	free(inputs);
	free(targets);
	return status;
}

static size_t view_bytes(const ps_parameter_view *view)
{
	return (size_t)ps_tensor_count(view->value) * ps_dtype_bytes(view->value.dtype);
}

void outcome_add_gradients(struct outcome *outcome, ps_pipeline *pipeline)
{
	for (int i = 0; i < ps_pipeline_parameter_count(pipeline); i++) {
		ps_parameter_view view;
		ps_pipeline_get_parameter(pipeline, i, &view);
		size_t bytes = view_bytes(&view);
		outcome->bytes = realloc(outcome->bytes, outcome->size + bytes);
		ck_assert_ptr_nonnull(outcome->bytes);
		check_ok(ps_pipeline_read_gradient(pipeline, i, outcome->bytes + outcome->size));
		outcome->size += bytes;
	}
}

/* w -= 0.1 g for one parameter, in its own dtype, so that the result depends on nothing but the bits. */
static void update(ps_pipeline *pipeline, int index)
{
	ps_parameter_view view;
	ps_pipeline_get_parameter(pipeline, index, &view);
	size_t count = (size_t)ps_tensor_count(view.value), bytes = view_bytes(&view);
	void *value = malloc(bytes), *gradient = malloc(bytes);
	ck_assert(value && gradient);
	check_ok(ps_pipeline_read_parameter(pipeline, index, value));
	check_ok(ps_pipeline_read_gradient(pipeline, index, gradient));
	for (size_t i = 0; i < count; i++) {
		uint16_t *halves = value;
		if (view.value.dtype == PS_BF16)
			halves[i] = ps_bf16_round(ps_bf16_widen(halves[i]) -
			                          0.1F * ps_bf16_widen(((uint16_t *)gradient)[i]));
		else if (view.value.dtype == PS_F64)
			((double *)value)[i] -= 0.1 * ((double *)gradient)[i];
		else
			((float *)value)[i] -= 0.1F * ((float *)gradient)[i];
	}
	check_ok(ps_pipeline_write_parameter(pipeline, index, value));
	free(value);
	free(gradient);
}

static double evaluate(const struct trial *trial)
{
	int64_t rows = trial->config.eval_rows, time = trial->config.time;
	size_t bytes = (size_t)(rows * time) * sizeof(int32_t);
	int32_t *inputs = malloc(bytes), *targets = malloc(bytes);
	ck_assert(inputs && targets);
	trial_tokens(99, rows, time, inputs, targets);
	double sum = 0;
	check_ok(ps_pipeline_evaluate(
	        trial->pipeline, &(const ps_batch){.inputs = inputs, .targets = targets, .rows = rows, .time = time},
	        &sum));
	free(inputs);
	free(targets);
	return sum;
}

void trial_run(struct trial *trial, int steps, const int64_t (*shapes)[2], struct outcome *out)
{
	*out = (struct outcome){.steps = steps};
	check_ok(ps_pipeline_initialize(trial->pipeline));
	for (int k = 0; k < steps; k++) {
		int64_t rows = shapes ? shapes[k][0] : trial->config.rows;
		int64_t time = shapes ? shapes[k][1] : trial->config.time;
		check_ok(trial_train(trial, (uint32_t)k, rows, time, &out->losses[k]));
		outcome_add_gradients(out, trial->pipeline);
		for (int i = 0; i < ps_pipeline_parameter_count(trial->pipeline); i++)
			update(trial->pipeline, i);
	}
	out->evaluation = evaluate(trial);
}

void outcome_free(struct outcome *outcome)
{
	free(outcome->bytes);
	*outcome = (struct outcome){0};
}

void outcome_compare(const struct outcome *a, const struct outcome *b, const char *what)
{
	ck_assert_int_eq(a->steps, b->steps);
	for (int k = 0; k < a->steps; k++)
		ck_assert_msg(!memcmp(&a->losses[k], &b->losses[k], sizeof a->losses[k]),
		              "%s: the loss of step %d is %.17g, not %.17g", what, k, b->losses[k], a->losses[k]);
	ck_assert_uint_eq(a->size, b->size);
	size_t same = 0;
	while (same < a->size && a->bytes[same] == b->bytes[same])
		same++;
	ck_assert_msg(same == a->size, "%s: the gradients differ from byte %zu of %zu on", what, same, a->size);
	ck_assert_msg(!memcmp(&a->evaluation, &b->evaluation, sizeof a->evaluation),
	              "%s: the evaluation is %.17g, not %.17g", what, b->evaluation, a->evaluation);
}
