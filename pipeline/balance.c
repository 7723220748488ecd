/*
 * The exact cut of a row of units into stages: the smallest time within which some cut keeps every stage, found by
 * halving the range of doubles, each guess answered by dynamic programming over stages and units.
 */
#include <penstock/pipeline.h>

#include "core/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A cut of the first units into the first stages: the stage that ends it begins behind the cut `parent`. */
struct label {
	double total; /* of the times of all its stages */
	int from;     /* its last stage's first unit */
	int parent;   /* label; -1: none */
};

/* What may be asked of one search. */
struct bounds {
	double time;        /* of a stage */
	uint64_t overdraft; /* bytes by which a pool may be exceeded */
	bool memory;        /* do the pools count at all? */
	bool any;           /* of cuts within memory: whether there is one is all that matters, not which */
};

struct search {
	const ps_balance_problem *problem;
	double *prefix; /* [stage * (units + 1) + n]: time of the first n units on it */

	/* Where memory is no matter: the least sum when the stages up to this one have the first n units. */
	double *total; /* [stage * (units + 1) + n]; infinite: there is no such cut */
	int *from;     /* by the same index: the first unit of that stage */
	int *window;   /* places where it may begin, the better the nearer to the front */

	/* Where it is: all cuts of which none is as good as another. */
	uint64_t *bytes;   /* [(stage * units + first) * units + last]: 1 more than they take, 0 before it is known */
	int *last_of_pool; /* [pool]: the last stage that takes from it */
	struct label *labels;
	uint64_t *used; /* [label * pools + pool] */
	int label_count, label_capacity;
	int *begin, *end; /* [stage * (units + 1) + n]: the labels of that cell */
	uint64_t *next;   /* [pool]: of the label that is being made */
};

static int pools(const struct search *search)
{
	return search->problem->bytes ? search->problem->pools : 0;
}

static uint64_t add(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static double stage_time(const struct search *search, int stage, int first, int end)
{
	const double *prefix = search->prefix + (size_t)stage * ((size_t)search->problem->units + 1);
	return prefix[end] - prefix[first];
}

static uint64_t stage_bytes(struct search *search, int stage, int first, int end)
{
	const ps_balance_problem *problem = search->problem;
	size_t units = (size_t)problem->units;
	uint64_t *known = &search->bytes[((size_t)stage * units + (size_t)first) * units + (size_t)end - 1];
	if (!*known) {
		uint64_t bytes = problem->bytes(problem->payload, stage, first, end - first);
		*known = bytes == UINT64_MAX ? bytes : bytes + 1;
	}
	return *known == UINT64_MAX ? *known : *known - 1;
}

static bool fits(const struct search *search, int pool, uint64_t bytes, const struct bounds *bounds)
{
	uint64_t limit = search->problem->limits[pool];
	return bytes <= limit || bytes - limit <= bounds->overdraft;
}

/* Is label a at least as good as what is being made? What no later stage takes from makes no difference any more. */
static bool dominates(const struct search *search, const struct bounds *bounds, int stage, const uint64_t *a,
                      double a_total, const uint64_t *b, double b_total)
{
	if (!bounds->any && a_total > b_total)
		return false;
	for (int p = 0; p < pools(search); p++)
		if (search->last_of_pool[p] > stage && a[p] > b[p])
			return false;
	return true;
}

static ps_status reserve(struct search *search)
{
	if (search->label_count < search->label_capacity)
		return PS_OK;
	int capacity = search->label_capacity ? search->label_capacity * 2 : 1024;
	struct label *labels = realloc(search->labels, (size_t)capacity * sizeof *labels);
	if (labels)
		search->labels = labels;
	uint64_t *used = realloc(search->used, (size_t)capacity * (size_t)(pools(search) + 1) * sizeof *used);
	if (used)
		search->used = used;
	if (!labels || !used)
		return ps_fail(PS_ENOMEM, "no memory for the cut of %d units into %d stages", search->problem->units,
		               search->problem->stages);
	search->label_capacity = capacity;
	return PS_OK;
}

/* Adds the label (search->next has what it uses) to the cell that ends the list, unless another there is as good. */
static ps_status offer(struct search *search, const struct bounds *bounds, int stage, int cell, struct label label)
{
	size_t width = (size_t)pools(search);
	int kept = search->begin[cell];
	for (int i = kept; i < search->label_count; i++) {
		const uint64_t *other = search->used + (size_t)i * width;
		if (dominates(search, bounds, stage, other, search->labels[i].total, search->next, label.total))
			return PS_OK;
	}
	for (int i = kept; i < search->label_count; i++) {
		const uint64_t *other = search->used + (size_t)i * width;
		if (dominates(search, bounds, stage, search->next, label.total, other, search->labels[i].total))
			continue;
		search->labels[kept] = search->labels[i];
		memmove(search->used + (size_t)kept++ * width, other, width * sizeof *other);
	}
	search->label_count = kept;
	PS_TRY(reserve(search));
	search->labels[search->label_count] = label;
	memcpy(search->used + (size_t)search->label_count++ * width, search->next, width * sizeof *search->next);
	return PS_OK;
}

/* Extends all labels of the cell before by the stage that has the units [from, n). */
static ps_status extend(struct search *search, const struct bounds *bounds, int stage, int from, int n)
{
	int cell = stage * (search->problem->units + 1) + n, before = cell - (search->problem->units + 1) - n + from;
	double time = stage_time(search, stage, from, n);
	int pool = search->problem->pool[stage];
	size_t width = (size_t)pools(search);
	uint64_t bytes = stage_bytes(search, stage, from, n);
	if (bytes == UINT64_MAX)
		return PS_OK;
	int first = stage ? search->begin[before] : 0, end = stage ? search->end[before] : 1;
	for (int i = first; i < end; i++) {
		struct label label = {time + (stage ? search->labels[i].total : 0), from, stage ? i : -1};
		if (stage)
			memcpy(search->next, search->used + (size_t)i * width, width * sizeof *search->next);
		else
			memset(search->next, 0, width * sizeof *search->next);
		search->next[pool] = add(search->next[pool], bytes);
		if (fits(search, pool, search->next[pool], bounds))
			PS_TRY(offer(search, bounds, stage, cell, label));
	}
	return PS_OK;
}

/* Of the cuts within time and memory, the one with the least sum; *found is its label, or -1. */
static ps_status search_memory(struct search *search, const struct bounds *bounds, int *found)
{
	int stages = search->problem->stages, units = search->problem->units;
	search->label_count = 0;
	for (int stage = 0; stage < stages; stage++) {
		/* Each stage has a unit, those before and those behind too. */
		for (int n = stage + 1; n <= units - (stages - 1 - stage); n++) {
			int cell = stage * (units + 1) + n;
			search->begin[cell] = search->label_count;
			for (int from = stage ? n - 1 : 0; from >= stage; from--) {
				if (stage_time(search, stage, from, n) > bounds->time)
					break;
				PS_TRY(extend(search, bounds, stage, from, n));
			}
			search->end[cell] = search->label_count;
		}
	}
	int last = (stages - 1) * (units + 1) + units;
	*found = -1;
	for (int i = search->begin[last]; i < search->end[last]; i++)
		if (*found < 0 || search->labels[i].total < search->labels[*found].total)
			*found = i;
	return PS_OK;
}

/*
 * The same without memory, in stages * units steps: a later end of a stage within the time never brings an earlier
 * begin back, and of two begins the later one that is no worse makes the other useless.
 */
static bool search_time(struct search *search, double time)
{
	int stages = search->problem->stages, units = search->problem->units;
	size_t width = (size_t)units + 1;
	for (int n = 1; n <= units; n++) {
		search->total[n] = stage_time(search, 0, 0, n) <= time ? stage_time(search, 0, 0, n) : INFINITY;
		search->from[n] = 0;
	}
	for (int stage = 1; stage < stages; stage++) {
		const double *before = search->total + (size_t)(stage - 1) * width;
		const double *prefix = search->prefix + (size_t)stage * width;
		double *total = search->total + (size_t)stage * width;
		int front = 0, back = 0;
		for (int n = stage + 1; n <= units; n++) {
			double value = before[n - 1] - prefix[n - 1];
			while (back > front &&
			       before[search->window[back - 1]] - prefix[search->window[back - 1]] >= value)
				back--;
			if (isfinite(value))
				search->window[back++] = n - 1;
			while (front < back && stage_time(search, stage, search->window[front], n) > time)
				front++;
			total[n] = INFINITY;
			if (front == back)
				continue;
			int from = search->window[front];
			total[n] = before[from] + (prefix[n] - prefix[from]);
			search->from[(size_t)stage * width + (size_t)n] = from;
		}
	}
	return isfinite(search->total[(size_t)(stages - 1) * width + (size_t)units]);
}

/* Looks for a cut within the bounds, and writes its sizes and the time of its slowest stage. */
static ps_status find(struct search *search, const struct bounds *bounds, int *sizes, double *slowest, bool *found)
{
	int label = -1;
	if (bounds->memory)
		PS_TRY(search_memory(search, bounds, &label));
	*found = bounds->memory ? label >= 0 : search_time(search, bounds->time);
	*slowest = 0;
	for (int stage = search->problem->stages - 1, end = search->problem->units; *found && stage >= 0; stage--) {
		int from = bounds->memory ? search->labels[label].from
		                          : search->from[stage * (search->problem->units + 1) + end];
		sizes[stage] = end - from;
		*slowest = fmax(*slowest, stage_time(search, stage, from, end));
		end = from;
		label = bounds->memory ? search->labels[label].parent : -1;
	}
	return PS_OK;
}

/* The order of doubles that are not negative is that of their bits. */
static uint64_t bits_of(double value)
{
	uint64_t bits;
	memcpy(&bits, &value, sizeof bits);
	return bits;
}

static double of_bits(uint64_t bits)
{
	double value;
	memcpy(&value, &bits, sizeof value);
	return value;
}

/* The best cut, with or without a look at memory; *found: there is one. */
static ps_status minimise_time(struct search *search, bool memory, int *sizes, bool *found)
{
	struct bounds bounds = {.time = INFINITY, .memory = memory, .any = true};
	double slowest;
	PS_TRY(find(search, &bounds, sizes, &slowest, found));
	if (!*found)
		return PS_OK;
	uint64_t possible = bits_of(slowest), low = 0;
	while (low < possible) {
		uint64_t middle = low + (possible - low) / 2;
		bounds.time = of_bits(middle);
		PS_TRY(find(search, &bounds, sizes, &slowest, found));
		if (*found)
			possible = bits_of(slowest);
		else
			low = middle + 1;
	}
	/* Once more, for the least sum among all cuts that keep this time. */
	bounds.time = of_bits(possible);
	bounds.any = false;
	return find(search, &bounds, sizes, &slowest, found);
}

/*
 * Does the cut stay within all pools? Otherwise *worst is the one that it exceeds most, by *over bytes; UINT64_MAX when
 * a stage cannot be at all.
 */
static bool cut_fits(struct search *search, const int *sizes, int *worst, uint64_t *over)
{
	const ps_balance_problem *problem = search->problem;
	*over = 0;
	for (int p = 0; p < pools(search); p++) {
		uint64_t sum = 0;
		for (int stage = 0, from = 0; stage < problem->stages; from += sizes[stage++]) {
			if (problem->pool[stage] != p)
				continue;
			uint64_t bytes = stage_bytes(search, stage, from, from + sizes[stage]);
			sum = add(sum, bytes);
			*over = bytes == UINT64_MAX ? bytes : *over;
		}
		if (sum > problem->limits[p] && sum - problem->limits[p] > *over) {
			*over = sum - problem->limits[p];
			*worst = p;
		}
	}
	return *over == 0;
}

/* The cut that exceeds its pools least, and the message of it. */
static ps_status fail_to_fit(struct search *search, int *sizes)
{
	const ps_balance_problem *problem = search->problem;
	struct bounds bounds = {.time = INFINITY, .memory = true, .any = true};
	uint64_t low = 0, possible = UINT64_MAX;
	int worst = 0;
	bool found;
	double slowest;
	while (low < possible) {
		bounds.overdraft = low + (possible - low) / 2;
		PS_TRY(find(search, &bounds, sizes, &slowest, &found));
		if (found)
			possible = bounds.overdraft;
		else
			low = bounds.overdraft + 1;
	}
	if (possible == UINT64_MAX)
		return ps_fail(PS_ETOOBIG,
		               "no cut into %d %s can be placed: some unit is over its device's limit for one "
		               "buffer wherever it is put; take a smaller model or batch",
		               problem->stages, ps__plural(problem->stages, "stage", "stages"));
	bounds.overdraft = possible;
	PS_TRY(find(search, &bounds, sizes, &slowest, &found));
	uint64_t over;
	cut_fits(search, sizes, &worst, &over);
	return ps_fail(PS_ETOOBIG,
	               "no cut into %d %s fits: the one that comes closest needs %.3f GiB more than the %.3f GiB of "
	               "%s; take a smaller model or batch, or more devices",
	               problem->stages, ps__plural(problem->stages, "stage", "stages"), (double)over / 1073741824.0,
	               (double)problem->limits[worst] / 1073741824.0, problem->pool_names[worst]);
}

static ps_status solve(struct search *search, int *sizes)
{
	bool found;
	int worst;
	uint64_t over;
	/* Mostly memory is no matter, and the search without it is quick: 1 ms in place of 0.7 s for 1,000 units. */
	PS_TRY(minimise_time(search, false, sizes, &found));
	if (!search->problem->bytes || cut_fits(search, sizes, &worst, &over))
		return PS_OK;
	PS_TRY(minimise_time(search, true, sizes, &found));
	return found ? PS_OK : fail_to_fit(search, sizes);
}

static ps_status prepare(struct search *search)
{
	const ps_balance_problem *problem = search->problem;
	size_t stages = (size_t)problem->stages, units = (size_t)problem->units, width = units + 1;
	search->prefix = calloc(stages * width, sizeof *search->prefix);
	search->total = calloc(stages * width, sizeof *search->total);
	search->from = calloc(stages * width, sizeof *search->from);
	search->window = calloc(width, sizeof *search->window);
	search->begin = calloc(stages * width, sizeof *search->begin);
	search->end = calloc(stages * width, sizeof *search->end);
	search->next = calloc((size_t)pools(search) + 1, sizeof *search->next);
	search->last_of_pool = calloc((size_t)pools(search) + 1, sizeof *search->last_of_pool);
	search->bytes = problem->bytes ? calloc(stages * units, units * sizeof *search->bytes) : NULL;
	if (!search->prefix || !search->total || !search->from || !search->window || !search->begin || !search->end ||
	    !search->next || !search->last_of_pool || (problem->bytes && !search->bytes))
		return ps_fail(PS_ENOMEM, "no memory for the cut of %d units into %d stages", problem->units,
		               problem->stages);
	for (size_t s = 0; s < stages; s++)
		for (size_t u = 0; u < units; u++)
			search->prefix[s * width + u + 1] =
			        search->prefix[s * width + u] + problem->costs[s * (size_t)problem->stride + u];
	for (int s = 0; s < problem->stages && problem->bytes; s++)
		search->last_of_pool[problem->pool[s]] = s;
	return PS_OK;
}

ps_status ps_balance(const ps_balance_problem *problem, int *sizes)
{
	int *cut = calloc((size_t)problem->stages, sizeof *cut);
	struct search search = {.problem = problem};
	ps_status status = cut ? prepare(&search) : ps_fail(PS_ENOMEM, "no memory for a cut");
	if (status == PS_OK)
		status = solve(&search, cut);
	if (status == PS_OK)
		memcpy(sizes, cut, (size_t)problem->stages * sizeof *sizes);
	void *const blocks[] = {cut,           search.prefix, search.total, search.from,         search.window,
	                        search.begin,  search.end,    search.next,  search.last_of_pool, search.bytes,
	                        search.labels, search.used};
	for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
		free(blocks[i]);
	return status;
}
