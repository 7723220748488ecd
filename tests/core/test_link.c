/* Links between devices: every kind moves what it is given, fails as a whole and recovers. */
#include "tests/core/contract.h"

#include <penstock/link.h>

struct ends {
	ps_device *from, *to;
	ps_buffer *source, *target;
	ps_queue *producer, *consumer;
	ps_link *link;
	uint64_t bytes;
	unsigned char *data;
	bool one_clock; /* both devices' times are the host's */
};

static ps_device *opened(const char *name)
{
	ps_device *device;
	check_ok(ps_device_open(&device, name));
	return device;
}

/* Takes over both devices, which may be one. */
static void set_up(struct ends *e, ps_device *from, ps_device *to, const ps_link_options *options, uint64_t bytes)
{
	*e = (struct ends){.from = from, .to = to, .bytes = bytes};
	check_ok(ps_buffer_create(&e->source, e->from, bytes));
	check_ok(ps_buffer_create(&e->target, e->to, bytes));
	check_ok(ps_queue_create(&e->producer, e->from, "producer"));
	check_ok(ps_queue_create(&e->consumer, e->to, "consumer"));
	check_ok(ps_link_create(&e->link, e->from, e->to, "link", options));
	e->data = malloc(bytes);
	ck_assert_ptr_nonnull(e->data);
}

static void tear_down(struct ends *e)
{
	ps_link_destroy(e->link);
	ps_queue_destroy(e->producer);
	ps_queue_destroy(e->consumer);
	ps_buffer_destroy(e->source);
	ps_buffer_destroy(e->target);
	ps_device_close(e->from);
	if (e->to != e->from)
		ps_device_close(e->to);
	free(e->data);
}

static ps_tensor words(ps_buffer *buffer, uint64_t bytes)
{
	return ps_tensor_make(buffer, 0, PS_I32, 1, (int64_t[]){(int64_t)(bytes / 4)});
}

/* Writes a byte over the source, sends it and looks at the target. */
static void send_once(struct ends *e, int byte, uint64_t bytes)
{
	ps_link_times times = {0};
	ps_event done;
	memset(e->data, byte, e->bytes);
	check_ok(ps_queue_write(e->producer, words(e->source, e->bytes), e->data));
	ps_event written = ps_queue_record(e->producer);
	check_ok(ps_link_send(e->link, words(e->target, bytes), words(e->source, bytes), &written, 1, &times, &done));
	check_ok(ps_event_wait(done, -1));
	ck_assert_int_gt(times.begin, 0);
	ck_assert_int_gt(times.end, 0);
	ck_assert(!e->one_clock || times.end >= times.begin);
	memset(e->data, 0, e->bytes);
	check_ok(ps_queue_read(e->consumer, e->data, words(e->target, bytes)));
	check_ok(ps_queue_finish(e->consumer));
	uint64_t right = 0;
	while (right < bytes && e->data[right] == byte)
		right++;
	ck_assert_uint_eq(right, bytes);
}

START_TEST(test_kinds)
{
	static const struct {
		const char *from, *to;
		ps_link_options options;
		ps_link_kind kind;
	} rows[] = {
	        {"cpu", "ref", {0}, PS_LINK_PEER},
	        {"ref", "cpu", {.skip_measure = true}, PS_LINK_PEER},
	        {"cpu", "ref", {.force_staged = true}, PS_LINK_STAGED},
	        {"ref", "cpu", {.force_staged = true, .chunk_bytes = 1}, PS_LINK_STAGED},
	        {"cpu", "cpu", {.force_staged = true}, PS_LINK_STAGED},
	};
	const ps_link_options *options = &rows[_i].options;
	struct ends e;
	ps_device *from = opened(rows[_i].from);
	ps_device *to = strcmp(rows[_i].from, rows[_i].to) != 0 ? opened(rows[_i].to) : from;
	set_up(&e, from, to, options, (3 << 20) + 20);
	e.one_clock = true;
	const ps_link_info *info = ps_link_get_info(e.link);
	ck_assert_int_eq(info->kind, rows[_i].kind);
	ck_assert_str_eq(info->note, rows[_i].kind == PS_LINK_STAGED ? "that was asked for" : "");
	if (options->skip_measure) {
		ck_assert_double_eq(info->latency_s, 0);
		ck_assert_double_eq(info->bandwidth_bytes_s, 0);
	} else {
		ck_assert_double_gt(info->latency_s, 0);
		ck_assert_double_lt(info->latency_s, 1);
		ck_assert_double_gt(info->bandwidth_bytes_s, 0);
	}
	for (int i = 1; i <= 3; i++)
		send_once(&e, i, e.bytes);
	send_once(&e, 9, 4);
	send_once(&e, 10, 0);
	tear_down(&e);
}
END_TEST

/* From and to every device that is here, over host memory and by whatever path the link chooses; and to itself. */
START_TEST(test_every_device)
{
	for (int i = 0; i < 5; i++) {
		struct ends e;
		ps_device *here = contract_open(_i), *there = i < 4 ? opened("cpu") : here;
		ps_link_options options = {.force_staged = i / 2, .chunk_bytes = 8192};
		set_up(&e, i % 2 ? here : there, i % 2 ? there : here, &options, 4 * 8192 + 12);
		const ps_link_info *info = ps_link_get_info(e.link);
		ck_assert_ptr_null(strstr(info->note, "failed its test"));
		ck_assert_int_eq(info->kind == PS_LINK_STAGED, *info->note != 0);
		for (int byte = 1; byte <= 3; byte++)
			send_once(&e, byte, e.bytes);
		send_once(&e, 4, 8192);
		tear_down(&e);
	}
}
END_TEST

int main(void)
{
	int devices = contract_devices();
	Suite *suite = suite_create("link");
	TCase *cases = tcase_create("link");
	tcase_add_loop_test(cases, test_kinds, 0, 5);
	tcase_set_timeout(cases, 60);
	tcase_add_loop_test(cases, test_every_device, 0, devices);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
