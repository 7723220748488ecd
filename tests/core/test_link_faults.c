/* Links when something is wrong: with the arguments, the path, either device, or what a transfer waits for. */
#include "tests/core/contract.h"
#include "tests/support/hook.h"

#include <penstock/link.h>

/* Four chunks of the smallest size. */
enum { CHUNK = 4096, WORDS = 4 * CHUNK / 4 };

static struct hook source_hook, target_hook;
static ps_device *from, *to;
static ps_buffer *source, *target;
static ps_queue *producer, *consumer;
static ps_link *link_;
static struct gate gate;
static int32_t words[WORDS];

enum kind { VIEW, PEER, STAGED, RELAYED, KINDS };
static const char *const kind_names[] = {"view", "peer", "staged", "staged"};

static void set_up(enum kind kind, struct hook source_settings, struct hook target_settings)
{
	ps_link_options options = {.force_staged = kind >= STAGED, .chunk_bytes = CHUNK, .skip_measure = true};
	memcpy(&source_hook, &source_settings, sizeof source_hook);
	memcpy(&target_hook, &target_settings, sizeof target_hook);
	source_hook.poison = target_hook.poison = true;
	source_hook.pins = source_hook.relays = kind == RELAYED;
	check_ok(hook_device_open(&from, "cpu", &source_hook));
	to = from;
	if (kind != VIEW)
		check_ok(hook_device_open(&to, "ref", &target_hook));
	check_ok(ps_buffer_create(&source, from, sizeof words));
	target = source;
	if (kind != VIEW)
		check_ok(ps_buffer_create(&target, to, sizeof words));
	check_ok(ps_queue_create(&producer, from, "producer"));
	check_ok(ps_queue_create(&consumer, to, "consumer"));
	check_ok(ps_link_create(&link_, from, to, "the link", &options));
	gate_init(&gate);
}

static void tear_down(void)
{
	/* The devices stay as long as the link needs them. */
	ps_device_close(from);
	if (to != from)
		ps_device_close(to);
	ps_buffer_destroy(source);
	if (target != source)
		ps_buffer_destroy(target);
	ps_queue_destroy(producer);
	ps_queue_destroy(consumer);
	ps_link_destroy(link_);
	ck_assert_uint_eq(hook_faults(&source_hook), 0);
	ck_assert_int_eq(atomic_load(&source_hook.queues), 0);
	ck_assert_ptr_null(source_hook.state);
	ck_assert_uint_eq(hook_faults(&target_hook), 0);
	ck_assert_ptr_null(target_hook.state);
	gate_finish(&gate);
}

static ps_event written(int32_t value)
{
	for (int i = 0; i < WORDS; i++)
		words[i] = value + i;
	check_ok(ps_queue_write(producer, ints(source, 0, WORDS), words));
	check_ok(ps_queue_finish(producer));
	return ps_queue_record(producer);
}

static ps_event sent(ps_event after)
{
	ps_event done;
	check_ok(ps_link_send(link_, ints(target, 0, WORDS), ints(source, 0, WORDS), &after, 1, NULL, &done));
	return done;
}

static void arrived(ps_event done, int32_t value)
{
	check_ok(ps_queue_wait(consumer, done));
	check_ok(ps_queue_read(consumer, words, ints(target, 0, WORDS)));
	check_ok(ps_queue_finish(consumer));
	int right = 0;
	while (right < WORDS && words[right] == value + right)
		right++;
	ck_assert_int_eq(right, WORDS);
}

START_TEST(test_order)
{
	set_up((enum kind)_i, (struct hook){0}, (struct hook){0});
	ck_assert_str_eq(ps_link_kind_name(ps_link_get_info(link_)->kind), kind_names[_i]);
	for (int i = 1; i <= 20; i++)
		arrived(sent(written(i * 100000)), i * 100000);
	tear_down();
}
END_TEST

START_TEST(test_waits)
{
	set_up((enum kind)_i, (struct hook){0}, (struct hook){0});
	ps_link_times times = {0};
	ps_event after[3] = {written(7), gate_event(&gate), {0}}, done;
	check_ok(ps_link_send(link_, ints(target, 0, WORDS), ints(source, 0, WORDS), after, 3, &times, &done));
	ps_event second = sent(after[0]);
	check_fails(ps_event_wait(done, SECOND / 50), PS_ESTALL);
	/* Transfers of a link stay in order, even when the later one could go first. */
	ck_assert(!ps_event_done(second));
	ck_assert_int_eq(times.end, 0);
	int64_t opened = ps_clock_ns();
	gate_open(&gate);
	check_ok(ps_event_wait(second, -1));
	arrived(done, 7);
	ck_assert_int_ge(times.begin, opened);
	ck_assert_int_ge(times.end, times.begin);
	/* With nothing to wait for a transfer starts at once. */
	check_ok(ps_link_send(link_, ints(target, 0, WORDS), ints(source, 0, WORDS), NULL, 0, NULL, &done));
	arrived(done, 7);
	tear_down();
}
END_TEST

/* Everything after a failure fails with its message, until the reset. */
static void expect_failure_and_recovery(ps_event failing, ps_status status, const char *message)
{
	check_fails(ps_event_wait(failing, 20 * SECOND), status);
	ck_assert_str_eq(ps_error_message(), message);
	ps_event later = sent(written(3));
	check_fails(ps_event_wait(later, 20 * SECOND), status);
	ck_assert_str_eq(ps_error_message(), message);
	check_ok(ps_queue_wait(consumer, failing));
	check_fails(ps_queue_finish(consumer), status);
	ck_assert_str_eq(ps_error_message(), message);
	ps_queue_reset(consumer);
	ps_link_reset(link_);
	check_fails(ps_event_wait(failing, 0), status);
	for (int i = 10; i < 15; i++)
		arrived(sent(written(i)), i);
}

START_TEST(test_after_fails)
{
	char message[MESSAGE_LENGTH + 1];
	set_up((enum kind)_i, (struct hook){0}, (struct hook){0});
	long_message(message);
	arrived(sent(written(1)), 1);
	ps_event done, after[2] = {written(2), gate_event(&gate)};
	check_ok(ps_link_send(link_, ints(target, 0, WORDS), ints(source, 0, WORDS), after, 2, NULL, &done));
	gate_fail(&gate, PS_ENUMERIC, message);
	expect_failure_and_recovery(done, PS_ENUMERIC, message);
	tear_down();
}
END_TEST

START_TEST(test_after_failed_before)
{
	set_up((enum kind)_i, (struct hook){0}, (struct hook){0});
	(void)written(2);
	gate_fail(&gate, PS_EIO, "early");
	expect_failure_and_recovery(sent(gate_event(&gate)), PS_EIO, "early");
	tear_down();
}
END_TEST

/* Each call that a transfer makes on either side, refused or failing at run time, at the first and at a later chunk. */
START_TEST(test_device_fails)
{
	static const struct {
		enum kind kind;
		bool at_source;
		enum hook_effect effect;
		int call;
		uint64_t nth;
	} rows[] = {
	        {PEER, false, HOOK_FAIL, HOOK_PEER_COPY, 1},     {STAGED, true, HOOK_FAIL, HOOK_READ, 1},
	        {STAGED, true, HOOK_FAIL, HOOK_READ, 3},         {STAGED, true, HOOK_REFUSE, HOOK_READ, 1},
	        {STAGED, true, HOOK_REFUSE, HOOK_READ, 4},       {STAGED, false, HOOK_FAIL, HOOK_WRITE, 1},
	        {STAGED, false, HOOK_FAIL, HOOK_WRITE, 4},       {STAGED, false, HOOK_REFUSE, HOOK_WRITE, 1},
	        {STAGED, false, HOOK_REFUSE, HOOK_WRITE, 2},     {STAGED, true, HOOK_REFUSE, HOOK_WAIT, 1},
	        {STAGED, false, HOOK_REFUSE, HOOK_WAIT, 1},      {STAGED, true, HOOK_REFUSE, HOOK_TIMESTAMP, 1},
	        {STAGED, false, HOOK_REFUSE, HOOK_TIMESTAMP, 1}, {RELAYED, true, HOOK_FAIL, HOOK_READ, 1},
	        {RELAYED, true, HOOK_FAIL, HOOK_READ, 3},        {RELAYED, false, HOOK_FAIL, HOOK_WRITE, 1},
	        {RELAYED, false, HOOK_FAIL, HOOK_WRITE, 4},
	};
	struct hook *hook = rows[_i].at_source ? &source_hook : &target_hook;
	ps_link_times times;
	ps_event done;
	set_up(rows[_i].kind, (struct hook){0}, (struct hook){0});
	arrived(sent(written(1)), 1);
	ps_event after[2] = {written(2), gate_event(&gate)};
	hook_add(hook, .effect = rows[_i].effect, .call = rows[_i].call, .nth = rows[_i].nth, .queue = "the link",
	         .status = PS_EIO, .message = "the cable is out");
	check_ok(ps_link_send(link_, ints(target, 0, WORDS), ints(source, 0, WORDS), after, 2, &times, &done));
	/* A wait for a point that was reached would not be made. */
	while (rows[_i].call == HOOK_WAIT && !atomic_load(&hook->fired))
		;
	gate_open(&gate);
	expect_failure_and_recovery(done, PS_EIO, "the cable is out");
	ck_assert_uint_eq(atomic_load(&hook->fired), 1);
	tear_down();
}
END_TEST

START_TEST(test_send_refused)
{
	static const struct {
		enum kind kind;
		bool at_source;
		int call;
		uint64_t nth;
	} rows[] = {
	        {PEER, false, HOOK_PEER_COPY, 1},   {PEER, false, HOOK_TIMESTAMP, 1},
	        {RELAYED, true, HOOK_TIMESTAMP, 1}, {RELAYED, true, HOOK_READ, 1},
	        {RELAYED, true, HOOK_READ, 4},      {RELAYED, false, HOOK_WRITE, 1},
	        {RELAYED, false, HOOK_WRITE, 2},    {RELAYED, false, HOOK_TIMESTAMP, 1},
	};
	ps_link_times times;
	ps_event done, after = {0};
	set_up(rows[_i].kind, (struct hook){0}, (struct hook){0});
	after = written(4);
	hook_add(rows[_i].at_source ? &source_hook : &target_hook, .call = rows[_i].call, .nth = rows[_i].nth,
	         .queue = "the link", .status = PS_ENOMEM, .message = "no room");
	check_fails(ps_link_send(link_, ints(target, 0, WORDS), ints(source, 0, WORDS), &after, 1, &times, &done),
	            PS_ENOMEM);
	ck_assert_str_eq(ps_error_message(), "no room");
	/* Nothing was sent, so that nothing has failed. */
	arrived(sent(after), 4);
	tear_down();
}
END_TEST

START_TEST(test_corrupting_peer_is_not_used)
{
	static const uint64_t least[] = {1, CHUNK, 3 * CHUNK};
	set_up(PEER, (struct hook){0}, (struct hook){.corrupt_peer_from = least[_i]});
	const ps_link_info *info = ps_link_get_info(link_);
	ck_assert_int_eq(info->kind, PS_LINK_STAGED);
	ck_assert_ptr_nonnull(strstr(info->note, "the peer path failed its test: byte "));
	ck_assert_ptr_nonnull(strstr(info->note, " sent from hook:cpu to hook:ref arrived as 0x"));
	arrived(sent(written(5)), 5);
	tear_down();
}
END_TEST

START_TEST(test_failing_peer_is_not_used)
{
	ps_device *a, *b;
	ps_link *link;
	check_ok(hook_device_open(&a, "cpu", &source_hook));
	check_ok(hook_device_open(&b, "ref", &target_hook));
	hook_add(&target_hook, .effect = _i ? HOOK_FAIL : HOOK_REFUSE, .call = HOOK_PEER_COPY, .nth = 2,
	         .message = "bus error");
	check_ok(ps_link_create(&link, a, b, "l", NULL));
	ck_assert_int_eq(ps_link_get_info(link)->kind, PS_LINK_STAGED);
	ck_assert_str_eq(ps_link_get_info(link)->note, "the peer path failed its test: bus error");
	ps_link_destroy(link);
	ps_device_close(a);
	ps_device_close(b);
}
END_TEST

#ifdef __SANITIZE_ADDRESS__
enum { FINDS_LEAKS = true };
#else
enum { FINDS_LEAKS = false };
#endif

/* A path on which nothing arrives is told of; what hangs keeps what it may use, and a staged link does. */
START_TEST(test_hanging_peer)
{
	ps_device *a, *b;
	ps_link *link;
	check_ok(hook_device_open(&a, "cpu", &source_hook));
	check_ok(hook_device_open(&b, "ref", &target_hook));
	hook_add(&target_hook, .effect = HOOK_HANG, .call = HOOK_PEER_COPY);
	check_fails(ps_link_create(&link, a, b, "l", NULL), PS_ESTALL);
	check_message(
	        "link from hook:cpu to hook:ref: 4 bytes that were sent by the peer path have not arrived after 30 s");
	ck_assert_ptr_null(link);
	ck_assert_int_gt(atomic_load(&target_hook.buffers), 0);
	check_ok(ps_link_create(&link, a, b, "l", &(ps_link_options){.force_staged = true}));
	ps_link_destroy(link);
	hook_release(&target_hook);
	ps_device_close(a);
	ps_device_close(b);
}
END_TEST

START_TEST(test_no_peer_path)
{
	set_up(PEER, (struct hook){.opaque = _i == 0}, (struct hook){.deny_peer = _i == 1});
	ck_assert_int_eq(ps_link_get_info(link_)->kind, PS_LINK_STAGED);
	ck_assert_str_eq(ps_link_get_info(link_)->note, "neither device reaches the other's memory directly");
	check_fails(ps_queue_copy(consumer, ints(target, 0, 1), ints(source, 0, 1)), PS_ENOTSUP);
	check_message("hook:ref cannot copy directly from hook:cpu; use a link");
	arrived(sent(written(6)), 6);
	tear_down();
}
END_TEST

/* Where the destination cannot copy from the source, the source may copy to it; its queue is the source's then. */
START_TEST(test_source_copies)
{
	set_up(PEER, (struct hook){.opaque = true, .copies_to = true}, (struct hook){0});
	ck_assert_int_eq(ps_link_get_info(link_)->kind, PS_LINK_PEER);
	uint64_t before = hook_calls(&source_hook, HOOK_PEER_COPY);
	arrived(sent(written(8)), 8);
	ck_assert_uint_eq(hook_calls(&source_hook, HOOK_PEER_COPY), before + 1);
	check_fails(ps_queue_copy(consumer, ints(source, 0, 1), ints(target, 0, 1)), PS_ENOTSUP);
	check_message("hook:ref cannot copy directly to hook:cpu; use a link");
	check_fails(ps_queue_copy(producer, ints(target, 0, 1), ints(target, 1, 1)), PS_EINVAL);
	check_message("the tensor is on hook:ref, which should be hook:cpu");
	hook_add(&source_hook, .effect = HOOK_FAIL, .call = HOOK_PEER_COPY, .status = PS_EIO, .message = "no way out");
	expect_failure_and_recovery(sent(written(9)), PS_EIO, "no way out");
	tear_down();
}
END_TEST

/* The first side that pins memory does so for the chunks; where neither can, plain memory serves. */
START_TEST(test_pinned_chunks)
{
	bool first = _i & 1, second = _i & 2, full = _i & 4;
	source_hook = (struct hook){.pins = first};
	target_hook = (struct hook){.pins = second};
	ps_device *a, *b;
	ps_link *link;
	check_ok(hook_device_open(&a, "cpu", &source_hook));
	check_ok(hook_device_open(&b, "ref", &target_hook));
	if (full)
		hook_add(&source_hook, .call = HOOK_PINNED_CREATE, .status = PS_ENOMEM);
	check_ok(ps_link_create(&link, a, b, "l", &(ps_link_options){.force_staged = true, .chunk_bytes = CHUNK}));
	first = first && !full;
	ck_assert_int_eq(atomic_load(&source_hook.pinned), first);
	ck_assert_int_eq(atomic_load(&target_hook.pinned), second && !first);
	ps_link_destroy(link);
	ck_assert_int_eq(atomic_load(&source_hook.pinned) + atomic_load(&target_hook.pinned), 0);
	hook_clear(&source_hook);
	hook_add(&source_hook, .call = HOOK_PINNED_CREATE, .status = PS_EDEVICE, .message = "gone");
	check_fails(ps_link_create(&link, a, b, "l", &(ps_link_options){.force_staged = true}), PS_EDEVICE);
	check_message("link from hook:cpu to hook:ref: gone");
	ps_device_close(a);
	ps_device_close(b);
}
END_TEST

START_TEST(test_creation_fails)
{
	ps_device *a, *b;
	ps_link *link;
	check_ok(hook_device_open(&a, "cpu", &source_hook));
	check_ok(hook_device_open(&b, "ref", &target_hook));
	hook_add(&target_hook, .effect = HOOK_FAIL, .call = HOOK_WRITE, .nth = 2, .message = "worn out");
	check_fails(ps_link_create(&link, a, b, "l", &(ps_link_options){.force_staged = true}), PS_EDEVICE);
	ck_assert_str_eq(ps_error_message(), "link from hook:cpu to hook:ref: worn out");
	ck_assert_ptr_null(link);
	ps_device_close(a);
	ps_device_close(b);
	ck_assert_ptr_null(source_hook.state);
	ck_assert_ptr_null(target_hook.state);
}
END_TEST

START_TEST(test_wrong_arguments)
{
	ps_event done;
	set_up((enum kind)_i, (struct hook){0}, (struct hook){0});
	ps_tensor x = ints(source, 0, 8), y = ints(target, 0, 8), bad = y;
	check_fails(ps_link_send(link_, ints(target, 0, 7), x, NULL, 0, NULL, &done), PS_EINVAL);
	check_message("send on the link: int32 (7) does not match int32 (8)");
	bad.dtype = PS_F32;
	check_fails(ps_link_send(link_, bad, x, NULL, 0, NULL, &done), PS_EINVAL);
	bad = y;
	bad.strides[0] = 2;
	check_fails(ps_link_send(link_, bad, x, NULL, 0, NULL, &done), PS_EINVAL);
	check_fails(ps_link_send(link_, ints(target, WORDS, 8), x, NULL, 0, NULL, &done), PS_EINVAL);
	check_fails(ps_link_send(link_, (ps_tensor){0}, x, NULL, 0, NULL, &done), PS_EINVAL);
	check_fails(ps_link_send(link_, y, (ps_tensor){0}, NULL, 0, NULL, &done), PS_EINVAL);
	if (_i == VIEW) {
		check_fails(ps_link_send(link_, ints(target, 1, 8), x, NULL, 0, NULL, &done), PS_EINVAL);
		check_message("`to` should be the same tensor as `from`");
	} else {
		check_fails(ps_link_send(link_, x, y, NULL, 0, NULL, &done), PS_EINVAL);
		check_message("the tensor is on hook:cpu, which should be hook:ref");
	}
	arrived(sent(written(1)), 1);
	tear_down();
}
END_TEST

/* A view passes the producer's own event on as long as it can, and joins through a queue when it has to. */
START_TEST(test_view_events)
{
	set_up(VIEW, (struct hook){0}, (struct hook){0});
	ps_event first = written(1), second = written(2);
	ck_assert_ptr_eq(sent(first).timeline, first.timeline);
	ck_assert_ptr_eq(sent(second).timeline, second.timeline);
	check_ok(ps_queue_zero(consumer, ints(source, 0, 0)));
	ps_event other = sent(ps_queue_record(consumer));
	ck_assert_ptr_ne(other.timeline, first.timeline);
	check_ok(ps_event_wait(other, -1));
	tear_down();
}
END_TEST

/* While one chunk is written the next is read. */
START_TEST(test_chunks_overlap)
{
	const int64_t delay = SECOND / 50;
	set_up(STAGED, (struct hook){0}, (struct hook){0});
	hook_add(&source_hook, .effect = HOOK_DELAY, .call = HOOK_READ, .queue = "the link", .every = true,
	         .delay_ns = delay);
	hook_add(&target_hook, .effect = HOOK_DELAY, .call = HOOK_WRITE, .queue = "the link", .every = true,
	         .delay_ns = delay);
	/* One after the other, four chunks take eight delays; overlapped, five. A busy machine may need a few tries. */
	int64_t least = INT64_MAX;
	for (int i = 0; i < 10 && least >= 7 * delay; i++) {
		ps_event after = written(i);
		int64_t begin = ps_clock_ns();
		arrived(sent(after), i);
		int64_t took = ps_clock_ns() - begin;
		least = took < least ? took : least;
	}
	ck_assert_int_ge(least, 5 * delay);
	ck_assert_int_lt(least, 7 * delay);
	tear_down();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("link faults");
	TCase *cases = tcase_create("link faults");
	tcase_set_timeout(cases, 60);
	tcase_add_loop_test(cases, test_order, 0, KINDS);
	tcase_add_loop_test(cases, test_waits, 0, KINDS);
	tcase_add_loop_test(cases, test_after_fails, 0, KINDS);
	tcase_add_loop_test(cases, test_after_failed_before, 0, KINDS);
	tcase_add_loop_test(cases, test_device_fails, 0, 17);
	tcase_add_loop_test(cases, test_send_refused, 0, 8);
	tcase_add_loop_test(cases, test_corrupting_peer_is_not_used, 0, 3);
	tcase_add_loop_test(cases, test_failing_peer_is_not_used, 0, 2);
	tcase_add_loop_test(cases, test_hanging_peer, 0, FINDS_LEAKS ? 0 : 1);
	tcase_add_loop_test(cases, test_no_peer_path, 0, 2);
	tcase_add_test(cases, test_source_copies);
	tcase_add_loop_test(cases, test_pinned_chunks, 0, 8);
	tcase_add_test(cases, test_creation_fails);
	tcase_add_loop_test(cases, test_wrong_arguments, 0, KINDS);
	tcase_add_test(cases, test_view_events);
	tcase_add_test(cases, test_chunks_overlap);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
