/* A tiny pipeline that is made, trains for two steps and is taken down: what tests repeat while calls fail in turn. */
#ifndef PS_TESTS_SUPPORT_TINY_LIFE_H
#define PS_TESTS_SUPPORT_TINY_LIFE_H

#include <penstock/model.h>
#include <penstock/train.h>

enum { TINY_LIFE_STAGES = 4 };

/* Begins as zeros; the next two fill it. */
struct tiny_life {
	const char *devices[TINY_LIFE_STAGES];
	int stages;
	char names[256];
	double stall_timeout_s;                      /* 0: a minute */
	ps_model model;                              /* for the caller to finish */
	void (*ending)(const ps_pipeline *pipeline); /* called before a life's pipeline is destroyed; NULL: not */
};

/* Takes the stages from PS_TEST_STAGES, or else those of `otherwise`, with commas between them. */
void tiny_life_name_stages(struct tiny_life *life, const char *otherwise);
ps_status tiny_life_make_model(struct tiny_life *life, double dropout);

/* A pipeline by itself, and a step of one that is initialised. */
ps_status tiny_life_create(ps_pipeline **out, const struct tiny_life *life);
ps_status tiny_life_step(ps_pipeline *pipeline, double *loss);
ps_status tiny_life_submit(ps_pipeline *pipeline, uint32_t step);
/* A pipeline and two steps with their updates; *loss, of the second, is left alone by what fails before. */
ps_status tiny_life_run(const struct tiny_life *life, double *loss);

#endif
