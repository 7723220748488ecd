/* Transfers between devices: how long one takes, from when it is given to the link until it has arrived. */
#include "bench/bench.h"

#include <stdlib.h>

enum { SIZES = 4, KINDS = 2, LARGEST_WORDS = 4 << 20, PROBES = 5 };

static const struct {
	const char *name;
	int64_t words;
} sizes[SIZES] = {{"4 B", 1}, {"64 KiB", 16 << 10}, {"1 MiB", 256 << 10}, {"16 MiB", LARGEST_WORDS}};

/* A device with what it sends and where it receives. */
struct end {
	ps_device *device;
	ps_buffer *source, *target;
};

struct path {
	const struct end *from, *to;
	ps_link *link;
};

static ps_status end_init(struct end *out, const char *device)
{
	uint64_t bytes = LARGEST_WORDS * sizeof(int32_t);
	PS_TRY(ps_device_open(&out->device, device));
	PS_TRY(ps_buffer_create(&out->source, out->device, bytes));
	return ps_buffer_create(&out->target, out->device, bytes);
}

static void end_finish(struct end *end)
{
	ps_buffer_destroy(end->source);
	ps_buffer_destroy(end->target);
	ps_device_close(end->device);
}

static ps_status path_init(struct path *out, const struct end *from, const struct end *to, bool staged)
{
	const ps_link_options options = {.force_staged = staged, .skip_measure = true};
	out->from = from;
	out->to = to;
	return ps_link_create(&out->link, from->device, to->device, "bench", &options);
}

static ps_status transfer(const struct path *path, int64_t words, double *seconds)
{
	ps_tensor from = ps_tensor_make(path->from->source, 0, PS_I32, 1, &words);
	ps_tensor to = ps_tensor_make(path->to->target, 0, PS_I32, 1, &words);
	ps_event done;
	int64_t begin = ps_clock_ns();
	PS_TRY(ps_link_send(path->link, to, from, NULL, 0, NULL, &done));
	PS_TRY(ps_event_wait(done, -1));
	*seconds = (double)(ps_clock_ns() - begin) * 1e-9;
	return PS_OK;
}

/* The least of several, after one for warming up. */
static ps_status probe(const struct path *path, int64_t words, double *least)
{
	for (int i = 0; i <= PROBES; i++) {
		double seconds;
		PS_TRY(transfer(path, words, &seconds));
		if (i == 1 || (i > 1 && seconds < *least))
			*least = seconds;
	}
	return PS_OK;
}

ps_status bench_link_probe(const char *from, const char *to, ps_link_info *out)
{
	struct end ends[2] = {{0}};
	struct path path = {0};
	double small = 0, large = 0;
	ps_status status = end_init(&ends[0], from);
	if (status == PS_OK)
		status = end_init(&ends[1], to);
	if (status == PS_OK)
		status = path_init(&path, &ends[0], &ends[1], false);
	if (status == PS_OK)
		status = probe(&path, 1, &small);
	if (status == PS_OK)
		status = probe(&path, LARGEST_WORDS, &large);
	if (status == PS_OK) {
		*out = *ps_link_get_info(path.link);
		out->latency_s = small;
		out->bandwidth_bytes_s = LARGEST_WORDS * sizeof(int32_t) / large;
	}
	ps_link_destroy(path.link);
	end_finish(&ends[0]);
	end_finish(&ends[1]);
	return status;
}

struct transfer_case {
	const struct path *path;
	int64_t words;
	int repeat;
};

static ps_status sample(void *payload, int round, double *seconds)
{
	struct transfer_case *one = payload;
	double sum = 0;
	for (int i = 0; i < one->repeat; i++) {
		PS_TRY(transfer(one->path, one->words, seconds));
		sum += *seconds;
	}
	*seconds = sum / one->repeat;
	if (round == 0)
		one->repeat = one->words < LARGEST_WORDS ? 16 : 1;
	return PS_OK;
}

static ps_status report_path(struct bench_report *report, const struct path *path, struct bench_case *cases)
{
	const ps_device_info *from = ps_device_get_info(path->from->device), *to = ps_device_get_info(path->to->device);
	char section[64];
	snprintf(section, sizeof section, "%s to %s, %s", from->name, to->name,
	         ps_link_kind_name(ps_link_get_info(path->link)->kind));
	for (int i = 0; i < SIZES; i++) {
		struct bench_stats stats = bench_samples_stats(&cases[i].samples);
		struct bench_row *row;
		if (stats.count == 0)
			continue;
		PS_TRY(bench_report_add(&row, report, section, sizes[i].name, BENCH_SECONDS, stats));
		row->figures[BENCH_GB_S] = (double)sizes[i].words * sizeof(int32_t) / stats.median * 1e-9;
	}
	return PS_OK;
}

struct link_bench {
	struct end *ends;
	int end_count;
	struct path *paths; /* as many as there may be */
	struct transfer_case *transfers;
	struct bench_case *cases;
	int count;
};

static ps_status add_path(struct link_bench *bench, const struct end *from, const struct end *to, bool staged)
{
	struct path *path = &bench->paths[bench->count];
	PS_TRY(path_init(path, from, to, staged));
	for (int i = 0; i < SIZES; i++) {
		int at = bench->count * SIZES + i;
		bench->transfers[at] = (struct transfer_case){.path = path, .words = sizes[i].words, .repeat = 1};
		bench->cases[at] = (struct bench_case){.sample = sample, .payload = &bench->transfers[at]};
	}
	bench->count++;
	return PS_OK;
}

/* The link that there is and, unless it already goes that way, one through the host. */
static ps_status add_pair(struct link_bench *bench, const struct end *from, const struct end *to)
{
	PS_TRY(add_path(bench, from, to, false));
	if (ps_link_get_info(bench->paths[bench->count - 1].link)->kind == PS_LINK_STAGED)
		return PS_OK;
	return add_path(bench, from, to, true);
}

static ps_status measure(struct bench_report *report, struct link_bench *bench, const char *const *devices, int count,
                         const struct bench_run *run)
{
	for (; bench->end_count < count; bench->end_count++) {
		struct end *end = &bench->ends[bench->end_count];
		ps_status status = end_init(end, devices[bench->end_count]);
		if (status != PS_OK) {
			end_finish(end);
			return status;
		}
		bench_report_device(report, ps_device_get_info(end->device));
	}
	for (int from = 0; from < count; from++) {
		for (int to = 0; to < count; to++) {
			if (from != to)
				PS_TRY(add_pair(bench, &bench->ends[from], &bench->ends[to]));
		}
	}
	PS_TRY(bench_measure(bench->cases, bench->count * SIZES, run, &report->interrupted));
	for (int i = 0; i < bench->count; i++)
		PS_TRY(report_path(report, &bench->paths[i], &bench->cases[i * SIZES]));
	return PS_OK;
}

ps_status bench_link(struct bench_report *report, const char *const *devices, int count, const struct bench_run *run)
{
	if (count < 2)
		return ps_fail(PS_EINVAL, "a link is between two devices; give at least two");
	size_t most = (size_t)count * (size_t)count * KINDS;
	struct link_bench bench = {.ends = calloc((size_t)count, sizeof *bench.ends),
	                           .paths = calloc(most, sizeof *bench.paths),
	                           .transfers = calloc(most * SIZES, sizeof *bench.transfers),
	                           .cases = calloc(most * SIZES, sizeof *bench.cases)};
	ps_status status = bench.ends != NULL && bench.paths != NULL && bench.transfers != NULL && bench.cases != NULL
	                           ? measure(report, &bench, devices, count, run)
	                           : ps_fail(PS_ENOMEM, "no memory for the links between %d devices", count);
	for (int i = 0; i < bench.count; i++)
		ps_link_destroy(bench.paths[i].link);
	for (int i = 0; i < bench.count * SIZES; i++)
		bench_samples_free(&bench.cases[i].samples);
	for (int i = 0; i < bench.end_count; i++)
		end_finish(&bench.ends[i]);
	free(bench.cases);
	free(bench.transfers);
	free(bench.paths);
	free(bench.ends);
	return status;
}
