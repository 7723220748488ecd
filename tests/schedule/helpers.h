/* What the schedule tests share. */
#ifndef PENSTOCK_TESTS_SCHEDULE_HELPERS_H
#define PENSTOCK_TESTS_SCHEDULE_HELPERS_H

#include <penstock/schedule.h>

#include <check.h>

/* ck_assert that a status is PS_OK, with the message when it is not. */
#define assert_ok(expression)                                                                           \
	do {                                                                                            \
		ps_status status_ = (expression);                                                       \
		ck_assert_msg(status_ == PS_OK, "%s: %s", ps_status_name(status_), ps_error_message()); \
	} while (0)

/* Writes text to a new temporary file; the path goes to path[64]. */
void write_temporary(char *path, const void *text, size_t bytes);

/* ps_schedule_read of a text by way of a temporary file. The message keeps the file's name, path[64]. */
ps_status read_text(ps_schedule **out, char *path, const char *text, int micro_batches);

/* A schedule that must be readable. */
ps_schedule *schedule_of(const char *text);

/* A generated schedule that must be valid. */
ps_schedule *generate(const char *name, int ranks, int stages_per_rank, int micro_batches);

ps_schedule *copy_schedule(const ps_schedule *schedule);

/* Both have the same lists. */
void assert_same_actions(const ps_schedule *a, const ps_schedule *b);

/* Makespan of a valid schedule. */
double makespan(const ps_schedule *schedule, const ps_costs *costs);

/* Costs with the same F, B and W on every stage and the same transfer at every boundary. */
typedef struct equal_costs {
	double f[64], b[64], w[64], link[64];
	ps_costs costs;
} equal_costs;
void set_equal_costs(equal_costs *out, double f, double b, double w, double link);

/* Runs one suite; returns main's exit status. */
int run_suite(Suite *suite);

#endif
