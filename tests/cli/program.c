/* Runs the command as a user does. */
#include "cli/program.h"

#include <dirent.h>
#include <fcntl.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "cli-XXXXXX";

void program_enter(void)
{
	strcpy(folder, "cli-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(chdir(folder), 0);
	char here[512], cache[600];
	ck_assert_ptr_nonnull(getcwd(here, sizeof here));
	snprintf(cache, sizeof cache, "%s/cache", here);
	ck_assert_int_eq(setenv("XDG_CACHE_HOME", cache, 1), 0);
}

static void remove_all(const char *path)
{
	DIR *dir = opendir(path);
	char name[600];
	for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
		if (unlink(name) != 0)
			remove_all(name);
	}
	if (dir != NULL)
		closedir(dir);
	rmdir(path);
}

void program_leave(void)
{
	ck_assert_int_eq(chdir(".."), 0);
	remove_all(folder);
}

/* Cuts `text` in place into argv[limit], which ends with NULL. */
static void cut(char *text, char **argv, int limit)
{
	int n = 0;
	while (*text != '\0') {
		text += strspn(text, " ");
		if (*text == '\0')
			break;
		ck_assert_int_lt(n, limit - 1);
		char end = *text == '\'' ? '\'' : ' ';
		text += end == '\'';
		argv[n++] = text;
		text += strcspn(text, end == ' ' ? " " : "'");
		if (*text != '\0')
			*text++ = '\0';
	}
	argv[n] = NULL;
}

pid_t program_start(const char *arguments)
{
	char text[4096], name[] = "penstock", *argv[128] = {name};
	ck_assert_int_lt(snprintf(text, sizeof text, "%s", arguments), (int)sizeof text);
	cut(text, argv + 1, 127);
	pid_t process = fork();
	ck_assert_int_ge(process, 0);
	if (process > 0)
		return process;
	int out = open("run.out", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	int error = open("run.error", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (out < 0 || error < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(error, STDERR_FILENO) < 0)
		_exit(126);
	execv(PS_PROGRAM, argv);
	_exit(127);
}

static void read_all(const char *path, char *text, size_t bytes)
{
	FILE *file = fopen(path, "rb");
	ck_assert_ptr_nonnull(file);
	size_t count = fread(text, 1, bytes - 1, file);
	text[count] = '\0';
	fclose(file);
}

void program_wait(pid_t process, struct outcome *out)
{
	int status;
	ck_assert_int_eq(waitpid(process, &status, 0), process);
	out->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	read_all("run.out", out->out, sizeof out->out);
	read_all("run.error", out->error, sizeof out->error);
}

void file_write(const char *path, const char *text)
{
	FILE *file = fopen(path, "wb");
	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	ck_assert_int_eq(fclose(file), 0);
}

int count_lines(const char *text)
{
	int lines = 0;
	for (; *text != '\0'; text++)
		lines += *text == '\n';
	return lines;
}

void check_matches(const char *text, const char *pattern)
{
	regex_t regex;
	ck_assert_int_eq(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB | REG_NEWLINE), 0);
	int found = regexec(&regex, text, 0, NULL, 0);
	regfree(&regex);
	ck_assert_msg(found == 0, "\"%s\" is not in\n%s", pattern, text);
}

static unsigned long mix(unsigned long state, const char *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		state = (state ^ (unsigned char)bytes[i]) * 1099511628211ul;
	return state;
}

unsigned long folder_state(void)
{
	unsigned long sum = 0;
	DIR *dir = opendir(".");
	ck_assert_ptr_nonnull(dir);
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		struct stat info;
		if (strncmp(entry->d_name, "run.", 4) == 0 || strcmp(entry->d_name, "cache") == 0 ||
		    stat(entry->d_name, &info) != 0)
			continue;
		unsigned long one = mix(14695981039346656037ul, entry->d_name, strlen(entry->d_name));
		if (S_ISREG(info.st_mode)) {
			char text[1 << 16];
			read_all(entry->d_name, text, sizeof text);
			one = mix(one, (const char *)&info.st_size, sizeof info.st_size);
			one = mix(one, text, strlen(text));
		}
		sum += one; /* in whatever order they come */
	}
	closedir(dir);
	return sum;
}
