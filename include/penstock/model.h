/*
 * The Transformer language model of the PyTorch pipeline tutorial, as a list of layers for the engine.
 *
 * Units: the embedding (index 0, parameters "encoder.…"), the encoder layers ("layers.N.…", index N + 1), and the
 * decoder with the loss ("decoder.…", index nlayers + 1). Names, shapes, formulas and start values are PyTorch's.
 */
#ifndef PENSTOCK_MODEL_H
#define PENSTOCK_MODEL_H

#include <penstock/layer.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ps_transformer_config {
	int64_t vocabulary; /* V */
	int64_t emsize;     /* E; even */
	int nhead;          /* divides emsize */
	int64_t nhid;
	int nlayers;
	double dropout; /* 0 <= dropout < 1 */
	bool causal;
	int64_t max_time; /* positions that are prepared */
} ps_transformer_config;

typedef struct ps_model {
	ps_layer **layers;
	int layer_count;
} ps_model;

/* Checks the sizes (PS_EINVAL names the option and what would be right) and builds the layers. */
ps_status ps_transformer_create(ps_model *out, const ps_transformer_config *config) PS_WARN_UNUSED;
void ps_model_finish(ps_model *model);
/* The sum of all parameters' elements: 1,444,261,998 for the tutorial's sizes. */
int64_t ps_model_parameter_elements(const ps_model *model);

/*
 * The three kinds of layer, for models of one's own. `index` (below 2^24) places the random numbers. Sizes are checked.
 * The caller owns *out.
 */
ps_status ps_embedding_create(ps_layer **out, uint32_t index, int64_t vocabulary, int64_t emsize, int64_t max_time,
                              double dropout) PS_WARN_UNUSED;
ps_status ps_encoder_layer_create(ps_layer **out, uint32_t index, const char *name, int64_t emsize, int nhead,
                                  int64_t nhid, double dropout, bool causal) PS_WARN_UNUSED;
/* Linear (V, E) with bias, then cross entropy against the targets. */
ps_status ps_decoder_create(ps_layer **out, uint32_t index, int64_t vocabulary, int64_t emsize) PS_WARN_UNUSED;

#ifdef __cplusplus
}
#endif
#endif
