/*
 * Times the steps of the schedule module at a size given on the command line: how long generating, grouping weight
 * gradients, validating and simulating take, and the most memory of the process.
 *
 *   bench-simulate [STAGES [MICRO-BATCHES]]      1024 and 4096 unless given
 */
#include <penstock/schedule.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

static double now(void)
{
	struct timespec time;
	if (clock_gettime(CLOCK_MONOTONIC, &time) != 0)
		return 0;
	return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static ps_status run(const char *name, int stages, int micro_batches)
{
	double begin = now();
	ps_schedule *schedule;
	PS_TRY(ps_schedule_generate(&schedule, name, stages, 1, micro_batches));
	double generated = now();
	ps_status status = ps_schedule_group_weight(schedule, micro_batches);
	double grouped = now();
	if (status == PS_OK)
		status = ps_schedule_validate(schedule);
	double validated = now();
	ps_simulation simulation = {0};
	if (status == PS_OK)
		status = ps_schedule_simulate(&simulation, schedule, NULL, true);
	double end = now();
	if (status == PS_OK)
		printf("%-13s generate %6.3f  group %6.3f  validate %6.3f  simulate %6.3f  in all %6.3f s   makespan "
		       "%g, bubble %.4f\n",
		       name, generated - begin, grouped - generated, validated - grouped, end - validated, end - begin,
		       simulation.makespan, simulation.bubble);
	ps_simulation_finish(&simulation);
	ps_schedule_destroy(schedule);
	return status;
}

int main(int argc, char **argv)
{
	/* A word that is no number is 0, which the schedule refuses. */
	int stages = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 1024;
	int micro_batches = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 4096;
	printf("%d stages, %d micro-batches\n", stages, micro_batches);
	for (const ps_schedule_rule *rule = ps_schedule_rules(); rule->name; rule++) {
		if (rule->stages_per_rank > 1)
			continue;
		if (run(rule->name, stages, micro_batches) != PS_OK) {
			fprintf(stderr, "bench-simulate: %s\n", ps_error_message());
			return 1;
		}
	}
	struct rusage usage;
	if (getrusage(RUSAGE_SELF, &usage) == 0)
		printf("most memory: %.0f MiB\n", (double)usage.ru_maxrss / 1024);
	return 0;
}
