/* The machine-readable log: one JSON object a line. */
#ifndef PS_TRAIN_LOG_H
#define PS_TRAIN_LOG_H

#include <penstock/train.h>

#include <jansson.h>

typedef struct ps__log ps__log;

/* Starts an empty file, or goes on with an old one. The caller owns *out. */
ps_status ps__log_open(ps__log **out, const char *path, bool append) PS_WARN_UNUSED;
/* Writes one line and gives up the caller's hold on `event`; NULL, from a failed json_ call, is PS_ENOMEM. */
ps_status ps__log_write(ps__log *log, json_t *event) PS_WARN_UNUSED;
ps_status ps__log_step(ps__log *log, const ps_step_report *report) PS_WARN_UNUSED;
ps_status ps__log_evaluation(ps__log *log, const ps_eval_report *report) PS_WARN_UNUSED;
/* Takes NULL. */
ps_status ps__log_close(ps__log *log) PS_WARN_UNUSED;

#endif
