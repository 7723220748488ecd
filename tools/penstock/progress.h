/* Progress on standard error: a bar on a terminal, now and then a line elsewhere. */
#ifndef PS_TOOLS_PROGRESS_H
#define PS_TOOLS_PROGRESS_H

#include <penstock/train.h>

struct progress {
	bool terminal, drawn;
	int64_t next_ns, begin_ns;
	int64_t first_done, tokens; /* since the beginning */
};

/* `done`: steps of the run before this process. */
void progress_init(struct progress *progress, int64_t done);
void progress_step(struct progress *progress, const ps_step_report *report);
/* Takes the bar away, before anything else is printed. */
void progress_clear(struct progress *progress);

#endif
