/*
 * The registry of backends: a row for each that is built in, and the modules found on the path.
 *
 * A module penstock-NAME.so is looked for in the folders of PENSTOCK_BACKEND_PATH, then in the folder `penstock` beside
 * the library, then in the one that was named at build time; the first one found counts. Each is opened at most once
 * and never closed. Opening a device by name opens no other module than that name's.
 */
#include "core/registry.h"

#include "backends/cpu/backend.h"
#include "core/platform.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const ps_backend *const built_in[] = {&ps__cpu_backend, &ps__ref_backend};

#define MODULE_PREFIX "penstock-"
#define MODULE_SUFFIX ".so"
#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

enum { PATH_BYTES = 4096, NAME_BYTES = sizeof((ps_device_info *)NULL)->backend };

/* A backend, or why there is none; never freed nor changed once it is in the list. */
struct entry {
	struct entry *next;
	char name[NAME_BYTES];
	ps_status status;
	char message[512]; /* unless status is PS_OK */
	struct ps__full_backend full;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards the list */
static struct entry *first;

static struct entry *look_up(const char *name, size_t length)
{
	struct entry *entry = first;
	while (entry && !(strlen(entry->name) == length && !strncmp(entry->name, name, length)))
		entry = entry->next;
	return entry;
}

static void append(struct entry *entry)
{
	struct entry **end = &first;
	while (*end)
		end = &(*end)->next;
	*end = entry;
}

static ps_status create_entry(struct entry **out, const char *name)
{
	*out = calloc(1, sizeof **out);
	if (!*out)
		return ps_fail(PS_ENOMEM, "out of memory for backend %s", name);
	snprintf((*out)->name, sizeof(*out)->name, "%s", name);
	return PS_OK;
}

static ps_status add_built_in(void)
{
	for (size_t i = 0; i < sizeof built_in / sizeof *built_in; i++) {
		struct entry *entry;
		if (look_up(built_in[i]->name, strlen(built_in[i]->name)))
			continue;
		PS_TRY(create_entry(&entry, built_in[i]->name));
		ps_status status = ps__backend_complete(&entry->full, built_in[i]);
		if (status != PS_OK) {
			free(entry);
			return ps_fail_context(status, "the backend %s", built_in[i]->name);
		}
		append(entry);
	}
	return PS_OK;
}

/* Opens the file and completes its table; the failure's message starts with the path. */
static ps_status load(struct entry *entry, const char *path)
{
	void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!module) {
		const char *why = dlerror();
		size_t skip = why && !strncmp(why, path, strlen(path)) ? strlen(path) : 0;
		return ps_fail(PS_ENODEV, "%s%s%s", path, skip ? "" : ": ", why ? why + skip : "it cannot be opened");
	}
	void *symbol = dlsym(module, PS_BACKEND_ENTRY);
	if (!symbol)
		return ps_fail(PS_ENODEV, "%s: it has no function %s", path, PS_BACKEND_ENTRY);
	/* C has no conversion from an object's address to a function's; POSIX says that they look the same. */
	ps_backend_entry_fn get;
	memcpy(&get, &symbol, sizeof get);
	const ps_backend *table = get();
	if (!table)
		return ps_fail(PS_ENODEV, "%s: %s returned no table", path, PS_BACKEND_ENTRY);
	ps_status status = ps__backend_complete(&entry->full, table);
	if (status != PS_OK)
		return ps_fail_context(status, "%s", path);
	const char *name = entry->full.table.name;
	if (strcmp(name, entry->name) != 0)
		return ps_fail(PS_ENODEV, "%s: its table is named %s, which should be %s as in the file's name", path,
		               name, entry->name);
	return PS_OK;
}

/* Adds the module to the list, loaded or with the reason. A name that is in the list already is passed over. */
static ps_status add_module(const char *path, const char *name)
{
	struct entry *entry;
	if (look_up(name, strlen(name)))
		return PS_OK;
	PS_TRY(create_entry(&entry, name));
	entry->status = load(entry, path);
	if (entry->status != PS_OK)
		snprintf(entry->message, sizeof entry->message, "%s", ps_error_message());
	append(entry);
	return PS_OK;
}

/* Calls `use` with each folder that may hold modules, in order. */
static ps_status each_folder(ps_status (*use)(const char *folder, const char *name), const char *name)
{
	char folder[PATH_BYTES];
	const char *at = getenv("PENSTOCK_BACKEND_PATH");
	while (at && *at) {
		size_t length = strcspn(at, ":");
		if (length > 0 && length < sizeof folder) {
			snprintf(folder, sizeof folder, "%.*s", (int)length, at);
			PS_TRY(use(folder, name));
		}
		at += length + (at[length] == ':');
	}
	static const char beside[] = "/penstock";
	if (ps__library_folder(folder, sizeof folder - sizeof beside)) {
		memcpy(folder + strlen(folder), beside, sizeof beside);
		PS_TRY(use(folder, name));
	}
	return use(PS_MODULE_FOLDER, name);
}

/* Adds penstock-NAME.so of one folder, if it is there. */
static ps_status add_named(const char *folder, const char *name)
{
	char path[PATH_BYTES];
	int length = snprintf(path, sizeof path, "%s/" MODULE_PREFIX "%s" MODULE_SUFFIX, folder, name);
	if (length < 0 || (size_t)length >= sizeof path || access(path, F_OK))
		return PS_OK;
	return add_module(path, name);
}

/* The NAME of penstock-NAME.so; false when the file is not called so. */
static bool module_name(const char *file, char name[NAME_BYTES])
{
	size_t length = strlen(file), around = strlen(MODULE_PREFIX) + strlen(MODULE_SUFFIX);
	if (length <= around || length - around >= NAME_BYTES)
		return false;
	if (strncmp(file, MODULE_PREFIX, strlen(MODULE_PREFIX)) != 0 ||
	    strcmp(file + length - strlen(MODULE_SUFFIX), MODULE_SUFFIX) != 0)
		return false;
	snprintf(name, NAME_BYTES, "%.*s", (int)(length - around), file + strlen(MODULE_PREFIX));
	return strspn(name, NAME_CHARACTERS) == length - around;
}

static int is_module(const struct dirent *file)
{
	char name[NAME_BYTES];
	return module_name(file->d_name, name);
}

/* Adds all modules of one folder, in the order of their names; a folder that cannot be read has none. */
static ps_status add_all(const char *folder, const char *unused)
{
	(void)unused;
	struct dirent **files;
	int count = scandir(folder, &files, is_module, alphasort);
	if (count < 0)
		return errno == ENOMEM ? ps_fail(PS_ENOMEM, "out of memory for the files of %s", folder) : PS_OK;
	ps_status status = PS_OK;
	for (int i = 0; i < count; i++) {
		char name[NAME_BYTES];
		if (status == PS_OK && module_name(files[i]->d_name, name))
			status = add_named(folder, name);
		free(files[i]);
	}
	free(files);
	return status;
}

static ps_status add_everything(void)
{
	PS_TRY(add_built_in());
	return each_folder(add_all, NULL);
}

/* *out stays NULL where there is no such backend. */
static ps_status find(const ps_backend **out, const char *name, size_t length)
{
	char text[NAME_BYTES];
	PS_TRY(add_built_in());
	bool valid = length > 0 && length < sizeof text && strspn(name, NAME_CHARACTERS) >= length;
	if (valid && !look_up(name, length)) {
		snprintf(text, sizeof text, "%.*s", (int)length, name);
		PS_TRY(each_folder(add_named, text));
	}
	const struct entry *entry = valid ? look_up(name, length) : NULL;
	if (!entry)
		return PS_OK;
	if (entry->status != PS_OK)
		return ps_fail(entry->status, "the backend %s did not load: %s", entry->name, entry->message);
	*out = &entry->full.table;
	return PS_OK;
}

/* The entry after `entry`, the first one after NULL. */
static const struct entry *next_entry(const struct entry *entry)
{
	pthread_mutex_lock(&mutex);
	const struct entry *next = entry ? entry->next : first;
	pthread_mutex_unlock(&mutex);
	return next;
}

ps_status ps__registry_each(ps_registry_visit visit, void *payload)
{
	pthread_mutex_lock(&mutex);
	ps_status status = add_everything();
	pthread_mutex_unlock(&mutex);
	PS_TRY(status);
	/* The visitor runs without the lock, for it may open devices. */
	for (const struct entry *entry = next_entry(NULL); entry; entry = next_entry(entry)) {
		if (entry->status != PS_OK)
			ps_fail(entry->status, "%s", entry->message);
		PS_TRY(visit(payload, entry->name, entry->status == PS_OK ? &entry->full.table : NULL, entry->status));
	}
	return PS_OK;
}

/* The names of backends with a device, without one, and of those that did not load. */
struct names {
	char text[3][512];
};

static ps_status see_device(void *seen, const ps_device_info *info)
{
	(void)info;
	*(bool *)seen = true;
	return PS_OK;
}

static ps_status sort_name(void *payload, const char *name, const ps_backend *backend, ps_status status)
{
	struct names *names = payload;
	bool seen = false;
	if (status == PS_OK && backend->enumerate(see_device, &seen) == PS_ENOMEM)
		return PS_ENOMEM;
	char *text = names->text[status != PS_OK ? 2 : !seen];
	size_t used = strlen(text);
	snprintf(text + used, sizeof *names->text - used, "%s%s", used ? ", " : "", name);
	return PS_OK;
}

/* What a name is not: says which names there are. */
static ps_status fail_unknown(const char *name, size_t length)
{
	struct names names = {{""}};
	PS_TRY(ps__registry_each(sort_name, &names));
	const char *here = names.text[0], *empty = names.text[1], *broken = names.text[2];
	return ps_fail(PS_ENODEV, "no device or backend \"%.*s\"; here are %s%s%s%s%s%s",
	               length > 64 ? 64 : (int)length, name, here, *empty ? "; no device of " : "", empty,
	               *broken ? "; " : "", broken, *broken ? " did not load" : "");
}

ps_status ps__backend_find(const ps_backend **out, const char *name, size_t length)
{
	*out = NULL;
	pthread_mutex_lock(&mutex);
	ps_status status = find(out, name, length);
	pthread_mutex_unlock(&mutex);
	return status == PS_OK && !*out ? fail_unknown(name, length) : status;
}
