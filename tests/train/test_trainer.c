/* The trainer: its reports, the best weights, and runs that are cut off and go on. */
#include "support/check.h"
#include "support/tiny_run.h"

#include <penstock/bf16.h>

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "trainer-XXXXXX";
enum { NAMES = 8 };
static char names[NAMES][64];

static void setup(void)
{
	strcpy(folder, "trainer-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	for (int i = 0; i < NAMES; i++)
		snprintf(names[i], sizeof names[i], "%s/%d", folder, i);
}

static void teardown(void)
{
	DIR *dir = opendir(folder);
	char path[400];
	for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
		snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
		unlink(path);
	}
	if (dir != NULL)
		closedir(dir);
	rmdir(folder);
}

/* Two epochs of five steps, windows of two: lines after 2, 4 and 5 steps, means over what they cover, rates used. */
START_TEST(reports)
{
	struct tiny_run run = {.dropout = 0.2};
	check_ok(tiny_run(&run));
	ck_assert_int_eq(run.step_count, 10);
	ck_assert_int_eq(run.eval_count, 3);
	ck_assert_int_eq(run.window_count, 6);
	static const int64_t ends[] = {2, 4, 5};
	for (int i = 0; i < 6; i++) {
		const ps_window_report *window = &run.windows[i];
		int first = i / 3 * 5 + (i % 3) * 2, count = i % 3 == 2 ? 1 : 2;
		double loss = 0;
		for (int k = 0; k < count; k++)
			loss += run.steps[first + k].loss / count;
		ck_assert_int_eq(window->epoch, i / 3 + 1);
		ck_assert_int_eq(window->batch, ends[i % 3]);
		ck_assert_int_eq(window->batches, 5);
		ck_assert_double_eq_tol(window->loss, loss, 1e-12);
		ck_assert_double_eq(window->lr, i < 3 ? 1.0 : 0.5);
		ck_assert_double_gt(window->ms_per_batch, 0);
	}
	for (int i = 0; i < 10; i++) {
		ck_assert_int_eq(run.steps[i].epoch, i / 5 + 1);
		ck_assert_int_eq(run.steps[i].step, i % 5 + 1);
		ck_assert_int_eq(run.steps[i].done, i + 1);
		ck_assert_int_eq(run.steps[i].all_steps, 10);
		ck_assert_double_eq(run.steps[i].lr, i < 5 ? 1.0 : 0.5);
		ck_assert_double_gt(run.steps[i].grad_norm, 0);
	}
	ck_assert_int_eq(run.evals[2].split, PS_SPLIT_TEST);
	ck_assert_double_eq(run.result.test_loss, run.evals[2].loss);
	ck_assert(!run.result.interrupted);
}
END_TEST

/* All batches of an epoch, the last of them shorter: the window's mean is by tokens. */
START_TEST(short_last_batch)
{
	struct tiny_run run = {.epochs = 1, .steps_per_epoch = 1000, .log_interval = 1000, .lr = 0.3};
	check_ok(tiny_run(&run));
	/* It learns. */
	ck_assert_double_lt(run.evals[0].loss, run.steps[0].loss - 0.2);
	size_t count;
	tiny_tokens(PS_SPLIT_TRAIN, &count);
	int64_t rows = (int64_t)count / TINY_ROWS - 1;
	ck_assert_int_eq(run.step_count, (rows + TINY_TIME - 1) / TINY_TIME);
	double loss = 0, tokens = 0;
	for (int i = 0; i < run.step_count; i++) {
		loss += run.steps[i].loss * (double)run.steps[i].tokens;
		tokens += (double)run.steps[i].tokens;
	}
	ck_assert_int_eq((int64_t)tokens, rows * TINY_ROWS);
	ck_assert_int_eq(run.steps[run.step_count - 1].tokens, rows % TINY_TIME * TINY_ROWS);
	ck_assert_int_eq(run.window_count, 1);
	ck_assert_double_eq_tol(run.windows[0].loss, loss / tokens, 1e-12);
}
END_TEST

/* The six mistakes of the published tutorial, each by its formula in docs/tutorial.md. */
START_TEST(mistakes)
{
	struct tiny_run right = {.epochs = 1, .steps_per_epoch = 7},
	                run = {.epochs = 3,
	                       .steps_per_epoch = 7,
	                       .mistakes = {.first_window = true, .printed_rate = true}};
	check_ok(tiny_run(&run));
	/* Lines at batches 2, 4 and 6, counted from 0; the first covers three steps and divides by two. */
	ck_assert_int_eq(run.window_count, 9);
	for (int i = 0; i < 9; i++) {
		int first = i % 3 == 0 ? 0 : i % 3 * 2 + 1, end = i % 3 * 2 + 3;
		double loss = 0;
		for (int k = first; k < end; k++)
			loss += run.steps[i / 3 * 7 + k].loss;
		ck_assert_int_eq(run.windows[i].batch, i % 3 * 2 + 2);
		ck_assert_double_eq_tol(run.windows[i].loss, loss / 2, 1e-12);
	}
	static const double printed[] = {1, 0.25, 0.125}, used[] = {1, 0.5, 0.25};
	for (int e = 0; e < 3; e++) {
		ck_assert_double_eq(run.windows[3 * e].lr, printed[e]);
		ck_assert_double_eq(run.steps[7 * e].lr, used[e]);
	}

	/* Rows per evaluation batch times the mean of each batch, over the length of the split. */
	struct tiny_run fraction = {.epochs = 1, .steps_per_epoch = 7, .mistakes = {.evaluation_fraction = true}};
	check_ok(tiny_run(&right));
	check_ok(tiny_run(&fraction));
	ck_assert_double_eq(right.steps[6].loss, fraction.steps[6].loss);
	size_t count;
	tiny_tokens(PS_SPLIT_VALID, &count);
	int64_t length = (int64_t)count / TINY_EVAL_ROWS;
	double rows = (double)length - 1, batches = ceil(rows / TINY_TIME);
	double ratio = fraction.evals[0].loss / right.evals[0].loss;
	ck_assert_double_eq_tol(ratio, batches * TINY_EVAL_ROWS / rows, 0.05);

	struct tiny_run misaligned = {.epochs = 1, .steps_per_epoch = 7, .mistakes = {.misaligned_targets = true}};
	check_ok(tiny_run(&misaligned));
	ck_assert_double_ne(misaligned.steps[0].loss, right.steps[0].loss);
}
END_TEST

/* A rate that ruins the second epoch: the test must be that of the weights after the first. */
static const double ruinous = 400;

START_TEST(best)
{
	struct tiny_run one = {.epochs = 1, .save = names[0]};
	struct tiny_run memory = {.lr_decay = ruinous}, file = {.lr_decay = ruinous, .save = names[1]};
	struct tiny_run last = {.lr_decay = ruinous, .mistakes = {.best_is_last = true}};
	check_ok(tiny_run(&one));
	check_ok(tiny_run(&memory));
	check_ok(tiny_run(&file));
	check_ok(tiny_run(&last));
	ck_assert_double_gt(memory.evals[1].loss, memory.evals[0].loss);
	ck_assert_int_eq(memory.result.best_epoch, 1);
	ck_assert_double_eq(memory.result.best_loss, memory.evals[0].loss);
	ck_assert_double_eq(memory.result.test_loss, one.result.test_loss);
	ck_assert_double_eq(file.result.test_loss, one.result.test_loss);
	ck_assert_double_gt(last.result.test_loss, one.result.test_loss);
	ck_assert(file.result.saved);
	/* The file is that of the first epoch, though the rates that its metadata tells are others. */
	ps_safetensors *a, *b;
	check_ok(ps_safetensors_open(&a, names[0]));
	check_ok(ps_safetensors_open(&b, names[1]));
	ck_assert_int_eq(ps_safetensors_count(a), ps_safetensors_count(b));
	for (int i = 0; i < ps_safetensors_count(a); i++)
		ck_assert_int_eq(memcmp(ps_safetensors_get(a, i)->data, ps_safetensors_get(b, i)->data,
		                        ps_safetensors_get(a, i)->bytes),
		                 0);
	ck_assert_str_eq(ps_safetensors_metadata(b, "epoch"), "1");
	ck_assert_str_eq(ps_safetensors_metadata(b, "format"), "pt");
	ps_safetensors_close(a);
	ps_safetensors_close(b);
}
END_TEST

/* Cut off after each number of steps, and gone on with: the saved files equal the uninterrupted run's. */
static void check_resume_of(struct tiny_run whole, int64_t stop_after, bool with_save, bool other_shape)
{
	static const int cut[] = {1, 3, 1};
	struct tiny_run first, second;
	whole.dropout = 0.2;
	whole.save_last = names[0];
	first = whole;
	whole.save = with_save ? names[1] : NULL;
	first.save = with_save ? names[2] : NULL;
	first.save_last = names[3];
	first.stop_after = stop_after;
	second = first;
	second.stop_after = 0;
	second.resume = names[3];
	second.save_last = names[4];
	if (other_shape) {
		second.devices = "ref ref ref";
		second.balance = cut;
		second.schedule = "gpipe";
		second.chunks = 5;
		second.checkpoint = PS_CHECKPOINT_ALWAYS;
	}
	check_ok(tiny_run(&whole));
	check_ok(tiny_run(&first));
	ck_assert(first.result.interrupted);
	ck_assert_int_eq(first.step_count, stop_after);
	check_ok(tiny_run(&second));
	ck_assert_int_eq(second.step_count, 10 - stop_after);
	ck_assert_double_eq(second.result.test_loss, whole.result.test_loss);
	for (int i = 0; i < second.step_count; i++) {
		ck_assert_double_eq(second.steps[i].loss, whole.steps[stop_after + i].loss);
		ck_assert_double_eq(second.steps[i].grad_norm, whole.steps[stop_after + i].grad_norm);
	}
	if (stop_after < 10)
		ck_assert_double_eq(second.windows[second.window_count - 1].loss, whole.windows[5].loss);
	/* The line that covers steps of both processes. */
	if (stop_after == 3)
		ck_assert_double_eq(second.windows[0].loss, whole.windows[1].loss);
	ck_assert(tiny_same_files(names[0], names[4]));
	ck_assert(!with_save || tiny_same_files(names[1], names[2]));
}

static void check_resume(int64_t stop_after, double lr_decay, bool with_save, bool other_shape)
{
	check_resume_of((struct tiny_run){.lr_decay = lr_decay}, stop_after, with_save, other_shape);
}

/* Masters and copies, or bf16 weights, whose updates are rounded at random by the number of the step. */
START_TEST(resume_bf16)
{
	const struct tiny_run kind = {.math = PS_MATH_BF16,
	                              .bf16_weights = _i % 2,
	                              .lr_decay = _i / 2 ? ruinous : 0.5,
	                              .devices = _i / 2 ? "cpu:0" : NULL};
	check_resume_of(kind, 3, false, _i / 2 == 0);
	check_resume_of(kind, 7, _i / 2 == 0, false);
}
END_TEST

START_TEST(resume)
{
	check_resume(_i + 1, 0.5, false, _i % 2 == 1);
}
END_TEST

START_TEST(resume_with_save)
{
	check_resume(_i + 1, 0.5, true, false);
}
END_TEST

/* The best weights are no longer the live ones when the run is cut off. */
START_TEST(resume_behind_the_best)
{
	check_resume(_i + 5, ruinous, false, false);
	check_resume(_i + 5, ruinous, true, true);
}
END_TEST

/* A finished run goes on to more epochs as if they had been asked for at once. */
START_TEST(extend)
{
	struct tiny_run whole = {.epochs = 3, .dropout = 0.1, .save_last = names[0]};
	struct tiny_run first = {.epochs = 1, .dropout = 0.1, .save_last = names[1]};
	struct tiny_run second = {.epochs = 3, .dropout = 0.1, .resume = names[1], .save_last = names[1]};
	check_ok(tiny_run(&whole));
	check_ok(tiny_run(&first));
	check_ok(tiny_run(&second));
	ck_assert(tiny_same_files(names[0], names[1]));
	ck_assert_double_eq(whole.result.test_loss, second.result.test_loss);
}
END_TEST

START_TEST(resume_refused)
{
	struct tiny_run first = {.seed = 5, .save = names[0], .save_last = names[1], .stop_after = 7};
	check_ok(tiny_run(&first));
	struct tiny_run other = {.seed = 6, .save = names[0], .resume = names[1]};
	check_fails(tiny_run(&other), PS_EINVAL);
	check_message("seed 5, this run has 6");
	struct tiny_run rate = {.seed = 5, .lr = 2, .save = names[0], .resume = names[1]};
	check_fails(tiny_run(&rate), PS_EINVAL);
	check_message("lr 1, this run has 2");
	struct tiny_run steps = {.seed = 5, .steps_per_epoch = 6, .save = names[0], .resume = names[1]};
	check_fails(tiny_run(&steps), PS_EINVAL);
	check_message("--steps-per-epoch 5, this run has 6");
	struct tiny_run published = {.seed = 5, .mistakes.no_mask = true, .save = names[0], .resume = names[1]};
	check_fails(tiny_run(&published), PS_EINVAL);
	check_message("was saved with another --preset (mistakes)");
	struct tiny_run fewer = {.seed = 5, .epochs = 1, .save = names[0], .resume = names[1]};
	check_fails(tiny_run(&fewer), PS_EINVAL);
	check_message("--epochs 1");
	struct tiny_run lost = {.seed = 5, .resume = names[1]};
	check_fails(tiny_run(&lost), PS_EINVAL);
	check_message("give that --save again");
	struct tiny_run wrong = {.seed = 5, .save = names[2], .resume = names[0]};
	check_fails(tiny_run(&wrong), PS_EFORMAT);
	check_message("has no state");
	struct tiny_run stranger = {.seed = 5, .epochs = 1, .lr = 0.5, .save = names[3]};
	check_ok(tiny_run(&stranger));
	struct tiny_run elsewhere = {.seed = 5, .save = names[3], .resume = names[1]};
	check_fails(tiny_run(&elsewhere), PS_EINVAL);
	check_message("does not hold the best weights");
	ck_assert(!tiny_same_files(names[0], names[3]));
}
END_TEST

/* Weights by name from a file; anything missing, foreign or of another shape is refused. */
START_TEST(init)
{
	struct tiny_run first = {.epochs = 1, .save_last = names[0], .stop_after = 3};
	check_ok(tiny_run(&first));
	struct tiny_run again = {
	        .epochs = 1, .init = names[0], .save_last = names[1], .steps_per_epoch = 1, .lr = 1e-30};
	check_ok(tiny_run(&again));
	ps_safetensors *a, *b;
	check_ok(ps_safetensors_open(&a, names[0]));
	check_ok(ps_safetensors_open(&b, names[1]));
	int count = ps_safetensors_count(a);
	for (int i = 0; i < count; i++)
		ck_assert_int_eq(memcmp(ps_safetensors_get(a, i)->data, ps_safetensors_get(b, i)->data,
		                        ps_safetensors_get(a, i)->bytes),
		                 0);
	ps_safetensors_close(b);

	static const char *const messages[] = {"has no encoder.weight", "shape (12, 37), the model's is (37, 12)",
	                                       "foreign.weight is no parameter",
	                                       "is int32; weights must be F32 or BF16"};
	for (int fault = 0; fault < 4; fault++) {
		ps_saved_tensor tensors[64] = {{0}};
		ps_safetensors_writer *writer;
		for (int i = 0; i < count; i++)
			tensors[i] = *ps_safetensors_get(a, i);
		int n = count - (fault == 0);
		ck_assert_str_eq(tensors[0].name, "encoder.weight");
		if (fault == 1) {
			tensors[0].dims[0] = TINY_EMSIZE;
			tensors[0].dims[1] = TINY_VOCABULARY;
		}
		if (fault == 2)
			tensors[n++] =
			        (ps_saved_tensor){.name = "foreign.weight", .data = "", .dtype = PS_F32, .rank = 1};
		if (fault == 3)
			tensors[0].dtype = PS_I32;
		const ps_saved_tensor *from = fault == 0 ? tensors + 1 : tensors;
		check_ok(ps_safetensors_writer_create(&writer, names[2], from, n, NULL, 0));
		for (int i = 0; i < n; i++)
			check_ok(ps_safetensors_writer_put(writer, from[i].data));
		check_ok(ps_safetensors_writer_commit(writer));
		struct tiny_run refused = {.init = names[2], .epochs = 1};
		check_fails(tiny_run(&refused), PS_EFORMAT);
		check_message(messages[fault]);
		check_message(names[2]);
	}
	ps_safetensors_close(a);
}
END_TEST

/* A loss that is no number ends the run, names the step, and saves nothing over what there was. */
static float value_of(const ps_saved_tensor *tensor, uint64_t i)
{
	return tensor->dtype == PS_BF16 ? ps_bf16_widen(((const uint16_t *)tensor->data)[i])
	                                : ((const float *)tensor->data)[i];
}

/*
 * Files of all precisions start runs of all others: bf16 saves fp32, as fp32 does, and bf16-pure saves its matrices as
 * BF16, which others widen without loss; what it takes itself is rounded to the nearest.
 */
START_TEST(files_of_all_precisions)
{
	static const struct {
		ps_math math;
		bool bf16_weights;
	} precisions[] = {{PS_MATH_F32, false}, {PS_MATH_BF16, false}, {PS_MATH_BF16, true}};
	ps_math from_math = precisions[_i / 3].math, to_math = precisions[_i % 3].math;
	bool from_pure = precisions[_i / 3].bf16_weights, to_pure = precisions[_i % 3].bf16_weights;
	struct tiny_run first = {
	        .epochs = 1, .math = from_math, .bf16_weights = from_pure, .save_last = names[0], .stop_after = 3};
	struct tiny_run second = {.epochs = 1,
	                          .math = to_math,
	                          .bf16_weights = to_pure,
	                          .init = names[0],
	                          .save_last = names[1],
	                          .steps_per_epoch = 1,
	                          .lr = 1e-30};
	check_ok(tiny_run(&first));
	check_ok(tiny_run(&second));
	ps_safetensors *a, *b;
	check_ok(ps_safetensors_open(&a, names[0]));
	check_ok(ps_safetensors_open(&b, names[1]));
	for (int i = 0; i < ps_safetensors_count(a); i++) {
		const ps_saved_tensor *from = ps_safetensors_get(a, i), *to = ps_safetensors_get(b, i);
		ck_assert_int_eq(from->dtype, from_pure && from->rank == 2 ? PS_BF16 : PS_F32);
		ck_assert_int_eq(to->dtype, to_pure && to->rank == 2 ? PS_BF16 : PS_F32);
		for (uint64_t e = 0; e < from->bytes / ps_dtype_bytes(from->dtype); e++) {
			float value = value_of(from, e);
			ck_assert_float_eq(value_of(to, e),
			                   to->dtype == PS_BF16 ? ps_bf16_widen(ps_bf16_round(value)) : value);
		}
	}
	ps_safetensors_close(a);
	ps_safetensors_close(b);
}
END_TEST

START_TEST(not_a_number)
{
	struct tiny_run run = {.lr = 1e30, .save_last = names[0]};
	check_fails(tiny_run(&run), PS_ENUMERIC);
	check_message("epoch 1, step ");
	ck_assert_int_ne(access(names[0], F_OK), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("trainer");
	TCase *cases = tcase_create("trainer");
	tcase_set_timeout(cases, 120);
	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, reports);
	tcase_add_test(cases, short_last_batch);
	tcase_add_test(cases, mistakes);
	tcase_add_test(cases, best);
	tcase_add_loop_test(cases, resume_bf16, 0, 4);
	tcase_add_loop_test(cases, files_of_all_precisions, 0, 9);
	tcase_add_loop_test(cases, resume, 0, 10);
	tcase_add_loop_test(cases, resume_with_save, 0, 10);
	tcase_add_loop_test(cases, resume_behind_the_best, 0, 5);
	tcase_add_test(cases, extend);
	tcase_add_test(cases, resume_refused);
	tcase_add_test(cases, init);
	tcase_add_test(cases, not_a_number);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
