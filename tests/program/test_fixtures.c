/*
 * Whole training runs against PyTorch's in float64, stored under tests/fixtures by tests/reference/make_fixtures.py:
 * start values, losses, gradient norms, the gradients of the first step, the weights after the last, evaluations.
 * PS_TEST_STAGES="cuda:0 cuda:0,cpu" tries those placements of stages and no others.
 */
#include "support/check.h"

#include <penstock/bf16.h>
#include <penstock/model.h>
#include <penstock/train.h>

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {"odd-causal",     "odd-none",     "unclipped",    "even-causal", "tutorial-shape",
                                    "dropout-causal", "dropout-none", "as-published", "short-last"};
enum { FIXTURES = sizeof names / sizeof *names };

/*
 * A limit of what rounding to bf16 changes many numbers by, as a root mean square relative to them, which is about
 * 1 / 600. A single number may change by up to 1 / 256.
 */
#define ROUNDING (1.0 / 512)
#define FP32 PS_MATH_F32, false
#define BF16 0, 0, PS_MATH_BF16 /* limits as derived below */

/* How a device and a pipeline are chosen, and how near the numbers must be. */
static const struct shape {
	const char *devices[3];
	const char *schedule;
	int stages, chunks;
	ps_split_rule split;
	ps_checkpoint checkpoint;
	double loss, norm;
	ps_math math;
	bool bf16_weights;
} shapes[] = {
        {{"ref"}, "gpipe", 1, 1, PS_SPLIT_EVEN, PS_CHECKPOINT_NEVER, 1e-6, 1e-5, FP32},
        {{"ref", "ref"}, "1f1b", 2, 4, PS_SPLIT_EVEN, PS_CHECKPOINT_ALWAYS, 1e-6, 1e-5, FP32},
        {{"ref", "ref", "ref"}, "gpipe", 3, 8, PS_SPLIT_TORCH, PS_CHECKPOINT_EXCEPT_LAST, 1e-6, 1e-5, FP32},
        {{"cpu"}, "gpipe", 1, 1, PS_SPLIT_EVEN, PS_CHECKPOINT_NEVER, 1e-5, 1e-4, FP32},
        {{"cpu:0", "cpu"}, "gpipe", 2, 8, PS_SPLIT_TORCH, PS_CHECKPOINT_EXCEPT_LAST, 1e-5, 1e-4, FP32},
        {{"cpu:0", "ref", "cpu:0"}, "1f1b", 3, 3, PS_SPLIT_EVEN, PS_CHECKPOINT_ALWAYS, 1e-5, 1e-4, FP32},
        {{"opencl:0"}, "gpipe", 1, 1, PS_SPLIT_EVEN, PS_CHECKPOINT_NEVER, 1e-5, 1e-4, FP32},
        {{"opencl:0", "cpu"}, "1f1b", 2, 4, PS_SPLIT_EVEN, PS_CHECKPOINT_EXCEPT_LAST, 1e-5, 1e-4, FP32},
        {{"cpu:0", "opencl:0", "ref"}, "gpipe", 3, 3, PS_SPLIT_TORCH, PS_CHECKPOINT_ALWAYS, 1e-5, 1e-4, FP32},
        {{"opencl:0", "opencl:1"}, "1f1b", 2, 3, PS_SPLIT_EVEN, PS_CHECKPOINT_NEVER, 1e-5, 1e-4, FP32},
        {{"ref"}, "gpipe", 1, 1, PS_SPLIT_EVEN, PS_CHECKPOINT_NEVER, BF16, false},
        {{"cpu:0", "cpu"}, "1f1b", 2, 4, PS_SPLIT_EVEN, PS_CHECKPOINT_ALWAYS, BF16, false},
        {{"ref", "ref"}, "1f1b", 2, 4, PS_SPLIT_EVEN, PS_CHECKPOINT_ALWAYS, BF16, true},
        {{"cpu"}, "gpipe", 1, 8, PS_SPLIT_TORCH, PS_CHECKPOINT_NEVER, BF16, true},
};
enum { SHAPES = sizeof shapes / sizeof *shapes, GIVEN = 8 };

/* The shapes that are tried, and the room for those of PS_TEST_STAGES. */
static const struct shape *tried = shapes;
static int tried_count = SHAPES;
static struct shape given[GIVEN];
static char given_text[256];

static void take_given(void)
{
	const char *list = getenv("PS_TEST_STAGES");
	char *rest, *inner;
	if (list == NULL || *list == '\0')
		return;
	snprintf(given_text, sizeof given_text, "%s", list);
	tried = given;
	tried_count = 0;
	for (char *at = strtok_r(given_text, " ", &rest); at && tried_count < GIVEN; at = strtok_r(NULL, " ", &rest)) {
		struct shape *shape = &given[tried_count++];
		*shape = (struct shape){
		        .schedule = "1f1b", .checkpoint = PS_CHECKPOINT_EXCEPT_LAST, .loss = 1e-5, .norm = 1e-4};
		for (char *name = strtok_r(at, ",", &inner); name && shape->stages < 3;
		     name = strtok_r(NULL, ",", &inner))
			shape->devices[shape->stages++] = name;
		shape->chunks = shape->stages > 1 ? 4 : 1;
	}
}

struct fixture {
	const char *name;
	json_t *json;
	ps_safetensors *start, *batches, *gradients, *after;
	ps_model model;
	ps_pipeline *pipeline;
	const struct shape *shape;
};

static ps_safetensors *open_file(const char *name, const char *file)
{
	char path[512];
	snprintf(path, sizeof path, "%s/tests/fixtures/%s/%s.safetensors", PS_SOURCE_DIR, name, file);
	ps_safetensors *out;
	check_ok(ps_safetensors_open(&out, path));
	return out;
}

static int64_t integer(const struct fixture *f, const char *key)
{
	json_t *value = json_object_get(f->json, key);
	ck_assert_msg(json_is_integer(value), "%s: fixture.json has no whole number %s", f->name, key);
	return json_integer_value(value);
}

static double real(const struct fixture *f, const char *key)
{
	json_t *value = json_object_get(f->json, key);
	ck_assert_msg(json_is_number(value), "%s: fixture.json has no number %s", f->name, key);
	return json_number_value(value);
}

static double item(const struct fixture *f, const char *key, int64_t step)
{
	json_t *value = json_array_get(json_object_get(f->json, key), (size_t)step);
	ck_assert_msg(json_is_number(value), "%s: fixture.json has no %s of step %d", f->name, key, (int)step);
	return json_number_value(value);
}

static void open_fixture(struct fixture *f, const char *name, const struct shape *shape)
{
	*f = (struct fixture){.name = name, .shape = shape};
	char path[512];
	snprintf(path, sizeof path, "%s/tests/fixtures/%s/fixture.json", PS_SOURCE_DIR, name);
	f->json = json_load_file(path, 0, NULL);
	ck_assert_msg(f->json != NULL, "%s cannot be read", path);
	f->start = open_file(name, "start");
	f->batches = open_file(name, "batches");
	f->gradients = open_file(name, "grads");
	f->after = open_file(name, "after");
	const ps_transformer_config sizes = {
	        .vocabulary = integer(f, "ntokens"),
	        .emsize = integer(f, "emsize"),
	        .nhead = (int)integer(f, "nhead"),
	        .nhid = integer(f, "nhid"),
	        .nlayers = (int)integer(f, "nlayers"),
	        .dropout = real(f, "dropout"),
	        .causal = strcmp(json_string_value(json_object_get(f->json, "mask")), "causal") == 0,
	        .max_time = integer(f, "bptt")};
	check_ok(ps_transformer_create(&f->model, &sizes));
	const ps_pipeline_config config = {.layers = f->model.layers,
	                                   .layer_count = f->model.layer_count,
	                                   .devices = shape->devices,
	                                   .rank_count = shape->stages,
	                                   .schedule = shape->schedule,
	                                   .chunks = shape->chunks,
	                                   .split = shape->split,
	                                   .checkpoint = shape->checkpoint,
	                                   .math = shape->math,
	                                   .bf16_weights = shape->bf16_weights,
	                                   .seed = (uint64_t)integer(f, "seed"),
	                                   .rows = integer(f, "batch_size"),
	                                   .eval_rows = integer(f, "batch_size"),
	                                   .time = integer(f, "bptt"),
	                                   .links = {.skip_measure = true}};
	check_ok(ps_pipeline_create(&f->pipeline, &config));
}

static void close_fixture(struct fixture *f)
{
	ps_pipeline_destroy(f->pipeline);
	ps_model_finish(&f->model);
	ps_safetensors_close(f->start);
	ps_safetensors_close(f->batches);
	ps_safetensors_close(f->gradients);
	ps_safetensors_close(f->after);
	json_decref(f->json);
}

static ps_batch batch_of(const struct fixture *f, int64_t step)
{
	char name[32];
	snprintf(name, sizeof name, "inputs.%d", (int)step);
	const ps_saved_tensor *inputs = ps_safetensors_find(f->batches, name);
	snprintf(name, sizeof name, "targets.%d", (int)step);
	const ps_saved_tensor *targets = ps_safetensors_find(f->batches, name);
	ck_assert(inputs != NULL && targets != NULL && inputs->dtype == PS_I32 && inputs->rank == 2);
	return (ps_batch){.inputs = inputs->data,
	                  .targets = targets->data,
	                  .rows = inputs->dims[0],
	                  .time = inputs->dims[1],
	                  .step = (uint32_t)step};
}

/*
 * What bf16 products allow the first gradients, relative to their norm. They come through 4 products a layer and the
 * decoder's, forward and backward. Each rounds two factors; errors of different products add up as squares; twice that
 * for what ReLU and normalisation make of them.
 */
static double gradient_limit(const struct fixture *f)
{
	double products = 2 * (4 * (double)integer(f, "nlayers") + 1);
	return f->shape->math == PS_MATH_F32 ? f->shape->norm : 2 * 2 * ROUNDING * sqrt(products);
}

/*
 * The first loss is a mean over tokens, whose errors cancel below a single rounding. Every step moves the weights by up
 * to 5.0 * 0.5 in a direction that is off by the gradient's limit, and with norms of 1 to 2 and a loss of 4 the loss by
 * about as much of itself.
 */
static double loss_limit(const struct fixture *f, int64_t steps_before)
{
	if (f->shape->math == PS_MATH_F32)
		return f->shape->loss;
	return steps_before ? (double)steps_before * gradient_limit(f) : ROUNDING;
}

static void check_near(const struct fixture *f, const char *what, int64_t step, double got, double wanted, double limit)
{
	ck_assert_msg(fabs(got - wanted) <= limit * fabs(wanted),
	              "%s, %s: %s of step %d is %.17g instead of %.17g: off by %.2g", f->name, f->shape->devices[0],
	              what, (int)step, got, wanted, fabs(got - wanted) / fabs(wanted));
}

/* Parameters or gradients against a file: the distance over all elements, relative to their norm. */
static void check_tensors(const struct fixture *f, const ps_safetensors *file, bool gradients, double limit)
{
	double distance = 0, norm = 0;
	float values[1 << 14];
	uint16_t halves[1 << 14];
	for (int i = 0; i < ps_pipeline_parameter_count(f->pipeline); i++) {
		ps_parameter_view view;
		ps_pipeline_get_parameter(f->pipeline, i, &view);
		const ps_saved_tensor *wanted = ps_safetensors_find(file, view.name);
		ck_assert_msg(wanted != NULL && wanted->bytes <= sizeof values, "%s: no %s", f->name, view.name);
		bool narrow = view.value.dtype == PS_BF16;
		void *to = narrow ? (void *)halves : values;
		check_ok(gradients ? ps_pipeline_read_gradient(f->pipeline, i, to)
		                   : ps_pipeline_read_parameter(f->pipeline, i, to));
		for (uint64_t e = 0; e < wanted->bytes / sizeof(float); e++) {
			double w = ((const float *)wanted->data)[e];
			double d = (double)(narrow ? ps_bf16_widen(halves[e]) : values[e]) - w;
			distance += d * d;
			norm += w * w;
		}
	}
	ck_assert_msg(sqrt(distance) <= limit * sqrt(norm), "%s, %s: the %s are off by %.2g", f->name,
	              f->shape->devices[0], gradients ? "gradients" : "weights", sqrt(distance / norm));
}

/* Start values drawn here are those that the page on random numbers gives, bit for bit. */
static void check_start(const struct fixture *f)
{
	check_ok(ps_pipeline_initialize(f->pipeline));
	ck_assert_int_eq(ps_pipeline_parameter_elements(f->pipeline), integer(f, "parameters"));
	check_tensors(f, f->start, false, f->shape->bf16_weights ? ROUNDING : 0);
	check_ok(ps_weights_load(f->pipeline, f->start));
}

/* False when a stage's device is an OpenCL device and there is none. */
static bool is_here(const struct shape *shape)
{
	for (int i = 0; i < shape->stages; i++) {
		ps_device *device;
		if (strncmp(shape->devices[i], "opencl", 6) != 0)
			continue;
		if (ps_device_open(&device, shape->devices[i]) != PS_OK) {
			ck_assert_msg(getenv("PS_TEST_OPENCL") == NULL, "%s", ps_error_message());
			return false;
		}
		ps_device_close(device);
	}
	return true;
}

START_TEST(fixture)
{
	struct fixture f;
	const struct shape *shape = &tried[_i % tried_count];
	if (!is_here(shape))
		return;
	open_fixture(&f, names[_i / tried_count], shape);
	check_start(&f);
	ps_sgd *sgd;
	check_ok(ps_sgd_create(&sgd, f.pipeline));
	int64_t steps = integer(&f, "steps");
	for (int64_t step = 0; step < steps; step++) {
		double loss, norm;
		ps_batch batch = batch_of(&f, step);
		check_ok(ps_pipeline_train(f.pipeline, &batch, &loss));
		if (step == 0)
			check_tensors(&f, f.gradients, true, gradient_limit(&f));
		check_ok(ps_sgd_step(sgd, item(&f, "lr_of_step", step), real(&f, "clip"), &norm));
		check_near(&f, "the loss", step, loss, item(&f, "loss", step), loss_limit(&f, step));
		check_near(&f, "the norm", step, norm, item(&f, "grad_norm", step),
		           f.shape->math == PS_MATH_F32 ? f.shape->norm : (double)(step + 1) * gradient_limit(&f));
	}
	check_tensors(&f, f.after, false, f.shape->math == PS_MATH_F32 ? f.shape->loss : gradient_limit(&f));
	for (int64_t step = 0; step < steps; step++) {
		double sum;
		ps_batch batch = batch_of(&f, step);
		check_ok(ps_pipeline_evaluate(f.pipeline, &batch, &sum));
		check_near(&f, "the evaluation", step, sum / (double)(batch.rows * batch.time),
		           item(&f, "eval_loss", step), loss_limit(&f, steps));
	}
	ps_sgd_destroy(sgd);
	close_fixture(&f);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("fixtures");
	TCase *cases = tcase_create("fixtures");
	tcase_set_timeout(cases, 300);
	take_given();
	tcase_add_loop_test(cases, fixture, 0, FIXTURES * tried_count);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
