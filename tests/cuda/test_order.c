/*
 * The order of the cuda backend's streams against a stand-in for CUDA's runtime (not a GPU): queues and links that wait
 * for each other by events, on streams that run late.
 */
#include "tests/cuda/controls.h"
#include "tests/support/check.h"

#include <penstock/link.h>
#include <penstock/ops.h>

#include <string.h>
#include <time.h>

enum { DEVICES = 2, LARGE = 4096 };

static const struct fake_cuda *fake;
static ps_device *device[DEVICES];

static void set_up(void)
{
	fake = find_controls();
	for (int i = 0; i < DEVICES; i++)
		check_ok(ps_device_open(&device[i], i ? "cuda-emulated:1" : "cuda-emulated:0"));
}

static void tear_down(void)
{
	for (int i = 0; i < DEVICES; i++)
		ps_device_close(device[i]);
	end_well(fake, 0);
}

/* From the one device to the other; four chunks, which are the least there can be, are a whole tensor. */
static ps_link *make_link(int from, bool staged)
{
	const ps_link_options options = {.force_staged = staged, .skip_measure = true, .chunk_bytes = 4096};
	ps_link *link;
	check_ok(ps_link_create(&link, device[from], device[!from], "link", &options));
	ck_assert_int_eq(ps_link_get_info(link)->kind, staged ? PS_LINK_STAGED : PS_LINK_PEER);
	return link;
}

static ps_tensor whole(ps_buffer *buffer, int index)
{
	return ps_tensor_make(buffer, (uint64_t)index * LARGE * sizeof(float), PS_F32, 1, (int64_t[]){LARGE});
}

/*
 * Between GPUs without a path a transfer is given to the streams as a whole, with what follows it, while none of them
 * has moved: no thread of the host waits for a chunk.
 */
START_TEST(test_relay)
{
	/* A sum; reads and writes of four chunks; a copy. */
	enum { ROUNDS = 3, COMMANDS = 1 + 4 + 4 + 1 };
	static float sent[LARGE], seen[ROUNDS][LARGE];
	ps_queue *near, *far;
	ps_buffer *source, *target;
	ps_event arrived, kept = {0};
	ps_link *link = make_link(0, true);
	check_ok(ps_queue_create(&near, device[0], "near"));
	check_ok(ps_queue_create(&far, device[1], "far"));
	check_ok(ps_buffer_create(&source, device[0], sizeof sent));
	check_ok(ps_buffer_create(&target, device[1], sizeof sent + sizeof seen));
	ps_tensor from = whole(source, 0), to = whole(target, ROUNDS);
	for (int i = 0; i < LARGE; i++)
		sent[i] = (float)i;
	check_ok(ps_queue_write(near, from, sent));
	check_ok(ps_queue_finish(near));
	/* A queue's stream begins with a command of the queue's own, which is not to be among those that wait. */
	check_ok(ps_queue_zero(far, to));
	check_ok(ps_queue_finish(far));
	fake->hold(1);
	ck_assert_int_eq(fake->waiting(), 0);
	for (int round = 0; round < ROUNDS; round++) {
		check_ok(ps_run(near, add, .a = from, .b = from, .y = from));
		ps_event after[] = {ps_queue_record(near), kept};
		check_ok(ps_link_send(link, to, from, after, 2, NULL, &arrived));
		check_ok(ps_queue_wait(near, arrived));
		check_ok(ps_queue_wait(far, arrived));
		check_ok(ps_queue_copy(far, whole(target, round), to));
		kept = ps_queue_record(far);
	}
	for (int ms = 0; fake->waiting() < (long)ROUNDS * COMMANDS && ms < 10000; ms++)
		nanosleep(&(const struct timespec){.tv_nsec = 1000000}, NULL);
	long given = fake->waiting();
	fake->hold(0);
	ck_assert_int_eq(given, (long)ROUNDS * COMMANDS);
	for (int round = 0; round < ROUNDS; round++)
		check_ok(ps_queue_read(far, seen[round], whole(target, round)));
	check_ok(ps_queue_finish(far));
	check_ok(ps_queue_finish(near));
	for (int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < LARGE; i++)
			ck_assert_float_eq(seen[round][i], (float)(i * (2 << round)));
	ps_link_destroy(link);
	ps_queue_destroy(near);
	ps_queue_destroy(far);
	ps_buffer_destroy(source);
	ps_buffer_destroy(target);
}
END_TEST

static uint64_t random_state;

static unsigned pick(unsigned bound)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned)((random_state >> 11) % bound);
}

enum { QUEUES = 4, LINKS = 4, USERS = QUEUES + LINKS, BUFFERS = 6, STEPS = 400 };

/* A buffer, what it should hold, and which queue or link has it last written and read. */
struct cell {
	ps_buffer *buffer;
	int device;
	float value;
	ps_event written, read[USERS];
};

static ps_queue *queue[QUEUES]; /* on device i % 2 */
static ps_link *link_[LINKS];   /* from device i % 2; the first two are peers', the others staged */

static void before(ps_queue *waiting, const struct cell *cell, bool writes)
{
	check_ok(ps_queue_wait(waiting, cell->written));
	for (int i = 0; writes && i < USERS; i++)
		check_ok(ps_queue_wait(waiting, cell->read[i]));
}

static void look(struct cell *from, unsigned which, float *seen)
{
	before(queue[which], from, false);
	check_ok(ps_queue_read(queue[which], seen, ps_tensor_slice(whole(from->buffer, 0), 0, LARGE - 1, 1)));
	from->read[which] = ps_queue_record(queue[which]);
}

static void add_or_copy(struct cell *to, struct cell *from, unsigned which)
{
	ps_tensor x = whole(from->buffer, 0), y = whole(to->buffer, 0);
	before(queue[which], from, false);
	before(queue[which], to, true);
	if (from->device == to->device && to->value < 1000 && pick(2)) {
		check_ok(ps_run(queue[which], add, .a = x, .b = y, .y = y));
		to->value += from->value;
	} else {
		check_ok(ps_queue_copy(queue[which], y, x));
		to->value = from->value;
	}
	to->written = from->read[which] = ps_queue_record(queue[which]);
}

static void send(struct cell *to, struct cell *from)
{
	unsigned which = pick(LINKS / 2) * 2 + (unsigned)from->device;
	ps_event after[2 + USERS] = {from->written, to->written}, done;
	memcpy(after + 2, to->read, sizeof to->read);
	check_ok(ps_link_send(link_[which], whole(to->buffer, 0), whole(from->buffer, 0), after, 2 + USERS, NULL,
	                      &done));
	to->value = from->value;
	to->written = from->read[QUEUES + which] = done;
}

/* Waits until nothing runs: queues and links wait for each other's points, so that none goes before all are idle. */
static void finish(void)
{
	for (int i = 0; i < QUEUES; i++)
		check_ok(ps_queue_finish(queue[i]));
	for (int i = 0; i < LINKS; i++) {
		ps_event ends[2];
		ps_link_ends(link_[i], ends);
		check_ok(ps_event_wait(ends[0], -1));
		check_ok(ps_event_wait(ends[1], -1));
	}
}

/*
 * Random work on four queues and four links of two devices, ordered by events alone and compared with the same work
 * done one after the other. Streams run late, so that a wait that is lost shows as a wrong value.
 */
START_TEST(test_order_by_events)
{
	static float ones[LARGE], seen[STEPS];
	struct cell cells[BUFFERS];
	float want[STEPS];
	memset(cells, 0, sizeof cells);
	random_state = (uint64_t)_i * 7919 + 17;
	for (int i = 0; i < LARGE; i++)
		ones[i] = 1;
	for (int i = 0; i < LINKS; i++)
		link_[i] = make_link(i % 2, i >= 2);
	for (int i = 0; i < QUEUES; i++)
		check_ok(ps_queue_create(&queue[i], device[i % 2], "q"));
	for (int i = 0; i < BUFFERS; i++) {
		cells[i].device = i % 2;
		check_ok(ps_buffer_create(&cells[i].buffer, device[i % 2], sizeof ones));
		check_ok(ps_queue_write(queue[i % 2], whole(cells[i].buffer, 0), ones));
		cells[i].written = ps_queue_record(queue[i % 2]);
		cells[i].value = 1;
	}
	for (int step = 0; step < STEPS; step++) {
		unsigned which = pick(QUEUES);
		struct cell *to = &cells[pick(BUFFERS)], *from = &cells[pick(BUFFERS)];
		want[step] = seen[step] = from->value;
		if (to == from || pick(4) == 0)
			look(from, (which & 2) | (unsigned)from->device, &seen[step]);
		else if (to->device != from->device && pick(2))
			send(to, from);
		else
			/* A queue of either device copies from the one to the other. */
			add_or_copy(to, from, to->device == from->device ? (which & 2) | (unsigned)to->device : which);
	}
	finish();
	for (int step = 0; step < STEPS; step++)
		ck_assert_msg(seen[step] == want[step], "step %d of run %d saw %g, not %g", step, _i,
		              (double)seen[step], (double)want[step]);
	for (int i = 0; i < LINKS; i++)
		ps_link_destroy(link_[i]);
	for (int i = 0; i < QUEUES; i++)
		ps_queue_destroy(queue[i]);
	for (int i = 0; i < BUFFERS; i++)
		ps_buffer_destroy(cells[i].buffer);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("the order of cuda's streams against a stand-in for its runtime");
	TCase *tests = tcase_create("order");
	tcase_add_checked_fixture(tests, set_up, tear_down);
	tcase_set_timeout(tests, 300);
	tcase_add_test(tests, test_relay);
	tcase_add_loop_test(tests, test_order_by_events, 0, 8);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}
