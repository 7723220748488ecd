#include "tests/core/contract.h"
#include "tests/support/hook.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DEVICES = 32, NAME = 80 };

static char names[DEVICES][NAME];
static int name_count;
static struct hook hooks[DEVICES];

static void add_name(const char *name)
{
	if (name_count < DEVICES)
		snprintf(names[name_count++], NAME, "%s", name);
}

/* One of each kind is enough: of cpu:N only the first. */
static bool is_wanted(const ps_device_entry *entry)
{
	const char *colon = strchr(entry->info.name, ':');
	return entry->status == PS_OK && (!colon || !strcmp(colon, ":0"));
}

/*
 * Lists the devices in a child, because some drivers do not survive a fork, which Check does for each test, once they
 * were asked anything.
 */
int contract_devices(void)
{
	int ends[2];
	if (pipe(ends))
		exit(EXIT_FAILURE);
	pid_t child = fork();
	if (child < 0)
		exit(EXIT_FAILURE);
	if (child == 0) {
		ps_device_entry *entries;
		size_t count;
		if (ps_device_list(&entries, &count) != PS_OK)
			_exit(1);
		for (size_t i = 0; i < count; i++)
			if (is_wanted(&entries[i]))
				dprintf(ends[1], "%s\n", entries[i].info.name);
		_exit(0);
	}
	close(ends[1]);
	FILE *list = fdopen(ends[0], "r");
	char line[NAME];
	while (list && fgets(line, sizeof line, list)) {
		line[strcspn(line, "\n")] = '\0';
		add_name(line);
	}
	if (list)
		fclose(list);
	waitpid(child, NULL, 0);
	add_name("hook:cpu");
	add_name("hook:ref");
	return name_count;
}

const char *contract_name(int index)
{
	return names[index];
}

ps_device *contract_open(int index)
{
	ps_device *device;
	if (!strncmp(names[index], "hook:", 5)) {
		hooks[index].poison = true;
		check_ok(hook_device_open(&device, names[index] + 5, &hooks[index]));
	} else {
		check_ok(ps_device_open(&device, names[index]));
	}
	ck_assert_str_eq(ps_device_get_info(device)->name, names[index]);
	return device;
}

void gate_init(struct gate *gate)
{
	check_ok(ps__timeline_init(&gate->timeline, NULL, "gate"));
	ps__timeline_next(&gate->timeline);
}

void gate_finish(struct gate *gate)
{
	ps__timeline_finish(&gate->timeline);
}

ps_event gate_event(struct gate *gate)
{
	return (ps_event){&gate->timeline, 1};
}

void gate_open(struct gate *gate)
{
	ps__timeline_complete(&gate->timeline, 1);
}

void gate_fail(struct gate *gate, ps_status status, const char *message)
{
	ps__timeline_fail(&gate->timeline, 1, ps_fail(status, "%s", message));
	ps__timeline_complete(&gate->timeline, 1);
}

void long_message(char message[MESSAGE_LENGTH + 1])
{
	for (int i = 0; i < MESSAGE_LENGTH; i++)
		message[i] = (char)('!' + i % 90);
	message[MESSAGE_LENGTH] = '\0';
}

ps_tensor ints(ps_buffer *buffer, int64_t first, int64_t count)
{
	return ps_tensor_make(buffer, (uint64_t)first * 4, PS_I32, 1, &count);
}
