/* Tokens and targets out of range fail the queue on every device, and the table of ops has no gaps where it must not.
 */
#include "support/conform.h"
#include "support/rig.h"

#include "core/backend.h"
#include "core/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VOCABULARY = 10, BAD_ROW = 2, BAD_TIME = 1, TIME = 3, ROWS = 4, WIDTH = 5 };

static const int64_t bad_words[] = {-1, VOCABULARY, 2147483647, -2147483647 - 1};

/* The queue failed with a message that names the op, the value and the bound; afterwards it can be used again. */
static void expect_failure(struct rig *rig, ps_op op, const void *arguments, size_t bytes, int64_t word)
{
	char value[32], bound[32];
	check_ok(ps_op_run(rig->queue, op, arguments, bytes));
	ps_status status = ps_queue_finish(rig->queue);
	const char *message = ps_error_message();
	snprintf(value, sizeof value, "%lld", (long long)word);
	snprintf(bound, sizeof bound, "%d", (int)VOCABULARY);
	ck_assert_msg(status == PS_EINVAL, "%s on %s took token %s: %s", ps_op_name(op), ps_queue_label(rig->queue),
	              value, ps_status_name(status));
	ck_assert_msg(strstr(message, ps_op_name(op)) && strstr(message, value) && strstr(message, bound),
	              "%s on %s says too little: %s", ps_op_name(op), ps_queue_label(rig->queue), message);
	ps_queue_reset(rig->queue);
	check_ok(ps_queue_finish(rig->queue));
}

START_TEST(words_out_of_range)
{
	struct rig rig;
	rig_open(&rig, conform_device(_i));
	const ps_backend *backend = ps_queue_device(rig.queue)->backend;
	ps_tensor weight = rig_tensor(&rig, PS_F32, RIG_DIMS(VOCABULARY, WIDTH), NULL);
	ps_tensor positions = rig_tensor(&rig, PS_F32, RIG_DIMS(TIME, WIDTH), NULL);
	ps_tensor y = rig_tensor(&rig, PS_F32, RIG_DIMS(ROWS, TIME, WIDTH), NULL);
	ps_tensor logits = rig_tensor(&rig, PS_F32, RIG_DIMS(ROWS * TIME, VOCABULARY), NULL);
	ps_tensor losses = rig_tensor(&rig, PS_F32, RIG_DIMS(ROWS * TIME), NULL);
	ps_tensor tokens = rig_tensor(&rig, PS_I32, RIG_DIMS(ROWS, TIME), NULL);
	for (size_t i = 0; i < sizeof bad_words / sizeof *bad_words; i++) {
		double words[ROWS * TIME] = {0};
		words[BAD_ROW * TIME + BAD_TIME] = (double)bad_words[i];
		rig_set(&rig, tokens, words);
		const ps_args_embedding_fwd fwd = {.tokens = tokens, .weight = weight, .positions = positions, .y = y};
		const ps_args_embedding_bwd_weight bwd = {.tokens = tokens, .dy = y, .dweight = weight};
		const ps_args_cross_entropy loss = {.logits = logits, .targets = tokens, .losses = losses};
		if (ps__backend_has(backend, PS_OP_embedding_fwd))
			expect_failure(&rig, PS_OP_embedding_fwd, &fwd, sizeof fwd, bad_words[i]);
		if (ps__backend_has(backend, PS_OP_embedding_bwd_weight))
			expect_failure(&rig, PS_OP_embedding_bwd_weight, &bwd, sizeof bwd, bad_words[i]);
		if (ps__backend_has(backend, PS_OP_cross_entropy))
			expect_failure(&rig, PS_OP_cross_entropy, &loss, sizeof loss, bad_words[i]);
	}
	/* What comes after the failure is skipped, and works after the reset. */
	if (ps__backend_has(backend, PS_OP_embedding_fwd) && ps__backend_has(backend, PS_OP_add)) {
		ps_tensor sum = rig_tensor(&rig, PS_F32, RIG_DIMS(1), (double[]){3});
		check_ok(ps_run(rig.queue, embedding_fwd, .tokens = tokens, .weight = weight, .positions = positions,
		                .y = y));
		check_ok(ps_run(rig.queue, add, .a = sum, .b = sum, .y = sum));
		ck_assert_int_eq(ps_queue_finish(rig.queue), PS_EINVAL);
		ps_queue_reset(rig.queue);
		double value;
		rig_get(&rig, sum, &value);
		/* A device that learns of the failure after the fact may have run what it had been given. */
		if (ps_device_get_info(ps_queue_device(rig.queue))->host_addressable)
			ck_assert_double_eq(value, 3);
		rig_set(&rig, sum, (double[]){3});
		rig_run(&rig, add, .a = sum, .b = sum, .y = sum);
		rig_get(&rig, sum, &value);
		ck_assert_double_eq(value, 6);
	}
	rig_close(&rig);
}
END_TEST

/* The built-in backends have every op. */
START_TEST(no_gaps)
{
	static const char *const names[] = {"ref", "cpu"};
	const ps_backend *backend;
	check_ok(ps__backend_find(&backend, names[_i], strlen(names[_i])));
	for (int op = 0; op < PS_OP_COUNT; op++)
		ck_assert_msg(ps__backend_has(backend, (ps_op)op), "%s has no %s", names[_i], ps_op_name((ps_op)op));
}
END_TEST

/* Every op has conformance rows, and every family of them is a test of its own. */
START_TEST(no_op_without_rows)
{
	bool has_rows[PS_OP_COUNT] = {false};
	size_t count;
	const struct conform_family *const *families = ps__conform_families(&count);
	for (size_t i = 0; i < count; i++) {
		ck_assert_msg(strstr(FAMILIES, families[i]->name) != NULL, "no test runs %s", families[i]->name);
		for (size_t s = 0; s < families[i]->count; s++)
			has_rows[families[i]->sets[s].op] = true;
	}
	for (int op = 0; op < PS_OP_COUNT; op++)
		ck_assert_msg(has_rows[op], "%s has no rows", ps_op_name((ps_op)op));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("refusals");
	TCase *tests = tcase_create("refusals");
	tcase_add_loop_test(tests, words_out_of_range, 0, conform_device_count());
	tcase_add_loop_test(tests, no_gaps, 0, 2);
	tcase_add_test(tests, no_op_without_rows);
	suite_add_tcase(suite, tests);
	return conform_suite_run(suite);
}
