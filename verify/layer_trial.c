/* Making and running a layer alone. */
#include "verify/layer_trial.h"

#include "verify/conform.h"

#include <penstock/model.h>

#include <stdlib.h>

static ps_status create_layer(ps_layer **out, const struct layer_size *size)
{
	switch (size->kind) {
	case TRIAL_EMBEDDING:
		return ps_embedding_create(out, 0, size->vocabulary, size->emsize, size->time, size->dropout);
	case TRIAL_ENCODER:
		return ps_encoder_layer_create(out, 1, "layers.0", size->emsize, size->nhead, size->nhid, size->dropout,
		                               size->causal);
	case TRIAL_DECODER:
		break;
	}
	return ps_decoder_create(out, 2, size->vocabulary, size->emsize);
}

/* A tensor of the trial's rows. */
static ps_status make(struct layer_trial *trial, ps_tensor *out, const ps_shape *shape)
{
	int64_t dims[PS_MAX_RANK] = {trial->size->rows};
	for (int i = 0; i < shape->rank; i++)
		dims[i + 1] = shape->dims[i];
	return ps__side_tensor(trial->side, out, shape->dtype, shape->rank + 1, dims);
}

static ps_status make_constant(struct layer_trial *trial, int slot)
{
	const ps_shape *shape = &trial->plan.slots[slot].shape;
	ps_tensor *tensor = &trial->slots[slot];
	PS_TRY(ps__side_tensor(trial->side, tensor, shape->dtype, shape->rank, shape->dims));
	double *values = calloc((size_t)ps_tensor_count(*tensor), sizeof *values);
	if (!values)
		return ps_fail(PS_ENOMEM, "no host memory for a constant");
	ps_status status = trial->layer->impl->fill_constant(trial->layer, slot, shape, values);
	if (status == PS_OK)
		status = ps__side_set(trial->side, *tensor, values);
	free(values);
	return status;
}

static uint64_t stream(const struct layer_trial *trial, uint64_t number)
{
	return ps__conform_mix(trial->seed + number) + number * 1000003;
}

/* Round the start value rather than at it, so that norms and biases are not 1 and 0. */
static ps_status make_parameters(struct layer_trial *trial)
{
	const ps_layer *layer = trial->layer;
	if (layer->parameter_count > TRIAL_PARAMETERS)
		return ps_fail(PS_EINTERNAL, "layer %s has more than %d parameters", layer->name,
		               (int)TRIAL_PARAMETERS);
	for (int i = 0; i < layer->parameter_count; i++) {
		const ps_parameter *p = &layer->parameters[i];
		double low = p->low, high = p->high;
		if (p->init == PS_INIT_CONSTANT) {
			low -= 0.4;
			high = p->low + 0.4;
		}
		PS_TRY(ps__side_tensor(trial->side, &trial->parameters[i], trial->side->dtype, p->rank, p->dims));
		PS_TRY(ps__side_tensor(trial->side, &trial->gradients[i], trial->side->dtype, p->rank, p->dims));
		PS_TRY(ps__side_random(trial->side, trial->parameters[i], stream(trial, 10 + (uint64_t)i), low, high));
	}
	return PS_OK;
}

static ps_status make_tensors(struct layer_trial *trial, const ps_shape *in)
{
	const struct layer_size *size = trial->size;
	const ps_layer_plan *plan = &trial->plan;
	const ps_shape words = {PS_I32, 1, {size->time}}, losses = {trial->side->dtype, 1, {size->time}};
	double vocabulary = (double)size->vocabulary;
	PS_TRY(make(trial, &trial->x, in));
	bool tokens = in->dtype == PS_I32;
	PS_TRY(ps__side_random(trial->side, trial->x, stream(trial, 0), tokens ? 0 : -1, tokens ? vocabulary : 1));
	if (!tokens)
		PS_TRY(make(trial, &trial->dx, in));
	if (plan->out.rank) {
		PS_TRY(make(trial, &trial->y, &plan->out));
		PS_TRY(make(trial, &trial->dy, &plan->out));
		PS_TRY(ps__side_random(trial->side, trial->dy, stream(trial, 1), -1, 1));
	} else {
		PS_TRY(make(trial, &trial->y, &losses));
		PS_TRY(make(trial, &trial->targets, &words));
		PS_TRY(ps__side_random(trial->side, trial->targets, stream(trial, 2), 0, vocabulary));
	}
	for (int i = 0; i < plan->slot_count; i++)
		PS_TRY(plan->slots[i].lifetime == PS_LIFETIME_CONSTANT
		               ? make_constant(trial, i)
		               : make(trial, &trial->slots[i], &plan->slots[i].shape));
	return make_parameters(trial);
}

ps_status ps__trial_init(struct layer_trial *trial, struct side *side, const struct layer_size *size, uint64_t seed)
{
	*trial = (struct layer_trial){.side = side, .size = size, .seed = seed};
	PS_TRY(create_layer(&trial->layer, size));
	ps_shape in = {side->dtype, 2, {size->time, size->emsize}};
	if (size->kind == TRIAL_EMBEDDING)
		in = (ps_shape){PS_I32, 1, {size->time}};
	PS_TRY(trial->layer->impl->plan(trial->layer, &in, side->dtype, &trial->plan));
	return make_tensors(trial, &in);
}

void ps__trial_finish(struct layer_trial *trial)
{
	ps_layer_destroy(trial->layer);
	trial->layer = NULL;
}

double ps__trial_loss_scale(const struct layer_trial *trial)
{
	return 1.0 / (double)(trial->size->rows * trial->size->time);
}

enum action { FORWARD, BACKWARD, WEIGHT };

/* As the engine has it: F knows no carry slots, W none but saved_w and carry. */
static bool lives(ps_lifetime lifetime, enum action action)
{
	if (lifetime == PS_LIFETIME_CONSTANT || action == BACKWARD)
		return true;
	if (action == WEIGHT)
		return lifetime == PS_LIFETIME_SAVED_W || lifetime == PS_LIFETIME_CARRY;
	return lifetime != PS_LIFETIME_CARRY;
}

static ps_status record(struct layer_trial *trial, enum action action, ps_list *list)
{
	const ps_layer_plan *plan = &trial->plan;
	const ps_layer_impl *impl = trial->layer->impl;
	ps_tensor slots[PS_MAX_SLOTS] = {{0}};
	for (int i = 0; i < plan->slot_count; i++)
		if (lives(plan->slots[i].lifetime, action))
			slots[i] = trial->slots[i];
	ps_layer_context c = {.list = list,
	                      .training = true,
	                      .rows = trial->size->rows,
	                      .first_row = 2,
	                      .seed = trial->seed,
	                      .parameters = trial->parameters,
	                      .gradients = trial->gradients,
	                      .slots = slots,
	                      .loss_scale = ps__trial_loss_scale(trial)};
	if (action == FORWARD || plan->input == PS_LIFETIME_SAVED_W ||
	    (action == BACKWARD && plan->input == PS_LIFETIME_SAVED_B))
		c.x = trial->x;
	if (action == FORWARD) {
		bool last = plan->out.rank == 0;
		c.y = last ? (ps_tensor){0} : trial->y;
		c.losses = last ? trial->y : (ps_tensor){0};
		c.targets = trial->targets;
		return impl->forward(trial->layer, &c);
	}
	if (action == BACKWARD || plan->gradient == PS_LIFETIME_CARRY)
		c.dy = trial->dy;
	if (action == WEIGHT)
		return impl->backward_weight(trial->layer, &c);
	c.dx = trial->dx;
	return impl->backward_input(trial->layer, &c);
}

static ps_status run(struct layer_trial *trial, enum action action)
{
	ps_list *list;
	PS_TRY(ps_list_create(&list, trial->side->queue));
	ps_status status = record(trial, action, list);
	if (status == PS_OK)
		status = ps_list_submit(list, 9);
	if (status == PS_OK)
		status = ps_queue_finish(trial->side->queue);
	ps_list_destroy(list);
	return status;
}

ps_status ps__trial_forward(struct layer_trial *trial)
{
	return run(trial, FORWARD);
}

ps_status ps__trial_backward(struct layer_trial *trial)
{
	return run(trial, BACKWARD);
}

ps_status ps__trial_weight(struct layer_trial *trial)
{
	return run(trial, WEIGHT);
}

ps_status ps__trial_spoil(struct layer_trial *trial, ps_lifetime lifetime)
{
	for (int i = 0; i < trial->plan.slot_count; i++)
		if (trial->plan.slots[i].lifetime == lifetime)
			PS_TRY(ps__side_fill(trial->side, trial->slots[i], 0xFF));
	return PS_OK;
}
