/*
 * The search for the parameters of CLBlast's kernels: for each of them random values, then random changes of the best.
 * Where Xgemm stays far behind our own kernels the others are left as they are.
 */
#include "backends/opencl/gemm_tune.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Sets one kernel and measures; 0 when CLBlast does not take the values or is wrong with them. */
static ps_status try_values(struct cl_search *s, const struct cl_trial *trial, int kernel,
                            const struct cl_clblast_values *values, double *ns)
{
	*ns = 0;
	if (ps__cl_clblast_apply(s->q->device, s->tuning->dtype, kernel, values) == PS_OK)
		return ps__cl_try_one(s, trial, &(struct cl_gemm_choice){.clblast = true}, ns);
	s->tuning->tried++;
	s->tuning->wrong++;
	return PS_OK;
}

/*
 * Random values and changes of the best, for one kernel, until the time is up to `share`. *best_ns is the time with
 * what was found.
 */
static ps_status climb(struct cl_search *s, const struct cl_trial *trial, int kernel, double share, uint64_t *random,
                       double *best_ns)
{
	enum { DRAWS = 20000 };
	struct cl_clblast_values *best = &s->found.values;
	double start = ps__cl_elapsed(s);
	char what[96];
	PS_TRY(try_values(s, trial, kernel, best, best_ns));
	for (int draws = 0; draws < DRAWS && !ps__cl_is_over(s, share); draws++) {
		struct cl_clblast_values next = *best;
		bool early = !ps__cl_is_over(s, start + (share - start) / 2);
		ps__cl_clblast_change(&next, kernel, early && draws % 2 == 0, random);
		if (!memcmp(&next, best, sizeof next) ||
		    !ps__cl_clblast_allowed(s->q->device, s->tuning->dtype, kernel, &next))
			continue;
		double ns;
		snprintf(what, sizeof what, "CLBlast's %s, %.0f GFLOP/s", ps__cl_clblast_kernel_name(kernel),
		         *best_ns > 0 ? 2 * pow((double)ps__cl_probe_side(s), 3) / *best_ns : 0.0);
		ps__cl_report(s, what);
		PS_TRY(try_values(s, trial, kernel, &next, &ns));
		if (ns > 0 && (*best_ns <= 0 || ns < *best_ns)) {
			*best = next;
			*best_ns = ns;
		}
	}
	return ps__cl_clblast_apply(s->q->device, s->tuning->dtype, kernel, best);
}

/* Lets XgemmDirect make all products, or Xgemm with the kernels that copy for it. */
static ps_status force_route(struct cl_search *s, bool direct)
{
	s->found.values.of[CL_GEMM_ROUTINE][0] = direct ? 1 << 16 : 0;
	return ps__cl_clblast_apply(s->q->device, s->tuning->dtype, CL_GEMM_ROUTINE, &s->found.values);
}

/* Is there no hope for CLBlast's Xgemm beside the best form of our own? Then its other kernels are left as they are. */
static bool is_hopeless(const struct cl_search *s, double xgemm_ns)
{
	double own = 0;
	for (int form = 0; form < CL_GEMM_FORMS; form++)
		if (s->form_ns[form] > 0 && (own <= 0 || s->form_ns[form] < own))
			own = s->form_ns[form];
	return own > 0 && (xgemm_ns <= 0 || xgemm_ns > 4 * own);
}

ps_status ps__cl_tune_clblast(struct cl_search *s)
{
	/* Half of the time for Xgemm, and most of the rest for XgemmDirect. */
	static const double parts[CL_GEMM_ROUTINE] = {0.5, 0.8, 0.85, 0.9, 0.95, 1};
	struct cl_product like = {.dtype = s->tuning->dtype, .trans_b = true};
	struct cl_trial trial = {0};
	uint64_t random = UINT64_C(0x9E3779B97F4A7C15);
	int64_t side = ps__cl_probe_side(s);
	double start = ps__cl_elapsed(s), ns = 0;
	s->found.values = s->earlier.has_values ? s->earlier.values : ps__cl_clblast_start;
	ps_status status = ps__cl_trial_init(&trial, s->q, &like, side, side, side);
	for (int i = 0; i < CL_GEMM_ROUTINE && status == PS_OK && start < CLBLAST_END && !s->stopped && !s->hopeless;
	     i++) {
		status = force_route(s, i == CL_XGEMM_DIRECT);
		if (status == PS_OK)
			status = climb(s, &trial, i, start + (CLBLAST_END - start) * parts[i], &random, &ns);
		s->hopeless = i == CL_XGEMM && is_hopeless(s, ns);
	}
	ps_status end = ps__cl_trial_finish(&trial, s->q);
	s->found.has_values = status == PS_OK;
	return status == PS_OK ? end : status;
}

ps_status ps__cl_time_library(struct cl_search *s, int row)
{
	struct cl_product p = ps__cl_row_product(s, &s->tuning->rows[row]);
	struct cl_trial trial = {0};
	ps_status status = ps__cl_trial_init(&trial, s->q, &p, p.m, p.n, p.k);
	for (int direct = 0; direct < 2 - s->hopeless && status == PS_OK; direct++) {
		double ns = 0;
		status = force_route(s, direct);
		if (status == PS_OK)
			status = ps__cl_time_once(s, &trial, &(struct cl_gemm_choice){.clblast = true}, &ns);
		s->library_s[row][direct] = ns * 1e-9;
	}
	ps_status end = ps__cl_trial_finish(&trial, s->q);
	return status == PS_OK || status == PS_ENOMEM ? end : status;
}

void ps__cl_choose_route(struct cl_search *s)
{
	static const int edges[] = {0, 128, 256, 512, 1024, 2048, 1 << 16};
	int count = s->hopeless ? 1 : (int)(sizeof edges / sizeof *edges), best = 0;
	double least = 0;
	for (int e = 0; e < count; e++) {
		double sum = 0;
		for (int i = 0; i < s->found.count; i++)
			sum += s->library_s[i][cl_volume(&s->tuning->rows[i]) < pow(edges[e], 3)];
		if (e == 0 || sum < least) {
			best = e;
			least = sum;
		}
	}
	s->found.values.of[CL_GEMM_ROUTINE][0] = edges[best];
	for (int i = 0; i < s->found.count; i++)
		s->tuning->rows[i].by_library_s = s->library_s[i][cl_volume(&s->tuning->rows[i]) < pow(edges[best], 3)];
}

void ps__cl_keep_values_if_better(struct cl_search *s)
{
	double before = 0, after = 0;
	for (int i = 0; i < s->found.count; i++)
		if (s->by_clblast_s[i] > 0) {
			bool measured = s->tuning->rows[i].by_library_s > 0;
			before += s->by_clblast_s[i];
			after += measured ? s->tuning->rows[i].by_library_s : 2 * s->by_clblast_s[i];
		}
	if (before <= 0 || after < before)
		return;
	s->found.has_values = s->earlier.has_values;
	s->found.values = s->earlier.values;
	for (int i = 0; i < s->found.count; i++)
		s->tuning->rows[i].by_library_s = s->by_clblast_s[i];
}
