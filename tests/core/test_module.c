/* Loadable backends: found on the path, checked, listed with the reason when they do not load. */
#include "tests/support/check.h"

#include <penstock/device.h>
#include <penstock/ops.h>

#include <pthread.h>
#include <string.h>

#define GOOD PS_TEST_MODULES "/good"
#define AGAIN PS_TEST_MODULES "/again"
#define FAULTY PS_TEST_MODULES "/faulty"

static void set_path(const char *path)
{
	ck_assert_int_eq(setenv("PENSTOCK_BACKEND_PATH", path, 1), 0);
}

static void run_toy(void)
{
	float values[3] = {1, 2, 3};
	ps_device *device;
	ps_queue *queue;
	ps_buffer *buffer;
	check_ok(ps_device_open(&device, "toy"));
	ck_assert_str_eq(ps_device_get_info(device)->backend, "toy");
	check_ok(ps_queue_create(&queue, device, "q"));
	check_ok(ps_buffer_create(&buffer, device, sizeof values));
	ps_tensor x = ps_tensor_make(buffer, 0, PS_F32, 1, (int64_t[]){3});
	check_ok(ps_queue_write(queue, x, values));
	check_ok(ps_run(queue, add, .a = x, .b = x, .y = x));
	check_ok(ps_queue_read(queue, values, x));
	check_ok(ps_queue_finish(queue));
	ck_assert_float_eq(values[2], 6);
	check_fails(ps_run(queue, relu_fwd, .x = x, .y = x), PS_ENOTSUP);
	check_message("toy has no relu_fwd");
	x.dtype = PS_F64;
	x.dims[0] = 1;
	check_fails(ps_run(queue, add, .a = x, .b = x, .y = x), PS_ENOTSUP);
	check_message("toy cannot run add on fp64 (1): toy adds fp32 only");
	ps_buffer_destroy(buffer);
	ps_queue_destroy(queue);
	ps_device_close(device);
}

START_TEST(test_runs)
{
	ps_device *device;
	set_path("/nowhere::" GOOD ":");
	run_toy();
	run_toy();
	check_fails(ps_device_open(&device, "toy:1"), PS_ENODEV);
	check_message("there is one toy");
}
END_TEST

START_TEST(test_no_path)
{
	ps_device *device;
	ck_assert_int_eq(unsetenv("PENSTOCK_BACKEND_PATH"), 0);
	check_fails(ps_device_open(&device, "toy"), PS_ENODEV);
	check_message("no device or backend \"toy\"; here are ");
	check_message("cpu");
	check_message("ref");
	/* What was not there is looked for again. */
	set_path(GOOD);
	run_toy();
}
END_TEST

static const ps_device_entry *entry_of(const ps_device_entry *entries, size_t count, const char *backend)
{
	const ps_device_entry *found = NULL;
	for (size_t i = 0; i < count; i++) {
		if (!strcmp(entries[i].info.backend, backend)) {
			ck_assert_msg(!found || !strcmp(backend, "cpu"), "%s is listed twice", backend);
			found = found ? found : &entries[i];
		}
	}
	return found;
}

START_TEST(test_reasons)
{
	static const struct {
		const char *name, *reason;
	} rows[] = {
	        {"abi", "it was built for backend ABI 5, and this is ABI 4; build it again"},
	        {"size", "its table has "},
	        {"entry", "its table lacks the mandatory entry queue_zero"},
	        {"ops", "its table lacks the mandatory entry ops"},
	        {"symbol", "it has no function ps_backend_entry"},
	        {"table", "ps_backend_entry returned no table"},
	        {"name", "its table is named other, which should be name as in the file's name"},
	        {"broken", "penstock-broken.so: "},
	};
	ps_device_entry *entries;
	size_t count;
	set_path(FAULTY ":" GOOD ":" AGAIN);
	check_ok(ps_device_list(&entries, &count));
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const ps_device_entry *entry = entry_of(entries, count, rows[i].name);
		ck_assert_msg(entry != NULL, "%s is not listed", rows[i].name);
		ck_assert_int_eq(entry->status, PS_ENODEV);
		ck_assert_msg(strstr(entry->reason, rows[i].reason) != NULL, "%s", entry->reason);
		ck_assert_ptr_nonnull(strstr(entry->reason, "/penstock-"));
		ps_device *device;
		check_fails(ps_device_open(&device, rows[i].name), PS_ENODEV);
		check_message("did not load: ");
		check_message(rows[i].reason);
	}
	ck_assert_int_eq(entry_of(entries, count, "toy")->status, PS_OK);
	ck_assert_str_eq(entry_of(entries, count, "toy")->info.name, "toy");
	/* A built-in backend is not replaced, and a file that could not be named in a device name is none. */
	ck_assert_str_eq(entry_of(entries, count, "cpu")->info.name, "cpu");
	ck_assert_ptr_null(entry_of(entries, count, "with.dots"));
	ps_device_list_free(entries);
}
END_TEST

START_TEST(test_unknown)
{
	ps_device *device;
	set_path(FAULTY ":" GOOD);
	check_fails(ps_device_open(&device, "gpu:0"), PS_ENODEV);
	check_message("gpu:0: no device or backend \"gpu\"; here are ");
	check_message("toy");
	check_message("symbol");
	check_message("did not load");
	check_fails(ps_device_open(&device, "abi:1"), PS_ENODEV);
	check_message("abi:1: the backend abi did not load: ");
	check_fails(ps_device_open(&device, "../good/penstock-toy"), PS_ENODEV);
	check_fails(ps_device_open(&device, ":0"), PS_ENODEV);
	check_fails(ps_device_open(&device, "a-name-that-is-far-longer-than-any-backend's-name-may-be-and-goes-on"),
	            PS_ENODEV);
}
END_TEST

static void *open_and_list(void *argument)
{
	int *good = argument;
	for (int i = 0; i < 20; i++) {
		ps_device *device;
		ps_device_entry *entries;
		size_t count;
		if (ps_device_open(&device, "toy") == PS_OK)
			++*good;
		ps_device_close(device);
		if (ps_device_list(&entries, &count) == PS_OK)
			++*good;
		ps_device_list_free(entries);
	}
	return NULL;
}

START_TEST(test_threads)
{
	enum { THREADS = 4 };
	pthread_t threads[THREADS];
	int good[THREADS] = {0};
	set_path(FAULTY ":" GOOD);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, open_and_list, &good[i]), 0);
	for (int i = 0; i < THREADS; i++) {
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
		ck_assert_int_eq(good[i], 40);
	}
}
END_TEST

int main(void)
{
	/* Drivers are not what this is about, and some do not bear the sanitizers' signal stacks in threads. */
	if (setenv("OCL_ICD_VENDORS", "/nowhere", 1))
		return EXIT_FAILURE;
	Suite *suite = suite_create("module");
	TCase *cases = tcase_create("module");
	tcase_set_timeout(cases, 60);
	tcase_add_test(cases, test_runs);
	tcase_add_test(cases, test_no_path);
	tcase_add_test(cases, test_reasons);
	tcase_add_test(cases, test_unknown);
	tcase_add_test(cases, test_threads);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
