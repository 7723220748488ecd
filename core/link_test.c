/* A link's start-up test: does every byte arrive, is none changed around it, and how long does it take? */
#include "core/link.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 64, SMALL = 4, LATENCY_RUNS = 9, BANDWIDTH_RUNS = 3 };
#define LARGEST ((uint64_t)16 << 20)
/* No transfer of the test's sizes takes this long on anything that works. */
#define PATIENCE_NS ((int64_t)30 * 1000000000)

struct trial {
	ps_link *link;
	ps_queue *source, *target; /* to fill and to look */
	ps_buffer *from, *to;
	unsigned char *sent, *seen;
	uint64_t bytes; /* of each buffer and array */
};

/* xorshift64 (Marsaglia, "Xorshift RNGs", 2003): any pattern that does not repeat will do. */
static void fill_pattern(unsigned char *bytes, uint64_t count)
{
	uint64_t x = UINT64_C(0x9E3779B97F4A7C15);
	for (uint64_t i = 0; i < count; i += sizeof x) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(bytes + i, &x, sizeof x);
	}
}

static ps_tensor words(ps_buffer *buffer, uint64_t offset, uint64_t bytes)
{
	return ps_tensor_make(buffer, offset, PS_I32, 1, (int64_t[]){(int64_t)(bytes / 4)});
}

static ps_status transfer(const struct trial *t, uint64_t offset, uint64_t bytes)
{
	ps_event done;
	PS_TRY(ps_link_send(t->link, words(t->to, offset, bytes), words(t->from, offset, bytes), NULL, 0, NULL, &done));
	ps_status status = ps_event_wait(done, PATIENCE_NS);
	if (status == PS_ESTALL && !ps_event_done(done))
		return ps_fail(PS_ESTALL, "%" PRIu64 " bytes that were sent by the %s path have not arrived after %d s",
		               bytes, ps_link_kind_name(t->link->info.kind), (int)(PATIENCE_NS / 1000000000));
	return status;
}

/* Sends `bytes` from `offset` on; all of the target's other bytes must stay zero. */
static ps_status try_size(const struct trial *t, uint64_t offset, uint64_t bytes)
{
	uint64_t end = offset + bytes, reach = end + GUARD;
	PS_TRY(ps_queue_zero(t->target, words(t->to, 0, reach)));
	PS_TRY(ps_queue_finish(t->target));
	PS_TRY(transfer(t, offset, bytes));
	PS_TRY(ps_queue_read(t->target, t->seen, words(t->to, 0, reach)));
	PS_TRY(ps_queue_finish(t->target));
	for (uint64_t i = 0; i < reach;) {
		bool inside = i >= offset && i < end;
		/* Whole runs are compared at once; only where one differs is the byte looked for. */
		if (inside && i == offset && !memcmp(t->seen + offset, t->sent + offset, bytes)) {
			i = end;
			continue;
		}
		unsigned want = inside ? t->sent[i] : 0;
		if (t->seen[i] != want)
			return ps_fail(PS_EDEVICE,
			               "byte %" PRId64 " of %" PRIu64
			               " sent from %s to %s arrived as 0x%02x, not 0x%02x",
			               (int64_t)i - (int64_t)offset, bytes, t->link->from->info.name,
			               t->link->to->info.name, (unsigned)t->seen[i], want);
		i++;
	}
	return PS_OK;
}

static ps_status measure(const struct trial *t, uint64_t large)
{
	double latency = 0, best = 0;
	for (int i = 0; i < LATENCY_RUNS + BANDWIDTH_RUNS; i++) {
		bool small = i < LATENCY_RUNS;
		int64_t begin = ps_clock_ns();
		PS_TRY(transfer(t, GUARD, small ? SMALL : large));
		double seconds = (double)(ps_clock_ns() - begin) / 1e9;
		double *least = small ? &latency : &best;
		if (*least == 0 || seconds < *least)
			*least = seconds;
	}
	t->link->info.latency_s = latency;
	t->link->info.bandwidth_bytes_s = best > 0 ? (double)large / best : 0;
	return PS_OK;
}

static ps_status run(struct trial *t, uint64_t large, bool with_measure)
{
	ps_link *link = t->link;
	t->sent = malloc(t->bytes);
	t->seen = malloc(t->bytes);
	if (!t->sent || !t->seen)
		return ps_fail(PS_ENOMEM, "out of memory for the test of link %s", link->label);
	fill_pattern(t->sent, t->bytes);
	PS_TRY(ps_buffer_create(&t->from, link->from, t->bytes));
	PS_TRY(ps_buffer_create(&t->to, link->to, t->bytes));
	PS_TRY(ps_queue_create(&t->source, link->from, link->label));
	PS_TRY(ps_queue_create(&t->target, link->to, link->label));
	PS_TRY(ps_queue_write(t->source, words(t->from, 0, t->bytes), t->sent));
	PS_TRY(ps_queue_finish(t->source));
	/* From one word to several chunks, at even and odd places, none a round number but one. */
	const uint64_t sizes[] = {SMALL, 12, 4096, 4 * 1021, 4 * 16411, large};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		PS_TRY(try_size(t, GUARD + (i % 2 ? 4 : 0), sizes[i] < large ? sizes[i] : large));
	return with_measure ? measure(t, large) : PS_OK;
}

ps_status ps__link_test(ps_link *link, bool with_measure)
{
	/* Enough for both chunks of a staged link to be used again. */
	uint64_t large = link->chunk_bytes < LARGEST / 3 ? 3 * link->chunk_bytes + 12 : LARGEST;
	large = large / 4 * 4;
	struct trial trial = {.link = link, .bytes = (large + 3 * GUARD) / 8 * 8};
	ps_status status = run(&trial, large, with_measure);
	/* What does not come may still come, and may not find its memory gone. */
	if (status == PS_ESTALL)
		return status;
	ps_queue_destroy(trial.source);
	ps_queue_destroy(trial.target);
	/* After a failure the link may still be about to use the buffers. */
	ps_link_reset(link);
	ps_buffer_destroy(trial.from);
	ps_buffer_destroy(trial.to);
	free(trial.sent);
	free(trial.seen);
	return status;
}
