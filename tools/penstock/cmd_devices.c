/* `penstock devices`: what a stage can run on, what did not load and why, and how fast links are. */
#include "tools/penstock/command.h"
#include "tools/penstock/setup.h"

#include "bench/bench.h"
#include "train/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct device_options {
	bool json, measure_links;
	const char *stages;
} device_options;

static const option_row rows[] = {
        {.name = "json",
         .argument = "",
         .offset = offsetof(device_options, json),
         .help = "Write one JSON object in place of the table"},
        {.name = "measure-links",
         .argument = "",
         .offset = offsetof(device_options, measure_links),
         .help = "Copy between each pair of devices, compare bit for bit, show bandwidth and latency"},
        {.name = "stages",
         .kind = OPTION_TEXT,
         .argument = "DEV,DEV,...",
         .offset = offsetof(device_options, stages),
         .help = "Only the devices of these stages; default: all"},
};

static const device_options defaults;

const option_table devices_table = {
        .command = "devices",
        .usage = "[--json] [--measure-links] [--stages DEV,DEV,...]",
        .text = "Lists the devices that a stage can be put on, and the backends that did not load, with the reason.",
        .examples = "  penstock devices\n"
                    "  penstock devices --measure-links     # what a transfer between two of them costs\n"
                    "  penstock devices --measure-links --stages cpu:0-3,opencl:0\n"
                    "  penstock devices --json | python3 -m json.tool\n"
                    "  penstock train --stages cpu:0,cpu:1  # names as this list has them\n",
        .rows = rows,
        .count = sizeof rows / sizeof *rows,
        .defaults = &defaults,
};

/* A link that was measured, or why it could not be. */
typedef struct measured {
	const char *from, *to;
	ps_link_info info;
	ps_status status;
	char reason[256];
} measured;

/* Every ordered pair of the devices that are here. The caller frees *out. */
static ps_status measure(const ps_device_entry *entries, size_t count, measured **out, size_t *measured_count)
{
	measured *links = calloc(count * count + 1, sizeof *links);
	if (links == NULL)
		return ps_fail(PS_ENOMEM, "no memory for %zu links", count * count);
	size_t n = 0;
	for (size_t i = 0; i < count; i++) {
		for (size_t j = 0; j < count; j++) {
			if (i == j || entries[i].status != PS_OK || entries[j].status != PS_OK)
				continue;
			measured *link = &links[n++];
			link->from = entries[i].info.name;
			link->to = entries[j].info.name;
			link->status = bench_link_probe(link->from, link->to, &link->info);
			if (link->status != PS_OK)
				snprintf(link->reason, sizeof link->reason, "%s", ps_error_message());
		}
	}
	*out = links;
	*measured_count = n;
	return PS_OK;
}

static void print_table(const ps_device_entry *entries, size_t count, const measured *links, size_t link_count)
{
	printf("%-14s %-10s %10s  %s\n", "device", "backend", "memory", "what it is");
	for (size_t i = 0; i < count; i++) {
		const ps_device_info *info = &entries[i].info;
		if (entries[i].status != PS_OK) {
			printf("%-14s %-10s %10s  %s\n", "-", info->backend, "-", entries[i].reason);
			continue;
		}
		printf("%-14s %-10s %6.1f GiB  %s\n", info->name, info->backend,
		       (double)info->memory_bytes / (1024.0 * 1024 * 1024), info->description);
		if (info->note[0] != '\0')
			printf("%36s  %s\n", "", info->note);
	}
	if (link_count > 0)
		printf("\n%-14s %-14s %-8s %12s %12s\n", "from", "to", "link", "latency", "bandwidth");
	for (size_t i = 0; i < link_count; i++) {
		const ps_link_info *info = &links[i].info;
		if (links[i].status == PS_OK)
			printf("%-14s %-14s %-8s %9.1f us %7.2f GB/s%s%s\n", links[i].from, links[i].to,
			       ps_link_kind_name(info->kind), info->latency_s * 1e6, info->bandwidth_bytes_s * 1e-9,
			       *info->note ? "  " : "", info->note);
		else
			printf("%-14s %-14s %s\n", links[i].from, links[i].to, links[i].reason);
	}
}

static json_t *device_json(const ps_device_entry *entry)
{
	const ps_device_info *info = &entry->info;
	if (entry->status != PS_OK)
		return json_pack("{s:s, s:s, s:s}", "backend", info->backend, "status", ps_status_name(entry->status),
		                 "reason", entry->reason);
	return json_pack("{s:s, s:s, s:s, s:I, s:I, s:i, s:b, s:s}", "name", info->name, "backend", info->backend,
	                 "description", info->description, "memory_bytes", (json_int_t)info->memory_bytes,
	                 "max_buffer_bytes", (json_int_t)info->max_buffer_bytes, "compute_units", info->compute_units,
	                 "host_addressable", info->host_addressable, "note", info->note);
}

static json_t *link_json(const measured *link)
{
	if (link->status != PS_OK)
		return json_pack("{s:s, s:s, s:s, s:s}", "from", link->from, "to", link->to, "status",
		                 ps_status_name(link->status), "reason", link->reason);
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:s}", "from", link->from, "to", link->to, "kind",
	                 ps_link_kind_name(link->info.kind), "latency_s", ps__json_real(link->info.latency_s),
	                 "bandwidth_bytes_s", ps__json_real(link->info.bandwidth_bytes_s), "note", link->info.note);
}

static ps_status print_json(const ps_device_entry *entries, size_t count, const measured *links, size_t link_count)
{
	json_t *devices = json_array(), *unavailable = json_array(), *list = json_array();
	int failed = 0;
	for (size_t i = 0; i < count; i++)
		failed |= json_array_append_new(entries[i].status == PS_OK ? devices : unavailable,
		                                device_json(&entries[i]));
	for (size_t i = 0; i < link_count; i++)
		failed |= json_array_append_new(list, link_json(&links[i]));
	json_t *object = json_pack("{s:o, s:o, s:o}", "devices", devices, "unavailable", unavailable, "links", list);
	if (failed) {
		json_decref(object);
		object = NULL;
	}
	return command_print_json(object, true);
}

static bool has(const ps_device_entry *entries, size_t count, const char *name)
{
	size_t i = 0;
	while (i < count && strcmp(entries[i].info.name, name) != 0)
		i++;
	return i < count;
}

/* The devices that are named, each once. The caller frees *out with ps_device_list_free. */
static ps_status list_named(const char *text, ps_device_entry **out, size_t *count)
{
	char **names;
	int named;
	PS_TRY(stages_parse(&names, &named, text));
	ps_device_entry *entries = calloc((size_t)named, sizeof *entries);
	ps_status status = entries ? PS_OK : ps_fail(PS_ENOMEM, "no memory for %d devices", named);
	*count = 0;
	for (int i = 0; i < named && status == PS_OK; i++) {
		ps_device *device;
		status = ps_device_open(&device, names[i]);
		if (status != PS_OK)
			break;
		const ps_device_info *info = ps_device_get_info(device);
		if (!has(entries, *count, info->name))
			entries[(*count)++].info = *info;
		ps_device_close(device);
	}
	stages_free(names, named);
	if (status != PS_OK)
		free(entries);
	else
		*out = entries;
	return status;
}

static ps_status run(const device_options *options)
{
	ps_device_entry *entries;
	size_t count, link_count = 0;
	measured *links = NULL;
	PS_TRY(options->stages ? list_named(options->stages, &entries, &count) : ps_device_list(&entries, &count));
	ps_status status = PS_OK;
	if (options->measure_links)
		status = measure(entries, count, &links, &link_count);
	if (status == PS_OK && options->json)
		status = print_json(entries, count, links, link_count);
	else if (status == PS_OK)
		print_table(entries, count, links, link_count);
	free(links);
	ps_device_list_free(entries);
	return status;
}

int cmd_devices(int argc, char **argv)
{
	option_settings settings;
	int exit_status = EXIT_DONE;
	if (command_begin(&settings, &devices_table, argc, argv, &exit_status)) {
		device_options options = defaults;
		ps_status status = options_apply(&settings, &options);
		if (status == PS_OK)
			status = run(&options);
		if (status != PS_OK)
			exit_status = command_fail("devices", status);
	}
	options_finish(&settings);
	return exit_status;
}
