/* From options to what a run needs: the corpus, the devices of the stages, the cut, the model, the pipeline. */
#ifndef PS_TOOLS_SETUP_H
#define PS_TOOLS_SETUP_H

#include "tools/penstock/run_options.h"

#include <penstock/data.h>
#include <penstock/model.h>

struct setup {
	ps_corpus *corpus;
	ps_model model;
	char **devices; /* one name for each rank */
	int rank_count, stage_count;
	int chunks;                           /* asked for */
	const char *schedule, *schedule_file; /* one of them: a rule's name, or a path; borrowed from the options */
	int *balance;                         /* NULL: by counted work or by measured times */
	ps_shadow_stage *shadow;
	int shadow_count;
	ps_pipeline *pipeline;
};

/* Creates all of it; on failure what there is so far is for setup_finish. `evaluate_only`: no training is meant. */
ps_status setup_init(struct setup *out, const run_options *options, bool evaluate_only) PS_WARN_UNUSED;
/* Says on standard error what devices did otherwise than one would expect. */
void setup_finish(struct setup *setup);

/* How --dtype has matrices multiplied. */
ps_math setup_math(dtype_choice dtype);
/* Do these options ask for layers to be measured, and so for a prediction? */
bool setup_measures(const run_options *options);

/*
 * Cuts "DEV,DEV" into names; a comma before a digit belongs to the device before it. NULL: two halves of the CPU cores
 * that may be used. The caller frees *out with stages_free.
 */
ps_status stages_parse(char ***out, int *count, const char *text) PS_WARN_UNUSED;
/* The same for the value of another option, --OPTION, in messages. */
ps_status devices_parse(char ***out, int *count, const char *option, const char *text) PS_WARN_UNUSED;
void stages_free(char **stages, int count);
/* How many cores `cpu` has. */
ps_status cpu_cores(int *out) PS_WARN_UNUSED;
/* So many groups of cores as equal as can be, "cpu:0-1,cpu:2-3"; groups <= cores. The caller frees *out. */
ps_status stages_on_cores(char **out, int groups, int cores) PS_WARN_UNUSED;

/*
 * Reads "STAGE[:every=N],…" or "all[:every=N]" for so many stages: each one once. The caller frees *out.
 */
ps_status shadow_parse(ps_shadow_stage **out, int *count, const char *text, int stage_count) PS_WARN_UNUSED;
/* What checks came to that found nothing, for people, and of any checks for programs (NULL: no memory). */
void shadow_print(const ps_shadow_report *report, FILE *to);
json_t *shadow_json(const ps_shadow_report *report);

/* What kind of link neighbouring stages have, and why, for people and for programs (NULL: no memory). */
void links_print(const ps_pipeline *pipeline, FILE *to);
json_t *links_json(const ps_pipeline *pipeline);

/* Writes the plan of each rank's memory, the links and the shape of a step, for people. */
void setup_print_plan(const struct setup *setup, FILE *to);

#endif
