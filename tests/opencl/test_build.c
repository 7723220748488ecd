/*
 * Building kernels, the cache of what was built, and the files of tuning. The functions of OpenCL that build a program
 * from source are replaced by ones that count, and that can hand nonsense to the compiler: the program's own come
 * before those of the loader's library.
 */
#include "support/check.h"
#include "support/folder.h"
#include "tests/opencl/own_cache.h"

#include <penstock/ops.h>
#include <penstock/tune.h>

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int builds;    /* programs made from source */
static bool nonsense; /* the compiler gets what it cannot take */

typedef cl_program CL_API_CALL create_function(cl_context, cl_uint, const char **, const size_t *, cl_int *);

CL_API_ENTRY cl_program CL_API_CALL clCreateProgramWithSource(cl_context context, cl_uint count, const char **source,
                                                              const size_t *lengths, cl_int *error)
{
	const char *other = "this is no kernel";
	create_function *real;
	void *library = dlopen("libOpenCL.so.1", RTLD_NOW), *symbol = library ? dlsym(library, __func__) : NULL;
	ck_assert_ptr_nonnull(symbol);
	memcpy(&real, &symbol, sizeof real);
	/* CLBlast's own programs are not counted: Penstock hands over one string without its length. */
	if (count == 1 && !lengths) {
		builds++;
		if (nonsense)
			return real(context, 1, &other, NULL, error);
	}
	return real(context, count, source, lengths, error);
}

static void setup(void)
{
	folder_make();
	own_cache_use(folder_path(""));
}

/* What a process of its own tells of its work with opencl:0. */
struct told {
	bool skipped;
	ps_status status;
	int builds;
	char message[512], note[192];
};

/* A product of ones, which is k everywhere, in fp32 or fp64. */
static ps_status multiply(ps_device *device, ps_dtype dtype)
{
	enum { M = 5, N = 7, K = 9, ALL = M * K + K * N + M * N };
	double wide[ALL];
	float narrow[ALL];
	for (int i = 0; i < ALL; i++)
		wide[i] = narrow[i] = 1;
	uint64_t element = ps_dtype_bytes(dtype);
	void *values = dtype == PS_F64 ? (void *)wide : narrow;
	ps_queue *queue = NULL;
	ps_buffer *buffer = NULL;
	ps_status status = ps_queue_create(&queue, device, "q");
	if (status == PS_OK)
		status = ps_buffer_create(&buffer, device, ALL * element);
	if (status == PS_OK) {
		ps_tensor all = ps_tensor_make(buffer, 0, dtype, 1, (int64_t[]){ALL});
		ps_tensor a = ps_tensor_make(buffer, 0, dtype, 2, (int64_t[]){M, K});
		ps_tensor b = ps_tensor_make(buffer, M * K * element, dtype, 2, (int64_t[]){K, N});
		ps_tensor c = ps_tensor_make(buffer, (M * K + K * N) * element, dtype, 2, (int64_t[]){M, N});
		status = ps_queue_write(queue, all, values);
		if (status == PS_OK)
			status = ps_run(queue, gemm, .a = a, .b = b, .c = c);
		if (status == PS_OK)
			status = ps_queue_read(queue, values, all);
		ps_status end = ps_queue_finish(queue);
		if (status == PS_OK)
			status = end;
		for (int i = ALL - M * N; i < ALL && status == PS_OK; i++)
			if ((dtype == PS_F64 ? wide[i] : (double)narrow[i]) != K)
				status = ps_fail(PS_EINTERNAL, "a product of ones is wrong");
	}
	ps_buffer_destroy(buffer);
	ps_queue_destroy(queue);
	return status;
}

static ps_status tune(ps_device *device, ps_dtype dtype)
{
	ps_tune_row row = {.m = 20, .n = 40, .k = 30, .trans_b = true};
	ps_tuning tuning = {.dtype = dtype, .seconds = 0.01, .rows = &row, .count = 1};
	PS_TRY(ps_tune(device, &tuning));
	if (tuning.wrong > 0 || row.after_s <= 0 || !row.choice[0] || !tuning.file[0])
		return ps_fail(PS_EINTERNAL, "%d of %d candidates are wrong, choice \"%s\", file \"%s\"",
		               (int)tuning.wrong, (int)tuning.tried, row.choice, tuning.file);
	return PS_OK;
}

static void work(struct told *told, ps_status (*what)(ps_device *, ps_dtype), ps_dtype dtype)
{
	ps_device *device;
	told->status = ps_device_open(&device, "opencl:0");
	if (told->status != PS_OK) {
		told->skipped = true;
		return;
	}
	snprintf(told->note, sizeof told->note, "%s", ps_device_get_info(device)->note);
	told->status = what(device, dtype);
	if (told->status != PS_OK)
		snprintf(told->message, sizeof told->message, "%s", ps_error_message());
	told->builds = builds;
	ps_device_close(device);
}

/* Another start: nothing but the files is left of those before. */
static struct told start(ps_status (*what)(ps_device *, ps_dtype), ps_dtype dtype)
{
	struct told told = {0};
	int ends[2], status;
	ck_assert_int_eq(pipe(ends), 0);
	pid_t child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		work(&told, what, dtype);
		_exit(write(ends[1], &told, sizeof told) == (ssize_t)sizeof told ? 0 : 1);
	}
	close(ends[1]);
	ck_assert_int_eq(read(ends[0], &told, sizeof told), sizeof told);
	close(ends[0]);
	ck_assert(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return told;
}

#define CHECK_TOLD(told) ck_assert_msg((told).status == PS_OK, "%s", (told).message)

static void copy(const char *from, const char *to)
{
	char bytes[4096];
	FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
	ck_assert(in && out);
	for (size_t got; (got = fread(bytes, 1, sizeof bytes, in)) > 0;)
		ck_assert_uint_eq(fwrite(bytes, 1, got, out), got);
	ck_assert(!fclose(in) && !fclose(out));
}

enum { PROGRAMS = 2 }; /* that a product takes: the kernels of all ops, and a form of the product */

/* The second start builds nothing; damaged binaries, and one of another key, are built again. */
START_TEST(second_start)
{
	char paths[4][512];
	struct told first = start(multiply, PS_F32);
	if (first.skipped)
		return;
	CHECK_TOLD(first);
	ck_assert_int_eq(first.builds, PROGRAMS);
	ck_assert_int_eq(own_cache_files("bin", paths, 4), PROGRAMS);
	struct told second = start(multiply, PS_F32);
	CHECK_TOLD(second);
	ck_assert_int_eq(second.builds, 0);
	for (int i = 0; i < PROGRAMS; i++)
		own_cache_flip(paths[i]);
	struct told damaged = start(multiply, PS_F32);
	CHECK_TOLD(damaged);
	ck_assert_int_eq(damaged.builds, PROGRAMS);
	ck_assert_int_eq(truncate(paths[0], 100), 0);
	struct told shortened = start(multiply, PS_F32);
	CHECK_TOLD(shortened);
	ck_assert_int_eq(shortened.builds, 1);
	copy(paths[0], paths[1]);
	struct told stale = start(multiply, PS_F32);
	CHECK_TOLD(stale);
	ck_assert_int_eq(stale.builds, 1);
	struct told last = start(multiply, PS_F32);
	CHECK_TOLD(last);
	ck_assert_int_eq(last.builds, 0);
}
END_TEST

/* Where nothing can be written each start builds, and all works. */
START_TEST(no_place_for_a_cache)
{
	folder_write("penstock", "", 0);
	for (int i = 0; i < 2; i++) {
		struct told told = start(multiply, PS_F32);
		if (told.skipped)
			return;
		CHECK_TOLD(told);
		ck_assert_int_eq(told.builds, PROGRAMS);
	}
}
END_TEST

/* One line for the user, and the compiler's log in the file that it names. */
START_TEST(compiler_error)
{
	char paths[2][512], log[4096] = "";
	nonsense = true;
	struct told told = start(multiply, PS_F32);
	if (told.skipped)
		return;
	ck_assert_int_eq(told.status, PS_EDEVICE);
	ck_assert_msg(strstr(told.message, "its compiler does not take the kernels: CL_BUILD_PROGRAM_FAILURE"), "%s",
	              told.message);
	ck_assert_ptr_null(strchr(told.message, '\n'));
	ck_assert_int_eq(own_cache_files("log", paths, 2), 1);
	ck_assert_msg(strstr(told.message, paths[0]), "%s does not name %s", told.message, paths[0]);
	FILE *file = fopen(paths[0], "r");
	ck_assert(file && fread(log, 1, sizeof log - 1, file) > 0 && !fclose(file));
	ck_assert_msg(strstr(log, "error"), "the log says: %s", log);
	ck_assert_int_eq(own_cache_files("bin", paths, 2), 0);
	nonsense = false;
	struct told right = start(multiply, PS_F32);
	CHECK_TOLD(right);
}
END_TEST

/* What was tuned is used and told by later starts; a damaged file and one of something else are not, and that is told.
 */
START_TEST(tuned_file)
{
	char paths[2][512];
	struct told first = start(tune, PS_F32);
	if (first.skipped)
		return;
	CHECK_TOLD(first);
	ck_assert_ptr_nonnull(strstr(first.note, "not tuned"));
	ck_assert_int_eq(own_cache_files("tune", paths, 2), 1);
	struct told second = start(multiply, PS_F32);
	CHECK_TOLD(second);
	ck_assert_msg(strstr(second.note, ", tuned 20") && strstr(second.note, "GFLOP/s"), "%s", second.note);
	own_cache_flip(paths[0]);
	struct told damaged = start(multiply, PS_F32);
	CHECK_TOLD(damaged);
	ck_assert_msg(strstr(damaged.note, "damaged and not used"), "%s", damaged.note);
	struct told again = start(tune, PS_F32);
	CHECK_TOLD(again);
	/* The file of fp64 in the place of that of fp32 has another key, as one of another driver has. */
	char single[512];
	snprintf(single, sizeof single, "%s", paths[0]);
	struct told wide = start(tune, PS_F64);
	if (wide.status == PS_ENOTSUP)
		return;
	CHECK_TOLD(wide);
	ck_assert_int_eq(own_cache_files("tune", paths, 2), 2);
	copy(paths[strcmp(paths[0], single) == 0], single);
	struct told stale = start(multiply, PS_F32);
	CHECK_TOLD(stale);
	ck_assert_msg(strstr(stale.note, "tuned for another driver or version"), "%s", stale.note);
}
END_TEST

static bool stop(void *payload, double share, const char *what)
{
	(void)share;
	(void)what;
	++*(int *)payload;
	return true;
}

/* Wrong requests are refused; a search that is stopped keeps what it has. */
START_TEST(tuning_requests)
{
	ps_device *device;
	ps_tune_row row = {.m = 20, .n = 40, .k = 30};
	int calls = 0;
	ps_tuning tuning = {.dtype = PS_I32, .seconds = 100, .rows = &row, .count = 1};
	if (ps_device_open(&device, "opencl:0") != PS_OK)
		return;
	check_fails(ps_tune(device, &tuning), PS_EINVAL);
	tuning.dtype = PS_F32;
	tuning.count = 0;
	check_fails(ps_tune(device, &tuning), PS_EINVAL);
	tuning.count = 1;
	row.k = 0;
	check_fails(ps_tune(device, &tuning), PS_EINVAL);
	row.k = 30;
	tuning.progress = stop;
	tuning.payload = &calls;
	check_ok(ps_tune(device, &tuning));
	ck_assert_int_ge(calls, 1);
	ck_assert_int_eq(tuning.wrong, 0);
	check_ok(multiply(device, PS_F32));
	ps_device_close(device);
	check_ok(ps_device_open(&device, "cpu"));
	check_fails(ps_tune(device, &tuning), PS_ENOTSUP);
	check_message("cpu has nothing to tune");
	ps_device_close(device);
}
END_TEST

static bool stop_after_forms(void *payload, double share, const char *what)
{
	(void)payload;
	(void)share;
	return !strncmp(what, "own kernels", strlen("own kernels"));
}

/* All forms of our own product agree, with all transposes. */
START_TEST(forms)
{
	ps_device *device;
	ps_tune_row row = {.m = 20, .n = 40, .k = 30};
	ps_tuning tuning = {.seconds = 5000, .rows = &row, .count = 1, .progress = stop_after_forms};
	if (ps_device_open(&device, "opencl:0") != PS_OK)
		return;
	tuning.dtype = _i == 0 ? PS_F32 : PS_F64;
	ps_status status = ps_tune(device, &tuning);
	ps_device_close(device);
	if (_i == 1 && status == PS_ENOTSUP)
		return;
	check_ok(status);
	ck_assert_int_ge(tuning.tried, 5);
	ck_assert_int_eq(tuning.wrong, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("opencl build");
	TCase *cases = tcase_create("build");
	tcase_set_timeout(cases, 600);
	tcase_add_checked_fixture(cases, setup, folder_remove);
	tcase_add_test(cases, second_start);
	tcase_add_test(cases, no_place_for_a_cache);
	tcase_add_test(cases, compiler_error);
	tcase_add_test(cases, tuned_file);
	tcase_add_test(cases, tuning_requests);
	tcase_add_loop_test(cases, forms, 0, 2);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
