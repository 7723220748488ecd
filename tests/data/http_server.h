/* An HTTP server for one client at a time on 127.0.0.1, which can misbehave as it is told. */
#ifndef PENSTOCK_TESTS_DATA_HTTP_SERVER_H
#define PENSTOCK_TESTS_DATA_HTTP_SERVER_H

#include <stddef.h>
#include <stdint.h>

/* How a request is answered; a zeroed one serves the whole file, or the range that was asked for. */
typedef struct http_answer {
	int status;           /* 0: 200 or 206; others have a short page for a body */
	const char *location; /* for redirections */
	int ignore_range;
	int shift_range;    /* the answer's range begins this many bytes later than asked for */
	int no_length;      /* no Content-Length */
	int64_t add_length; /* what Content-Length is wrong by */
	int64_t stop_after; /* ends the connection after this many bytes of the body; 0: never */
	int stall;          /* falls silent in place of ending the connection */
	const char *body;   /* NULL: the server's file */
	size_t size;
} http_answer;

typedef struct http_server http_server;

/* Serves `size` bytes; request i gets answers[i], the last one repeats. All are borrowed until the server is stopped.
 */
http_server *http_server_start(const char *file, size_t size, const http_answer *answers, size_t count);

/* From now on, requests are answered by these, beginning with the first. */
void http_server_answers(http_server *server, const http_answer *answers, size_t count);

/* Waits until no request is being answered, so that what was served may change. */
void http_server_wait(http_server *server);

/* Stops the server and frees it. */
void http_server_stop(http_server *server);

/* "http://127.0.0.1:PORT" + path; valid until the next call. */
const char *http_server_url(http_server *server, const char *path);

/* How many requests came in all; the last one's text goes into `text`. */
int http_server_requests(http_server *server, char *text, size_t size);

#endif
