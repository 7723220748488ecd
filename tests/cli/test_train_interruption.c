/* `penstock train` interrupted and resumed, without a reader, and on a terminal. */
#define _XOPEN_SOURCE 700 /* posix_openpt */
#include "cli/json_lines.h"
#include "cli/program.h"
#include "support/check.h"
#include "support/tiny_run.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static struct outcome run;

/* Waits until a file has so many lines, or half a minute. */
static void wait_for_lines(const char *path, int wanted)
{
	const struct timespec nap = {.tv_nsec = 5000000};
	for (int i = 0; i < 6000; i++) {
		size_t bytes = 0;
		char *text = (char *)tiny_file(path, &bytes);
		int count = 0;
		for (size_t k = 0; text != NULL && k < bytes; k++)
			count += text[k] == '\n';
		free(text);
		if (count >= wanted)
			return;
		nanosleep(&nap, NULL);
	}
	ck_abort_msg("%s never had %d lines", path, wanted);
}

#define LONG_RUN "train " SMALL "--steps-per-epoch 60 --epochs 2 --dropout 0.2 "

START_TEST(interrupt)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	program_run(&run, LONG_RUN "--save-last whole --save whole-best");
	ck_assert_msg(run.status == 0, "%s", run.error);
	pid_t process = program_start(LONG_RUN "--save-last last --save best --log log.jsonl");
	wait_for_lines("log.jsonl", 6);
	ck_assert_int_eq(kill(process, signals[_i]), 0);
	program_wait(process, &run);
	ck_assert_msg(run.status == 128 + signals[_i], "%d: %s", run.status, run.error);
	static const char *const insists[] = {"a second Ctrl-C", "a second SIGTERM", "SIGTERM"};
	char told[128];
	snprintf(told, sizeof told,
	         "penstock train: stops after this step and saves last, for --resume; %s ends it at once\n",
	         insists[_i]);
	const char *first = strstr(run.error, told);
	ck_assert_msg(first != NULL, "%s", run.error);
	check_matches(first, "^penstock train: interrupted after step [0-9]+; last goes on from there with --resume");
	json_t *object = NULL, *next;
	int lines_before = 0;
	for (; (next = line("log.jsonl", lines_before)) != NULL; lines_before++) {
		json_decref(object);
		object = next;
	}
	ck_assert_str_eq(text_of(object, "status"), "interrupted");
	json_decref(object);
	program_run(&run, LONG_RUN "--save-last last --save best --log log.jsonl --resume last");
	ck_assert_msg(run.status == 0, "%s", run.error);
	ck_assert(tiny_same_files("whole", "last"));
	ck_assert(tiny_same_files("whole-best", "best"));
	/* The log goes on where it was. */
	object = line("log.jsonl", lines_before);
	ck_assert_str_eq(text_of(object, "event"), "start");
	json_decref(object);
}
END_TEST

/* timeout(1) sends its signal twice, and who closes a terminal SIGHUP: that asks once. */
START_TEST(asked_twice)
{
	static const int signals[] = {SIGTERM, SIGHUP};
	pid_t process = program_start(LONG_RUN "--save-last last --log log.jsonl");
	wait_for_lines("log.jsonl", 6);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(kill(process, signals[_i]), 0);
	program_wait(process, &run);
	ck_assert_msg(run.status == 128 + signals[_i], "%d: %s", run.status, run.error);
	check_matches(run.error,
	              "^penstock train: interrupted after step [0-9]+; last goes on from there with --resume");
}
END_TEST

/* A step of seconds, as the reference takes for this, is not waited for by who insists, with whatever signal. */
START_TEST(insisting)
{
	static const int signals[][2] = {{SIGINT, SIGINT}, {SIGINT, SIGTERM}, {SIGHUP, SIGTERM}};
	pid_t process =
	        program_start("train --stages ref --emsize 512 --nhid 512 --batch-size 64 --bptt 64 --save-last last");
	/* Text, stage, schedule, and then what the signal writes. */
	wait_for_lines("run.error", 3);
	ck_assert_int_eq(kill(process, signals[_i][0]), 0);
	wait_for_lines("run.error", 4);
	nanosleep(&(const struct timespec){.tv_nsec = 600000000}, NULL);
	ck_assert_int_eq(kill(process, signals[_i][1]), 0);
	program_wait(process, &run);
	ck_assert_msg(run.status == 128 + signals[_i][1], "%d: %s", run.status, run.error);
	ck_assert_int_eq(access("last", F_OK), -1);
	ck_assert_msg(strstr(run.error, "interrupted after") == NULL, "%s", run.error);
}
END_TEST

/* A run that is killed goes on from the end of its last epoch, with a log whose last line was torn. */
START_TEST(killed)
{
	program_run(&run, LONG_RUN "--save-last whole --save whole-best");
	ck_assert_msg(run.status == 0, "%s", run.error);
	pid_t process = program_start(LONG_RUN "--save-last last --save best --log log.jsonl");
	wait_for_lines("log.jsonl", 1 + 60 + 1 + 3);
	ck_assert_int_eq(kill(process, SIGKILL), 0);
	program_wait(process, &run);
	FILE *log = fopen("log.jsonl", "a");
	ck_assert_ptr_nonnull(log);
	ck_assert(fputs("{\"event\":\"st", log) >= 0 && fclose(log) == 0);
	program_run(&run, LONG_RUN "--save-last last --save best --log log.jsonl --resume last");
	ck_assert_msg(run.status == 0, "%s", run.error);
	ck_assert(tiny_same_files("whole", "last"));
	ck_assert(tiny_same_files("whole-best", "best"));
	size_t bytes;
	char *text = (char *)tiny_file("log.jsonl", &bytes);
	ck_assert_ptr_nonnull(strstr(text, "{\"event\":\"st\n{\"event\":\"start\""));
	free(text);
}
END_TEST

/* A reader who goes away ends the run, with its state saved. */
START_TEST(broken_pipe)
{
	int ends[2];
	ck_assert_int_eq(pipe(ends), 0);
	close(ends[0]);
	char text[512];
	snprintf(text, sizeof text, "'%s' %s --save-last last 2>run.error", PS_PROGRAM, LONG_RUN);
	pid_t process = fork();
	ck_assert_int_ge(process, 0);
	if (process == 0) {
		dup2(ends[1], STDOUT_FILENO);
		close(ends[1]);
		execl("/bin/sh", "sh", "-c", text, (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	file_write("run.out", "");
	program_wait(process, &run);
	ck_assert_msg(run.status == 1, "%d: %s", run.status, run.error);
	check_matches(run.error, "^penstock train: standard output could not be written");
	ck_assert_int_eq(access("last", F_OK), 0);
}
END_TEST

/* Starts `penstock` with a terminal for standard error, whose other end is *terminal; columns 0: of no known width. */
static pid_t start_on_terminal(int *terminal, unsigned short columns, const char *arguments)
{
	const struct winsize size = {.ws_col = columns};
	*terminal = posix_openpt(O_RDWR | O_NOCTTY);
	ck_assert(*terminal >= 0 && grantpt(*terminal) == 0 && unlockpt(*terminal) == 0);
	ck_assert_int_eq(ioctl(*terminal, TIOCSWINSZ, &size), 0);
	const char *name = ptsname(*terminal);
	ck_assert_ptr_nonnull(name);
	char text[512];
	snprintf(text, sizeof text, "exec '" PS_PROGRAM "' %s", arguments);
	pid_t process = fork();
	ck_assert_int_ge(process, 0);
	if (process > 0)
		return process;
	int slave = open(name, O_RDWR | O_NOCTTY), out = open("run.out", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	dup2(out, STDOUT_FILENO);
	dup2(slave, STDERR_FILENO);
	close(*terminal);
	execl("/bin/sh", "sh", "-c", text, (char *)NULL);
	_exit(127);
}

/* Waits for it; what it wrote to the terminal is its standard error. */
static void wait_on_terminal(int terminal, pid_t process)
{
	file_write("run.error", "");
	program_wait(process, &run);
	/* It comes in pieces, up to an error once the other end is closed. */
	size_t length = 0;
	for (ssize_t bytes; (bytes = read(terminal, run.error + length, sizeof run.error - 1 - length)) > 0;)
		length += (size_t)bytes;
	run.error[length] = '\0';
	close(terminal);
}

/* On a terminal there is a bar, redrawn in place and gone at the end. */
START_TEST(bar)
{
	int terminal;
	pid_t process = start_on_terminal(&terminal, 0, "train " SMALL);
	wait_on_terminal(terminal, process);
	ck_assert_int_eq(run.status, 0);
	ck_assert_ptr_nonnull(strstr(run.error, "1/3  loss "));
	ck_assert_ptr_nonnull(strstr(run.error, " tokens/s  0:0"));
	ck_assert_msg(strstr(run.error, "\r\033[K") != NULL, "the bar stays");
}
END_TEST

/* A line that wrapped would stay. */
START_TEST(narrow_terminal)
{
	int terminal;
	pid_t process = start_on_terminal(&terminal, 40, "train " SMALL);
	wait_on_terminal(terminal, process);
	ck_assert_int_eq(run.status, 0);
	int drawn = 0;
	for (char *at = run.error; (at = strstr(at, "tokens/s")) != NULL; at++, drawn++) {
		const char *begin = at;
		while (begin > run.error && begin[-1] != '\r')
			begin--;
		ck_assert_int_le((int)strcspn(begin, "\033\r\n"), 39);
	}
	ck_assert_int_gt(drawn, 0);
}
END_TEST

/* What a signal has written begins in place of the bar. */
START_TEST(interrupted_bar)
{
	int terminal;
	pid_t process = start_on_terminal(&terminal, 0, LONG_RUN "--log log.jsonl --log-interval 1000");
	wait_for_lines("log.jsonl", 6);
	ck_assert_int_eq(kill(process, SIGINT), 0);
	wait_on_terminal(terminal, process);
	ck_assert_int_eq(run.status, 128 + SIGINT);
	ck_assert_msg(strstr(run.error, "\r\033[Kpenstock train: stops after this step and saves nothing, as no "
	                                "--save-last was given; a second Ctrl-C ends it at once\r\n") != NULL,
	              "%s", run.error);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("train interruption");
	TCase *cases = tcase_create("train interruption");
	tcase_set_timeout(cases, 120);
	tcase_add_checked_fixture(cases, program_enter, program_leave);
	tcase_add_loop_test(cases, interrupt, 0, 3);
	tcase_add_loop_test(cases, asked_twice, 0, 2);
	tcase_add_loop_test(cases, insisting, 0, 3);
	tcase_add_test(cases, killed);
	tcase_add_test(cases, broken_pipe);
	tcase_add_test(cases, bar);
	tcase_add_test(cases, narrow_terminal);
	tcase_add_test(cases, interrupted_bar);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}
