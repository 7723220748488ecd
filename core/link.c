/* Links: their life, the choice of a path, and the two paths that need no host memory. */
#include "core/link.h"
#include "core/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_CHUNK = 1 << 20 };

const char *ps_link_kind_name(ps_link_kind kind)
{
	switch (kind) {
	case PS_LINK_VIEW:
		return "view";
	case PS_LINK_PEER:
		return "peer";
	case PS_LINK_STAGED:
		return "staged";
	}
	return "no link";
}

const ps_link_info *ps_link_get_info(const ps_link *link)
{
	return &link->info;
}

/* `device` has the queue of a path that needs one. */
static ps_status set_up(ps_link *link, ps_link_kind kind, ps_device *device, bool measure)
{
	link->info.kind = kind;
	if (kind == PS_LINK_STAGED)
		PS_TRY(ps__staging_create(&link->staging, link->from, link->to, link->label, link->chunk_bytes));
	else
		PS_TRY(ps_queue_create(&link->queue, device, link->label));
	return kind == PS_LINK_VIEW ? PS_OK : ps__link_test(link, measure);
}

static void take_down(ps_link *link)
{
	ps__staging_destroy(link->staging);
	ps_queue_destroy(link->queue);
	link->staging = NULL;
	link->queue = NULL;
}

static void destroy(ps_link *link)
{
	take_down(link);
	ps__device_release(link->from);
	ps__device_release(link->to);
	free(link);
}

/*
 * The device whose queue can copy from one memory to the other, or NULL. Where both can it is the source: it has just
 * made the tensor, while the destination may be in the middle of something.
 */
static ps_device *peer_device(const ps_link *link)
{
	if (link->from == link->to)
		return NULL;
	if (link->from->backend->can_copy_to(link->from, link->to))
		return link->from;
	return link->to->backend->can_copy_from(link->to, link->from) ? link->to : NULL;
}

static ps_status set_up_staged(ps_link *link, bool measure, const char *why, const char *detail)
{
	snprintf(link->info.note, sizeof link->info.note, "%s%s", why, detail);
	return set_up(link, PS_LINK_STAGED, NULL, measure);
}

static ps_status choose(ps_link *link, const ps_link_options *options)
{
	bool measure = !options->skip_measure;
	if (options->force_staged)
		return set_up_staged(link, measure, "that was asked for", "");
	if (link->from == link->to)
		return set_up(link, PS_LINK_VIEW, link->to, measure);
	ps_device *peer = peer_device(link);
	if (!peer)
		return set_up_staged(link, measure, "neither device reaches the other's memory directly", "");
	ps_status status = set_up(link, PS_LINK_PEER, peer, measure);
	if (status == PS_OK || status == PS_ENOMEM || status == PS_ESTALL)
		return status;
	take_down(link);
	return set_up_staged(link, measure, "the peer path failed its test: ", ps_error_message());
}

ps_status ps_link_create(ps_link **out, ps_device *from, ps_device *to, const char *label,
                         const ps_link_options *options)
{
	*out = NULL;
	ps_link *link = calloc(1, sizeof *link);
	if (!link)
		return ps_fail(PS_ENOMEM, "out of memory for a link");
	link->from = from;
	link->to = to;
	ps__device_hold(from);
	ps__device_hold(to);
	link->chunk_bytes = options && options->chunk_bytes ? options->chunk_bytes : DEFAULT_CHUNK;
	snprintf(link->label, sizeof link->label, "%s", label ? label : "");
	ps_status status = choose(link, options ? options : &(const ps_link_options){0});
	if (status != PS_OK) {
		/* A transfer that hangs keeps its link. */
		if (status != PS_ESTALL)
			destroy(link);
		return ps_fail_context(status, "link from %s to %s", from->info.name, to->info.name);
	}
	*out = link;
	return PS_OK;
}

void ps_link_destroy(ps_link *link)
{
	if (link)
		destroy(link);
}

ps_status ps__link_wait(ps_queue *queue, const ps_event *after, int count)
{
	for (int i = 0; i < count; i++)
		PS_TRY(ps_queue_wait(queue, after[i]));
	return PS_OK;
}

/* Enqueues the copy, or nothing when `to` is absent, between its times. */
static ps_status enqueue(ps_link *link, ps_tensor to, ps_tensor from, ps_link_times *times, ps_event *done)
{
	ps_status status = PS_OK;
	if (times)
		PS_TRY(ps_queue_timestamp(link->queue, &times->begin));
	if (ps_tensor_present(to))
		status = ps_queue_copy(link->queue, to, from);
	if (times && status == PS_OK)
		status = ps_queue_timestamp(link->queue, &times->end);
	/* What was refused half way must not write to the caller's times, nor to its tensor, later on. */
	if (status != PS_OK)
		ps__timeline_drain(&link->queue->timeline);
	else
		*done = ps_queue_record(link->queue);
	return status;
}

static ps_status send_peer(ps_link *link, ps_tensor to, ps_tensor from, const ps_event *after, int after_count,
                           ps_link_times *times, ps_event *done)
{
	PS_TRY(ps__link_wait(link->queue, after, after_count));
	return enqueue(link, to, from, times, done);
}

/*
 * Nothing moves, so that the producer's own event will do as long as transfers follow one another on its timeline: a
 * failure there fails all later points too. Otherwise the link's queue joins the events.
 */
static ps_status send_view(ps_link *link, ps_tensor to, ps_tensor from, const ps_event *after, int after_count,
                           ps_link_times *times, ps_event *done)
{
	if (to.buffer != from.buffer || to.offset != from.offset || to.dtype != from.dtype ||
	    !ps_tensor_same_shape(to, from))
		return ps_fail(PS_EINVAL, "send on link %s, within %s: `to` should be the same tensor as `from`",
		               link->label, link->to->info.name);
	bool follows = !link->last.timeline || (after_count == 1 && after[0].timeline == link->last.timeline &&
	                                        after[0].value >= link->last.value);
	if (after_count == 1 && follows && !times) {
		*done = link->last = after[0];
		return PS_OK;
	}
	PS_TRY(ps_queue_wait(link->queue, link->last));
	PS_TRY(ps__link_wait(link->queue, after, after_count));
	PS_TRY(enqueue(link, (ps_tensor){0}, from, times, done));
	link->last = *done;
	return PS_OK;
}

ps_status ps_link_send(ps_link *link, ps_tensor to, ps_tensor from, const ps_event *after, int after_count,
                       ps_link_times *times, ps_event *done)
{
	PS_TRY(ps__transfer_check(link->to, "send", link->label, to));
	PS_TRY(ps__transfer_check(link->from, "send", link->label, from));
	PS_TRY(ps__transfer_check_pair("send", link->label, to, from));
	switch (link->info.kind) {
	case PS_LINK_VIEW:
		return send_view(link, to, from, after, after_count, times, done);
	case PS_LINK_PEER:
		return send_peer(link, to, from, after, after_count, times, done);
	case PS_LINK_STAGED:
		break;
	}
	return ps__staging_send(link->staging, to, from, after, after_count, times, done);
}

void ps_link_reset(ps_link *link)
{
	if (link->queue)
		ps_queue_reset(link->queue);
	if (link->staging)
		ps__staging_reset(link->staging);
	link->last = (ps_event){0};
}

void ps_link_ends(const ps_link *link, ps_event ends[2])
{
	ends[1] = (ps_event){0};
	if (link->staging)
		ps__staging_ends(link->staging, ends);
	else
		ends[0] = link->info.kind == PS_LINK_VIEW ? link->last : ps_queue_record(link->queue);
}
