/*
 * Searching for what makes a device's matrix products fast. A backend that has parameters to choose keeps what was
 * found in the user's cache folder, by device and driver, and uses it from then on.
 */
#ifndef PENSTOCK_TUNE_H
#define PENSTOCK_TUNE_H

#include <penstock/device.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A product c (m, n) = op(a) op(b) that is tuned for, and what was found for it. */
typedef struct ps_tune_row {
	int64_t m, n, k;
	bool trans_a, trans_b;
	double before_s, after_s; /* least time of one product; 0: not measured */
	double by_library_s;      /* that of the vendor-neutral library, tuned; 0: not measured */
	char choice[96];          /* what makes it from now on */
} ps_tune_row;

typedef struct ps_tuning {
	ps_dtype dtype;
	double seconds; /* to search for, about */
	ps_tune_row *rows;
	size_t count;
	/* Optional; called now and then with the share that is done. True ends the search, and what was found is kept.
	 */
	bool (*progress)(void *payload, double share, const char *what);
	void *payload;
	/* Filled: candidates that were measured, and those among them that were left out for wrong results or errors.
	 */
	int64_t tried, wrong;
	char file[512]; /* where it is kept; "" when nothing was measured, or it could not be written */
} ps_tuning;

/* PS_ENOTSUP when there is nothing to choose on the device. */
ps_status ps_tune(ps_device *device, ps_tuning *tuning) PS_WARN_UNUSED;

#ifdef __cplusplus
}
#endif
#endif
