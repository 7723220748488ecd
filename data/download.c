/* HTTP by libcurl. */
#include "data/download.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <curl/curl.h>

enum { REDIRECTS_AT_MOST = 8, SLOW_BYTES_PER_SECOND = 64 };
/* Nothing that is fetched comes near this; it bounds what a server of unknown size can put on the disk. */
static const uint64_t bytes_at_most = UINT64_C(1) << 34;

/* A try in progress. The callbacks set a message and `status` where they find a fault. */
typedef struct transfer {
	const ps__download *download;
	ps__download_result *result;
	CURL *curl;
	uint64_t start;   /* bytes that were there before */
	uint64_t written; /* bytes that are there now */
	uint64_t total;   /* bytes in all as the server says; 0: not known */
	int begun;
	ps_status status;
} transfer;

ps_status ps__download_check_url(const char *url)
{
	for (const char *c = url; *c != '\0'; c++) {
		if ((unsigned char)*c <= ' ' || *c == 0x7F)
			return ps_fail(PS_EINVAL, "the address has white space or control characters in it; it must "
			                          "begin with http:// or https://");
	}
	if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
		return ps_fail(PS_EINVAL,
		               "the address %s is neither http nor https; it must begin with http:// or "
		               "https://",
		               url);
	CURLU *parts = curl_url();
	if (parts == NULL)
		return ps_fail(PS_ENOMEM, "no memory for an address");
	CURLUcode code = curl_url_set(parts, CURLUPART_URL, url, 0);
	curl_url_cleanup(parts);
	if (code != CURLUE_OK)
		return ps_fail(PS_EINVAL, "the address %s is wrong: %s", url, curl_url_strerror(code));
	return PS_OK;
}

/* Throws away what is there, so that the file begins anew. */
static ps_status restart(transfer *t)
{
	if (ftruncate(t->download->descriptor, 0) != 0 || lseek(t->download->descriptor, 0, SEEK_SET) != 0)
		return ps_fail(PS_EIO, "the unfinished download cannot be emptied: %s", strerror(errno));
	t->start = 0;
	t->written = 0;
	return PS_OK;
}

/* Reads "bytes FIRST-LAST/TOTAL" of the answer, where TOTAL may be a star; 0 when it is missing or malformed. */
static int content_range(CURL *curl, uint64_t *first, uint64_t *total)
{
	struct curl_header *header = NULL;
	if (curl_easy_header(curl, "Content-Range", 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
		return 0;
	unsigned long long a = 0;
	unsigned long long b = 0;
	unsigned long long all = 0;
	int fields = sscanf(header->value, "bytes %llu-%llu/%llu", &a, &b, &all);
	if (fields < 2 || b < a)
		return 0;
	*first = a;
	*total = fields == 3 ? all : 0;
	return 1;
}

/* Looks at the head of the answer before its first byte is kept. */
static ps_status begin(transfer *t)
{
	long code = 0;
	curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &code);
	t->begun = 1;
	if (code == 206 && t->start > 0) {
		uint64_t first = 0;
		if (!content_range(t->curl, &first, &t->total) || first != t->start) {
			unsigned long long asked = (unsigned long long)t->start;
			t->result->try_again = 1;
			PS_TRY(restart(t));
			return ps_fail(PS_EIO, "%s answered with another part of the file than the one from byte %llu",
			               t->download->url, asked);
		}
		t->result->resumed = 1;
	} else if (code == 200) {
		curl_off_t length = -1;
		curl_easy_getinfo(t->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
		t->total = length > 0 ? (uint64_t)length : 0;
	} else {
		return ps_fail(PS_EIO, "%s answered with status %ld in place of the file", t->download->url, code);
	}
	/* Before anything is thrown away: an error page must not cost a good beginning. */
	uint64_t expected = t->download->bytes;
	if (expected > 0 && t->total > 0 && t->total != expected)
		return ps_fail(PS_EIO, "%s has %llu bytes; the published file has %llu", t->download->url,
		               (unsigned long long)t->total, (unsigned long long)expected);
	return code == 200 ? restart(t) : PS_OK;
}

static ps_status keep(transfer *t, const char *bytes, size_t size)
{
	if (!t->begun)
		PS_TRY(begin(t));
	uint64_t limit = t->download->bytes > 0 ? t->download->bytes : bytes_at_most;
	if (size > limit - t->written) {
		PS_TRY(restart(t));
		return ps_fail(PS_EIO, "%s sends more than the %llu bytes that are right", t->download->url,
		               (unsigned long long)limit);
	}
	while (size > 0) {
		ssize_t put = write(t->download->descriptor, bytes, size);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return ps_fail(PS_EIO, "the download cannot be written: %s", strerror(errno));
		bytes += put;
		size -= (size_t)put;
		t->written += (uint64_t)put;
	}
	return PS_OK;
}

static size_t on_data(char *bytes, size_t size, size_t count, void *user)
{
	transfer *t = user;
	t->status = keep(t, bytes, size * count);
	return t->status == PS_OK ? size * count : 0;
}

static int on_progress(void *user, curl_off_t total, curl_off_t now, curl_off_t upload_total, curl_off_t upload_now)
{
	transfer *t = user;
	(void)total;
	(void)now;
	(void)upload_total;
	(void)upload_now;
	if (t->download->progress == NULL || !t->begun)
		return 0;
	uint64_t all = t->download->bytes > 0 ? t->download->bytes : t->total;
	return t->download->progress(t->download->user, t->written, all) != 0;
}

static ps_status set_options(transfer *t, char *range, char *error)
{
	const ps__download *download = t->download;
	char agent[128];
	snprintf(agent, sizeof agent, "penstock/%s libcurl/%s", PS_VERSION,
	         curl_version_info(CURLVERSION_NOW)->version);
	CURLcode code = curl_easy_setopt(t->curl, CURLOPT_URL, download->url);
#define SET(option, value)    \
	if (code == CURLE_OK) \
	code = curl_easy_setopt(t->curl, option, value)
	SET(CURLOPT_ERRORBUFFER, error);
	SET(CURLOPT_USERAGENT, agent);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_FAILONERROR, 1L);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 1L);
	SET(CURLOPT_MAXREDIRS, (long)REDIRECTS_AT_MOST);
	SET(CURLOPT_CONNECTTIMEOUT, (long)download->connect_seconds);
	SET(CURLOPT_LOW_SPEED_LIMIT, (long)SLOW_BYTES_PER_SECOND);
	SET(CURLOPT_LOW_SPEED_TIME, (long)download->stall_seconds);
	SET(CURLOPT_WRITEFUNCTION, on_data);
	SET(CURLOPT_WRITEDATA, (void *)t);
	SET(CURLOPT_NOPROGRESS, 0L);
	SET(CURLOPT_XFERINFOFUNCTION, on_progress);
	SET(CURLOPT_XFERINFODATA, (void *)t);
	if (t->start > 0) {
		/* Not CURLOPT_RESUME_FROM: it takes an answer without ranges for an error. */
		snprintf(range, 32, "%llu-", (unsigned long long)t->start);
		SET(CURLOPT_RANGE, range);
	}
#undef SET
	if (code != CURLE_OK)
		return ps_fail(PS_EINTERNAL, "libcurl refused an option: %s", curl_easy_strerror(code));
	return PS_OK;
}

/* Says what went wrong in words of the user's. */
static ps_status explain(transfer *t, CURLcode code, const char *error)
{
	const char *url = t->download->url;
	long answer = 0;
	curl_off_t connected = 0;
	long redirects = 0;
	curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &answer);
	curl_easy_getinfo(t->curl, CURLINFO_CONNECT_TIME_T, &connected);
	curl_easy_getinfo(t->curl, CURLINFO_REDIRECT_COUNT, &redirects);
	unsigned long long here = (unsigned long long)t->written;
	switch (code) {
	case CURLE_HTTP_RETURNED_ERROR:
		if (answer == 416 && t->start > 0) {
			t->result->try_again = 1;
			PS_TRY(restart(t));
			return ps_fail(PS_EIO, "%s has nothing after byte %llu", url, here);
		}
		return ps_fail(PS_EIO, "%s answered with status %ld; check the address, or try another with --url", url,
		               answer);
	case CURLE_OPERATION_TIMEDOUT:
		if (connected == 0)
			return ps_fail(PS_EIO, "no connection to %s within %d seconds", url,
			               t->download->connect_seconds);
		return ps_fail(PS_ESTALL,
		               "%s sent next to nothing for %d seconds; %llu bytes are here, run it again "
		               "to go on",
		               url, t->download->stall_seconds, here);
	case CURLE_ABORTED_BY_CALLBACK:
		t->result->try_again = 0;
		return ps_fail(PS_EIO, "the download was stopped; %llu bytes are here, run it again to go on", here);
	case CURLE_PARTIAL_FILE:
		return ps_fail(PS_EIO, "%s ended the transfer after %llu of %llu bytes; run it again to go on", url,
		               here, (unsigned long long)t->total);
	case CURLE_UNSUPPORTED_PROTOCOL:
		return ps_fail(PS_EIO, "%s leads to an address that is neither http nor https", url);
	case CURLE_TOO_MANY_REDIRECTS:
		return ps_fail(PS_EIO, "%s leads in a circle: more than %d redirections", url, REDIRECTS_AT_MOST);
	default:
		return ps_fail(PS_EIO, "%s cannot be fetched: %s", url,
		               error[0] != '\0' ? error : curl_easy_strerror(code));
	}
}

static ps_status perform(transfer *t)
{
	char error[CURL_ERROR_SIZE] = "";
	char range[32];
	PS_TRY(set_options(t, range, error));
	CURLcode code = curl_easy_perform(t->curl);
	if (t->status != PS_OK)
		return t->status;
	if (code == CURLE_OK && !t->begun)
		return begin(t); /* an empty body */
	if (code == CURLE_OK)
		return PS_OK;
	t->result->try_again = t->written > t->start;
	return explain(t, code, error);
}

ps_status ps__download_run(const ps__download *download, ps__download_result *result)
{
	*result = (ps__download_result){0};
	struct stat info;
	if (fstat(download->descriptor, &info) != 0 || lseek(download->descriptor, 0, SEEK_END) < 0)
		return ps_fail(PS_EIO, "the unfinished download cannot be read: %s", strerror(errno));
	transfer t = {.download = download,
	              .result = result,
	              .start = (uint64_t)info.st_size,
	              .written = (uint64_t)info.st_size};
	if (download->bytes > 0 && t.start > download->bytes)
		PS_TRY(restart(&t));
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return ps_fail(PS_EINTERNAL, "libcurl cannot be started");
	t.curl = curl_easy_init();
	ps_status status = t.curl != NULL ? perform(&t) : ps_fail(PS_ENOMEM, "no memory for a download");
	curl_easy_cleanup(t.curl);
	curl_global_cleanup();
	return status;
}
