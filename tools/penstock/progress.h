/* Progress on standard error: on a terminal a line that is drawn over, elsewhere a line now and then. */
#ifndef PS_TOOLS_PROGRESS_H
#define PS_TOOLS_PROGRESS_H

#include <penstock/train.h>

/* Takes a line away on a terminal. */
#define PROGRESS_CLEAR "\r\033[K"

struct progress_line {
	bool terminal, drawn;
	int64_t next_ns; /* when something is shown again; 0: at once */
};

void progress_line_init(struct progress_line *line);
/* Is it time to show something? The next time is a moment later on a terminal, and some seconds later elsewhere. */
bool progress_line_due(struct progress_line *line);
void progress_line_show(struct progress_line *line, const char *format, ...) PS_PRINTF(2, 3);
/* Takes the line away, before anything else is printed. */
void progress_line_clear(struct progress_line *line);

/* Of training: a bar on a terminal. */
struct progress {
	struct progress_line line;
	int64_t begin_ns;
	int64_t first_done, tokens; /* since the beginning */
};

/* `done`: steps of the run before this process. */
void progress_init(struct progress *progress, int64_t done);
void progress_step(struct progress *progress, const ps_step_report *report);

#endif
