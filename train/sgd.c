/*
 * Gradient descent with a global norm over all ranks.
 *
 * Each rank forms the sum of squares of its own parameters' gradients; the sums of all meet on the host, in the order
 * of the whole model's parameters, and go back to every rank. So the norm has the same bits for every placement. What
 * crosses is one double for each parameter.
 */
#include <penstock/train.h>

#include "core/backend.h"

#include <math.h>
#include <stdlib.h>

/* What one queue, and so one rank, holds: sums of all parameters (n), norm (1) and scale (1), all F64. */
typedef struct rank_state {
	ps_queue *queue;
	int parameter; /* the first that it has */
	ps_buffer *buffer;
	ps_tensor sums, norm, scale;
	double *host; /* (n), its own parameters' sums among zeros */
} rank_state;

struct ps_sgd {
	ps_pipeline *pipeline;
	ps_parameter_view *parameters; /* (n) */
	int *rank_of;                  /* (n), an index into ranks */
	double *sums;                  /* (n) */
	int count;
	rank_state *ranks;
	int rank_count;
	ps_updates *squares, *update;
	double lr, max_norm; /* that `update` was recorded with; NaN: with none */
};

static ps_status create_rank(rank_state *rank, ps_queue *queue, int parameter, int count)
{
	rank->queue = queue;
	rank->parameter = parameter;
	int64_t sums = count, one = 1;
	uint64_t bytes = ((uint64_t)count + 2) * sizeof(double);
	PS_TRY(ps_buffer_create(&rank->buffer, ps_queue_device(queue), bytes));
	rank->sums = ps_tensor_make(rank->buffer, 0, PS_F64, 1, &sums);
	rank->norm = ps_tensor_make(rank->buffer, (uint64_t)count * sizeof(double), PS_F64, 1, &one);
	rank->scale = ps_tensor_make(rank->buffer, ((uint64_t)count + 1) * sizeof(double), PS_F64, 1, &one);
	rank->host = calloc((size_t)count, sizeof *rank->host);
	if (rank->host == NULL)
		return ps_fail(PS_ENOMEM, "no memory for the sums of %d parameters", count);
	PS_TRY(ps_queue_zero(queue, rank->sums));
	return ps_queue_finish(queue);
}

static ps_status add_parameters(ps_sgd *sgd, ps_pipeline *pipeline)
{
	for (int i = 0; i < sgd->count; i++) {
		ps_pipeline_get_parameter(pipeline, i, &sgd->parameters[i]);
		ps_queue *queue = sgd->parameters[i].queue;
		int r = 0;
		while (r < sgd->rank_count && sgd->ranks[r].queue != queue)
			r++;
		if (r == sgd->rank_count) {
			sgd->rank_count++;
			PS_TRY(create_rank(&sgd->ranks[r], queue, i, sgd->count));
		}
		sgd->rank_of[i] = r;
	}
	return PS_OK;
}

static ps_status record_squares(ps_sgd *sgd)
{
	for (int i = 0; i < sgd->count; i++)
		PS_TRY(ps_update(sgd->squares, i, sum_squares, .x = sgd->parameters[i].gradient,
		                 .out = ps_tensor_slice(sgd->ranks[sgd->rank_of[i]].sums, 0, i, 1)));
	return PS_OK;
}

static ps_status record_update(ps_sgd *sgd, double lr, double max_norm)
{
	if (lr == sgd->lr && max_norm == sgd->max_norm)
		return PS_OK;
	ps_updates_clear(sgd->update);
	sgd->lr = NAN;
	for (int r = 0; r < sgd->rank_count; r++) {
		const rank_state *rank = &sgd->ranks[r];
		PS_TRY(ps_update(sgd->update, rank->parameter, clip_scale, .sums = rank->sums, .norm = rank->norm,
		                 .scale = rank->scale, .max_norm = max_norm));
	}
	for (int i = 0; i < sgd->count; i++) {
		const ps_parameter_view *p = &sgd->parameters[i];
		PS_TRY(ps_update(sgd->update, i, sgd, .w = p->value, .g = p->gradient, .copy = p->copy,
		                 .scale = sgd->ranks[sgd->rank_of[i]].scale, .lr = lr, .place = p->place));
	}
	sgd->lr = lr;
	sgd->max_norm = max_norm;
	return PS_OK;
}

ps_status ps_sgd_create(ps_sgd **out, ps_pipeline *pipeline)
{
	*out = NULL;
	ps_sgd *sgd = calloc(1, sizeof *sgd);
	if (sgd == NULL)
		return ps_fail(PS_ENOMEM, "no memory for an optimizer");
	size_t count = (size_t)ps_pipeline_parameter_count(pipeline);
	sgd->pipeline = pipeline;
	sgd->count = (int)count;
	sgd->lr = NAN;
	sgd->parameters = calloc(count, sizeof *sgd->parameters);
	sgd->rank_of = calloc(count, sizeof *sgd->rank_of);
	sgd->sums = calloc(count, sizeof *sgd->sums);
	sgd->ranks = calloc(count, sizeof *sgd->ranks);
	ps_status status = PS_OK;
	if (sgd->parameters == NULL || sgd->rank_of == NULL || sgd->sums == NULL || sgd->ranks == NULL)
		status = ps_fail(PS_ENOMEM, "no memory for an optimizer of %zu parameters", count);
	else
		status = add_parameters(sgd, pipeline);
	if (status == PS_OK)
		status = ps_updates_create(&sgd->squares, pipeline);
	if (status == PS_OK)
		status = ps_updates_create(&sgd->update, pipeline);
	if (status == PS_OK)
		status = record_squares(sgd);
	if (status != PS_OK) {
		ps_sgd_destroy(sgd);
		return status;
	}
	*out = sgd;
	return PS_OK;
}

void ps_sgd_destroy(ps_sgd *sgd)
{
	if (sgd == NULL)
		return;
	ps_updates_destroy(sgd->update);
	ps_updates_destroy(sgd->squares);
	for (int r = 0; r < sgd->rank_count; r++) {
		ps_buffer_destroy(sgd->ranks[r].buffer);
		free(sgd->ranks[r].host);
	}
	free(sgd->ranks);
	free(sgd->sums);
	free(sgd->rank_of);
	free(sgd->parameters);
	free(sgd);
}

/* Waits for all ranks, also after a failure, so that no command uses memory of the optimizer's any more. */
static ps_status finish(ps_sgd *sgd, ps_status status)
{
	for (int r = 0; r < sgd->rank_count; r++) {
		ps_queue *queue = sgd->ranks[r].queue;
		/* The first failure is the one to tell. */
		if (status == PS_OK)
			status = ps_queue_finish(queue);
		else
			ps__timeline_drain(ps_queue_record(queue).timeline);
	}
	return status;
}

static ps_status enqueue_sums(ps_sgd *sgd)
{
	PS_TRY(ps_updates_submit(sgd->squares));
	for (int r = 0; r < sgd->rank_count; r++)
		PS_TRY(ps_queue_read(sgd->ranks[r].queue, sgd->ranks[r].host, sgd->ranks[r].sums));
	return PS_OK;
}

static ps_status enqueue_update(ps_sgd *sgd, double lr, double max_norm)
{
	PS_TRY(record_update(sgd, lr, max_norm));
	for (int r = 0; r < sgd->rank_count; r++)
		PS_TRY(ps_queue_write(sgd->ranks[r].queue, sgd->ranks[r].sums, sgd->sums));
	return ps_updates_submit(sgd->update);
}

ps_status ps_sgd_step(ps_sgd *sgd, double lr, double max_norm, double *norm)
{
	PS_TRY(finish(sgd, enqueue_sums(sgd)));
	double sum = 0.0;
	for (int i = 0; i < sgd->count; i++) {
		sgd->sums[i] = sgd->ranks[sgd->rank_of[i]].host[i];
		if (!isfinite(sgd->sums[i])) {
			/* Where an op differs from the reference, that is why. */
			PS_TRY(ps_pipeline_shadow_finish(sgd->pipeline));
			return ps_fail(
			        PS_ENUMERIC,
			        "the gradient of %s is not finite (its sum of squares is %g); the weights were left "
			        "as they are; try a smaller learning rate",
			        sgd->parameters[i].name, sgd->sums[i]);
		}
		sum += sgd->sums[i];
	}
	PS_TRY(finish(sgd, enqueue_update(sgd, lr, max_norm)));
	*norm = sqrt(sum);
	return PS_OK;
}

double ps_step_lr(double lr, double decay, int epoch)
{
	for (int i = 1; i < epoch; i++)
		lr *= decay;
	return lr;
}
