/* Making up a row's result. */
#include "verify/outcome.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void ps__outcome_begin(struct outcome *outcome, const char *device, const char *subject, const char *part, size_t row,
                       ps_dtype dtype)
{
	outcome->result = (ps_verify_result){.device = device,
	                                     .subject = subject,
	                                     .part = part,
	                                     .row = row,
	                                     .dtype = dtype,
	                                     .shapes = outcome->shapes,
	                                     .message = outcome->message,
	                                     .done = outcome->result.done,
	                                     .total = outcome->result.total};
	outcome->message[0] = outcome->shapes[0] = '\0';
}

void ps__outcome_differs(struct outcome *outcome, const char *format, ...)
{
	if (outcome->result.outcome == PS_VERIFY_DIFFERS)
		return;
	outcome->result.outcome = PS_VERIFY_DIFFERS;
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(outcome->message, sizeof outcome->message, format, arguments);
	va_end(arguments);
}

void ps__outcome_skip(struct outcome *outcome, ps_status status)
{
	if (outcome->result.outcome != PS_VERIFY_SAME)
		return;
	outcome->result.outcome = PS_VERIFY_SKIPPED;
	outcome->result.status = status;
	snprintf(outcome->message, sizeof outcome->message, "%s", ps_error_message());
}

void ps__outcome_failed(struct outcome *outcome, ps_status status)
{
	if (status == PS_ENOTSUP || status == PS_ENOMEM || status == PS_ETOOBIG)
		ps__outcome_skip(outcome, status);
	else
		ps__outcome_differs(outcome, "%s: %s", ps_status_name(status), ps_error_message());
}

void ps__outcome_compared(struct outcome *outcome, const char *tensor, const ps__difference *difference)
{
	ps_verify_result *result = &outcome->result;
	char text[384];
	if (difference->bad)
		ps__outcome_differs(outcome, "%s: %s", tensor, ps__difference_text(difference, text, sizeof text));
	if (difference->worst < 0 || (result->tensor && difference->share <= result->share))
		return;
	result->tensor = tensor;
	result->rank = difference->rank;
	memcpy(result->index, difference->at, sizeof difference->at);
	result->got = difference->got;
	result->want = difference->want;
	result->ulps = difference->ulps;
	result->share = difference->share;
}
