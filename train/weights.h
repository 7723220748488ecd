/* What saving, loading and checkpoints share. */
#ifndef PS_TRAIN_WEIGHTS_H
#define PS_TRAIN_WEIGHTS_H

#include <penstock/train.h>

enum { PS__WEIGHT_NAME_BYTES = 112 };

/* Bytes of the largest parameter, and of all. */
uint64_t ps__weights_largest(const ps_pipeline *pipeline);
uint64_t ps__weights_bytes(const ps_pipeline *pipeline);
/* Parameter `index` as a file has it, its name with `prefix` in front; `name` must live as long as *out. */
void ps__weights_describe(ps_pipeline *pipeline, int index, const char *prefix, ps_saved_tensor *out,
                          char name[PS__WEIGHT_NAME_BYTES]);
/* ps_weights_save; `best` is NULL or has one host copy for each parameter, saved under PS_BEST_PREFIX. */
ps_status ps__weights_save(ps_pipeline *pipeline, const char *path, const ps_metadata *metadata, int metadata_count,
                           void *const *best) PS_WARN_UNUSED;
/* ps_weights_load of the tensors whose names have `prefix` in front: "" or PS_BEST_PREFIX. */
ps_status ps__weights_load(ps_pipeline *pipeline, const ps_safetensors *file, const char *prefix) PS_WARN_UNUSED;

#endif
