/*
 * Links between every two of the host's devices and all OpenCL devices there are, in both directions: each moves what
 * it is given, by the path that the memory of its ends allows. Run with several sets of platforms and devices.
 */
#include "support/check.h"

#include <penstock/link.h>

#include <stdio.h>
#include <string.h>

enum { MOST = 8, BYTES = 3 * 8192 + 12 };

static char names[MOST][64];
static int name_count;

static void add(const char *name)
{
	ck_assert_int_lt(name_count, MOST);
	snprintf(names[name_count++], sizeof names[0], "%s", name);
}

/* Returns how many OpenCL devices there are. */
static int list_devices(void)
{
	ps_device_entry *entries;
	size_t count;
	int found = 0;
	add("cpu");
	add("ref");
	check_ok(ps_device_list(&entries, &count));
	for (size_t i = 0; i < count; i++)
		if (entries[i].status == PS_OK && !strcmp(entries[i].info.backend, "opencl")) {
			add(entries[i].info.name);
			found++;
		}
	ps_device_list_free(entries);
	return found;
}

static ps_tensor words(ps_buffer *buffer, int64_t count)
{
	return ps_tensor_make(buffer, 4, PS_I32, 1, &count);
}

/* One transfer, with its times, from a queue of one side to a queue of the other. */
static void send(ps_link *link, ps_device *from, ps_device *to, int64_t count)
{
	static int32_t sent[BYTES / 4], seen[BYTES / 4];
	ps_queue *producer, *consumer;
	ps_buffer *source, *target;
	ps_link_times times = {0};
	ps_event done;
	check_ok(ps_queue_create(&producer, from, "producer"));
	check_ok(ps_queue_create(&consumer, to, "consumer"));
	check_ok(ps_buffer_create(&source, from, BYTES + 4));
	check_ok(ps_buffer_create(&target, to, BYTES + 4));
	for (int round = 1; round <= 3; round++) {
		for (int64_t i = 0; i < count; i++)
			sent[i] = (int32_t)i * round;
		memset(seen, 0, sizeof seen);
		check_ok(ps_queue_write(producer, words(source, count), sent));
		ps_event written = ps_queue_record(producer);
		check_ok(ps_link_send(link, words(target, count), words(source, count), &written, 1, &times, &done));
		check_ok(ps_queue_wait(consumer, done));
		check_ok(ps_queue_read(consumer, seen, words(target, count)));
		check_ok(ps_queue_finish(consumer));
		ck_assert(!memcmp(sent, seen, (size_t)count * 4));
		check_ok(ps_queue_finish(producer));
		ck_assert_int_le(times.begin, times.end);
	}
	ps_queue_destroy(producer);
	ps_queue_destroy(consumer);
	ps_buffer_destroy(source);
	ps_buffer_destroy(target);
}

static bool on_host(const ps_device *device)
{
	return ps_device_get_info(device)->host_addressable;
}

/* PoCL has the host's memory, unless it is told that it has not; Oclgrind says that it has its own. */
static bool shares_memory(const ps_device *device)
{
	bool simulated = strstr(ps_device_get_info(device)->description, "Oclgrind") != NULL;
	return on_host(device) || !(simulated || getenv("PENSTOCK_OPENCL_UNIFIED"));
}

static void check_pair(const char *from_name, const char *to_name, bool force_staged)
{
	ps_device *from, *to;
	ps_link *link;
	const ps_link_options options = {.force_staged = force_staged, .chunk_bytes = 8192, .skip_measure = true};
	check_ok(ps_device_open(&from, from_name));
	check_ok(ps_device_open(&to, to_name));
	check_ok(ps_link_create(&link, from, to, from_name, &options));
	const ps_link_info *info = ps_link_get_info(link);
	bool same = !strcmp(from_name, to_name);
	bool reach = (on_host(from) && shares_memory(to)) || (on_host(to) && shares_memory(from));
	ps_link_kind kind = !force_staged && (same || reach) ? PS_LINK_PEER : PS_LINK_STAGED;
	ck_assert_msg(info->kind == kind, "from %s to %s the link is %s instead of %s", from_name, to_name,
	              ps_link_kind_name(info->kind), ps_link_kind_name(kind));
	ck_assert_ptr_null(strstr(info->note, "failed its test"));
	send(link, from, to, BYTES / 4);
	send(link, from, to, 1);
	ps_link_destroy(link);
	ps_device_close(from);
	ps_device_close(to);
}

static int found;

/* A device that is opened twice is two for the link, of one memory. */
START_TEST(every_pair)
{
	const char *wanted = getenv("PS_TEST_OPENCL_COUNT");
	found = list_devices();
	ck_assert(!wanted || found == 0 || found >= atoi(wanted));
	for (int i = 0; i < name_count; i++)
		for (int j = 0; j < name_count; j++) {
			check_pair(names[i], names[j], false);
			check_pair(names[i], names[j], true);
		}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("opencl links");
	TCase *cases = tcase_create("links");
	tcase_add_test(cases, every_pair);
	suite_add_tcase(suite, cases);
	SRunner *runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	if (!failed && !found)
		puts("skip: there is no OpenCL device");
	return failed ? EXIT_FAILURE : found ? EXIT_SUCCESS : 77;
}
