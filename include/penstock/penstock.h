/*
 * Penstock: pipeline-parallel training over the devices of one machine. This header includes all others and says how
 * the pieces fit; examples/tiny.c is a complete run in one file.
 *
 * From the bottom up, each layer knowing only those below it:
 *
 *   status.h       Every function that can fail returns a ps_status and sets a one-line message, ps_error_message().
 *   tensor.h       Plain values that describe a view into a buffer. Nothing to create or destroy.
 *   bf16.h         bfloat16 numbers in host memory.
 *   device.h       Devices by name ("cpu:0-3", "cuda:0", "ref"), their buffers, and queues on which all work runs in
 *                  order and asynchronously; events are points on a queue's timeline.
 *   ops.h          The ops: one argument struct each. ps_run enqueues one, a ps_list records many.
 *   random.h       Counter-based random numbers: a value depends on what it is for, never on where it is computed.
 *   tune.h         Searching for what makes a device's products fast.
 *   link.h         Moves tensors from one device to another.
 *   schedule.h     Who does what in which order, as data: generate, validate, simulate.
 *   layer.h        The contract of a layer: forward, input gradient, weight gradient, and the memory they need.
 *   pipeline.h     The engine: layers, cut into stages, on devices, run by a schedule.
 *   model.h        The Transformer of the PyTorch pipeline tutorial as a list of layers.
 *   data.h         Corpora, vocabularies and batches of tokens.
 *   safetensors.h  Weight files.
 *   train.h        Optimizer, evaluation, the trainer with its checkpoints, log lines and traces.
 *   verify.h       Checks of a device's results against another's: ops, gradients, layers.
 *
 * A run, in the order of the calls:
 *
 *   1. ps_corpus_open, or token ids of your own, and ps_batches_init over them.
 *   2. ps_transformer_create, or a list of layers of your own.
 *   3. ps_pipeline_create with the layers and a device name for each stage. It opens the devices, cuts the layers,
 *      generates and validates the schedule, plans all memory and allocates it; ps_pipeline_get_rank tells the plan.
 *   4. ps_pipeline_initialize, or ps_weights_load from a file.
 *   5. For each batch ps_pipeline_train, which leaves the gradients on the devices, and ps_sgd_step, which uses them.
 *      Either comes in two halves, submit and collect, for the next step to be under way while the host reads this one.
 *   6. ps_pipeline_evaluate or ps_evaluate now and then; ps_weights_save at the end.
 *
 * ps_trainer_create and ps_trainer_run do 4 to 6 with validation, best weights and resumption, as `penstock train`
 * does.
 *
 * Habits. Out-parameters come first and are NULL or untouched on failure. What comes back through a pointer to a
 * pointer is the caller's to destroy; a pointer that is returned is borrowed. create and destroy allocate, init and
 * finish do not, and destroy takes NULL. Different objects may be used from different threads at the same time.
 *
 * The same seed gives the same bits for every cut, schedule, checkpoint mode, split and number of micro-batches on one
 * backend.
 */
#ifndef PENSTOCK_PENSTOCK_H
#define PENSTOCK_PENSTOCK_H

#include <penstock/bf16.h>
#include <penstock/data.h>
#include <penstock/device.h>
#include <penstock/layer.h>
#include <penstock/link.h>
#include <penstock/model.h>
#include <penstock/ops.h>
#include <penstock/pipeline.h>
#include <penstock/random.h>
#include <penstock/safetensors.h>
#include <penstock/schedule.h>
#include <penstock/status.h>
#include <penstock/tensor.h>
#include <penstock/train.h>
#include <penstock/tune.h>
#include <penstock/verify.h>

#endif
