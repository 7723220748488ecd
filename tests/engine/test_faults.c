/*
 * Faults while a pipeline is made and while it runs: each is reported with its place, stops all stages, leaks nothing,
 * and leaves a pipeline that gives the bits of one to which nothing happened.
 */
#include "pipeline/internal.h"
#include "tests/engine/trial.h"

#include <penstock/train.h>

#include <stdio.h>
#include <stdlib.h>

/* What happens to one call while a pipeline is made. */
static struct hook_rule create_rule;
static int create_device;

static void add_create_rule(struct trial *trial, int device)
{
	if (device == create_device)
		hook_add_rule(&trial->hooks[device], &create_rule);
}

/* Every call of one kind in turn, on each device, refused or failed, until there are no more of them. */
START_TEST(test_create)
{
	const int kinds[] = {HOOK_BUFFER_CREATE, HOOK_QUEUE_CREATE, HOOK_ASK,  HOOK_WRITE, HOOK_READ,
	                     HOOK_COPY,          HOOK_PEER_COPY,    HOOK_ZERO, HOOK_OP,    HOOK_WAIT};
	int call = kinds[_i % 10];
	create_rule =
	        (struct hook_rule){.effect = _i < 10 ? HOOK_REFUSE : HOOK_FAIL, .call = call, .status = PS_EDEVICE};
	int failures = 0;
	for (create_device = 0; create_device < 2; create_device++) {
		bool fired = true;
		for (create_rule.nth = 1; fired; create_rule.nth++) {
			struct trial trial = {.hooked = true,
			                      .opened = add_create_rule,
			                      .encoder_layers = 1,
			                      .config = {.rank_count = 2,
			                                 .chunks = 2,
			                                 .links = {.force_staged = create_rule.nth % 2 == 0}}};
			ps_status status = trial_create(&trial);
			fired = atomic_load(&trial.hooks[create_device].fired) > 0;
			ck_assert(status == PS_OK || fired);
			if (status != PS_OK) {
				ck_assert_int_eq(status, PS_EDEVICE);
				check_message("injected");
				ck_assert_ptr_null(trial.pipeline);
				failures++;
			}
			trial_close(&trial);
		}
	}
	/* A link whose direct path fails its test is staged instead. */
	bool needed = call == HOOK_BUFFER_CREATE || call == HOOK_QUEUE_CREATE || (call == HOOK_ASK && _i < 10) ||
	              call == HOOK_WRITE || call == HOOK_READ || call == HOOK_ZERO;
	ck_assert(!needed || failures > 1);
}
END_TEST

START_TEST(test_no_device)
{
	struct trial trial = {.devices = {"ref#0", "nothing#1"}, .config = {.rank_count = 2}};
	check_fails(trial_create(&trial), PS_ENODEV);
	check_message("nothing");
	trial_close(&trial);
}
END_TEST

/* A pipeline with hooks, and what it should give for one step. */
static struct trial trial;
static struct outcome expected;
static struct hook_rule rule;

static void one_step(struct outcome *out)
{
	*out = (struct outcome){.steps = 1};
	check_ok(trial_train(&trial, 3, trial.config.rows, trial.config.time, &out->losses[0]));
	outcome_add_gradients(out, trial.pipeline);
}

static void set_up_with(const ps_pipeline_config *config)
{
	memset(&trial, 0, sizeof trial);
	trial.hooked = true;
	trial.config = *config;
	trial_open(&trial);
	check_ok(ps_pipeline_initialize(trial.pipeline));
	one_step(&expected);
}

static void tear_down(void)
{
	trial_close(&trial);
	outcome_free(&expected);
}

/* The next step of the same pipeline is as if nothing had happened. */
static void check_recovered(void)
{
	struct outcome again;
	for (int i = 0; i < trial.config.rank_count; i++)
		hook_clear(&trial.hooks[i]);
	one_step(&again);
	outcome_compare(&expected, &again, "after a fault");
	outcome_free(&again);
}

/* Is a second step put on its way before the first one's end is looked at? */
static bool step_behind;

static ps_status train_with_one_behind(double *loss)
{
	enum { MOST = 64 };
	int32_t inputs[MOST], targets[MOST];
	int64_t rows = trial.config.rows, time = trial.config.time;
	ck_assert_int_le(rows * time, MOST);
	trial_tokens(3, rows, time, inputs, targets);
	ps_batch batch = {.inputs = inputs, .targets = targets, .rows = rows, .time = time, .step = 3};
	for (; batch.step < 5; batch.step++) {
		ps_status status = ps_pipeline_submit(trial.pipeline, &batch);
		if (status != PS_OK)
			return status;
	}
	return ps_pipeline_collect(trial.pipeline, loss);
}

static void check_step_fails(ps_status status, const char *text)
{
	double loss;
	check_fails(step_behind ? train_with_one_behind(&loss)
	                        : trial_train(&trial, 3, trial.config.rows, trial.config.time, &loss),
	            status);
	ck_assert_msg(!strncmp(ps_error_message(), text, strlen(text)), "\"%s\" does not begin with \"%s\"",
	              ps_error_message(), text);
}

/* What the message about the n-th op that is enqueued on a device begins with; false when there are fewer. */
static bool place_of_op(int device, uint64_t n, char *text, size_t bytes)
{
	const ps_pipeline *pipeline = trial.pipeline;
	const struct program *program = pipeline->train;
	for (int i = 0; i < program->instruction_count; i++) {
		const struct instruction *instruction = &program->instructions[i];
		if (instruction->kind != INSTRUCTION_ACTION ||
		    pipeline->ranks[instruction->rank].device != pipeline->devices[device])
			continue;
		size_t count = ps_list_count(instruction->list);
		if (n > count) {
			n -= count;
			continue;
		}
		char label[48];
		const char *layer;
		ps_op op = ps_list_op(instruction->list, n - 1, &layer);
		ps_action_label(label, sizeof label, instruction->action);
		snprintf(text, bytes, "stage %d on hook:ref, %s, layer %s, %s: injected: %s, call ",
		         instruction->action.stage, label, layer, ps_op_name(op), ps_op_name(op));
		return true;
	}
	return false;
}

/* Every op of a step, on each device. */
static void fail_every_op(enum hook_effect effect)
{
	char text[256];
	for (int device = 0; device < trial.pipeline->device_count; device++) {
		uint64_t n = 1;
		for (; place_of_op(device, n, text, sizeof text); n++) {
			hook_add(&trial.hooks[device], .effect = effect, .call = HOOK_OP, .nth = n, .status = PS_EIO);
			check_step_fails(PS_EIO, text);
			check_recovered();
		}
		ck_assert_uint_gt(n, 20);
	}
}

START_TEST(test_every_op)
{
	const ps_pipeline_config configs[] = {
	        {.rank_count = 1, .chunks = 2},
	        {.rank_count = 3, .chunks = 2, .checkpoint = PS_CHECKPOINT_EXCEPT_LAST},
	        {.rank_count = 2, .chunks = 2, .weight_group = 1, .links = {.force_staged = true}},
	        {.rank_count = 2, .stage_count = 4, .chunks = 2, .schedule = "gpipe", .trace = true},
	};
	set_up_with(&configs[_i % 4]);
	fail_every_op(_i < 4 ? HOOK_FAIL : HOOK_REFUSE);
	tear_down();
}
END_TEST

/* The same, of the earlier one of two steps whose lists are both on their way. */
START_TEST(test_every_op_of_earlier_step)
{
	const ps_pipeline_config configs[] = {
	        {.rank_count = 1, .chunks = 2},
	        {.rank_count = 2, .chunks = 2, .weight_group = 1, .links = {.force_staged = true}},
	};
	set_up_with(&configs[_i]);
	step_behind = true;
	fail_every_op(HOOK_FAIL);
	step_behind = false;
	tear_down();
}
END_TEST

/* Every transfer of a step, forwards and backwards. */
START_TEST(test_transfers)
{
	step_behind = _i >= 4;
	bool staged = _i % 4 >= 2;
	const int calls[] = {HOOK_PEER_COPY, HOOK_PEER_COPY, HOOK_READ, HOOK_WRITE,
	                     HOOK_PEER_COPY, HOOK_PEER_COPY, HOOK_READ, HOOK_WRITE};
	const char *const queues[] = {"link 0>1", "link 1>0"}, *const letters[] = {"F", "B"};
	set_up_with(&(const ps_pipeline_config){.rank_count = 2, .chunks = 3, .links = {.force_staged = staged}});
	for (int k = 0; k < 2 * 3; k++) {
		int backward = k / 3, n = k % 3;
		/* A peer copy and a write are done by the destination, a read by the source. */
		int device = calls[_i] == HOOK_READ ? backward : !backward;
		char text[128];
		snprintf(text, sizeof text,
		         "transfer of %s%d from stage %d on hook:ref to stage %d on hook:ref: injected",
		         letters[backward], n, backward, !backward);
		hook_add(&trial.hooks[device], .effect = _i % 2 ? HOOK_REFUSE : HOOK_FAIL, .call = calls[_i],
		         .queue = queues[backward], .nth = (uint64_t)n + 1);
		check_step_fails(PS_EDEVICE, text);
		check_recovered();
	}
	step_behind = false;
	tear_down();
}
END_TEST

START_TEST(test_copies_in_and_out)
{
	set_up_with(&(const ps_pipeline_config){.rank_count = 2, .chunks = 2});
	rule = (struct hook_rule){.effect = _i ? HOOK_REFUSE : HOOK_FAIL, .call = HOOK_WRITE, .queue = "rank 0"};
	hook_add_rule(&trial.hooks[0], &rule);
	check_step_fails(PS_EDEVICE, "stage 0 on hook:ref, copying the tokens in: injected");
	check_recovered();
	rule.queue = "rank 1";
	hook_add_rule(&trial.hooks[1], &rule);
	check_step_fails(PS_EDEVICE, "stage 1 on hook:ref, copying the targets in: injected");
	check_recovered();
	rule.call = HOOK_READ;
	hook_add_rule(&trial.hooks[1], &rule);
	check_step_fails(PS_EDEVICE, "stage 1 on hook:ref, copying the losses out: injected");
	check_recovered();
	tear_down();
}
END_TEST

/* A rank that has to wait, because the other one is slow, and whose wait goes wrong by itself. */
START_TEST(test_waits)
{
	set_up_with(&(const ps_pipeline_config){.rank_count = 2, .chunks = 2});
	hook_add(&trial.hooks[0], .effect = HOOK_DELAY, .call = HOOK_OP, .delay_ns = 100000000);
	hook_add(&trial.hooks[1], .effect = _i ? HOOK_REFUSE : HOOK_FAIL, .call = HOOK_WAIT, .queue = "rank 1");
	check_step_fails(PS_EDEVICE, "stage 1 on hook:ref, F0: injected: wait");
	check_recovered();
	tear_down();
}
END_TEST

/* Work between steps, such as an optimizer's, fails: the next step says so and the one after it works. */
START_TEST(test_failure_between_steps)
{
	ps_parameter_view view;
	set_up_with(&(const ps_pipeline_config){.rank_count = 2, .chunks = 2});
	ps_pipeline_get_parameter(trial.pipeline, ps_pipeline_parameter_count(trial.pipeline) - 1, &view);
	hook_add(&trial.hooks[1], .effect = HOOK_FAIL, .call = HOOK_ZERO);
	check_ok(ps_queue_zero(view.queue, view.gradient));
	check_step_fails(PS_EDEVICE, "rank 1 on hook:ref: injected: zero");
	check_recovered();
	tear_down();
}
END_TEST

static const ps_pipeline_config impatient = {.rank_count = 2, .chunks = 2, .stall_timeout_s = 0.2};

START_TEST(test_stall)
{
	double loss;
	set_up_with(&impatient);
	hook_add(&trial.hooks[1], .effect = HOOK_HANG, .call = HOOK_OP_OF(attention_bwd));
	check_step_fails(PS_ESTALL, "no progress for 0.2 s; stage 1 on hook:ref, B0, layer layers.3, attention_bwd is "
	                            "not done");
	check_fails(trial_train(&trial, 3, 6, 5, &loss), PS_ESTALL);
	check_message("has stalled before");
	check_fails(ps_pipeline_read_parameter(trial.pipeline, 0, &loss), PS_ESTALL);
	hook_release(&trial.hooks[1]);
	tear_down();
}
END_TEST

START_TEST(test_stalled_transfer)
{
	ps_pipeline_config config = impatient;
	config.links.force_staged = _i;
	config.trace = true;
	set_up_with(&config);
	hook_add(&trial.hooks[1], .effect = HOOK_HANG, .call = _i ? HOOK_WRITE : HOOK_PEER_COPY, .queue = "link 0>1",
	         .nth = 2);
	check_step_fails(PS_ESTALL, "no progress for 0.2 s; the transfer of F1 from stage 0 on hook:ref to stage 1");
	size_t count;
	ck_assert_ptr_null(ps_pipeline_spans(trial.pipeline, &count));
	hook_release(&trial.hooks[1]);
	tear_down();
}
END_TEST

START_TEST(test_stalled_copy)
{
	set_up_with(&impatient);
	hook_add(&trial.hooks[1], .effect = HOOK_HANG, .call = HOOK_READ);
	check_step_fails(PS_ESTALL, "no progress for 0.2 s; stage 1 on hook:ref, copying the losses out is not done");
	hook_release(&trial.hooks[1]);
	tear_down();
}
END_TEST

/* One stage fails while another hangs: the failure is what is told, and nobody waits for ever. */
START_TEST(test_failure_and_hang)
{
	double loss;
	set_up_with(&impatient);
	/* Late enough for the other stage to have begun. */
	hook_add(&trial.hooks[0], .effect = HOOK_DELAY, .call = HOOK_OP_OF(attention_fwd), .nth = 3,
	         .delay_ns = 100000000);
	hook_add(&trial.hooks[0], .effect = HOOK_FAIL, .call = HOOK_OP_OF(attention_fwd), .nth = 3);
	hook_add(&trial.hooks[1], .effect = HOOK_HANG, .call = HOOK_OP);
	check_step_fails(PS_EDEVICE, "stage 0 on hook:ref, F1, layer layers.0, attention_fwd: injected");
	check_fails(trial_train(&trial, 3, 6, 5, &loss), PS_ESTALL);
	hook_release(&trial.hooks[1]);
	tear_down();
}
END_TEST

/* A slow device is no stall as long as something moves. */
START_TEST(test_slow_is_no_stall)
{
	set_up_with(&impatient);
	hook_add(&trial.hooks[0], .effect = HOOK_DELAY, .call = HOOK_OP_OF(gemm), .every = true, .delay_ns = 20000000);
	check_recovered();
	hook_add(&trial.hooks[0], .effect = HOOK_DELAY, .call = HOOK_OP_OF(attention_fwd), .every = true,
	         .delay_ns = 60000000);
	struct outcome again;
	one_step(&again);
	outcome_compare(&expected, &again, "slowly");
	outcome_free(&again);
	tear_down();
}
END_TEST

/* A pipeline whose device does not come back is left alone, and goes later. */
START_TEST(test_destroy_gives_up)
{
	double loss;
	set_up_with(&impatient);
	hook_add(&trial.hooks[1], .effect = HOOK_HANG, .call = HOOK_OP_OF(attention_bwd));
	check_fails(trial_train(&trial, 3, 6, 5, &loss), PS_ESTALL);
	ps_pipeline_destroy(trial.pipeline);
	ck_assert_int_gt(atomic_load(&trial.hooks[1].queues), 0);
	hook_release(&trial.hooks[1]);
	tear_down();
}
END_TEST

/* An update that hangs is a stall, too. */
START_TEST(test_stalled_update)
{
	double loss, norm;
	ps_sgd *sgd;
	set_up_with(&impatient);
	check_ok(ps_sgd_create(&sgd, trial.pipeline));
	check_ok(trial_train(&trial, 3, 6, 5, &loss));
	hook_add(&trial.hooks[1], .effect = HOOK_HANG, .call = HOOK_OP_OF(sgd));
	check_fails(ps_sgd_step(sgd, 0.5, 0.5, &norm), PS_ESTALL);
	check_message("no progress for 0.2 s; not done: rank 1 on hook:ref");
	check_fails(trial_train(&trial, 4, 6, 5, &loss), PS_ESTALL);
	ps_sgd_destroy(sgd);
	hook_release(&trial.hooks[1]);
	ps_sgd_destroy(sgd);
	tear_down();
}
END_TEST

static void *release_later(void *hook)
{
	int64_t until = ps_clock_ns() + 100000000;
	while (ps_clock_ns() < until)
		;
	hook_release(hook);
	return NULL;
}

/* Destroying a pipeline whose device still hangs waits for it. */
START_TEST(test_destroy_waits)
{
	pthread_t thread;
	ps_pipeline_config config = impatient;
	config.trace = true;
	set_up_with(&config);
	hook_add(&trial.hooks[_i], .effect = HOOK_HANG, .call = HOOK_OP, .nth = 5);
	check_step_fails(PS_ESTALL, "no progress for 0.2 s; stage");
	ck_assert(!pthread_create(&thread, NULL, release_later, &trial.hooks[_i]));
	tear_down();
	ck_assert(!pthread_join(thread, NULL));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("engine faults");
	TCase *cases = tcase_create("faults");
	tcase_set_timeout(cases, 300);
	tcase_add_loop_test(cases, test_create, 0, 20);
	tcase_add_test(cases, test_no_device);
	tcase_add_loop_test(cases, test_every_op, 0, 8);
	tcase_add_loop_test(cases, test_every_op_of_earlier_step, 0, 2);
	tcase_add_loop_test(cases, test_transfers, 0, 8);
	tcase_add_loop_test(cases, test_copies_in_and_out, 0, 2);
	tcase_add_loop_test(cases, test_waits, 0, 2);
	tcase_add_test(cases, test_failure_between_steps);
	tcase_add_test(cases, test_stall);
	tcase_add_loop_test(cases, test_stalled_transfer, 0, 2);
	tcase_add_test(cases, test_stalled_copy);
	tcase_add_test(cases, test_failure_and_hang);
	tcase_add_test(cases, test_slow_is_no_stall);
	tcase_add_loop_test(cases, test_destroy_waits, 0, 2);
	tcase_add_test(cases, test_destroy_gives_up);
	tcase_add_test(cases, test_stalled_update);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
