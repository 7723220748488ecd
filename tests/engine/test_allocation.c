/*
 * A step allocates nothing; and out of memory at the n-th allocation, for every n, a pipeline is not made, says so and
 * leaks nothing. The program is linked from the library's own objects, whose allocations come here first.
 */
#include "core/registry.h"
#include "pipeline/internal.h"
#include "tests/support/check.h"

#include <penstock/model.h>
#include <penstock/train.h>

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

/* How many allocations are still granted; negative: all. */
static _Atomic long granted = -1;
/* Allocations of the thread that runs the pipeline; kernels of the reference have scratch of their own. */
static _Thread_local long allocations;
static _Atomic bool refused;

static bool grant(void)
{
	allocations++;
	/* Zero goes to minus one, so that one allocation is refused and those after it are not. */
	long left = atomic_load(&granted);
	while (left >= 0 && !atomic_compare_exchange_weak(&granted, &left, left - 1))
		;
	if (left == 0)
		atomic_store(&refused, true);
	return left != 0;
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
int __real_posix_memalign(void **out, size_t alignment, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
int __wrap_posix_memalign(void **out, size_t alignment, size_t bytes);

void *__wrap_malloc(size_t bytes)
{
	return grant() ? __real_malloc(bytes) : NULL;
}

void *__wrap_calloc(size_t count, size_t bytes)
{
	return grant() ? __real_calloc(count, bytes) : NULL;
}

void *__wrap_realloc(void *memory, size_t bytes)
{
	return grant() ? __real_realloc(memory, bytes) : NULL;
}

int __wrap_posix_memalign(void **out, size_t alignment, size_t bytes)
{
	return grant() ? __real_posix_memalign(out, alignment, bytes) : 12;
}

enum { ROWS = 4, TIME = 3, RANKS = 3 };

static ps_model model;
static ps_device *devices[RANKS]; /* open all the time: how they fail is core's own test */
static int32_t tokens[ROWS * TIME];

static void set_up(void)
{
	const ps_transformer_config sizes = {.vocabulary = 11,
	                                     .emsize = 4,
	                                     .nhead = 2,
	                                     .nhid = 5,
	                                     .nlayers = 2,
	                                     .dropout = 0.1,
	                                     .causal = true,
	                                     .max_time = TIME};
	check_ok(ps_transformer_create(&model, &sizes));
	for (int i = 0; i < RANKS; i++)
		check_ok(ps_device_open(&devices[i], "ref"));
}

static void tear_down(void)
{
	for (int i = 0; i < RANKS; i++)
		ps_device_close(devices[i]);
	ps_model_finish(&model);
}

/* Device "0", "1" or "2". */
static ps_status open_device(void *payload, ps_device **out, const char *name)
{
	(void)payload;
	*out = devices[name[0] - '0'];
	ps__device_hold(*out);
	return PS_OK;
}

/* Pipelines are cut by measured times. */
static bool measured;

static ps_status create(ps_pipeline **out, bool staged, bool trace, bool shadowed)
{
	static const ps_shadow_stage stages[] = {{0, 1}, {2, 2}};
	static const char *const names[RANKS] = {"0", "1", "2"};
	const ps_pipeline_config config = {
	        .layers = model.layers,
	        .layer_count = model.layer_count,
	        .devices = names,
	        .rank_count = RANKS,
	        .chunks = 4,
	        .checkpoint = PS_CHECKPOINT_EXCEPT_LAST,
	        .rows = ROWS,
	        .eval_rows = ROWS,
	        .time = TIME,
	        .trace = trace,
	        .balance_time = measured,
	        .shadow = {.stages = stages, .stage_count = shadowed ? 2 : 0, .against = "0", .pool_bytes = 65536},
	        .links = {.skip_measure = true, .force_staged = staged, .chunk_bytes = 4096},
	        .open_device = open_device};
	return ps_pipeline_create(out, &config);
}

static ps_status train(ps_pipeline *pipeline, uint32_t step, int64_t time)
{
	double loss;
	const ps_batch batch = {.inputs = tokens, .targets = tokens, .rows = ROWS, .time = time, .step = step};
	return ps_pipeline_train(pipeline, &batch, &loss);
}

/*
 * Lets every queue of the pipeline, and those of its links, hold as many commands as a step can give it: the ranks are
 * kept from working until a whole step has been enqueued.
 */
struct holder {
	ps_pipeline *pipeline;
	ps_timeline gate;
	pthread_t thread;
};

static void *open_gate(void *argument)
{
	struct holder *holder = argument;
	nanosleep(&(const struct timespec){.tv_nsec = 300000000}, NULL);
	ps__timeline_complete(&holder->gate, 1);
	return NULL;
}

static void warm_up(ps_pipeline *pipeline, uint32_t step)
{
	struct holder holder = {.pipeline = pipeline};
	check_ok(ps__timeline_init(&holder.gate, NULL, "gate"));
	for (int r = 0; r < RANKS; r++)
		check_ok(ps_queue_wait(pipeline->ranks[r].queue, (ps_event){&holder.gate, 1}));
	ck_assert(!pthread_create(&holder.thread, NULL, open_gate, &holder));
	check_ok(train(pipeline, step, TIME));
	ck_assert(!pthread_join(holder.thread, NULL));
	ps__timeline_finish(&holder.gate);
}

START_TEST(test_steps_allocate_nothing)
{
	ps_pipeline *pipeline;
	double sum;
	const ps_batch batch = {.inputs = tokens, .targets = tokens, .rows = ROWS, .time = TIME};
	check_ok(create(&pipeline, _i % 2, _i / 2, false));
	check_ok(ps_pipeline_initialize(pipeline));
	warm_up(pipeline, 0);
	/* Check's own assertions allocate. */
	ps_status status = PS_OK;
	long before = allocations;
	for (uint32_t step = 1; step < 6 && status == PS_OK; step++) {
		size_t count;
		status = train(pipeline, step, TIME);
		ps_pipeline_spans(pipeline, &count);
		if (status == PS_OK)
			status = ps_pipeline_evaluate(pipeline, &batch, &sum);
	}
	long after = allocations;
	check_ok(status);
	ck_assert_int_eq(after, before);
	/* A shape that was not seen yet takes memory once. */
	before = allocations;
	status = train(pipeline, 6, TIME - 1);
	long first = allocations - before;
	ps_status again = train(pipeline, 7, TIME - 1);
	after = allocations - before;
	check_ok(status);
	check_ok(again);
	ck_assert_int_gt(first, 0);
	ck_assert_int_eq(after, first);
	ps_pipeline_destroy(pipeline);
}
END_TEST

/* Steps that are read late, with their updates. */
START_TEST(test_steps_ahead_allocate_nothing)
{
	ps_pipeline *pipeline;
	ps_sgd *sgd;
	double loss, norm;
	ps_batch batch = {.inputs = tokens, .targets = tokens, .rows = ROWS, .time = TIME};
	check_ok(create(&pipeline, _i, false, false));
	check_ok(ps_sgd_create(&sgd, pipeline));
	check_ok(ps_pipeline_initialize(pipeline));
	warm_up(pipeline, 0);
	ps_status status = PS_OK;
	long before = 0;
	/* The first ones fill the queues as they have not been yet. */
	for (; batch.step < 30 && status == PS_OK; batch.step++) {
		if (batch.step == 20)
			before = allocations;
		status = ps_pipeline_submit(pipeline, &batch);
		if (batch.step > 0 && status == PS_OK)
			status = ps_pipeline_collect(pipeline, &loss);
		if (batch.step > 0 && status == PS_OK)
			status = ps_sgd_collect(sgd, &norm);
		if (status == PS_OK)
			status = ps_sgd_submit(sgd, 0.1, 0.5);
	}
	long after = allocations;
	check_ok(status);
	ck_assert_int_eq(after, before);
	ps_sgd_destroy(sgd);
	ps_pipeline_destroy(pipeline);
}
END_TEST

START_TEST(test_create_without_memory)
{
	/* Measuring takes its time: of later allocations, some. */
	measured = _i == 3;
	for (long n = 0;; n += measured ? 1 + n / 8 : 1) {
		ps_pipeline *pipeline;
		refused = false;
		granted = n;
		ps_status status = create(&pipeline, _i % 2, _i % 2, _i == 2);
		granted = -1;
		if (status != PS_OK) {
			ck_assert_msg(refused, "%s", ps_error_message());
			ck_assert_msg(status == PS_ENOMEM, "allocation %ld: %s", n, ps_error_message());
			check_message("memory");
			ck_assert_ptr_null(pipeline);
			continue;
		}
		ps_pipeline_destroy(pipeline);
		/* Some allocations can be done without. */
		if (!refused)
			break;
	}
	measured = false;
}
END_TEST

/* A new shape in the middle of training, and start values: refused once, then fine. */
START_TEST(test_train_without_memory)
{
	ps_pipeline *pipeline;
	check_ok(create(&pipeline, false, false, false));
	check_ok(ps_pipeline_initialize(pipeline));
	warm_up(pipeline, 0);
	bool done = false;
	for (long n = 0; !done; n++) {
		granted = n;
		ps_status status = train(pipeline, 1, TIME - 1);
		granted = -1;
		done = status == PS_OK;
		ck_assert_msg(done || status == PS_ENOMEM, "%s", ps_error_message());
		check_ok(train(pipeline, 1, TIME));
	}
	done = false;
	for (long n = 0; !done; n++) {
		granted = n;
		ps_status status = ps_pipeline_initialize(pipeline);
		granted = -1;
		done = status == PS_OK;
		ck_assert_msg(done || status == PS_ENOMEM, "%s", ps_error_message());
	}
	check_ok(train(pipeline, 1, TIME));
	ps_pipeline_destroy(pipeline);
}
END_TEST

/* The model's layers, too. */
START_TEST(test_model_without_memory)
{
	const ps_transformer_config sizes = {
	        .vocabulary = 5, .emsize = 4, .nhead = 1, .nhid = 3, .nlayers = 2, .max_time = 2};
	ps_model other;
	ps_status status = PS_ENOMEM;
	for (long n = 0; status != PS_OK; n++) {
		granted = n;
		status = ps_transformer_create(&other, &sizes);
		granted = -1;
		ck_assert(status == PS_OK || status == PS_ENOMEM);
		ck_assert(status == PS_OK || !other.layers);
	}
	ps_model_finish(&other);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("engine allocation");
	TCase *cases = tcase_create("allocation");
	tcase_set_timeout(cases, 300);
	tcase_add_checked_fixture(cases, set_up, tear_down);
	tcase_add_loop_test(cases, test_steps_allocate_nothing, 0, 4);
	tcase_add_loop_test(cases, test_steps_ahead_allocate_nothing, 0, 2);
	tcase_add_loop_test(cases, test_create_without_memory, 0, 4);
	tcase_add_test(cases, test_train_without_memory);
	tcase_add_test(cases, test_model_without_memory);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
