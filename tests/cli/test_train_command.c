/* `penstock train` and `eval` from outside: what they print, log, trace and save. */
#include "cli/json_lines.h"
#include "cli/program.h"
#include "support/check.h"
#include "support/tiny_run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct outcome run;

START_TEST(lines)
{
	program_run(&run, "train " SMALL "--log log.jsonl --trace trace.json --dropout 0.1 --seed 3");
	ck_assert_msg(run.status == 0, "%s", run.error);
	check_matches(run.out, "^Total parameters in model: 7,264$");
	check_matches(run.out, "^\\| epoch   1 \\|     2/    3 batches \\| lr 4.00 \\| ms/batch +[0-9.]+ \\| loss  "
	                       "[0-9.]{4} \\| ppl +[0-9.]+$");
	check_matches(run.out, "^\\| epoch   1 \\|     3/    3 batches \\|");
	check_matches(run.out, "^-{89}$");
	check_matches(run.out,
	              "^\\| end of epoch   1 \\| time: +[0-9.]+s \\| valid loss  [0-9.]{4} \\| valid ppl +[0-9.]+$");
	check_matches(run.out, "^={89}$");
	check_matches(run.out, "^\\| End of training \\| test loss  [0-9.]{4} \\| test ppl +[0-9.]+$");
	check_matches(run.out, "^entropy of the source 2\\.[0-9]+ nats; reached [0-9.]+, [0-9.]+ % above$");
	check_matches(run.error, "^stage [01] on ref: 1 unit, [0-9]+ parameters, peak ");
	check_matches(run.error, "^stage [01] on ref: 2 units, [0-9]+ parameters, peak ");
	check_matches(run.error, "^links 0>1, 1>0 on ref: view$");
	check_matches(run.error, "^schedule 1f1b, 2 micro-batches of 2,2 rows, ");
}
END_TEST

/* The plan says how many micro-batches there are, and why these are fewer than were asked for. */
START_TEST(micro_batches)
{
	static const struct {
		const char *options, *line;
	} plans[] = {
	        {"--chunks 1", "^schedule 1f1b, 1 micro-batch of 4 rows, "},
	        {"--chunks 1 --batch-size 1", "^schedule 1f1b, 1 micro-batch of 1 row, "},
	        {"--chunks 4", "^schedule 1f1b, 4 micro-batches of 1,1,1,1 rows, "},
	        {"--chunks 9", "^schedule 1f1b, 4 micro-batches of 1,1,1,1 rows \\(--chunks 9: no more than rows\\), "},
	        {"--chunks 3 --split torch",
	         "^schedule 1f1b, 2 micro-batches of 2,2 rows \\(--chunks 3: rounded up as PyTorch's\\), "},
	};
	for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
		program_run(&run, "train " SMALL "--steps-per-epoch 1 --eval-steps 1 %s", plans[i].options);
		ck_assert_msg(run.status == 0, "%s", run.error);
		check_matches(run.error, plans[i].line);
	}
}
END_TEST

/* Stages of one device take micro-batches together, which is said, and which changes nothing but the time. */
START_TEST(joined)
{
	static const char *const joins[] = {"auto", "never"};
	for (int i = 0; i < 2; i++) {
		program_run(&run, "train " SMALL "--dropout 0.1 --schedule gpipe --join %s --save %s.safetensors",
		            joins[i], joins[i]);
		ck_assert_msg(run.status == 0, "%s", run.error);
		ck_assert_int_eq(strstr(run.error, "up to 2 forwards and 2 backwards at once") != NULL, i == 0);
	}
	ck_assert_int_eq(system("cmp auto.safetensors never.safetensors"), 0);
}
END_TEST

/* The log's first line has the link, without a note. */
static void check_link(const json_t *start, int from, int to, const char *kind)
{
	size_t i;
	const json_t *link;
	json_array_foreach(json_object_get(start, "links"), i, link)
	{
		if ((int)number_of(link, "from") != from || (int)number_of(link, "to") != to)
			continue;
		ck_assert_str_eq(text_of(link, "kind"), kind);
		ck_assert_str_eq(text_of(link, "note"), "");
		return;
	}
	ck_abort_msg("there is no link from %d to %d", from, to);
}

/* Stages on one device read what the other wrote; between two there is a copy. */
START_TEST(neighbours)
{
	program_run(&run, "train " SMALL "--nlayers 2 --stages ref,cpu,cpu --log log.jsonl");
	ck_assert_msg(run.status == 0, "%s", run.error);
	check_matches(run.error, "^links 0>1, 1>0 between ref and cpu: peer$");
	check_matches(run.error, "^links 1>2, 2>1 on cpu: view$");
	program_run(&run, "train " SMALL "--nlayers 2 --stages ref,cpu,cpu --link staged --steps-per-epoch 1");
	ck_assert_msg(run.status == 0, "%s", run.error);
	check_matches(run.error, "^links 0>1, 1>0 between ref and cpu: staged, because that was asked for$");
	json_t *object = line("log.jsonl", 0);
	ck_assert_uint_eq(json_array_size(json_object_get(object, "links")), 4);
	check_link(object, 0, 1, "peer");
	check_link(object, 1, 0, "peer");
	check_link(object, 1, 2, "view");
	check_link(object, 2, 1, "view");
	json_decref(object);
}
END_TEST

START_TEST(json_log)
{
	program_run(&run,
	            "train " SMALL "--log log.jsonl --seed 18446744073709551615 --epochs 2 --lr 0.1 --lr-decay 0.5");
	ck_assert_msg(run.status == 0, "%s", run.error);
	json_t *object = line("log.jsonl", 0);
	ck_assert_str_eq(text_of(object, "event"), "start");
	ck_assert_str_eq(text_of(object, "preset"), "default");
	ck_assert_str_eq(text_of(object, "seed"), "18446744073709551615");
	ck_assert_int_eq((int)number_of(object, "parameters"), 7264);
	ck_assert_int_eq((int)number_of(object, "micro_batches"), 2);
	ck_assert_int_eq((int)number_of(object, "emsize"), 8);
	ck_assert_double_eq(number_of(object, "lr"), 0.1);
	const json_t *stages = json_object_get(object, "stages");
	ck_assert_int_eq((int)json_array_size(stages), 2);
	ck_assert_str_eq(text_of(json_array_get(stages, 1), "device"), "ref");
	ck_assert_int_eq(
	        (int)(number_of(json_array_get(stages, 0), "units") + number_of(json_array_get(stages, 1), "units")),
	        3);
	ck_assert_double_gt(number_of(json_array_get(stages, 0), "peak_bytes"), 0);
	check_link(object, 0, 1, "view");
	check_link(object, 1, 0, "view");
	json_decref(object);
	for (int i = 0; i < 8; i++) {
		object = line("log.jsonl", 1 + i);
		ck_assert_int_eq((int)number_of(object, "epoch"), i / 4 + 1);
		if (i % 4 == 3) {
			ck_assert_str_eq(text_of(object, "event"), "eval");
			ck_assert_str_eq(text_of(object, "split"), "valid");
			ck_assert_double_eq_tol(number_of(object, "ppl"), exp(number_of(object, "loss")), 1e-9);
		} else {
			ck_assert_str_eq(text_of(object, "event"), "step");
			ck_assert_int_eq((int)number_of(object, "step"), i % 4 + 1);
			ck_assert_double_eq(number_of(object, "lr"), i < 4 ? 0.1 : 0.05);
			ck_assert_double_gt(number_of(object, "loss"), 0);
			ck_assert_double_gt(number_of(object, "grad_norm"), 0);
			ck_assert_double_gt(number_of(object, "ms"), 0);
			ck_assert_double_gt(number_of(object, "tokens_per_s"), 0);
		}
		json_decref(object);
	}
	object = line("log.jsonl", 9);
	ck_assert_str_eq(text_of(object, "split"), "test");
	json_decref(object);
	object = line("log.jsonl", 10);
	ck_assert_str_eq(text_of(object, "event"), "end");
	ck_assert_str_eq(text_of(object, "status"), "done");
	ck_assert_int_eq((int)number_of(object, "steps"), 6);
	json_decref(object);
	ck_assert_ptr_null(line("log.jsonl", 11));
}
END_TEST

/* A run that fails is told on standard error and in the log, which stays valid JSON. */
START_TEST(failure)
{
	program_run(&run, "train " SMALL
	                  "--lr 1e6 --clip 0 --steps-per-epoch 200 --log log.jsonl --save best --save-last last");
	ck_assert_int_eq(run.status, 1);
	const char *error = strstr(run.error, "penstock train: epoch 1, step ");
	ck_assert_msg(error != NULL && count_lines(error) == 1, "%s", run.error);
	json_t *object = NULL, *next;
	for (int i = 0; (next = line("log.jsonl", i)) != NULL; i++) {
		json_decref(object);
		object = next;
	}
	ck_assert_str_eq(text_of(object, "status"), "failed");
	ck_assert_str_eq(text_of(json_object_get(object, "error"), "status"), "PS_ENUMERIC");
	json_decref(object);
	ck_assert_int_ne(access("last", F_OK), 0);
}
END_TEST

START_TEST(trace)
{
	program_run(&run, "train " SMALL "--join never --trace trace.json");
	ck_assert_msg(run.status == 0, "%s", run.error);
	json_t *object = json_load_file("trace.json", JSON_REJECT_DUPLICATES, NULL);
	const json_t *events = json_object_get(object, "traceEvents");
	ck_assert(json_is_array(events));
	const json_t *event;
	size_t i;
	int forwards[2] = {0, 0}, transfers[2] = {0, 0}, rows = 0;
	json_array_foreach(events, i, event)
	{
		int row = (int)number_of(event, "tid");
		const char *name = text_of(event, "name");
		/* What was predicted has tests of its own. */
		if (number_of(event, "pid") > 1)
			continue;
		if (strcmp(text_of(event, "ph"), "M") == 0) {
			rows += strcmp(name, "thread_name") == 0;
			continue;
		}
		ck_assert_double_ge(number_of(event, "ts"), 0);
		ck_assert_double_ge(number_of(event, "dur"), 0);
		ck_assert_int_lt(row, 4);
		if (row < 2 && name[0] == 'F')
			forwards[row]++;
		if (row >= 2)
			transfers[row - 2]++;
	}
	/* Two stages and a link each way; three steps of two micro-batches. */
	ck_assert_int_eq(rows, 4);
	for (int k = 0; k < 2; k++) {
		ck_assert_int_eq(forwards[k], 6);
		ck_assert(transfers[k] == 6 || transfers[k] == 0);
	}
	json_decref(object);
}
END_TEST

START_TEST(balance_time)
{
	program_run(&run, "train " SMALL "--balance time --log log.jsonl");
	ck_assert_msg(run.status == 0, "%s", run.error);
	check_matches(run.out, "^predicted [0-9.e-]+ s a step, measured [0-9.e-]+ \\([0-9.]+ % (over|under)\\)$");
	json_t *last = NULL;
	for (int i = 0; i < 7; i++) {
		json_decref(last);
		last = line("log.jsonl", i);
		if (last != NULL && strcmp(text_of(last, "event"), "end") == 0)
			break;
	}
	ck_assert_double_gt(number_of(last, "predicted_ms"), 0);
	ck_assert_double_gt(number_of(last, "median_ms"), 0);
	json_decref(last);
	/* Where nothing was measured, nothing is said. */
	program_run(&run, "train " SMALL "--balance flops");
	ck_assert_msg(run.status == 0, "%s", run.error);
	ck_assert_ptr_null(strstr(run.out, "predicted"));
}
END_TEST

/* A schedule file with several stages for each device gives the bits of one stage on one. */
START_TEST(schedule_file)
{
#define FOUR_UNITS "train " SMALL "--nlayers 2 --dropout 0.1 --seed 4 "
	program_run(&run, FOUR_UNITS "--stages ref --save-last one");
	ck_assert_msg(run.status == 0, "%s", run.error);
	file_write("wave", "0F0 0F1 3F0 3BW0 3F1 3BW1 0BW0 0BW1\n1F0 2F0 1F1 2F1 2B0 1B0 2B1 1B1 2W0-1 1W0-1\n");
	program_run(&run, FOUR_UNITS "--schedule wave --save-last file --trace trace.json --log log.jsonl");
	ck_assert_msg(run.status == 0, "%s", run.error);
	check_matches(run.error, "^stages 0,3 on ref: 2 units,");
	check_matches(run.error, "^stages 1,2 on ref: 2 units,");
	ck_assert(tiny_same_files("one", "file"));
	json_t *object = line("log.jsonl", 0);
	const json_t *numbers = json_object_get(json_array_get(json_object_get(object, "stages"), 0), "numbers");
	ck_assert_uint_eq(json_array_size(numbers), 2);
	ck_assert_int_eq((int)json_integer_value(json_array_get(numbers, 1)), 3);
	json_decref(object);
	program_run(&run, "trace trace.json");
	check_matches(run.out, "stage 3");
	program_run(&run, FOUR_UNITS "--schedule wave --balance params --shadow 3 --save-last file");
	ck_assert_msg(run.status == 0, "%s", run.error);
	ck_assert(tiny_same_files("one", "file"));
}
END_TEST

START_TEST(as_published)
{
	program_run(&run, "train --preset tutorial-as-published " SMALL "--epochs 2 --save-last last --batch-size 20");
	ck_assert_msg(run.status == 0, "%s", run.error);
	/* Its fraction of a loss compares with no entropy. */
	ck_assert_ptr_null(strstr(run.out, "entropy of the source"));
	check_matches(run.out, "^The tutorial as published, with its mistakes");
	ck_assert_int_eq(strncmp(run.out, "The tutorial as published", 25), 0);
	/* One line an epoch, at batch 2 of 0 to 2; the second with a rate that has decayed twice. */
	check_matches(run.out, "^\\| epoch   1 \\|     2/    3 batches \\| lr 5.00 ");
	check_matches(run.out, "^\\| epoch   2 \\|     2/    3 batches \\| lr 4.51 ");
	ps_safetensors *file;
	check_ok(ps_safetensors_open(&file, "last"));
	ck_assert_str_eq(ps_safetensors_metadata(file, "mistakes"), "12346");
	ck_assert_str_eq(ps_safetensors_metadata(file, "mask"), "none");
	ps_safetensors_close(file);
	program_run(&run, "train --preset tutorial " SMALL "--epochs 2 --batch-size 20");
	check_matches(run.out, "^\\| epoch   2 \\|     3/    3 batches \\| lr 4.75 ");
	ck_assert_int_eq(strncmp(run.out, "Total parameters", 16), 0);
}
END_TEST

START_TEST(config_file)
{
	file_write("config", "# A small model.\n\n  emsize = 16  \nlr=0.25\r\nseed = 9\npreset = tutorial\nclip = 0.5");
	program_run(&run, "train --config config " SMALL "--log log.jsonl --seed 4");
	ck_assert_msg(run.status == 0, "%s", run.error);
	json_t *object = line("log.jsonl", 0);
	ck_assert_str_eq(text_of(object, "preset"), "tutorial");
	ck_assert_int_eq((int)number_of(object, "emsize"), 8);
	ck_assert_double_eq(number_of(object, "lr"), 0.25);
	ck_assert_double_eq(number_of(object, "lr_decay"), 0.95);
	ck_assert_int_eq((int)number_of(object, "seed"), 4);
	json_decref(object);
}
END_TEST

/* Help is on standard output, for each, and teaches by example. */
START_TEST(help)
{
	static const char *const commands[] = {"train", "eval", "devices", "tune", "data"};
	for (int i = 0; i < 5; i++) {
		program_run(&run, "%s --help", commands[i]);
		ck_assert_int_eq(run.status, 0);
		ck_assert_str_eq(run.error, "");
		check_matches(run.out, "^Examples:");
		char kept[sizeof run.out];
		memcpy(kept, run.out, sizeof kept);
		program_run(&run, "help %s", commands[i]);
		ck_assert_str_eq(run.out, kept);
	}
	program_run(&run, "--version");
	check_matches(run.out, "^penstock [0-9]+\\.[0-9]+\\.[0-9]+$");
	program_run(&run, "--help");
	ck_assert_int_eq(run.status, 0);
	check_matches(run.out, "^  train ");
}
END_TEST

START_TEST(devices)
{
	program_run(&run, "devices");
	check_matches(run.out, "^ref +ref ");
	program_run(&run, "devices --json --measure-links");
	ck_assert_int_eq(run.status, 0);
	json_t *object = json_loads(run.out, JSON_REJECT_DUPLICATES, NULL);
	ck_assert_ptr_nonnull(object);
	const json_t *list = json_object_get(object, "devices"), *links = json_object_get(object, "links");
	size_t count = json_array_size(list);
	ck_assert_uint_ge(count, 2);
	ck_assert_uint_eq(json_array_size(links), count * (count - 1));
	ck_assert_double_gt(number_of(json_array_get(links, 0), "bandwidth_bytes_s"), 0);
	json_decref(object);
	program_run(&run, "devices --stages ref,cpu:0,ref --measure-links");
	ck_assert_int_eq(run.status, 0);
	check_matches(run.out, "\ncpu:0 +ref +peer ");
	ck_assert_ptr_null(strstr(run.out, "cpu:1"));
	program_run(&run, "devices --json --stages ref,nothing:0");
	ck_assert_int_eq(run.status, 2);
	object = json_loads(run.out, JSON_REJECT_DUPLICATES, NULL);
	ck_assert_ptr_nonnull(strstr(text_of(object, "error"), "nothing"));
	ck_assert_str_eq(text_of(object, "status"), "PS_ENODEV");
	json_decref(object);
}
END_TEST

/* What train saved is what eval measures, on other devices too. */
START_TEST(evaluation)
{
	program_run(&run, "train " SMALL "--save best --save-last last --log log.jsonl");
	ck_assert_msg(run.status == 0, "%s", run.error);
	json_t *valid = line("log.jsonl", 4), *test = line("log.jsonl", 5);
	static const char *const runs[] = {"--stages ref", "--stages ref,ref", "--stages cpu"};
	for (int i = 0; i < 3; i++) {
		program_run(&run, "eval --load %s --eval-steps 2 --json %s", i == 1 ? "last" : "best", runs[i]);
		ck_assert_msg(run.status == 0, "%s", run.error);
		json_t *object = json_loads(run.out, 0, NULL);
		double tolerance = i < 2 ? 0 : 1e-5;
		ck_assert_double_le(
		        fabs(number_of(json_object_get(object, "valid"), "loss") - number_of(valid, "loss")),
		        tolerance);
		ck_assert_double_le(fabs(number_of(json_object_get(object, "test"), "loss") - number_of(test, "loss")),
		                    tolerance);
		json_decref(object);
	}
	json_decref(valid);
	json_decref(test);
	program_run(&run, "eval --load best --stages ref --eval-steps 1");
	check_matches(run.out, "^\\| valid loss +[0-9.]+ \\| ppl +[0-9.]+ \\| 20 tokens");
	check_matches(run.out, "^\\| test  loss ");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("train command");
	TCase *cases = tcase_create("train command");
	tcase_set_timeout(cases, 120);
	tcase_add_checked_fixture(cases, program_enter, program_leave);
	tcase_add_test(cases, lines);
	tcase_add_test(cases, micro_batches);
	tcase_add_test(cases, joined);
	tcase_add_test(cases, neighbours);
	tcase_add_test(cases, json_log);
	tcase_add_test(cases, failure);
	tcase_add_test(cases, trace);
	tcase_add_test(cases, balance_time);
	tcase_add_test(cases, schedule_file);
	tcase_add_test(cases, as_published);
	tcase_add_test(cases, config_file);
	tcase_add_test(cases, help);
	tcase_add_test(cases, devices);
	tcase_add_test(cases, evaluation);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
