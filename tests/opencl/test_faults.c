/*
 * What the OpenCL backend says of machines and data that are not as they should be, and its cache of binaries. Each
 * test is a process of its own, in which OpenCL is asked for the first time.
 */
#include "support/check.h"
#include "support/folder.h"
#include "tests/opencl/own_cache.h"

#include <penstock/model.h>
#include <penstock/pipeline.h>

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static ps_tensor vector(ps_buffer *buffer, ps_dtype dtype, int64_t count)
{
	return ps_tensor_make(buffer, 0, dtype, 1, &count);
}

/* Adds two numbers on opencl:0; false when there is no such device. */
static bool add_works(void)
{
	float values[3] = {1, 2, 3};
	ps_device *device;
	ps_queue *queue;
	ps_buffer *buffer;
	if (ps_device_open(&device, "opencl:0") != PS_OK)
		return false;
	check_ok(ps_queue_create(&queue, device, "q"));
	check_ok(ps_buffer_create(&buffer, device, sizeof values));
	ps_tensor x = vector(buffer, PS_F32, 3);
	check_ok(ps_queue_write(queue, x, values));
	check_ok(ps_run(queue, add, .a = x, .b = x, .y = x));
	check_ok(ps_queue_read(queue, values, x));
	check_ok(ps_queue_finish(queue));
	ck_assert_float_eq(values[2], 6);
	ps_buffer_destroy(buffer);
	ps_queue_destroy(queue);
	ps_device_close(device);
	return true;
}

START_TEST(no_platform)
{
	ps_device_entry *entries;
	size_t count;
	bool said = false;
	ck_assert_int_eq(setenv("OCL_ICD_VENDORS", folder_path(""), 1), 0);
	check_ok(ps_device_list(&entries, &count));
	for (size_t i = 0; i < count; i++)
		if (!strcmp(entries[i].info.backend, "opencl")) {
			ck_assert_int_eq(entries[i].status, PS_ENODEV);
			ck_assert_ptr_nonnull(strstr(entries[i].reason, "no OpenCL platform is installed here"));
			said = true;
		}
	ps_device_list_free(entries);
	ps_device *device;
	check_fails(ps_device_open(&device, "opencl:0"), PS_ENODEV);
	ck_assert(said || strstr(ps_error_message(), "no device or backend"));
}
END_TEST

/* A vendor's library that is no library is passed over by the loader. */
START_TEST(broken_vendor)
{
	static const char text[] = "/nowhere/libbroken.so\n";
	folder_write("broken.icd", text, sizeof text - 1);
	ck_assert_int_eq(setenv("OCL_ICD_VENDORS", folder_path(""), 1), 0);
	ps_device *device;
	check_fails(ps_device_open(&device, "opencl:0"), PS_ENODEV);
	check_message("broken.icd: /nowhere/libbroken.so: cannot open shared object file");
}
END_TEST

/* Beside one that works it is passed over too, and the list says so. */
START_TEST(broken_vendor_among_others)
{
	char command[2048];
	const char *folder = folder_path("");
	ps_device_entry *entries;
	size_t count;
	int devices = 0, reasons = 0;
	snprintf(command, sizeof command, "cp /etc/OpenCL/vendors/*.icd %s 2>/dev/null; echo libbroken.so >%s/x.icd",
	         folder, folder);
	ck_assert_int_eq(system(command), 0);
	ck_assert_int_eq(setenv("OCL_ICD_VENDORS", folder_path(""), 1), 0);
	check_ok(ps_device_list(&entries, &count));
	for (size_t i = 0; i < count; i++) {
		if (strcmp(entries[i].info.backend, "opencl") != 0)
			continue;
		devices += entries[i].status == PS_OK;
		reasons += entries[i].status != PS_OK && strstr(entries[i].reason, "x.icd: libbroken.so: cannot open");
	}
	ck_assert_int_eq(reasons, 1);
	ps_device_list_free(entries);
	ps_device *device;
	if (devices)
		check_ok(ps_device_open(&device, "opencl:0"));
	if (devices)
		ps_device_close(device);
}
END_TEST

START_TEST(wrong_names)
{
	ps_device *device;
	if (!add_works())
		return;
	check_fails(ps_device_open(&device, "opencl:77"), PS_ENODEV);
	check_message("there is no \"opencl:77\"; here are opencl:0");
	check_fails(ps_device_open(&device, "opencl:No Such Maker"), PS_ENODEV);
	check_message("opencl:0");
}
END_TEST

/* Two devices fit the name of what they have in common. */
START_TEST(two_devices)
{
	ps_device *device;
	ck_assert_int_eq(setenv("POCL_DEVICES", "pthread pthread", 1), 0);
	if (ps_device_open(&device, "opencl:1") != PS_OK)
		return;
	ck_assert_str_eq(ps_device_get_info(device)->name, "opencl:1");
	ps_device_close(device);
	check_fails(ps_device_open(&device, "opencl:Portable Computing"), PS_ENODEV);
	check_message("fits 2 devices");
	check_fails(ps_device_open(&device, "opencl"), PS_ENODEV);
	check_message("opencl:1");
}
END_TEST

/* The path of the one cached binary. */
static const char *binary(void)
{
	static char paths[2][512];
	ck_assert_int_eq(own_cache_files("bin", paths, 2), 1);
	return paths[0];
}

/* When the binary was written, in nanoseconds; -1: no device. In a process of its own each time, so that the binary is
 * read from the disk. */
static int64_t time_of_binary(void)
{
	pid_t child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0)
		_exit(add_works() ? 0 : 77);
	int status;
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		return -1;
	ck_assert_int_eq(WEXITSTATUS(status), 0);
	struct stat facts;
	ck_assert_int_eq(stat(binary(), &facts), 0);
	return (int64_t)facts.st_mtim.tv_sec * 1000000000 + facts.st_mtim.tv_nsec;
}

START_TEST(cache)
{
	own_cache_use(folder_path(""));
	int64_t first = time_of_binary();
	if (first < 0)
		return;
	ck_assert_msg(time_of_binary() == first, "the second start made the binary again");
	own_cache_flip(binary());
	int64_t second = time_of_binary();
	ck_assert_msg(second != first, "a damaged binary was not replaced");
	ck_assert(time_of_binary() == second);
	ck_assert_int_eq(truncate(binary(), 100), 0);
	ck_assert_msg(time_of_binary() != second, "a short binary was not replaced");
}
END_TEST

START_TEST(no_cache_folder)
{
	own_cache_use("/proc/nowhere");
	(void)add_works();
}
END_TEST

/* A token out of range fails the queue with its place, and a reset makes it usable again. */
START_TEST(wrong_token)
{
	enum { ROWS = 2, TIME = 3, WIDTH = 5, WORDS = 4 };
	ps_device *device;
	ps_queue *queue;
	ps_buffer *tokens, *floats;
	int32_t ids[ROWS * TIME] = {0, 1, 2, 3, 9, -1};
	float y[ROWS * TIME * WIDTH];
	if (ps_device_open(&device, "opencl:0") != PS_OK)
		return;
	check_ok(ps_queue_create(&queue, device, "q"));
	check_ok(ps_buffer_create(&tokens, device, sizeof ids));
	check_ok(ps_buffer_create(&floats, device, 4096));
	ps_tensor t = ps_tensor_make(tokens, 0, PS_I32, 2, (int64_t[]){ROWS, TIME});
	ps_tensor w = ps_tensor_make(floats, 0, PS_F32, 2, (int64_t[]){WORDS, WIDTH});
	ps_tensor p = ps_tensor_make(floats, 1024, PS_F32, 2, (int64_t[]){TIME, WIDTH});
	ps_tensor out = ps_tensor_make(floats, 2048, PS_F32, 3, (int64_t[]){ROWS, TIME, WIDTH});
	for (int round = 0; round < 2; round++) {
		check_ok(ps_queue_zero(queue, vector(floats, PS_F32, 1024)));
		check_ok(ps_queue_write(queue, t, ids));
		check_ok(ps_run(queue, embedding_fwd, .tokens = t, .weight = w, .positions = p, .y = out, .scale = 1));
		check_fails(ps_queue_finish(queue), PS_EINVAL);
		check_message("embedding_fwd: row 1, position 1 has token 9, which should be at least 0 and below 4");
		ps_queue_reset(queue);
	}
	ids[4] = ids[5] = 0;
	check_ok(ps_queue_write(queue, t, ids));
	check_ok(ps_run(queue, embedding_fwd, .tokens = t, .weight = w, .positions = p, .y = out, .scale = 1));
	check_ok(ps_queue_read(queue, y, out));
	check_ok(ps_queue_finish(queue));
	ck_assert_float_eq(y[29], 0);
	ps_buffer_destroy(tokens);
	ps_buffer_destroy(floats);
	ps_queue_destroy(queue);
	ps_device_close(device);
}
END_TEST

/* What no buffer of the device can hold is refused before anything is allocated, with both figures. */
START_TEST(too_large)
{
	const char *const names[] = {"opencl:0"};
	ps_device *device;
	/* PoCL then has 1 GiB, and a quarter of it for one buffer. */
	ck_assert_int_eq(setenv("POCL_MEMORY_LIMIT", "1", 1), 0);
	if (ps_device_open(&device, names[0]) != PS_OK)
		return;
	bool limited = ps_device_get_info(device)->max_buffer_bytes == (uint64_t)1 << 28;
	ps_device_close(device);
	for (int i = 0; i < 2 && limited; i++) {
		ps_pipeline *pipeline;
		ps_model model;
		const ps_transformer_config sizes = {.vocabulary = i ? 10 : 20000000,
		                                     .emsize = 4,
		                                     .nhead = 2,
		                                     .nhid = 4,
		                                     .nlayers = 1,
		                                     .max_time = 10};
		check_ok(ps_transformer_create(&model, &sizes));
		const ps_pipeline_config config = {.layers = model.layers,
		                                   .layer_count = model.layer_count,
		                                   .devices = names,
		                                   .rank_count = 1,
		                                   .chunks = 1,
		                                   .rows = i ? 2000000 : 1,
		                                   .time = i ? 10 : 1};
		check_fails(ps_pipeline_create(&pipeline, &config), PS_ETOOBIG);
		check_message("0.25");
		check_message(i ? "a tensor of 1.490 GiB on opencl:0 is over the device's limit of 0.250 GiB"
		                : "take 0.30 GiB, and a buffer on opencl:0");
		ps_model_finish(&model);
	}
}
END_TEST

/* A row of a product has the same bits whatever m is, through all size classes. */
START_TEST(rows_of_products)
{
	enum { N = 200, K = 160, MOST = 300 };
	static const int64_t sizes[] = {1, 2, 7, 8, 9, 33, 75, MOST};
	static float values[MOST * N], first[2][N], row[N];
	ps_device *device;
	ps_queue *queue;
	ps_buffer *a, *b, *c;
	if (ps_device_open(&device, "opencl:0") != PS_OK)
		return;
	for (int i = 0; i < MOST * N; i++)
		values[i] = (float)(i * 7919 % 1009) / 1009 - 0.4F;
	check_ok(ps_queue_create(&queue, device, "q"));
	check_ok(ps_buffer_create(&a, device, sizeof values));
	check_ok(ps_buffer_create(&b, device, sizeof values));
	check_ok(ps_buffer_create(&c, device, sizeof values));
	check_ok(ps_queue_write(queue, vector(a, PS_F32, MOST * N), values));
	check_ok(ps_queue_write(queue, vector(b, PS_F32, MOST * N), values));
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		for (int trans = 0; trans < 2; trans++) {
			ps_tensor x = ps_tensor_make(a, 0, PS_F32, 2, (int64_t[]){sizes[i], K});
			ps_tensor y = ps_tensor_make(b, 0, PS_F32, 2, trans ? (int64_t[]){N, K} : (int64_t[]){K, N});
			ps_tensor z = ps_tensor_make(c, 0, PS_F32, 2, (int64_t[]){sizes[i], N});
			check_ok(ps_run(queue, gemm, .a = x, .b = y, .c = z, .trans_b = trans));
			check_ok(ps_queue_read(queue, i ? row : first[trans], vector(c, PS_F32, N)));
			check_ok(ps_queue_finish(queue));
			if (i)
				ck_assert_msg(!memcmp(row, first[trans], sizeof row), "other bits with %d rows",
				              (int)sizes[i]);
		}
	ps_buffer_destroy(a);
	ps_buffer_destroy(b);
	ps_buffer_destroy(c);
	ps_queue_destroy(queue);
	ps_device_close(device);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("opencl");
	TCase *cases = tcase_create("faults");
	tcase_set_timeout(cases, 280);
	tcase_add_checked_fixture(cases, folder_make, folder_remove);
	tcase_add_test(cases, no_platform);
	tcase_add_test(cases, broken_vendor);
	tcase_add_test(cases, broken_vendor_among_others);
	tcase_add_test(cases, wrong_names);
	tcase_add_test(cases, two_devices);
	tcase_add_test(cases, cache);
	tcase_add_test(cases, no_cache_folder);
	tcase_add_test(cases, wrong_token);
	tcase_add_test(cases, rows_of_products);
	tcase_add_test(cases, too_large);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
