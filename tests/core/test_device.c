/* Devices: names, listing, cores, and that two of them work at the same time. */
#include "backends/cpu/cpu.h"
#include "tests/core/contract.h"

#include "core/platform.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const ps_device_info *open_info(ps_device **device, const char *name)
{
	check_ok(ps_device_open(device, name));
	return ps_device_get_info(*device);
}

static int cores(void)
{
	ps_device_entry *entries;
	size_t count;
	int found = 0;
	check_ok(ps_device_list(&entries, &count));
	for (size_t i = 0; i < count; i++)
		found += !strncmp(entries[i].info.name, "cpu:", 4);
	ps_device_list_free(entries);
	return found;
}

START_TEST(test_bad_names)
{
	static const struct {
		const char *name;
		ps_status status;
		const char *text;
	} rows[] = {
	        {"", PS_EINVAL, "a device needs a name"},
	        {NULL, PS_EINVAL, "a device needs a name"},
	        {":", PS_ENODEV, "names no part"},
	        {"cpu:", PS_ENODEV, "\"cpu:\" names no part of cpu"},
	        {"cpu:4095", PS_ENODEV, "there is no core 4095 here; this process may use cores 0 to "},
	        {"cpu:0-", PS_ENODEV, "names no cores"},
	        {"cpu:1-0", PS_ENODEV, "names no cores"},
	        {"cpu:abc", PS_ENODEV, "\"cpu:abc\" names no cores; write cpu, cpu:1, cpu:0-3 or cpu:0,2"},
	        {"cpu:0,", PS_ENODEV, "names no cores"},
	        {"cpu:,0", PS_ENODEV, "names no cores"},
	        {"cpu:-1", PS_ENODEV, "names no cores"},
	        {"cpu:0 ", PS_ENODEV, "names no cores"},
	        {"cpu: 0", PS_ENODEV, "names no cores"},
	        {"cpu:0:0", PS_ENODEV, "names no cores"},
	        {"cpu:99999999999999999999", PS_ENODEV, "names no cores"},
	        {"ref:1", PS_ENODEV, "the reference device has no parts; write ref"},
	        {"Cpu", PS_ENODEV, "no device or backend \"Cpu\"; here are "},
	        {"cpux", PS_ENODEV, "no device or backend"},
	        {"cp", PS_ENODEV, "no device or backend"},
	        {" cpu", PS_ENODEV, "no device or backend"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		ps_device *device = (ps_device *)&device;
		check_fails(ps_device_open(&device, rows[i].name), rows[i].status);
		check_message(rows[i].text);
		ck_assert_ptr_null(device);
	}
}
END_TEST

START_TEST(test_good_names)
{
	static const struct {
		const char *name, *canonical;
		int cores;
	} rows[] = {
	        {"ref", "ref", 1},         {"cpu:0", "cpu:0", 1},     {"cpu:0-0", "cpu:0", 1},
	        {"cpu:00", "cpu:0", 1},    {"cpu:0,0", "cpu:0", 1},   {"cpu:1", "cpu:1", 1},
	        {"cpu:1,0", "cpu:0-1", 2}, {"cpu:0-1", "cpu:0-1", 2}, {"cpu:0,0-1", "cpu:0-1", 2},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		ps_device *device;
		if (strchr(rows[i].name, '1') && cores() < 2)
			continue;
		const ps_device_info *info = open_info(&device, rows[i].name);
		ck_assert_str_eq(info->name, rows[i].canonical);
		ck_assert_int_eq(info->compute_units, rows[i].cores);
		ck_assert_uint_gt(info->memory_bytes, 0);
		ck_assert(info->host_addressable);
		ck_assert_ptr_nonnull(info->description);
		ps_device_close(device);
	}
}
END_TEST

START_TEST(test_list)
{
	ps_device_entry *entries;
	size_t count;
	check_ok(ps_device_list(&entries, &count));
	ck_assert_uint_ge(count, 3);
	for (size_t i = 0; i < count; i++) {
		ck_assert_uint_gt(strlen(entries[i].info.backend), 0);
		if (entries[i].status != PS_OK) {
			ck_assert_uint_gt(strlen(entries[i].reason), 0);
			continue;
		}
		ps_device *device;
		ck_assert_str_eq(open_info(&device, entries[i].info.name)->name, entries[i].info.name);
		ck_assert_str_eq(ps_device_get_info(device)->backend, entries[i].info.backend);
		ps_device_close(device);
	}
	ps_device_list_free(entries);
	ps_device_list_free(NULL);
}
END_TEST

/* Runs in a child of its own, bound to one unit: the exit status is the number of cores that `cpu` then has. */
static int cores_when_bound(void)
{
	hwloc_topology_t topology;
	ps_device *device;
	if (hwloc_topology_init(&topology) || hwloc_topology_load(topology))
		return 100;
	hwloc_obj_t unit = NULL, last = NULL;
	while ((unit = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_PU, unit)))
		if (hwloc_bitmap_isincluded(unit->cpuset, hwloc_topology_get_allowed_cpuset(topology)))
			last = unit;
	if (!last || hwloc_set_cpubind(topology, last->cpuset, HWLOC_CPUBIND_PROCESS))
		return 101;
	if (ps_device_open(&device, "cpu:1") == PS_OK)
		return 102;
	if (ps_device_open(&device, "cpu") != PS_OK)
		return 103;
	int units = ps_device_get_info(device)->compute_units;
	ps_device_close(device);
	hwloc_topology_destroy(topology);
	return units;
}

START_TEST(test_affinity)
{
	pid_t child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0)
		_exit(cores_when_bound());
	int status;
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 1);
}
END_TEST

/* Two kernels that each wait for the other to have started. */
struct meeting {
	_Atomic int *arrived;
	int wanted;
	int64_t patience_ns;
};

static ps_status meet(const struct cpu_device *device, const void *arguments)
{
	const struct meeting *meeting = arguments;
	(void)device;
	int64_t end = ps_clock_ns() + meeting->patience_ns;
	atomic_fetch_add(meeting->arrived, 1);
	while (atomic_load(meeting->arrived) < meeting->wanted)
		if (ps_clock_ns() > end)
			return ps_fail(PS_ESTALL, "nobody came");
	return PS_OK;
}

static ps_status queues_meet(ps_device *first, ps_device *second, int64_t patience_ns)
{
	_Atomic int arrived = 0;
	struct meeting meeting = {&arrived, 2, patience_ns};
	ps_queue *queues[2];
	check_ok(ps_queue_create(&queues[0], first, "a"));
	check_ok(ps_queue_create(&queues[1], second, "b"));
	for (int i = 0; i < 2; i++)
		check_ok(ps__cpu_launch(queues[i], meet, &meeting, sizeof meeting));
	ps_status status = ps_queue_finish(queues[0]);
	ps_status other = ps_queue_finish(queues[1]);
	ps_queue_destroy(queues[0]);
	ps_queue_destroy(queues[1]);
	return status != PS_OK ? status : other;
}

START_TEST(test_cores_work_at_once)
{
	ps_device *first, *second;
	if (cores() < 2)
		return;
	check_ok(ps_device_open(&first, "cpu:0"));
	check_ok(ps_device_open(&second, "cpu:1"));
	check_ok(queues_meet(first, second, 20 * SECOND));
	/* One device does one thing at a time, for its kernels use all its cores. */
	check_fails(queues_meet(first, first, SECOND / 20), PS_ESTALL);
	ps_device_close(first);
	ps_device_close(second);
}
END_TEST

static ps_status note_binding(const struct cpu_device *device, const void *arguments)
{
	int *const *result = arguments;
	hwloc_bitmap_t bound = hwloc_bitmap_alloc();
	int failed = !bound || hwloc_get_cpubind(device->topology, bound, HWLOC_CPUBIND_THREAD);
	**result = failed ? -1 : hwloc_bitmap_isequal(bound, device->cores);
	hwloc_bitmap_free(bound);
	return PS_OK;
}

START_TEST(test_threads_are_bound)
{
	static const char *const names[] = {"cpu", "cpu:0", "cpu:1"};
	ps_device *device;
	ps_queue *queue;
	int bound = -1, *result = &bound;
	if (_i == 2 && cores() < 2)
		return;
	check_ok(ps_device_open(&device, names[_i]));
	check_ok(ps_queue_create(&queue, device, "q"));
	check_ok(ps__cpu_launch(queue, note_binding, &result, sizeof result));
	check_ok(ps_queue_finish(queue));
	ck_assert_int_eq(bound, 1);
	ps_queue_destroy(queue);
	ps_device_close(device);
}
END_TEST

/* What put() made, in order. */
static char made[32][128];
static int made_count;

static void note_made(const char *path)
{
	ck_assert_int_lt(made_count, 32);
	snprintf(made[made_count++], sizeof made[0], "%s", path);
}

/* Writes one file of a make-believe /sys/fs/cgroup under `root`; `path` may have folders. */
static void put(const char *root, const char *path, const char *text)
{
	char name[128];
	snprintf(name, sizeof name, "%s/%s", root, path);
	for (char *slash = strchr(name + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		int failed = mkdir(name, 0700);
		ck_assert(!failed || errno == EEXIST);
		if (!failed)
			note_made(name);
		*slash = '/';
	}
	FILE *file = fopen(name, "w");
	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	ck_assert_int_eq(fclose(file), 0);
	note_made(name);
}

static void remove_made(void)
{
	while (made_count > 0)
		ck_assert_int_eq(remove(made[--made_count]), 0);
}

START_TEST(test_control_groups)
{
	static const struct {
		const char *self;
		const char *files[6][2];
		uint64_t memory;
		int cpus;
		uint64_t available;
	} rows[] = {
	        {"0::/\n", {{"memory.max", "max\n"}, {"cpu.max", "max 100000\n"}}, 0, 0, 0},
	        {"0::/\n", {{"memory.max", "4096\n"}, {"cpu.max", "150000 100000\n"}}, 4096, 2, 4096},
	        {"0::/a/b\n",
	         {{"a/memory.max", "1000\n"},
	          {"a/b/memory.max", "2000\n"},
	          {"a/b/cpu.max", "400000 100000\n"},
	          {"a/cpu.max", "max 100000\n"}},
	         1000,
	         4,
	         1000},
	        {"0::/../../x\n", {{"memory.max", "77\n"}}, 77, 0, 77},
	        {"0::/gone\n", {{"cpu.max", "100000 100000\n"}}, 0, 1, 0},
	        {"7:cpuset,cpu,cpuacct:/c\n4:memory:/m\n",
	         {{"cpu/c/cpu.cfs_quota_us", "250000\n"},
	          {"cpu/c/cpu.cfs_period_us", "100000\n"},
	          {"memory/m/memory.limit_in_bytes", "5\n"},
	          {"cpu/cpu.cfs_quota_us", "-1\n"},
	          {"cpu/cpu.cfs_period_us", "100000\n"}},
	         5,
	         3,
	         5},
	        {"7:cpuset:/c\nnonsense\n::\n",
	         {{"cpu/c/cpu.cfs_quota_us", "250000\n"}, {"cpu/c/cpu.cfs_period_us", "100000\n"}},
	         0,
	         0,
	         0},
	        {"0::/\n", {{"memory.max", ""}, {"cpu.max", "100000 0\n"}}, 0, 0, 0},
	        {"0::/a\n",
	         {{"memory.max", "1000\n"},
	          {"memory.current", "700\n"},
	          {"memory.stat", "anon 5\ninactive_file 100\n"},
	          {"a/memory.max", "900\n"},
	          {"a/memory.current", "50\n"}},
	         900,
	         0,
	         400},
	};
	char root[] = "/tmp/penstock-cgroup-XXXXXX", self[64];
	ck_assert_ptr_nonnull(mkdtemp(root));
	note_made(root);
	for (int i = 0; i < 6 && rows[_i].files[i][0]; i++)
		put(root, rows[_i].files[i][0], rows[_i].files[i][1]);
	put(root, "self", rows[_i].self);
	snprintf(self, sizeof self, "%s/self", root);
	struct ps__cgroup_limits limits = ps__cgroup_read(root, self);
	remove_made();
	ck_assert_uint_eq(limits.memory_bytes, rows[_i].memory);
	ck_assert_int_eq(limits.cpus, rows[_i].cpus);
	ck_assert_uint_eq(limits.memory_free, rows[_i].available);
}
END_TEST

START_TEST(test_no_control_groups)
{
	struct ps__cgroup_limits limits = ps__cgroup_read("/nowhere", "/nowhere/self");
	ck_assert_uint_eq(limits.memory_bytes, 0);
	ck_assert_int_eq(limits.cpus, 0);
	ck_assert_uint_gt(ps__memory_limit(), 0);
	ck_assert_uint_gt(ps__memory_available(), 0);
	ck_assert_uint_le(ps__memory_available(), ps__memory_limit());
	ck_assert_uint_gt(ps__memory_peak(), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("device");
	TCase *cases = tcase_create("device");
	tcase_set_timeout(cases, 60);
	tcase_add_test(cases, test_bad_names);
	tcase_add_test(cases, test_good_names);
	tcase_add_test(cases, test_list);
	tcase_add_test(cases, test_affinity);
	tcase_add_test(cases, test_cores_work_at_once);
	tcase_add_loop_test(cases, test_threads_are_bound, 0, 3);
	tcase_add_loop_test(cases, test_control_groups, 0, 9);
	tcase_add_test(cases, test_no_control_groups);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
