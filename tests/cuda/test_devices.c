/* Which GPUs there are to the cuda backend, and which of them it starts, against a stand-in for CUDA's runtime. */
#include "tests/cuda/controls.h"
#include "tests/support/check.h"

#include <penstock/link.h>
#include <penstock/ops.h>

#include <pthread.h>
#include <string.h>

enum { N = 32 };

static const struct fake_cuda *fake;

static ps_tensor part(ps_buffer *buffer, int slot)
{
	return ps_tensor_make(buffer, (uint64_t)slot * N * N * 4, PS_F32, 2, (int64_t[]){N, N});
}

static void *destroy_link(void *link)
{
	ps_link_destroy(link);
	return NULL;
}

static void *destroy_list(void *list)
{
	ps_list_destroy(list);
	return NULL;
}

static void *destroy_queue(void *queue)
{
	ps_queue_destroy(queue);
	return NULL;
}

static void *destroy_buffer(void *buffer)
{
	ps_buffer_destroy(buffer);
	return NULL;
}

static void *close_device(void *device)
{
	ps_device_close(device);
	return NULL;
}

/* By a thread that has not called CUDA before. */
static void apart(void *(*destroy)(void *), void *object)
{
	pthread_t thread;
	ck_assert_int_eq(pthread_create(&thread, NULL, destroy, object), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_uint_eq(fake->contexts(), 2);
}

/*
 * Who works on one GPU starts no other one, which may be another process's alone; nor does a thread that does nothing
 * but destroy.
 */
START_TEST(test_one_of_two)
{
	ps_device *cpu, *gpu;
	ps_queue *queue;
	ps_buffer *buffer;
	ps_link *link;
	ps_list *list;
	float back[N];
	fake = find_controls();
	fake->heal();
	fake->occupy(0, 1);
	check_fails(ps_device_open(&gpu, "cuda-emulated:0"), PS_EDEVICE);
	check_message("cuda-emulated:0: starting the device: a simulated error (cudaErrorDevicesUnavailable)");
	check_ok(ps_device_open(&gpu, "cuda-emulated:1"));
	check_ok(ps_device_open(&cpu, "ref"));
	check_ok(ps_queue_create(&queue, gpu, "first"));
	check_ok(ps_buffer_create(&buffer, gpu, (uint64_t)3 * N * N * 4));
	check_ok(ps_link_create(&link, gpu, cpu, "link", &(ps_link_options){.skip_measure = true}));
	check_ok(ps_list_create(&list, queue));
	check_ok(ps_queue_zero(queue, part(buffer, 0)));
	check_ok(ps_record(list, gemm, .a = part(buffer, 0), .b = part(buffer, 0), .c = part(buffer, 1)));
	check_ok(ps_record(list, add, .a = part(buffer, 1), .b = part(buffer, 1), .y = part(buffer, 2)));
	for (int i = 0; i < 3; i++)
		check_ok(ps_list_submit(list, 0));
	check_ok(ps_queue_read(queue, back, ps_tensor_slice(part(buffer, 2), 0, 0, 1)));
	check_ok(ps_queue_finish(queue));
	fake->occupy(0, 0);
	apart(destroy_list, list);
	apart(destroy_link, link);
	apart(destroy_queue, queue);
	apart(destroy_buffer, buffer);
	apart(close_device, gpu);
	ps_device_close(cpu);
	end_well(fake, 0);
}
END_TEST

/* A thread that has another GPU at work is back there after each call. */
START_TEST(test_goes_back)
{
	ps_device *device[2];
	ps_queue *queue;
	fake = find_controls();
	fake->heal();
	for (int i = 0; i < 2; i++) {
		check_ok(ps_device_open(&device[i], i ? "cuda-emulated:1" : "cuda-emulated:0"));
		ck_assert_int_eq(fake->device(), 0);
	}
	check_ok(ps_queue_create(&queue, device[1], "q"));
	ck_assert_int_eq(fake->device(), 0);
	ps_queue_destroy(queue);
	ps_device_close(device[1]);
	ps_device_close(device[0]);
	ck_assert_int_eq(fake->device(), 0);
	end_well(fake, 0);
}
END_TEST

START_TEST(test_names)
{
	static const struct {
		const char *name, *message;
	} rows[] = {
	        {"cuda-emulated:2", "there is no such GPU here; the last one is cuda-emulated:1"},
	        {"cuda-emulated:x", "\"cuda-emulated:x\" names no GPU; write cuda-emulated:0"},
	        {"cuda-emulated:-1", "\"cuda-emulated:-1\" names no GPU"},
	        {"cuda-emulated:0,1", "\"cuda-emulated:0,1\" names no GPU"},
	        {"cuda-emulated:99999999999999999999", "there is no such GPU here"},
	};
	ps_device *device;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		check_fails(ps_device_open(&device, rows[i].name), PS_ENODEV);
		check_message(rows[i].message);
	}
	check_ok(ps_device_open(&device, "cuda-emulated"));
	ck_assert_str_eq(ps_device_get_info(device)->name, "cuda-emulated:0");
	ck_assert(!ps_device_get_info(device)->host_addressable);
	ps_device_close(device);
}
END_TEST

/* A backend without a device is no answer to what there is here. */
START_TEST(test_no_devices)
{
	ps_device *device;
	ck_assert_int_eq(setenv("PS_FAKE_CUDA_DEVICES", "0", 1), 0);
	ck_assert_int_eq(unsetenv("CUDA_VISIBLE_DEVICES"), 0);
	check_fails(ps_device_open(&device, "gpu:0"), PS_ENODEV);
	check_message("no device or backend \"gpu\"; here are cpu, ref");
	check_message("; no device of cuda-emulated");
	check_fails(ps_device_open(&device, "cuda-emulated:0"), PS_ENODEV);
	check_message("cuda-emulated:0: the NVIDIA driver sees no GPU");
	ck_assert_int_eq(setenv("CUDA_VISIBLE_DEVICES", "", 1), 0);
	check_fails(ps_device_open(&device, "cuda-emulated:0"), PS_ENODEV);
	check_message("the NVIDIA driver shows no GPU where CUDA_VISIBLE_DEVICES is \"\"");
}
END_TEST

START_TEST(test_drivers)
{
	ps_device *device;
	ck_assert_int_eq(setenv("PS_FAKE_CUDA_DRIVER", _i ? "12020" : "0", 1), 0);
	check_fails(ps_device_open(&device, "cuda-emulated:0"), PS_ENODEV);
	check_message(_i ? "cuda-emulated:0: the NVIDIA driver knows CUDA up to 12.2, and this build is for 13.0"
	                 : "cuda-emulated:0: there is no NVIDIA driver");
}
END_TEST

/* A GPU that is too old is passed over among others, and told where it is asked for or is all there is. */
START_TEST(test_old)
{
	ps_device_entry *entries;
	ps_device *device;
	size_t count, found = 0;
	const char *reason = "cuda-emulated:0, no GPU: an emulation on the CPU, for tests, has compute capability 7.0, "
	                     "which should be at least 8.0";
	ck_assert_int_eq(setenv("PS_FAKE_CUDA_OLD", _i ? "2" : "1", 1), 0);
	check_fails(ps_device_open(&device, "cuda-emulated:0"), PS_ENODEV);
	check_message(reason);
	check_ok(ps_device_list(&entries, &count));
	for (size_t i = 0; i < count; i++) {
		if (strcmp(entries[i].info.backend, "cuda-emulated") != 0)
			continue;
		found++;
		ck_assert_int_eq(entries[i].status, _i ? PS_ENODEV : PS_OK);
		ck_assert_str_eq(entries[i].info.name, _i ? "" : "cuda-emulated:1");
	}
	ck_assert_uint_eq(found, 1);
	ps_device_list_free(entries);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cuda's devices against a stand-in for its runtime");
	TCase *tests = tcase_create("devices");
	tcase_set_timeout(tests, 300);
	tcase_add_test(tests, test_one_of_two);
	tcase_add_test(tests, test_goes_back);
	tcase_add_test(tests, test_names);
	tcase_add_test(tests, test_no_devices);
	tcase_add_loop_test(tests, test_drivers, 0, 2);
	tcase_add_loop_test(tests, test_old, 0, 2);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
