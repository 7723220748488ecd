/* The links between neighbouring stages, for people and for programs. */
#include "tools/penstock/setup.h"

#include <string.h>

/* Of stages on one device, between which there is no link, that of a view. */
static ps_link_info info_of(const ps_pipeline *pipeline, int stage, bool backward)
{
	const ps_link *link = ps_pipeline_get_link(pipeline, stage, backward);
	return link != NULL ? *ps_link_get_info(link) : (ps_link_info){.kind = PS_LINK_VIEW};
}

static const char *device_of(const ps_pipeline *pipeline, int stage)
{
	int rank, first, count;
	ps_rank_info info;
	ps_pipeline_get_stage(pipeline, stage, &rank, &first, &count);
	ps_pipeline_get_rank(pipeline, rank, &info);
	return info.device_name;
}

/* The kind, and of a staged link the reason. */
static const char *kind_text(char *text, size_t size, const ps_link_info *info)
{
	snprintf(text, size, "%s%s%s", ps_link_kind_name(info->kind), *info->note ? ", because " : "", info->note);
	return text;
}

static void print_way(const ps_pipeline *pipeline, int from, int to, const char *kind, FILE *file)
{
	fprintf(file, "link %d>%d from %s to %s: %s\n", from, to, device_of(pipeline, from), device_of(pipeline, to),
	        kind);
}

void links_print(const ps_pipeline *pipeline, FILE *to)
{
	for (int s = 0; s + 1 < ps_pipeline_stage_count(pipeline); s++) {
		char forward[300], backward[300];
		const ps_link_info there = info_of(pipeline, s, false), back = info_of(pipeline, s, true);
		if (strcmp(kind_text(forward, sizeof forward, &there), kind_text(backward, sizeof backward, &back)) !=
		    0) {
			print_way(pipeline, s, s + 1, forward, to);
			print_way(pipeline, s + 1, s, backward, to);
			continue;
		}
		const char *a = device_of(pipeline, s), *b = device_of(pipeline, s + 1);
		bool one = strcmp(a, b) == 0;
		fprintf(to, "links %d>%d, %d>%d %s %s%s%s: %s\n", s, s + 1, s + 1, s, one ? "on" : "between", a,
		        one ? "" : " and ", one ? "" : b, forward);
	}
}

json_t *links_json(const ps_pipeline *pipeline)
{
	json_t *links = json_array();
	for (int s = 0; s + 1 < ps_pipeline_stage_count(pipeline); s++) {
		for (int backward = 0; backward < 2; backward++) {
			const ps_link_info info = info_of(pipeline, s, backward);
			json_t *link = json_pack("{s:i, s:i, s:s, s:s}", "from", s + backward, "to", s + !backward,
			                         "kind", ps_link_kind_name(info.kind), "note", info.note);
			/* Steals the link in any case; a lost one shows as a failed line. */
			if (json_array_append_new(links, link) != 0) {
				json_decref(links);
				return NULL;
			}
		}
	}
	return links;
}
