/*
 * The cuda backend against a stand-in for CUDA's runtime (not a GPU): calls that fail one by one, errors that stick,
 * and peer paths that are not there or corrupt.
 */
#include "tests/cuda/controls.h"
#include "tests/support/check.h"

#include <penstock/bf16.h>
#include <penstock/link.h>
#include <penstock/ops.h>

#include <stdio.h>
#include <string.h>

enum { OUT_OF_MEMORY = 2, ECC = 214, LAUNCH_FAILURE = 719 }; /* CUDA's codes */
enum { N = 32, LARGE = 4096 };

static const struct fake_cuda *fake;

/* What a scenario owns; all may be NULL. */
struct rig {
	ps_device *device[2];
	ps_queue *first, *second, *far;
	ps_buffer *buffer, *far_buffer;
	ps_link *link;
	float host[LARGE], back[N], seen[N], rounded[N];
	uint16_t quarters[N * N];
	double norm;
	int64_t begin;
};

static ps_tensor part(ps_buffer *buffer, int slot)
{
	return ps_tensor_make(buffer, (uint64_t)slot * N * N * 4, PS_F32, 2, (int64_t[]){N, N});
}

static ps_tensor row(ps_buffer *buffer, int slot)
{
	return ps_tensor_make(buffer, (uint64_t)slot * N * N * 4, PS_F32, 1, (int64_t[]){N});
}

static ps_tensor scalar(ps_buffer *buffer, int index)
{
	return ps_tensor_make(buffer, (uint64_t)(15 * N * N * 4 + index * 8), PS_F64, 1, (int64_t[]){1});
}

/* Chunks are the least there can be, so that the link's test is short. */
static const ps_link_options short_link = {.skip_measure = true, .chunk_bytes = 4096};

static ps_status make(struct rig *r)
{
	for (int i = 0; i < 2; i++)
		PS_TRY(ps_device_open(&r->device[i], i ? "cuda-emulated:1" : "cuda-emulated:0"));
	PS_TRY(ps_queue_create(&r->first, r->device[0], "first"));
	PS_TRY(ps_queue_create(&r->second, r->device[0], "second"));
	PS_TRY(ps_queue_create(&r->far, r->device[1], "far"));
	PS_TRY(ps_buffer_create(&r->buffer, r->device[0], (uint64_t)16 * N * N * 4));
	PS_TRY(ps_buffer_create(&r->far_buffer, r->device[1], (uint64_t)16 * N * N * 4));
	return ps_link_create(&r->link, r->device[0], r->device[1], "link", &short_link);
}

static ps_status work(struct rig *r)
{
	ps_buffer *b = r->buffer;
	int64_t whole = LARGE;
	ps_event sent;
	for (int i = 0; i < LARGE; i++)
		r->host[i] = 0.5F;
	PS_TRY(ps_queue_timestamp(r->first, &r->begin));
	PS_TRY(ps_queue_zero(r->first, part(b, 0)));
	PS_TRY(ps_queue_write(r->first, ps_tensor_make(b, 0, PS_F32, 1, &whole), r->host));
	/* Aligned to 16 bytes and no better. */
	ps_tensor bias = ps_tensor_make(b, (uint64_t)4 * N * N * 4 + 16, PS_F32, 1, (int64_t[]){N});
	PS_TRY(ps_queue_write(r->first, bias, r->host));
	PS_TRY(ps_run(r->first, gemm, .a = part(b, 0), .b = part(b, 1), .c = part(b, 5), .bias = bias));
	/* A bf16 product, which rounds its fp32 factor and aligns the other one. */
	for (int i = 0; i < N * N; i++)
		r->quarters[i] = ps_bf16_round(0.25F);
	ps_tensor narrow = ps_tensor_make(b, (uint64_t)9 * N * N * 4 + 2, PS_BF16, 2, (int64_t[]){N, N});
	PS_TRY(ps_queue_write(r->first, narrow, r->quarters));
	PS_TRY(ps_run(r->first, gemm, .a = part(b, 0), .b = narrow, .c = part(b, 8)));
	PS_TRY(ps_queue_read(r->first, r->rounded, row(b, 8)));
	PS_TRY(ps_queue_wait(r->second, ps_queue_record(r->first)));
	PS_TRY(ps_run(r->second, add, .a = part(b, 5), .b = part(b, 0), .y = part(b, 6)));
	PS_TRY(ps_run(r->second, column_sum, .x = part(b, 6), .y = row(b, 7)));
	PS_TRY(ps_run(r->second, sum_squares, .x = part(b, 6), .out = scalar(b, 0)));
	PS_TRY(ps_run(r->second, clip_scale, .sums = scalar(b, 0), .norm = scalar(b, 1), .scale = scalar(b, 2)));
	PS_TRY(ps_run(r->second, sgd, .w = part(b, 6), .g = part(b, 0), .scale = scalar(b, 2), .lr = 1));
	ps_event done = ps_queue_record(r->second);
	PS_TRY(ps_link_send(r->link, part(r->far_buffer, 1), part(b, 6), &done, 1, NULL, &sent));
	PS_TRY(ps_queue_wait(r->far, sent));
	PS_TRY(ps_queue_copy(r->far, part(r->far_buffer, 2), part(r->far_buffer, 1)));
	PS_TRY(ps_queue_read(r->far, r->back, row(r->far_buffer, 2)));
	PS_TRY(ps_queue_read(r->second, &r->norm, scalar(b, 1)));
	PS_TRY(ps_queue_read(r->second, r->seen, row(b, 7)));
	/* Both, before their memory goes. */
	ps_status status = ps_queue_finish(r->second), far_status = ps_queue_finish(r->far);
	return status != PS_OK ? status : far_status;
}

/* Who waits goes before whom it waits for. */
static void drop(struct rig *r)
{
	ps_queue_destroy(r->far);
	ps_link_destroy(r->link);
	ps_queue_destroy(r->second);
	ps_queue_destroy(r->first);
	ps_buffer_destroy(r->far_buffer);
	ps_buffer_destroy(r->buffer);
	ps_device_close(r->device[1]);
	ps_device_close(r->device[0]);
}

/* Everything once; the message stands. */
static ps_status scenario(char message[1024])
{
	struct rig r = {.device = {NULL}};
	ps_status status = make(&r);
	if (status == PS_OK)
		status = work(&r);
	snprintf(message, 1024, "%s", status == PS_OK ? "" : ps_error_message());
	drop(&r);
	if (status == PS_OK) {
		/* 32 * 0.25 + 0.5 = 8.5 in all of the product, 9 after the sum, 8.5 after the step. */
		ck_assert_float_eq(r.seen[N - 1], 9 * N);
		ck_assert_float_eq(r.back[N - 1], 8.5F);
		ck_assert_float_eq(r.rounded[N - 1], N * 0.5F * 0.25F);
		ck_assert_double_eq_tol(r.norm, 9 * N, 1e-9);
		ck_assert(r.begin > 0);
	}
	return status;
}

START_TEST(test_undisturbed)
{
	char message[1024];
	fake = find_controls();
	ck_assert_msg(scenario(message) == PS_OK, "%s", message);
	end_well(fake, 0);
}
END_TEST

/* Under the address sanitizer, which is slow, every third call has to do. */
#ifdef __SANITIZE_ADDRESS__
enum { STRIDE = 3 };
#else
enum { STRIDE = 1 };
#endif

/*
 * The n-th call of CUDA finds no memory, for every n: the status says so, nothing hangs, nothing is left. Once with a
 * peer path and once through pinned memory.
 */
START_TEST(test_calls_fail)
{
	char message[1024];
	long n = 1 - STRIDE, failed, passed_over = 0;
	fake = find_controls();
	fake->allow_peers(!_i);
	do {
		failed = fake->failed();
		n += STRIDE;
		fake->fail_nth(FAKE_CALL, n, OUT_OF_MEMORY);
		ps_status status = scenario(message);
		fake->fail_nth(FAKE_CALL, 0, 0);
		end_well(fake, 0);
		if (fake->failed() == failed)
			ck_assert_msg(status == PS_OK, "%s", message);
		else if (status == PS_OK)
			passed_over++;
		else
			ck_assert_msg((status == PS_ENOMEM || status == PS_EDEVICE || status == PS_ENODEV) && *message,
			              "call %ld: %s: %s", n, ps_status_name(status), message);
	} while (fake->failed() > failed);
	/* What is passed over is setting the device back and taking things down. */
	ck_assert_msg(n > 300, "only %ld calls", n);
	printf("%ld calls failed one by one, %ld of them passed over\n", n / STRIDE, passed_over);
}
END_TEST

/* An error that strikes when a stream comes to its n-th command, and sticks. */
START_TEST(test_commands_fail)
{
	char message[1024];
	bool launch = _i & 1;
	long n = 0, failed;
	fake = find_controls();
	fake->allow_peers(_i / 2);
	do {
		failed = fake->failed();
		fake->fail_nth(FAKE_COMMAND, ++n, launch ? LAUNCH_FAILURE : ECC);
		ps_status status = scenario(message);
		fake->fail_nth(FAKE_COMMAND, 0, 0);
		fake->heal();
		end_well(fake, 0);
		if (fake->failed() > failed)
			ck_assert_msg(status == PS_EDEVICE && strstr(message, "cuda-emulated:") &&
			                      strstr(message, launch ? "cudaErrorLaunchFailure" : "cudaErrorECC"),
			              "command %ld: %s: %s", n, ps_status_name(status), message);
		else
			ck_assert_msg(status == PS_OK, "%s", message);
	} while (fake->failed() > failed);
	ck_assert_int_gt(n, 20);
}
END_TEST

/* A queue fails, is reset, and works again; so does one that waited for it. */
START_TEST(test_reset)
{
	struct rig r = {.device = {NULL}};
	fake = find_controls();
	check_ok(make(&r));
	ps_tensor tokens = ps_tensor_make(r.buffer, 0, PS_I32, 2, (int64_t[]){4, 8});
	int32_t words[32] = {0};
	for (int round = 0; round < 20; round++) {
		words[11] = round % 2 ? 0 : N + round;
		check_ok(ps_queue_write(r.first, tokens, words));
		check_ok(ps_run(r.first, embedding_fwd, .tokens = tokens, .weight = part(r.buffer, 1),
		                .positions = part(r.buffer, 2),
		                .y = ps_tensor_make(r.buffer, (uint64_t)3 * N * N * 4, PS_F32, 3, (int64_t[]){4, 8, N}),
		                .scale = 1));
		check_ok(ps_queue_zero(r.first, part(r.buffer, 4)));
		check_ok(ps_queue_wait(r.second, ps_queue_record(r.first)));
		check_ok(ps_queue_zero(r.second, part(r.buffer, 5)));
		if (round % 2) {
			check_ok(ps_queue_finish(r.second));
			continue;
		}
		check_fails(ps_queue_finish(r.second), PS_EINVAL);
		check_message("embedding_fwd: row 1, position 3 has token ");
		check_fails(ps_queue_finish(r.first), PS_EINVAL);
		ps_queue_reset(r.second);
		ps_queue_reset(r.first);
	}
	drop(&r);
	end_well(fake, 0);
}
END_TEST

START_TEST(test_peers)
{
	struct rig r = {.device = {NULL}};
	char message[1024];
	fake = find_controls();
	check_ok(make(&r));
	ck_assert_int_eq(ps_link_get_info(r.link)->kind, PS_LINK_PEER);
	drop(&r);
	/* A path that corrupts large transfers, or all, is found out, and the work is right all the same. */
	for (unsigned long bytes = 4; bytes <= 4096; bytes *= 1024) {
		r = (struct rig){.device = {NULL}};
		fake->corrupt_peers(bytes);
		check_ok(make(&r));
		ck_assert_int_eq(ps_link_get_info(r.link)->kind, PS_LINK_STAGED);
		ck_assert(strstr(ps_link_get_info(r.link)->note, "the peer path failed its test"));
		drop(&r);
		ck_assert_msg(scenario(message) == PS_OK, "%s", message);
	}
	fake->corrupt_peers(0);
	fake->allow_peers(0);
	r = (struct rig){.device = {NULL}};
	check_ok(make(&r));
	ck_assert_int_eq(ps_link_get_info(r.link)->kind, PS_LINK_STAGED);
	ck_assert(strstr(ps_link_get_info(r.link)->note, "neither device reaches the other's memory"));
	check_fails(ps_queue_copy(r.far, part(r.far_buffer, 0), part(r.buffer, 0)), PS_ENOTSUP);
	drop(&r);
	ck_assert_msg(scenario(message) == PS_OK, "%s", message);
	end_well(fake, 0);
}
END_TEST

/* A queue's math reaches cuBLASLt: tf32 and bf16 lose what is below their mantissas. */
START_TEST(test_math)
{
	static const struct {
		ps_math math;
		float kept; /* of 1 + 2^-9 + 2^-12 */
	} rows[] = {{PS_MATH_F32, 1 + 0x1p-9F + 0x1p-12F}, {PS_MATH_TF32, 1 + 0x1p-9F}, {PS_MATH_BF16, 1}};
	struct rig r = {.device = {NULL}};
	ps_queue *cpu_queue;
	ps_device *cpu;
	float a[N * N], got[N];
	fake = find_controls();
	check_ok(make(&r));
	for (int i = 0; i < N * N; i++) {
		r.host[i] = 1;
		a[i] = rows[0].kept;
	}
	check_ok(ps_queue_write(r.first, part(r.buffer, 0), a));
	check_ok(ps_queue_write(r.first, part(r.buffer, 1), r.host));
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		check_ok(ps_queue_set_math(r.first, rows[i].math));
		check_ok(ps_run(r.first, gemm, .a = part(r.buffer, 0), .b = part(r.buffer, 1), .c = part(r.buffer, 2)));
		check_ok(ps_queue_read(r.first, got, row(r.buffer, 2)));
		check_ok(ps_queue_finish(r.first));
		ck_assert_float_eq(got[N - 1], N * rows[i].kept);
	}
	drop(&r);
	end_well(fake, 0);
	check_ok(ps_device_open(&cpu, "ref"));
	check_ok(ps_queue_create(&cpu_queue, cpu, "q"));
	check_fails(ps_queue_set_math(cpu_queue, PS_MATH_TF32), PS_ENOTSUP);
	check_message("ref cannot multiply in tf32; GPUs by cuda can");
	ps_queue_destroy(cpu_queue);
	ps_device_close(cpu);
}
END_TEST

/* A product whose algorithm depends on how many rows there are is told; so is one that comes to do so for more rows. */
START_TEST(test_rows_are_tried)
{
	struct rig r = {.device = {NULL}};
	char note[256];
	fake = find_controls();
	for (int good = 1; good >= 0; good--) {
		fake->allow_good_algorithms(good);
		r = (struct rig){.device = {NULL}};
		check_ok(make(&r));
		check_ok(ps_run(r.first, gemm, .a = part(r.buffer, 0), .b = part(r.buffer, 1), .c = part(r.buffer, 2)));
		check_ok(ps_queue_finish(r.first));
		const char *want =
		        good ? ""
		             : "cuBLASLt has no algorithm for products with n 32, k 32 that gives a row the same bits";
		ps_queue_note(r.first, note, sizeof note);
		ck_assert_msg(good ? !*note : strstr(note, want) != NULL, "%s", note);
		drop(&r);
	}
	fake->allow_good_algorithms(1);
	end_well(fake, 0);
}
END_TEST

/* What is between times is the GPU's, however late the thread wakes up that sees them. */
START_TEST(test_times)
{
	enum { TIMES = 8, COMMAND_US = 3000, WAKING_US = 30000 };
	struct rig r = {.device = {NULL}};
	int64_t times[TIMES], begin = ps_clock_ns();
	fake = find_controls();
	check_ok(make(&r));
	fake->slow(COMMAND_US, WAKING_US);
	for (int i = 0; i < TIMES; i++) {
		check_ok(ps_queue_zero(r.first, part(r.buffer, 0)));
		check_ok(ps_queue_timestamp(r.first, &times[i]));
	}
	check_ok(ps_queue_finish(r.first));
	ck_assert_int_gt(times[0], begin);
	for (int i = 0; i + 1 < TIMES; i++)
		ck_assert_msg(times[i + 1] - times[i] >= COMMAND_US * 999, "%lld ns",
		              (long long)(times[i + 1] - times[i]));
	fake->slow(0, 0);
	drop(&r);
	end_well(fake, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cuda against a stand-in for its runtime");
	TCase *tests = tcase_create("faults");
	tcase_set_timeout(tests, 300);
	tcase_add_test(tests, test_undisturbed);
	tcase_add_loop_test(tests, test_calls_fail, 0, 2);
	tcase_add_loop_test(tests, test_commands_fail, 0, 4);
	tcase_add_test(tests, test_reset);
	tcase_add_test(tests, test_peers);
	tcase_add_test(tests, test_math);
	tcase_add_test(tests, test_rows_are_tried);
	tcase_add_test(tests, test_times);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
