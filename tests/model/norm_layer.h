/* The worked example of docs/add-a-layer.md. */
#ifndef PS_TESTS_MODEL_NORM_LAYER_H
#define PS_TESTS_MODEL_NORM_LAYER_H

#include <penstock/layer.h>

/* Takes and gives (time, width). The caller owns *out. */
ps_status norm_layer_create(ps_layer **out, uint32_t index, int64_t width) PS_WARN_UNUSED;

#endif
