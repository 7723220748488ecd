/*
 * A complete training run in one file: a small Transformer, cut into two stages, learns to continue a text that this
 * program makes up, and then continues it. Build it against an installed Penstock:
 *
 *   cc -std=c11 tiny.c $(pkg-config --cflags --libs penstock) -lm -o tiny
 *
 * The stages run on the devices named on the command line, by default twice on the CPU:
 *
 *   ./tiny            ./tiny cpu:0 cpu:1            ./tiny cpu cuda:0
 */
#include <penstock/penstock.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { WORDS = 16, TOKENS = 4000, ROWS = 16, TIME = 12, STEPS = 150 };

/*
 * The text: one counts up in steps of three over the words 0 to 15, and now and then the count jumps. A model can learn
 * the step; the jumps it cannot foresee.
 */
static void make_text(int32_t *tokens)
{
	const ps_random_place place = {.seed = 7};
	for (int i = 0; i < TOKENS; i++) {
		uint32_t draw = ps_random_word(&place, 0, (uint64_t)i);
		int32_t before = i > 0 ? tokens[i - 1] : 0;
		tokens[i] = draw % 8 == 0 ? (int32_t)(draw / 8 % WORDS) : (before + 3) % WORDS;
	}
}

/* What a stage holds and how much memory was planned for it; nothing more is allocated later. */
static void print_stages(const ps_pipeline *pipeline)
{
	for (int rank = 0; rank < ps_pipeline_rank_count(pipeline); rank++) {
		ps_rank_info info;
		ps_pipeline_get_rank(pipeline, rank, &info);
		printf("stage %d on %s: %d units, %.0f KiB\n", rank, info.device_name, info.units,
		       (double)info.peak_bytes / 1024);
	}
}

/* The loop: a batch forward and backward through all stages, then one step of the optimizer on each stage's device. */
static ps_status train(ps_pipeline *pipeline, const int32_t *tokens)
{
	int32_t inputs[ROWS * TIME], targets[ROWS * TIME];
	ps_batches batches;
	ps_sgd *sgd;
	PS_TRY(ps_batches_init(&batches, tokens, TOKENS, ROWS, TIME));
	PS_TRY(ps_sgd_create(&sgd, pipeline));
	ps_status status = PS_OK;
	for (int step = 0; status == PS_OK && step < STEPS; step++) {
		/* The step number decides the dropout masks, so that a run can be repeated anywhere. */
		ps_batch batch = {.inputs = inputs, .targets = targets, .rows = ROWS, .step = (uint32_t)step};
		double loss = 0, norm = 0;
		status = ps_batches_get(&batches, step % ps_batches_count(&batches), inputs, targets, &batch.time);
		if (status == PS_OK)
			status = ps_pipeline_train(pipeline, &batch, &loss);
		if (status == PS_OK)
			status = ps_sgd_step(sgd, 0.3, 0.5, &norm);
		if (status == PS_OK && step % 25 == 0)
			printf("step %3d  loss %.4f  gradient norm %.3f\n", step, loss, norm);
	}
	ps_sgd_destroy(sgd);
	return status;
}

/*
 * The likeliest next word after `row`: a loss is the negative logarithm of a probability, so the word with the lowest
 * loss as the last target is the one that the model believes in. Simple rather than fast.
 */
static ps_status next_word(ps_pipeline *pipeline, const int32_t row[TIME], int32_t *word)
{
	double lowest = INFINITY;
	for (int32_t guess = 0; guess < WORDS; guess++) {
		int32_t targets[TIME];
		double loss = 0;
		for (int t = 0; t < TIME; t++)
			targets[t] = t + 1 < TIME ? row[t + 1] : guess;
		ps_batch batch = {.inputs = row, .targets = targets, .rows = 1, .time = TIME};
		PS_TRY(ps_pipeline_evaluate(pipeline, &batch, &loss));
		if (loss < lowest) {
			lowest = loss;
			*word = guess;
		}
	}
	return PS_OK;
}

/* Continues 0 3 6 …; *right counts the words that are as they should be. */
static ps_status continue_text(ps_pipeline *pipeline, int *right)
{
	int32_t row[TIME];
	for (int t = 0; t < TIME; t++)
		row[t] = t * 3 % WORDS;
	printf("after %d:", row[TIME - 1]);
	*right = 0;
	for (int i = 0; i < 8; i++) {
		int32_t word = 0;
		PS_TRY(next_word(pipeline, row, &word));
		*right += word == (row[TIME - 1] + 3) % WORDS;
		for (int t = 0; t + 1 < TIME; t++)
			row[t] = row[t + 1];
		row[TIME - 1] = word;
		printf(" %d", word);
	}
	printf("\n");
	return PS_OK;
}

static ps_status run(const char *const *devices, int stages, int *right)
{
	static int32_t tokens[TOKENS];
	make_text(tokens);

	/* The model is a list of layers: an embedding, two encoder layers, a decoder with the loss. */
	const ps_transformer_config sizes = {.vocabulary = WORDS,
	                                     .emsize = 32,
	                                     .nhead = 4,
	                                     .nhid = 64,
	                                     .nlayers = 2,
	                                     .dropout = 0.05,
	                                     .causal = true,
	                                     .max_time = TIME};
	ps_model model;
	PS_TRY(ps_transformer_create(&model, &sizes));

	/* The pipeline cuts that list over the devices. Each batch runs as four micro-batches, one after the other. */
	const ps_pipeline_config config = {.layers = model.layers,
	                                   .layer_count = model.layer_count,
	                                   .devices = devices,
	                                   .rank_count = stages,
	                                   .schedule = "1f1b",
	                                   .chunks = 4,
	                                   .seed = 1,
	                                   .rows = ROWS,
	                                   .eval_rows = 1,
	                                   .time = TIME};
	ps_pipeline *pipeline = NULL;
	ps_status status = ps_pipeline_create(&pipeline, &config);
	if (status == PS_OK)
		status = ps_pipeline_initialize(pipeline);
	if (status == PS_OK) {
		print_stages(pipeline);
		status = train(pipeline, tokens);
	}
	if (status == PS_OK)
		status = continue_text(pipeline, right);
	ps_pipeline_destroy(pipeline);
	ps_model_finish(&model);
	return status;
}

int main(int argc, char **argv)
{
	const char *devices[4] = {"cpu", "cpu"};
	int stages = 2;
	if (argc > 1) {
		for (stages = 0; stages < argc - 1 && stages < 4; stages++)
			devices[stages] = argv[stages + 1];
	}
	int right = 0;
	if (run(devices, stages, &right) != PS_OK) {
		fprintf(stderr, "tiny: %s\n", ps_error_message());
		return EXIT_FAILURE;
	}
	printf("%d of 8 words are right\n", right);
	return right >= 6 ? EXIT_SUCCESS : EXIT_FAILURE;
}
