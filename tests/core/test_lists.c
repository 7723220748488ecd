/* Command lists: what is recorded, what a backend gets to see of it, and what is refused. */
#include "tests/core/probe.h"

static const ps_args_dropout *seen_dropout(void)
{
	ck_assert_int_eq(probe.seen.op, PS_OP_dropout);
	return (const ps_args_dropout *)(const void *)probe.seen.arguments.bytes;
}

START_TEST(test_list)
{
	enum { MANY = 300 };
	static const char *const scopes[] = {"layers.0", "layers.1"};
	ps_list *list;
	const char *scope;
	probe_set_up();
	ps_tensor x = MATRIX(3, 4), y = MATRIX(3, 4);
	check_ok(ps_list_create(&list, probe.queue));
	ck_assert_uint_eq(ps_list_count(list), 0);
	check_ok(ps_list_submit(list, 1));
	check_ok(ps_record(list, add, .a = x, .b = x, .y = y));
	for (uint32_t i = 0; i < MANY; i++) {
		ps_list_scope(list, scopes[i % 2]);
		check_ok(ps_record(list, dropout, .x = x, .y = y,
		                   .drop = {.p = 0.5f, .first_row = i, .place = {.step = 99, .layer = i}}));
	}
	ck_assert_int_eq(probe.seen.calls, 0);
	ck_assert_int_eq(probe.seen.dry_calls, 1 + MANY);
	ck_assert(!probe.queue->dry);
	ck_assert_uint_eq(ps_list_count(list), 1 + MANY);
	ck_assert_int_eq(ps_list_op(list, 0, &scope), PS_OP_add);
	ck_assert_str_eq(scope, "");
	ck_assert_int_eq(ps_list_op(list, 4, &scope), PS_OP_dropout);
	ck_assert_str_eq(scope, "layers.1");
	/* Each submission has its own step; nothing else of the place changes. */
	for (uint32_t step = 7; step < 9; step++) {
		check_ok(ps_list_submit(list, step));
		ck_assert_uint_eq(seen_dropout()->drop.place.step, step);
		ck_assert_uint_eq(seen_dropout()->drop.place.layer, MANY - 1);
		ck_assert_uint_eq(seen_dropout()->drop.first_row, MANY - 1);
		ck_assert_float_eq(seen_dropout()->drop.p, 0.5f);
	}
	ck_assert_int_eq(probe.seen.calls, 2 * (1 + MANY));
	ps_list_destroy(list);
	ps_list_destroy(NULL);
	probe_tear_down();
}
END_TEST

START_TEST(test_list_refusals)
{
	ps_list *list;
	probe_set_up();
	ps_tensor x = MATRIX(3, 4), y = MATRIX(3, 4), other = MATRIX(3, 5);
	check_ok(ps_list_create(&list, probe.queue));
	check_fails(ps_record(list, add, .a = x, .b = other, .y = y), PS_EINVAL);
	ck_assert_int_eq(probe.seen.dry_calls, 0);
	probe.seen.refusal = PS_ENOTSUP;
	check_fails(ps_record(list, add, .a = x, .b = x, .y = y), PS_ENOTSUP);
	ck_assert_str_eq(ps_error_message(), "ref cannot run add on fp32 (3, 4): the probe is told to");
	ck_assert(!probe.queue->dry);
	ck_assert_uint_eq(ps_list_count(list), 0);
	check_ok(ps_list_submit(list, 0));
	ck_assert_int_eq(probe.seen.calls, 0);
	ps_list_destroy(list);
	probe_tear_down();
}
END_TEST

/* A backend that compiles lists; what it was asked for. */
static struct {
	int compiled, submitted, released, alive;
	size_t count;
	uint32_t step;
	bool refuses;
} compiler;

static ps_status compile_list(void **out, ps_queue *queue, ps_list *list)
{
	(void)queue;
	compiler.compiled++;
	compiler.alive++;
	compiler.count = ps_list_count(list);
	*out = &compiler;
	return PS_OK;
}

static ps_status submit_list(ps_queue *queue, void *compiled, uint32_t step)
{
	ck_assert_ptr_eq(compiled, &compiler);
	if (compiler.refuses)
		return ps_fail(PS_ENOMEM, "the compiler is told to");
	compiler.submitted++;
	compiler.step = step;
	for (size_t i = 0; i < compiler.count; i++)
		ps__timeline_complete(&queue->timeline, ps__timeline_next(&queue->timeline));
	return PS_OK;
}

static void release_list(ps_queue *queue, void *compiled)
{
	ck_assert_ptr_eq(compiled, &compiler);
	ck_assert(queue->timeline.completed == queue->timeline.submitted);
	compiler.released++;
	compiler.alive--;
}

/* A list is compiled once, and again when it has grown; each op has its value of the timeline. */
START_TEST(test_compiled)
{
	ps_list *list;
	probe_set_up();
	ps_backend table = *probe.device->backend;
	table.list_compile = compile_list;
	table.list_submit = submit_list;
	table.list_release = release_list;
	ps_device *device;
	ps_queue *queue;
	check_ok(ps__device_open_on(&device, &table, ""));
	check_ok(ps_queue_create(&queue, device, "compiling"));
	check_ok(ps_queue_set_graphs(queue, PS_GRAPHS_ON));
	ps_buffer *buffer;
	check_ok(ps_buffer_create(&buffer, device, 1024));
	ps_tensor x = ps_tensor_make(buffer, 0, PS_F32, 1, (int64_t[]){8});
	check_ok(ps_list_create(&list, queue));
	check_ok(ps_list_submit(list, 1));
	ck_assert_int_eq(compiler.compiled, 0);
	for (uint32_t round = 1; round <= 3; round++) {
		check_ok(ps_record(list, add, .a = x, .b = x, .y = x));
		check_ok(ps_record(list, relu_fwd, .x = x, .y = x));
		uint64_t before = 0;
		for (uint32_t step = 5; step < 7; step++) {
			uint64_t begin = ps_queue_record(queue).value;
			check_ok(ps_list_submit(list, step));
			ck_assert_uint_eq(compiler.step, step);
			ck_assert_uint_eq(ps_queue_record(queue).value - begin, 2 * round);
			for (size_t i = 0; i < 2 * round; i++)
				ck_assert_uint_eq(ps__list_find(list, begin + i + 1), i);
			/* Something else comes between the two; the first one's values are found all the same. */
			for (size_t i = 0; before && i < 2 * round; i++)
				ck_assert_uint_eq(ps__list_find(list, before + i + 1), i);
			before = begin;
			(void)ps__timeline_next(&queue->timeline);
			ps__timeline_complete(&queue->timeline, ps_queue_record(queue).value);
		}
		ck_assert_int_eq(compiler.compiled, (int)round);
		ck_assert_int_eq(compiler.alive, 1);
	}
	ck_assert_int_eq(probe.seen.calls, 0);
	/* A submission that is refused is nobody's in particular. */
	compiler.refuses = true;
	check_fails(ps_list_submit(list, 7), PS_ENOMEM);
	ck_assert_uint_eq(ps__list_find(list, ps_queue_record(queue).value + 1), 6);
	/* Whoever wants times has the ops one by one. */
	int64_t marks[7] = {0};
	ps__list_time(list, marks);
	check_ok(ps_list_submit(list, 8));
	check_ok(ps_queue_finish(queue));
	ck_assert_int_eq(probe.seen.calls, 6);
	ck_assert(marks[0] > 0 && marks[6] >= marks[0]);
	ps_list_clear(list);
	ck_assert_uint_eq(ps_list_count(list), 0);
	ck_assert_int_eq(compiler.alive, 0);
	ps_list_destroy(list);
	ck_assert_int_eq(compiler.released, 3);
	/* All three entries or none. */
	ps_device *none;
	table.list_release = NULL;
	check_fails(ps__device_open_on(&none, &table, ""), PS_ENODEV);
	check_message("has some of list_compile, list_submit and list_release, and needs all");
	ps_queue_destroy(queue);
	ps_buffer_destroy(buffer);
	ps_device_close(device);
	probe_tear_down();
}
END_TEST

/* The step is put where an op has its random place: in a dropout site, or by itself. */
START_TEST(test_places)
{
	ps_list *list;
	probe_set_up();
	ps_tensor w = probe_tensor(PS_BF16, 1, (int64_t[]){8}), g = probe_tensor(PS_BF16, 1, (int64_t[]){8});
	check_ok(ps_list_create(&list, probe.queue));
	check_ok(ps_record(list, sgd, .w = w, .g = g, .scale = DOUBLE(1), .lr = 1,
	                   .place = {.seed = 4, .step = 99, .layer = 5, .site = 6}));
	check_ok(ps_list_submit(list, 12));
	const ps_args_sgd *seen = (const ps_args_sgd *)(const void *)probe.seen.arguments.bytes;
	ck_assert_uint_eq(seen->place.step, 12);
	ck_assert_uint_eq(seen->place.seed, 4);
	ck_assert_uint_eq(seen->place.layer, 5);
	ck_assert_uint_eq(seen->place.site, 6);
	ps_list_destroy(list);
	probe_tear_down();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("lists");
	TCase *cases = tcase_create("lists");
	tcase_add_test(cases, test_list);
	tcase_add_test(cases, test_list_refusals);
	tcase_add_test(cases, test_compiled);
	tcase_add_test(cases, test_places);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
