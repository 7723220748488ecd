/* Status names and the thread-local error message. */
#include <penstock/status.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#undef ps_fail
#undef ps_fail_context

enum { MESSAGE_BYTES = 1024 };

static _Thread_local char message[MESSAGE_BYTES];

const char *ps_status_name(ps_status status)
{
	switch (status) {
#define NAME_CASE(name, value, text) \
	case PS_##name:              \
		return "PS_" #name;
		PS_STATUS_MAP(NAME_CASE)
#undef NAME_CASE
	}
	return "PS_E?";
}

int ps_status_is_usage(ps_status status)
{
	return status <= PS_EINVAL && status >= PS_EFORMAT;
}

ps_status ps_fail(ps_status status, const char *format, ...)
{
	/* The arguments may point into the old message, so that the new one is made beside it. */
	char text[MESSAGE_BYTES];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	memcpy(message, text, sizeof text);
	return status;
}

ps_status ps_fail_context(ps_status status, const char *format, ...)
{
	char text[MESSAGE_BYTES];
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	if (length >= 0 && (size_t)length < sizeof text)
		snprintf(text + length, sizeof text - (size_t)length, ": %s", message);
	memcpy(message, text, sizeof text);
	return status;
}

const char *ps_error_message(void)
{
	return message;
}
