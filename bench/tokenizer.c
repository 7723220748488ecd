/* From a folder of text to token ids. */
#include "bench/bench.h"

struct folder {
	const char *path;
	uint64_t bytes;
};

static ps_status sample(void *payload, int round, double *seconds)
{
	struct folder *folder = payload;
	ps_corpus *corpus;
	(void)round;
	int64_t begin = ps_clock_ns();
	PS_TRY(ps_corpus_open(&corpus, folder->path, &(const ps_corpus_options){.cache_dir = ""}));
	*seconds = (double)(ps_clock_ns() - begin) * 1e-9;
	folder->bytes = 0;
	for (int split = 0; split < PS_SPLIT_COUNT; split++)
		folder->bytes += ps_corpus_split_info(corpus, (ps_split)split).bytes;
	ps_corpus_close(corpus);
	return PS_OK;
}

ps_status bench_tokenizer(struct bench_report *report, const char *path, const struct bench_run *run)
{
	struct folder folder = {.path = path};
	struct bench_case one = {.sample = sample, .payload = &folder};
	ps_status status = bench_measure(&one, 1, run, &report->interrupted);
	struct bench_stats stats = bench_samples_stats(&one.samples);
	bench_samples_free(&one.samples);
	if (status != PS_OK || stats.count == 0)
		return status;
	struct bench_row *row;
	PS_TRY(bench_report_add(&row, report, "text", "words, vocabulary and ids of three splits", BENCH_SECONDS,
	                        stats));
	row->figures[BENCH_MB_S] = (double)folder.bytes / stats.median * 1e-6;
	return PS_OK;
}
