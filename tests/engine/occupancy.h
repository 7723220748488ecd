/*
 * A checker of a program's memory: plays its instructions over a model of the arenas and follows which of them are
 * sure to come after which (vector clocks over the ranks' queues and the links). The test fails where two tensors that
 * live at once share bytes, where something is read that is not there or not sure to be there yet, and where memory is
 * given to the next tensor while somebody may still use it.
 */
#ifndef PS_TESTS_ENGINE_OCCUPANCY_H
#define PS_TESTS_ENGINE_OCCUPANCY_H

#include "pipeline/internal.h"

void occupancy_check(const ps_pipeline *pipeline, const struct program *program);

#endif
