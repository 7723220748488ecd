/*
 * Command lists of the cuda backend as graphs, against a stand-in for CUDA's runtime (not a GPU): the same bits as
 * without, whatever fails, and what is told of it.
 */
#include "core/backend.h"

#include "tests/cuda/controls.h"
#include "tests/support/check.h"

#include <penstock/ops.h>

#include <stdio.h>
#include <string.h>

enum { OUT_OF_MEMORY = 2, LAUNCH_FAILURE = 719 }; /* CUDA's codes */
enum { ROWS = 4, TIME = 8, E = 16, WORDS = ROWS * TIME, SLOT = WORDS * E * 4, SLOTS = 16, OPS = 6 };

static const struct fake_cuda *fake;

/* A queue with a list: an embedding, a product, dropout, and a loss. All may be NULL. */
struct rig {
	ps_device *device;
	ps_queue *queue;
	ps_buffer *buffer;
	ps_list *list;
	float x[WORDS * E], logits[WORDS * E], losses[WORDS], sums[E];
	int32_t tokens[WORDS], targets[WORDS];
};

static ps_tensor matrix(const struct rig *r, int slot)
{
	return ps_tensor_make(r->buffer, (uint64_t)slot * SLOT, PS_F32, 2, (int64_t[]){WORDS, E});
}

static ps_tensor cube(const struct rig *r, int slot)
{
	return ps_tensor_make(r->buffer, (uint64_t)slot * SLOT, PS_F32, 3, (int64_t[]){ROWS, TIME, E});
}

static ps_tensor square(const struct rig *r, int slot)
{
	return ps_tensor_slice(matrix(r, slot), 0, 0, E);
}

static ps_tensor words(const struct rig *r, int slot)
{
	return ps_tensor_make(r->buffer, (uint64_t)slot * SLOT, PS_I32, 2, (int64_t[]){ROWS, TIME});
}

static ps_tensor line(const struct rig *r, int slot, int64_t count)
{
	return ps_tensor_make(r->buffer, (uint64_t)slot * SLOT, PS_F32, 1, &count);
}

static ps_status record(struct rig *r)
{
	const ps_dropout drop = {.p = 0.5F, .place = {.seed = 3, .layer = 1}};
	ps_list_scope(r->list, "a layer");
	PS_TRY(ps_record(r->list, embedding_fwd, .tokens = words(r, 0), .weight = square(r, 1),
	                 .positions = square(r, 2), .y = cube(r, 3), .scale = 2, .drop = drop));
	PS_TRY(ps_record(r->list, gemm, .a = matrix(r, 3), .b = square(r, 4), .c = matrix(r, 5)));
	PS_TRY(ps_record(r->list, dropout, .x = cube(r, 5), .y = cube(r, 6), .drop = drop));
	PS_TRY(ps_record(r->list, column_sum, .x = matrix(r, 6), .y = line(r, 7, E)));
	PS_TRY(ps_record(r->list, cross_entropy, .logits = matrix(r, 6), .targets = words(r, 8),
	                 .losses = line(r, 9, WORDS), .scale = 1));
	return ps_record(r->list, add, .a = matrix(r, 6), .b = matrix(r, 3), .y = matrix(r, 10));
}

static ps_status make(struct rig *r, ps_graphs graphs)
{
	for (int i = 0; i < WORDS * E; i++)
		r->x[i] = (float)(i * 7 % 11) / 8 - 0.5F;
	for (int i = 0; i < WORDS; i++) {
		r->tokens[i] = i * 5 % E;
		r->targets[i] = i * 3 % E;
	}
	PS_TRY(ps_device_open(&r->device, "cuda-emulated:0"));
	PS_TRY(ps_queue_create(&r->queue, r->device, "q"));
	PS_TRY(ps_queue_set_graphs(r->queue, graphs));
	PS_TRY(ps_buffer_create(&r->buffer, r->device, (uint64_t)SLOTS * SLOT));
	PS_TRY(ps_list_create(&r->list, r->queue));
	return record(r);
}

/* One submission with its inputs and results, which are waited for. */
static ps_status submit(struct rig *r, uint32_t step)
{
	ps_status status = ps_queue_write(r->queue, words(r, 0), r->tokens);
	if (status == PS_OK)
		status = ps_queue_write(r->queue, words(r, 8), r->targets);
	for (int slot = 1; slot <= 4 && status == PS_OK; slot++)
		if (slot != 3)
			status = ps_queue_write(r->queue, matrix(r, slot), r->x);
	if (status == PS_OK)
		status = ps_list_submit(r->list, step);
	if (status == PS_OK)
		status = ps_queue_read(r->queue, r->logits, matrix(r, 10));
	if (status == PS_OK)
		status = ps_queue_read(r->queue, r->losses, line(r, 9, WORDS));
	if (status == PS_OK)
		status = ps_queue_read(r->queue, r->sums, line(r, 7, E));
	ps_status finished = ps_queue_finish(r->queue);
	return status != PS_OK ? status : finished;
}

static void drop(struct rig *r)
{
	ps_list_destroy(r->list);
	ps_queue_destroy(r->queue);
	ps_buffer_destroy(r->buffer);
	ps_device_close(r->device);
}

static bool same(const struct rig *a, const struct rig *b)
{
	return !memcmp(a->logits, b->logits, sizeof a->logits) && !memcmp(a->losses, b->losses, sizeof a->losses) &&
	       !memcmp(a->sums, b->sums, sizeof a->sums);
}

static const char *note_of(const struct rig *r, char text[256])
{
	return ps_queue_note(r->queue, text, 256);
}

/* What each of some submissions should give. */
enum { SUBMISSIONS = 4 };
static struct rig want[SUBMISSIONS];

static void find_wanted(void)
{
	static struct rig r;
	fake = find_controls();
	long replays = fake->replays();
	check_ok(make(&r, PS_GRAPHS_OFF));
	for (int i = 0; i < SUBMISSIONS; i++) {
		check_ok(submit(&r, (uint32_t)i / 2 * 3));
		want[i] = r;
	}
	ck_assert_int_eq(fake->replays(), replays);
	drop(&r);
	end_well(fake, 0);
	/* A step of its own has masks of its own. */
	ck_assert(same(&want[0], &want[1]) && !same(&want[1], &want[2]));
}

START_TEST(test_bits)
{
	static struct rig r;
	char note[256];
	find_wanted();
	long replays = fake->replays();
	check_ok(make(&r, _i ? PS_GRAPHS_ON : PS_GRAPHS_AUTO));
	for (int i = 0; i < SUBMISSIONS; i++) {
		long launches = fake->launches();
		check_ok(submit(&r, (uint32_t)i / 2 * 3));
		ck_assert_msg(same(&r, &want[i]), "submission %d differs", i);
		/* Two launches belong to a range check, and one sets the turn. */
		if (i >= 2)
			ck_assert_int_eq(fake->launches() - launches, 1);
		ck_assert_int_eq(fake->replays() - replays, i);
	}
	ck_assert_str_eq(note_of(&r, note), "");
	drop(&r);
	end_well(fake, 0);
}
END_TEST

/* What is recorded behind a submission is submitted from the next one on, and becomes another graph. */
START_TEST(test_growing)
{
	static struct rig r;
	find_wanted();
	long replays = fake->replays();
	check_ok(make(&r, PS_GRAPHS_AUTO));
	for (int i = 0; i < 3; i++)
		check_ok(submit(&r, 0));
	check_ok(ps_record(r.list, add, .a = matrix(&r, 10), .b = matrix(&r, 10), .y = matrix(&r, 10)));
	for (int i = 0; i < 3; i++) {
		check_ok(submit(&r, 0));
		for (int j = 0; j < WORDS * E; j++)
			ck_assert_float_eq(r.logits[j], 2 * want[0].logits[j]);
	}
	ck_assert_int_eq(fake->replays() - replays, 4);
	drop(&r);
	end_well(fake, 0);
}
END_TEST

/* Many submissions that nobody waits for, with steps of their own, and a list that goes while they are on their way. */
START_TEST(test_unattended)
{
	enum { MANY = 200 };
	static struct rig r;
	static float got[MANY][E];
	find_wanted();
	check_ok(make(&r, PS_GRAPHS_AUTO));
	check_ok(submit(&r, 0));
	for (int i = 0; i < MANY; i++) {
		check_ok(ps_list_submit(r.list, (uint32_t)i % 2 * 3));
		check_ok(ps_queue_read(r.queue, got[i], line(&r, 7, E)));
	}
	ps_list_destroy(r.list);
	r.list = NULL;
	check_ok(ps_queue_finish(r.queue));
	for (int i = 0; i < MANY; i++)
		ck_assert(!memcmp(got[i], want[i % 2 * 2].sums, sizeof got[i]));
	drop(&r);
	end_well(fake, 0);
}
END_TEST

/* A range check fails its own op, in the first submission, which is no graph, and in later ones. */
START_TEST(test_range_checks)
{
	static struct rig r;
	find_wanted();
	check_ok(make(&r, PS_GRAPHS_ON));
	for (int round = 0; round < 12; round++) {
		bool token = round % 3 == 1, target = round % 3 == 2 || round == 0;
		uint64_t begin = ps_queue_record(r.queue).value;
		r.tokens[11] = token ? E + round : 11 * 5 % E;
		r.targets[5] = target ? -1 : 5 * 3 % E;
		ps_status status = submit(&r, 0);
		if (!token && !target) {
			check_ok(status);
			ck_assert(same(&r, &want[0]));
			continue;
		}
		char text[128];
		ck_assert_int_eq(status, PS_EINVAL);
		snprintf(text, sizeof text,
		         token ? "embedding_fwd: row 1, position 3 has token %d, which should be"
		               : "cross_entropy: row 5 has target %d, which should be",
		         token ? E + round : -1);
		check_message(text);
		const ps_timeline *timeline = ps_queue_record(r.queue).timeline;
		/* Five copies come before the list. */
		ck_assert_uint_eq(timeline->failed_from - begin, 5 + (token ? 1 : 5));
		ck_assert_uint_eq(ps__list_find(r.list, timeline->failed_from), token ? 0 : 4);
		ps_queue_reset(r.queue);
	}
	drop(&r);
	end_well(fake, 0);
}
END_TEST

/* Some submissions, of which the first that fails is the last; from them on, the nth call or command fails. */
static ps_status scenario(struct rig *r, ps_graphs graphs, enum fake_failure what, long nth, char message[1024])
{
	*r = (struct rig){.device = NULL};
	check_ok(make(r, graphs));
	check_ok(ps_queue_finish(r->queue));
	ps_status status = PS_OK;
	fake->fail_nth(what, nth, what == FAKE_CALL ? OUT_OF_MEMORY : LAUNCH_FAILURE);
	for (int i = 0; i < SUBMISSIONS && status == PS_OK; i++) {
		status = submit(r, (uint32_t)i / 2 * 3);
		if (status == PS_OK)
			ck_assert_msg(same(r, &want[i]), "submission %d differs", i);
	}
	snprintf(message, 1024, "%s", status == PS_OK ? "" : ps_error_message());
	fake->fail_nth(what, 0, 0);
	return status;
}

/* Calls fail, one in each run: what has become no graph runs all the same, or is an error, and nothing is left. */
START_TEST(test_calls_fail)
{
	static struct rig r;
	char message[1024], note[256] = "";
	long failed, without = 0;
	find_wanted();
	for (long n = 1;; n += _i ? 7 : 3) {
		failed = fake->failed();
		ps_status status = scenario(&r, _i ? PS_GRAPHS_ON : PS_GRAPHS_AUTO, FAKE_CALL, n, message);
		if (*note_of(&r, note)) {
			without++;
			ck_assert_msg(status == PS_OK, "call %ld: %s; %s", n, message, note);
			ck_assert(strstr(note, "a command list is enqueued op by op, for it became no graph: "));
			ck_assert_msg(strstr(note, "cudaErrorMemoryAllocation") || strstr(note, "CUBLAS_STATUS_"), "%s",
			              note);
		}
		drop(&r);
		end_well(fake, 0);
		if (status != PS_OK)
			ck_assert_msg(status == PS_ENOMEM || status == PS_EDEVICE, "call %ld: %s", n, message);
		if (fake->failed() == failed)
			break;
	}
	/* Beginning, eight launches, ending, making the graph; the other thread's calls are among those counted. */
	ck_assert_msg(_i ? without == 0 : without >= 2, "%ld lists became no graph", without);
}
END_TEST

/* A submission in which a launch fails is no warming up: the next one launches one by one, too. */
START_TEST(test_first_fails)
{
	static struct rig r;
	long within = 0, failed;
	find_wanted();
	do {
		check_ok(make(&r, PS_GRAPHS_ON));
		check_ok(ps_queue_finish(r.queue));
		long launches = fake->launches(), replays = fake->replays();
		failed = fake->failed();
		fake->fail_nth(FAKE_LAUNCH, ++within, OUT_OF_MEMORY);
		ps_status status = submit(&r, 0);
		fake->fail_nth(FAKE_LAUNCH, 0, 0);
		failed = fake->failed() - failed;
		ck_assert_int_eq(status != PS_OK, failed);
		if (failed) {
			ck_assert_int_eq(fake->launches() - launches, within - 1);
			ps_queue_reset(r.queue);
			check_ok(submit(&r, 0));
			ck_assert(same(&r, &want[0]));
		}
		ck_assert_int_eq(fake->replays(), replays);
		check_ok(submit(&r, 0));
		ck_assert(same(&r, &want[0]));
		ck_assert_int_eq(fake->replays(), replays + 1);
		drop(&r);
		end_well(fake, 0);
	} while (failed);
	ck_assert_int_gt(within, OPS);
}
END_TEST

/* An error that strikes within a list, as a graph or not, and sticks. */
START_TEST(test_commands_fail)
{
	static struct rig r;
	char message[1024];
	long failed;
	find_wanted();
	for (long n = 1;; n += 5) {
		failed = fake->failed();
		ps_status status = scenario(&r, PS_GRAPHS_AUTO, FAKE_COMMAND, n, message);
		drop(&r);
		fake->heal();
		end_well(fake, 0);
		if (fake->failed() == failed) {
			ck_assert_msg(status == PS_OK, "%s", message);
			break;
		}
		ck_assert_msg(status == PS_EDEVICE && strstr(message, "cudaErrorLaunchFailure"), "command %ld: %s: %s",
		              n, ps_status_name(status), message);
	}
}
END_TEST

/* Where streams cannot be captured, AUTO goes without and says so, and ON fails each time that it matters. */
START_TEST(test_no_capture)
{
	static struct rig r;
	char message[1024], note[256];
	find_wanted();
	long replays = fake->replays();
	fake->allow_capture(0);
	check_ok(scenario(&r, PS_GRAPHS_AUTO, FAKE_CALL, 0, message));
	ck_assert_int_eq(fake->replays(), replays);
	ck_assert(strstr(note_of(&r, note), "it became no graph: cuda-emulated:0: cudaStreamBeginCapture: "));
	drop(&r);
	check_ok(make(&r, PS_GRAPHS_ON));
	check_ok(submit(&r, 0));
	for (int i = 0; i < 3; i++) {
		uint64_t begin = ps_queue_record(r.queue).value;
		check_fails(submit(&r, 0), PS_EDEVICE);
		check_message("cuda-emulated:0: cudaStreamBeginCapture: ");
		ck_assert_uint_eq(ps_queue_record(r.queue).timeline->failed_from - begin, 6);
		ps_queue_reset(r.queue);
	}
	fake->allow_capture(1);
	check_ok(submit(&r, 0));
	ck_assert(same(&r, &want[0]));
	ck_assert_str_eq(note_of(&r, note), "");
	drop(&r);
	end_well(fake, 0);
}
END_TEST

/* A list whose products round their factors in the queue's memory, which a larger product has outgrown meanwhile. */
START_TEST(test_outgrown)
{
	static struct rig r, first;
	fake = find_controls();
	check_ok(make(&r, PS_GRAPHS_ON));
	ps_list_destroy(r.list);
	check_ok(ps_queue_set_math(r.queue, PS_MATH_BF16));
	check_ok(ps_list_create(&r.list, r.queue));
	check_ok(record(&r));
	for (int i = 0; i < 3; i++)
		check_ok(submit(&r, 0));
	first = r;
	ps_buffer *large;
	check_ok(ps_buffer_create(&large, r.device, (uint64_t)3 * 64 * 64 * 4));
	ps_tensor all = ps_tensor_make(large, 0, PS_F32, 2, (int64_t[]){3 * 64, 64});
	check_ok(ps_queue_zero(r.queue, all));
	check_ok(ps_run(r.queue, gemm, .a = ps_tensor_slice(all, 0, 0, 64), .b = ps_tensor_slice(all, 0, 64, 64),
	                .c = ps_tensor_slice(all, 0, 128, 64)));
	for (int i = 0; i < 3; i++) {
		check_ok(submit(&r, 0));
		ck_assert(same(&r, &first));
	}
	ps_buffer_destroy(large);
	drop(&r);
	end_well(fake, 0);
}
END_TEST

START_TEST(test_others)
{
	ps_device *device;
	ps_queue *queue;
	char note[8] = "x";
	check_ok(ps_device_open(&device, "ref"));
	check_ok(ps_queue_create(&queue, device, "q"));
	check_fails(ps_queue_set_graphs(queue, PS_GRAPHS_ON), PS_ENOTSUP);
	check_message("ref has no graphs; GPUs by cuda have");
	check_ok(ps_queue_set_graphs(queue, PS_GRAPHS_OFF));
	ck_assert_str_eq(ps_queue_note(queue, note, sizeof note), "");
	ps_queue_destroy(queue);
	ps_device_close(device);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cuda's graphs against a stand-in for its runtime");
	TCase *tests = tcase_create("graphs");
	tcase_set_timeout(tests, 300);
	tcase_add_loop_test(tests, test_bits, 0, 2);
	tcase_add_test(tests, test_growing);
	tcase_add_test(tests, test_unattended);
	tcase_add_test(tests, test_range_checks);
	tcase_add_loop_test(tests, test_calls_fail, 0, 2);
	tcase_add_test(tests, test_first_fails);
	tcase_add_test(tests, test_commands_fail);
	tcase_add_test(tests, test_no_capture);
	tcase_add_test(tests, test_outgrown);
	tcase_add_test(tests, test_others);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
