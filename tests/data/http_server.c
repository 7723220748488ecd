#include "data/http_server.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct http_server {
	const char *file;
	size_t size;
	int listener;
	int port;
	pthread_t thread;
	pthread_mutex_t mutex; /* guards what follows */
	const http_answer *answers;
	size_t answer_count;
	size_t next_answer;
	int requests;
	char last[2048];
	int stop;
	int busy;
	pthread_cond_t idle;
	char url[256];
};

static int stopped(http_server *server)
{
	pthread_mutex_lock(&server->mutex);
	int stop = server->stop;
	pthread_mutex_unlock(&server->mutex);
	return stop;
}

/* Reads up to the empty line; 0 when the client went away first. */
static int read_request(int client, char *text, size_t size)
{
	size_t used = 0;
	while (used + 1 < size) {
		ssize_t got = recv(client, text + used, size - 1 - used, 0);
		if (got <= 0)
			return 0;
		used += (size_t)got;
		text[used] = '\0';
		if (strstr(text, "\r\n\r\n") != NULL)
			return 1;
	}
	return 0;
}

/* Sends all; a client that went away is none of the server's business. */
static int send_all(int client, const char *bytes, size_t size)
{
	while (size > 0) {
		ssize_t put = send(client, bytes, size, MSG_NOSIGNAL);
		if (put <= 0)
			return 0;
		bytes += put;
		size -= (size_t)put;
	}
	return 1;
}

/* Waits until the client goes away or the server is stopped. */
static void fall_silent(http_server *server, int client)
{
	struct pollfd wait = {.fd = client, .events = POLLIN};
	while (!stopped(server) && poll(&wait, 1, 20) <= 0)
		;
}

static void answer(http_server *server, int client, const http_answer *how, const char *request)
{
	char head[512];
	const char *body = how->body != NULL ? how->body : server->file;
	size_t size = how->body != NULL ? how->size : server->size;
	size_t start = 0;
	int status = how->status != 0 ? how->status : 200;
	const char *range = strstr(request, "Range: bytes=");
	char range_line[128] = "";
	if (status == 200 && range != NULL && !how->ignore_range) {
		start = (size_t)strtoull(range + strlen("Range: bytes="), NULL, 10) + (size_t)how->shift_range;
		status = start < size ? 206 : 416;
		if (status == 206)
			snprintf(range_line, sizeof range_line, "Content-Range: bytes %zu-%zu/%zu\r\n", start, size - 1,
			         size);
	}
	if (status != 200 && status != 206) {
		body = "<html>no</html>";
		size = strlen(body);
		start = 0;
	}
	char length_line[64] = "";
	if (!how->no_length)
		snprintf(length_line, sizeof length_line, "Content-Length: %lld\r\n",
		         (long long)(size - start) + (long long)how->add_length);
	snprintf(head, sizeof head, "HTTP/1.1 %d Answer\r\nConnection: close\r\n%s%s%s%s%s\r\n", status, length_line,
	         range_line, how->location != NULL ? "Location: " : "", how->location != NULL ? how->location : "",
	         how->location != NULL ? "\r\n" : "");
	size_t end = size;
	if (how->stop_after > 0 && start + (size_t)how->stop_after < size)
		end = start + (size_t)how->stop_after;
	if (send_all(client, head, strlen(head)) && send_all(client, body + start, end - start) && how->stall)
		fall_silent(server, client);
}

static void serve_one(http_server *server, int client)
{
	char request[2048];
	if (!read_request(client, request, sizeof request))
		return;
	pthread_mutex_lock(&server->mutex);
	http_answer how = server->answers[server->next_answer];
	if (server->next_answer + 1 < server->answer_count)
		server->next_answer++;
	server->requests++;
	server->busy = 1;
	memcpy(server->last, request, sizeof request);
	pthread_mutex_unlock(&server->mutex);
	answer(server, client, &how, request);
	pthread_mutex_lock(&server->mutex);
	server->busy = 0;
	pthread_cond_signal(&server->idle);
	pthread_mutex_unlock(&server->mutex);
	(void)shutdown(client, SHUT_WR);
}

static void *serve(void *user)
{
	http_server *server = user;
	struct pollfd wait = {.fd = server->listener, .events = POLLIN};
	while (!stopped(server)) {
		if (poll(&wait, 1, 20) <= 0)
			continue;
		int client = accept(server->listener, NULL, NULL);
		if (client < 0)
			continue;
		serve_one(server, client);
		(void)close(client);
	}
	return NULL;
}

http_server *http_server_start(const char *file, size_t size, const http_answer *answers, size_t count)
{
	http_server *server = calloc(1, sizeof *server);
	ck_assert_ptr_nonnull(server);
	server->file = file;
	server->size = size;
	server->answers = answers;
	server->answer_count = count;
	ck_assert_int_eq(pthread_mutex_init(&server->mutex, NULL), 0);
	ck_assert_int_eq(pthread_cond_init(&server->idle, NULL), 0);
	server->listener = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_ge(server->listener, 0);
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t length = sizeof address;
	ck_assert_int_eq(bind(server->listener, (struct sockaddr *)&address, length), 0);
	ck_assert_int_eq(listen(server->listener, 8), 0);
	ck_assert_int_eq(getsockname(server->listener, (struct sockaddr *)&address, &length), 0);
	server->port = ntohs(address.sin_port);
	ck_assert_int_eq(pthread_create(&server->thread, NULL, serve, server), 0);
	return server;
}

void http_server_answers(http_server *server, const http_answer *answers, size_t count)
{
	pthread_mutex_lock(&server->mutex);
	server->answers = answers;
	server->answer_count = count;
	server->next_answer = 0;
	pthread_mutex_unlock(&server->mutex);
}

void http_server_wait(http_server *server)
{
	pthread_mutex_lock(&server->mutex);
	while (server->busy)
		pthread_cond_wait(&server->idle, &server->mutex);
	pthread_mutex_unlock(&server->mutex);
}

void http_server_stop(http_server *server)
{
	pthread_mutex_lock(&server->mutex);
	server->stop = 1;
	pthread_mutex_unlock(&server->mutex);
	ck_assert_int_eq(pthread_join(server->thread, NULL), 0);
	(void)close(server->listener);
	(void)pthread_cond_destroy(&server->idle);
	(void)pthread_mutex_destroy(&server->mutex);
	free(server);
}

const char *http_server_url(http_server *server, const char *path)
{
	snprintf(server->url, sizeof server->url, "http://127.0.0.1:%d%s", server->port, path);
	return server->url;
}

int http_server_requests(http_server *server, char *text, size_t size)
{
	pthread_mutex_lock(&server->mutex);
	int requests = server->requests;
	if (text != NULL)
		snprintf(text, size, "%s", server->last);
	pthread_mutex_unlock(&server->mutex);
	return requests;
}
