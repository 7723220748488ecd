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
#include "backends/opencl/gemm_tune.h"

#include <stdio.h>
#include <time.h>

double ps__cl_elapsed(const struct cl_search *s)
{
	return (double)(ps_clock_ns() - s->begin) * 1e-9 / s->tuning->seconds;
}

bool ps__cl_is_over(const struct cl_search *s, double share)
{
	return s->stopped || ps__cl_elapsed(s) >= share;
}

void ps__cl_report(struct cl_search *s, const char *what)
{
	double done = ps__cl_elapsed(s);
	if (s->tuning->progress && s->tuning->progress(s->tuning->payload, done < 1 ? done : 1, what))
		s->stopped = true;
}

struct cl_product ps__cl_row_product(const struct cl_search *s, const ps_tune_row *row)
{
	return (struct cl_product){.dtype = s->tuning->dtype,
	                           .m = row->m,
	                           .n = row->n,
	                           .k = row->k,
	                           .trans_a = row->trans_a,
	                           .trans_b = row->trans_b};
}

ps_status ps__cl_time_once(struct cl_search *s, const struct cl_trial *trial, const struct cl_gemm_choice *how,
                           double *ns)
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
		if (i > 0 && one < least)
			least = one;
		sum += i > 0 ? one : 0;
	}
	*ns = least < INT64_MAX ? (double)least : 0;
	return PS_OK;
}

ps_status ps__cl_try_one(struct cl_search *s, const struct cl_trial *trial, const struct cl_gemm_choice *how,
                         double *ns)
{
	PS_TRY(ps__cl_time_once(s, trial, how, ns));
	s->tuning->tried++;
	s->tuning->wrong += *ns <= 0;
	return PS_OK;
}

int64_t ps__cl_probe_side(const struct cl_search *s)
{
	return s->q->device->cpu ? 400 : 1024;
}

/* Is a form right with all transposes, at sizes that no tile divides? */
static ps_status check_form(struct cl_search *s, const struct cl_gemm_choice *how, bool *right)
{
	*right = true;
	for (int t = 0; t < CL_TRANSPOSES && *right; t++) {
		struct cl_product like = {
		        .dtype = s->tuning->dtype, .trans_a = t / 2, .trans_b = t % 2, .accumulate = t % 3 == 0};
		struct cl_trial trial = {0};
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

static ps_status try_form(struct cl_search *s, const struct cl_trial *trial, const struct cl_gemm_choice *how,
                          double *ns)
{
	bool right;
	PS_TRY(ps__cl_try_one(s, trial, how, ns));
	PS_TRY(check_form(s, how, &right));
	if (!right && *ns > 0) {
		*ns = 0;
		s->tuning->wrong++;
	}
	return PS_OK;
}

static ps_status try_forms(struct cl_search *s)
{
	struct cl_product like = {.dtype = s->tuning->dtype, .trans_b = true};
	struct cl_trial trial = {0};
	double best = 0;
	int64_t side = ps__cl_probe_side(s);
	ps_status status = ps__cl_trial_init(&trial, s->q, &like, side, side, side);
	for (int form = 0; form < CL_GEMM_FORMS && status == PS_OK; form++) {
		struct cl_gemm_choice how = {.plan = ps__cl_own_plan(s->q->device)};
		bool first = form == how.plan.form;
		how.plan.form = form;
		if (!ps__cl_form_fits(s->q->device, form, like.dtype) || (!first && ps__cl_is_over(s, FORMS_END)))
			continue;
		ps__cl_report(s, ps__cl_forms[form].name);
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
static ps_status try_plan(struct cl_search *s, const struct cl_trial *trial, struct cl_gemm_plan plan,
                          struct cl_gemm_plan *best, double *best_ns)
{
	double ns;
	PS_TRY(ps__cl_try_one(s, trial, &(struct cl_gemm_choice){.plan = plan}, &ns));
	if (ns > 0 && (*best_ns <= 0 || ns < *best_ns)) {
		*best = plan;
		*best_ns = ns;
	}
	return PS_OK;
}

static ps_status search_plan(struct cl_search *s, const struct cl_trial *trial, double share, struct cl_gemm_plan *best,
                             double *best_ns)
{
	static const int depths[] = {128, 192, 256, 384, 512}, rows[] = {96, 240, 480, 960},
	                 columns[] = {64, 128, 256, 512};
	for (int form = 0; form < CL_GEMM_FORMS; form++) {
		struct cl_gemm_plan plan = *best;
		plan.form = form;
		if (s->form_ns[form] > 0 && form != best->form && !ps__cl_is_over(s, share))
			PS_TRY(try_plan(s, trial, plan, best, best_ns));
	}
	if (!ps__cl_forms[best->form].panels)
		return PS_OK;
	for (size_t i = 0; i < sizeof depths / sizeof *depths && !ps__cl_is_over(s, share); i++) {
		struct cl_gemm_plan plan = *best;
		plan.depth = depths[i];
		PS_TRY(try_plan(s, trial, plan, best, best_ns));
	}
	for (size_t i = 0; i < sizeof rows / sizeof *rows && !ps__cl_is_over(s, share); i++) {
		struct cl_gemm_plan plan = *best;
		plan.rows = rows[i];
		PS_TRY(try_plan(s, trial, plan, best, best_ns));
	}
	for (size_t i = 0; i < sizeof columns / sizeof *columns && !ps__cl_is_over(s, share); i++) {
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
static ps_status confirm(struct cl_search *s, const struct cl_trial *trial, const struct cl_gemm_choice *before,
                         struct cl_gemm_plan *best, int row)
{
	enum { TURNS = 2 };
	double before_ns = 0, best_ns = 0, ns;
	bool same = !before->clblast && is_same(&before->plan, best);
	for (int i = 0; i < TURNS; i++) {
		PS_TRY(ps__cl_time_once(s, trial, before, &ns));
		before_ns = i == 0 || ns < before_ns ? ns : before_ns;
		if (!same)
			PS_TRY(ps__cl_time_once(s, trial, &(struct cl_gemm_choice){.plan = *best}, &ns));
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

static ps_status tune_own(struct cl_search *s, int row, double share)
{
	struct cl_product p = ps__cl_row_product(s, &s->tuning->rows[row]);
	struct cl_tuned_row *found = &s->found.rows[row];
	struct cl_gemm_choice before;
	struct cl_trial trial = {0};
	double ns = 0;
	ps_status status = ps__cl_trial_init(&trial, s->q, &p, p.m, p.n, p.k);
	if (status == PS_OK)
		status = ps__cl_gemm_choose(s->q, &p, &before);
	found->plan = status == PS_OK ? before.plan : ps__cl_own_plan(s->q->device);
	if (status == PS_OK)
		status = ps__cl_try_one(s, &trial, &(struct cl_gemm_choice){.plan = found->plan}, &ns);
	if (status == PS_OK)
		status = search_plan(s, &trial, share, &found->plan, &ns);
	if (status == PS_OK)
		status = confirm(s, &trial, &before, &found->plan, row);
	ps_status end = ps__cl_trial_finish(&trial, s->q);
	/* A product without room on the device goes unmeasured. */
	return status == PS_OK || status == PS_ENOMEM ? end : status;
}

/* A row with what makes it now. */
static ps_status begin_row(struct cl_search *s, int i)
{
	const ps_tune_row *row = &s->tuning->rows[i];
	struct cl_product p = ps__cl_row_product(s, row);
	struct cl_gemm_choice now;
	PS_TRY(ps__cl_gemm_choose(s->q, &p, &now));
	s->found.rows[i] = (struct cl_tuned_row){.m = row->m,
	                                         .n = row->n,
	                                         .k = row->k,
	                                         .transposes = cl_transposes(row->trans_a, row->trans_b),
	                                         .plan = now.plan};
	return PS_OK;
}

static ps_status tune_rows(struct cl_search *s)
{
	for (int i = 0; i < s->found.count; i++) {
		const ps_tune_row *row = &s->tuning->rows[i];
		double share = FORMS_END + (OWN_END - FORMS_END) * (i + 1) / s->found.count;
		char what[96];
		PS_TRY(begin_row(s, i));
		snprintf(what, sizeof what, "own kernels, %lld x %lld x %lld", (long long)row->m, (long long)row->n,
		         (long long)row->k);
		ps__cl_report(s, what);
		if (!s->stopped)
			PS_TRY(tune_own(s, i, share));
	}
	return PS_OK;
}

/* Who makes the products with these transposes; CLBlast must have made all of them, and gain something. */
static bool is_for_clblast(const struct cl_search *s, int transposes)
{
	double own = 0, library = 0;
	for (int i = 0; i < s->found.count; i++)
		if (s->found.rows[i].transposes == transposes && s->own_s[i] > 0) {
			if (s->tuning->rows[i].by_library_s <= 0)
				return false;
			own += s->own_s[i];
			library += s->tuning->rows[i].by_library_s;
		}
	return library > 0 && library < 0.95 * own;
}

static void conclude(struct cl_search *s)
{
	double operations = 0, seconds = 0;
	ps__cl_choose_route(s);
	ps__cl_keep_values_if_better(s);
	for (int t = 0; t < CL_TRANSPOSES; t++)
		s->found.clblast[t] = is_for_clblast(s, t);
	for (int i = 0; i < s->found.count; i++) {
		ps_tune_row *row = &s->tuning->rows[i];
		const struct cl_gemm_plan *plan = &s->found.rows[i].plan;
		bool library = s->found.clblast[s->found.rows[i].transposes];
		row->after_s = library ? row->by_library_s : s->own_s[i];
		if (library)
			snprintf(row->choice, sizeof row->choice, "CLBlast");
		else if (ps__cl_forms[plan->form].panels)
			snprintf(row->choice, sizeof row->choice, "%s, %d deep, %d x %d", ps__cl_forms[plan->form].name,
			         plan->depth, plan->rows, plan->columns);
		else
			snprintf(row->choice, sizeof row->choice, "%s", ps__cl_forms[plan->form].name);
		if (row->after_s > 0) {
			operations += 2 * cl_volume(row);
			seconds += row->after_s;
		}
	}
	s->found.rate = seconds > 0 ? operations / seconds : 0;
	s->found.when = (int64_t)time(NULL);
}

/* Looks up what an earlier search found, or keeps what this one did. */
static ps_status exchange(struct cl_search *s, bool keep)
{
	struct cl_device *d = s->q->device;
	ps_tuning *tuning = s->tuning;
	pthread_mutex_lock(&ps__cl_gemm_mutex);
	struct cl_gemm_known *known = ps__cl_gemm_known(d, tuning->dtype);
	if (known && keep)
		ps__cl_keep_tuned(d, tuning->dtype, known, &s->found, tuning->file, sizeof tuning->file);
	else if (known && known->tuning == CL_CACHE_GOOD)
		s->earlier = known->tuned;
	pthread_mutex_unlock(&ps__cl_gemm_mutex);
	return known ? PS_OK : ps_fail(PS_ENOMEM, "out of memory for what is tuned");
}

static ps_status tune_runner(struct cl_queue *q, const void *arguments)
{
	ps_tuning *tuning = *(ps_tuning *const *)arguments;
	struct cl_search s = {.q = q, .tuning = tuning, .begin = ps_clock_ns()};
	s.found.count = (int)tuning->count;
	PS_TRY(exchange(&s, false));
	PS_TRY(try_forms(&s));
	PS_TRY(tune_rows(&s));
	PS_TRY(ps__cl_tune_clblast(&s));
	for (int i = 0; i < s.found.count && !ps__cl_is_over(&s, 1); i++) {
		ps__cl_report(&s, "products by CLBlast");
		PS_TRY(ps__cl_time_library(&s, i));
	}
	conclude(&s);
	/* A search that was stopped before its first product leaves all as it was. */
	return s.found.rate > 0 ? exchange(&s, true) : PS_OK;
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
