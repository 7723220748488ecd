/*
 * What a step of a program will take by measured costs: its own list of instructions, with all their waits, run by
 * ranks and links that each do one at a time. Ranks that share cores or memory slow each other down while both are
 * at work, by the measured factors.
 */
#include "pipeline/internal.h"

#include <math.h>
#include <stdlib.h>

/* Ranks come first, and after them two links for each boundary. */
struct forecast {
	const ps_pipeline *pipeline;
	const struct program *program;
	int rows;       /* ranks and links: each a queue of instructions */
	int *next;      /* [instruction]: the one behind it in its row, or -1 */
	int *head;      /* [row]: the first that has not ended, or -1 */
	double *left;   /* [row]: seconds of the head's work that are left, if it runs */
	double *slowed; /* [row]: how many times as long it takes now */
	bool *running;  /* [row] */
	bool *ended;    /* [instruction] */
	double *times;  /* [2 * instruction] */
};

/* Seconds of an action's work when nothing else runs. */
static double action_seconds(const ps_pipeline *pipeline, const struct program *program, ps_action action)
{
	const struct stage *stage = &pipeline->stages[action.stage];
	double rows = (double)(program->first_row[action.micro_batch + action.count] -
	                       program->first_row[action.micro_batch]);
	double sum = 0;
	for (int l = stage->first; l < stage->first + stage->count; l++) {
		const struct layer_cost *cost = ps__layer_cost(pipeline, stage->rank, l);
		if (action.kind == PS_ACTION_F || action.kind == PS_ACTION_R)
			sum += cost->forward;
		if (action.kind == PS_ACTION_B || action.kind == PS_ACTION_BW)
			sum += cost->backward;
		if (action.kind == PS_ACTION_W || action.kind == PS_ACTION_BW)
			sum += cost->weight;
	}
	return rows * sum;
}

static double work_of(const struct forecast *f, const struct instruction *instruction)
{
	if (instruction->kind == INSTRUCTION_ACTION)
		return action_seconds(f->pipeline, f->program, instruction->action);
	return f->pipeline->measured->send[ps__link_index(instruction->action)] *
	       (double)f->program->sizes[instruction->action.micro_batch];
}

static int row_of(const struct forecast *f, const struct instruction *instruction)
{
	return instruction->kind == INSTRUCTION_ACTION ? instruction->rank
	                                               : f->pipeline->rank_count + ps__link_index(instruction->action);
}

/* Starts the heads that have nothing to wait for any more. */
static void start(struct forecast *f, double now)
{
	const struct program *program = f->program;
	for (int row = 0; row < f->rows; row++) {
		int i = f->head[row];
		if (i < 0 || f->running[row])
			continue;
		const struct instruction *instruction = &program->instructions[i];
		bool ready = true;
		for (int w = 0; w < instruction->wait_count; w++)
			ready = ready && f->ended[program->waits[instruction->wait_first + w]];
		if (!ready)
			continue;
		f->running[row] = true;
		f->left[row] = work_of(f, instruction);
		f->times[2 * i] = now;
	}
}

/* Goes on to where the next instruction ends, and ends all that do. False: nothing runs any more. */
static bool advance(struct forecast *f, double *now)
{
	double step = INFINITY;
	for (int row = 0; row < f->rows; row++) {
		if (!f->running[row])
			continue;
		f->slowed[row] = row < f->pipeline->rank_count ? ps__rank_slowdown(f->pipeline, row, f->running) : 1;
		step = fmin(step, f->left[row] * f->slowed[row]);
	}
	if (!isfinite(step))
		return false;
	*now += step;
	for (int row = 0; row < f->rows; row++) {
		int i = f->head[row];
		if (!f->running[row])
			continue;
		/* What ends within rounding of the first ends with it. */
		if (f->left[row] * f->slowed[row] > step * (1 + 1e-9)) {
			f->left[row] -= step / f->slowed[row];
			continue;
		}
		f->running[row] = false;
		f->ended[i] = true;
		f->times[2 * i + 1] = *now;
		f->head[row] = f->next[i];
	}
	return true;
}

static void line_up(struct forecast *f)
{
	for (int row = 0; row < f->rows; row++)
		f->head[row] = -1;
	for (int i = f->program->instruction_count - 1; i >= 0; i--) {
		int row = row_of(f, &f->program->instructions[i]);
		f->next[i] = f->head[row];
		f->head[row] = i;
	}
}

ps_status ps__program_predict(const ps_pipeline *pipeline, struct program *program)
{
	size_t count = (size_t)program->instruction_count + 1;
	struct forecast f = {.pipeline = pipeline,
	                     .program = program,
	                     .rows = pipeline->rank_count + 2 * (pipeline->stage_count - 1)};
	f.next = calloc(count, sizeof *f.next);
	f.ended = calloc(count, sizeof *f.ended);
	f.head = calloc((size_t)f.rows, sizeof *f.head);
	f.left = calloc((size_t)f.rows, sizeof *f.left);
	f.slowed = calloc((size_t)f.rows, sizeof *f.slowed);
	f.running = calloc((size_t)f.rows, sizeof *f.running);
	f.times = calloc(2 * count, sizeof *f.times);
	bool complete = f.next && f.ended && f.head && f.left && f.slowed && f.running && f.times;
	if (complete) {
		double now = 0;
		line_up(&f);
		do
			start(&f, now);
		while (advance(&f, &now));
		program->predicted = f.times;
		f.times = NULL;
	}
	void *const blocks[] = {f.next, f.ended, f.head, f.left, f.slowed, f.running, f.times};
	for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
		free(blocks[i]);
	return complete ? PS_OK : ps_fail(PS_ENOMEM, "no memory for a prediction");
}

/* One pass of the optimizer: all ranks at the same time, each over the parameters that it has. */
static double optimizer_seconds(const ps_pipeline *pipeline, bool update)
{
	double longest = 0;
	for (int r = 0; r < pipeline->rank_count; r++) {
		double sum = 0;
		for (int k = 0; k < pipeline->ranks[r].stage_count; k++) {
			const struct stage *stage = &pipeline->stages[pipeline->ranks[r].stages[k]];
			for (int l = stage->first; l < stage->first + stage->count; l++) {
				const struct layer_cost *cost = ps__layer_cost(pipeline, r, l);
				sum += update ? cost->update : cost->squares;
			}
		}
		longest = fmax(longest, sum * ps__rank_slowdown(pipeline, r, NULL));
	}
	return longest;
}

double ps_pipeline_predicted_step(const ps_pipeline *pipeline)
{
	const struct program *program = pipeline->train;
	if (!program->predicted)
		return NAN;
	double end = 0;
	for (int i = 0; i < program->instruction_count; i++)
		end = fmax(end, program->predicted[2 * i + 1]);
	return end + optimizer_seconds(pipeline, false) + optimizer_seconds(pipeline, true);
}
