/*
 * Wrong input of every kind: the command ends with 2 and one line on standard error that says what was wrong and what
 * would be right, prints nothing but an object with the error on standard output, and neither makes nor changes a file.
 */
#include "cli/program.h"
#include "support/check.h"

#include <penstock/safetensors.h>

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/*
 * Outputs without a trace, for what is found out last: a trace has layers measured before, and a busy machine tells how
 * far that has come.
 */
#define UNTRACED " --save new --save-last kept --log new.jsonl"

static const struct bad {
	const char *arguments, *message;
} cases[] = {
        {"", "give a subcommand"},
        {"trian", "there is no subcommand 'trian'; did you mean train?"},
        {"frobnicate", "penstock --help lists them"},
        {"help trin", "did you mean train?"},
        {"train --epoch-s 3", "unknown option --epoch-s; did you mean --epochs?"},
        {"train --batchsize=3", "unknown option --batchsize; did you mean --batch-size?"},
        {"train --sav x", "--sav could be any of --save, --save-last; give more of its name"},
        {"train --ep=0", "--epochs: '0' is wrong"},
        {"train --zzzzzzzz", "penstock train --help lists them"},
        {"train -q", "unknown option -q"},
        {"train --lr", "--lr needs a value"},
        {"train extra", "'extra' is no option"},
        {"devices --json=yes", "--json=yes takes no value"},
        {"devices --jsno", "did you mean --json?"},
        {"eval", "--load FILE is missing"},
        {"verify opz", "penstock verify: there is no 'opz'; did you mean ops?"},
        {"verify everything",
         "penstock verify: there is no 'everything'; there are ops, grad, layers, step, support, all"},
        {"verify ops grad", "'grad' is one check too many"},
        {"verify --elements 0", "--elements: '0' is wrong; give a whole number from 1"},
        {"verify --device ref,,ref", "--device ref,,ref: name 1 is empty"},
        {"verify --device gpu", "gpu"},
        {"verify --device ref --against gpu", "gpu"},
        {"verify --seed x", "--seed: 'x' is wrong"},
        {"verify --json --markdown", "give one of --json and --markdown"},
        {"tune", "the device is missing, as in penstock tune opencl:0"},
        {"tune ref", "ref has nothing to tune"},
        {"tune ref cpu", "'cpu' is one device too many"},
        {"tune nowhere", "no device or backend"},
        {"tune ref --minutes 0", "--minutes: '0' is wrong"},
        {"tune ref --minutes nan", "'nan' is wrong"},
        {"tune ref --preset large", "--preset: there is no 'large'"},
        {"tune ref --dtype fp8", "--dtype: there is no 'fp8'"},

        {"train --epochs 0", "--epochs: '0' is wrong; give a whole number from 1 to 1000000"},
        {"train --epochs -1", "from 1 to 1000000"},
        {"train --epochs 2x", "'2x' is wrong"},
        {"train --epochs 2.5", "'2.5' is wrong"},
        {"train --epochs ''", "'' is wrong"},
        {"train --epochs ' 2'", "' 2' is wrong"},
        {"train --epochs 99999999999999999999", "is wrong; give a whole number"},
        {"train --epochs nan", "'nan' is wrong"},
        {"train --batch-size 0", "--batch-size: '0' is wrong; give a whole number from 1"},
        {"train --eval-batch-size 0", "--eval-batch-size: '0'"},
        {"train --bptt 0", "--bptt: '0'"},
        {"train --steps-per-epoch -1", "--steps-per-epoch: '-1'"},
        {"train --eval-steps x", "--eval-steps: 'x'"},
        {"train --chunks 0", "--chunks: '0'"},
        {"train --emsize 1", "--emsize: '1' is wrong; give a whole number from 2"},
        {"train --nhead 0", "--nhead: '0'"},
        {"train --nhid 0", "--nhid: '0'"},
        {"train --nlayers 0", "--nlayers: '0'"},
        {"train --log-interval 0", "--log-interval: '0'"},
        {"train --lr nan", "--lr: 'nan' is wrong; give a number above 0 to 1e+06"},
        {"train --lr inf", "--lr: 'inf'"},
        {"train --lr 1e999", "--lr: '1e999'"},
        {"train --lr 0", "--lr: '0'"},
        {"train --lr -1", "--lr: '-1'"},
        {"train --lr 0x10", "--lr: '0x10'"},
        {"train --lr 1e", "--lr: '1e'"},
        {"train --lr-decay 0", "--lr-decay: '0'"},
        {"train --clip -0.5", "--clip: '-0.5' is wrong; give a number from 0"},
        {"train --clip infinity", "--clip: 'infinity'"},
        {"train --dropout 1", "--dropout: '1' is wrong; give a number from 0 to below 1"},
        {"train --dropout -0.1", "--dropout: '-0.1'"},
        {"train --seed -1", "--seed: '-1' is wrong; give a whole number from 0 to 18446744073709551615"},
        {"train --seed 18446744073709551616", "--seed: "},

        {"train --preset tutroial", "--preset: there is no 'tutroial'; did you mean tutorial?"},
        {"train --mask diagonal", "there are causal, none"},
        {"train --split odd", "there are even, torch"},
        {"train --checkpoint sometimes", "there are never, except-last, always"},
        {"train --dtype fp8", "fp32"},
        {"train --graphs yes", "--graphs: there is no 'yes'; there are auto, on, off"},
        {"train --graphs on --stages ref,cpu", "graphs are on, and none of the devices has them; GPUs by cuda have"},
        {"train --schedule 1f1c", "--schedule 1f1c: is no file and none of the schedules"},
        {"train --schedule 1f1c", "did you mean 1f1b?"},
        {"train --schedule forward-only", "none of the schedules for training"},
        {"train --schedule ./none", "./none"},
        {"train --schedule wave --stages ref,ref,ref", "wave: has 2 ranks; give 2 devices in --stages, not 3"},
        {"train --schedule wave --stages ref,ref", "wave is for 2 micro-batches; 4 chunks of a batch of 32 rows are 4"},
        {"train --schedule wave --stages ref,ref --balance 2,2", "has 2 stages, but --schedule wave has 4"},
        {"train --schedule wave --stages ref,ref --nlayers 1", "4 stages are more than the 3 units"},
        {"train --schedule wave --stages ref", "wave: has 2 ranks; give 2 devices in --stages, not 1"},
        {"train --schedule alone --stages ref,ref", "alone: has 1 rank; give 1 device in --stages, not 2"},
        {"train --schedule alone --stages ref --chunks 1 --batch-size 1",
         "alone is for 2 micro-batches; 1 chunk of a batch of 1 row is 1"},
        {"train --balance 1,1 --stages ref,ref --nlayers 1", "has 3 units: embedding, 1 layer, decoder"},
        {"train --schedule ./short --stages ref,ref", "short"},
        {"train --nhead 5", "--nhead 5 does not divide --emsize 64"},
        {"train --emsize 63 --nhead 3", "even"},

        {"train --stages gpu:0", "gpu:0: no device or backend \"gpu\"; here are cpu, ref"},
        {"train --stages gpu:0", "; penstock devices lists what is here"},
        {"train --stages cpu:9999", "cpu:9999"},
        {"train --stages cpu,,cpu", "name 1 is empty"},
        {"train --stages ref,", "name 1 is empty"},
        {"train --stages ref,ref,ref,ref,ref --nlayers 2", "5 stages are more than the 4 units"},
        {"train --balance 2,3 --stages ref,ref", "adds up to 5; the model has 4 units"},
        {"train --balance 7,7 --stages ref,ref", "adds up to 14; the model has 4 units"},
        {"train --balance 4,0 --stages ref,ref", "stage 1 gets no unit"},
        {"train --balance 1,1,2 --stages ref,ref", "has 3 stages, but --stages has 2 devices"},
        {"train --balance 4 --stages ref,ref", "has 1 stage, but --stages has 2 devices"},
        {"train --balance 2;2 --stages ref,ref", "give the units of each stage as in 7,7"},
        {"train --balance 2,2, --stages ref,ref", "give the units of each stage as in 7,7"},
        {"train --balance evenly --stages ref,ref", "give the units of each stage as in 7,7"},
        {"train --balance time --emsize 65536 --nhid 65536 --nlayers 200 --stages ref,ref", "no cut into 2 stages"},

        {"verify step --preset large", "--preset: there is no 'large'"},
        {"verify step --nhead 5", "--nhead 5 does not divide --emsize 64"},
        {"verify step --emsize 63 --nhead 3", "even"},
        {"verify step --batch-size 0", "--batch-size: '0' is wrong"},
        {"train --shadow 2 --stages ref,ref", "--shadow 2: there is no stage 2; there are 0 to 1"},
        {"train --shadow first", "--shadow first: give stages as in 1, or 0:every=10,1, or all:every=100"},
        {"train --shadow 0, --stages ref,ref", "give stages as in"},
        {"train --shadow 0:every=0", "every= takes a whole number of steps from 1"},
        {"train --shadow 0:every=99999999999999999999", "every= takes a whole number"},
        {"train --shadow 0:each=2", "give stages as in"},
        {"train --shadow 0,all --stages ref,ref", "stage 0 comes twice"},
        {"train --shadow ''", "--shadow: is empty"},

        {"train --data no-such-folder", "there is no folder no-such-folder with wiki.train.tokens"},
        {"train --data no-such-folder", "penstock data fetch wikitext-2 --to no-such-folder makes one, and sample is"},
        {"train --data 'no such folder'", "penstock data fetch wikitext-2 --to 'no such folder' makes one"},
        {"train --data it\"s", "penstock data fetch wikitext-2 --to 'it\"s' makes one"},
        {"train --data wikitext-2", "penstock data fetch wikitext-2 makes one, and sample is built in"},
        {"train --data short", "there is no file short/wiki.train.tokens"},
        {"train --data short", "penstock data fetch wikitext-2 --to short makes one"},
        {"train --data empty", "empty"},
        {"train --data text", "text"},
        {"train --data brief --batch-size 20", "too few for 20 rows of two; give more text or a smaller --batch-size"},
        {"train --data invalid", "wiki.train.tokens:2:"},

        {"train --init no-such-file", "--init: no-such-file: "},
        {"train --init text", "--init: text: "},
        {"train --init truncated", "truncated: is truncated"},
        {"train --init foreign" UNTRACED, "--init: foreign: has no encoder.weight"},
        {"train --init .", "no regular file"},
        {"train --resume text", "--resume: text: "},
        {"train --resume foreign" UNTRACED, "--resume: foreign: has no state"},
        {"train --init foreign --resume foreign", "give one of them"},
        {"eval --load no-such-file", "--load: no-such-file: "},
        {"eval --load foreign", "--load: foreign: has no matrix encoder.weight"},

        {"train --save no-such-folder/x", "--save: no-such-folder/x"},
        {"train --save-last short", "--save-last: short: is a folder"},
        {"train --log short/", "--log: short/: is a folder"},
        {"train --trace text/x", "--trace: text/x"},
        {"train --save /dev/null", "no regular file"},
        {"train --save ''", "--save: is empty; give FILE"},
        {"train --save kept --save-last kept", "--save and --save-last both name kept"},
        {"train --save kept --log ./kept", "both name"},

        {"trace", "FILE.json is missing"},
        {"trace no-such-file", "no-such-file: cannot be read"},
        {"trace text", "text:1: is no JSON"},
        {"trace short", "short: is a folder; give a file that penstock train --trace wrote"},
        {"trace numbers.json", "numbers.json: has no list of trace events"},
        {"trace steps.json more", "'more' is one FILE.json too many"},
        {"trace steps.json --step 9", "--step 9: steps.json has the steps 2 to 3"},
        {"trace steps.json --step x", "--step: 'x' is wrong"},
        {"trace steps.json --predicted", "has no predicted times for step"},
        {"trace steps.json --svg short", "--svg: short: is a folder"},
        {"trace empty.json", "empty.json: has no step"},
        {"trace phase.json", "phase.json: event 0 has no phase"},
        {"trace row.json", "row.json: event 0 has no pid and tid"},
        {"trace time.json", "time.json: event 0 has no time"},
        {"trace nameless.json", "nameless.json: row 0 has no name"},

        {"train --config no-such-file", "--config no-such-file: cannot be read"},
        {"train --config short", "--config short: cannot be read"},
        {"train --config config-line", "config-line:2: 'lr 3' is no 'name = value' line"},
        {"train --config config-name", "config-name:3: unknown option learning-rate"},
        {"train --config config-value", "config-value:1: lr: 'fast' is wrong; give a number above 0"},
        {"train --config config-config", "config-config:1: a configuration file cannot name another"},

        {"train --emsize 65536 --nhid 65536 --nlayers 200 --stages ref,ref", "GiB"},
        {"bench", "give what to measure: ops, gemm"},
        {"bench opps", "there is no 'opps'; did you mean ops?"},
        {"bench frobnicate", "there are ops, gemm"},
        {"bench ops --device gpu", "gpu"},
        {"bench ops --seconds -1", "--seconds: '-1' is wrong"},
        {"bench ops --nhead 5", "--nhead 5 does not divide --emsize 64"},
        {"bench ops --dtype tf32 --device ref", "ref cannot multiply in tf32"},
        {"bench gemm --dtype fp64 --device cpu", "cpu cannot run gemm on fp64"},
        {"bench gemm --lr 3", "penstock bench gemm --help lists them"},
        {"bench step --stages ref,", "name 1 is empty"},
        {"bench step --data brief", "too few"},
        {"bench step --json short", "--json: short: is a folder"},
        {"bench step --compare no-such-file", "--compare: no-such-file: cannot be read"},
        {"bench step --compare text", "text:1: is no JSON"},
        {"bench executor --stages ref,ref,ref,ref", "has 4 stages; the bench has up to 3"},
        {"bench stages --ranks 2,1", "--ranks 2,1: give up to 16 ascending numbers"},
        {"bench stages --ranks 1,,2", "--ranks 1,,2: give"},
        {"bench stages --ranks 0", "--ranks 0: give"},
        {"bench stages --ranks 99", "99 stages are more than the 16 units of the model"},
        {"bench stages --schedule forward-only", "--schedule forward-only: is no rule"},
        {"bench stages --stages gpu", "gpu"},
        {"bench link --devices ref", "give at least two"},
        {"bench simulate --schedule wave", "--schedule wave: is no rule"},
        {"bench tokenizer", "--data DIR is missing"},
        {"bench tokenizer --data empty", "empty"},
        {"bench show", "FILE is missing"},
        {"bench show short", "short: is a folder; give a file that penstock bench wrote with --json"},
        {"bench show json", "json: is no result of penstock bench"},
        {"bench show json-row", "json-row: row 0 should have"},
        {"bench gemm --compare json-ops", "json-ops: is of penstock bench ops, not of gemm"},

        {"data", "give what to do: fetch, info"},
        {"devices --json --stages gpu", "gpu"},
        {"data info no-such-folder", "no-such-folder"},
};

static void make_files(void)
{
	ck_assert_int_eq(mkdir("short", 0700), 0);
	ck_assert_int_eq(mkdir("empty", 0700), 0);
	ck_assert_int_eq(mkdir("brief", 0700), 0);
	ck_assert_int_eq(mkdir("invalid", 0700), 0);
	static const char *const splits[] = {"train", "valid", "test"};
	for (int i = 0; i < 3; i++) {
		char path[64];
		snprintf(path, sizeof path, "empty/wiki.%s.tokens", splits[i]);
		file_write(path, "");
		snprintf(path, sizeof path, "brief/wiki.%s.tokens", splits[i]);
		file_write(path, "one two three four\n");
		snprintf(path, sizeof path, "invalid/wiki.%s.tokens", splits[i]);
		file_write(path, "fine\nnot \xff fine\n");
	}
	file_write("numbers.json", "[1, 2]");
	file_write("empty.json", "{\"traceEvents\": []}");
	file_write("phase.json", "{\"traceEvents\": [{}]}");
	file_write("row.json", "{\"traceEvents\": [{\"ph\": \"X\", \"pid\": 1, \"tid\": -1}]}");
	file_write("time.json", "{\"traceEvents\": [{\"ph\": \"X\", \"pid\": 1, \"tid\": 0, \"name\": \"F0\", "
	                        "\"cat\": \"action\", \"ts\": -1, \"dur\": 2}]}");
	file_write("nameless.json", "{\"traceEvents\": [{\"ph\": \"X\", \"pid\": 1, \"tid\": 0, \"name\": \"F0\", "
	                            "\"cat\": \"action\", \"ts\": 1, \"dur\": 2, \"args\": {\"step\": 1}}]}");
	file_write(
	        "steps.json",
	        "{\"traceEvents\": [{\"ph\": \"M\", \"pid\": 1, \"tid\": 0, \"name\": \"thread_name\", "
	        "\"args\": {\"name\": \"stage 0\"}}, {\"ph\": \"X\", \"pid\": 1, \"tid\": 0, \"name\": \"F0\", "
	        "\"cat\": \"action\", \"ts\": 1, \"dur\": 2, \"args\": {\"step\": 2}}, {\"ph\": \"X\", \"pid\": 1, "
	        "\"tid\": 0, \"name\": \"F0\", \"cat\": \"action\", \"ts\": 5, \"dur\": 2, \"args\": {\"step\": 3}}]}");
	file_write("json", "{\"bench\": \"ops\"}");
	file_write("json-row", "{\"bench\": \"ops\", \"version\": \"1\", \"date\": \"today\", \"rows\": [{}]}");
	file_write("json-ops", "{\"bench\": \"ops\", \"version\": \"1\", \"date\": \"today\", \"rows\": []}");
	file_write("text", "This is no weight file, but some text of a few words.\n");
	file_write("wave", "0F0 0F1 3F0 3F1 3BW0 3BW1 0BW0 0BW1\n1F0 1F1 2F0 2F1 2BW0 2BW1 1BW0 1BW1\n");
	file_write("alone", "0F0 0F1 0BW0 0BW1\n");
	file_write("kept", "what was here before\n");
	file_write("config-line", "# rates\nlr 3\n");
	file_write("config-name", "lr = 3\n\nlearning-rate = 2\n");
	file_write("config-value", "lr = fast\n");
	file_write("config-config", "config = text\n");
	const float values[4] = {1, 2, 3, 4};
	const ps_saved_tensor tensor = {
	        .name = "other", .dtype = PS_F32, .rank = 1, .dims = {4}, .bytes = sizeof values};
	ps_safetensors_writer *writer;
	check_ok(ps_safetensors_writer_create(&writer, "foreign", &tensor, 1, NULL, 0));
	check_ok(ps_safetensors_writer_put(writer, values));
	check_ok(ps_safetensors_writer_commit(writer));
	FILE *from = fopen("foreign", "rb"), *to = fopen("truncated", "wb");
	ck_assert(from != NULL && to != NULL);
	for (int i = 0, c; i < 70 && (c = getc(from)) != EOF; i++)
		putc(c, to);
	fclose(from);
	ck_assert_int_eq(fclose(to), 0);
}

static void enter(void)
{
	program_enter();
	make_files();
}

START_TEST(bad_input)
{
	const struct bad *row = &cases[_i];
	static struct outcome run;
	/* Outputs that would be made, had the input been right. */
	bool outputs = strncmp(row->arguments, "train ", 6) == 0 && strcmp(row->arguments, "train --lr") != 0 &&
	               strstr(row->arguments, "--save") == NULL && strstr(row->arguments, "--log ") == NULL &&
	               strstr(row->arguments, "--trace") == NULL;
	unsigned long before = folder_state();
	program_run(&run, "%s%s", row->arguments,
	            outputs ? " --save new --save-last kept --log new.jsonl --trace new.json" : "");
	ck_assert_msg(run.status == 2, "penstock %s: exit status %d\n%s", row->arguments, run.status, run.error);
	ck_assert_msg(count_lines(run.error) == 1, "penstock %s: not one line:\n%s", row->arguments, run.error);
	ck_assert_msg(strncmp(run.error, "penstock", 8) == 0, "penstock %s: whose error is %s", row->arguments,
	              run.error);
	ck_assert_msg(strstr(run.error, row->message) != NULL, "penstock %s: \"%s\" is not in\n%s", row->arguments,
	              row->message, run.error);
	ck_assert_msg(run.out[0] == '\0' || strncmp(run.out, "{\"error\":", 9) == 0, "penstock %s printed\n%s",
	              row->arguments, run.out);
	ck_assert_msg(folder_state() == before, "penstock %s touched a file", row->arguments);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("bad input");
	TCase *rows = tcase_create("bad input");
	tcase_set_timeout(rows, 60);
	tcase_add_checked_fixture(rows, enter, program_leave);
	tcase_add_loop_test(rows, bad_input, 0, (int)(sizeof cases / sizeof *cases));
	suite_add_tcase(suite, rows);
	return check_run(suite);
}
