/* Transfers between devices: how long one takes, from when it is given to the link until it has arrived. */
#include "bench/bench.h"

#include <stdlib.h>

enum { SIZES = 4, KINDS = 2, LARGEST_WORDS = 4 << 20, PROBES = 5 };

static const struct {
	const char *name;
	int64_t words;
} sizes[SIZES] = {{"4 B", 1}, {"64 KiB", 16 << 10}, {"1 MiB", 256 << 10}, {"16 MiB", LARGEST_WORDS}};

/* A link with room at both ends. */
struct ends {
	ps_device *from, *to;
	ps_buffer *source, *target;
	ps_link *link;
};

static ps_status ends_init(struct ends *out, const char *from, const char *to, bool staged)
{
	uint64_t bytes = LARGEST_WORDS * sizeof(int32_t);
	const ps_link_options options = {.force_staged = staged, .skip_measure = true};
	PS_TRY(ps_device_open(&out->from, from));
	PS_TRY(ps_device_open(&out->to, to));
	PS_TRY(ps_buffer_create(&out->source, out->from, bytes));
	PS_TRY(ps_buffer_create(&out->target, out->to, bytes));
	return ps_link_create(&out->link, out->from, out->to, "bench", &options);
}

static void ends_finish(struct ends *ends)
{
	ps_link_destroy(ends->link);
	ps_buffer_destroy(ends->source);
	ps_buffer_destroy(ends->target);
	ps_device_close(ends->to);
	ps_device_close(ends->from);
}

static ps_status transfer(const struct ends *ends, int64_t words, double *seconds)
{
	ps_tensor from = ps_tensor_make(ends->source, 0, PS_I32, 1, &words);
	ps_tensor to = ps_tensor_make(ends->target, 0, PS_I32, 1, &words);
	ps_event done;
	int64_t begin = ps_clock_ns();
	PS_TRY(ps_link_send(ends->link, to, from, NULL, 0, NULL, &done));
	PS_TRY(ps_event_wait(done, -1));
	*seconds = (double)(ps_clock_ns() - begin) * 1e-9;
	return PS_OK;
}

/* The least of several, after one for warming up. */
static ps_status probe(const struct ends *ends, int64_t words, double *least)
{
	for (int i = 0; i <= PROBES; i++) {
		double seconds;
		PS_TRY(transfer(ends, words, &seconds));
		if (i == 1 || (i > 1 && seconds < *least))
			*least = seconds;
	}
	return PS_OK;
}

ps_status bench_link_probe(const char *from, const char *to, ps_link_info *out)
{
	struct ends ends = {0};
	double small = 0, large = 0;
	ps_status status = ends_init(&ends, from, to, false);
	if (status == PS_OK)
		status = probe(&ends, 1, &small);
	if (status == PS_OK)
		status = probe(&ends, LARGEST_WORDS, &large);
	if (status == PS_OK) {
		*out = *ps_link_get_info(ends.link);
		out->latency_s = small;
		out->bandwidth_bytes_s = out->kind == PS_LINK_VIEW ? 0 : LARGEST_WORDS * sizeof(int32_t) / large;
	}
	ends_finish(&ends);
	return status;
}

struct transfer_case {
	struct ends *ends;
	int64_t words;
	int repeat;
};

static ps_status sample(void *payload, int round, double *seconds)
{
	struct transfer_case *one = payload;
	double sum = 0;
	for (int i = 0; i < one->repeat; i++) {
		PS_TRY(transfer(one->ends, one->words, seconds));
		sum += *seconds;
	}
	*seconds = sum / one->repeat;
	if (round == 0)
		one->repeat = one->words < LARGEST_WORDS ? 16 : 1;
	return PS_OK;
}

static ps_status report_ends(struct bench_report *report, const struct ends *ends, struct bench_case *cases)
{
	const ps_link_info *info = ps_link_get_info(ends->link);
	const char *from = ps_device_get_info(ends->from)->name, *to = ps_device_get_info(ends->to)->name;
	char section[64];
	snprintf(section, sizeof section, "%s to %s, %s", from, to, ps_link_kind_name(info->kind));
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
	struct ends *ends; /* as many as there may be */
	struct transfer_case *transfers;
	struct bench_case *cases;
	int count;
};

/* One more link, through the host if so asked; it is let go where the first already goes that way. */
static ps_status add_link(struct link_bench *bench, const char *from, const char *to, bool staged)
{
	struct ends *ends = &bench->ends[bench->count];
	if (staged && bench->ends[bench->count - 1].link != NULL &&
	    ps_link_get_info(bench->ends[bench->count - 1].link)->kind == PS_LINK_STAGED)
		return PS_OK;
	bench->count++;
	PS_TRY(ends_init(ends, from, to, staged));
	for (int i = 0; i < SIZES; i++) {
		int at = (bench->count - 1) * SIZES + i;
		bench->transfers[at] = (struct transfer_case){.ends = ends, .words = sizes[i].words, .repeat = 1};
		bench->cases[at] = (struct bench_case){.sample = sample, .payload = &bench->transfers[at]};
	}
	return PS_OK;
}

static ps_status measure(struct bench_report *report, struct link_bench *bench, const char *const *devices, int count,
                         const struct bench_run *run)
{
	for (int i = 0; i < count * count; i++) {
		const char *from = devices[i / count], *to = devices[i % count];
		if (i / count == i % count)
			continue;
		PS_TRY(add_link(bench, from, to, false));
		PS_TRY(add_link(bench, from, to, true));
		bench_report_device(report, ps_device_get_info(bench->ends[bench->count - 1].from));
		bench_report_device(report, ps_device_get_info(bench->ends[bench->count - 1].to));
	}
	PS_TRY(bench_measure(bench->cases, bench->count * SIZES, run, &report->interrupted));
	for (int i = 0; i < bench->count; i++)
		PS_TRY(report_ends(report, &bench->ends[i], &bench->cases[i * SIZES]));
	return PS_OK;
}

ps_status bench_link(struct bench_report *report, const char *const *devices, int count, const struct bench_run *run)
{
	size_t most = (size_t)count * (size_t)count * KINDS;
	struct link_bench bench = {.ends = calloc(most, sizeof *bench.ends),
	                           .transfers = calloc(most * SIZES, sizeof *bench.transfers),
	                           .cases = calloc(most * SIZES, sizeof *bench.cases)};
	ps_status status = bench.ends != NULL && bench.transfers != NULL && bench.cases != NULL
	                           ? measure(report, &bench, devices, count, run)
	                           : ps_fail(PS_ENOMEM, "no memory for the links between %d devices", count);
	for (int i = 0; i < bench.count; i++)
		ends_finish(&bench.ends[i]);
	for (int i = 0; i < bench.count * SIZES; i++)
		bench_samples_free(&bench.cases[i].samples);
	free(bench.cases);
	free(bench.transfers);
	free(bench.ends);
	return status;
}
