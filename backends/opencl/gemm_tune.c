/*
 * The search for the fastest way to make a device's products, as one command of a queue.
 *
 *   1. Each form of our own kernels is tried on one product; those that are far from the best are left out.
 *   2. For each row the forms that are left compete, then the winner's cut is varied, one of its sizes at a time. What
 *      wins is measured again in turns with what was used before, and must win again.
 *   3. CLBlast's parameters: for each of its kernels random values, then random changes of the best.
 *   4. CLBlast, as well as it goes now, makes the rows. For each pair of transposes the faster of the two is chosen.
 *
 * Each phase has a share of the time and ends when it is used up. A candidate that does not build or gives wrong
 * results is counted and left out.
 */
#include "backends/opencl/gemm.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Shares of the time, from the beginning, at which the phases end. */
#define FORMS_END 0.08
#define OWN_END 0.45
#define CLBLAST_END 0.8

struct search {
	struct cl_queue *q;
	ps_tuning *tuning;
	int64_t begin;
	bool stopped;
	double form_ns[CL_GEMM_FORMS]; /* for the first product; 0: out of the race */
	struct cl_tuned found;
	double own_s[CL_TUNED_ROWS], by_clblast_s[CL_TUNED_ROWS]; /* the second as it was before, where it was used */
};

/* Is the time up to this share of the whole used up, or is the search to end? */
static bool is_over(struct search *s, double share)
{
	double done = (double)(ps_clock_ns() - s->begin) * 1e-9 / s->tuning->seconds;
	return s->stopped || done >= share;
}

static void report(struct search *s, const char *what)
{
	double done = (double)(ps_clock_ns() - s->begin) * 1e-9 / s->tuning->seconds;
	if (s->tuning->progress && s->tuning->progress(s->tuning->payload, done < 1 ? done : 1, what))
		s->stopped = true;
}

static struct cl_product product_of(const struct search *s, const ps_tune_row *row)
{
	return (struct cl_product){.dtype = s->tuning->dtype,
	                           .m = row->m,
	                           .n = row->n,
	                           .k = row->k,
	                           .trans_a = row->trans_a,
	                           .trans_b = row->trans_b};
}

/* Least time of a few runs, of which the first compiles and is not counted; 0 when the product is not right. */
static ps_status time_once(struct search *s, const struct cl_trial *trial, const struct cl_gemm_choice *how, double *ns)
{
	enum { RUNS = 8 };
	const int64_t enough = 60000000;
	int64_t least = INT64_MAX, sum = 0;
	*ns = 0;
	for (int i = 0; i <= RUNS && (i < 2 || sum < enough); i++) {
		int64_t one;
		bool right;
		PS_TRY(ps__cl_trial_run(trial, s->q, how, &one, &right));
		if (!right)
			return PS_OK;
		if (i == 0 && one > 20 * enough && is_over(s, 1)) /* one that long is all that there is time for */
			i = RUNS;
		if (i > 0 && one < least)
			least = one;
		sum += i > 0 ? one : 0;
	}
	*ns = least < INT64_MAX ? (double)least : 0;
	return PS_OK;
}

/* The same for a candidate, which is counted. */
static ps_status try_one(struct search *s, const struct cl_trial *trial, const struct cl_gemm_choice *how, double *ns)
{
	PS_TRY(time_once(s, trial, how, ns));
	s->tuning->tried++;
	s->tuning->wrong += *ns <= 0;
	return PS_OK;
}

static int64_t probe_side(const struct search *s)
{
	return s->q->device->cpu ? 400 : 1024;
}

/* Is a form right with all transposes, at sizes that no tile divides? */
static ps_status check_form(struct search *s, const struct cl_gemm_choice *how, bool *right)
{
	*right = true;
	for (int t = 0; t < CL_TRANSPOSES && *right; t++) {
		struct cl_product like = {
		        .dtype = s->tuning->dtype, .trans_a = t / 2, .trans_b = t % 2, .accumulate = t % 3 == 0};
		struct cl_trial trial;
		int64_t ns;
		ps_status status = ps__cl_trial_init(&trial, s->q, &like, 67, 131, 301);
		if (status == PS_OK)
			status = ps__cl_trial_run(&trial, s->q, how, &ns, right);
		ps_status end = ps__cl_trial_finish(&trial, s->q);
		PS_TRY(status);
		PS_TRY(end);
	}
	return PS_OK;
}

static ps_status try_form(struct search *s, const struct cl_trial *trial, const struct cl_gemm_choice *how, double *ns)
{
	bool right;
	PS_TRY(try_one(s, trial, how, ns));
	PS_TRY(check_form(s, how, &right));
	if (!right && *ns > 0) {
		*ns = 0;
		s->tuning->wrong++;
	}
	return PS_OK;
}

static ps_status try_forms(struct search *s)
{
	struct cl_product like = {.dtype = s->tuning->dtype, .trans_b = true};
	struct cl_trial trial;
	double best = 0;
	int64_t side = probe_side(s);
	ps_status status = ps__cl_trial_init(&trial, s->q, &like, side, side, side);
	for (int form = 0; form < CL_GEMM_FORMS && status == PS_OK; form++) {
		struct cl_gemm_choice how = {.plan = ps__cl_own_plan(s->q->device)};
		bool first = form == how.plan.form;
		how.plan.form = form;
		if (!ps__cl_form_fits(s->q->device, form, like.dtype) || (!first && is_over(s, FORMS_END)))
			continue;
		report(s, ps__cl_forms[form].name);
		status = try_form(s, &trial, &how, &s->form_ns[form]);
		if (s->form_ns[form] > 0 && (best <= 0 || s->form_ns[form] < best))
			best = s->form_ns[form];
	}
	ps_status end = ps__cl_trial_finish(&trial, s->q);
	for (int form = 0; form < CL_GEMM_FORMS; form++)
		if (s->form_ns[form] > 1.7 * best)
			s->form_ns[form] = 0;
	return status == PS_OK ? end : status;
}

/* Tries one plan; it replaces *best when it is faster. */
static ps_status try_plan(struct search *s, const struct cl_trial *trial, struct cl_gemm_plan plan,
                          struct cl_gemm_plan *best, double *best_ns)
{
	double ns;
	PS_TRY(try_one(s, trial, &(struct cl_gemm_choice){.plan = plan}, &ns));
	if (ns > 0 && (*best_ns <= 0 || ns < *best_ns)) {
		*best = plan;
		*best_ns = ns;
	}
	return PS_OK;
}

static ps_status search_plan(struct search *s, const struct cl_trial *trial, double share, struct cl_gemm_plan *best,
                             double *best_ns)
{
	static const int depths[] = {128, 192, 256, 384, 512}, rows[] = {96, 240, 480, 960},
	                 columns[] = {64, 128, 256, 512};
	for (int form = 0; form < CL_GEMM_FORMS; form++) {
		struct cl_gemm_plan plan = *best;
		plan.form = form;
		if (s->form_ns[form] > 0 && form != best->form && !is_over(s, share))
			PS_TRY(try_plan(s, trial, plan, best, best_ns));
	}
	if (!ps__cl_forms[best->form].panels)
		return PS_OK;
	for (size_t i = 0; i < sizeof depths / sizeof *depths && !is_over(s, share); i++) {
		struct cl_gemm_plan plan = *best;
		plan.depth = depths[i];
		PS_TRY(try_plan(s, trial, plan, best, best_ns));
	}
	for (size_t i = 0; i < sizeof rows / sizeof *rows && !is_over(s, share); i++) {
		struct cl_gemm_plan plan = *best;
		plan.rows = rows[i];
		PS_TRY(try_plan(s, trial, plan, best, best_ns));
	}
	for (size_t i = 0; i < sizeof columns / sizeof *columns && !is_over(s, share); i++) {
		struct cl_gemm_plan plan = *best;
		plan.columns = columns[i];
		PS_TRY(try_plan(s, trial, plan, best, best_ns));
	}
	return PS_OK;
}

static bool is_same(const struct cl_gemm_plan *a, const struct cl_gemm_plan *b)
{
	return a->form == b->form && a->depth == b->depth && a->rows == b->rows && a->columns == b->columns;
}

/* What was used before against the winner, in turns. */
static ps_status confirm(struct search *s, const struct cl_trial *trial, const struct cl_gemm_choice *before,
                         struct cl_gemm_plan *best, int row)
{
	enum { TURNS = 2 };
	double before_ns = 0, best_ns = 0, ns;
	bool same = !before->clblast && is_same(&before->plan, best);
	for (int i = 0; i < TURNS; i++) {
		PS_TRY(time_once(s, trial, before, &ns));
		before_ns = i == 0 || ns < before_ns ? ns : before_ns;
		if (!same)
			PS_TRY(time_once(s, trial, &(struct cl_gemm_choice){.plan = *best}, &ns));
		best_ns = i == 0 || ns < best_ns ? ns : best_ns;
	}
	if (same || (!before->clblast && before_ns > 0 && before_ns <= best_ns)) {
		*best = before->plan;
		best_ns = before_ns;
	}
	s->tuning->rows[row].before_s = before_ns * 1e-9;
	s->by_clblast_s[row] = before->clblast ? before_ns * 1e-9 : 0;
	s->own_s[row] = best_ns * 1e-9;
	return PS_OK;
}

static ps_status tune_own(struct search *s, int row, double share)
{
	struct cl_product p = product_of(s, &s->tuning->rows[row]);
	struct cl_tuned_row *found = &s->found.rows[row];
	struct cl_gemm_choice before;
	struct cl_trial trial;
	double ns = 0;
	ps_status status = ps__cl_trial_init(&trial, s->q, &p, p.m, p.n, p.k);
	if (status == PS_OK)
		status = ps__cl_gemm_choose(s->q, &p, &before);
	found->plan = status == PS_OK ? before.plan : ps__cl_own_plan(s->q->device);
	if (status == PS_OK)
		status = try_one(s, &trial, &(struct cl_gemm_choice){.plan = found->plan}, &ns);
	if (status == PS_OK)
		status = search_plan(s, &trial, share, &found->plan, &ns);
	if (status == PS_OK)
		status = confirm(s, &trial, &before, &found->plan, row);
	ps_status end = ps__cl_trial_finish(&trial, s->q);
	/* A product without room on the device goes unmeasured. */
	return status == PS_OK || status == PS_ENOMEM ? end : status;
}

static ps_status tune_rows(struct search *s)
{
	for (int i = 0; i < s->found.count; i++) {
		const ps_tune_row *row = &s->tuning->rows[i];
		double share = FORMS_END + (OWN_END - FORMS_END) * (i + 1) / s->found.count;
		char what[96];
		snprintf(what, sizeof what, "own kernels, %lld x %lld x %lld", (long long)row->m, (long long)row->n,
		         (long long)row->k);
		s->found.rows[i] = (struct cl_tuned_row){.m = row->m,
		                                         .n = row->n,
		                                         .k = row->k,
		                                         .transposes = cl_transposes(row->trans_a, row->trans_b),
		                                         .plan = ps__cl_own_plan(s->q->device)};
		report(s, what);
		if (!s->stopped)
			PS_TRY(tune_own(s, i, share));
	}
	return PS_OK;
}

/* Sets one kernel and measures; 0 when CLBlast does not take the values or is wrong with them. */
static ps_status try_values(struct search *s, const struct cl_trial *trial, int kernel,
                            const struct cl_clblast_values *values, double *ns)
{
	*ns = 0;
	if (ps__cl_clblast_apply(s->q->device, s->tuning->dtype, kernel, values) == PS_OK)
		return try_one(s, trial, &(struct cl_gemm_choice){.clblast = true}, ns);
	s->tuning->tried++;
	s->tuning->wrong++;
	return PS_OK;
}

/* Random values and changes of the best, for one kernel, until the time is up to `share`. */
static ps_status climb(struct search *s, const struct cl_trial *trial, int kernel, double share, uint64_t *random)
{
	enum { DRAWS = 20000 };
	struct cl_clblast_values *best = &s->found.values;
	double best_ns = 0, start = (double)(ps_clock_ns() - s->begin) * 1e-9 / s->tuning->seconds;
	PS_TRY(try_values(s, trial, kernel, best, &best_ns));
	for (int draws = 0; draws < DRAWS && !is_over(s, share); draws++) {
		struct cl_clblast_values next = *best;
		bool early = !is_over(s, start + (share - start) / 2);
		ps__cl_clblast_change(&next, kernel, early && draws % 2 == 0, random);
		if (!memcmp(&next, best, sizeof next) ||
		    !ps__cl_clblast_allowed(s->q->device, s->tuning->dtype, kernel, &next))
			continue;
		double ns;
		char what[96];
		PS_TRY(try_values(s, trial, kernel, &next, &ns));
		if (ns > 0 && (best_ns <= 0 || ns < best_ns)) {
			*best = next;
			best_ns = ns;
		}
		snprintf(what, sizeof what, "CLBlast's %s, %.0f GFLOP/s", ps__cl_clblast_kernel_name(kernel),
		         best_ns > 0 ? 2 * pow((double)probe_side(s), 3) / best_ns : 0.0);
		report(s, what);
	}
	return ps__cl_clblast_apply(s->q->device, s->tuning->dtype, kernel, best);
}

/* The route that makes products of this kernel: XgemmDirect alone, or all the others. */
static ps_status force_route(struct search *s, bool direct)
{
	struct cl_clblast_values values = s->found.values;
	values.of[CL_GEMM_ROUTINE][0] = direct ? 1 << 16 : 0;
	return ps__cl_clblast_apply(s->q->device, s->tuning->dtype, CL_GEMM_ROUTINE, &values);
}

static ps_status tune_clblast(struct search *s)
{
	/* Half of the time for Xgemm, and most of the rest for XgemmDirect. */
	static const double parts[CL_CLBLAST_KERNELS] = {0.5, 0.8, 0.84, 0.88, 0.92, 0.96, 1};
	struct cl_product like = {.dtype = s->tuning->dtype, .trans_b = true};
	struct cl_trial trial;
	uint64_t random = UINT64_C(0x9E3779B97F4A7C15);
	int64_t side = probe_side(s);
	s->found.values = ps__cl_clblast_start;
	double start = (double)(ps_clock_ns() - s->begin) * 1e-9 / s->tuning->seconds;
	ps_status status = ps__cl_trial_init(&trial, s->q, &like, side, side, side);
	for (int i = 0; i < CL_CLBLAST_KERNELS && status == PS_OK && start < CLBLAST_END && !s->stopped; i++) {
		if (i != CL_GEMM_ROUTINE)
			status = force_route(s, i == CL_XGEMM_DIRECT);
		if (status == PS_OK)
			status = climb(s, &trial, i, start + (CLBLAST_END - start) * parts[i], &random);
	}
	ps_status end = ps__cl_trial_finish(&trial, s->q);
	s->found.has_values = status == PS_OK;
	return status == PS_OK ? end : status;
}

static ps_status time_library(struct search *s, int row)
{
	struct cl_product p = product_of(s, &s->tuning->rows[row]);
	struct cl_trial trial;
	double ns = 0;
	ps_status status = ps__cl_trial_init(&trial, s->q, &p, p.m, p.n, p.k);
	if (status == PS_OK)
		status = time_once(s, &trial, &(struct cl_gemm_choice){.clblast = true}, &ns);
	ps_status end = ps__cl_trial_finish(&trial, s->q);
	s->tuning->rows[row].library_s = ns * 1e-9;
	return status == PS_OK || status == PS_ENOMEM ? end : status;
}

/* Who makes the products with these transposes; CLBlast must have made all of them, and gain something. */
static bool is_for_clblast(const struct search *s, int transposes)
{
	double own = 0, library = 0;
	for (int i = 0; i < s->found.count; i++)
		if (s->found.rows[i].transposes == transposes && s->own_s[i] > 0) {
			if (s->tuning->rows[i].library_s <= 0)
				return false;
			own += s->own_s[i];
			library += s->tuning->rows[i].library_s;
		}
	return library > 0 && library < 0.95 * own;
}

/* CLBlast's own parameters stay where it was used with them and was faster. */
static void keep_values_if_better(struct search *s)
{
	double before = 0, after = 0;
	for (int i = 0; i < s->found.count; i++)
		if (s->by_clblast_s[i] > 0) {
			bool measured = s->tuning->rows[i].library_s > 0;
			before += s->by_clblast_s[i];
			after += measured ? s->tuning->rows[i].library_s : 2 * s->by_clblast_s[i];
		}
	if (before <= 0 || after < before)
		return;
	s->found.has_values = 0;
	for (int i = 0; i < s->found.count; i++)
		s->tuning->rows[i].library_s = s->by_clblast_s[i];
}

static void conclude(struct search *s)
{
	double operations = 0, seconds = 0;
	keep_values_if_better(s);
	for (int t = 0; t < CL_TRANSPOSES; t++)
		s->found.clblast[t] = is_for_clblast(s, t);
	for (int i = 0; i < s->found.count; i++) {
		ps_tune_row *row = &s->tuning->rows[i];
		const struct cl_gemm_plan *plan = &s->found.rows[i].plan;
		bool library = s->found.clblast[s->found.rows[i].transposes];
		row->after_s = library ? row->library_s : s->own_s[i];
		if (library)
			snprintf(row->choice, sizeof row->choice, "CLBlast");
		else if (ps__cl_forms[plan->form].panels)
			snprintf(row->choice, sizeof row->choice, "%s, %d deep, %d x %d", ps__cl_forms[plan->form].name,
			         plan->depth, plan->rows, plan->columns);
		else
			snprintf(row->choice, sizeof row->choice, "%s", ps__cl_forms[plan->form].name);
		if (row->after_s > 0) {
			operations += 2 * (double)row->m * (double)row->n * (double)row->k;
			seconds += row->after_s;
		}
	}
	s->found.rate = seconds > 0 ? operations / seconds : 0;
	s->found.when = (int64_t)time(NULL);
}

static ps_status tune_runner(struct cl_queue *q, const void *arguments)
{
	ps_tuning *tuning = *(ps_tuning *const *)arguments;
	struct search s = {.q = q, .tuning = tuning, .begin = ps_clock_ns()};
	s.found.count = (int)tuning->count;
	PS_TRY(try_forms(&s));
	PS_TRY(tune_rows(&s));
	PS_TRY(tune_clblast(&s));
	for (int i = 0; i < s.found.count && !is_over(&s, 1); i++) {
		report(&s, "products by CLBlast");
		PS_TRY(time_library(&s, i));
	}
	conclude(&s);
	pthread_mutex_lock(&ps__cl_gemm_mutex);
	struct cl_gemm_known *known = ps__cl_gemm_known(q->device, tuning->dtype);
	if (known)
		ps__cl_keep_tuned(q->device, tuning->dtype, known, &s.found, tuning->file, sizeof tuning->file);
	pthread_mutex_unlock(&ps__cl_gemm_mutex);
	return known ? PS_OK : ps_fail(PS_ENOMEM, "out of memory for what was tuned");
}

ps_status ps__cl_tune(ps_queue *queue, ps_tuning *tuning)
{
	const struct cl_device *d = queue->device->impl;
	if (tuning->count > CL_TUNED_ROWS)
		return ps_fail(PS_EINVAL, "%zu products are too many to tune, %d can be", tuning->count, CL_TUNED_ROWS);
	if (tuning->dtype == PS_F64 && !d->fp64)
		return ps_fail(PS_ENOTSUP, "%s lacks doubles (cl_khr_fp64)", queue->device->info.name);
	PS_TRY(ps__cl_build(queue->device->impl, tuning->dtype));
	PS_TRY(ps__cl_submit(queue, tune_runner, &tuning, sizeof tuning));
	return ps_queue_finish(queue);
}
