/* What the tests of ps_data_fetch start with: two files, their archive, a server that has it, and an empty folder. */
#ifndef PENSTOCK_TESTS_DATA_FETCH_FIXTURE_H
#define PENSTOCK_TESTS_DATA_FETCH_FIXTURE_H

#include "data/http_server.h"

#include <penstock/data.h>

enum { BIG = 200000, SMALL = 1000, ROOM = 600000 };

extern char big[BIG];
extern char small[SMALL];
extern char archive_bytes[ROOM];
extern size_t archive_size;
extern ps_fetch_source source; /* a test may change what is known of the archive */
extern http_server *server;
extern const http_answer good;

void fetch_set_up(void);
void fetch_tear_down(void);

/* One entry of an archive to be made. */
typedef struct entry {
	const char *path;
	const char *bytes;
	size_t size;
	const char *link; /* a symbolic link to this */
} entry;

/* Writes a zip, or a tar with gzip, into `out`, which has room for ROOM bytes, and returns its size. */
size_t make_archive(const entry *entries, size_t count, int tar, char *out);

/* Fetches into the folder "to" and gives up after a second's stall. */
ps_status fetch(int attempts);

int exists(const char *name);

/* Size of the unfinished download, -1 when there is none. */
long long part_size(void);

/* Puts an unfinished download into a new folder "to". */
void write_part(const void *bytes, size_t size);

/* The two files, whole and right, and nothing else. */
void expect_complete(void);

/* A failed fetch: its status, a part of its one-line message, no file under a final name. */
void expect_failure(ps_status status, ps_status expected, const char *part);

#endif
