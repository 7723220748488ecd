/*
 * Pipeline schedules as data.
 *
 * A schedule says, for each rank (a row of work on one device), in which order it runs its actions. It knows nothing
 * of models, memory or devices. A rank may hold several stages. The steps are separate:
 *
 *   generate  a named rule, or a file, gives the compute actions of every rank;
 *   rewrite   adds recomputation, and gives weight gradients actions of their own, in groups;
 *   validate  proves that each is done exactly once, that nothing waits for itself and that the bounds hold;
 *   simulate  replays it with costs.
 *
 * Transfers are not in the lists: an action that needs the result of another rank waits for it, and who needs what is
 * ps_schedule_dependency.
 */
#ifndef PENSTOCK_SCHEDULE_H
#define PENSTOCK_SCHEDULE_H

#include <penstock/status.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, letters, text) */
#define PS_ACTION_MAP(X)                                  \
	X(F, "F", "forward")                              \
	X(B, "B", "input gradient")                       \
	X(W, "W", "weight gradient")                      \
	X(BW, "BW", "input and weight gradient together") \
	X(R, "R", "recompute the forward")

typedef enum ps_action_kind {
#define PS_ACTION_ENUM(name, letters, text) PS_ACTION_##name,
	PS_ACTION_MAP(PS_ACTION_ENUM)
#undef PS_ACTION_ENUM
	        PS_ACTION_COUNT
} ps_action_kind;

typedef struct ps_action {
	uint8_t kind; /* ps_action_kind */
	int32_t stage;
	int32_t micro_batch; /* the first one */
	int32_t count;       /* consecutive micro-batches that it does at once, as if they were one */
} ps_action;

/* The letters of a kind ("BW"), or "?" for a number that is none. */
const char *ps_action_letters(int kind);
/* Writes kind and micro-batches as in messages and files, without the stage: "F2", "W0-3". */
void ps_action_label(char *out, size_t bytes, ps_action action);

typedef struct ps_rank_actions {
	ps_action *actions;
	int64_t count, capacity;
} ps_rank_actions;

typedef struct ps_schedule_rule ps_schedule_rule;

typedef struct ps_schedule {
	char name[32];
	const ps_schedule_rule *rule; /* whose bounds the schedule is held to; NULL: none, as for most files */
	int ranks, stages, micro_batches;
	bool forward_only;
	int *rank_of_stage;    /* stages */
	ps_rank_actions *rank; /* ranks */
} ps_schedule;

/* One named rule: a row of the list in pipeline/schedules/rules.h. docs/add-a-schedule.md shows how to add one. */
struct ps_schedule_rule {
	const char *name;
	const char *text; /* one line for --help */
	/* Stages per rank that the rule can place: exactly `stages_per_rank`, or any when 0. */
	int stages_per_rank;
	/*
	 * Fills the lists of an empty schedule whose sizes are set. Stage s is on rank s % ranks; a rule that places
	 * otherwise writes rank_of_stage first.
	 */
	ps_status (*generate)(ps_schedule *schedule);
	/* The most micro-batches that rank `rank` has between F and B at once, for the validator; NULL: all. */
	int (*in_flight_limit)(const ps_schedule *schedule, int rank);
};

/* The rules, ended by a row without a name. */
const ps_schedule_rule *ps_schedule_rules(void);
const ps_schedule_rule *ps_schedule_find_rule(const char *name);

/*
 * Generates the named schedule for ranks * stages_per_rank stages. An unknown name is PS_EINVAL naming those there are.
 * The caller owns *out.
 */
ps_status ps_schedule_generate(ps_schedule **out, const char *name, int ranks, int stages_per_rank,
                               int micro_batches) PS_WARN_UNUSED;

/*
 * The forward-only schedule for the stages as another schedule places them: what evaluation runs beside training. The
 * caller owns *out.
 */
ps_status ps_schedule_generate_forward(ps_schedule **out, const ps_schedule *placement,
                                       int micro_batches) PS_WARN_UNUSED;

/*
 * Reads a schedule from a text file, one line a rank: actions separated by blanks or commas, each [STAGE]KIND MB as in
 * `F0 F1 BW0` or, with several stages a rank, `2F0`; W0-3 is one weight gradient over four micro-batches. # starts a
 * comment. A file without B, BW, W and R is forward only. micro_batches is what the file must be for; 0 takes the
 * number from the file. Errors name file, line and column. docs/schedules.md has the whole form. The schedule is not
 * yet validated. The caller owns *out.
 */
ps_status ps_schedule_read(ps_schedule **out, const char *path, int micro_batches) PS_WARN_UNUSED;
/* The same form as text, for people and for ps_schedule_read; the caller frees *out. */
ps_status ps_schedule_write(char **out, const ps_schedule *schedule) PS_WARN_UNUSED;

/* A schedule without actions, with stage s on rank s % ranks, for ps_schedule_add. The caller owns *out. */
ps_status ps_schedule_create(ps_schedule **out, const char *name, int ranks, int stages,
                             int micro_batches) PS_WARN_UNUSED;
void ps_schedule_destroy(ps_schedule *schedule);

/* Appends one action to a rank's list. PS_EINVAL when its kind or a number is out of range. */
ps_status ps_schedule_add(ps_schedule *schedule, int rank, ps_action action) PS_WARN_UNUSED;

typedef enum ps_checkpoint { PS_CHECKPOINT_NEVER, PS_CHECKPOINT_EXCEPT_LAST, PS_CHECKPOINT_ALWAYS } ps_checkpoint;

/* Is this micro-batch recomputed? except-last goes by the actual number of micro-batches. */
bool ps_checkpoint_applies(ps_checkpoint mode, int micro_batch, int micro_batches);

/*
 * Inserts R before the B or BW of every micro-batch that the mode recomputes and that has no R on its stage yet. The
 * schedule is unchanged on failure, here and below.
 */
ps_status ps_schedule_add_recompute(ps_schedule *schedule, ps_checkpoint mode) PS_WARN_UNUSED;

/*
 * Replaces the weight gradients of each stage by one W for every group of `group` consecutive micro-batches (the last
 * group may be smaller; group >= micro_batches: one W for all), right after the last B of this group and those before
 * it; BW becomes B, but for stage 0, where a BW that is a group of its own stays as it is: no stage waits for its B.
 */
ps_status ps_schedule_group_weight(ps_schedule *schedule, int group) PS_WARN_UNUSED;

/*
 * Joins what a rank does in a row on one stage: forwards, backwards whose forward is one action, and such a backward
 * with the weight gradient behind it. Only where that takes no more memory: no more micro-batches may be in flight for
 * it, so that gpipe's are joined and 1f1b's are not; and forwards that are recomputed stay apart, since all they take
 * is scratch. For ranks that share one device: what waits for one micro-batch waits for all that are joined with it. A
 * schedule that could not run to its end like this stays as it is.
 */
ps_status ps_schedule_join(ps_schedule *schedule) PS_WARN_UNUSED;

/* One action as the other end of a dependency. rank < 0: there is none, and the rest has no meaning. */
typedef struct ps_action_key {
	int32_t rank;
	ps_action_kind kind;        /* F, or B for either of B and BW */
	int32_t stage, micro_batch; /* the first of as many as the action has */
} ps_action_key;

/*
 * What an action needs from another stage: F of stage s > 0 the F of stage s - 1; B and BW of stage s < last the B or
 * BW of stage s + 1; W and R nothing.
 */
ps_action_key ps_schedule_dependency(const ps_schedule *schedule, ps_action action);

/*
 * Proves the rules of docs/schedules.md: each (stage, micro-batch) has exactly one F and, unless forward only, one B
 * or BW and is in exactly one W or BW; order F < B < W on a stage, R between F and B; all or none of the micro-batches
 * of one F recomputed; weight gradients of a stage in ascending order; each action on its stage's rank; the whole can
 * run to its end (otherwise the message names the waiting actions); micro-batches in flight within the rule's limit.
 * PS_EINVAL names rank, position and action.
 */
ps_status ps_schedule_validate(const ps_schedule *schedule) PS_WARN_UNUSED;

/*
 * The most micro-batches whose F ran and whose B (or BW) did not, summed over all stages of a rank. Forward only
 * nothing waits for a B: 1, the one at work.
 */
int ps_schedule_in_flight(const ps_schedule *schedule, int rank);

/*
 * What things cost, in any one unit of time. Arrays may be NULL for all-equal defaults F 1, B 1, W 1, link 0. R takes
 * as long as F, BW as long as B and W, an action over several micro-batches the sum of theirs.
 */
typedef struct ps_costs {
	const double *forward, *backward_input, *backward_weight; /* per stage, for one micro-batch */
	/* Per boundary s | s + 1: how long a transfer takes. Between stages of one rank there is none. */
	const double *send_forward, *send_backward;
	/* Relative size of each micro-batch (mean 1 is usual); NULL: all 1. */
	const double *micro_batch_scale;
} ps_costs;

typedef struct ps_span {
	double begin, end;
} ps_span;

typedef struct ps_simulation {
	double makespan;
	ps_span **spans; /* [rank][position], parallel to the schedule's lists; NULL unless asked for */
	double *busy;    /* per rank: the sum of its actions */
	double *idle;    /* per rank: makespan - busy */
	double bubble;   /* sum of idle / (ranks * makespan) */
} ps_simulation;

/*
 * Replays a validated schedule: an action starts when its rank is free and what it needs has arrived; transfers take
 * their time beside the computing. costs may be NULL. PS_EINVAL when it cannot run to its end or a cost is negative or
 * not finite. The caller frees the content of *out with ps_simulation_finish; on failure *out is all zero.
 */
ps_status ps_schedule_simulate(ps_simulation *out, const ps_schedule *schedule, const ps_costs *costs,
                               bool with_spans) PS_WARN_UNUSED;
void ps_simulation_finish(ps_simulation *simulation);

/*
 * Draws a simulation made with spans as rows of text, one column a unit of time, a row a rank: `BW0--` is an action
 * with its length, `.` an idle column; what is shorter than a unit may fall between two columns. What docs and --help
 * show. The caller frees *out.
 */
ps_status ps_simulation_draw(char **out, const ps_schedule *schedule, const ps_simulation *simulation,
                             double unit) PS_WARN_UNUSED;

typedef enum ps_split_rule { PS_SPLIT_EVEN, PS_SPLIT_TORCH } ps_split_rule;

/*
 * Cuts `rows` into at most `chunks` micro-batches: even: sizes differ by at most one, larger ones first, never empty;
 * torch: ceil(rows / chunks) rows each, so 20 rows in 8 chunks are 3,3,3,3,3,3,2. Writes the sizes to sizes[chunks]
 * and returns how many there are, 0 unless rows and chunks are positive.
 */
int ps_split_rows(ps_split_rule rule, int64_t rows, int chunks, int64_t *sizes);

#ifdef __cplusplus
}
#endif
#endif
