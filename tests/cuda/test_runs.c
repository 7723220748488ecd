/*
 * Sums of squares and updates in command lists of the cuda backend, against a stand-in for CUDA's runtime (not a GPU):
 * a run of them is one launch, with the bits of one launch for each, and what depends on another op is behind it.
 */
#include "tests/cuda/controls.h"
#include "tests/support/check.h"

#include <penstock/ops.h>

#include <string.h>

enum { TENSORS = 70, STRIDE = 32768, BYTES = TENSORS * STRIDE, REST = 2 * TENSORS * 8 };

static const struct fake_cuda *fake;
static ps_device *device;
static ps_queue *queue;

/* Weights, gradients and copies of all tensors, and doubles: sums, scales. Filled alike each time. */
struct memory {
	ps_buffer *weights, *gradients, *copies, *rest;
	unsigned char got[3][BYTES];
	double doubles[2 * TENSORS];
};

static ps_tensor whole(ps_buffer *buffer, int64_t bytes)
{
	return ps_tensor_make(buffer, 0, PS_F32, 1, (int64_t[]){bytes / 4});
}

static ps_tensor scalar(const struct memory *m, int index)
{
	return ps_tensor_make(m->rest, (uint64_t)index * 8, PS_F64, 1, (int64_t[]){1});
}

/* Every dtype, and sizes and addresses that are good for vectors and such that are not. */
static ps_dtype dtype_of(int i)
{
	return i % 5 == 1 ? PS_BF16 : i % 7 == 3 ? PS_F64 : PS_F32;
}

static ps_tensor tensor(ps_buffer *buffer, int i, ps_dtype dtype)
{
	int64_t count = i % 3 == 0 ? 400 + i : 4 * (i + 1);
	if (i % 9 == 4 && dtype != PS_F64)
		count += 6000; /* several blocks */
	uint64_t offset = (uint64_t)i * STRIDE + (i % 4 == 1 ? ps_dtype_bytes(dtype) : 0);
	return ps_tensor_make(buffer, offset, dtype, 1, &count);
}

static void fill(struct memory *m)
{
	static float values[3][BYTES / 4];
	static double ones[2 * TENSORS];
	ps_buffer **const buffers[] = {&m->weights, &m->gradients, &m->copies};
	for (int i = 0; i < BYTES / 4; i++) {
		/* As doubles and as bf16 they are numbers, too. */
		values[0][i] = (float)(i % 113) / 8 - 3;
		values[1][i] = (float)(i % 71) / 16 - 2;
	}
	for (int i = 0; i < 2 * TENSORS; i++)
		ones[i] = 0.5;
	for (int k = 0; k < 3; k++) {
		check_ok(ps_buffer_create(buffers[k], device, BYTES));
		check_ok(ps_queue_write(queue, whole(*buffers[k], BYTES), values[k]));
	}
	check_ok(ps_buffer_create(&m->rest, device, REST));
	check_ok(ps_queue_write(queue, whole(m->rest, REST), ones));
	check_ok(ps_queue_finish(queue));
}

static ps_args_sum_squares squares(const struct memory *m, int i)
{
	return (ps_args_sum_squares){.x = tensor(m->gradients, i, dtype_of(i)), .out = scalar(m, i)};
}

static ps_args_sgd update(const struct memory *m, int i)
{
	ps_args_sgd x = {.w = tensor(m->weights, i, dtype_of(i)),
	                 .g = tensor(m->gradients, i, dtype_of(i)),
	                 .scale = scalar(m, TENSORS),
	                 .lr = 0.1,
	                 .place = {.seed = 7, .step = 3, .layer = (uint32_t)i, .site = 2}};
	if (dtype_of(i) == PS_F32 && i % 2)
		x.copy = tensor(m->copies, i, PS_BF16);
	return x;
}

static void take(struct memory *m)
{
	ps_buffer *const buffers[] = {m->weights, m->gradients, m->copies};
	for (int k = 0; k < 3; k++)
		check_ok(ps_queue_read(queue, m->got[k], whole(buffers[k], BYTES)));
	check_ok(ps_queue_read(queue, m->doubles, whole(m->rest, REST)));
	check_ok(ps_queue_finish(queue));
}

static void drop(struct memory *m)
{
	ps_buffer_destroy(m->rest);
	ps_buffer_destroy(m->copies);
	ps_buffer_destroy(m->gradients);
	ps_buffer_destroy(m->weights);
}

static void set_up(void)
{
	fake = find_controls();
	check_ok(ps_device_open(&device, "cuda-emulated:0"));
	check_ok(ps_queue_create(&queue, device, "q"));
}

static void tear_down(void)
{
	ps_queue_destroy(queue);
	ps_device_close(device);
	end_well(fake, 0);
}

/* Submits a list to the idle queue and waits; how many kernels that launched. */
static long launches_of(ps_list *list, uint32_t step)
{
	check_ok(ps_queue_finish(queue));
	long before = fake->launches();
	check_ok(ps_list_submit(list, step));
	check_ok(ps_queue_finish(queue));
	return fake->launches() - before;
}

START_TEST(test_bits)
{
	static struct memory one, all;
	ps_list *list;
	set_up();
	fill(&one);
	fill(&all);
	check_ok(ps_list_create(&list, queue));
	for (int i = 0; i < TENSORS; i++) {
		ps_args_sum_squares own = squares(&one, i), other = squares(&all, i);
		check_ok(ps_op_run(queue, PS_OP_sum_squares, &own, sizeof own));
		check_ok(ps_list_record(list, PS_OP_sum_squares, &other, sizeof other));
	}
	for (int i = 0; i < TENSORS; i++) {
		ps_args_sgd own = update(&one, i), other = update(&all, i);
		other.place.step = 99;
		check_ok(ps_op_run(queue, PS_OP_sgd, &own, sizeof own));
		check_ok(ps_list_record(list, PS_OP_sgd, &other, sizeof other));
	}
	/* Two runs of each, as 64 fit into one; a sum is two launches. */
	ck_assert_int_eq(launches_of(list, 3), 2 * 2 + 2);
	take(&one);
	take(&all);
	ck_assert(!memcmp(one.doubles, all.doubles, sizeof one.doubles));
	for (int k = 0; k < 3; k++)
		ck_assert_msg(!memcmp(one.got[k], all.got[k], BYTES), "buffer %d differs", k);
	/* The same as a graph, whose random words are those of its step: the weights are one update further. */
	for (int i = 0; i < TENSORS; i++) {
		ps_args_sgd own = update(&one, i);
		own.place.step = 4;
		check_ok(ps_op_run(queue, PS_OP_sgd, &own, sizeof own));
	}
	long replays = fake->replays();
	ck_assert_int_eq(launches_of(list, 4), 1 + 2 * 2 + 2);
	ck_assert_int_eq(fake->replays() - replays, 1);
	take(&one);
	take(&all);
	ck_assert(!memcmp(one.doubles, all.doubles, sizeof one.doubles));
	ck_assert(!memcmp(one.got[0], all.got[0], BYTES) && !memcmp(one.got[2], all.got[2], BYTES));
	ps_list_destroy(list);
	drop(&one);
	drop(&all);
	tear_down();
}
END_TEST

/* What ends a run: a tensor that another op of it writes, another rate, another seed, another op. */
START_TEST(test_ends)
{
	static struct memory m;
	ps_list *list;
	set_up();
	fill(&m);
	check_ok(ps_list_create(&list, queue));
	ps_args_sum_squares first = squares(&m, 0), second = squares(&m, 2),
	                    sum = {.x = first.out, .out = scalar(&m, 9)};
	check_ok(ps_list_record(list, PS_OP_sum_squares, &first, sizeof first));
	check_ok(ps_list_record(list, PS_OP_sum_squares, &second, sizeof second));
	check_ok(ps_list_record(list, PS_OP_sum_squares, &sum, sizeof sum));
	ck_assert_int_eq(launches_of(list, 0), 4);
	take(&m);
	ck_assert_double_eq(m.doubles[9], m.doubles[0] * m.doubles[0]);
	for (int kind = 0; kind < 5; kind++) {
		ps_args_sgd a = update(&m, 0), b = update(&m, 2);
		ps_list_clear(list);
		if (kind == 1)
			b.lr = 0.2;
		if (kind == 2)
			b.place.seed = 8;
		if (kind == 3)
			b.scale = scalar(&m, TENSORS + 1);
		if (kind == 4)
			b = a;
		check_ok(ps_list_record(list, PS_OP_sgd, &a, sizeof a));
		check_ok(ps_list_record(list, PS_OP_sgd, &b, sizeof b));
		ck_assert_int_eq(launches_of(list, 0), kind ? 2 : 1);
	}
	ps_list_destroy(list);
	drop(&m);
	tear_down();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("runs of updates on cuda against a stand-in for its runtime");
	TCase *tests = tcase_create("runs");
	tcase_set_timeout(tests, 300);
	tcase_add_test(tests, test_bits);
	tcase_add_test(tests, test_ends);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
