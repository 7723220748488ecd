/* Plain values: status and messages, tensors, random numbers, and the timeline under contention. */
#include "tests/core/contract.h"

#include <penstock/random.h>

#include <pthread.h>

START_TEST(test_status)
{
	static const struct {
		const char *name;
		ps_status status;
		int usage;
	} rows[] = {
	        {"PS_OK", PS_OK, 0},          {"PS_EINVAL", PS_EINVAL, 1},       {"PS_EFORMAT", PS_EFORMAT, 1},
	        {"PS_ENOMEM", PS_ENOMEM, 0},  {"PS_EINTERNAL", PS_EINTERNAL, 0}, {"PS_EDIVERGED", PS_EDIVERGED, 0},
	        {"PS_E?", (ps_status)-99, 0}, {"PS_E?", (ps_status)1, 0},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		ck_assert_str_eq(ps_status_name(rows[i].status), rows[i].name);
		ck_assert_int_eq(ps_status_is_usage(rows[i].status), rows[i].usage);
	}
}
END_TEST

START_TEST(test_message)
{
	char message[MESSAGE_LENGTH + 1];
	ck_assert_str_eq(ps_error_message(), "");
	ck_assert_int_eq(ps_fail(PS_EIO, "line %d", 7), PS_EIO);
	ck_assert_str_eq(ps_error_message(), "line 7");
	/* The old message may be an argument of the new one. */
	ck_assert_int_eq(ps_fail(PS_EINVAL, "<%s>", ps_error_message()), PS_EINVAL);
	ck_assert_str_eq(ps_error_message(), "<line 7>");
	ck_assert_int_eq(ps_fail_context(PS_EIO, "file %s", "x"), PS_EIO);
	ck_assert_str_eq(ps_error_message(), "file x: <line 7>");
	/* The longest message passes whole, a longer one is cut. */
	long_message(message);
	(void)ps_fail(PS_EIO, "%s", message);
	ck_assert_str_eq(ps_error_message(), message);
	(void)ps_fail(PS_EIO, "%s!", message);
	ck_assert_str_eq(ps_error_message(), message);
	(void)ps_fail_context(PS_EIO, "%s", message);
	ck_assert_str_eq(ps_error_message(), message);
	(void)ps_fail(PS_EIO, "%s", "short");
	ck_assert_str_eq(ps_error_message(), "short");
}
END_TEST

static void *fail_here(void *argument)
{
	(void)argument;
	(void)ps_fail(PS_EIO, "elsewhere");
	return NULL;
}

START_TEST(test_message_is_the_threads_own)
{
	pthread_t thread;
	(void)ps_fail(PS_EIO, "here");
	ck_assert_int_eq(pthread_create(&thread, NULL, fail_here, NULL), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_str_eq(ps_error_message(), "here");
}
END_TEST

/* Tensor helpers look at the buffer's address and size only. */
static ps_buffer memory = {.bytes = 480};

START_TEST(test_tensor_make)
{
	ps_tensor t = ps_tensor_make(&memory, 8, PS_F32, 3, (int64_t[]){2, 3, 5});
	ck_assert(ps_tensor_present(t));
	ck_assert(!ps_tensor_present((ps_tensor){0}));
	ck_assert_int_eq(ps_tensor_count(t), 30);
	ck_assert_int_eq(t.strides[0], 15);
	ck_assert_int_eq(t.strides[1], 5);
	ck_assert_int_eq(t.strides[2], 1);
	ck_assert(ps_tensor_is_contiguous(t));
	ps_tensor scalar = ps_tensor_make(&memory, 0, PS_F64, 0, NULL);
	ck_assert_int_eq(ps_tensor_count(scalar), 1);
	ck_assert(ps_tensor_is_contiguous(scalar));
	ck_assert_int_eq(ps_tensor_matrix(scalar).rank, 0);
}
END_TEST

START_TEST(test_tensor_views)
{
	ps_tensor t = ps_tensor_make(&memory, 8, PS_F32, 3, (int64_t[]){2, 3, 5});
	ps_tensor rows = ps_tensor_slice(t, 0, 1, 1);
	ck_assert_uint_eq(rows.offset, 8 + 15 * 4);
	ck_assert_int_eq(ps_tensor_count(rows), 15);
	ck_assert(ps_tensor_is_contiguous(rows));
	ps_tensor columns = ps_tensor_slice(t, 2, 1, 4);
	ck_assert_uint_eq(columns.offset, 12);
	ck_assert(!ps_tensor_is_contiguous(columns));
	/* One element of a dimension has no stride to speak of. */
	ck_assert(ps_tensor_is_contiguous(ps_tensor_slice(ps_tensor_slice(columns, 0, 0, 1), 1, 2, 1)));
	ps_tensor matrix = ps_tensor_matrix(t);
	ck_assert_int_eq(matrix.rank, 2);
	ck_assert_int_eq(matrix.dims[0], 6);
	ck_assert_int_eq(matrix.dims[1], 5);
	ck_assert_uint_eq(matrix.offset, 8);
	ck_assert(ps_tensor_same_shape(t, t));
	ck_assert(!ps_tensor_same_shape(t, matrix));
	ck_assert(!ps_tensor_same_shape(t, rows));
	ps_tensor none = ps_tensor_make(&memory, 0, PS_F32, 2, (int64_t[]){0, 5});
	ck_assert_int_eq(ps_tensor_count(none), 0);
	ck_assert(ps_tensor_is_contiguous(none));
}
END_TEST

START_TEST(test_tensor_text)
{
	char text[64];
	ps_tensor t = ps_tensor_make(&memory, 0, PS_I32, 3, (int64_t[]){20, 25, 4096});
	ck_assert_str_eq(ps_tensor_text(t, text, sizeof text), "int32 (20, 25, 4096)");
	ck_assert_str_eq(ps_tensor_text(t, text, 10), "int32 (20");
	ck_assert_str_eq(ps_tensor_text((ps_tensor){0}, text, sizeof text), "absent");
	t.rank = 0;
	ck_assert_str_eq(ps_tensor_text(t, text, sizeof text), "int32 ()");
	t.rank = 99;
	ck_assert_str_eq(ps_tensor_text(t, text, sizeof text), "int32 of rank 99");
	t.rank = 1;
	t.dtype = (ps_dtype)77;
	ck_assert_str_eq(ps_tensor_text(t, text, sizeof text), "no dtype (20)");
	ck_assert_uint_eq(ps_dtype_bytes((ps_dtype)77), 0);
	ck_assert_uint_eq(ps_dtype_bytes(PS_F64), 8);
	ck_assert_str_eq(ps_dtype_name(PS_F32), "fp32");
}
END_TEST

START_TEST(test_tensor_soundness)
{
	ps_tensor t = ps_tensor_make(&memory, 0, PS_F32, 2, (int64_t[]){12, 10});
	ck_assert(ps__tensor_is_sound(t));
	t.strides[0] = 11;
	ck_assert(!ps__tensor_is_sound(t));
	t.dims[1] = 0;
	ck_assert(ps__tensor_is_sound(t));
	t = ps_tensor_make(&memory, 0, PS_F32, 2, (int64_t[]){INT64_MAX, 2});
	t.strides[0] = 0;
	ck_assert(!ps__tensor_is_sound(t));
	t = ps_tensor_make(&memory, 476, PS_F32, 1, (int64_t[]){1});
	ck_assert(ps__tensor_is_sound(t));
	t.offset = 480;
	ck_assert(!ps__tensor_is_sound(t));
	t = ps_tensor_make(&memory, 0, PS_F32, 1, (int64_t[]){2});
	t.strides[0] = INT64_MAX;
	ck_assert(!ps__tensor_is_sound(t));
}
END_TEST

/* Known answers of Random123 1.14 (tests/kat_vectors), philox4x32 with 10 rounds: counter, key, result. */
static const uint32_t known[3][3][4] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

/* The place, row and block whose counter and key are those of the vector. */
static ps_random_place place_of(const uint32_t vector[3][4])
{
	return (ps_random_place){.seed = (uint64_t)vector[1][1] << 32 | vector[1][0],
	                         .step = vector[0][2],
	                         .layer = vector[0][3] >> 8,
	                         .site = vector[0][3] & 0xff};
}

START_TEST(test_random_known_answers)
{
	const uint32_t(*vector)[4] = known[_i];
	ps_random_place place = place_of(vector);
	uint32_t words[4];
	ps_random_block(&place, vector[0][1], vector[0][0], words);
	for (int i = 0; i < 4; i++) {
		ck_assert_uint_eq(words[i], vector[2][i]);
		uint64_t element = (uint64_t)vector[0][0] * 4 + (uint64_t)i;
		ck_assert_uint_eq(ps_random_word(&place, vector[0][1], element), vector[2][i]);
	}
}
END_TEST

START_TEST(test_random_threshold)
{
	ck_assert_uint_eq(ps_random_threshold(0), 0);
	ck_assert_uint_eq(ps_random_threshold(0.5), UINT32_C(1) << 31);
	ck_assert_uint_eq(ps_random_threshold((double)0.2f), 858993472);
	ck_assert_uint_eq(ps_random_threshold(1 - 1e-12), UINT32_MAX);
}
END_TEST

START_TEST(test_random_uniform)
{
	enum { COUNT = 41 };
	ps_random_place place = {.seed = 42, .step = PS_RANDOM_STEP_INIT, .layer = 3, .site = PS_RANDOM_SITE_PARAMETER};
	float whole[COUNT], part[COUNT];
	double mean = 0;
	ps_random_uniform(&place, -0.1, 0.1, 0, COUNT, whole);
	for (uint64_t i = 0; i < COUNT; i++) {
		double unit = (double)ps_random_word(&place, 0, i) / 4294967296.0;
		ck_assert_float_eq(whole[i], (float)(-0.1 + (0.1 - -0.1) * unit));
		mean += (double)whole[i] / COUNT;
	}
	ck_assert_double_lt(mean * mean, 0.03 * 0.03);
	/* Any piece is the same as that piece of the whole. */
	for (size_t first = 0; first < COUNT; first++) {
		ps_random_uniform(&place, -0.1, 0.1, first, COUNT - first, part);
		ck_assert_mem_eq(part, whole + first, (COUNT - first) * sizeof *part);
	}
	ps_random_uniform(&place, -0.1, 0.1, 0, 0, part);
}
END_TEST

/*
 * One thread runs the commands of a timeline, of which the second fails, while others wait: whoever waits for that
 * point or a later one is told of the failure, however the threads interleave.
 */
enum { ROUNDS = 2000, WATCHERS = 2 };

struct race {
	ps_timeline timelines[ROUNDS];
	_Atomic int wrong;
};

static void *watch(void *argument)
{
	struct race *race = argument;
	for (int i = 0; i < ROUNDS; i++) {
		ps_timeline *timeline = &race->timelines[i];
		bool right = ps_event_wait((ps_event){timeline, 3}, -1) == PS_EIO &&
		             !strcmp(ps_error_message(), "torn") &&
		             ps_event_wait((ps_event){timeline, 2}, -1) == PS_EIO &&
		             ps_event_wait((ps_event){timeline, 1}, -1) == PS_OK;
		if (!right)
			atomic_fetch_add(&race->wrong, 1);
	}
	return NULL;
}

START_TEST(test_failure_is_never_missed)
{
	struct race *race = calloc(1, sizeof *race);
	pthread_t threads[WATCHERS];
	ck_assert_ptr_nonnull(race);
	for (int i = 0; i < ROUNDS; i++) {
		check_ok(ps__timeline_init(&race->timelines[i], NULL, "race"));
		race->timelines[i].submitted = 3;
	}
	for (int i = 0; i < WATCHERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, watch, race), 0);
	for (int i = 0; i < ROUNDS; i++) {
		ps_timeline *timeline = &race->timelines[i];
		ps__timeline_complete(timeline, 1);
		ps__timeline_fail(timeline, 2, ps_fail(PS_EIO, "torn"));
		ps__timeline_complete(timeline, 2);
		ps__timeline_complete(timeline, 3);
		/* Late ones are told all the same. */
		ps__timeline_reset(timeline);
	}
	for (int i = 0; i < WATCHERS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	ck_assert_int_eq(atomic_load(&race->wrong), 0);
	for (int i = 0; i < ROUNDS; i++)
		ps__timeline_finish(&race->timelines[i]);
	free(race);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("values");
	TCase *cases = tcase_create("values");
	tcase_set_timeout(cases, 60);
	tcase_add_test(cases, test_status);
	tcase_add_test(cases, test_message);
	tcase_add_test(cases, test_message_is_the_threads_own);
	tcase_add_test(cases, test_tensor_make);
	tcase_add_test(cases, test_tensor_views);
	tcase_add_test(cases, test_tensor_text);
	tcase_add_test(cases, test_tensor_soundness);
	tcase_add_loop_test(cases, test_random_known_answers, 0, 3);
	tcase_add_test(cases, test_random_threshold);
	tcase_add_test(cases, test_random_uniform);
	tcase_add_test(cases, test_failure_is_never_missed);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
