/*
 * The Transformer's layers, each alone: its actions against another device's, its halves against the whole, and its
 * recomputation against its forward.
 */
#include "verify/layer_trial.h"
#include "verify/outcome.h"

#include <stdlib.h>
#include <string.h>

static const struct layer_size sizes[] = {
        {"embedding", TRIAL_EMBEDDING, 6, 0, 13, 0, 0, false, 3, 4},
        {"embedding", TRIAL_EMBEDDING, 512, 0, 1000, 0, 0.2, false, 2, 35},
        {"encoder_layer", TRIAL_ENCODER, 6, 5, 0, 3, 0, false, 3, 4},
        {"encoder_layer", TRIAL_ENCODER, 34, 65, 0, 2, 0.3, true, 1, 17},
        {"encoder_layer", TRIAL_ENCODER, 128, 256, 0, 4, 0.2, true, 3, 25},
        {"decoder", TRIAL_DECODER, 6, 0, 13, 0, 0, false, 3, 4},
        {"decoder", TRIAL_DECODER, 128, 0, 4099, 0, 0, false, 2, 35},
};
enum { SIZES = sizeof sizes / sizeof *sizes, PARTS = 5 };

/* What one side has left, as bytes on the host. */
struct results {
	void *y, *dx, *gradients[TRIAL_PARAMETERS];
};

static void results_finish(struct results *results)
{
	free(results->y);
	free(results->dx);
	for (int i = 0; i < TRIAL_PARAMETERS; i++)
		free(results->gradients[i]);
	*results = (struct results){0};
}

/* F, then B and W as one, as the engine has BW. */
static ps_status run_all(struct layer_trial *trial, struct results *out)
{
	PS_TRY(ps__trial_forward(trial));
	PS_TRY(ps__side_bytes(trial->side, trial->y, &out->y));
	PS_TRY(ps__trial_backward(trial));
	if (trial->dx.buffer)
		PS_TRY(ps__side_bytes(trial->side, trial->dx, &out->dx));
	PS_TRY(ps__trial_weight(trial));
	for (int i = 0; i < trial->layer->parameter_count; i++)
		PS_TRY(ps__side_bytes(trial->side, trial->gradients[i], &out->gradients[i]));
	return PS_OK;
}

/* A check of one layer on one device. */
struct check {
	const ps_verify_config *config;
	struct outcome *outcome;
	const char *device;
	size_t row;
	struct layer_trial trial;
	struct results is, want; /* this device's and the other's */
};

static void begin(struct check *check, const char *part)
{
	ps__outcome_begin(check->outcome, check->device, check->trial.size->name, part, check->row,
	                  check->trial.side->dtype);
}

static void tell(struct check *check)
{
	check->outcome->result.done++;
	check->config->report(check->config->payload, &check->outcome->result);
}

/*
 * The chain of sums in a layer is about as long as eight of its widest; what a row's values are made of is of the size
 * of 1.
 */
static ps__tolerance tolerance_of(const struct layer_size *size)
{
	int64_t widest = size->nhid > size->emsize ? size->nhid : size->emsize;
	ps__tolerance tolerance = ps__tolerance_of_sum(8 * widest + size->rows * size->time);
	tolerance.f32 *= 4;
	tolerance.f64 *= 4;
	return tolerance;
}

static void compare(struct check *check, const char *name, ps_tensor as, const void *is, const void *want)
{
	ps__tolerance tolerance = tolerance_of(check->trial.size);
	ps__difference worst = ps__compare(as, is, want, &tolerance);
	ps__outcome_compared(check->outcome, name, &worst);
}

static void compare_gradients(struct check *check)
{
	const struct layer_trial *trial = &check->trial;
	for (int i = 0; i < trial->layer->parameter_count; i++)
		compare(check, trial->layer->parameters[i].name, trial->gradients[i], check->is.gradients[i],
		        check->want.gradients[i]);
}

/* The device's tensor must have these bits. */
static ps_status same_bits(struct check *check, const char *name, ps_tensor tensor, const void *want)
{
	void *is;
	PS_TRY(ps__side_bytes(check->trial.side, tensor, &is));
	size_t bytes = (size_t)ps_tensor_count(tensor) * ps_dtype_bytes(tensor.dtype);
	if (memcmp(is, want, bytes) != 0) {
		const ps__tolerance exact = {0};
		ps__difference worst = ps__compare(tensor, is, want, &exact);
		ps__outcome_compared(check->outcome, name, &worst);
		ps__outcome_differs(check->outcome, "%s: the same values have other bits", name);
	}
	free(is);
	return PS_OK;
}

/* W, when all that it may not read has gone: what lives within an action or from F to B, and both sides of the layer.
 */
static ps_status weight_alone(struct check *check)
{
	struct layer_trial *trial = &check->trial;
	PS_TRY(ps__trial_backward(trial));
	PS_TRY(ps__trial_spoil(trial, PS_LIFETIME_SCRATCH));
	PS_TRY(ps__trial_spoil(trial, PS_LIFETIME_SAVED_B));
	PS_TRY(ps__side_fill(trial->side, trial->y, 0xFF));
	if (trial->dx.buffer)
		PS_TRY(ps__side_fill(trial->side, trial->dx, 0xFF));
	PS_TRY(ps__trial_weight(trial));
	for (int i = 0; i < trial->layer->parameter_count; i++)
		PS_TRY(same_bits(check, trial->layer->parameters[i].name, trial->gradients[i], check->is.gradients[i]));
	return PS_OK;
}

static bool is_saved(const ps_slot *slot)
{
	return slot->lifetime == PS_LIFETIME_SAVED_B || slot->lifetime == PS_LIFETIME_SAVED_W;
}

/* Forward again, into slots that have been spoilt, leaves the bits that forward has left. */
static ps_status recompute(struct check *check, void **saved)
{
	struct layer_trial *trial = &check->trial;
	const ps_layer_plan *plan = &trial->plan;
	PS_TRY(ps__trial_forward(trial));
	for (int i = 0; i < plan->slot_count; i++)
		if (is_saved(&plan->slots[i]))
			PS_TRY(ps__side_bytes(trial->side, trial->slots[i], &saved[i]));
	PS_TRY(ps__trial_spoil(trial, PS_LIFETIME_SAVED_B));
	PS_TRY(ps__trial_spoil(trial, PS_LIFETIME_SAVED_W));
	PS_TRY(ps__side_fill(trial->side, trial->y, 0xFF));
	PS_TRY(ps__trial_forward(trial));
	PS_TRY(same_bits(check, "y", trial->y, check->is.y));
	for (int i = 0; i < plan->slot_count; i++)
		if (saved[i])
			PS_TRY(same_bits(check, plan->slots[i].name, trial->slots[i], saved[i]));
	return PS_OK;
}

static void finish_part(struct check *check, ps_status status)
{
	if (status != PS_OK)
		ps__outcome_failed(check->outcome, status);
	tell(check);
}

/* All parts of one layer on one device, whose own results and those to compare with are there. */
static void check_parts(struct check *check)
{
	void *saved[PS_MAX_SLOTS] = {0};
	begin(check, "F");
	compare(check, "y", check->trial.y, check->is.y, check->want.y);
	tell(check);
	if (check->is.dx) {
		begin(check, "B");
		compare(check, "dx", check->trial.dx, check->is.dx, check->want.dx);
		tell(check);
	}
	begin(check, "W");
	compare_gradients(check);
	tell(check);
	begin(check, "R");
	finish_part(check, recompute(check, saved));
	begin(check, "W after B");
	finish_part(check, weight_alone(check));
	for (int i = 0; i < PS_MAX_SLOTS; i++)
		free(saved[i]);
}

/* Runs one layer on one side; leaves the trial, whose tensors are the side's, for the caller to finish. */
static ps_status run_side(struct check *check, struct side *side, struct results *out)
{
	PS_TRY(ps__trial_init(&check->trial, side, &sizes[check->row], check->config->seed));
	return run_all(&check->trial, out);
}

static void check_layer(struct check *check, ps_dtype dtype, ps_queue *const *queues)
{
	const ps_verify_config *config = check->config;
	struct side side = {.queue = queues[0], .dtype = dtype};
	ps_status other = run_side(check, &side, &check->want);
	for (int i = 0; i < config->device_count; i++) {
		ps__trial_finish(&check->trial);
		ps__side_finish(&side);
		side = (struct side){.queue = queues[i + 1], .dtype = dtype};
		check->device = config->devices[i];
		ps_status status = other == PS_OK ? run_side(check, &side, &check->is) : other;
		if (status == PS_OK) {
			check_parts(check);
		} else {
			check->trial.side = &side;
			begin(check, "");
			finish_part(check, status);
		}
		results_finish(&check->is);
	}
	ps__trial_finish(&check->trial);
	ps__side_finish(&side);
	results_finish(&check->want);
}

ps_status ps_verify_layers(const ps_verify_config *config)
{
	struct outcome outcome = {0};
	ps_queue **queues;
	PS_TRY(ps__queues_open(&queues, config));
	outcome.result.total = (size_t)SIZES * PARTS * 2 * (size_t)config->device_count;
	for (size_t row = 0; row < SIZES; row++)
		for (int dtype = PS_F32; dtype <= PS_F64; dtype++) {
			struct check check = {.config = config, .outcome = &outcome, .row = row};
			check_layer(&check, (ps_dtype)dtype, queues);
		}
	ps__queues_close(queues, config);
	return PS_OK;
}
