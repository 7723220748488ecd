/* Runs the command as a user does: in a folder of its own, with what it writes kept. */
#ifndef PS_TESTS_CLI_PROGRAM_H
#define PS_TESTS_CLI_PROGRAM_H

#include <check.h>
#include <stdio.h>
#include <sys/types.h>

/* What one run left. */
struct outcome {
	int status; /* exit status; 128 + number for a signal */
	char out[1 << 16], error[1 << 14];
};

/* The folder that tests work in, made anew and entered; its XDG_CACHE_HOME lies within. */
void program_enter(void);
/* Leaves it and removes all of it. */
void program_leave(void);

/* Starts `penstock` with arguments separated by blanks (a word in 'quotes' may have some); stdout and stderr to files.
 */
pid_t program_start(const char *arguments);
/* Waits for it and reads the files. */
void program_wait(pid_t process, struct outcome *out);
/* Both; the arguments are a format and its values. */
#define program_run(out, ...)                                                                                \
	do {                                                                                                 \
		char run_text_[4096];                                                                        \
		ck_assert_int_lt(snprintf(run_text_, sizeof run_text_, __VA_ARGS__), (int)sizeof run_text_); \
		program_wait(program_start(run_text_), (out));                                               \
	} while (0)

void file_write(const char *path, const char *text);
/* Number of lines in a text. */
int count_lines(const char *text);
/* Some line of the text matches the extended regular expression. */
void check_matches(const char *text, const char *pattern);
/* A number that changes with the name, size and bytes of any file in the current folder but those of the runs. */
unsigned long folder_state(void);

/* A model small enough for the reference, three steps of it. */
#define SMALL                                                                                                     \
	"--stages ref,ref --emsize 8 --nhead 2 --nhid 8 --nlayers 1 --batch-size 4 --eval-batch-size 4 --bptt 5 " \
	"--steps-per-epoch 3 --eval-steps 2 --epochs 1 --log-interval 2 --chunks 2 "

#endif
