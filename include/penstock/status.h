/*
 * Status codes and the error message that goes with them.
 *
 * Every fallible function returns a ps_status: PS_OK (0) or a negative code. The function that finds the fault sets a
 * message for the calling thread with ps_fail(); callers pass the status on unchanged. The library never prints,
 * exits or aborts.
 */
#ifndef PENSTOCK_STATUS_H
#define PENSTOCK_STATUS_H

#if defined(__GNUC__)
#define PS_PRINTF(string_at, first_at) __attribute__((format(printf, string_at, first_at)))
#define PS_WARN_UNUSED __attribute__((warn_unused_result))
#else
#define PS_PRINTF(string_at, first_at)
#define PS_WARN_UNUSED
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, value, text). PS_EINVAL to PS_EFORMAT are the caller's or the user's to mend; the rest are failures. */
#define PS_STATUS_MAP(X)                                        \
	X(OK, 0, "success")                                     \
	X(EINVAL, -1, "an argument is wrong")                   \
	X(ENODEV, -2, "no such device or backend")              \
	X(ENOTSUP, -3, "not supported by this device")          \
	X(ETOOBIG, -4, "does not fit into the memory")          \
	X(ENOENT, -5, "no such file or entry")                  \
	X(EFORMAT, -6, "a file or the data has the wrong form") \
	X(ENOMEM, -7, "out of memory")                          \
	X(EIO, -8, "input or output failed")                    \
	X(EDEVICE, -9, "a device failed")                       \
	X(ESTALL, -10, "no progress within the time limit")     \
	X(ENUMERIC, -11, "a value became NaN or infinite")      \
	X(EINTERNAL, -12, "an internal error")                  \
	X(EDIVERGED, -13, "a result differs from the reference")

typedef enum ps_status {
#define PS_STATUS_ENUM(name, value, text) PS_##name = (value),
	PS_STATUS_MAP(PS_STATUS_ENUM)
#undef PS_STATUS_ENUM
} ps_status;

/* The name of a code ("PS_EINVAL"); "PS_E?" for a value that is none. */
const char *ps_status_name(ps_status status);

/* True for codes that mean that the input was wrong (exit status 2), false for PS_OK and run-time failures (1). */
int ps_status_is_usage(ps_status status);

/* Sets the calling thread's message and returns `status`. The message is one line without a full stop. */
ps_status ps_fail(ps_status status, const char *format, ...) PS_PRINTF(2, 3);

/* Puts "format: " in front of the calling thread's message and returns `status` unchanged. */
ps_status ps_fail_context(ps_status status, const char *format, ...) PS_PRINTF(2, 3);

#ifdef __clang_analyzer__
/* For the static analyzer, which does not see into the functions: the status that goes in is the one that comes out. */
#define ps_fail(status, ...) (ps_fail(status, __VA_ARGS__), (status))
#define ps_fail_context(status, ...) (ps_fail_context(status, __VA_ARGS__), (status))
#endif

/* The calling thread's last message, never NULL; valid until the thread's next ps_fail. */
const char *ps_error_message(void);

/* Returns the status of `expression` from the enclosing function when it is not PS_OK. */
#define PS_TRY(expression)                               \
	do {                                             \
		ps_status ps_try_status_ = (expression); \
		if (ps_try_status_ != PS_OK)             \
			return ps_try_status_;           \
	} while (0)

#ifdef __cplusplus
}
#endif
#endif
