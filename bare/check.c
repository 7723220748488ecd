/* Runs tests as Check does, each in a process of its own. */
#include <check.h>

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

struct entry {
	const struct bare_test *test;
	int first, end;
};

struct TCase {
	TCase *next;
	const char *name;
	double timeout;
	void (*setup)(void), (*teardown)(void);
	struct entry *entries;
	size_t count;
};

struct Suite {
	const char *name;
	TCase *first, **end;
};

struct SRunner {
	Suite *suite;
	int run, failed;
	int fork;
};

/* Without memory for its own lists a test program has nothing better to do. */
static void *need(void *memory)
{
	if (!memory)
		abort();
	return memory;
}

Suite *suite_create(const char *name)
{
	Suite *suite = need(calloc(1, sizeof *suite));
	suite->name = name;
	suite->end = &suite->first;
	return suite;
}

TCase *tcase_create(const char *name)
{
	const char *seconds = getenv("CK_DEFAULT_TIMEOUT");
	TCase *tests = need(calloc(1, sizeof *tests));
	tests->name = name;
	tests->timeout = seconds ? strtod(seconds, NULL) : 600;
	return tests;
}

void suite_add_tcase(Suite *suite, TCase *tests)
{
	*suite->end = tests;
	suite->end = &tests->next;
}

void tcase_set_timeout(TCase *tests, double seconds)
{
	tests->timeout = seconds;
}

void tcase_add_checked_fixture(TCase *tests, void (*setup)(void), void (*teardown)(void))
{
	tests->setup = setup;
	tests->teardown = teardown;
}

void bare_add(TCase *tests, const struct bare_test *test, int first, int end)
{
	tests->entries = need(realloc(tests->entries, (tests->count + 1) * sizeof *tests->entries));
	tests->entries[tests->count++] = (struct entry){test, first, end};
}

void bare_fail(const char *file, int line, const char *format, ...)
{
	va_list arguments;
	fprintf(stderr, "%s:%d: ", file, line);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	fflush(NULL);
	_exit(EXIT_FAILURE);
}

static void run_here(const TCase *tests, const struct bare_test *test, int index)
{
	if (tests->setup)
		tests->setup();
	test->run(index);
	if (tests->teardown)
		tests->teardown();
}

/* The exit status of a test that ran apart; what it left running ends with it. */
static int run_apart(const TCase *tests, const struct bare_test *test, int index)
{
	int status = -1;
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		(void)setpgid(0, 0);
		(void)alarm(tests->timeout < 1 ? 1 : (unsigned)tests->timeout);
		run_here(tests, test, index);
		exit(EXIT_SUCCESS);
	}
	if (child > 0) {
		while (waitpid(child, &status, 0) < 0 && errno == EINTR)
			continue;
		(void)kill(-child, SIGKILL);
	}
	return status;
}

SRunner *srunner_create(Suite *suite)
{
	const char *apart = getenv("CK_FORK");
	SRunner *runner = need(calloc(1, sizeof *runner));
	runner->suite = suite;
	runner->fork = !apart || strcmp(apart, "no") != 0;
	return runner;
}

void srunner_set_fork_status(SRunner *runner, enum fork_status status)
{
	if (status != CK_FORK_GETENV)
		runner->fork = status == CK_FORK;
}

static void run_one(SRunner *runner, const TCase *tests, const struct bare_test *test, int index)
{
	int status = 0;
	runner->run++;
	if (runner->fork)
		status = run_apart(tests, test, index);
	else
		run_here(tests, test, index);
	if (status == 0)
		return;
	runner->failed++;
	if (WIFSIGNALED(status))
		fprintf(stderr, "%s:%s:%d: ended by signal %d%s\n", tests->name, test->name, index, WTERMSIG(status),
		        WTERMSIG(status) == SIGALRM ? ", the time limit" : "");
	else
		fprintf(stderr, "%s:%s:%d: failed\n", tests->name, test->name, index);
}

void srunner_run_all(SRunner *runner, enum print_output output)
{
	const char *only = getenv("CK_RUN_CASE");
	(void)output;
	for (const TCase *tests = runner->suite->first; tests; tests = tests->next)
		for (size_t i = 0; i < tests->count && (!only || !strcmp(only, tests->name)); i++)
			for (int index = tests->entries[i].first; index < tests->entries[i].end; index++)
				run_one(runner, tests, tests->entries[i].test, index);
	printf("%s: %d tests, %d failed\n", runner->suite->name, runner->run, runner->failed);
}

int srunner_ntests_failed(SRunner *runner)
{
	return runner->failed;
}

void srunner_free(SRunner *runner)
{
	while (runner->suite->first) {
		TCase *tests = runner->suite->first;
		runner->suite->first = tests->next;
		free(tests->entries);
		free(tests);
	}
	free(runner->suite);
	free(runner);
}
