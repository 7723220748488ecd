/* What the OpenCL backend says of machines and data that are not as they should be, and its cache of binaries. */
#define _XOPEN_SOURCE 700 /* nftw */
#include "support/check.h"

#include <penstock/model.h>
#include <penstock/pipeline.h>

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Each test is a process of its own, in which OpenCL is asked for the first time. */
static char folder[] = "/tmp/penstock-opencl-XXXXXX";

static int remove_one(const char *path, const struct stat *facts, int kind, struct FTW *place)
{
	(void)facts;
	(void)kind;
	(void)place;
	return remove(path);
}

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(folder));
}

/* An empty cache of Penstock's; PoCL keeps its own where it was, since it would compile everything for minutes. */
static void use_own_cache(const char *path)
{
	char pocl[1024];
	const char *home = getenv("HOME"), *xdg = getenv("XDG_CACHE_HOME");
	if (xdg || home) {
		snprintf(pocl, sizeof pocl, "%s%s/pocl/kcache", xdg ? xdg : home, xdg ? "" : "/.cache");
		ck_assert_int_eq(setenv("POCL_CACHE_DIR", pocl, 0), 0);
	}
	ck_assert_int_eq(setenv("XDG_CACHE_HOME", path, 1), 0);
}

static void teardown(void)
{
	nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

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
	ck_assert_int_eq(setenv("OCL_ICD_VENDORS", folder, 1), 0);
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
	char path[128];
	snprintf(path, sizeof path, "%s/broken.icd", folder);
	FILE *file = fopen(path, "w");
	ck_assert(file && fputs("/nowhere/libbroken.so\n", file) >= 0 && !fclose(file));
	ck_assert_int_eq(setenv("OCL_ICD_VENDORS", folder, 1), 0);
	ps_device *device;
	check_fails(ps_device_open(&device, "opencl:0"), PS_ENODEV);
	check_message("broken.icd: /nowhere/libbroken.so: cannot open shared object file");
}
END_TEST

/* Beside one that works it is passed over too, and the list says so. */
START_TEST(broken_vendor_among_others)
{
	char command[512];
	ps_device_entry *entries;
	size_t count;
	int devices = 0, reasons = 0;
	snprintf(command, sizeof command, "cp /etc/OpenCL/vendors/*.icd %s 2>/dev/null; echo libbroken.so >%s/x.icd",
	         folder, folder);
	ck_assert_int_eq(system(command), 0);
	ck_assert_int_eq(setenv("OCL_ICD_VENDORS", folder, 1), 0);
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
	check_fails(ps_device_open(&device, "opencl:pthread"), PS_ENODEV);
	check_message("fits 2 devices");
	check_fails(ps_device_open(&device, "opencl"), PS_ENODEV);
	check_message("opencl:1");
}
END_TEST

/* Calls `damage` with each cached binary; returns how many there are. */
static int each_binary(void (*damage)(const char *path))
{
	char path[512];
	int count = 0;
	snprintf(path, sizeof path, "%s/penstock", folder);
	DIR *all = opendir(path);
	ck_assert_ptr_nonnull(all);
	for (struct dirent *one = readdir(all); one; one = readdir(all)) {
		size_t length = strlen(one->d_name);
		ck_assert_msg(!strstr(one->d_name, ".bin."), "a temporary file was left: %s", one->d_name);
		if (length < 4 || strcmp(one->d_name + length - 4, ".bin") != 0)
			continue;
		snprintf(path, sizeof path, "%s/penstock/%s", folder, one->d_name);
		count++;
		if (damage)
			damage(path);
	}
	closedir(all);
	return count;
}

static void flip(const char *path)
{
	struct stat facts;
	FILE *file = fopen(path, "r+b");
	ck_assert(file && !fstat(fileno(file), &facts) && !fseek(file, facts.st_size / 2, SEEK_SET));
	int byte = fgetc(file);
	ck_assert(!fseek(file, facts.st_size / 2, SEEK_SET) && fputc(byte ^ 0x55, file) != EOF && !fclose(file));
}

static void shorten(const char *path)
{
	ck_assert_int_eq(truncate(path, 100), 0);
}

static int64_t modified; /* nanoseconds within the second, and seconds, of the last file */

static void look(const char *path)
{
	struct stat facts;
	ck_assert_int_eq(stat(path, &facts), 0);
	modified = (int64_t)facts.st_mtim.tv_sec * 1000000000 + facts.st_mtim.tv_nsec;
}

/* In a process of its own each time, so that the binary is read from the disk. */
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
	ck_assert_int_eq(each_binary(look), 1);
	return modified;
}

START_TEST(cache)
{
	use_own_cache(folder);
	int64_t first = time_of_binary();
	if (first < 0)
		return;
	ck_assert_msg(time_of_binary() == first, "the second start made the binary again");
	each_binary(flip);
	int64_t second = time_of_binary();
	ck_assert_msg(second != first, "a damaged binary was not replaced");
	ck_assert(time_of_binary() == second);
	each_binary(shorten);
	ck_assert_msg(time_of_binary() != second, "a short binary was not replaced");
}
END_TEST

START_TEST(no_cache_folder)
{
	use_own_cache("/proc/nowhere");
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
	tcase_add_checked_fixture(cases, setup, teardown);
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
