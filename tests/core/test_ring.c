/* The ring between two threads: everything arrives once, in order and unharmed, whatever the backlog. */
#include "core/bell.h"
#include "core/ring.h"
#include "tests/support/check.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct flow {
	struct ps__ring ring;
	struct ps__bell bell;
	uint64_t wrong, seen, items;
};

/* Item i has so many bytes, all of them (unsigned char)i, after its number. */
static size_t size_of(uint64_t i)
{
	return sizeof(uint64_t) + (size_t)(i * 2654435761U % (PS__RING_ITEM - sizeof(uint64_t) + 1));
}

static bool push(struct flow *flow, uint64_t i)
{
	unsigned char *item = ps__ring_reserve(&flow->ring, size_of(i));
	if (!item)
		return false;
	memset(item, (unsigned char)i, size_of(i));
	memcpy(item, &i, sizeof i);
	ps__ring_push(&flow->ring);
	ps__bell_ring(&flow->bell);
	return true;
}

static bool matches(const unsigned char *item, uint64_t i)
{
	uint64_t number;
	memcpy(&number, item, sizeof number);
	for (size_t at = sizeof i; at < size_of(i); at++)
		if (item[at] != (unsigned char)i)
			return false;
	return number == i;
}

static void *reader(void *argument)
{
	struct flow *flow = argument;
	bool hushed = false;
	while (flow->seen < flow->items) {
		const unsigned char *item = ps__ring_front(&flow->ring);
		if (!item) {
			if (hushed)
				ps__bell_wait(&flow->bell);
			else
				ps__bell_hush(&flow->bell);
			hushed = !hushed;
			continue;
		}
		hushed = false;
		flow->wrong += !matches(item, flow->seen);
		/* Still there when asked for again. */
		flow->wrong += item != ps__ring_front(&flow->ring);
		flow->seen++;
		ps__ring_pop(&flow->ring);
	}
	return NULL;
}

static void check_flow(uint64_t before, uint64_t items)
{
	struct flow flow = {.items = items};
	pthread_t thread;
	check_ok(ps__ring_init(&flow.ring));
	check_ok(ps__bell_init(&flow.bell));
	for (uint64_t i = 0; i < before; i++)
		ck_assert(push(&flow, i));
	ck_assert_int_eq(pthread_create(&thread, NULL, reader, &flow), 0);
	for (uint64_t i = before; i < items; i++)
		ck_assert(push(&flow, i));
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_uint_eq(flow.seen, items);
	ck_assert_uint_eq(flow.wrong, 0);
	ck_assert_ptr_null(ps__ring_front(&flow.ring));
	ps__ring_finish(&flow.ring);
	ps__bell_finish(&flow.bell);
}

/* With nothing waiting when the reader starts, with a little, and with many chunks full. */
START_TEST(test_flow)
{
	static const uint64_t before[] = {0, 1, 70, 5000};
	check_flow(before[_i], 20000);
}
END_TEST

START_TEST(test_empty)
{
	check_flow(0, 0);
	check_flow(1, 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ring");
	TCase *cases = tcase_create("ring");
	tcase_add_loop_test(cases, test_flow, 0, 4);
	tcase_add_test(cases, test_empty);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
