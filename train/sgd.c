/*
 * Gradient descent with a global norm over all ranks.
 *
 * Each rank forms the sum of squares of its own parameters' gradients; the sums of all are gathered on every rank,
 * which adds them up in the order of the whole model's parameters. So the norm has the same bits for every placement,
 * and no update waits for the host: of a norm that is not finite a scale becomes NaN, with which nothing is changed.
 */
#include <penstock/train.h>

#include <math.h>
#include <stdlib.h>

/* What one rank holds: sums of all parameters (n), norm (1) and scale (1), all F64. */
typedef struct rank_state {
	ps_queue *queue;
	int parameter; /* the first that it has, or -1 */
	ps_buffer *buffer;
	ps_tensor norm, scale;
	ps_event done; /* the update that was submitted last */
} rank_state;

struct ps_sgd {
	ps_pipeline *pipeline;
	ps_parameter_view *parameters; /* (n) */
	double *host_sums;             /* (n), to find one that is not finite */
	int count;
	rank_state *ranks;
	ps_tensor *sums; /* [rank] */
	int rank_count;
	int reader; /* the rank whose norm is read */
	double host_norm;
	bool submitted;
	int64_t failures; /* of the pipeline, when it was */
	ps_updates *squares, *update;
	double lr, max_norm; /* that `update` was recorded with; NaN: with none */
};

static ps_status create_rank(ps_sgd *sgd, int r)
{
	rank_state *rank = &sgd->ranks[r];
	int64_t sums = sgd->count, one = 1;
	uint64_t bytes = ((uint64_t)sgd->count + 2) * sizeof(double);
	rank->queue = ps_pipeline_get_queue(sgd->pipeline, r);
	rank->parameter = -1;
	PS_TRY(ps_buffer_create(&rank->buffer, ps_queue_device(rank->queue), bytes));
	sgd->sums[r] = ps_tensor_make(rank->buffer, 0, PS_F64, 1, &sums);
	rank->norm = ps_tensor_make(rank->buffer, (uint64_t)sums * sizeof(double), PS_F64, 1, &one);
	rank->scale = ps_tensor_make(rank->buffer, ((uint64_t)sums + 1) * sizeof(double), PS_F64, 1, &one);
	return PS_OK;
}

static void add_parameters(ps_sgd *sgd)
{
	for (int i = sgd->count - 1; i >= 0; i--) {
		ps_pipeline_get_parameter(sgd->pipeline, i, &sgd->parameters[i]);
		sgd->ranks[sgd->parameters[i].rank].parameter = i;
		sgd->reader = sgd->parameters[i].rank;
	}
}

static ps_status record_squares(ps_sgd *sgd)
{
	for (int i = 0; i < sgd->count; i++)
		PS_TRY(ps_update(sgd->squares, i, sum_squares, .x = sgd->parameters[i].gradient,
		                 .out = ps_tensor_slice(sgd->sums[sgd->parameters[i].rank], 0, i, 1)));
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
		if (rank->parameter >= 0)
			PS_TRY(ps_update(sgd->update, rank->parameter, clip_scale, .sums = sgd->sums[r],
			                 .norm = rank->norm, .scale = rank->scale, .max_norm = max_norm));
	}
	for (int i = 0; i < sgd->count; i++) {
		const ps_parameter_view *p = &sgd->parameters[i];
		PS_TRY(ps_update(sgd->update, i, sgd, .w = p->value, .g = p->gradient, .copy = p->copy,
		                 .scale = sgd->ranks[p->rank].scale, .lr = lr, .place = p->place));
	}
	sgd->lr = lr;
	sgd->max_norm = max_norm;
	return PS_OK;
}

static ps_status set_up(ps_sgd *sgd)
{
	size_t count = (size_t)sgd->count, ranks = (size_t)sgd->rank_count;
	sgd->parameters = calloc(count, sizeof *sgd->parameters);
	sgd->host_sums = calloc(count, sizeof *sgd->host_sums);
	sgd->ranks = calloc(ranks, sizeof *sgd->ranks);
	sgd->sums = calloc(ranks, sizeof *sgd->sums);
	if (sgd->parameters == NULL || sgd->host_sums == NULL || sgd->ranks == NULL || sgd->sums == NULL)
		return ps_fail(PS_ENOMEM, "no memory for an optimizer of %zu parameters", count);
	for (int r = 0; r < sgd->rank_count; r++)
		PS_TRY(create_rank(sgd, r));
	add_parameters(sgd);
	PS_TRY(ps_updates_create(&sgd->squares, sgd->pipeline));
	PS_TRY(ps_updates_create(&sgd->update, sgd->pipeline));
	return record_squares(sgd);
}

/* For when nothing uses the memory any more. */
static void release(ps_sgd *sgd)
{
	ps_updates_destroy(sgd->update);
	ps_updates_destroy(sgd->squares);
	for (int r = 0; r < sgd->rank_count && sgd->ranks != NULL; r++)
		ps_buffer_destroy(sgd->ranks[r].buffer);
	free(sgd->ranks);
	free(sgd->sums);
	free(sgd->host_sums);
	free(sgd->parameters);
	free(sgd);
}

ps_status ps_sgd_create(ps_sgd **out, ps_pipeline *pipeline)
{
	*out = NULL;
	ps_sgd *sgd = calloc(1, sizeof *sgd);
	if (sgd == NULL)
		return ps_fail(PS_ENOMEM, "no memory for an optimizer");
	sgd->pipeline = pipeline;
	sgd->count = ps_pipeline_parameter_count(pipeline);
	sgd->rank_count = ps_pipeline_rank_count(pipeline);
	sgd->lr = NAN;
	ps_status status = set_up(sgd);
	if (status != PS_OK) {
		release(sgd);
		return status;
	}
	*out = sgd;
	return PS_OK;
}

void ps_sgd_destroy(ps_sgd *sgd)
{
	/* Memory of the optimizer's that may still be in use stays. */
	if (sgd != NULL && ps_pipeline_drain(sgd->pipeline))
		release(sgd);
}

static ps_status enqueue(ps_sgd *sgd, double lr, double max_norm)
{
	const rank_state *reader = &sgd->ranks[sgd->reader];
	PS_TRY(record_update(sgd, lr, max_norm));
	PS_TRY(ps_updates_submit(sgd->squares));
	PS_TRY(ps_pipeline_gather(sgd->pipeline, sgd->sums));
	PS_TRY(ps_updates_submit(sgd->update));
	return ps_queue_read(reader->queue, &sgd->host_norm, reader->norm);
}

/* Waits until the update is over, one way or the other. */
static ps_status finish(ps_sgd *sgd)
{
	ps_status status = PS_OK;
	sgd->submitted = false;
	for (int r = 0; r < sgd->rank_count && status == PS_OK; r++)
		status = ps_pipeline_wait(sgd->pipeline, sgd->ranks[r].done);
	if (status != PS_OK && status != PS_ESTALL)
		(void)ps_pipeline_drain(sgd->pipeline);
	return status;
}

ps_status ps_sgd_submit(ps_sgd *sgd, double lr, double max_norm)
{
	/* The caller has been told of a failure, and has not asked what it made of the update. */
	if (sgd->submitted && ps_pipeline_failures(sgd->pipeline) != sgd->failures)
		(void)finish(sgd);
	if (sgd->submitted)
		return ps_fail(PS_EINVAL, "an update is on its way; collect it first");
	ps_status status = enqueue(sgd, lr, max_norm);
	if (status != PS_OK) {
		(void)ps_pipeline_drain(sgd->pipeline);
		return status;
	}
	for (int r = 0; r < sgd->rank_count; r++)
		sgd->ranks[r].done = ps_queue_record(sgd->ranks[r].queue);
	sgd->submitted = true;
	sgd->failures = ps_pipeline_failures(sgd->pipeline);
	return PS_OK;
}

static ps_status explain_norm(ps_sgd *sgd)
{
	const rank_state *reader = &sgd->ranks[sgd->reader];
	/* Where an op differs from the reference, that is why. */
	PS_TRY(ps_pipeline_shadow_finish(sgd->pipeline));
	PS_TRY(ps_queue_read(reader->queue, sgd->host_sums, sgd->sums[sgd->reader]));
	PS_TRY(ps_queue_finish(reader->queue));
	int i = 0;
	while (i < sgd->count && isfinite(sgd->host_sums[i]))
		i++;
	if (i == sgd->count)
		return ps_fail(PS_ENUMERIC,
		               "the norm of the gradients is too large for a number; the weights were left "
		               "as they are; try a smaller learning rate");
	return ps_fail(
	        PS_ENUMERIC,
	        "the gradient of %s is not finite (its sum of squares is %g); the weights were left as they are; "
	        "try a smaller learning rate",
	        sgd->parameters[i].name, isnan(sgd->host_sums[i]) ? (double)NAN : sgd->host_sums[i]);
}

ps_status ps_sgd_collect(ps_sgd *sgd, double *norm)
{
	if (!sgd->submitted)
		return ps_fail(PS_EINVAL, "no update is on its way; submit one first");
	PS_TRY(finish(sgd));
	*norm = sgd->host_norm;
	return isfinite(*norm) ? PS_OK : explain_norm(sgd);
}

ps_status ps_sgd_step(ps_sgd *sgd, double lr, double max_norm, double *norm)
{
	PS_TRY(ps_sgd_submit(sgd, lr, max_norm));
	return ps_sgd_collect(sgd, norm);
}

double ps_step_lr(double lr, double decay, int epoch)
{
	for (int i = 1; i < epoch; i++)
		lr *= decay;
	return lr;
}
