/* The shadow checks of `penstock train`: which stages, and what it cost. */
#include "tools/penstock/setup.h"

#include "core/text.h"
#include "train/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FORM "give stages as in 1, or 0:every=10,1, or all:every=100"

/* A whole number from `least` to `most` at *at, which goes past it; -1: there is none. */
static long number(const char **at, long least, long most)
{
	char *end;
	errno = 0;
	long value = **at >= '0' && **at <= '9' ? strtol(*at, &end, 10) : -1;
	if (value < least || value > most || errno != 0)
		return -1;
	*at = end;
	return value;
}

/* One item of the list: a stage, or with first 0 and last the last one all of them. */
struct item {
	int first, last, every;
};

static ps_status parse_item(const char **at, const char *text, int stage_count, struct item *out)
{
	bool all = strncmp(*at, "all", 3) == 0;
	*out = (struct item){.last = stage_count - 1, .every = 1};
	if (all) {
		*at += 3;
	} else {
		long stage = number(at, 0, INT32_MAX);
		if (stage < 0)
			return ps_fail(PS_EINVAL, "--shadow %.60s: " FORM, text);
		if (stage >= stage_count)
			return ps_fail(PS_EINVAL, "--shadow %.60s: there is no stage %ld; there are 0 to %d", text,
			               stage, stage_count - 1);
		out->first = out->last = (int)stage;
	}
	if (strncmp(*at, ":every=", 7) == 0) {
		*at += 7;
		long every = number(at, 1, 1000000000);
		if (every < 0)
			return ps_fail(PS_EINVAL,
			               "--shadow %.60s: every= takes a whole number of steps from 1 to 1000000000",
			               text);
		out->every = (int)every;
	}
	return PS_OK;
}

ps_status shadow_parse(ps_shadow_stage **out, int *count, const char *text, int stage_count)
{
	*out = NULL;
	*count = 0;
	ps_shadow_stage *stages = calloc((size_t)stage_count, sizeof *stages);
	if (stages == NULL)
		return ps_fail(PS_ENOMEM, "no memory for the stages of --shadow");
	ps_status status = PS_OK;
	int n = 0;
	for (const char *at = text;; at++) {
		struct item item;
		status = parse_item(&at, text, stage_count, &item);
		for (int s = item.first; status == PS_OK && s <= item.last; s++) {
			for (int i = 0; i < n && status == PS_OK; i++)
				if (stages[i].stage == s)
					status = ps_fail(PS_EINVAL, "--shadow %.60s: stage %d comes twice", text, s);
			if (status == PS_OK)
				stages[n++] = (ps_shadow_stage){s, item.every};
		}
		if (status == PS_OK && *at != ',' && *at != '\0')
			status = ps_fail(PS_EINVAL, "--shadow %.60s: " FORM, text);
		if (status != PS_OK || *at == '\0')
			break;
	}
	if (status != PS_OK) {
		free(stages);
		return status;
	}
	*out = stages;
	*count = n;
	return PS_OK;
}

static double percent(double part, double whole)
{
	return whole > 0 ? 100 * part / whole : 0;
}

void shadow_print(const ps_shadow_report *report, FILE *to)
{
	fprintf(to, "shadow on ref: %" PRId64 " %s, %" PRId64 " %s and %" PRId64 " %s checked, none differs\n",
	        report->steps, ps__plural(report->steps, "step", "steps"), report->ops,
	        ps__plural(report->ops, "op", "ops"), report->transfers,
	        ps__plural(report->transfers, "transfer", "transfers"));
	fprintf(to, "its cost: copies %.2f s (%.1f %% of these steps), waiting %.2f s (%.1f %%)", report->copy_s,
	        percent(report->copy_s, report->checked_s), report->wait_s, percent(report->wait_s, report->checked_s));
	if (report->steps > 0 && report->unchecked_steps > 0)
		fprintf(to, ", %.2f ms a step against %.2f ms unchecked",
		        report->checked_s / (double)report->steps * 1e3,
		        report->unchecked_s / (double)report->unchecked_steps * 1e3);
	fprintf(to, "; in the background %.2f s\n", report->against_s);
}

json_t *shadow_json(const ps_shadow_report *report)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "steps", (json_int_t)report->steps,
	                 "unchecked_steps", (json_int_t)report->unchecked_steps, "ops", (json_int_t)report->ops,
	                 "transfers", (json_int_t)report->transfers, "bytes", (json_int_t)report->bytes, "copy_s",
	                 ps__json_figure(report->copy_s), "wait_s", ps__json_figure(report->wait_s), "reference_s",
	                 ps__json_figure(report->against_s), "checked_s", ps__json_figure(report->checked_s),
	                 "unchecked_s", ps__json_figure(report->unchecked_s));
}
