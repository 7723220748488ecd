/* One file over HTTP into an open descriptor, going on where an earlier try ended. */
#ifndef PENSTOCK_DATA_DOWNLOAD_H
#define PENSTOCK_DATA_DOWNLOAD_H

#include <penstock/data.h>

typedef struct ps__download {
	const char *url;
	int descriptor; /* open for reading and writing; what it holds already is taken as the file's beginning */
	uint64_t bytes; /* the size the file must have; 0: not known */
	int stall_seconds;
	int connect_seconds;
	ps_fetch_progress progress; /* may be NULL */
	void *user;
} ps__download;

/* How a try went. */
typedef struct ps__download_result {
	int resumed;   /* the server went on from what was there */
	int try_again; /* another try may do better: this one brought something, or the start is to be thrown away */
} ps__download_result;

/* PS_EINVAL unless the address is http or https and has nothing odd in it. */
ps_status ps__download_check_url(const char *url);

/*
 * One try. Whatever comes of it, the descriptor holds a beginning of the file (or of what the server says it is).
 * PS_EIO, PS_ESTALL, PS_ENOMEM.
 */
ps_status ps__download_run(const ps__download *download, ps__download_result *result);

#endif
