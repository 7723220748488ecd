/*
 * Out of memory at the n-th allocation, for every n until there is enough: each way to create something fails with
 * PS_ENOMEM, creates nothing, leaks nothing, and works the next time. The program is linked from the library's own
 * objects, whose allocations (and threads, which are memory too) come here first.
 */
#include "core/backend.h"
#include "tests/support/check.h"

#include <penstock/link.h>

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* How many allocations are still granted; negative: all. */
static _Atomic long granted = -1;
static _Atomic bool refused;
static _Atomic long asked; /* all allocations so far */

static bool grant(void)
{
	atomic_fetch_add(&asked, 1);
	/* Zero goes to minus one, so that one allocation is refused and those after it are not. */
	long left = atomic_load(&granted);
	while (left >= 0 && !atomic_compare_exchange_weak(&granted, &left, left - 1))
		;
	if (left == 0)
		atomic_store(&refused, true);
	return left != 0;
}

/* Check allocates as well, so that it is only called when something is wrong, or when nothing is refused. */
#define require(condition)                              \
	do {                                            \
		if (!(condition)) {                     \
			granted = -1;                   \
			ck_abort_msg("%s", #condition); \
		}                                       \
	} while (0)

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
int __real_posix_memalign(void **out, size_t alignment, size_t bytes);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
int __wrap_posix_memalign(void **out, size_t alignment, size_t bytes);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);

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
	return grant() ? __real_posix_memalign(out, alignment, bytes) : 12 /* ENOMEM */;
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)
{
	return grant() ? __real_pthread_create(thread, attributes, start, argument) : 11 /* EAGAIN */;
}

/* The devices that a scenario finds open. */
static ps_device *device, *far;

static ps_status open_device(const char *name)
{
	ps_device *opened = (ps_device *)&opened;
	ps_status status = ps_device_open(&opened, name);
	require((status == PS_OK) == (opened != NULL));
	ps_device_close(opened);
	return status;
}

static ps_status open_cpu(void)
{
	return open_device("cpu");
}

static ps_status open_ref(void)
{
	return open_device("ref");
}

static ps_status open_own_table(void)
{
	const ps_backend *backend;
	ps_device *opened;
	PS_TRY(ps__backend_find(&backend, "ref", 3));
	ps_status status = ps__device_open_on(&opened, backend, "");
	require((status == PS_OK) == (opened != NULL));
	ps_device_close(opened);
	return status;
}

static ps_status list_devices(void)
{
	ps_device_entry *entries;
	size_t count;
	ps_status status = ps_device_list(&entries, &count);
	require((status == PS_OK) == (entries != NULL));
	ps_device_list_free(entries);
	return status;
}

static ps_status create_buffer(void)
{
	ps_buffer *buffer;
	ps_status status = ps_buffer_create(&buffer, device, 4 << 20);
	require((status == PS_OK) == (buffer != NULL));
	ps_buffer_destroy(buffer);
	return status;
}

static ps_status create_queue(void)
{
	ps_queue *queue;
	ps_status status = ps_queue_create(&queue, device, "q");
	require((status == PS_OK) == (queue != NULL));
	ps_queue_destroy(queue);
	return status;
}

/* A queue that cannot take one more command keeps those it has, and goes on. */
static ps_status fill_queue(void)
{
	enum { COMMANDS = 4000 };
	static int64_t stamps[COMMANDS];
	ps_timeline gate;
	ps_queue *queue;
	PS_TRY(ps__timeline_init(&gate, NULL, "gate"));
	ps_status status = ps_queue_create(&queue, device, "q");
	if (status == PS_OK)
		status = ps_queue_wait(queue, (ps_event){&gate, ps__timeline_next(&gate)});
	memset(stamps, 0, sizeof stamps);
	int taken = 0;
	while (status == PS_OK && taken < COMMANDS) {
		status = ps_queue_timestamp(queue, &stamps[taken]);
		taken += status == PS_OK;
	}
	ps__timeline_complete(&gate, 1);
	if (queue)
		require(ps_queue_finish(queue) == PS_OK);
	for (int i = 0; i < taken; i++)
		require(stamps[i] != 0);
	ps_queue_destroy(queue);
	ps__timeline_finish(&gate);
	return status;
}

static ps_status create_link(ps_device *from, ps_device *to, bool staged)
{
	ps_link *link;
	ps_link_options options = {.force_staged = staged, .chunk_bytes = 4096, .skip_measure = true};
	ps_status status = ps_link_create(&link, from, to, "l", &options);
	require((status == PS_OK) == (link != NULL));
	ps_link_destroy(link);
	return status;
}

static ps_status create_view(void)
{
	return create_link(device, device, false);
}

static ps_status create_peer(void)
{
	return create_link(device, far, false);
}

static ps_status create_staged(void)
{
	return create_link(device, far, true);
}

/* A link that has to grow fails the send, or the transfer, and no more. */
static ps_status fill_link(void)
{
	enum { SENDS = 200 };
	ps_timeline gate;
	ps_link *link = NULL;
	ps_buffer *from = NULL, *to = NULL;
	ps_event done[SENDS];
	int sent = 0;
	PS_TRY(ps__timeline_init(&gate, NULL, "gate"));
	ps_event opened = {&gate, ps__timeline_next(&gate)};
	ps_status status =
	        ps_link_create(&link, device, far, "l", &(ps_link_options){.force_staged = true, .skip_measure = true});
	if (status == PS_OK)
		status = ps_buffer_create(&from, device, 64);
	if (status == PS_OK)
		status = ps_buffer_create(&to, far, 64);
	ps_tensor source = ps_tensor_make(from, 0, PS_F32, 1, (int64_t[]){16}), target = source;
	target.buffer = to;
	while (status == PS_OK && sent < SENDS) {
		status = ps_link_send(link, target, source, &opened, 1, NULL, &done[sent]);
		sent += status == PS_OK;
	}
	ps__timeline_complete(&gate, 1);
	for (int i = 0; i < sent && status == PS_OK; i++)
		status = ps_event_wait(done[i], -1);
	ps_link_destroy(link);
	ps_buffer_destroy(from);
	ps_buffer_destroy(to);
	ps__timeline_finish(&gate);
	return status;
}

static ps_status record_list(void)
{
	ps_queue *queue = NULL;
	ps_buffer *buffer = NULL;
	ps_list *list = NULL;
	size_t recorded = 0;
	ps_status status = ps_queue_create(&queue, far, "q");
	if (status == PS_OK)
		status = ps_buffer_create(&buffer, far, 64);
	if (status == PS_OK)
		status = ps_list_create(&list, queue);
	ps_tensor x = ps_tensor_make(buffer, 0, PS_F32, 1, (int64_t[]){16});
	while (status == PS_OK && recorded < 100) {
		status = ps_record(list, add, .a = x, .b = x, .y = x);
		recorded += status == PS_OK;
		require(ps_list_count(list) == recorded);
	}
	if (status == PS_OK)
		status = ps_list_submit(list, 0);
	ps_list_destroy(list);
	ps_queue_destroy(queue);
	ps_buffer_destroy(buffer);
	return status;
}

static const struct scenario {
	ps_status (*run)(void);
	const char *name;
	int least; /* allocations that it makes at least, so that the test is known to have teeth */
} scenarios[] = {
        {open_cpu, "open cpu", 5},       {open_ref, "open ref", 4},      {open_own_table, "open on a table", 2},
        {list_devices, "list", 1},       {create_buffer, "buffer", 2},   {create_queue, "queue", 3},
        {fill_queue, "fill a queue", 6}, {create_view, "view link", 4},  {create_peer, "peer link", 12},
        {create_staged, "staged", 20},   {fill_link, "fill a link", 25}, {record_list, "record a list", 8},
};

/* How many allocations a scenario needs to succeed; all smaller numbers fail as they should. */
static long count_allocations(const struct scenario *scenario)
{
	for (long n = 0; n < 1000; n++) {
		atomic_store(&refused, false);
		atomic_store(&granted, n);
		(void)ps_fail(PS_OK, "no message");
		ps_status status = scenario->run();
		atomic_store(&granted, -1);
		if (status == PS_OK)
			return n;
		ck_assert_msg(atomic_load(&refused), "%s, allocation %ld: %s", scenario->name, n, ps_error_message());
		ck_assert_msg(status == PS_ENOMEM, "%s, allocation %ld: %s: %s", scenario->name, n,
		              ps_status_name(status), ps_error_message());
		ck_assert_str_ne(ps_error_message(), "no message");
	}
	ck_abort_msg("%s never succeeds", scenario->name);
	return 0;
}

START_TEST(test_every_allocation)
{
	const struct scenario *scenario = &scenarios[_i];
	/* The first ones find an empty registry, which allocates too, but only once: hence twice. */
	if (_i > 2) {
		check_ok(ps_device_open(&device, "cpu"));
		check_ok(ps_device_open(&far, "ref"));
	}
	for (int round = 0; round < 2; round++) {
		long n = count_allocations(scenario);
		ck_assert_msg(n >= scenario->least, "%s made %ld allocations", scenario->name, n);
	}
	check_ok(scenario->run());
	ps_device_close(device);
	ps_device_close(far);
}
END_TEST

/* Once links and queues have held as much as they will have to, nothing allocates any more. */
START_TEST(test_nothing_allocates_when_warm)
{
	ps_link_options options = {.force_staged = _i == 1, .skip_measure = true};
	ps_link *link;
	ps_buffer *source, *target;
	ps_queue *queue;
	ps_list *list;
	ps_link_times times;
	ps_event done;
	long before = 0;
	check_ok(ps_device_open(&device, "cpu"));
	check_ok(ps_device_open(&far, "ref"));
	check_ok(ps_buffer_create(&source, device, 64));
	check_ok(ps_buffer_create(&target, far, 64));
	check_ok(ps_queue_create(&queue, device, "q"));
	check_ok(ps_link_create(&link, device, far, "l", &options));
	ps_tensor x = ps_tensor_make(source, 0, PS_F32, 1, (int64_t[]){16}), y = x;
	y.buffer = target;
	check_ok(ps_list_create(&list, queue));
	check_ok(ps_record(list, add, .a = x, .b = x, .y = x));
	for (int i = 0; i < 60; i++) {
		ps_status status = ps_list_submit(list, 0);
		ps_event after = ps_queue_record(queue);
		if (status == PS_OK)
			status = ps_link_send(link, y, x, &after, 1, &times, &done);
		if (status == PS_OK)
			status = ps_event_wait(done, -1);
		require(status == PS_OK);
		if (i == 9)
			before = atomic_load(&asked);
	}
	long during = atomic_load(&asked) - before;
	ck_assert_int_eq(during, 0);
	ps_list_destroy(list);
	ps_link_destroy(link);
	ps_queue_destroy(queue);
	ps_buffer_destroy(source);
	ps_buffer_destroy(target);
	ps_device_close(device);
	ps_device_close(far);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("memory");
	TCase *cases = tcase_create("memory");
	tcase_set_timeout(cases, 120);
	tcase_add_loop_test(cases, test_every_allocation, 0, (int)(sizeof scenarios / sizeof *scenarios));
	tcase_add_loop_test(cases, test_nothing_allocates_when_warm, 0, 2);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
