/* The peaks of a device, and ops measured beside them. */
#include "bench/op_set.h"

#include <math.h>
#include <stdlib.h>

enum { LARGEST_SQUARE = 4096, SMALLEST_SQUARE = 256 };
/* Of the tensors that are copied: beyond most caches. */
#define COPY_BYTES ((uint64_t)256 << 20)
/* A product is large enough for the peak when it takes this long. */
#define SQUARE_SECONDS 20e-3

void bench_op_set_add(struct bench_op_set *set, const char *section, const char *name, struct bench_op op)
{
	int i = set->count++;
	set->ops[i] = op;
	set->texts[i].section = section;
	snprintf(set->texts[i].name, sizeof set->texts[i].name, "%s", name);
}

static ps_status time_copies(const struct bench_op_set *set, int count, double *seconds)
{
	ps_status status = PS_OK;
	int64_t begin = ps_clock_ns();
	for (int i = 0; status == PS_OK && i < count; i++)
		status = ps_queue_copy(set->rig.queue, set->to, set->from);
	ps_status finished = ps_queue_finish(set->rig.queue);
	*seconds = (double)(ps_clock_ns() - begin) * 1e-9;
	return status != PS_OK ? status : finished;
}

static ps_status sample_copy(void *payload, int round, double *seconds)
{
	struct bench_op_set *set = payload;
	PS_TRY(time_copies(set, set->copies, seconds));
	*seconds /= set->copies;
	if (round == 0)
		set->copies = bench_repeats(*seconds);
	return PS_OK;
}

/* The smallest square product, by doubling, that takes long enough. */
static ps_status choose_square(struct bench_op_set *set)
{
	struct bench_rig *rig = &set->rig;
	for (int64_t n = SMALLEST_SQUARE;; n *= 2) {
		int kept = rig->buffer_count;
		ps_tensor a = BENCH_TENSOR(rig, set->factors, n, n), b = BENCH_TENSOR(rig, set->factors, n, n);
		ps_tensor c = BENCH_TENSOR(rig, set->values, n, n);
		PS_TRY(rig->status);
		set->square = BENCH_OP(rig, gemm, 2.0 * (double)n * (double)n * (double)n, .a = a, .b = b, .c = c,
		                       .trans_b = true);
		double least = INFINITY;
		for (int i = 0; i < 3; i++) {
			double seconds;
			PS_TRY(bench_op_time(&set->square, 1, &seconds));
			least = fmin(least, seconds);
		}
		if (least >= SQUARE_SECONDS || n == LARGEST_SQUARE)
			return PS_OK;
		bench_tensors_free(rig, kept);
	}
}

static ps_status init_peaks(struct bench_op_set *set)
{
	struct bench_rig *rig = &set->rig;
	uint64_t limit = ps_device_get_info(rig->device)->max_buffer_bytes;
	uint64_t bytes = limit != 0 && limit < COPY_BYTES ? limit : COPY_BYTES;
	int64_t count = (int64_t)(bytes / 4);
	set->from = bench_zeros(rig, count);
	set->to = bench_zeros(rig, count);
	PS_TRY(rig->status);
	set->copies = 1;
	set->relu = BENCH_OP(rig, relu_fwd, 0, .x = set->from, .y = set->to);
	PS_TRY(choose_square(set));
	set->cases[0] = (struct bench_case){.sample = sample_copy, .payload = set};
	set->cases[1] = (struct bench_case){.sample = bench_op_sample, .payload = &set->relu};
	set->cases[2] = (struct bench_case){.sample = bench_op_sample, .payload = &set->square};
	return PS_OK;
}

/* Work for each second; NaN where nothing was measured. */
static double rate(double work, const struct bench_stats *stats)
{
	return stats->count > 0 ? work / stats->median : NAN;
}

static ps_status report_peaks(struct bench_report *report, struct bench_op_set *set, double *copy, double *product)
{
	static const char *const names[] = {"copy", "relu", "square product"};
	struct bench_row *row;
	double rates[BENCH_PEAK_CASES];
	for (int i = 0; i < BENCH_PEAK_CASES; i++) {
		struct bench_stats stats = bench_samples_stats(&set->cases[i].samples);
		rates[i] = rate(i < 2 ? set->relu.necessary_bytes : set->square.flops, &stats);
		if (stats.count == 0)
			continue;
		PS_TRY(bench_report_add(&row, report, "peaks", names[i], BENCH_SECONDS, stats));
		row->figures[i < 2 ? BENCH_GB_S : BENCH_GFLOP_S] = rates[i] * 1e-9;
	}
	*copy = fmax(rates[0], rates[1]); /* of a NaN and a number it is the number */
	*product = rates[2];
	return PS_OK;
}

static ps_status report_rows(struct bench_report *report, struct bench_op_set *set)
{
	double copy, product;
	PS_TRY(report_peaks(report, set, &copy, &product));
	for (int i = 0; i < set->count; i++) {
		const struct bench_op *op = &set->ops[i];
		struct bench_stats stats = bench_samples_stats(&set->cases[BENCH_PEAK_CASES + i].samples);
		struct bench_row *row;
		if (stats.count == 0)
			continue;
		PS_TRY(bench_report_add(&row, report, set->texts[i].section, set->texts[i].name, BENCH_SECONDS, stats));
		double bytes_s = rate(op->necessary_bytes, &stats), flop_s = rate(op->flops, &stats);
		if (bytes_s > 0)
			row->figures[BENCH_GB_S] = bytes_s * 1e-9;
		if (flop_s > 0)
			row->figures[BENCH_GFLOP_S] = flop_s * 1e-9;
		row->figures[BENCH_PEAK_SHARE] = fmax(bytes_s / copy, flop_s / product);
	}
	return PS_OK;
}

static ps_status measure(struct bench_report *report, struct bench_op_set *set, const struct bench_run *run)
{
	for (int i = 0; i < set->count; i++)
		set->cases[BENCH_PEAK_CASES + i] =
		        (struct bench_case){.sample = bench_op_sample, .payload = &set->ops[i]};
	PS_TRY(bench_measure(set->cases, BENCH_PEAK_CASES + set->count, run, &report->interrupted));
	return report_rows(report, set);
}

static ps_status open_device(struct bench_op_set *set, const struct bench_device *device)
{
	set->values = device->dtype;
	set->weights = device->bf16_weights ? PS_BF16 : device->dtype;
	set->factors = device->math == PS_MATH_BF16 ? PS_BF16 : device->dtype;
	PS_TRY(bench_rig_open(&set->rig, device->name));
	return ps_queue_set_math(set->rig.queue, device->math);
}

ps_status bench_op_set_run(struct bench_report *report, const struct bench_device *device,
                           void (*fill)(struct bench_op_set *set, const struct bench_sizes *sizes),
                           const struct bench_sizes *sizes, int count, const struct bench_run *run)
{
	struct bench_op_set *set = calloc(1, sizeof *set);
	if (set == NULL)
		return ps_fail(PS_ENOMEM, "no memory for a set of ops");
	ps_status status = open_device(set, device);
	if (status == PS_OK) {
		bench_report_device(report, ps_device_get_info(set->rig.device));
		status = init_peaks(set);
	}
	if (status == PS_OK) {
		for (int i = 0; i < count; i++)
			fill(set, &sizes[i]);
		status = set->rig.status;
	}
	if (status == PS_OK)
		status = measure(report, set, run);
	for (int i = 0; i < BENCH_PEAK_CASES + BENCH_MOST_OPS; i++)
		bench_samples_free(&set->cases[i].samples);
	bench_rig_close(&set->rig);
	free(set);
	return status;
}
