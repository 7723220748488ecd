/* Every layer's gradients, in its parameters and in its input, against differences of its own forward. */
#include "verify/gradient.h"
#include "verify/layer_trial.h"

static const struct layer_size plain_embedding = {"embedding", TRIAL_EMBEDDING, 6, 0, 13, 0, 0, false, 3, 4},
                               dropped_embedding = {"embedding", TRIAL_EMBEDDING, 6, 0, 5, 0, 0.3, false, 3, 4},
                               open_layer = {"encoder_layer", TRIAL_ENCODER, 6, 5, 0, 3, 0, false, 2, 3},
                               causal_layer = {"encoder_layer", TRIAL_ENCODER, 6, 5, 0, 3, 0.3, true, 2, 3},
                               small_decoder = {"decoder", TRIAL_DECODER, 6, 0, 13, 0, 0, false, 3, 4};

static ps_status forward(void *payload)
{
	return ps__trial_forward(payload);
}

static ps_status backward(struct layer_trial *trial)
{
	PS_TRY(ps__trial_backward(trial));
	return ps__trial_weight(trial);
}

static void check_all(struct gradient *g, struct layer_trial *trial)
{
	g->y = trial->y;
	g->dy = trial->dy;
	if (!trial->dy.buffer)
		g->dy = ps__gradient_constant(g, ps_tensor_count(trial->y), ps__trial_loss_scale(trial));
	if (g->status == PS_OK)
		g->status = ps__trial_forward(trial);
	if (g->status == PS_OK && !g->differences)
		g->status = backward(trial);
	for (int i = 0; i < trial->layer->parameter_count; i++)
		ps__gradient_check(g, trial->layer->parameters[i].name, trial->parameters[i], trial->gradients[i]);
	if (trial->dx.buffer)
		ps__gradient_check(g, "dx", trial->x, trial->dx);
}

static void check_layer(struct gradient *g, const struct layer_size *size)
{
	struct layer_trial trial;
	g->status = ps__trial_init(&trial, &g->side, size, g->seed);
	g->forward = forward;
	g->payload = &trial;
	if (g->status == PS_OK)
		check_all(g, &trial);
	g->forward = NULL;
	ps__trial_finish(&trial);
}

static void embedding(struct gradient *g)
{
	check_layer(g, g->drop.p > 0 ? &dropped_embedding : &plain_embedding);
}

static void encoder_layer(struct gradient *g)
{
	check_layer(g, g->drop.p > 0 ? &causal_layer : &open_layer);
}

static void decoder(struct gradient *g)
{
	check_layer(g, &small_decoder);
}

static const struct gradient_case cases[] = {
        {"embedding layer", embedding, 2, false},
        {"encoder layer", encoder_layer, 2, false},
        {"decoder layer", decoder, 1, false},
};

const struct gradient_case *ps__gradient_layer_cases(size_t *count)
{
	*count = sizeof cases / sizeof *cases;
	return cases;
}
