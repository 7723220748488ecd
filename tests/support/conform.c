/* Conformance rows as Check tests. */
#include "support/conform.h"

#include "core/backend.h"
#include "core/registry.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEVICES = 32, PRINTED = 8 };

static struct {
	char text[2048];
	const char *names[MAX_DEVICES];
	size_t count;
	bool known;
	int rows, compared; /* of the whole program */
} run;

uint64_t conform_seed(void)
{
	const char *text = getenv("PS_TEST_SEED");
	return text && *text ? strtoull(text, NULL, 0) : 1;
}

ps_dropout conform_dropout(const struct conform_drop *drop)
{
	return ps__conform_dropout(conform_seed(), drop);
}

/* Device names go into run.text one after the other. */
static void add_device(const char *name, size_t length)
{
	size_t used =
	        run.count ? (size_t)(run.names[run.count - 1] - run.text) + strlen(run.names[run.count - 1]) + 1 : 0;
	if (!length || run.count == MAX_DEVICES || used + length >= sizeof run.text)
		return;
	memcpy(run.text + used, name, length);
	run.text[used + length] = '\0';
	if (strcmp(run.text + used, "ref") != 0)
		run.names[run.count++] = run.text + used;
}

static void list_devices(void)
{
	ps_device_entry *entries;
	size_t count;
	if (ps_device_list(&entries, &count) != PS_OK) {
		fprintf(stderr, "no list of devices: %s\n", ps_error_message());
		return;
	}
	for (size_t i = 0; i < count; i++) {
		const ps_device_info *info = &entries[i].info;
		bool spare = !strncmp(info->name, "cpu:", 4) && strcmp(info->name, "cpu:0") != 0;
		if (entries[i].status != PS_OK)
			fprintf(stderr, "skip: no %s: %s\n", info->backend, entries[i].reason);
		else if (!spare)
			add_device(info->name, strlen(info->name));
	}
	ps_device_list_free(entries);
}

const char *const *conform_devices(size_t *count)
{
	if (!run.known) {
		run.known = true;
		const char *list = getenv("PS_TEST_DEVICES");
		if (!list || !*list)
			list_devices();
		for (const char *at = list; at && *at; at += strcspn(at, ","), at += *at == ',')
			add_device(at, strcspn(at, ","));
	}
	*count = run.count;
	return run.names;
}

int conform_device_count(void)
{
	size_t count;
	conform_devices(&count);
	return (int)count + 1;
}

const char *conform_device(int index)
{
	size_t count;
	return index == 0 ? "ref" : conform_devices(&count)[index - 1];
}

ps_verify_config conform_config(const char *const *devices, size_t count,
                                void (*report)(void *payload, const ps_verify_result *result), void *payload)
{
	const char *limit = getenv("PS_TEST_ELEMENTS");
	return (ps_verify_config){.devices = devices,
	                          .device_count = (int)count,
	                          .seed = conform_seed(),
	                          .elements = limit && *limit ? strtoll(limit, NULL, 10) : 0,
	                          .report = report,
	                          .payload = payload};
}

/* Does the device multiply like this? Those that do not in bf16 may lack all of bf16. */
static bool has_math(const char *name, ps_math math)
{
	ps_device *device;
	if (ps_device_open(&device, name) != PS_OK)
		return true;
	bool has = device->backend->has_math(device, math);
	ps_device_close(device);
	return has;
}

/* May a device leave out rows of the set in this dtype, or lack the op altogether? */
static bool may_skip(const ps_verify_result *result, const struct conform_set *set)
{
	const ps_backend *backend;
	size_t length = strcspn(result->device, ":");
	if (result->status == PS_ETOOBIG)
		return getenv("PS_TEST_ELEMENTS") != NULL;
	return result->status == PS_ENOTSUP &&
	       (result->dtype == PS_F64 || !has_math(result->device, set->math) ||
	        (ps__backend_find(&backend, result->device, length) == PS_OK && !ps__backend_has(backend, set->op)));
}

struct tally {
	const struct conform_set *set;
	int failures;
};

static void count_result(void *payload, const ps_verify_result *result)
{
	struct tally *tally = payload;
	run.rows++;
	run.compared += result->tensor != NULL;
	if (result->outcome == PS_VERIFY_SAME || (result->outcome == PS_VERIFY_SKIPPED && may_skip(result, tally->set)))
		return;
	if (tally->failures++ < PRINTED)
		fprintf(stderr, "%s %s row %zu %s on %s (seed %" PRIu64 "; %s): %s\n", result->subject,
		        ps_dtype_name(result->dtype), result->row, result->part, result->device, conform_seed(),
		        result->shapes, result->message);
}

void conform_check(const struct conform_set *set)
{
	size_t count;
	const char *const *devices = conform_devices(&count);
	struct tally tally = {.set = set};
	ps_verify_config config = conform_config(devices, count, count_result, &tally);
	ck_assert_msg(ps__conform_run(&config, set, 1, false) == PS_OK, "%s", ps_error_message());
	ck_assert_msg(tally.failures == 0, "%s: %d failures; PS_TEST_SEED=%" PRIu64 " repeats them",
	              ps_op_name(set->op), tally.failures, conform_seed());
}

int conform_suite_run(Suite *suite)
{
	printf("PS_TEST_SEED=%" PRIu64 "\n", conform_seed());
	SRunner *runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	if (failed)
		return EXIT_FAILURE;
	if (run.rows && !run.compared) {
		printf("skip: there is no device with these ops besides the reference\n");
		return 77;
	}
	if (run.rows)
		printf("%d rows, %d comparisons with the reference\n", run.rows, run.compared);
	return EXIT_SUCCESS;
}
